-- A user's session, if its node is of this incarnation and its lease runs. Who changes it locks the user's row first.
CREATE TABLE IF NOT EXISTS session (
  user_id INT NOT NULL,
  node_id INT NOT NULL,
  incarnation BIGINT NOT NULL,
  session_id BIGINT NOT NULL,
  PRIMARY KEY (user_id),
  KEY session_node (node_id, incarnation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

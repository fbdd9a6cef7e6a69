-- `since_seq`: what was said up to here is not for this participant. `seen_seq`: he has received up to here.
CREATE TABLE IF NOT EXISTS participant (
  conversation BIGINT NOT NULL,
  user_id INT NOT NULL,
  role TINYINT NOT NULL,
  since_seq BIGINT NOT NULL,
  seen_seq BIGINT NOT NULL,
  joined_at BIGINT NOT NULL,
  PRIMARY KEY (conversation, user_id),
  KEY participant_user (user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

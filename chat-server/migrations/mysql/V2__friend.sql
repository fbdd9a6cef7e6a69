-- A row: `user_id` has `friend_id` on his list. Two rows are a friendship, one alone is a request.
CREATE TABLE IF NOT EXISTS friend (
  user_id INT NOT NULL,
  friend_id INT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, friend_id),
  KEY friend_of (friend_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

-- A group's id, or a pair's: the lower user * 2^32 + the higher. Who changes a conversation's messages or members locks
-- its row first.
CREATE TABLE IF NOT EXISTS conversation (
  id BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

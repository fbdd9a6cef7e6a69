-- Conversations whose messages are to be deleted, a few at a time.
CREATE TABLE IF NOT EXISTS gone_conversation (
  id BIGINT NOT NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

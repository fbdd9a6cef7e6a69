-- `client_id` is the sender's own id, or one made here, beginning with a character that clients may not use.
-- `sender_time` is what the sender says the time was.
CREATE TABLE IF NOT EXISTS message (
  conversation BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  sender INT NOT NULL,
  client_id VARBINARY(64) NOT NULL,
  created_at BIGINT NOT NULL,
  sender_time VARCHAR(64) NOT NULL,
  body MEDIUMTEXT NOT NULL,
  PRIMARY KEY (conversation, seq),
  UNIQUE KEY message_client_id (sender, client_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

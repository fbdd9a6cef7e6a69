-- `client_id` is the sender's own id, or one made here, beginning with a character that clients may not use.
-- `sender_time` is what the sender says the time was.
-- `client_id` comes first in its key: ids that ascend with time, as ours and most clients' do, are neighbours there,
-- whoever sent them, so that a commit of many senders' messages changes few pages of it.
CREATE TABLE IF NOT EXISTS message (
  conversation BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  sender INT NOT NULL,
  client_id VARBINARY(64) NOT NULL,
  created_at BIGINT NOT NULL,
  sender_time VARCHAR(64) NOT NULL,
  body MEDIUMTEXT NOT NULL,
  PRIMARY KEY (conversation, seq),
  UNIQUE KEY message_client_id (client_id, sender)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin

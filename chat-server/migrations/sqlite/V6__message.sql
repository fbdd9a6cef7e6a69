-- `client_id` is the sender's own id, or one made here, beginning with a character that clients may not use.
-- `sender_time` is what the sender says the time was.
CREATE TABLE IF NOT EXISTS message (
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  sender INTEGER NOT NULL,
  client_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  sender_time TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS message_client_id ON message (sender, client_id)

-- `client_id` is the sender's own id, or one made here, beginning with a character that clients may not use.
-- `sender_time` is what the sender says the time was.
-- `client_id` comes first in its key: ids that ascend with time, as ours and most clients' do, are neighbours there,
-- whoever sent them, so that a commit of many senders' messages changes few pages of it.
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
CREATE UNIQUE INDEX IF NOT EXISTS message_client_id ON message (client_id, sender)

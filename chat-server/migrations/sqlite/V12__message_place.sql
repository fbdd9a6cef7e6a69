-- Messages are appended to one table as they come, so that those of a commit are on two or three pages, which are written
-- once. What is kept in segments and by conversation is their places: an index of small rows, of which a page holds those of
-- two hundred messages and not twenty.
ALTER TABLE message RENAME TO old_message;
DROP INDEX message_client_id;
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  segment INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  sender INTEGER NOT NULL,
  client_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  sender_time TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
INSERT INTO message (segment, conversation, seq, sender, client_id, created_at, sender_time, body)
  SELECT segment, conversation, seq, sender, client_id, created_at, sender_time, body FROM old_message
  ORDER BY segment, conversation, seq;
DROP TABLE old_message;
CREATE UNIQUE INDEX message_place ON message (segment, conversation, seq);
CREATE UNIQUE INDEX message_client_id ON message (client_id, sender)

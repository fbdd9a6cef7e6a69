-- Messages of about the same time are kept together, in segments, and within each by conversation: a commit of a hundred
-- conversations' messages then changes a few pages and not a hundred. The program says which segment; see segments.rs.

-- The segment that is being filled: its messages, and the conversations that have some in it. One row.
CREATE TABLE segment (
  id INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  conversations INTEGER NOT NULL
) STRICT;
INSERT INTO segment (id, messages, conversations) VALUES (1, 0, 0);

-- The last segment in which the conversation has messages.
ALTER TABLE conversation ADD COLUMN segment INTEGER NOT NULL DEFAULT 0;

-- From `first_seq` on, a conversation's messages are in this segment, up to the next row's `first_seq`.
CREATE TABLE conversation_segment (
  conversation INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  segment INTEGER NOT NULL,
  PRIMARY KEY (conversation, first_seq)
) STRICT, WITHOUT ROWID;

-- What was there before is segment 0.
INSERT INTO conversation_segment (conversation, first_seq, segment)
  SELECT conversation, MIN(seq), 0 FROM message GROUP BY conversation;

ALTER TABLE message RENAME TO old_message;
DROP INDEX message_client_id;
CREATE TABLE message (
  segment INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  sender INTEGER NOT NULL,
  client_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  sender_time TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (segment, conversation, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO message (segment, conversation, seq, sender, client_id, created_at, sender_time, body)
  SELECT 0, conversation, seq, sender, client_id, created_at, sender_time, body FROM old_message;
DROP TABLE old_message;
CREATE UNIQUE INDEX message_client_id ON message (client_id, sender)

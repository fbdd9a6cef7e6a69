-- Conversations whose messages are to be deleted, a few at a time.
CREATE TABLE IF NOT EXISTS gone_conversation (
  id INTEGER PRIMARY KEY
) STRICT

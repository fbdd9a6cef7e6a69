-- `since_seq`: what was said up to here is not for this participant. `seen_seq`: he has received up to here.
CREATE TABLE IF NOT EXISTS participant (
  conversation INTEGER NOT NULL,
  user_id INTEGER NOT NULL,
  role INTEGER NOT NULL,
  since_seq INTEGER NOT NULL,
  seen_seq INTEGER NOT NULL,
  joined_at INTEGER NOT NULL,
  PRIMARY KEY (conversation, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS participant_user ON participant (user_id)

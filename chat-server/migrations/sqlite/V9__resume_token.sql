CREATE TABLE IF NOT EXISTS resume_token (
  token_hash TEXT PRIMARY KEY,
  user_id INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS resume_token_user ON resume_token (user_id, expires_at);
CREATE INDEX IF NOT EXISTS resume_token_expiry ON resume_token (expires_at)

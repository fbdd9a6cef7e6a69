-- `name_key` is the name as names are compared, made by the program, so that every database agrees on what is the same.
-- A number is never given twice, hence AUTOINCREMENT.
CREATE TABLE IF NOT EXISTS user (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT

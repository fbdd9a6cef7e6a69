-- A row: `user_id` has `friend_id` on his list. Two rows are a friendship, one alone is a request.
CREATE TABLE IF NOT EXISTS friend (
  user_id INTEGER NOT NULL,
  friend_id INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, friend_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS friend_of ON friend (friend_id)

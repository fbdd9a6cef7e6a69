-- A group's id, or a pair's: the lower user * 2^32 + the higher.
CREATE TABLE IF NOT EXISTS conversation (
  id INTEGER PRIMARY KEY,
  last_seq INTEGER NOT NULL
) STRICT

-- A user's session, if its node is of this incarnation and its lease runs.
CREATE TABLE IF NOT EXISTS session (
  user_id INTEGER PRIMARY KEY,
  node_id INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  session_id INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS session_node ON session (node_id, incarnation)

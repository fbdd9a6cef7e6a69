CREATE TABLE IF NOT EXISTS resume_token (
  token_hash CHAR(64) NOT NULL,
  user_id INT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (token_hash),
  KEY resume_token_user (user_id, expires_at),
  KEY resume_token_expiry (expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = ascii COLLATE = ascii_bin

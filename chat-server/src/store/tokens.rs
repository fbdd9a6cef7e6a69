//! Resume tokens: what a client shows instead of its password when it comes back. And the sweeping up of what is over.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use blake2::{Blake2s256, Digest};

use super::Store;
use super::backend::Access;
use super::claims::lock_users;
use super::error::{Refusal, StoreError};
use super::ids::{Timestamp, UserId};
use super::model::User;
use super::segments;
use super::sql::{Failure, Sql, SqlError, Value};
use super::users::{read_user, user_value};

/// A resume token in the clear, to be sent to its user. Its `Debug` does not show it.
#[derive(Clone)]
pub struct ResumeToken {
    text: String,
    /// When it runs out.
    pub until: Timestamp,
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user: User,
    /// When the token runs out; time to extend it when that is near.
    pub until: Timestamp,
}

impl ResumeToken {
    /// The text that the client shows: 64 characters of hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeToken").field("until", &self.until).finish_non_exhaustive()
    }
}

/// What the database knows a token by.
pub(super) type TokenHash = String;

/// How many random bytes a token has.
const TOKEN_BYTES: usize = 32;

/// How many rows of a kind one [`Store::sweep`] deletes at most.
const SWEEP: usize = 1000;

/// How long a node must have been gone before its sessions are swept up. They count for nothing meanwhile.
const NODE_REST_MS: u64 = 24 * 3600 * 1000;

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

fn milliseconds(valid_for: Duration) -> u64 {
    // So that it can be added to the time.
    valid_for.as_millis().min(i64::MAX as u128 / 2) as u64
}

/// Whose these tokens are, those of them that still count.
pub(super) fn owners_of(
    sql: &mut dyn Sql,
    hashes: &[TokenHash],
) -> Result<HashMap<TokenHash, Option<TokenOwner>>, SqlError> {
    let query = format!(
        "SELECT u.id, u.name, t.expires_at, t.token_hash FROM resume_token AS t JOIN user AS u ON u.id = t.user_id \
         WHERE t.token_hash IN {{keys}} AND t.expires_at > {}",
        sql.dialect().now
    );
    let keys: Vec<Value<'_>> = hashes.iter().map(|hash| Value::Text(hash)).collect();
    let mut owners = HashMap::new();
    sql.rows_by_keys(&query, 1, &keys, &mut |row| {
        let owner = TokenOwner { user: read_user(row, 0)?, until: Timestamp(row.unsigned(2)?) };
        owners.insert(row.text(3)?, Some(owner));
        Ok(())
    })?;
    Ok(owners)
}

/// What the database keeps of a token: whoever reads it there cannot log in with it. No salt and no cost, since a
/// token has 256 random bits where a password has a few.
fn hash_of(token: &str) -> TokenHash {
    hexadecimal(&Blake2s256::digest(token.as_bytes()))
}

/// Whether a text could be a token, which spares the database the question.
fn is_well_formed(token: &str) -> bool {
    token.len() == TOKEN_BYTES * 2 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Resume tokens.
impl Store {
    /// A new token for `user`, good for `valid_for` and any number of times. 256 random bits; the database keeps only
    /// their hash.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn issue_token(&self, user: UserId, valid_for: Duration) -> Result<ResumeToken, StoreError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| {
            Failure::Sql(SqlError::permanent(format!("the system gives no random numbers: {error}")))
        })?;
        let text = hexadecimal(&bytes);
        let hash = hash_of(&text);
        let valid_for = milliseconds(valid_for);
        let keep = self.inner.options.max_tokens - 1;
        let until = self
            .run(Access::Repeatable, move |sql| {
                if lock_users(sql, &[user])?.is_empty() {
                    return Err(Refusal::UnknownUser.into());
                }
                let query = "SELECT token_hash FROM resume_token WHERE user_id = ? ORDER BY expires_at DESC";
                let tokens = sql.rows(query, &[user_value(user)], |row| row.text(0))?;
                let eldest: Vec<Value<'_>> = tokens.iter().skip(keep).map(|hash| Value::Text(hash)).collect();
                sql.execute_by_keys("DELETE FROM resume_token WHERE token_hash IN {keys}", &eldest)?;

                let until = sql.now()? + valid_for;
                // After a lost commit it may be there already.
                let ignore = sql.dialect().insert_ignore;
                let insert = format!("{ignore} resume_token (token_hash, user_id, expires_at) VALUES (?, ?, ?)");
                sql.execute(&insert, &[Value::Text(&hash), user_value(user), Value::Int(until.cast_signed())])?;
                Ok(Timestamp(until))
            })
            .await?;
        Ok(ResumeToken { text, until })
    }

    /// Whose token it is; `None` when it is nobody's, or no longer.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn check_token(&self, token: &str) -> Result<Option<TokenOwner>, StoreError> {
        self.check_open()?;
        if !is_well_formed(token) {
            return Ok(None);
        }
        self.inner.lookups.token_owner.of(hash_of(token), self.question()?).await
    }

    /// Makes a token good for `valid_for` from now on, and says until when; `None` when it is nobody's, or no longer.
    ///
    /// It stays the same one. Were it replaced, whoever uses it might never learn of its successor, so that both would have
    /// to be good, and a logout would end one of them only.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn extend_token(&self, token: &str, valid_for: Duration) -> Result<Option<Timestamp>, StoreError> {
        self.check_open()?;
        if !is_well_formed(token) {
            return Ok(None);
        }
        let (hash, valid_for) = (hash_of(token), milliseconds(valid_for));
        self.run(Access::Repeatable, move |sql| {
            let now = sql.now()?;
            let until = now + valid_for;
            let update = "UPDATE resume_token SET expires_at = ? WHERE token_hash = ? AND expires_at > ?";
            let values = [Value::Int(until.cast_signed()), Value::Text(&hash), Value::Int(now.cast_signed())];
            Ok((sql.execute(update, &values)? > 0).then_some(Timestamp(until)))
        })
        .await
    }

    /// Makes one token worthless, as at a logout. Nothing happens when it is already.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn revoke_token(&self, token: &str) -> Result<(), StoreError> {
        self.check_open()?;
        if !is_well_formed(token) {
            return Ok(());
        }
        let hash = hash_of(token);
        self.run(Access::Repeatable, move |sql| {
            sql.execute("DELETE FROM resume_token WHERE token_hash = ?", &[Value::Text(&hash)])?;
            Ok(())
        })
        .await
    }

    /// Deletes what is over: tokens that have run out, messages of groups that are gone, nodes that have not been seen
    /// for a day. Call it now and then, on any node; it does a bounded amount of work and says how many rows it
    /// deleted, so that it can be called again at once when they were many.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        let tokens = self.run(Access::Repeatable, sweep_tokens).await?;
        let messages = self.run(Access::Repeatable, sweep_messages).await?;
        let nodes = self.run(Access::Repeatable, sweep_nodes).await?;
        Ok(tokens + messages + nodes)
    }
}

fn sweep_tokens(sql: &mut dyn Sql) -> Result<u64, Failure> {
    let query = format!("SELECT token_hash FROM resume_token WHERE expires_at <= {} LIMIT {SWEEP}", sql.dialect().now);
    let hashes = sql.rows(&query, &[], |row| row.text(0))?;
    let keys: Vec<Value<'_>> = hashes.iter().map(|hash| Value::Text(hash)).collect();
    Ok(sql.execute_by_keys("DELETE FROM resume_token WHERE token_hash IN {keys}", &keys)?)
}

fn sweep_messages(sql: &mut dyn Sql) -> Result<u64, Failure> {
    let Some(gone) = sql.first("SELECT id FROM gone_conversation LIMIT 1", &[], |row| row.int(0))? else {
        return Ok(0);
    };
    let query = format!("SELECT m.seq {}", sql.dialect().messages.replace("{order}", "ASC"));
    let values = [Value::Int(gone), Value::Int(0), Value::Int(i64::MAX), Value::Int(SWEEP as i64)];
    let seqs = sql.rows(&query, &values, |row| row.int(0))?;
    let deleted = match seqs.last() {
        Some(last) => sql.execute(sql.dialect().delete_messages, &[Value::Int(gone), Value::Int(*last)])?,
        None => 0,
    };
    if seqs.len() < SWEEP {
        sql.execute("DELETE FROM gone_conversation WHERE id = ?", &[Value::Int(gone)])?;
        if sql.dialect().has_segments {
            segments::forget(sql, gone)?;
        }
    }
    Ok(deleted)
}

fn sweep_nodes(sql: &mut dyn Sql) -> Result<u64, Failure> {
    let long_ago = Value::Int(sql.now()?.saturating_sub(NODE_REST_MS).cast_signed());
    let nodes = sql.rows("SELECT id FROM node WHERE lease_until < ? LIMIT 10", &[long_ago], |row| row.int(0))?;
    let mut deleted = 0;
    for node in nodes {
        // One that comes back after all registers or is fenced: its row is gone.
        if sql.execute("DELETE FROM node WHERE id = ? AND lease_until < ?", &[Value::Int(node), long_ago])? > 0 {
            deleted += 1 + sql.execute("DELETE FROM session WHERE node_id = ?", &[Value::Int(node)])?;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_does_not_give_the_token_away() {
        let token = "0123456789abcdef".repeat(4);
        assert!(is_well_formed(&token));
        assert_ne!(hash_of(&token), token);
        assert_eq!(hash_of(&token).len(), 64, "it fits its column");
        for bad in ["", "0", &token[1..], &token.to_uppercase(), &"é".repeat(32)] {
            assert!(!is_well_formed(bad), "{bad}");
        }
        let shown = format!("{:?}", ResumeToken { text: token.clone(), until: Timestamp(5) });
        assert!(!shown.contains(&token), "{shown}");
    }
}

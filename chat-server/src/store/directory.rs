//! The directory: which nodes live, and who is where.
//!
//! All times are the database's, so nodes need not agree on what time it is.

use std::collections::HashSet;
use std::time::Duration;

use super::Store;
use super::backend::Access;
use super::claims::read_location;
use super::error::{Refusal, StoreError};
use super::ids::{Incarnation, NodeId, SessionId, Timestamp, UserId};
use super::model::{Location, MAX_NODE_NAME_CHARS, Node, NodeLease, Renewal};
use super::sql::{Failure, SqlError, Value};
use super::users::user_value;

fn node_value(lease: NodeLease) -> [Value<'static>; 2] {
    [Value::Int(lease.node.0.into()), Value::Int(lease.incarnation.0.cast_signed())]
}

fn milliseconds(duration: Duration) -> u64 {
    // A thousand years are enough, and leave room to add them to the time.
    duration.as_millis().min(1000 * 365 * 86_400_000) as u64
}

fn check_node_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=MAX_NODE_NAME_CHARS).contains(&name.chars().count());
    if fits && name.trim() == name && !name.chars().any(char::is_control) { Ok(()) } else { Err(Refusal::InvalidName) }
}

/// The directory.
impl Store {
    /// Takes the name for a lease of this length, and fences every earlier start under the same name. Removes their
    /// sessions.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidName`], or the database's.
    pub async fn register_node(&self, name: &str, length: Duration) -> Result<NodeLease, StoreError> {
        check_node_name(name)?;
        let (name, length) = (name.to_owned(), milliseconds(length));
        // Repeated after a lost connection it takes a number more than it needs, and that is all.
        self.run(Access::Repeatable, move |sql| {
            let until = Value::Int((sql.now()? + length).cast_signed());
            let name = Value::Text(&name);
            let first = sql.dialect().insert_ignore;
            let insert = format!("{first} node (name, incarnation, lease_until) VALUES (?, 0, 0)");
            sql.execute(&insert, &[name])?;
            // The update locks the row, so of two starts at once each gets a number of its own.
            sql.execute(
                "UPDATE node SET incarnation = incarnation + 1, lease_until = ? WHERE name = ?",
                &[until, name],
            )?;
            let query = "SELECT id, incarnation FROM node WHERE name = ?";
            let found = sql.first(query, &[name], |row| {
                Ok(NodeLease { node: NodeId(row.id::<u32>(0)?), incarnation: Incarnation(row.unsigned(1)?) })
            })?;
            let lease = found.ok_or_else(|| SqlError::permanent("a node that was just written is gone"))?;
            sql.execute("DELETE FROM session WHERE node_id = ? AND incarnation < ?", &node_value(lease))?;
            Ok(lease)
        })
        .await
    }

    /// Renews the lease for this length from now on, by the database's clock. A lease that has run out is renewed, too, as
    /// long as nobody else took the name: the sessions are still the node's, except those that were claimed by others
    /// meanwhile ([`verify_sessions`](Self::verify_sessions)).
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] when another start under the same name has registered: stop. Or the database's: the node
    /// counts its lease from its last success, by its own clock.
    pub async fn refresh_lease(&self, lease: NodeLease, length: Duration) -> Result<Renewal, StoreError> {
        let length = milliseconds(length);
        self.run(Access::Repeatable, move |sql| {
            let now = sql.now()?;
            let query = "SELECT lease_until FROM node WHERE id = ? AND incarnation = ?";
            let before = sql.first(query, &node_value(lease), |row| row.unsigned(0))?;
            let [node, incarnation] = node_value(lease);
            let update = "UPDATE node SET lease_until = ? WHERE id = ? AND incarnation = ?";
            let until = now + length;
            if sql.execute(update, &[Value::Int(until.cast_signed()), node, incarnation])? == 0 {
                return Err(Refusal::Fenced.into());
            }
            Ok(Renewal { until: Timestamp(until), had_run_out: before.is_none_or(|before| before <= now) })
        })
        .await
    }

    /// The nodes whose lease runs, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        self.read(|sql| {
            let query = format!(
                "SELECT id, incarnation, name, lease_until FROM node WHERE lease_until > {} ORDER BY id",
                sql.dialect().now
            );
            Ok(sql.rows(&query, &[], |row| {
                let lease = NodeLease { node: NodeId(row.id::<u32>(0)?), incarnation: Incarnation(row.unsigned(1)?) };
                Ok(Node { lease, name: row.text(2)?, until: Timestamp(row.unsigned(3)?) })
            })?)
        })
        .await
    }

    /// Ends all sessions of a node and its lease; of no other start of it. Returns how many sessions there were.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn release_all(&self, lease: NodeLease) -> Result<u64, StoreError> {
        self.inner.claims.drain().await;
        self.run(Access::Repeatable, move |sql| {
            let node = node_value(lease);
            sql.execute("UPDATE node SET lease_until = 0 WHERE id = ? AND incarnation = ?", &node)?;
            Ok(sql.execute("DELETE FROM session WHERE node_id = ? AND incarnation = ?", &node)?)
        })
        .await
    }

    /// Where those of these users are who are online: those with a session on a node whose lease runs.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn where_are(&self, users: &[UserId]) -> Result<Vec<(UserId, Location)>, StoreError> {
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        self.read(move |sql| {
            let query = format!(
                "SELECT s.user_id, s.node_id, s.incarnation, s.session_id FROM session AS s \
                 JOIN node AS n ON n.id = s.node_id AND n.incarnation = s.incarnation AND n.lease_until > {} \
                 WHERE s.user_id IN {{keys}}",
                sql.dialect().now
            );
            let keys: Vec<Value<'_>> = users.iter().map(|user| user_value(*user)).collect();
            let mut found = Vec::new();
            sql.rows_by_keys(&query, 1, &keys, &mut |row| {
                found.push(read_location(row)?);
                Ok(())
            })?;
            Ok(found)
        })
        .await
    }

    /// The sessions that the directory has of this start of a node, whether they count or not, by user: up to `limit` of
    /// those behind `after`.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn claimed_sessions(
        &self,
        lease: NodeLease,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, SessionId)>, StoreError> {
        self.read(move |sql| {
            let query = format!(
                "SELECT user_id, node_id, incarnation, session_id FROM session \
                 WHERE node_id = ? AND incarnation = ? AND user_id > ? ORDER BY user_id LIMIT {limit}"
            );
            let [node, incarnation] = node_value(lease);
            let values = [node, incarnation, Value::Int(after.map_or(0, UserId::get).into())];
            let sessions = sql.rows(&query, &values, |row| read_location(row))?;
            Ok(sessions.into_iter().map(|(user, location)| (user, location.session)).collect())
        })
        .await
    }

    /// Which of these sessions of a node are still their users' sessions. For a node that could not renew its lease for
    /// a while: the others were claimed meanwhile, and must be ended.
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] when the lease is over or another start has registered; or the database's.
    pub async fn verify_sessions(
        &self,
        lease: NodeLease,
        sessions: &[(UserId, SessionId)],
    ) -> Result<Vec<(UserId, SessionId)>, StoreError> {
        let sessions = sessions.to_vec();
        self.read(move |sql| {
            let query =
                format!("SELECT id FROM node WHERE id = ? AND incarnation = ? AND lease_until > {}", sql.dialect().now);
            if sql.first(&query, &node_value(lease), |row| row.int(0))?.is_none() {
                return Err(Failure::Refused(Refusal::Fenced));
            }
            let query = "SELECT user_id, node_id, incarnation, session_id FROM session WHERE user_id IN {keys}";
            let keys: Vec<Value<'_>> = sessions.iter().map(|(user, _)| user_value(*user)).collect();
            let mut current = HashSet::with_capacity(sessions.len());
            sql.rows_by_keys(query, 1, &keys, &mut |row| {
                current.insert(read_location(row)?);
                Ok(())
            })?;
            let is_current = |(user, session): &(UserId, SessionId)| {
                current.contains(&(*user, Location { lease, session: *session }))
            };
            Ok(sessions.iter().filter(|session| is_current(session)).copied().collect())
        })
        .await
    }
}

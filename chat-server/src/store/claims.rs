//! Who has which session: claims and releases, committed in groups.
//!
//! A user's row is locked before his session is looked at, so of two claims one is first and the other one sees it. A
//! claim counts for as long as its node's lease runs and no later start of that node has registered: that is looked up
//! by whoever reads it, never copied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::Store;
use super::backend::{Access, Backend};
use super::error::{Refusal, StoreError};
use super::ids::{Incarnation, NodeId, SessionId, Timestamp, UserId};
use super::lane::{Company, Lane, Pending, Place, answer_all, in_time};
use super::model::{Claim, ClaimPolicy, Claimed, Location, NodeLease};
use super::options::StoreOptions;
use super::sql::{Failure, Row, Sql, SqlError, Value};

/// The lane of claims and releases.
pub(super) struct Claims {
    lane: Lane<Change, Changed>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
enum Change {
    Claim(Claim),
    Release(UserId, Location),
}

/// What is answered.
#[derive(Debug, Clone, Copy)]
enum Changed {
    Claimed(Claimed),
    Released(bool),
}

impl Change {
    fn user(&self) -> UserId {
        match self {
            Self::Claim(claim) => claim.user,
            Self::Release(user, _) => *user,
        }
    }
}

impl Claims {
    pub(super) fn start(backend: &Backend, options: &StoreOptions) -> (Self, AbortHandle) {
        let (backend, deadline) = (backend.clone(), options.deadline);
        let commit = move |batch| commit(backend.clone(), batch, deadline);
        let (lane, task) = Lane::start(options.max_batch, Company { part: 1, max_linger: Duration::ZERO }, commit);
        (Self { lane }, task)
    }

    pub(super) async fn drain(&self) {
        self.lane.drain().await;
    }
}

async fn commit(backend: Backend, batch: Vec<Pending<Change, Changed>>, deadline: Duration) {
    let Some((changes, callers, since)) = in_time(batch, deadline) else { return };
    let changes = Arc::new(changes);
    let work = move |sql: &mut dyn Sql| apply(sql, &changes);
    answer_all(callers, backend.run(Access::Repeatable, since, None, work).await);
}

/// Makes these changes, in their order.
fn apply(sql: &mut dyn Sql, changes: &[Change]) -> Result<Vec<Result<Changed, Refusal>>, Failure> {
    let mut users: Vec<UserId> = changes.iter().map(Change::user).collect();
    users.sort_unstable();
    users.dedup();
    let known = lock_users(sql, &users)?;
    let before = sessions_of(sql, &users)?;
    let claiming = changes.iter().filter_map(|change| match change {
        Change::Claim(claim) => Some(claim.location.lease.node),
        Change::Release(..) => None,
    });
    let nodes: HashSet<NodeId> = before.values().map(|location| location.lease.node).chain(claiming).collect();
    let leases = Leases::read(sql, &nodes)?;

    let mut sessions = before.clone();
    let answers = changes.iter().map(|change| change.apply(&known, &leases, &mut sessions)).collect();
    write_difference(sql, &before, &sessions)?;
    Ok(answers)
}

impl Change {
    /// What this change does to the sessions, and its answer.
    fn apply(
        &self,
        known: &HashSet<UserId>,
        leases: &Leases,
        sessions: &mut BTreeMap<UserId, Location>,
    ) -> Result<Changed, Refusal> {
        let current = sessions.get(&self.user()).copied();
        match self {
            Self::Release(user, location) => {
                let was_his = current == Some(*location);
                if was_his {
                    sessions.remove(user);
                }
                Ok(Changed::Released(was_his))
            }
            Self::Claim(Claim { user, location, policy }) => {
                if !known.contains(user) {
                    return Err(Refusal::UnknownUser);
                }
                if leases.runs_until(location.lease).is_none() {
                    return Err(Refusal::Fenced);
                }
                // The same claim again, after its answer was lost, displaces nobody.
                let other = current.filter(|current| current != location);
                let other = other.and_then(|other| leases.runs_until(other.lease).map(|until| (other, until)));
                if let (Some((by, until)), ClaimPolicy::Refuse) = (other, policy) {
                    return Ok(Changed::Claimed(Claimed::InUse { by, until }));
                }
                sessions.insert(*user, *location);
                Ok(Changed::Claimed(Claimed::Yes { displaced: other.map(|(location, _)| location) }))
            }
        }
    }
}

/// Nodes as the database knows them.
struct Leases {
    nodes: HashMap<NodeId, (Incarnation, Timestamp)>,
    now: Timestamp,
}

impl Leases {
    fn read(sql: &mut dyn Sql, nodes: &HashSet<NodeId>) -> Result<Self, SqlError> {
        let mut leases = Self { nodes: HashMap::with_capacity(nodes.len()), now: Timestamp(0) };
        let query =
            format!("SELECT id, incarnation, lease_until, {} FROM node WHERE id IN {{keys}}", sql.dialect().now);
        let keys: Vec<Value<'_>> = nodes.iter().map(|node| Value::Int(node.0.into())).collect();
        sql.rows_by_keys(&query, 1, &keys, &mut |row| {
            let node = NodeId(row.id::<u32>(0)?);
            leases.nodes.insert(node, (Incarnation(row.unsigned(1)?), Timestamp(row.unsigned(2)?)));
            leases.now = Timestamp(row.unsigned(3)?);
            Ok(())
        })?;
        Ok(leases)
    }

    /// When this lease ends; `None` when it has, or when it is another start's.
    fn runs_until(&self, lease: NodeLease) -> Option<Timestamp> {
        let (incarnation, until) = *self.nodes.get(&lease.node)?;
        (incarnation == lease.incarnation && until > self.now).then_some(until)
    }
}

/// Locks the rows of those of these users who exist, in the order of their numbers, and returns them.
pub(super) fn lock_users(sql: &mut dyn Sql, users: &[UserId]) -> Result<HashSet<UserId>, SqlError> {
    let mut users = users.to_vec();
    users.sort_unstable();
    let dialect = sql.dialect();
    let query = format!("SELECT id FROM user{} WHERE id IN {{keys}}{}", dialect.by_primary_key, dialect.for_update);
    let keys: Vec<Value<'_>> = users.iter().map(|user| Value::Int(user.get().into())).collect();
    let mut known = HashSet::with_capacity(users.len());
    sql.rows_by_keys(&query, 1, &keys, &mut |row| {
        known.insert(row.id(0)?);
        Ok(())
    })?;
    Ok(known)
}

/// Reads a user and his location out of four columns.
pub(super) fn read_location(row: &dyn Row) -> Result<(UserId, Location), SqlError> {
    let lease = NodeLease { node: NodeId(row.id::<u32>(1)?), incarnation: Incarnation(row.unsigned(2)?) };
    Ok((row.id(0)?, Location { lease, session: SessionId(row.int(3)?.cast_unsigned()) }))
}

/// The sessions of these users, whether their nodes live or not.
fn sessions_of(sql: &mut dyn Sql, users: &[UserId]) -> Result<BTreeMap<UserId, Location>, SqlError> {
    let keys: Vec<Value<'_>> = users.iter().map(|user| Value::Int(user.get().into())).collect();
    let mut sessions = BTreeMap::new();
    let query = "SELECT user_id, node_id, incarnation, session_id FROM session WHERE user_id IN {keys}";
    sql.rows_by_keys(query, 1, &keys, &mut |row| {
        let (user, location) = read_location(row)?;
        sessions.insert(user, location);
        Ok(())
    })?;
    Ok(sessions)
}

fn write_difference(
    sql: &mut dyn Sql,
    before: &BTreeMap<UserId, Location>,
    after: &BTreeMap<UserId, Location>,
) -> Result<(), SqlError> {
    let gone: Vec<Value<'_>> =
        before.keys().filter(|user| !after.contains_key(user)).map(|user| Value::Int(user.get().into())).collect();
    sql.execute_by_keys("DELETE FROM session WHERE user_id IN {keys}", &gone)?;
    let changed: Vec<Value<'_>> = after
        .iter()
        .filter(|(user, location)| before.get(user) != Some(location))
        .flat_map(|(user, location)| {
            [
                Value::Int(user.get().into()),
                Value::Int(location.lease.node.0.into()),
                Value::Int(location.lease.incarnation.0.cast_signed()),
                Value::Int(location.session.0.cast_signed()),
            ]
        })
        .collect();
    let tail = sql.dialect().upsert("user_id", &["node_id", "incarnation", "session_id"]);
    sql.insert_rows("INSERT INTO session (user_id, node_id, incarnation, session_id)", 4, &tail, &changed)
}

/// Claims.
impl Store {
    /// Makes a session the user's only one, atomically among all nodes, together with other claims of the moment. It is
    /// queued when this is called, and awaited when its future is.
    ///
    /// Who was displaced is told once: when the answer is lost with the connection, a later claim does not name him
    /// again. So nodes look now and then whether their sessions are still theirs
    /// ([`verify_sessions`](Self::verify_sessions)).
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`]; [`Refusal::Fenced`] when the claiming node's own lease is over; [`StoreError::Busy`]; or
    /// the database's.
    pub fn claim(&self, claim: Claim) -> impl Future<Output = Result<Claimed, StoreError>> + Send + use<> {
        let queued = self.change(Change::Claim(claim));
        async move {
            match queued?.await? {
                Changed::Claimed(claimed) => Ok(claimed),
                Changed::Released(_) => unreachable!("a claim is answered as a claim"),
            }
        }
    }

    /// Ends a session, if it still is the user's: one that was displaced leaves its successor alone. Returns whether it
    /// was. It is queued when this is called, and awaited when its future is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], or the database's.
    pub fn release(
        &self,
        user: UserId,
        location: Location,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<> {
        let queued = self.change(Change::Release(user, location));
        async move {
            match queued?.await? {
                Changed::Released(was_his) => Ok(was_his),
                Changed::Claimed(_) => unreachable!("a release is answered as a release"),
            }
        }
    }

    fn change(
        &self,
        change: Change,
    ) -> Result<impl Future<Output = Result<Changed, StoreError>> + Send + use<>, StoreError> {
        self.check_open()?;
        let inner = &*self.inner;
        let place = Place::for_claim(&inner.backend.counters, &inner.options)?;
        Ok(inner.claims.lane.submit(change, place))
    }
}

//! From a piece of work to a connection and back: waiting, blocking threads, transactions, trying again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pool::Manager;
use pool::managers::mysql::MysqlManager;
use pool::managers::sqlite::SqliteManager;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task;
use tokio::time::{Instant, sleep, timeout_at};

use super::error::{Cause, StoreError};
use super::sql::{ErrorKind, Failure, Sql, SqlError};
use crate::db::{AcquireError, ConnectionPool, Counts, Pool};

/// How often a piece of work is tried at most.
const MAX_ATTEMPTS: u32 = 6;

/// How long to wait before the second attempt; then twice as long each time. About half of it is chance.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// What a piece of work does, and so how it is run and when it may be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads; each statement for itself.
    Read,
    /// Writes in one transaction. When the connection is lost during the commit nobody knows whether it was done, so
    /// it is not done again.
    Write,
    /// Writes in one transaction, and doing it twice is as good as doing it once.
    Repeatable,
}

/// A database behind its pool. Cheap to clone.
#[derive(Clone)]
pub(super) struct Backend {
    pools: Pools,
    /// How long one piece of work may take in all.
    deadline: Duration,
    /// A server has refused to write, and none has written since.
    is_demoted: Arc<AtomicBool>,
    pub(super) counters: Arc<Counters>,
}

#[derive(Clone)]
pub(super) enum Pools {
    Mysql(Pool<MysqlManager>),
    Sqlite(SqlitePools),
}

/// SQLite has one writer at a time.
#[derive(Clone)]
pub(super) struct SqlitePools {
    pub(super) readers: Pool<SqliteManager>,
    /// One connection, for everything that writes. Whenever a connection finds that another one has written, it forgets
    /// all the pages it has read; this one never does, unless another process writes. `None`: there is but one
    /// connection in all, which `readers` has.
    pub(super) writer: Option<Pool<SqliteManager>>,
    /// Those who write stand in line here, first come, first served, where SQLite itself would have them sleep and try
    /// again.
    pub(super) turn: Arc<Mutex<()>>,
}

/// What was done so far; see [`StoreStats`](super::StoreStats).
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) pending_messages: AtomicUsize,
    pub(super) pending_bytes: AtomicUsize,
    pub(super) pending_claims: AtomicUsize,
    pub(super) messages: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) cursors_dropped: AtomicU64,
    pub(super) acquire_wait_ns: AtomicU64,
    pub(super) hold_ns: AtomicU64,
    pub(super) loans: AtomicU64,
}

impl Counters {
    /// The answer to one request too many, counted.
    pub(super) fn busy(&self, limit: &'static str, value: usize) -> StoreError {
        add(&self.busy, 1);
        StoreError::Busy { limit, value }
    }
}

pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Why one attempt ended without a result.
enum Trouble {
    /// No connection could be had; nothing was done.
    Acquire(AcquireError),
    /// The time is up; nothing was done.
    Late,
    /// Before the commit; nothing was done.
    Work(Failure),
    /// During the commit.
    Commit(SqlError),
    /// The work panicked, or the runtime is ending. The connection was closed.
    Panicked(Cause),
}

impl Backend {
    pub(super) fn new(pools: Pools, deadline: Duration) -> Self {
        Self { pools, deadline, is_demoted: Arc::default(), counters: Arc::default() }
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.pools, Pools::Sqlite(_))
    }

    pub(super) fn counts(&self) -> Counts {
        match &self.pools {
            Pools::Mysql(pool) => pool.counts(),
            Pools::Sqlite(SqlitePools { readers, writer: None, .. }) => readers.counts(),
            Pools::Sqlite(SqlitePools { readers, writer: Some(writer), .. }) => {
                let (readers, writer) = (readers.counts(), writer.counts());
                Counts {
                    size: readers.size + writer.size,
                    idle: readers.idle + writer.idle,
                    waiting: readers.waiting.zip(writer.waiting).map(|(readers, writer)| readers + writer),
                }
            }
        }
    }

    /// Runs `work` on a connection, on a thread that may block, and again while that helps and `since` is not too long
    /// ago. `permit` is held for as long as the work runs, also when the caller stops waiting.
    pub(super) async fn run<T, W>(
        &self,
        access: Access,
        since: Instant,
        permit: Option<OwnedSemaphorePermit>,
        mut work: W,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut dyn Sql) -> Result<T, Failure> + Send + 'static,
    {
        let permit = permit.map(Arc::new);
        let until = since + self.deadline;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let (result, given_back) = match &self.pools {
                Pools::Mysql(pool) => self.attempt(pool, access, until, (permit.clone(), None), work).await,
                Pools::Sqlite(SqlitePools { readers, writer, turn }) => match access {
                    Access::Read => self.attempt(readers, access, until, (permit.clone(), None), work).await,
                    Access::Write | Access::Repeatable => {
                        let Ok(turn) = timeout_at(until, Arc::clone(turn).lock_owned()).await else {
                            return Err(self.failed(Trouble::Late));
                        };
                        let pool = writer.as_ref().unwrap_or(readers);
                        self.attempt(pool, access, until, (permit.clone(), Some(turn)), work).await
                    }
                },
            };
            let trouble = match result {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            let (Some(again), true) = (given_back, trouble.may_be_tried_again(access) && attempt < MAX_ATTEMPTS) else {
                return Err(self.failed(trouble));
            };
            work = again;
            if !matches!(trouble, Trouble::Work(Failure::Again(_))) {
                let wait = jittered(pause);
                if Instant::now() + wait >= until {
                    return Err(self.failed(trouble));
                }
                sleep(wait).await;
                pause *= 2;
            }
            add(&self.counters.retries, 1);
        }
        unreachable!("the last attempt returns")
    }

    /// One attempt. Gives the work back for another one, unless it was lost in a panic.
    async fn attempt<M, T, W>(
        &self,
        pool: &Pool<M>,
        access: Access,
        until: Instant,
        held: (Option<Arc<OwnedSemaphorePermit>>, Option<OwnedMutexGuard<()>>),
        mut work: W,
    ) -> (Result<T, Trouble>, Option<W>)
    where
        M: Manager<Connection: Sql>,
        T: Send + 'static,
        W: FnMut(&mut dyn Sql) -> Result<T, Failure> + Send + 'static,
    {
        let asked = Instant::now();
        if asked >= until {
            return (Err(Trouble::Late), Some(work));
        }
        let mut loan = match timeout_at(until, pool.acquire_async()).await {
            Ok(Ok(loan)) => loan,
            Ok(Err(error)) => return (Err(Trouble::Acquire(error)), Some(work)),
            Err(_) => return (Err(Trouble::Late), Some(work)),
        };
        let lent = Instant::now();
        let counters = Arc::clone(&self.counters);
        add(&counters.loans, 1);
        add(&counters.acquire_wait_ns, nanoseconds(lent - asked));
        let on_thread = task::spawn_blocking(move || {
            let connection: &mut dyn Sql = &mut *loan;
            let result = match access {
                Access::Read => work(connection).map_err(Trouble::Work),
                Access::Write | Access::Repeatable => transact(connection, &mut work),
            };
            if result.as_ref().is_err_and(Trouble::has_cost_the_connection) {
                <Pool<M> as ConnectionPool<M>>::mark_broken(&mut loan);
            }
            drop(loan);
            drop(held);
            add(&counters.hold_ns, nanoseconds(lent.elapsed()));
            (result, work)
        });
        match on_thread.await {
            Ok((result, work)) => {
                self.follow_the_primary(pool, access, &result);
                (result, Some(work))
            }
            Err(error) => (Err(Trouble::Panicked(Arc::new(error))), None),
        }
    }

    /// When the first write succeeds after a server has refused to write, another server has taken over, and all the
    /// connections from before are closed: reads over them would be answered by the old one, from a state that falls
    /// behind. Until then each write that is refused costs its own connection only.
    fn follow_the_primary<M, T>(&self, pool: &Pool<M>, access: Access, result: &Result<T, Trouble>)
    where
        M: Manager<Connection: Sql>,
    {
        let set = |is_demoted| self.is_demoted.swap(is_demoted, Ordering::Relaxed) != is_demoted;
        match result {
            Err(trouble) if trouble.kind() == Some(ErrorKind::Demoted) && set(true) => {
                tracing::warn!("the database has become read-only; its connections are replaced until one may write");
            }
            Ok(_) if access != Access::Read && set(false) => {
                tracing::info!("the database may be written to again");
                pool.purge();
            }
            _ => {}
        }
    }

    /// The caller's error, counted.
    fn failed(&self, trouble: Trouble) -> StoreError {
        let error = match trouble {
            Trouble::Acquire(error) => error.into(),
            Trouble::Late => StoreError::Unavailable(Arc::from(Box::from(format!("not within {:?}", self.deadline)))),
            Trouble::Work(failure) => failure.into(),
            Trouble::Commit(error) => Failure::Sql(error).into(),
            Trouble::Panicked(cause) => StoreError::Failed(cause),
        };
        if error.refusal().is_none() {
            add(&self.counters.failures, 1);
            tracing::debug!(%error, "work in the database failed");
        }
        error
    }
}

/// Runs the work in a transaction, which is over when this returns.
fn transact<T>(sql: &mut dyn Sql, work: &mut impl FnMut(&mut dyn Sql) -> Result<T, Failure>) -> Result<T, Trouble> {
    sql.control(sql.dialect().begin).map_err(|error| Trouble::Work(error.into()))?;
    let trouble = match work(sql) {
        Ok(done) => match sql.control("COMMIT") {
            Ok(()) => return Ok(done),
            Err(error) => Trouble::Commit(error),
        },
        Err(failure) => Trouble::Work(failure),
    };
    if !trouble.has_cost_the_connection()
        && let Err(error) = sql.control("ROLLBACK")
    {
        // Some errors have ended the transaction already. Either way this connection is not worth a thought more.
        return Err(match trouble {
            Trouble::Work(Failure::Refused(_)) => trouble,
            Trouble::Work(Failure::Sql(cause)) => {
                Trouble::Work(Failure::Sql(SqlError { kind: ErrorKind::Lost, ..cause }))
            }
            Trouble::Commit(cause) => Trouble::Commit(SqlError { kind: ErrorKind::Lost, ..cause }),
            _ => Trouble::Work(Failure::Sql(SqlError { kind: ErrorKind::Lost, ..error })),
        });
    }
    Err(trouble)
}

impl Trouble {
    /// What the database meant, if it was the database that said no.
    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Work(Failure::Sql(error)) | Self::Commit(error) => Some(error.kind),
            _ => None,
        }
    }

    /// Whether the connection must not be used again.
    fn has_cost_the_connection(&self) -> bool {
        matches!(self.kind(), Some(ErrorKind::Demoted | ErrorKind::Lost))
    }

    fn may_be_tried_again(&self, access: Access) -> bool {
        match self {
            Self::Work(Failure::Again(_)) => true,
            Self::Work(Failure::Sql(error)) => {
                matches!(error.kind, ErrorKind::Conflict | ErrorKind::Demoted | ErrorKind::Lost)
            }
            Self::Commit(error) => match error.kind {
                ErrorKind::Conflict | ErrorKind::Demoted => true,
                ErrorKind::Lost => access == Access::Repeatable,
                ErrorKind::Duplicate | ErrorKind::Permanent => false,
            },
            // The pool has tried for as long as `acquire_timeout` already.
            Self::Acquire(_) | Self::Late | Self::Work(Failure::Refused(_)) | Self::Panicked(_) => false,
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Between half of it and one and a half times as long, so that those who got in each other's way do not do so again.
fn jittered(pause: Duration) -> Duration {
    let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX))
}

//! The database: the only place with SQL.
//!
//! A [`Store`] is a handle, cheap to clone. Its methods are async: they wait for a connection through the pool's async
//! door and run their statements on a thread that may block, so no runtime worker is ever held up. How much may wait is
//! bounded ([`StoreOptions::max_pending`]); beyond that a request is answered at once with [`StoreError::Busy`].
//!
//! # What is promised
//!
//! - **A receipt means stored.** [`append`](Store::append) answers after the commit. On MySQL and MariaDB it survives
//!   what the server's own settings survive (`innodb_flush_log_at_trx_commit = 1`, the default: a power cut), on SQLite a
//!   power cut with [`Durability::PowerCut`], the default, and a crash of the program in any case.
//! - **Once.** A message with a [`ClientMessageId`] is stored once, however often and wherever it is appended.
//! - **In order, without gaps.** The messages of a conversation are numbered 1, 2, 3 ... across all nodes.
//! - **Authorised here.** Who writes to a group or reads it must be a member at the moment of the commit.
//! - **Claims are atomic**, and live no longer than their node's lease. All of it by the database's clock.
//! - **A connection that failed is not used again**; a deadlock is tried again, a bounded number of times.
//!
//! # What the original did
//!
//! | original | here |
//! |---|---|
//! | `user.state`, set at login and logout | no column: who is online follows from the directory and the nodes' leases |
//! | `friend(userid, friendid)`, one-sided | the same: a row is "has him on his list". Both rows are a friendship, one alone is a request. The original's add-friend is [`add_friend`](Store::add_friend); the one who added sees the other in his list at once, as ever |
//! | `groupuser.grouprole` | [`Role`], with admins between creator and normal |
//! | `offlinemessage`, deleted when read | [`unread`](Store::unread) and cursors: what was received is known by number, and nothing is deleted before it was |
//! | one `SELECT` per group member | one query for all groups and all members |

mod append;
mod backend;
mod claims;
mod cursors;
mod directory;
mod error;
mod friends;
mod groups;
mod ids;
mod lane;
mod lookups;
mod messages;
mod migrate;
mod model;
mod options;
mod segments;
mod sql;
mod tokens;
mod users;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql::OptsBuilder;
use mysql::consts::CapabilityFlags;
use parking_lot::Mutex;
use pool::managers::mysql::MysqlManager;
use pool::managers::sqlite::{SqliteManager, Synchronous};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use self::backend::{Access, Backend, Pools, SqlitePools};
use self::claims::Claims;
use self::cursors::Cursors;
pub use self::error::{Cause, Refusal, StoreError};
pub use self::ids::{
    ClientMessageId, Conversation, ConversationKind, GroupId, Incarnation, InvalidId, InvalidMessageId,
    MAX_CLIENT_MESSAGE_ID_BYTES, MAX_ID, NodeId, Seq, SessionId, Timestamp, UserId,
};
use self::lane::Place;
use self::lookups::Lookups;
pub use self::model::{
    Claim, ClaimPolicy, Claimed, Credentials, Cursor, Friend, Friendship, Group, Left, Location, MAX_BODY_BYTES,
    MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_NODE_NAME_CHARS, MAX_OVERVIEW_MEMBERS, MAX_PAGE, MAX_TIME_BYTES, Member,
    Message, NewMessage, Node, NodeLease, Overview, Page, PageLimit, Receipt, Renewal, Role, Unread, User,
};
pub use self::options::{Durability, StoreOptions, StoreStats};
use self::sql::{Failure, Sql};
pub use self::tokens::{ResumeToken, TokenOwner};
use self::writer::Writer;
use crate::config::Database;
use crate::db::{ConnectionPool, Options, Pool};

/// The prepared statements that a connection keeps; a batch's statements exist in several sizes.
const STATEMENT_CACHE: usize = 256;

/// The memory in which each connection to SQLite may keep pages, in KiB; it is taken as pages are read. The last pages of a
/// thousand busy conversations and of the tables' indices fit into it.
const SQLITE_CACHE_KIB: i64 = 16 * 1024;

/// How many pages of changes SQLite gathers in its log before it puts them into their places, which the commit that
/// happens to be the one waits for. SQLite's own 1000 do so several times a second under load.
const SQLITE_CHECKPOINT_PAGES: i64 = 4000;

/// How large SQLite's log of changes may stay on the disk.
const SQLITE_LOG_LIMIT_BYTES: i64 = 64 * 1024 * 1024;

/// A database behind the pool that the server was built with. Cheap to clone; the clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    options: StoreOptions,
    pending: Arc<Semaphore>,
    writer: Writer,
    claims: Claims,
    cursors: Cursors,
    lookups: Lookups,
    is_closed: AtomicBool,
    /// The tasks that commit and look up. They end by themselves when the last handle is dropped and nothing waits any more.
    tasks: Mutex<Vec<AbortHandle>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("pool", &Self::POOL).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Opening, closing, asking how it is.
impl Store {
    /// The name of the pool that the server was built with.
    pub const POOL: &'static str = <Pool<SqliteManager> as ConnectionPool<SqliteManager>>::NAME;

    /// Opens the database, brings its tables up to date, and starts the tasks that commit in groups. They belong to the
    /// runtime that this is called in.
    ///
    /// Nodes may do so at the same time: one of them changes the tables, the others wait.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub async fn open(database: &Database, options: StoreOptions) -> Result<Self, StoreError> {
        options.check()?;
        let (database, pool) = (database.clone(), options.pool.clone());
        let (durability, deadline) = (options.durability, options.deadline);
        let opening = tokio::task::spawn_blocking(move || open_pools(&database, pool, durability, deadline));
        let pools = opening.await.map_err(|error| StoreError::Failed(Arc::new(error)))??;

        let backend = Backend::new(pools, options.deadline);
        let (writer, mut tasks) = Writer::start(&backend, &options);
        let (claims, task) = Claims::start(&backend, &options);
        tasks.push(task);
        let (cursors, task) = Cursors::start(&backend, &options);
        tasks.push(task);
        let (lookups, of_lookups) = Lookups::start(&backend, &options);
        tasks.extend(of_lookups);
        let inner = Inner {
            pending: Arc::new(Semaphore::new(options.max_pending)),
            backend,
            options,
            writer,
            claims,
            cursors,
            lookups,
            is_closed: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The database's name and version, as it says itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub async fn version(&self) -> Result<String, StoreError> {
        self.read(|sql| {
            let is_mysql = sql.dialect().is_mysql;
            let query = if is_mysql { "SELECT VERSION()" } else { "SELECT sqlite_version()" };
            let version = sql.first(query, &[], |row| row.text(0))?.unwrap_or_default();
            Ok(match is_mysql {
                false => format!("SQLite {version}"),
                true if version.contains("MariaDB") => version, // it says its name itself
                true => format!("MySQL {version}"),
            })
        })
        .await
    }

    /// Asks the database for a sign of life, and for its time. For health checks and fencing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why it gave none.
    pub async fn ping(&self) -> Result<Timestamp, StoreError> {
        self.read(|sql| Ok(Timestamp(sql.now()?))).await
    }

    /// What waits and what was done so far, for metrics.
    pub fn stats(&self) -> StoreStats {
        let inner = &*self.inner;
        let counters = &inner.backend.counters;
        let counts = inner.backend.counts();
        StoreStats {
            pending: inner.options.max_pending - inner.pending.available_permits(),
            pending_messages: counters.pending_messages.load(Ordering::Relaxed),
            pending_claims: counters.pending_claims.load(Ordering::Relaxed),
            pending_cursors: inner.cursors.waiting(),
            messages: counters.messages.load(Ordering::Relaxed),
            repeats: counters.repeats.load(Ordering::Relaxed),
            commits: counters.commits.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            busy: counters.busy.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            cursors_dropped: counters.cursors_dropped.load(Ordering::Relaxed),
            connections: counts.size,
            idle_connections: counts.idle,
            acquire_wait_ns: counters.acquire_wait_ns.load(Ordering::Relaxed),
            hold_ns: counters.hold_ns.load(Ordering::Relaxed),
            loans: counters.loans.load(Ordering::Relaxed),
        }
    }

    /// Commits what is waiting, cursors included, and closes. Requests from now on are answered with
    /// [`StoreError::Closed`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when not everything was committed after `deadline`. Those who still wait are told
    /// [`StoreError::Closed`], and whether their messages are stored is not known. [`StoreError::Closed`] when it was
    /// closed before.
    pub async fn close(&self, deadline: Duration) -> Result<(), StoreError> {
        let inner = &*self.inner;
        if inner.is_closed.swap(true, Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        let all_done = async {
            inner.writer.drain().await;
            inner.claims.drain().await;
            inner.cursors.flush().await
        };
        let flushed = timeout(deadline, all_done).await.unwrap_or_else(|_| {
            let problem = format!("not everything was committed within {deadline:?}");
            Err(StoreError::Unavailable(Arc::from(Box::from(problem))))
        });
        for task in inner.tasks.lock().drain(..) {
            task.abort();
        }
        flushed
    }

    /// Reads; see [`Access::Read`].
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut dyn Sql) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Access::Read, work).await
    }

    /// Writes in a transaction; see [`Access::Write`].
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut dyn Sql) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.run(Access::Write, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnMut(&mut dyn Sql) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.permit()?;
        self.inner.backend.run(access, Instant::now(), Some(permit), work).await
    }

    /// A place for a question that is asked together with others.
    fn question(&self) -> Result<Place, StoreError> {
        Ok(Place::for_question(&self.inner.backend.counters, self.permit()?))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.check_open()?;
        let inner = &*self.inner;
        let permit = Arc::clone(&inner.pending).try_acquire_owned();
        permit.map_err(|_| inner.backend.counters.busy("max_pending", inner.options.max_pending))
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.inner.is_closed.load(Ordering::SeqCst) { Err(StoreError::Closed) } else { Ok(()) }
    }
}

/// Opens the pool and brings the tables up to date. Blocks.
fn open_pools(
    database: &Database,
    options: Options,
    durability: Durability,
    deadline: Duration,
) -> Result<Pools, StoreError> {
    match database {
        Database::Mysql(opts) => {
            let manager = MysqlManager::new(mysql_opts(opts, deadline));
            let migration = MysqlManager::new(migrate::mysql_opts(manager.opts()));
            let pool = Pool::open(manager, &options)?;
            migrate::mysql(&migration)?;
            Ok(Pools::Mysql(pool))
        }
        Database::SqliteFile(file) => {
            let manager = sqlite_manager(SqliteManager::file(file), durability);
            // The writer's first: it makes the file. It is one of `max_size`, unless that is all there is.
            let one = Options { max_size: 1, min_idle: 1, ..options.clone() };
            let writer = Pool::open(manager.clone(), &one)?;
            migrate::sqlite(&manager)?;
            let max_size = options.max_size - 1;
            let (readers, writer) = if max_size == 0 {
                (writer, None)
            } else {
                let others = Options { max_size, min_idle: options.min_idle.min(max_size), ..options };
                (Pool::open(manager, &others)?, Some(writer))
            };
            Ok(Pools::Sqlite(SqlitePools { readers, writer, turn: Arc::default() }))
        }
        Database::SqliteMemory => {
            let memory = SqliteManager::memory().map_err(|error| StoreError::Failed(Arc::new(error)))?;
            let manager = sqlite_manager(memory, Durability::Crash);
            // In memory readers and the writer shut each other out, so they may as well stand in the pool's line.
            let options = Options { max_size: 1, min_idle: options.min_idle.min(1), ..options };
            let pool = Pool::open(manager.clone(), &options)?;
            migrate::sqlite(&manager)?;
            Ok(Pools::Sqlite(SqlitePools { readers: pool, writer: None, turn: Arc::default() }))
        }
    }
}

fn mysql_opts(opts: &mysql::Opts, deadline: Duration) -> OptsBuilder {
    let lock_wait_s = (deadline.as_secs() / 3).max(1);
    let mut init = opts.get_init();
    // Locks on the rows that are changed and on no gaps between them; every statement reads what is committed.
    init.push("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".into());
    // Whatever does not fit is an error and not cut off.
    init.push(format!(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION innodb_lock_wait_timeout = {lock_wait_s}"
    ));
    // A server that says nothing is not waited for any longer than a request may take.
    let bounded = |timeout: Option<&Duration>| Some(timeout.copied().unwrap_or(deadline));
    OptsBuilder::from_opts(opts.clone())
        .init(init)
        .read_timeout(bounded(opts.get_read_timeout()))
        .write_timeout(bounded(opts.get_write_timeout()))
        .stmt_cache_size(opts.get_stmt_cache_size().max(STATEMENT_CACHE))
        // An update counts the rows it found, changed or not.
        .additional_capabilities(opts.get_additional_capabilities() | CapabilityFlags::CLIENT_FOUND_ROWS)
}

fn sqlite_manager(manager: SqliteManager, durability: Durability) -> SqliteManager {
    manager
        .synchronous(match durability {
            Durability::PowerCut => Synchronous::Full,
            Durability::Crash => Synchronous::Normal,
        })
        .init(|connection| {
            connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            connection.pragma_update(None, "cache_size", -SQLITE_CACHE_KIB)?;
            connection.pragma_update(None, "wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES)?;
            connection.pragma_update(None, "journal_size_limit", SQLITE_LOG_LIMIT_BYTES)
        })
}

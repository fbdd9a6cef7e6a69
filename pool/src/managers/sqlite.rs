//! SQLite through the `rusqlite` crate.
//!
//! ```
//! use pool::SlotsPool;
//! use pool::managers::sqlite::SqliteManager;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = SqliteManager::memory()?;
//! let pool = SlotsPool::builder().max_size(4).build(manager)?;
//!
//! pool.get()?.execute_batch("CREATE TABLE user (name TEXT); INSERT INTO user VALUES ('ada')")?;
//! let name: String = pool.get()?.query_row("SELECT name FROM user", [], |row| row.get(0))?;
//! assert_eq!(name, "ada");
//! # Ok(())
//! # }
//! ```
//!
//! Readers of a file run side by side, also beside the one writer that SQLite allows; writers wait for each other, at
//! most [`busy_timeout`](SqliteManager::busy_timeout). In memory readers and the writer take turns. So a transaction
//! that will write should begin with `BEGIN IMMEDIATE`: one that reads first and writes later fails at once when
//! somebody else wrote in between, and waiting would not help it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, Error, OpenFlags};

use crate::Manager;

/// How long a statement waits for another connection's lock, unless [`SqliteManager::busy_timeout`] says otherwise.
pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before trying again what SQLite's own waiting does not cover.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// Prepares a new connection.
type Hook = dyn Fn(&mut Connection) -> Result<(), Error> + Send + Sync;

/// When a commit is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Synchronous {
    /// Left to the operating system. A power failure may damage the file.
    Off,
    /// At checkpoints. A power failure may undo the last commits, but damages nothing. The default.
    #[default]
    Normal,
    /// When the commit returns.
    Full,
}

/// Opens and checks connections to one SQLite database.
///
/// A new connection gets, in this order: the busy timeout, write-ahead logging (files only; it lets readers and the
/// writer work side by side), the synchronous level, foreign keys switched on, then your [`init`](Self::init) hook.
///
/// A transaction that is left open is rolled back before the connection's next use. A connection with a statement that
/// was never finished is closed.
#[derive(Clone)]
pub struct SqliteManager {
    place: Place,
    busy_timeout: Duration,
    synchronous: Synchronous,
    init: Option<Arc<Hook>>,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Memory {
        uri: String,
        /// The database lasts as long as one connection to it is open.
        _anchor: Arc<Mutex<Connection>>,
    },
}

impl SqliteManager {
    /// A manager for the database in this file, which is created if it does not exist.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Place::File(path.into()))
    }

    /// A manager for a new database in memory. All its connections share it; it ends with the manager and the last of
    /// them.
    ///
    /// # Errors
    ///
    /// SQLite could not open it, for want of memory.
    pub fn memory() -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Not `cache=shared`: its table locks ignore the busy timeout. The leading slash makes the name shared.
        let name = NEXT.fetch_add(1, Ordering::Relaxed);
        let uri = format!("file:/pool-{name}?vfs=memdb");
        let anchor = Connection::open_with_flags(&uri, flags())?;
        Ok(Self::new(Place::Memory { uri, _anchor: Arc::new(Mutex::new(anchor)) }))
    }

    fn new(place: Place) -> Self {
        Self { place, busy_timeout: DEFAULT_BUSY_TIMEOUT, synchronous: Synchronous::default(), init: None }
    }

    /// How long a statement waits for another connection's lock before it fails as busy. Default
    /// [`DEFAULT_BUSY_TIMEOUT`]; zero means not at all.
    #[must_use]
    pub fn busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// When a commit is on the disk. Default [`Synchronous::Normal`].
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Runs this on every new connection, after the settings above: further settings, functions, prepared statements.
    ///
    /// An error closes the connection and counts as a failure to connect.
    #[must_use]
    pub fn init(mut self, init: impl Fn(&mut Connection) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        self.init = Some(Arc::new(init));
        self
    }
}

impl SqliteManager {
    /// Switches write-ahead logging on. The first connection to a new file changes the file with it, and when several do
    /// so at once SQLite tells all but one that the file is locked, whatever the busy timeout: each of them reads already,
    /// so waiting for each other could last for ever. Outside of the statement it may be waited for.
    fn write_ahead(&self, connection: &Connection) -> Result<(), Error> {
        let until = Instant::now() + self.busy_timeout;
        loop {
            match connection.pragma_update(None, "journal_mode", "WAL") {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < until => {
                    thread::sleep(BUSY_PAUSE);
                }
                result => return result,
            }
        }
    }
}

impl fmt::Debug for SqliteManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place: &dyn fmt::Debug = match &self.place {
            Place::File(path) => path,
            Place::Memory { uri, .. } => uri,
        };
        f.debug_struct("SqliteManager")
            .field("place", place)
            .field("busy_timeout", &self.busy_timeout)
            .field("synchronous", &self.synchronous)
            .finish_non_exhaustive()
    }
}

impl Manager for SqliteManager {
    type Connection = Connection;
    type Error = Error;

    fn connect(&self) -> Result<Connection, Error> {
        let mut connection = match &self.place {
            Place::File(path) => Connection::open_with_flags(path, flags() & !OpenFlags::SQLITE_OPEN_URI)?,
            Place::Memory { uri, .. } => Connection::open_with_flags(uri, flags())?,
        };
        // First, for the next steps may have to wait for a lock already.
        connection.busy_timeout(self.busy_timeout)?;
        if let Place::File(_) = self.place {
            self.write_ahead(&connection)?;
        }
        connection.pragma_update(
            None,
            "synchronous",
            match self.synchronous {
                Synchronous::Off => "OFF",
                Synchronous::Normal => "NORMAL",
                Synchronous::Full => "FULL",
            },
        )?;
        connection.pragma_update(None, "foreign_keys", true)?;
        if let Some(init) = &self.init {
            init(&mut connection)?;
        }
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Error> {
        connection.query_row("SELECT 1", [], |_| Ok(()))
    }

    #[inline]
    fn has_broken(&self, connection: &mut Connection) -> bool {
        // A statement that nobody can finish any more, since its handle was leaked: it would keep its lock for ever.
        connection.is_busy()
    }

    fn is_fatal(&self, error: &Error) -> bool {
        match error.sqlite_error_code() {
            // The file or its locks are beyond what another statement on this connection could mend.
            Some(code) => matches!(
                code,
                ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::CannotOpen
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::InternalMalfunction
                    | ErrorCode::OutOfMemory
            ),
            // Not SQLite's: a row that does not convert, a query without rows.
            None => false,
        }
    }

    fn is_transient(&self, error: &Error) -> bool {
        match error.sqlite_error_code() {
            Some(code) => !matches!(
                code,
                ErrorCode::CannotOpen
                    | ErrorCode::NotADatabase
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::PermissionDenied
                    | ErrorCode::ReadOnly
                    | ErrorCode::AuthorizationForStatementDenied
                    | ErrorCode::NoLargeFileSupport
                    | ErrorCode::Unknown // an init hook's SQL that does not parse
            ),
            None => false,
        }
    }

    #[inline]
    fn is_dirty(&self, connection: &mut Connection) -> bool {
        !connection.is_autocommit()
    }

    fn reset(&self, connection: &mut Connection) -> Result<(), Error> {
        connection.execute_batch("ROLLBACK")
    }
}

/// Each connection is lent to one thread at a time, so SQLite need not guard it by a mutex of its own.
fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

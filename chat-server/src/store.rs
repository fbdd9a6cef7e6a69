//! The database: the only place with SQL.

use mysql::prelude::Queryable;
use pool::managers::mysql::MysqlManager;
use pool::managers::sqlite::SqliteManager;

use crate::config::{Config, Database};
use crate::db::{AcquireError, ConnectionPool, OpenError, Options, Pool};

/// A database behind the pool that the server was built with.
#[derive(Clone)]
pub enum Store {
    /// MySQL or MariaDB.
    Mysql(Pool<MysqlManager>),
    /// SQLite.
    Sqlite(Pool<SqliteManager>),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The pool could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No connection could be had.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// MySQL failed.
    #[error("the database failed: {0}")]
    Mysql(#[from] mysql::Error),
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl Store {
    /// The name of the pool that the server was built with.
    pub const POOL: &'static str = <Pool<SqliteManager> as ConnectionPool<SqliteManager>>::NAME;

    /// Opens the database.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let options = Options {
            min_idle: config.min_idle,
            max_size: config.max_size,
            acquire_timeout: config.acquire_timeout,
            idle_timeout: config.idle_timeout,
        };
        Ok(match &config.database {
            Database::Mysql(opts) => Self::Mysql(Pool::open(MysqlManager::new((**opts).clone()), &options)?),
            Database::SqliteFile(file) => Self::Sqlite(Pool::open(SqliteManager::file(file), &options)?),
            Database::SqliteMemory => Self::Sqlite(Pool::open(SqliteManager::memory()?, &options)?),
        })
    }

    /// The database's name and version, as it says itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub fn version(&self) -> Result<String, StoreError> {
        match self {
            Self::Mysql(pool) => {
                let version: Option<String> = pool.acquire()?.query_first("SELECT VERSION()")?;
                let version = version.unwrap_or_default();
                // MariaDB says its name itself.
                Ok(if version.contains("MariaDB") { version } else { format!("MySQL {version}") })
            }
            Self::Sqlite(pool) => {
                let version: String = pool.acquire()?.query_row("SELECT sqlite_version()", [], |row| row.get(0))?;
                Ok(format!("SQLite {version}"))
            }
        }
    }
}

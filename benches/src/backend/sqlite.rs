//! SQLite in a file: a real database without a server, so without a round trip.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pool::managers::sqlite::SqliteManager;
use rusqlite::Connection;

use super::{Backend, Failure, Gauge, Gauged};
use crate::contender::AsRaw;
use crate::contenders::r2d2::Plain;

/// A database file in a folder of its own, which goes when this is dropped.
#[derive(Debug)]
pub struct Sqlite {
    folder: PathBuf,
}

impl Sqlite {
    /// The table that the workloads use.
    pub const TABLE: &'static str = "user";

    /// Makes a database with `rows` rows.
    ///
    /// # Errors
    ///
    /// When there is no place for it.
    pub fn make(rows: u32) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("pool-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| Failure::of(folder.display(), error))?;
        let sqlite = Self { folder };
        let failed = |error: rusqlite::Error| Failure::of("could not prepare the SQLite file", error);
        let mut database = Connection::open(sqlite.path()).map_err(failed)?;
        // Readers and a writer side by side. It is a property of the file: all contenders get it.
        database.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        database
            .execute_batch(
                "DROP TABLE IF EXISTS user; CREATE TABLE user (id INTEGER PRIMARY KEY, name TEXT NOT NULL, \
                 password TEXT NOT NULL, state TEXT DEFAULT 'offline')",
            )
            .map_err(failed)?;
        let transaction = database.transaction().map_err(failed)?;
        for id in 1..=rows {
            let (name, password) = (format!("user{id}"), format!("password{id}"));
            transaction
                .execute("INSERT INTO user (id, name, password) VALUES (?1, ?2, ?3)", (id, name, password))
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(sqlite)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("lab.sqlite")
    }

    /// Fails unless the table has `rows` rows.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn expect_rows(&self, rows: u32) -> Result<(), Failure> {
        let found: u32 = Connection::open(self.path())
            .and_then(|database| database.query_row("SELECT COUNT(*) FROM user", (), |row| row.get(0)))
            .map_err(|error| Failure::of("could not count rows", error))?;
        if found == rows { Ok(()) } else { Err(Failure::new(format!("{rows} rows were expected, {found} are there"))) }
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl AsRaw<Connection> for Connection {
    #[inline]
    fn as_raw(&mut self) -> &mut Connection {
        self
    }
}

impl Backend for Sqlite {
    type Raw = Connection;
    type Manager = SqliteManager;
    type R2d2 = Plain<SqliteManager>;

    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn manager(&self, gauge: &Arc<Gauge>) -> Gauged<SqliteManager> {
        Gauged::new(SqliteManager::file(self.path()), gauge)
    }

    fn r2d2_manager(&self, gauge: &Arc<Gauge>) -> Plain<SqliteManager> {
        Plain(self.manager(gauge))
    }
}

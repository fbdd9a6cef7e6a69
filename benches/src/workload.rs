//! What is done with a connection, written once for all contenders, and the questions that the suites ask.

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::backend::Failure;
use crate::backend::stub::{Hold, StubConnection};

/// One operation on a connection.
pub trait Work<R>: Sync {
    /// Does it. `op` counts the operations of a run from zero; no two of a run have the same.
    ///
    /// # Errors
    ///
    /// When the backend fails, or answers something else than the truth.
    fn run(&self, raw: &mut R, op: u64) -> Result<(), Failure>;

    /// How many operations may pass before a thread looks whether the run is over. One for everything slow.
    fn batch(&self) -> u64 {
        1
    }
}

/// Uses a stub and gives it back at once: nothing is left but the pool.
#[derive(Debug, Clone, Copy)]
pub struct Touch;

impl Work<StubConnection> for Touch {
    #[inline]
    fn run(&self, raw: &mut StubConnection, _: u64) -> Result<(), Failure> {
        raw.hold(Hold::None);
        Ok(())
    }

    fn batch(&self) -> u64 {
        256
    }
}

/// Holds a stub for a while.
#[derive(Debug, Clone, Copy)]
pub struct Keep(pub Hold);

impl Work<StubConnection> for Keep {
    #[inline]
    fn run(&self, raw: &mut StubConnection, _: u64) -> Result<(), Failure> {
        raw.hold(self.0);
        Ok(())
    }

    fn batch(&self) -> u64 {
        match self.0 {
            Hold::None => 256,
            Hold::Work(_) => 8,
            Hold::Query(_) => 1,
        }
    }
}

/// The seed's operation: one row, committed by itself, in the text protocol as the seed's `mysql_query` had it.
///
/// A prepared statement would be a second round trip for every new connection and for every pool that resets sessions.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table's name.
    pub table: String,
}

impl Insert {
    fn statement(&self, op: u64) -> String {
        format!("INSERT INTO {} (name, password, state) VALUES ('user{op}', 'password{op}', 'offline')", self.table)
    }
}

impl Work<Conn> for Insert {
    fn run(&self, raw: &mut Conn, op: u64) -> Result<(), Failure> {
        raw.query_drop(self.statement(op)).map_err(|error| Failure::of("insert", error))?;
        if raw.affected_rows() == 1 { Ok(()) } else { Err(Failure::new("an insert did not insert its row")) }
    }
}

impl Work<rusqlite::Connection> for Insert {
    fn run(&self, raw: &mut rusqlite::Connection, op: u64) -> Result<(), Failure> {
        match raw.execute(&self.statement(op), ()) {
            Ok(1) => Ok(()),
            Ok(rows) => Err(Failure::new(format!("an insert inserted {rows} rows"))),
            Err(error) => Err(Failure::of("insert", error)),
        }
    }
}

/// Reads one row by its key and checks that it is the right one.
#[derive(Debug, Clone)]
pub struct Select {
    /// The table's name.
    pub table: String,
    /// How many rows it has, numbered from 1.
    pub rows: u64,
}

impl Select {
    fn key(&self, op: u64) -> u64 {
        1 + op % self.rows
    }

    fn statement(&self, key: u64) -> String {
        format!("SELECT name FROM {} WHERE id = {key}", self.table)
    }

    fn check(key: u64, name: Option<&str>) -> Result<(), Failure> {
        if name.and_then(|name| name.strip_prefix("user")) == Some(key.to_string().as_str()) {
            return Ok(());
        }
        Err(Failure::new(format!("a select of row {key} returned {name:?}")))
    }
}

impl Work<Conn> for Select {
    fn run(&self, raw: &mut Conn, op: u64) -> Result<(), Failure> {
        let key = self.key(op);
        let name: Option<String> =
            raw.query_first(self.statement(key)).map_err(|error| Failure::of("select", error))?;
        Self::check(key, name.as_deref())
    }
}

impl Work<rusqlite::Connection> for Select {
    fn run(&self, raw: &mut rusqlite::Connection, op: u64) -> Result<(), Failure> {
        let key = self.key(op);
        let name: String = raw
            .query_row(&self.statement(key), (), |row| row.get(0))
            .map_err(|error| Failure::of("select", error))?;
        Self::check(key, Some(&name))
    }
}

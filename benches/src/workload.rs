//! What is done with a connection, written once for all contenders, and the questions that the suites ask.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::backend::Failure;
use crate::backend::stub::{Hold, StubConnection};
use crate::contenders::Entrant;
use crate::record::Cell;

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
        let name: String =
            raw.query_row(&self.statement(key), (), |row| row.get(0)).map_err(|error| Failure::of("select", error))?;
        Self::check(key, Some(&name))
    }
}

/// How many connections there are for the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// This many.
    Fixed(usize),
    /// As many as threads: nobody waits.
    EqualsThreads,
    /// Ten as in the seed, or as many as threads if these are more: nobody waits, and few threads find many idle.
    TenOrThreads,
}

impl Size {
    /// The number for so many threads.
    #[must_use]
    pub fn of(self, threads: usize) -> usize {
        match self {
            Self::Fixed(size) => size,
            Self::EqualsThreads => threads,
            Self::TenOrThreads => threads.max(10),
        }
    }
}

/// A question put to all contenders.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name in records.
    pub name: &'static str,
    /// Thread counts, one block of cells each.
    pub threads: &'static [usize],
    /// Connections.
    pub size: Size,
}

/// What does an acquire cost when nothing is in its way?
///
/// One thread and ten connections, given back at once. It shows the length of the path and nothing about contention.
pub const CHECKOUT: Workload = Workload { name: "checkout", threads: &[1], size: Size::Fixed(10) };

/// Does the pool keep scaling when every thread can have a connection at once?
///
/// Threads = size, hold = none: what is left is the pool's own cost. It says nothing about waiting; see
/// [`SATURATION_2X`]. With more threads than cores, threads are preempted while they hold a connection or a lock, which
/// is what happens in programs, too.
pub const SCALING: Workload = Workload { name: "scaling", threads: &[1, 2, 4, 8, 16, 32], size: Size::EqualsThreads };

/// Who is served, and how fast, when two threads want each connection?
///
/// Every hold of [`HOLDS`]. Throughput is criterion's, the tail and the fairness are those of the suite `latency`.
pub const SATURATION_2X: Workload = Workload { name: "saturation", threads: &[16], size: Size::Fixed(8) };

/// The same when four threads want each connection.
pub const SATURATION_4X: Workload = Workload { name: "saturation", threads: &[16], size: Size::Fixed(4) };

/// How long connections are held in saturated cells. Up to a microsecond the holder computes, beyond it waits as for a
/// server's answer: computing for a millisecond would measure the two cores, and no sleep is as short as a microsecond.
pub const HOLDS: [Hold; 5] = [
    Hold::None,
    Hold::Work(Duration::from_micros(1)),
    Hold::Query(Duration::from_micros(50)),
    Hold::Query(Duration::from_micros(200)),
    Hold::Query(Duration::from_millis(1)),
];

/// The seed's question: how long do so many inserts take?
///
/// Thread counts and rows are the seed author's and beyond; ten connections are open from the start as in his set-up, and
/// there are never fewer than threads, so nobody waits for one.
pub const SEED: Workload = Workload { name: "insert", threads: &[1, 2, 4, 8, 16], size: Size::TenOrThreads };

/// The rows of the seed's table.
pub const SEED_ROWS: [u64; 3] = [1_000, 5_000, 10_000];

impl Workload {
    /// The cells of one thread count, one for each entrant that can take part.
    pub fn block(&self, suite: &str, backend: &str, threads: usize, hold: Hold, entrants: &[Entrant]) -> Vec<Cell> {
        let size = self.size.of(threads);
        let is_saturated = threads > size;
        entrants
            .iter()
            .filter(|entrant| !is_saturated || entrant.can_wait())
            .map(|entrant| Cell {
                suite: suite.to_owned(),
                workload: if is_saturated { hold.label() } else { self.name.to_owned() },
                backend: backend.to_owned(),
                flush: String::new(),
                contender: entrant.row().id.to_owned(),
                threads,
                size,
                hold_us: hold.micros(),
                rows: 0,
            })
            .collect()
    }
}

/// Entrants that mean something without a server.
#[must_use]
pub fn stub_entrants() -> Vec<Entrant> {
    Entrant::ALL.into_iter().filter(|entrant| !entrant.needs_mysql()).collect()
}

//! What every entrant must be able to do, and nothing else.
//!
//! A contender lends connections; it has no loop and no clock. The loops are in [`drive`](crate::drive), the work done
//! with a connection is in [`workload`](crate::workload), so the same machine code surrounds every contender and only
//! the contender differs. Calls are static: the compiler may inline an acquire of 5 ns into the measured loop.

use std::time::Duration;

use ::pool::Fairness;

use crate::backend::{ACQUIRE_TIMEOUT, Failure};

/// Access to the connection a workload works on, whatever the contender wraps around it.
pub trait AsRaw<R: ?Sized> {
    /// The connection itself.
    fn as_raw(&mut self) -> &mut R;
}

/// A source of connections, shared by all threads of a run. `R` is what a workload works on.
pub trait Contender<R: ?Sized>: Sync {
    /// What one thread holds on to between its operations: nothing for most pools, a connection for the floor, the
    /// entered runtime for the async ones.
    type Session<'a>: Session<R>
    where
        Self: 'a;

    /// Begins a thread's part. Called on that thread, before the gate, outside the measured time.
    ///
    /// # Errors
    ///
    /// When the session needs a connection of its own and cannot have it.
    fn session(&self) -> Result<Self::Session<'_>, Failure>;

    /// Whether connections outlive an operation and are shared, so that opening them beforehand makes sense.
    fn is_pool(&self) -> bool {
        true
    }

    /// Whether every operation opens a connection of its own.
    fn connects_per_operation(&self) -> bool {
        false
    }

    /// What the pool's own clocks say; `None` where it has none. Ours have with the feature `timing`.
    fn pool_timing(&self) -> Option<PoolTiming> {
        None
    }
}

/// Sums of a pool's own clocks since it was built, over all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolTiming {
    /// Standing in line for a connection.
    pub wait_ns: u64,
    /// Blocked on the idle set's lock, at checkout and at checkin.
    pub lock_wait_ns: u64,
}

impl PoolTiming {
    /// What was added since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { wait_ns: self.wait_ns - before.wait_ns, lock_wait_ns: self.lock_wait_ns - before.lock_wait_ns }
    }
}

/// One thread's use of a contender.
pub trait Session<R: ?Sized> {
    /// Acquires a connection, does `work` with it and gives it back. The time until `work` begins is the acquire, the
    /// time after it ends is the checkin.
    ///
    /// # Errors
    ///
    /// When no connection could be had. What `work` returns is passed through.
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure>;
}

/// How a contender is to be set up, as far as it can be. What it cannot do is said where it matters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The most connections.
    pub size: usize,
    /// Connections to open at the start and keep ready.
    pub min_idle: usize,
    /// How long an acquire may take. `None` lets each pool do what is cheapest: deadpool has no limit then, all others
    /// have [`ACQUIRE_TIMEOUT`].
    pub acquire_timeout: Option<Duration>,
    /// How old a connection may become. `None`: as the pool comes.
    pub max_lifetime: Option<Duration>,
    /// Who gets a connection that comes back. `None`: as the pool comes; only ours can be told.
    pub fairness: Option<Fairness>,
    /// Which idle connection is lent next; only deadpool and bb8 can be told.
    pub order: Order,
}

/// Which of the idle connections is lent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The one that came back last.
    LastUsed,
    /// The one that has been idle longest, so that all take turns.
    Turns,
}

impl Options {
    /// A pool whose connections are all open.
    #[must_use]
    pub fn filled(size: usize) -> Self {
        Self { size, min_idle: size, acquire_timeout: None, max_lifetime: None, fairness: None, order: Order::LastUsed }
    }

    /// A pool without connections, which opens them when somebody asks.
    #[must_use]
    pub fn empty(size: usize) -> Self {
        Self { min_idle: 0, ..Self::filled(size) }
    }

    /// The limit of an acquire for pools that have one always.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.acquire_timeout.unwrap_or(ACQUIRE_TIMEOUT)
    }
}

/// Something to do with a contender whose type only the registry knows; see [`contenders::enter`](crate::contenders::enter).
pub trait Visit<R: ?Sized> {
    /// What comes out of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    ///
    /// Whatever stopped it.
    fn visit<C: Contender<R>>(self, contender: &C) -> Result<Self::Output, Failure>;
}

/// Holds `count` connections at the same time, then gives all of them back: afterwards the pool has that many open.
///
/// # Errors
///
/// When one of them could not be had.
pub fn open_all<R: ?Sized>(contender: &impl Contender<R>, count: usize) -> Result<(), Failure> {
    match count {
        0 => Ok(()),
        _ => contender.session()?.with(|_| open_all(contender, count - 1))?,
    }
}

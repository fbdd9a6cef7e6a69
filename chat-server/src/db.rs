//! The connection pool, whichever it is.
//!
//! Everything above this module knows the trait [`ConnectionPool`] and the alias [`Pool`], nothing else. Each cargo
//! feature adds an adapter; [`choice`] says which one the alias means.

pub mod choice;
#[cfg(feature = "pool-lockfree")]
pub mod lock_free;
#[cfg(feature = "pool-mutex")]
pub mod mutex;
#[cfg(feature = "pool-none")]
pub mod none;
#[cfg(any(feature = "pool-lockfree", feature = "pool-mutex", feature = "pool-slots"))]
mod ours;
#[cfg(feature = "pool-r2d2")]
pub mod r2d2;
#[cfg(feature = "pool-slots")]
pub mod slots;

use std::error::Error;
use std::ops::DerefMut;
use std::time::Duration;

use pool::Manager;

pub use self::choice::Pool;

/// What the server asks of a pool.
pub trait ConnectionPool<M: Manager>: Clone + Send + Sync + Sized + 'static {
    /// The pool's name in logs, statistics and measurements.
    const NAME: &'static str;

    /// A connection on loan; dropping it gives it back. It may be sent to another thread, where the query runs.
    type Loan: DerefMut<Target = M::Connection> + Send + 'static;

    /// Opens the pool and its first connections.
    ///
    /// # Errors
    ///
    /// Why not, in one line.
    fn open(manager: M, options: &Options) -> Result<Self, OpenError>;

    /// Lends a connection, waiting for it if need be.
    ///
    /// # Errors
    ///
    /// Why not, in one line.
    fn acquire(&self) -> Result<Self::Loan, AcquireError>;
}

/// How large a pool may grow and how long its callers wait.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections to open at the start and to keep.
    pub min_idle: usize,
    /// Connections at most.
    pub max_size: usize,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// Spare connections are closed after this.
    pub idle_timeout: Duration,
}

/// Why a pool could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("could not open the pool: {0}")]
pub struct OpenError(#[source] pub Box<dyn Error + Send + Sync>);

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[error("could not get a connection: {0}")]
pub struct AcquireError(#[source] pub Box<dyn Error + Send + Sync>);

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
use std::future::Future;
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

    /// Lends a connection, awaiting it if need be, within `acquire_timeout`.
    ///
    /// Nothing blocks the task's thread. A pool without a door for tasks waits on a blocking thread instead, and its
    /// adapter bounds how many threads do. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// Why not, in one line.
    fn acquire_async(&self) -> impl Future<Output = Result<Self::Loan, AcquireError>> + Send;

    /// Says that the connection must not be lent again: it will be closed when the loan ends.
    fn mark_broken(loan: &mut Self::Loan);

    /// Closes the connections that are open now: the idle ones at once, as far as the pool can, the lent ones when they
    /// come back.
    fn purge(&self);

    /// The pool's counts at this moment.
    fn counts(&self) -> Counts;
}

/// What a pool has, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that are open, or being opened or closed.
    pub size: usize,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// Callers that wait for one; `None` when the pool does not tell.
    pub waiting: Option<usize>,
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

/// Acquires on a blocking thread, for pools that have no door for tasks.
///
/// `door` has as many permits as the pool may have connections, so no more threads than that wait in the pool; further
/// tasks wait here, as tasks. The permit is returned with the loan for those who want to keep it that long.
#[cfg(any(feature = "pool-none", feature = "pool-r2d2"))]
async fn acquire_on_a_thread<L: Send + 'static>(
    door: &std::sync::Arc<tokio::sync::Semaphore>,
    timeout: Duration,
    acquire: impl FnOnce() -> Result<L, AcquireError> + Send + 'static,
) -> Result<(L, tokio::sync::OwnedSemaphorePermit), AcquireError> {
    let waited = tokio::time::timeout(timeout, std::sync::Arc::clone(door).acquire_owned()).await;
    let Ok(permit) = waited else {
        return Err(AcquireError(format!("no connection became free in {timeout:?}").into()));
    };
    let permit = permit.map_err(|closed| AcquireError(closed.into()))?;
    // The permit travels with the work: when this future is dropped, the thread still counts until it is done.
    let work = tokio::task::spawn_blocking(move || acquire().map(|loan| (loan, permit)));
    work.await.map_err(|error| AcquireError(error.into()))?
}

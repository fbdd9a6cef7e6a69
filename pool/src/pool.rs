//! The handle that programs hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquire, AcquireOwned};
use crate::closing::Close;
use crate::config::{Builder, Config};
use crate::core::Core;
use crate::error::{AcquireError, AddError, BuildError, CloseError, ConfigError};
use crate::guard::{Guard, OwnedGuard};
use crate::hooks::Hooks;
use crate::idle::IdleSet;
use crate::waiters::CLOSED;
use crate::{Counters, Histograms, Loan, Manager, State, idle};

/// A pool of connections. Cloning it gives another handle to the same pool.
///
/// `M` opens and checks the connections, `I` is how the idle ones are kept; the aliases [`SlotsPool`](crate::SlotsPool),
/// [`LockFreePool`](crate::LockFreePool) and [`MutexPool`](crate::MutexPool) name the choices.
///
/// When the last handle is dropped, the pool closes: idle connections are closed by its worker threads, lent ones when
/// their guards are dropped. Call [`close`](Self::close) first to wait for that.
pub struct Pool<M: Manager, I: IdleSet = idle::Slots> {
    core: Arc<Core<M, I>>,
    handles: Arc<Handles<M, I>>,
}

/// What all handles share: its drop is the end of the last one.
struct Handles<M: Manager, I: IdleSet> {
    core: Arc<Core<M, I>>,
}

impl<M: Manager, I: IdleSet> Drop for Handles<M, I> {
    fn drop(&mut self) {
        self.core.begin_close();
        self.core.plan.stop();
        self.core.workers.stop();
    }
}

impl<M: Manager, I: IdleSet> Clone for Pool<M, I> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), handles: Arc::clone(&self.handles) }
    }
}

impl<M: Manager, I: IdleSet> fmt::Debug for Pool<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.core.config.name)
            .field("kind", &I::NAME)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl<M: Manager, I: IdleSet> Pool<M, I> {
    /// Options for a new pool, at their defaults.
    #[must_use]
    pub fn builder() -> Builder<M, I> {
        Builder::default()
    }

    pub(crate) fn start(config: Config, hooks: Hooks<M>, manager: M) -> Result<Self, BuildError<M::Error>> {
        let core = Core::new(config, hooks, manager);
        let pool = Self { handles: Arc::new(Handles { core: Arc::clone(&core) }), core };
        pool.core.start_upkeep().map_err(BuildError::Thread)?;
        pool.core.demand();
        Ok(pool)
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn core(&self) -> &Arc<Core<M, I>> {
        &self.core
    }

    pub(crate) fn wait_for_min_idle(&self) -> Result<(), AcquireError<M::Error>> {
        self.core.wait_for_min_idle()
    }

    /// Lends a connection, waiting for it up to `acquire_timeout`.
    ///
    /// The thread blocks. In async code use [`get_async`](Self::get_async).
    ///
    /// # Errors
    ///
    /// [`AcquireError`] says what was missing.
    #[inline(always)]
    #[track_caller]
    pub fn get(&self) -> Result<Guard<'_, M, I>, AcquireError<M::Error>> {
        Ok(Guard::new(&self.core, self.core.acquire(None)?))
    }

    /// Lends a connection, waiting for it up to `timeout`, whatever `acquire_timeout` is.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] says what was missing.
    #[inline(always)]
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<Guard<'_, M, I>, AcquireError<M::Error>> {
        Ok(Guard::new(&self.core, self.core.acquire(Some(timeout))?))
    }

    /// Lends a connection if one is idle. Never waits and never connects.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], with a wait of zero.
    #[inline(always)]
    #[track_caller]
    pub fn try_get(&self) -> Result<Guard<'_, M, I>, AcquireError<M::Error>> {
        self.get_timeout(Duration::ZERO)
    }

    /// Lends a connection, awaiting it up to `acquire_timeout`. Works on any async runtime.
    ///
    /// # Errors
    ///
    /// The future's; [`AcquireError`] says what was missing.
    #[inline]
    #[track_caller]
    pub fn get_async(&self) -> Acquire<'_, M, I> {
        Acquire::new(&self.core, None)
    }

    /// Lends a connection, awaiting it up to `timeout`, whatever `acquire_timeout` is.
    ///
    /// # Errors
    ///
    /// The future's; [`AcquireError`] says what was missing.
    #[inline]
    #[track_caller]
    pub fn get_async_timeout(&self, timeout: Duration) -> Acquire<'_, M, I> {
        Acquire::new(&self.core, Some(timeout))
    }

    /// Like [`get`](Self::get), with a guard that borrows nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] says what was missing.
    #[inline(always)]
    #[track_caller]
    pub fn get_owned(&self) -> Result<OwnedGuard<M, I>, AcquireError<M::Error>> {
        let lent = self.core.acquire(None)?;
        Ok(OwnedGuard::new(Arc::clone(&self.core), lent))
    }

    /// Like [`get_timeout`](Self::get_timeout), with a guard that borrows nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] says what was missing.
    #[inline(always)]
    #[track_caller]
    pub fn get_owned_timeout(&self, timeout: Duration) -> Result<OwnedGuard<M, I>, AcquireError<M::Error>> {
        let lent = self.core.acquire(Some(timeout))?;
        Ok(OwnedGuard::new(Arc::clone(&self.core), lent))
    }

    /// Like [`try_get`](Self::try_get), with a guard that borrows nothing.
    ///
    /// # Errors
    ///
    /// [`AcquireError`], with a wait of zero.
    #[inline(always)]
    #[track_caller]
    pub fn try_get_owned(&self) -> Result<OwnedGuard<M, I>, AcquireError<M::Error>> {
        self.get_owned_timeout(Duration::ZERO)
    }

    /// Like [`get_async`](Self::get_async), with a future and a guard that borrow nothing.
    ///
    /// # Errors
    ///
    /// The future's; [`AcquireError`] says what was missing.
    #[inline]
    #[track_caller]
    pub fn get_owned_async(&self) -> AcquireOwned<M, I> {
        AcquireOwned::new(Arc::clone(&self.core), None)
    }

    /// Like [`get_async_timeout`](Self::get_async_timeout), with a future and a guard that borrow nothing.
    ///
    /// # Errors
    ///
    /// The future's; [`AcquireError`] says what was missing.
    #[inline]
    #[track_caller]
    pub fn get_owned_async_timeout(&self, timeout: Duration) -> AcquireOwned<M, I> {
        AcquireOwned::new(Arc::clone(&self.core), Some(timeout))
    }

    /// The pool's counts at this moment.
    pub fn state(&self) -> State {
        self.core.state()
    }

    /// What the pool has done so far.
    pub fn counters(&self) -> Counters {
        self.core.counters()
    }

    /// How long callers waited, connections were held and connecting took so far. `None` unless the pool was built with
    /// [`histograms`](Builder::histograms).
    pub fn histograms(&self) -> Option<Histograms> {
        self.core.histograms()
    }

    /// The connections that are out, the oldest loan first; for how long and, if the pool
    /// [records its loans](Builder::record_loans), where each was borrowed.
    pub fn loans(&self) -> Vec<Loan> {
        self.core.loans()
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.core.config.name
    }

    /// Where the time of the acquires went so far.
    #[cfg(feature = "timing")]
    pub fn timing(&self) -> crate::Timing {
        self.core.clocks.report(self.core.idle.lock_wait_ns())
    }

    /// The name of the idle set: `mutex`, `lock-free`, `slots` or `lockfree`.
    pub fn kind(&self) -> &'static str {
        I::NAME
    }

    /// The manager given to the builder.
    pub fn manager(&self) -> &M {
        &self.core.manager
    }

    /// Closes the pool for good: waiters fail, idle connections are closed, lent ones are closed as they come back.
    /// Waits until all are closed, at most for `deadline`.
    ///
    /// When they are, all that was done with them, and by closing them, happens before the return. May be called again to
    /// wait longer. Blocks the thread; in async code await [`close_async`](Self::close_async).
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the time is up and connections are still out or still closing. The pool is closed all the
    /// same.
    pub fn close(&self, deadline: Duration) -> Result<(), CloseError> {
        self.core.begin_close();
        self.core.wait_until_empty(deadline)
    }

    /// Like [`close`](Self::close), for async code. Works on any runtime, or none.
    ///
    /// # Errors
    ///
    /// The future's: [`CloseError`], as for `close`.
    pub fn close_async(&self, deadline: Duration) -> Close<'_, M, I> {
        Close::new(&self.core, deadline)
    }

    /// Changes how many connections there may be, from 1 to the builder's [`capacity`](Builder::capacity).
    ///
    /// When there are more than that, the idle ones among them are closed now and the lent ones when they come back,
    /// whichever comes first; until then [`State::size`] is above [`State::max_size`]. When there may be more than
    /// before, those who wait are served. Never waits.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the number is out of range. Nothing has changed then.
    pub fn resize(&self, max_size: usize) -> Result<(), ConfigError> {
        self.core.resize(max_size)
    }

    /// Closes every connection that is open or being opened now, for example after a fail-over: the idle ones at once,
    /// the lent ones when they come back, those being opened, validated or reset when that has ended.
    ///
    /// No acquire that begins after the return of this call gets one of them. Those being opened count as old because
    /// they may have reached the server that is gone. `min_idle` and waiters are provided for as usual. Never waits.
    pub fn purge(&self) {
        self.core.purge();
    }

    /// Takes in a connection that was opened elsewhere, as if the pool had opened it.
    ///
    /// [`on_connect`](Builder::on_connect) is not run on it: it may block, and the caller can do that before.
    ///
    /// # Errors
    ///
    /// [`AddError`] when the pool is full or closed. It has the connection.
    pub fn add(&self, connection: M::Connection) -> Result<(), AddError<M::Connection>> {
        self.core.add(connection)
    }

    /// Lends nothing until [`resume`](Self::resume) is called. What is lent may come back.
    ///
    /// Acquires wait in line meanwhile, and their time runs; who runs out of it is told
    /// [`Paused`](AcquireError::Paused). No connection is opened for them, but `min_idle` is kept. May be called again,
    /// to no effect: one `resume` ends it.
    pub fn pause(&self) {
        self.core.pause();
    }

    /// Ends a [`pause`](Self::pause) and serves those who wait.
    pub fn resume(&self) {
        self.core.resume();
    }

    /// Whether [`pause`](Self::pause) was called, and [`resume`](Self::resume) not since.
    pub fn is_paused(&self) -> bool {
        self.core.is_paused()
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    pub(crate) fn is_closed(&self) -> bool {
        self.waiters.attention_hint() & CLOSED != 0
    }
}

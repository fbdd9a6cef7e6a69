//! The handle, and the connection it lends.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::r2d2::{Extensions, ManageConnection};

use super::event::{CheckinEvent, CheckoutEvent, TimeoutEvent};
use super::keeper::{Keeper, Live, Parts};
use super::{Builder, Error};
use crate::block_on::block_on_until;
use crate::error::AcquireError;
use crate::idle::{IdleSet, Slots};
use crate::{MAX_DURATION, OwnedGuard};

/// A pool of connections, with the methods of r2d2's. Cloning it gives another handle to the same pool.
///
/// `I` is how the idle connections are kept; code written for r2d2 never mentions it. The pool lives until its last
/// handle is dropped and the last of its connections has come back.
pub struct Pool<M: ManageConnection, I: IdleSet = Slots>(Arc<Shared<M, I>>);

struct Shared<M: ManageConnection, I: IdleSet> {
    inner: crate::Pool<Keeper<M>, I>,
    parts: Arc<Parts<M>>,
}

impl<M: ManageConnection, I: IdleSet> Clone for Pool<M, I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: ManageConnection + fmt::Debug, I: IdleSet> fmt::Debug for Pool<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("state", &self.state())
            .field("config", &self.0.parts.config)
            .field("manager", &self.0.parts.manager)
            .finish()
    }
}

// For the default kind alone, or these could not be inferred.
impl<M: ManageConnection> Pool<M> {
    /// A pool with the default options; waits like [`Builder::build`].
    ///
    /// # Errors
    ///
    /// If its first connections could not be opened within 30 seconds.
    pub fn new(manager: M) -> Result<Self, Error> {
        Self::builder().build(manager)
    }

    /// The options of a new pool.
    pub fn builder() -> Builder<M> {
        Builder::new()
    }
}

impl<M: ManageConnection, I: IdleSet> Pool<M, I> {
    pub(super) fn over(inner: crate::Pool<Keeper<M>, I>, parts: Arc<Parts<M>>) -> Self {
        Self(Arc::new(Shared { inner, parts }))
    }

    /// Lends a connection, waiting for it at most `connection_timeout`.
    ///
    /// # Errors
    ///
    /// When the time is up, with the last error of the manager if there was one.
    pub fn get(&self) -> Result<PooledConnection<M, I>, Error> {
        self.get_timeout(self.0.parts.config.connection_timeout)
    }

    /// Lends a connection, waiting for it at most `timeout`, whatever `connection_timeout` is.
    ///
    /// # Errors
    ///
    /// When the time is up, with the last error of the manager if there was one.
    pub fn get_timeout(&self, timeout: Duration) -> Result<PooledConnection<M, I>, Error> {
        let config = &self.0.parts.config;
        let start = Instant::now();
        let mut left = timeout.min(MAX_DURATION);
        loop {
            let Some(guard) = self.0.wait(left) else {
                if config.listens {
                    config.event_handler.handle_timeout(TimeoutEvent { timeout });
                }
                return Err(self.0.parts.no_connection());
            };
            if let Some(connection) = self.checked_out(guard) {
                if config.listens {
                    let id = connection.live().id;
                    config.event_handler.handle_checkout(CheckoutEvent { id, duration: start.elapsed() });
                }
                return Ok(connection);
            }
            left = timeout.min(MAX_DURATION).saturating_sub(start.elapsed());
        }
    }

    /// Lends a connection if one is idle. Does not wait.
    pub fn try_get(&self) -> Option<PooledConnection<M, I>> {
        loop {
            // An acquire that finds nothing would ask for another connection to be opened.
            if self.0.inner.state().idle == 0 {
                return None;
            }
            let guard = block_on_until(self.0.inner.get_owned_async(), Instant::now())?.ok()?;
            if let Some(connection) = self.checked_out(guard) {
                return Some(connection);
            }
        }
    }

    /// The connection if it passes the checkout's test; else it is released, and there may be another one.
    fn checked_out(&self, mut guard: OwnedGuard<Keeper<M>, I>) -> Option<PooledConnection<M, I>> {
        let parts = &self.0.parts;
        let live = guard.live.as_mut()?;
        if parts.config.test_on_check_out
            && let Err(error) = parts.manager.is_valid(&mut live.connection)
        {
            parts.handle(error);
            if let Some(live) = guard.live.take() {
                parts.release(live);
            }
            return None;
        }
        let since = parts.config.listens.then(Instant::now);
        Some(PooledConnection { guard, since, pool: self.clone() })
    }

    /// The pool's counts at this moment.
    pub fn state(&self) -> State {
        let state = self.0.inner.state();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        State { connections: count(state.idle + state.lent), idle_connections: count(state.idle) }
    }

    /// The most connections open at once, as configured.
    pub fn max_size(&self) -> u32 {
        self.0.parts.config.max_size
    }

    /// Idle connections to keep ready, as configured.
    pub fn min_idle(&self) -> Option<u32> {
        self.0.parts.config.min_idle
    }

    /// Whether connections are checked before they are lent.
    pub fn test_on_check_out(&self) -> bool {
        self.0.parts.config.test_on_check_out
    }

    /// The age at which connections are closed, as configured.
    pub fn max_lifetime(&self) -> Option<Duration> {
        self.0.parts.config.max_lifetime
    }

    /// How long a connection may be idle, as configured.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.parts.config.idle_timeout
    }

    /// How long [`get`](Self::get) waits, as configured.
    pub fn connection_timeout(&self) -> Duration {
        self.0.parts.config.connection_timeout
    }
}

impl<M: ManageConnection, I: IdleSet> Shared<M, I> {
    /// A connection of the pool underneath within `timeout`.
    fn wait(&self, timeout: Duration) -> Option<OwnedGuard<Keeper<M>, I>> {
        let acquire_timeout = self.parts.config.connection_timeout.min(MAX_DURATION);
        if timeout == acquire_timeout {
            return self.inner.get_owned().ok();
        }
        let deadline = Instant::now() + timeout;
        loop {
            match block_on_until(self.inner.get_owned_async(), deadline)? {
                Ok(guard) => return Some(guard),
                // A wait longer than `connection_timeout` is several.
                Err(error) if was_time_up(&error, acquire_timeout) && Instant::now() < deadline => {}
                Err(_) => return None,
            }
        }
    }
}

/// Whether an acquire failed for want of time, and not for a reason that would be the same the next time.
fn was_time_up(error: &AcquireError<Error>, acquire_timeout: Duration) -> bool {
    match error {
        AcquireError::Exhausted { waited, .. }
        | AcquireError::ConnectFailed { waited, .. }
        | AcquireError::TimedOut { waited, .. } => *waited >= acquire_timeout,
        // Nobody closes or pauses the pool underneath while there is a handle.
        AcquireError::Closed | AcquireError::Paused { .. } => false,
    }
}

/// A pool's counts.
#[non_exhaustive]
pub struct State {
    /// Open connections, idle or lent.
    pub connections: u32,
    /// Open connections that nobody holds.
    pub idle_connections: u32,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("connections", &self.connections)
            .field("idle_connections", &self.idle_connections)
            .finish()
    }
}

/// A lent connection. Dropping it is the checkin. It borrows nothing and keeps its pool alive.
pub struct PooledConnection<M: ManageConnection, I: IdleSet = Slots> {
    // Before the pool, which may end with it.
    guard: OwnedGuard<Keeper<M>, I>,
    /// Since when it is lent, if anybody wants to know.
    since: Option<Instant>,
    pool: Pool<M, I>,
}

const HAS_CONNECTION: &str = "a lent connection is released by its drop alone";

impl<M: ManageConnection, I: IdleSet> PooledConnection<M, I> {
    fn live(&self) -> &Live<M::Connection> {
        self.guard.live.as_ref().expect(HAS_CONNECTION)
    }

    fn live_mut(&mut self) -> &mut Live<M::Connection> {
        self.guard.live.as_mut().expect(HAS_CONNECTION)
    }

    /// What was kept with this connection.
    pub fn extensions(this: &Self) -> &Extensions {
        &this.live().extensions
    }

    /// What is kept with this connection, for as long as it is open.
    pub fn extensions_mut(this: &mut Self) -> &mut Extensions {
        &mut this.live_mut().extensions
    }
}

impl<M: ManageConnection, I: IdleSet> Drop for PooledConnection<M, I> {
    fn drop(&mut self) {
        let parts = &self.pool.0.parts;
        let Some(live) = self.guard.live.as_mut() else { return };
        if let Some(since) = self.since {
            parts.config.event_handler.handle_checkin(CheckinEvent { id: live.id, duration: since.elapsed() });
        }
        if parts.manager.has_broken(&mut live.connection) {
            // Here and now, as r2d2 does it; the slot is given up after that.
            if let Some(live) = self.guard.live.take() {
                parts.release(live);
            }
        }
    }
}

impl<M: ManageConnection, I: IdleSet> Deref for PooledConnection<M, I> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.live().connection
    }
}

impl<M: ManageConnection, I: IdleSet> DerefMut for PooledConnection<M, I> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.live_mut().connection
    }
}

impl<M: ManageConnection<Connection: fmt::Debug>, I: IdleSet> fmt::Debug for PooledConnection<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

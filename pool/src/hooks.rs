//! Code of the user's that runs at the turns of a connection's life.
//!
//! | hook | runs | on | a failure |
//! |---|---|---|---|
//! | `on_connect` | once, after [`Manager::connect`] | a worker | is a failed connect |
//! | `on_acquire` | before each loan | the caller's thread | closes the connection; the caller gets another |
//! | `on_checkin` | at each return of a connection not known to be broken | the holder's thread | closes the connection |
//! | `on_release` | once, before [`Manager::close`] | a worker | cannot be; a panic is logged |
//!
//! No lock is held meanwhile, and a panic is caught and counts as a failure: a guard may be dropped while its thread
//! panics already, and a second panic would end the program.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::config::Builder;
use crate::core::{Core, tally};
use crate::error::{Call, CallError};
use crate::events::{Event, Observer};
use crate::foreign::{self, caught_panic, log};
use crate::idle::IdleSet;
use crate::slot::Held;
use crate::sync::{Mutex, now};

/// A hook that may refuse the connection.
type Check<M> = Arc<dyn Fn(&mut <M as Manager>::Connection) -> Result<(), <M as Manager>::Error> + Send + Sync>;
/// A hook that may not.
type Farewell<M> = Arc<dyn Fn(&mut <M as Manager>::Connection) + Send + Sync>;

/// What the user wants to be called for.
pub(crate) struct Hooks<M: Manager> {
    pub(crate) on_connect: Option<Check<M>>,
    pub(crate) on_acquire: Option<Check<M>>,
    pub(crate) on_checkin: Option<Check<M>>,
    pub(crate) on_release: Option<Farewell<M>>,
    pub(crate) observer: Option<Observer>,
}

impl<M: Manager> Default for Hooks<M> {
    fn default() -> Self {
        Self { on_connect: None, on_acquire: None, on_checkin: None, on_release: None, observer: None }
    }
}

impl<M: Manager> Clone for Hooks<M> {
    fn clone(&self) -> Self {
        Self {
            on_connect: self.on_connect.clone(),
            on_acquire: self.on_acquire.clone(),
            on_checkin: self.on_checkin.clone(),
            on_release: self.on_release.clone(),
            observer: self.observer.clone(),
        }
    }
}

impl<M: Manager, I: IdleSet> Builder<M, I> {
    /// Runs `hook` on every new connection: session variables, a search path, `PRAGMA`s. Default: none.
    ///
    /// It runs on a worker thread as part of opening the connection, so it may do IO, and like
    /// [`Manager::connect`] it should end at some time. If it fails or panics, the connect has failed: the connection is
    /// closed (without [`on_release`](Self::on_release)) and the error is told as
    /// [`ConnectError::HookFailed`](crate::ConnectError::HookFailed). [`Manager::reset`] does not run it again.
    #[must_use]
    pub fn on_connect(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_connect = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on a connection before each loan. Default: none.
    ///
    /// It runs on the caller's thread (in async code, inside `poll`) and must not block: the caller's timeout does not
    /// hold meanwhile. If it fails or panics, the connection is closed and the caller gets the next one; a caller whose
    /// time runs out that way is told so ([`AcquireError::TimedOut`](crate::AcquireError::TimedOut)).
    #[must_use]
    pub fn on_acquire(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_acquire = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on a connection each time it comes back. Default: none.
    ///
    /// It runs on the thread that drops the guard and must not block. If it fails or panics, the connection is closed.
    /// It is not called for connections that are [marked broken](crate::Guard::mark_broken), whose holder panicked, or
    /// that are [detached](crate::Guard::detach). [`Manager::has_broken`] and [`Manager::is_dirty`] are asked after it.
    #[must_use]
    pub fn on_checkin(
        mut self,
        hook: impl Fn(&mut M::Connection) -> Result<(), M::Error> + Send + Sync + 'static,
    ) -> Self {
        self.hooks.on_checkin = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on a connection before [`Manager::close`], whatever the reason. Default: none.
    ///
    /// It runs on a worker thread (or, when the pool is gone, on the thread that drops the last guard) and may do IO.
    /// The connection may be broken. A panic is logged, and the connection is closed all the same.
    #[must_use]
    pub fn on_release(mut self, hook: impl Fn(&mut M::Connection) + Send + Sync + 'static) -> Self {
        self.hooks.on_release = Some(Arc::new(hook));
        self
    }

    /// Shows `observer` every [`Event`] of the pool, in the order in which each connection lives through them. Default:
    /// none.
    ///
    /// It runs wherever the event happens, often on a caller's thread between finding a connection and returning it, so
    /// it must not block. It may look at the pool, but must not acquire from it: that would be an event, too. A panic
    /// is logged and has no other consequence.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.hooks.observer = Some(Arc::new(observer));
        self
    }
}

/// Why the last connection that was open had to be closed, for the callers who get none.
pub(crate) struct LastFailure<E: Error + 'static>(Mutex<Option<(Instant, Arc<CallError<E>>)>>);

impl<E: Error + 'static> LastFailure<E> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The failure, if it is no older than `age`.
    pub(crate) fn within(&self, age: Duration) -> Option<Arc<CallError<E>>> {
        let last = self.0.lock();
        let (at, error) = last.as_ref()?;
        (now().saturating_duration_since(*at) <= age).then(|| Arc::clone(error))
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// A call that decides about an open connection has failed; the connection is lost.
    pub(crate) fn call_failed(&self, held: &Held, error: CallError<M::Error>) {
        let tallies = &self.tallies;
        let connection = self.connection_id(held);
        match error.call() {
            Call::Validate => tally(&tallies.validation_failures),
            Call::Reset => tally(&tallies.reset_failures),
            _ => tally(&tallies.hook_failures),
        }
        let pool = &self.config.name;
        match &error {
            CallError::Failed { .. } => {
                log!(debug, pool, connection, %error, "a connection is given up");
            }
            CallError::Panicked { .. } => {
                log!(warn, pool, connection, %error, "a connection is given up");
            }
        }
        self.emit(Event::CallFailed { connection, error: &error });
        let error = Arc::new(error);
        self.book_refusal(held, &error);
        let replaced = self.last_failure.0.lock().replace((now(), error));
        foreign::end(replaced);
    }

    /// Runs a hook that has no answer, and survives it.
    pub(crate) fn farewell(&self, connection: &mut M::Connection) {
        let Some(hook) = &self.hooks.on_release else { return };
        if let Some(panic) = caught_panic(|| hook(connection)) {
            log!(warn, self.config.name, panic, "on_release panicked");
        }
    }
}

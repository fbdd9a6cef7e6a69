//! Opening connections when somebody needs them, and the other work on connections that may block.
//!
//! Nobody connects for himself: a caller says that there is [`demand`](Core::demand), stands in line, and takes whatever
//! comes first, a connection that is returned or one that is opened. So a caller's timeout holds while a connect hangs,
//! a connect survives the caller who wanted it, and a burst of callers opens no more than
//! [`max_connecting`](crate::Builder::max_connecting) at a time.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, Failure, Reason, tally, ticks};
use crate::error::{AcquireError, Call, ConnectError};
use crate::events::Event;
use crate::hooks::{caught, panic_message};
use crate::idle::IdleSet;
use crate::slot::{Held, NEVER, Phase};
use crate::sync::atomic::Ordering;
use crate::sync::now;
use crate::timing::{self, Start};

/// Work that may block, each with the right to the slot it is about.
#[derive(Debug)]
pub(crate) enum Job {
    Connect(Held),
    Validate(Held),
    Reset(Held),
    Close(Held),
}

/// The slots without a connection, and how connecting goes.
pub(crate) struct Supply<E: Error + 'static> {
    vacant: Vec<Held>,
    connecting: usize,
    /// Failures since the last success.
    failures: u32,
    retry_at: Option<Instant>,
    last_failure: Option<Arc<ConnectError<E>>>,
    /// The last failure was one that trying again cannot mend.
    is_hopeless: bool,
    closed: bool,
}

impl<E: Error + 'static> Supply<E> {
    pub(crate) fn new(rights: Vec<Held>) -> Self {
        Self {
            vacant: rights,
            connecting: 0,
            failures: 0,
            retry_at: None,
            last_failure: None,
            is_hopeless: false,
            closed: false,
        }
    }

    /// Why connecting fails at the moment; `None` when it does not.
    pub(crate) fn last_failure(&self) -> Option<&Arc<ConnectError<E>>> {
        self.last_failure.as_ref()
    }

    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Starts to open what the waiters and `min_idle` ask for, as far as the limits allow.
    pub(crate) fn demand(&self) {
        while let Some(held) = self.next_to_connect() {
            self.submit(Job::Connect(held));
        }
    }

    fn next_to_connect(&self) -> Option<Held> {
        let mut supply = self.supply.lock();
        if supply.closed || supply.vacant.is_empty() {
            return None;
        }
        // Counted under the supply's lock (the line's is always the inner one): a new connection is idle, or with its
        // waiter, before it stops being counted as connecting, so nothing is opened twice for one need.
        let mut wanted = self.waiters.waiting();
        if self.config.min_idle > 0 {
            wanted = wanted.max(self.config.min_idle.saturating_sub(self.slots.state().idle));
        }
        // While connecting fails, one attempt at a time finds out whether it still does.
        let limit = if supply.failures > 0 { 1 } else { self.config.max_connecting };
        if supply.connecting >= wanted.min(limit) {
            return None;
        }
        if let Some(retry_at) = supply.retry_at
            && now() < retry_at
        {
            return None; // the upkeep thread comes back to it
        }
        let held = supply.vacant.pop()?;
        supply.connecting += 1;
        self.slots.mark(&held, Phase::Connecting);
        Some(held)
    }

    /// Opens every connection there may be, on this thread. For models, which have few threads to spare.
    #[cfg(all(test, loom))]
    pub(crate) fn fill(&self) {
        let vacant = std::mem::take(&mut self.supply.lock().vacant);
        for held in vacant {
            self.supply.lock().connecting += 1;
            self.slots.mark(&held, Phase::Connecting);
            self.run(Job::Connect(held));
        }
    }

    /// Does a job. On a worker's thread, or on the caller's when the pool is gone.
    pub(crate) fn run(&self, job: Job) {
        match job {
            Job::Connect(held) => self.connect(held),
            Job::Validate(held) => {
                tally(&self.tallies.validations);
                if let Some(held) = self.check(held, Call::Validate, |connection| self.manager.is_valid(connection)) {
                    self.validated(held);
                }
                self.validation_ended();
            }
            Job::Reset(held) => {
                tally(&self.tallies.resets);
                if let Some(held) = self.check(held, Call::Reset, |connection| self.manager.reset(connection)) {
                    self.freshen(held);
                }
            }
            Job::Close(held) => self.close_connection(held),
        }
    }

    fn connect(&self, held: Held) {
        if self.supply.lock().closed {
            self.supply.lock().connecting -= 1;
            return self.vacate(held);
        }
        let start = Start::now();
        let since = now();
        let connected = self.open();
        let took = now().saturating_duration_since(since);
        self.clocks.book(timing::Phase::Connect, start);
        self.note_connect_time(took);
        match connected {
            Ok(connection) => self.connected(held, connection, took),
            Err(error) => {
                let is_hopeless = match &error {
                    ConnectError::Failed(error) | ConnectError::HookFailed(error) => {
                        !caught_or(true, || self.manager.is_transient(error))
                    }
                    _ => false,
                };
                self.emit(Event::ConnectFailed { error: &error, took });
                self.connect_failed(held, error, is_hopeless);
            }
        }
    }

    /// Opens a connection and sets it up.
    fn open(&self) -> Result<M::Connection, ConnectError<M::Error>> {
        let span = tracing::debug_span!("connect", db.client.connection.pool.name = %self.config.name);
        let _inside = span.enter();
        let mut connection = match catch_unwind(AssertUnwindSafe(|| self.manager.connect())) {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(ConnectError::Failed(error)),
            Err(panic) => return Err(ConnectError::Panicked(panic_message(&*panic))),
        };
        let Some(hook) = &self.hooks.on_connect else { return Ok(connection) };
        let error = match catch_unwind(AssertUnwindSafe(|| hook(&mut connection))) {
            Ok(Ok(())) => return Ok(connection),
            Ok(Err(error)) => ConnectError::HookFailed(error),
            Err(panic) => ConnectError::HookPanicked(panic_message(&*panic)),
        };
        self.close(connection);
        Err(error)
    }

    fn close(&self, connection: M::Connection) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.manager.close(connection))) {
            let panic = panic_message(&*panic);
            tracing::warn!(db.client.connection.pool.name = %self.config.name, panic, "closing a connection panicked");
        }
    }

    fn connected(&self, mut held: Held, connection: M::Connection, took: Duration) {
        *self.slots.connection_mut(&mut held) = Some(connection);
        let lifetime = self.config.max_lifetime.map_or(NEVER, |lifetime| ticks(shortened(lifetime, 10)));
        let expires_at = self.ticks_now().saturating_add(lifetime);
        let slot = self.slots.slot(&held);
        slot.expires_at.store(expires_at, Ordering::Relaxed);
        // No tick: the first checkin sets the ages.
        slot.idle_since.store(NEVER, Ordering::Relaxed);
        self.slots.mark(&held, Phase::Lent);
        self.note_connected(&held, took);
        tracing::debug!(db.client.connection.pool.name = %self.config.name, slot = held.index(), "connected");
        self.freshen(held);
        {
            // Only now, so that it is counted as connecting until it is counted as idle, and `demand` asks for no more
            // than it needs.
            let mut supply = self.supply.lock();
            supply.connecting -= 1;
            supply.failures = 0;
            supply.retry_at = None;
            supply.last_failure = None;
            supply.is_hopeless = false;
        }
        self.notify_supply_changed();
        self.demand();
    }

    fn connect_failed(&self, held: Held, error: ConnectError<M::Error>, is_hopeless: bool) {
        tracing::warn!(db.client.connection.pool.name = %self.config.name, %error, "could not connect");
        tally(&self.tallies.connect_failures);
        let error = Arc::new(error);
        let retry_at = {
            let mut supply = self.supply.lock();
            let (first, longest) = self.config.backoff;
            let pause = first.saturating_mul(1 << supply.failures.min(20)).min(longest);
            let retry_at = now() + shortened(pause, 2);
            supply.connecting -= 1;
            supply.failures = supply.failures.saturating_add(1);
            supply.retry_at = Some(retry_at);
            supply.last_failure = Some(Arc::clone(&error));
            supply.is_hopeless = is_hopeless;
            retry_at
        };
        self.vacate(held);
        let state = self.slots.state();
        if is_hopeless && state.size == state.connecting {
            // No connection is left that could come back to a waiter.
            self.waiters.fail_all(&Failure::Connect(error), false);
        }
        self.plan.nudge(retry_at);
    }

    /// Validates or resets. A connection that fails is closed; whoever waits gets another.
    fn check(
        &self,
        mut held: Held,
        call: Call,
        check: impl FnOnce(&mut M::Connection) -> Result<(), M::Error>,
    ) -> Option<Held> {
        let connection = self.slots.connection_mut(&mut held).as_mut();
        match connection.map(|connection| caught(call, || check(connection))) {
            Some(Ok(())) => {
                self.slots.mark(&held, Phase::Lent);
                return Some(held);
            }
            Some(Err(error)) => self.call_failed(self.connection_id(&held), error),
            None => {}
        }
        self.retire(held, Reason::Broken);
        None
    }

    fn close_connection(&self, mut held: Held) {
        if let Some(mut connection) = self.slots.connection_mut(&mut held).take() {
            self.farewell(&mut connection);
            self.close(connection);
            self.note_closed(&held);
        }
        self.vacate(held);
        self.demand();
    }

    /// The slot has no connection any more and may get a new one, if [`demand`](Self::demand) is called next.
    /// Model-checked: `a_vacant_slot_is_not_forgotten`.
    pub(crate) fn vacate(&self, held: Held) {
        {
            let mut supply = self.supply.lock();
            self.slots.mark(&held, Phase::Vacant);
            supply.vacant.push(held);
        }
        self.notify_supply_changed();
    }

    /// Locks once, so that nobody who has just looked misses it.
    fn notify_supply_changed(&self) {
        drop(self.supply.lock());
        self.supply_changed.notify_all();
    }

    /// Waits until `min_idle` connections have been opened.
    pub(crate) fn wait_for_min_idle(&self) -> Result<(), AcquireError<M::Error>> {
        let since = now();
        let deadline = since + self.config.acquire_timeout;
        let mut supply = self.supply.lock();
        loop {
            let state = self.slots.state();
            if state.idle + state.lent >= self.config.min_idle {
                return Ok(());
            }
            if let Some(source) = supply.last_failure.as_ref().filter(|_| supply.is_hopeless) {
                let failure = Failure::Connect(Arc::clone(source));
                drop(supply);
                return Err(self.failed(failure, since));
            }
            if now() >= deadline {
                drop(supply);
                return Err(self.timed_out(now().saturating_duration_since(since)));
            }
            supply = self.supply_changed.wait_until(supply, Some(deadline));
        }
    }
}

/// The duration, less up to one `part`-th of it, at random: what begins together must not end together.
fn shortened(duration: Duration, part: u32) -> Duration {
    let most = duration / part;
    // Each `RandomState` has keys of its own.
    let share = if cfg!(any(loom, shuttle)) { 0 } else { RandomState::new().hash_one(0) as u32 };
    duration - Duration::from_secs_f64(most.as_secs_f64() * f64::from(share) / f64::from(u32::MAX))
}

/// The closure's answer, or `otherwise` if it panics.
fn caught_or<T>(otherwise: T, closure: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(closure)).unwrap_or(otherwise)
}

//! Opening connections when somebody needs them, and the other work on connections that may block.
//!
//! Nobody connects for himself: a caller says that there is [`demand`](Core::demand), stands in line, and takes whatever
//! comes first, a connection that is returned or one that is opened. So a caller's timeout holds while a connect hangs,
//! a connect survives the caller who wanted it, and a burst of callers opens no more than
//! [`max_connecting`](crate::Builder::max_connecting) at a time.

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, Failure, end_of, tally, ticks};
use crate::error::{AcquireError, AddError, Call, ConnectError};
use crate::events::CloseReason;
use crate::events::Event;
use crate::foreign::{self, caught, caught_or, caught_panic, log, panic_message};
use crate::idle::IdleSet;
use crate::slot::{Held, NEVER, Phase};
use crate::supply::Supply;
use crate::sync::atomic::Ordering;
use crate::sync::now;
use crate::timing::{self, Start};
use crate::waiters::Alarm;
use crate::workers::Lane;

/// Work that may block, each with the right to the slot it is about.
#[derive(Debug)]
pub(crate) enum Job {
    Connect(Held),
    Validate(Held),
    Reset(Held),
    Close(Held),
    /// Validates a connection that nobody asked for.
    KeepAlive(Held),
}

/// How long a validation or a reset may take before the pool opens another connection for whoever waits for it. Long for
/// a round trip, short for those who wait behind one that hangs.
pub(crate) const CHECKED_WITHIN: Duration = Duration::from_millis(100);

impl Job {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::Connect(_) => Lane::Connect,
            Self::Validate(_) | Self::KeepAlive(_) => Lane::Validate,
            Self::Reset(_) => Lane::Reset,
            Self::Close(_) => Lane::Close,
        }
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Starts to open what the waiters and `min_idle` ask for, as far as the limits allow.
    pub(crate) fn demand(&self) {
        while let Some(held) = self.next_to_connect() {
            self.submit(Job::Connect(held));
        }
    }

    /// The same for somebody who has just entered the line. In a pool that cannot grow, which is the usual one to wait at,
    /// that costs no lock.
    ///
    /// Whoever makes room says so and then asks the line, under its lock, how many wait; whoever waits is in the line, by
    /// the same lock, before it asks for room. So one of them sees the other. Model-checked:
    /// `a_vacant_slot_is_not_forgotten`.
    #[inline]
    pub(crate) fn demand_in_line(&self) {
        if self.has_room.load(Ordering::Relaxed) {
            self.demand();
        }
    }

    pub(crate) fn next_to_connect(&self) -> Option<Held> {
        let mut supply = self.supply.lock();
        // While connecting fails, one attempt at a time finds out whether it still does.
        let is_failing = supply.course.failures > 0 || supply.refusals.cause().is_some();
        let limit = if is_failing { 1 } else { self.config.max_connecting };
        if supply.connecting >= limit || !self.has_use_for(supply.connecting + 1, &supply) {
            return None;
        }
        if let Some(retry_at) = supply.retry_at()
            && now() < retry_at
        {
            return None; // the upkeep thread comes back to it
        }
        let held = supply.take_vacant()?;
        supply.connecting += 1;
        self.stamp(&held, &supply);
        self.slots.mark(&held, Phase::Connecting);
        Some(held)
    }

    /// Notes in which times the slot's next connection is opened.
    fn stamp(&self, held: &Held, supply: &Supply<M::Error>) {
        let slot = self.slots.slot(held);
        slot.epoch.store(supply.epoch(), Ordering::Relaxed);
        slot.generation.store(supply.refusals.generation(), Ordering::Relaxed);
    }

    /// Whether there is a use for so many connections that are being opened.
    ///
    /// Counted under the supply's lock (the line's is always the inner one): a new connection is idle, or with its
    /// waiter, before it stops being counted as connecting, so nothing is opened twice for one need.
    fn has_use_for(&self, connecting: usize, supply: &Supply<M::Error>) -> bool {
        // An open breaker wants to know when it may close.
        if connecting <= usize::from(supply.course.is_open) {
            return true;
        }
        let waiting = self.waiters.waiting();
        if connecting <= waiting && connecting <= waiting.saturating_sub(self.about_to_come()) {
            return true;
        }
        let min_idle = self.config.min_idle.min(supply.max_size());
        let idle = || self.slots.state().idle + self.borrowed_by_upkeep.load(Ordering::SeqCst);
        connecting <= min_idle.saturating_sub(supply.idle_at_most())
            || connecting <= min_idle && connecting <= min_idle.saturating_sub(idle())
    }

    /// Connections that are being validated or reset, and will be had sooner than a new one, or else will be closed.
    ///
    /// A check that hangs is none of them: after [`CHECKED_WITHIN`] its connection is no longer reckoned with, and the
    /// upkeep thread asks again.
    fn about_to_come(&self) -> usize {
        let is_checked = |index: &usize| self.slots.phase_is(*index, Phase::Checking);
        let mut checked = (0..self.slots.len()).filter(is_checked).peekable();
        if checked.peek().is_none() {
            return 0;
        }
        let (tick, patience) = (self.ticks_now(), ticks(CHECKED_WITHIN));
        let ends = checked.map(|index| self.slots.slot_at(index).checked_at.load(Ordering::Relaxed) + patience);
        let (mut coming, mut first_end) = (0, NEVER);
        for end in ends.filter(|end| *end > tick) {
            coming += 1;
            first_end = first_end.min(end);
        }
        if coming > 0 {
            self.plan.nudge(self.started + Duration::from_millis(first_end));
        }
        coming
    }

    /// Has a connection checked by a worker.
    pub(crate) fn submit_check(&self, job: impl FnOnce(Held) -> Job, held: Held) {
        // Before the slot shows that it is being checked; a demand that sees the one and not the other opens one more.
        self.slots.slot(&held).checked_at.store(self.ticks_now(), Ordering::Relaxed);
        self.slots.mark(&held, Phase::Checking);
        self.submit(job(held));
    }

    /// Opens every connection there may be, on this thread. For models, which have few threads to spare.
    #[cfg(all(test, loom))]
    pub(crate) fn fill(&self) {
        let vacant = self.supply.lock().take_all();
        for held in vacant {
            self.supply.lock().connecting += 1;
            self.slots.mark(&held, Phase::Connecting);
            self.attempt(held);
        }
    }

    /// Does a job. On a worker's thread, or on the caller's when the pool is gone.
    pub(crate) fn run(&self, job: Job) {
        match job {
            Job::Connect(held) => self.connect(held),
            Job::Validate(held) => {
                tally(&self.tallies.validations);
                if let Some(held) = self.check(held, Call::Validate, |connection| self.manager.is_valid(connection)) {
                    self.validation_passed(&held);
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
            Job::KeepAlive(held) => {
                tally(&self.tallies.validations);
                if let Some(held) = self.check(held, Call::Validate, |connection| self.manager.is_valid(connection)) {
                    self.kept_alive(held);
                }
                self.borrowed_by_upkeep.fetch_sub(1, Ordering::SeqCst);
                // Until now it was counted as idle, whatever it came to.
                self.demand();
                self.validation_ended();
                // There is room for another.
                self.keep_alive();
            }
        }
    }

    /// Opens a connection, unless the need for it has ended while the job stood in its queue.
    fn connect(&self, held: Held) {
        let is_wanted = {
            let mut supply = self.supply.lock();
            let is_wanted =
                !supply.is_closed() && supply.surplus() == 0 && self.has_use_for(supply.connecting, &supply);
            if is_wanted {
                // Nothing of it is older than a purge that came while it stood in the queue.
                let epoch = &self.slots.slot(&held).epoch;
                supply.renew(epoch.load(Ordering::Relaxed));
                epoch.store(supply.epoch(), Ordering::Relaxed);
                self.update_retire(&supply);
            } else {
                supply.connecting -= 1;
            }
            is_wanted
        };
        if is_wanted {
            return self.attempt(held);
        }
        self.vacate(held);
        // Somebody may have asked for it in between and been told that it was on its way.
        self.demand();
    }

    /// One attempt to connect.
    fn attempt(&self, held: Held) {
        let began = now();
        let start = Start::now();
        // The span is a log's, so it is foreign, too.
        let connected =
            caught_or(Err(ConnectError::Panicked("a subscriber of the log".into())), || self.connect_and_set_up());
        let took = now().saturating_duration_since(began);
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
                self.connect_failed(held, began, error, is_hopeless);
            }
        }
    }

    /// Opens a connection and sets it up.
    fn connect_and_set_up(&self) -> Result<M::Connection, ConnectError<M::Error>> {
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
        if let Some(panic) = caught_panic(|| self.manager.close(connection)) {
            log!(warn, self.config.name, panic, "closing a connection panicked");
        }
    }

    fn connected(&self, held: Held, connection: M::Connection, took: Duration) {
        tally(&self.tallies.connects);
        log!(debug, self.config.name, slot = held.index(), "connected");
        // Before anybody can have it: whoever does, and comes again, must not be turned away for an outage that it has ended.
        let former = self.book_success(&mut self.supply.lock());
        self.install(held, connection, took);
        // Only now, so that it is counted as connecting until it is counted as idle, and `demand` asks for no more than it
        // needs.
        self.supply.lock().connecting -= 1;
        foreign::end(former);
        self.tell_notices();
        self.notify_supply_changed();
        self.demand();
    }

    /// Puts a connection into its slot and makes it idle.
    fn install(&self, mut held: Held, connection: M::Connection, took: Duration) {
        *self.slots.connection_mut(&mut held) = Some(connection);
        let lifetime = self.config.max_lifetime.map_or(NEVER, |lifetime| ticks(shortened(lifetime, 10)));
        let tick = self.ticks_now();
        let slot = self.slots.slot(&held);
        slot.expires_at.store(tick.saturating_add(lifetime), Ordering::Relaxed);
        slot.checked_at.store(tick, Ordering::Relaxed);
        slot.loans_before.store(slot.loans.load(Ordering::Relaxed), Ordering::Relaxed);
        // Of a loan that ended with the connection's leaving the pool.
        slot.forget_doubts();
        // No tick: the first checkin sets the ages.
        slot.idle_since.store(NEVER, Ordering::Relaxed);
        self.slots.mark(&held, Phase::Lent);
        self.note_installed(&held, took);
        self.freshen(held);
    }

    /// Takes in a connection that somebody else has opened.
    pub(crate) fn add(&self, connection: M::Connection) -> Result<(), AddError<M::Connection>> {
        let taken = {
            let mut supply = self.supply.lock();
            let taken = supply.take_vacant();
            if let Some(held) = &taken {
                self.stamp(held, &supply);
                self.slots.mark(held, Phase::Lent);
                // There is a live connection again, so waiting is worth it.
                self.set_breaker(&mut supply, false);
            }
            taken
        };
        match taken {
            Some(held) => {
                log!(debug, self.config.name, slot = held.index(), "a connection was added");
                tally(&self.tallies.added);
                self.install(held, connection, Duration::ZERO);
                self.tell_notices();
                self.notify_supply_changed();
                Ok(())
            }
            // As the supply has it, which is closed before anybody is told.
            None if self.supply.lock().is_closed() => Err(AddError::Closed { connection }),
            None => Err(AddError::Full { connection, state: self.state() }),
        }
    }

    fn connect_failed(&self, held: Held, began: Instant, error: ConnectError<M::Error>, is_hopeless: bool) {
        log!(warn, self.config.name, %error, "could not connect");
        tally(&self.tallies.connect_failures);
        let error = Arc::new(error);
        let (retry_at, former, alarms) = {
            let mut supply = self.supply.lock();
            let ended = now();
            let retry_at = ended + self.config.pause_after(supply.course.failures);
            supply.connecting -= 1;
            let (tells, former) = self.book_failure(&mut supply, &error, is_hopeless, (began, ended), retry_at);
            // While it is true: whoever comes into line after a later success is not to hear of it.
            let alarms = tells.then(|| self.waiters.fail_all(&Failure::Connect(error), false));
            (retry_at, former, alarms)
        };
        self.vacate(held);
        foreign::end(former);
        self.tell_notices();
        alarms.into_iter().flatten().for_each(Alarm::ring);
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
            Some(Err(error)) => self.call_failed(&held, error),
            None => {}
        }
        self.retire(held, CloseReason::Broken);
        // Whoever reckoned with it needs another, and closing it may take long.
        self.demand();
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

    /// Locks once, so that nobody who has just looked misses it.
    pub(crate) fn notify_supply_changed(&self) {
        drop(self.supply.lock());
        self.supply_changed.notify_all();
        self.closers.ring();
    }

    /// Waits until `min_idle` connections have been opened.
    pub(crate) fn wait_for_min_idle(&self) -> Result<(), AcquireError<M::Error>> {
        let since = now();
        let deadline = end_of(since, self.config.acquire_timeout);
        let mut supply = self.supply.lock();
        loop {
            let min_idle = self.config.min_idle.min(supply.max_size());
            if supply.idle_at_most() >= min_idle {
                let state = self.slots.state();
                if state.idle + state.lent >= min_idle {
                    return Ok(());
                }
            }
            let course = &supply.course;
            if let Some(source) = supply.last_failure().filter(|_| course.is_hopeless || course.is_open) {
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
pub(crate) fn shortened(duration: Duration, part: u32) -> Duration {
    let most = duration / part;
    // Each `RandomState` has keys of its own.
    let share = if cfg!(any(loom, shuttle)) { 0 } else { RandomState::new().hash_one(0) as u32 };
    duration - Duration::from_secs_f64(most.as_secs_f64() * f64::from(share) / f64::from(u32::MAX))
}

//! Checkout and checkin: what a pool does a hundred million times a second.
//!
//! Everything else is in files of its own: waiting in [`acquire`](crate::acquire), who gets what comes back in
//! [`attend`](crate::attend), opening in [`connector`](crate::connector), closing in [`retire`](crate::retire), ages in
//! [`upkeep`](crate::upkeep).

use std::sync::atomic::{AtomicBool as StdAtomicBool, AtomicU64 as StdAtomicU64, Ordering as StdOrdering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::closing::Closers;
use crate::config::{Config, MAX_DURATION};
use crate::connector::Job;
use crate::error::{AcquireError, ConnectError};
pub(crate) use crate::events::CloseReason as Reason;
use crate::events::Event;
use crate::extras::{Caller, Extras};
use crate::hooks::{Hooks, LastFailure};
use crate::idle::IdleSet;
use crate::loans::LoanWatch;
use crate::notices::Notices;
use crate::reserve::Reserve;
use crate::slot::{Held, Lent, NEVER, SlotTable};
use crate::spin::Spin;
use crate::supply::Supply;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex, now};
use crate::timing::{self, Clocks, Start};
use crate::upkeep::Plan;
use crate::waiters::{BARRED, CLOSED, EXTRAS, NOTIFY, RETIRE, Waiters};
use crate::workers::Workers;
use crate::{Counters, Manager, State};

/// Why a waiter will get no connection.
#[derive(Debug)]
pub(crate) enum Failure<E: std::error::Error + 'static> {
    Closed,
    Connect(Arc<ConnectError<E>>),
}

impl<E: std::error::Error + 'static> Clone for Failure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Connect(source) => Self::Connect(Arc::clone(source)),
        }
    }
}

/// The tick in which a pool is built; not zero, so that there is one before it.
const FIRST_TICK: u64 = 1;

/// Ticks for which a validation holds at least: long enough for the one who asked for it to wake up and take the
/// connection, or the pool would validate in circles.
pub(crate) const VALIDATED_FOR: u64 = 1_000;

/// How often the rare things have happened.
#[derive(Default)]
pub(crate) struct Tallies {
    pub(crate) waits: StdAtomicU64,
    pub(crate) handoffs: StdAtomicU64,
    pub(crate) failures: StdAtomicU64,
    pub(crate) connects: StdAtomicU64,
    pub(crate) connect_failures: StdAtomicU64,
    pub(crate) timeouts: StdAtomicU64,
    pub(crate) cancelled: StdAtomicU64,
    pub(crate) slow_acquires: StdAtomicU64,
    pub(crate) validations: StdAtomicU64,
    pub(crate) validation_failures: StdAtomicU64,
    pub(crate) resets: StdAtomicU64,
    pub(crate) reset_failures: StdAtomicU64,
    pub(crate) hook_failures: StdAtomicU64,
    pub(crate) closes: StdAtomicU64,
    pub(crate) detached: StdAtomicU64,
    pub(crate) long_loans: StdAtomicU64,
    pub(crate) broken: StdAtomicU64,
    pub(crate) idle_timeouts: StdAtomicU64,
    pub(crate) lifetime_ends: StdAtomicU64,
    pub(crate) purged: StdAtomicU64,
    pub(crate) surplus: StdAtomicU64,
    pub(crate) added: StdAtomicU64,
    pub(crate) breaker_openings: StdAtomicU64,
    pub(crate) pauses: StdAtomicU64,
}

/// Adds one to a number that is only ever read for show.
pub(crate) fn tally(number: &StdAtomicU64) {
    number.fetch_add(1, StdOrdering::Relaxed);
}

/// A pool without its handles. Threads and owned guards keep it; the handles ([`Pool`](crate::Pool)) decide its life.
pub(crate) struct Core<M: Manager, I> {
    pub(crate) manager: M,
    pub(crate) slots: SlotTable<M::Connection>,
    pub(crate) idle: I,
    pub(crate) waiters: Waiters<Failure<M::Error>>,
    /// Milliseconds since `started`, as of the upkeep thread's last beat.
    pub(crate) tick: CachePadded<AtomicU64>,
    /// `validate_after_idle` in ticks.
    pub(crate) validate_after: u64,
    /// What is done for each loan on request. `None`, and never looked into, unless something was requested.
    pub(crate) extras: Option<Box<Extras>>,

    /// The present maximum. Written under the supply's lock, which has the truth.
    pub(crate) max_size: AtomicUsize,
    /// Calls that made connections superfluous: see [`retire`](crate::retire).
    pub(crate) retire_calls: AtomicU32,
    /// Callers who would have to wait may be told at once that it is not worth it: see [`breaker`](crate::breaker).
    pub(crate) turns_away: StdAtomicBool,
    pub(crate) is_breaker_open: StdAtomicBool,
    /// Validations asked for and not ended.
    pub(crate) validating: AtomicUsize,
    /// Idle connections that the upkeep thread has in its hands, to set them aside or to keep them alive. Never too few;
    /// whoever lowers it asks for [`demand`](Self::demand) next.
    pub(crate) borrowed_by_upkeep: AtomicUsize,
    /// New connections have been refused, and none has been accepted since. Written under the supply's lock.
    pub(crate) is_refusing: StdAtomicBool,
    pub(crate) notices: Notices<M::Error>,
    pub(crate) reserve: Reserve,
    pub(crate) spin: Spin,
    pub(crate) config: Config,
    pub(crate) started: Instant,
    pub(crate) supply: Mutex<Supply<M::Error>>,
    /// The supply's word on whether the pool may grow.
    pub(crate) has_room: Arc<AtomicBool>,
    /// A connection was opened, failed to open, or a slot became vacant. With `supply`'s lock.
    pub(crate) supply_changed: Condvar,
    pub(crate) closers: Closers,
    pub(crate) workers: Arc<Workers<Job>>,
    pub(crate) plan: Plan,
    pub(crate) tallies: Tallies,
    pub(crate) clocks: Clocks,
    pub(crate) hooks: Hooks<M>,
    pub(crate) last_failure: LastFailure<M::Error>,
    pub(crate) watch: LoanWatch,
    me: Weak<Self>,
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    pub(crate) fn new(config: Config, hooks: Hooks<M>, manager: M) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let (slots, rights) = SlotTable::new(config.capacity());
            let started = now();
            let supply = Supply::new(rights, config.max_size);
            let waiters = Waiters::new(config.fairness, started);
            let extras = Extras::new(&config, &hooks, config.capacity());
            waiters.set(EXTRAS, extras.is_some());
            Self {
                manager,
                slots,
                idle: I::with_capacity(config.capacity()),
                waiters,
                tick: CachePadded::new(AtomicU64::new(FIRST_TICK)),
                validate_after: config.validate_after_idle.map_or(NEVER, ticks),
                max_size: AtomicUsize::new(config.max_size),
                retire_calls: AtomicU32::new(0),
                turns_away: StdAtomicBool::new(false),
                is_breaker_open: StdAtomicBool::new(false),
                extras,
                validating: AtomicUsize::new(0),
                borrowed_by_upkeep: AtomicUsize::new(0),
                is_refusing: StdAtomicBool::new(false),
                notices: Notices::default(),
                reserve: Reserve::new(),
                spin: Spin::new(),
                started,
                has_room: supply.has_room(),
                supply: Mutex::new(supply),
                supply_changed: Condvar::default(),
                closers: Closers::default(),
                workers: Arc::new(Workers::new(&config.name, config.max_connecting)),
                plan: Plan::new(),
                tallies: Tallies::default(),
                clocks: Clocks::default(),
                hooks,
                last_failure: LastFailure::new(),
                watch: LoanWatch::new(config.capacity()),
                me: Weak::clone(me),
                config,
            }
        })
    }

    // What a checkout and a checkin consist of is inlined for certain. Left to itself the compiler returns a guard through
    // memory, in pieces that are then read back as one: the processor stalls on that for twice as long as all the rest.

    /// An idle connection that may be lent, if there is one for newcomers.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn checkout(&self) -> Option<Lent> {
        self.checkout_for(Caller::here())
    }

    #[inline(always)]
    pub(crate) fn checkout_for(&self, caller: Caller) -> Option<Lent> {
        let attention = self.waiters.attention_hint();
        if attention & (BARRED | EXTRAS) != 0 {
            return self.checkout_with_extras(attention, caller);
        }
        let start = Start::now();
        let held = self.idle.take(&self.slots)?;
        let lent = match self.examine(held) {
            Ok(lent) => {
                self.slots.slot(lent.right()).count_loan();
                lent
            }
            Err(due) => self.look_further(due, caller)?,
        };
        self.clocks.book(timing::Phase::Checkout, start);
        Some(lent)
    }

    /// The same in a pool that was asked to do something for each loan, if newcomers are not barred.
    #[cold]
    #[inline(never)]
    fn checkout_with_extras(&self, attention: u32, caller: Caller) -> Option<Lent> {
        if attention & BARRED != 0 {
            return None;
        }
        let start = Start::now();
        let held = self.idle.take(&self.slots)?;
        let lent = self.inspect(held, caller)?;
        self.clocks.book(timing::Phase::Checkout, start);
        Some(lent)
    }

    /// Lends the connection, if it may be lent; else the next one that may.
    #[inline]
    fn inspect(&self, held: Held, caller: Caller) -> Option<Lent> {
        match self.examine_to_lend(held, caller) {
            Ok(lent) => Some(lent),
            Err(due) => self.look_further(due, caller),
        }
    }

    #[inline]
    fn examine_to_lend(&self, held: Held, caller: Caller) -> Result<Lent, Option<Held>> {
        let lent = self.examine(held)?;
        if self.extras.is_some() {
            return self.lend(lent, caller).ok_or(None);
        }
        self.slots.slot(lent.right()).count_loan();
        Ok(lent)
    }

    /// The connection, if it may be lent. `Err` has it when it must be validated first and enough are already.
    #[inline(always)]
    fn examine(&self, held: Held) -> Result<Lent, Option<Held>> {
        let slot = self.slots.slot(&held);
        if self.tick.load(Ordering::Relaxed) >= slot.due_at.load(Ordering::Relaxed) {
            return Err(self.examine_closely(held));
        }
        let mut rescue = Rescue::new(self, held).ok_or(None)?;
        // If it does not, what remains to be done is what a rescue does.
        if self.manager.looks_alive(rescue.connection()) { Ok(rescue.disarm()) } else { Err(None) }
    }

    /// Something is due: the connection's life is over, or it must be validated first.
    #[cold]
    fn examine_closely(&self, held: Held) -> Option<Held> {
        let slot = self.slots.slot(&held);
        if self.tick.load(Ordering::Relaxed) >= slot.expires_at.load(Ordering::Relaxed) {
            self.retire(held, Reason::Lifetime);
            return None;
        }
        // After a quiet time all connections are due at once; a few checks at a time are enough for whoever asks first.
        if self.validating.fetch_add(1, Ordering::Relaxed) >= self.config.max_connecting {
            return Some(held);
        }
        self.submit_check(Job::Validate, held);
        None
    }

    /// The first idle connection that may be lent. `due` may not, until some validation has ended; nor may others, but
    /// behind them there may be one that needs none.
    #[cold]
    fn look_further(&self, due: Option<Held>, caller: Caller) -> Option<Lent> {
        let retire_calls = self.retire_calls.load(Ordering::Relaxed);
        let mut passed_over = PassedOver { core: self, due: Vec::from_iter(due), retire_calls };
        loop {
            let Some(held) = self.spared_if_asked(self.take_idle()?) else { continue };
            match self.examine_to_lend(held, caller) {
                Ok(lent) => return Some(lent),
                Err(due) => passed_over.due.extend(due),
            }
        }
    }

    /// One validation fewer is under way. If there is room for another, somebody may be waiting for it.
    pub(crate) fn validation_ended(&self) {
        let before = self.validating.fetch_sub(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if before <= self.config.max_connecting {
            self.attend();
        }
    }

    /// Any idle connection that may be lent, for somebody who is already in line or has no reason to be.
    #[cold]
    pub(crate) fn look(&self, caller: Caller) -> Option<Lent> {
        if self.is_paused() { None } else { self.look_further(None, caller) }
    }

    /// The connection that was handed over, if it may be lent; else the next one that may.
    #[cold]
    pub(crate) fn inspect_handed(&self, held: Held, caller: Caller) -> Option<Lent> {
        match self.spared_if_asked(held) {
            Some(held) => self.inspect(held, caller),
            None => self.look(caller),
        }
    }

    pub(crate) fn take_idle(&self) -> Option<Held> {
        self.idle.take(&self.slots).or_else(|| self.reserve.draw(&self.slots))
    }

    /// A connection comes back.
    ///
    /// What nearly every checkin does, and one way out of line for all the rest: that keeps the guard's drop, which consists of
    /// this, so small that the compiler inlines it into the caller. As a call it costs a sixth of the cycle.
    #[inline(always)]
    pub(crate) fn checkin(&self, lent: Lent) {
        let start = Start::now();
        if std::thread::panicking() || self.waiters.attention_hint() != 0 || !self.is_fresh(lent.right()) {
            return self.settle(lent, start);
        }
        let mut rescue = Rescue { core: self, lent: Some(lent) };
        if self.manager.has_broken(rescue.connection()) {
            return;
        }
        if self.manager.is_dirty(rescue.connection()) {
            return self.submit_check(Job::Reset, rescue.disarm().into_right());
        }
        self.give(rescue.disarm().into_right());
        self.clocks.book(timing::Phase::Checkin, start);
    }

    /// A checkin with something to it: somebody waits or wants to know, the connection is no good, a new tick has begun.
    #[cold]
    #[inline(never)]
    fn settle(&self, mut lent: Lent, start: Start) {
        let broken = self.slots.slot(lent.right()).ends_broken();
        let broken = if self.extras.is_some() { self.take_back(&mut lent, broken) } else { broken };
        let mut rescue = Rescue { core: self, lent: Some(lent) };
        if broken || self.manager.has_broken(rescue.connection()) {
            return;
        }
        let dirty = self.manager.is_dirty(rescue.connection());
        let held = rescue.disarm().into_right();
        if dirty {
            self.submit_check(Job::Reset, held);
        } else {
            self.freshen(held);
        }
        self.clocks.book(timing::Phase::Checkin, start);
    }

    /// Whether the slot's ages are those of this tick. Within one tick nothing changes, and stores that are left out do not
    /// hold up the barrier in `give`.
    #[inline(always)]
    fn is_fresh(&self, held: &Held) -> bool {
        self.tick.load(Ordering::Relaxed) == self.slots.slot(held).idle_since.load(Ordering::Relaxed)
    }

    /// A sound connection becomes idle, from now on, unless its life is over.
    pub(crate) fn freshen(&self, held: Held) {
        if self.is_fresh(&held) {
            self.make_idle(held)
        } else {
            self.freshen_at(held, self.tick.load(Ordering::Relaxed))
        }
    }

    #[cold]
    fn freshen_at(&self, held: Held, tick: u64) {
        let slot = self.slots.slot(&held);
        let expires_at = slot.expires_at.load(Ordering::Relaxed);
        if tick >= expires_at {
            return self.retire(held, Reason::Lifetime);
        }
        slot.idle_since.store(tick, Ordering::Relaxed);
        slot.due_at.store(expires_at.min(tick.saturating_add(self.validate_after)), Ordering::Relaxed);
        self.make_idle(held);
    }

    /// A connection that has just been validated becomes idle. It may be lent once without another look, even if
    /// every checkout is to be validated: this was that look.
    pub(crate) fn validated(&self, held: Held) {
        let slot = self.slots.slot(&held);
        let tick = self.ticks_now();
        let expires_at = slot.expires_at.load(Ordering::Relaxed);
        // One tick back, so that the next checkin sets the ages even if it comes within this tick.
        slot.idle_since.store(self.tick.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        slot.due_at
            .store(expires_at.min(tick.saturating_add(self.validate_after.max(VALIDATED_FOR))), Ordering::Relaxed);
        self.make_idle(held);
    }

    /// A connection becomes idle, or goes to whoever has waited too long for it.
    #[inline(always)]
    pub(crate) fn make_idle(&self, held: Held) {
        if self.waiters.attention_hint() & !EXTRAS != 0 {
            return self.make_idle_with_waiters(held);
        }
        self.give(held);
    }

    /// A connection becomes idle; then the look for waiters that every `give` owes them.
    #[inline(always)]
    fn give(&self, held: Held) {
        let index = held.index();
        self.idle.put(&self.slots, held);
        // Both in one branch: see `checkin`.
        if self.idle.hides() | (self.waiters.attention() & (NOTIFY | CLOSED | RETIRE) != 0) {
            self.finish_give(index);
        }
    }

    #[inline(never)]
    fn finish_give(&self, index: usize) {
        self.idle.announce(index);
        if self.waiters.attention() & (NOTIFY | CLOSED | RETIRE) != 0 {
            self.attend_after_give();
        }
    }

    /// Retires everything that is idle in a closed pool.
    pub(crate) fn drain(&self) {
        // Closed; now look. A checkin makes its connection idle and then looks for CLOSED; with a full barrier on this side
        // too, one sees the other. Model-checked: `nothing_stays_idle_after_a_close_*`.
        fence(Ordering::SeqCst);
        let mut rest = Vec::new();
        self.idle.sweep(&self.slots, &mut |_| true, &mut rest);
        self.reserve.sweep(&self.slots, &mut |_| true, &mut rest);
        for held in rest {
            self.retire(held, Reason::PoolClosed);
        }
    }

    /// Gives a job to the workers; when they have been stopped, does it here.
    pub(crate) fn submit(&self, job: Job) {
        let run = || {
            // Somebody borrows us, so the last reference is not gone. If it is going (a guard that is dropped after its
            // pool), the workers have been stopped and this is not called.
            let core = self.me.upgrade();
            move |job| {
                if let Some(core) = &core {
                    core.run(job);
                }
            }
        };
        if let Err(job) = self.workers.submit(job.lane(), job, run) {
            self.run(job);
        }
    }

    /// The tick, by the clock.
    pub(crate) fn ticks_now(&self) -> u64 {
        ticks(now().saturating_duration_since(self.started)).max(FIRST_TICK)
    }

    pub(crate) fn state(&self) -> State {
        State {
            max_size: self.max_size.load(Ordering::Relaxed),
            waiters: self.waiters.count(),
            is_paused: self.is_paused(),
            is_breaker_open: self.is_breaker_open.load(StdOrdering::Relaxed),
            ..self.slots.state()
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let get = |number: &StdAtomicU64| number.load(StdOrdering::Relaxed);
        let tallies = &self.tallies;
        Counters {
            checkouts: self.slots.loans(),
            waits: get(&tallies.waits),
            handoffs: get(&tallies.handoffs),
            failures: get(&tallies.failures),
            connects: get(&tallies.connects),
            connect_failures: get(&tallies.connect_failures),
            broken: get(&tallies.broken),
            idle_timeouts: get(&tallies.idle_timeouts),
            lifetime_ends: get(&tallies.lifetime_ends),
            timeouts: get(&tallies.timeouts),
            cancelled: get(&tallies.cancelled),
            slow_acquires: get(&tallies.slow_acquires),
            validations: get(&tallies.validations),
            validation_failures: get(&tallies.validation_failures),
            resets: get(&tallies.resets),
            reset_failures: get(&tallies.reset_failures),
            hook_failures: get(&tallies.hook_failures),
            closes: get(&tallies.closes),
            detached: get(&tallies.detached),
            long_loans: get(&tallies.long_loans),
            purged: get(&tallies.purged),
            surplus: get(&tallies.surplus),
            added: get(&tallies.added),
            breaker_openings: get(&tallies.breaker_openings),
            pauses: get(&tallies.pauses),
        }
    }

    /// The answer to a waiter for whom no connection will come.
    pub(crate) fn failed(&self, failure: Failure<M::Error>, since: Instant) -> AcquireError<M::Error> {
        tally(&self.tallies.failures);
        let waited = now().saturating_duration_since(since);
        let error = match failure {
            Failure::Closed => AcquireError::Closed,
            Failure::Connect(source) => AcquireError::ConnectFailed { waited, state: self.state(), source },
        };
        self.emit(Event::AcquireFailed { waited, error: &error });
        error
    }

    /// The answer to a waiter whose time is up.
    #[cold]
    pub(crate) fn timed_out(&self, waited: Duration) -> AcquireError<M::Error> {
        tally(&self.tallies.failures);
        let error = self.what_was_missing(waited);
        if !error.is_closed() {
            tally(&self.tallies.timeouts);
        }
        self.emit(Event::AcquireFailed { waited, error: &error });
        error
    }

    fn what_was_missing(&self, waited: Duration) -> AcquireError<M::Error> {
        if self.waiters.attention_hint() & CLOSED != 0 {
            return AcquireError::Closed;
        }
        let state = self.state();
        if state.is_paused {
            return AcquireError::Paused { waited, state };
        }
        let (connect_failure, refusal) = {
            let supply = self.supply.lock();
            (supply.last_failure().map(Arc::clone), supply.refusals.cause().map(Arc::clone))
        };
        if let Some(source) = connect_failure
            && (state.size < state.max_size || state.connecting > 0)
        {
            return AcquireError::ConnectFailed { waited, state, source };
        }
        // Nobody who did not wait has seen a failure of others; but what keeps the pool from opening concerns everybody.
        let seen = if waited.is_zero() { None } else { self.last_failure.within(waited) };
        let last_failure = seen.or(refusal);
        if is_exhausted(&state, last_failure.is_some()) {
            let oldest_loan = self.oldest_loan().map(Box::new);
            return AcquireError::Exhausted { waited, state, oldest_loan };
        }
        AcquireError::TimedOut { waited, state, last_failure }
    }
}

/// Whether there was nothing to be had because others had it, rather than because it was being opened or checked, or was
/// found to be no good.
pub(crate) fn is_exhausted(state: &State, has_failure: bool) -> bool {
    state.lent >= state.max_size || (state.lent + state.idle >= state.max_size && !has_failure)
}

/// The moment at which a time that begins at `since` is over. A time that no clock will ever show is cut.
pub(crate) fn end_of(since: Instant, time: Duration) -> Instant {
    since + time.min(MAX_DURATION)
}

/// A duration in ticks, never zero unless the duration is.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER)
}

/// Connections that are due and had to be left idle. They go back also when a look at another one panics.
struct PassedOver<'a, M: Manager, I: IdleSet> {
    core: &'a Core<M, I>,
    due: Vec<Held>,
    /// As of before the first of them was taken.
    retire_calls: u32,
}

impl<M: Manager, I: IdleSet> Drop for PassedOver<'_, M, I> {
    fn drop(&mut self) {
        // Nobody needs to be told: whoever missed one of these meanwhile could not have had it.
        while let Some(due) = self.due.pop() {
            self.core.idle.give(&self.core.slots, due);
            self.core.validation_ended();
            if self.core.retire_calls.load(Ordering::SeqCst) != self.retire_calls {
                self.core.retire_idle();
            }
        }
    }
}

/// Holds a right while the manager's code runs. If that code panics, or the right is simply left here, the connection is
/// retired: nobody knows what state it is in.
struct Rescue<'a, M: Manager, I: IdleSet> {
    core: &'a Core<M, I>,
    lent: Option<Lent>,
}

impl<'a, M: Manager, I: IdleSet> Rescue<'a, M, I> {
    /// `None`: there is nothing in the slot, and it is on its way to being filled again.
    #[inline(always)]
    fn new(core: &'a Core<M, I>, held: Held) -> Option<Self> {
        match core.slots.lent(held) {
            Ok(lent) => Some(Self { core, lent: Some(lent) }),
            Err(held) => {
                core.retire(held, Reason::Broken);
                None
            }
        }
    }

    #[inline(always)]
    fn connection(&mut self) -> &mut M::Connection {
        self.core.slots.lent_mut(self.lent.as_mut().expect(NOT_DISARMED))
    }

    #[inline(always)]
    fn disarm(mut self) -> Lent {
        self.lent.take().expect(NOT_DISARMED)
    }
}

const NOT_DISARMED: &str = "a rescue is disarmed once, and last";

impl<M: Manager, I: IdleSet> Drop for Rescue<'_, M, I> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.core.retire(lent.into_right(), Reason::Broken);
        }
    }
}

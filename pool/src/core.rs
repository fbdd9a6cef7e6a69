//! What a pool consists of. What it does is in files of their own:
//!
//! | | |
//! |---|---|
//! | [`checkout`](crate::checkout), [`checkin`](crate::checkin) | what it does a hundred million times a second |
//! | [`acquire`](crate::acquire) | waiting |
//! | [`attend`](crate::attend) | who gets what comes back |
//! | [`answers`](crate::answers) | what those are told who get nothing |
//! | [`connector`](crate::connector), [`retire`](crate::retire) | opening, checking and closing |
//! | [`upkeep`](crate::upkeep) | ages |

use std::sync::atomic::{AtomicBool as StdAtomicBool, AtomicU64 as StdAtomicU64, Ordering as StdOrdering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::closing::Closers;
use crate::config::{Config, MAX_DURATION};
use crate::connector::Job;
use crate::error::ConnectError;
use crate::extras::Extras;
use crate::hooks::{Hooks, LastFailure};
use crate::idle::IdleSet;
use crate::loans::LoanWatch;
use crate::notices::Notices;
use crate::reserve::Reserve;
use crate::slot::{NEVER, SlotTable};
use crate::spin::Spin;
use crate::supply::Supply;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, now};
use crate::timing::Clocks;
use crate::upkeep::Plan;
use crate::waiters::{EXTRAS, Waiters};
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
}

/// The moment at which a time that begins at `since` is over. A time that no clock will ever show is cut.
pub(crate) fn end_of(since: Instant, time: Duration) -> Instant {
    since + time.min(MAX_DURATION)
}

/// A duration in ticks, never zero unless the duration is.
pub(crate) fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER)
}

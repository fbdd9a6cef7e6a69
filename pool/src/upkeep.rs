//! What happens by itself: the tick, deadlines of async waiters, retries, ages, `keepalive`, `min_idle`.
//!
//! One thread per pool, asleep between beats. A beat comes as often as the shortest age among the options asks for,
//! between [`SHORTEST_PERIOD`] and [`LONGEST_PERIOD`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::checkin::VALIDATED_FOR;
use crate::config::Config;
use crate::connector::Job;
use crate::core::{Core, ticks};
use crate::events::CloseReason;
use crate::foreign::log;
use crate::gaps::Gaps;
use crate::idle::IdleSet;
use crate::slot::{Held, NEVER, Phase};
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Condvar, Mutex, now, thread};
use crate::waiters::{CLOSED, NOTIFY, RETIRE};

/// The shortest time between two beats.
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);
/// The longest time between two beats.
const LONGEST_PERIOD: Duration = Duration::from_secs(1);
/// Ages are seen this fraction of their option late at most.
const BEATS_PER_AGE: u32 = 10;
/// Lifetimes are shortened by up to a tenth at random, so that connections opened together do not end together; that
/// takes several beats in a tenth.
const BEATS_PER_LIFETIME: u32 = 40;

/// When the upkeep thread is to wake next.
pub(crate) struct Plan {
    orders: Mutex<Orders>,
    ordered: Condvar,
}

struct Orders {
    /// Somebody needs it at this time.
    nudge: Option<Instant>,
    stopped: bool,
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self { orders: Mutex::new(Orders { nudge: None, stopped: false }), ordered: Condvar::default() }
    }

    /// Makes the thread wake at `at` at the latest.
    pub(crate) fn nudge(&self, at: Instant) {
        let mut orders = self.orders.lock();
        if orders.nudge.is_none_or(|nudge| at < nudge) {
            orders.nudge = Some(at);
            drop(orders);
            self.ordered.notify_one();
        }
    }

    pub(crate) fn stop(&self) {
        self.orders.lock().stopped = true;
        self.ordered.notify_one();
    }

    /// Sleeps until `beat_at`, or a nudge before it. `false`: the pool is gone.
    fn sleep(&self, beat_at: Instant) -> bool {
        let mut orders = self.orders.lock();
        loop {
            if orders.stopped {
                return false;
            }
            let wake_at = orders.nudge.map_or(beat_at, |nudge| nudge.min(beat_at));
            if wake_at <= now() {
                orders.nudge = None;
                return true;
            }
            orders = self.ordered.wait_until(orders, Some(wake_at));
        }
    }
}

/// When the upkeep thread beats.
pub(crate) struct Rhythm {
    period: Duration,
    pub(crate) beat_at: Instant,
    gaps: Gaps,
}

impl Rhythm {
    pub(crate) fn new(config: &Config, time: Instant) -> Self {
        let ages = [config.idle_timeout, config.validate_after_idle, config.keepalive, config.leak_after];
        let period = |age: Option<Duration>, beats: u32| age.map(|age| age / beats);
        let shortest = ages
            .into_iter()
            .map(|age| period(age, BEATS_PER_AGE))
            .chain([period(config.max_lifetime, BEATS_PER_LIFETIME)])
            .flatten()
            .min()
            .unwrap_or(LONGEST_PERIOD);
        let period = shortest.clamp(SHORTEST_PERIOD, LONGEST_PERIOD);
        Self { period, beat_at: time + period, gaps: Gaps::default() }
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Starts the upkeep thread.
    pub(crate) fn start_upkeep(self: &Arc<Self>) -> std::io::Result<()> {
        let core = Arc::clone(self);
        let name = format!("{}-upkeep", self.config.name);
        thread::Builder::new().name(name).spawn(move || core.keep_up()).map(drop)
    }

    fn keep_up(&self) {
        let mut rhythm = Rhythm::new(&self.config, now());
        while self.plan.sleep(rhythm.beat_at) {
            self.beat(&mut rhythm, now());
        }
    }

    /// What there is to do at `time`: some of it whenever the thread wakes, the rest when the next beat is due.
    pub(crate) fn beat(&self, rhythm: &mut Rhythm, time: Instant) {
        let tick = ticks(time.saturating_duration_since(self.started));
        // Never back, whatever the clock does; this thread alone writes it.
        let tick = tick.max(self.tick.load(Ordering::Relaxed));
        self.tick.store(tick, Ordering::Relaxed);
        let (uncollected, take_back_at) = self.waiters.take_back(time);
        for held in uncollected {
            log!(warn, self.config.name, "a task does not come for its connection; somebody else gets it");
            self.make_idle(held);
        }
        for at in [self.waiters.ring_due(time), self.closers.ring_due(time), take_back_at].into_iter().flatten() {
            self.plan.nudge(at);
        }
        if time >= rhythm.beat_at {
            let due = ticks(rhythm.beat_at.saturating_duration_since(self.started));
            rhythm.gaps.beat(due, tick);
            self.reap(&rhythm.gaps);
            self.keep_alive();
            self.watch_loans();
            rhythm.beat_at = time + rhythm.period;
        }
        self.demand();
        let retry_at = self.supply.lock().retry_at();
        if let Some(retry_at) = retry_at.filter(|retry_at| *retry_at > time) {
            self.plan.nudge(retry_at);
        }
        self.workers.help(|job| self.run(job));
        // A duty, since a sweep of a queue takes out what it gives back, also while the pool is closed; and a net, since a woken
        // task that is never polled again keeps its wake to itself.
        let attention = self.waiters.attention();
        if attention & RETIRE != 0 {
            self.retire_idle();
        }
        if attention & (NOTIFY | CLOSED) != 0 {
            self.attend();
        }
    }

    /// Closes what is too old, and sets aside what nobody needed since the last beat.
    fn reap(&self, gaps: &Gaps) {
        let tick = self.tick.load(Ordering::Relaxed);
        let idle_timeout = self.config.idle_timeout.map_or(NEVER, ticks);
        let mut spare = self.slots.state().idle.saturating_sub(self.config.min_idle);
        let mut doomed: Vec<Held> = Vec::new();
        let mut choose = |index: usize| {
            let slot = self.slots.slot_at(index);
            if tick >= slot.expires_at.load(Ordering::Relaxed) {
                spare = spare.saturating_sub(1);
                return true;
            }
            let unused = gaps.awake(slot.idle_since.load(Ordering::Relaxed), tick);
            let chosen = unused >= idle_timeout && spare > 0;
            spare -= usize::from(chosen);
            chosen
        };
        // A sweep of a queue takes every connection out for a moment; most beats find nothing to do.
        let any = (0..self.slots.len()).any(|index| {
            let is_idle = self.slots.phase_is(index, Phase::Idle) || self.slots.phase_is(index, Phase::Reserved);
            let slot = self.slots.slot_at(index);
            let unused = gaps.awake(slot.idle_since.load(Ordering::Relaxed), tick);
            is_idle && (tick >= slot.expires_at.load(Ordering::Relaxed) || unused >= idle_timeout)
        });
        if any {
            self.reserve.sweep(&self.slots, &mut choose, &mut doomed);
            self.idle.sweep(&self.slots, &mut choose, &mut doomed);
        }
        for held in doomed {
            let expired = tick >= self.slots.slot(&held).expires_at.load(Ordering::Relaxed);
            self.retire(held, if expired { CloseReason::Lifetime } else { CloseReason::IdleTimeout });
        }
        if self.config.idle_timeout.is_some() && !self.reserve.take_drawn() {
            self.set_aside_the_oldest();
        }
    }

    /// Moves the connection that has lain idle longest into the reserve, and more than one when there are many.
    pub(crate) fn set_aside_the_oldest(&self) {
        let mut by_age: Vec<(u64, usize)> = (0..self.slots.len())
            .filter(|&index| self.slots.phase_is(index, Phase::Idle))
            .map(|index| (self.slots.slot_at(index).idle_since.load(Ordering::Relaxed), index))
            .collect();
        by_age.sort_unstable();
        by_age.truncate(by_age.len().div_ceil(8));
        if by_age.is_empty() {
            return;
        }
        let mut chosen = Vec::new();
        self.borrowed_by_upkeep.fetch_add(by_age.len(), Ordering::SeqCst);
        self.idle.sweep(&self.slots, &mut |index| by_age.iter().any(|(_, oldest)| *oldest == index), &mut chosen);
        for held in chosen {
            self.reserve.set_aside(&self.slots, held);
        }
        // The beat asks for demand next.
        self.borrowed_by_upkeep.fetch_sub(by_age.len(), Ordering::SeqCst);
        self.attend_after_setting_aside();
    }

    /// The look that follows a checkin into the reserve like any other: somebody may have registered while the connection
    /// was in our hands. Model-checked: `a_connection_set_aside_is_found`.
    fn attend_after_setting_aside(&self) {
        fence(Ordering::SeqCst);
        if self.waiters.attention() != 0 {
            self.attend_after_give();
        }
    }

    /// Validates connections that lay idle for long, a few at a time, so that what lies between the pool and the database
    /// does not forget them, and the dead are replaced before somebody needs them.
    pub(crate) fn keep_alive(&self) {
        let Some(keepalive) = self.config.keepalive.map(ticks) else { return };
        let tick = self.tick.load(Ordering::Relaxed);
        let is_due = |index: usize| {
            let slot = self.slots.slot_at(index);
            let last = slot.checked_at.load(Ordering::Relaxed).max(match slot.idle_since.load(Ordering::Relaxed) {
                NEVER => 0,
                idle_since => idle_since,
            });
            tick.saturating_sub(last) >= keepalive
        };
        let is_idle = |index| self.slots.phase_is(index, Phase::Idle) || self.slots.phase_is(index, Phase::Reserved);
        let mut room = self.config.max_connecting.saturating_sub(self.validating.load(Ordering::Relaxed));
        if room == 0 || !(0..self.slots.len()).any(|index| is_idle(index) && is_due(index)) {
            return;
        }
        let mut borrowed = 0;
        let mut choose = |index: usize| {
            let is_chosen = room > 0 && is_due(index);
            room -= usize::from(is_chosen);
            if is_chosen {
                // Before it is taken: it stays one of those that `min_idle` asks for.
                self.borrowed_by_upkeep.fetch_add(1, Ordering::SeqCst);
                borrowed += 1;
            }
            is_chosen
        };
        let mut chosen = Vec::new();
        self.reserve.sweep(&self.slots, &mut choose, &mut chosen);
        self.idle.sweep(&self.slots, &mut choose, &mut chosen);
        let missed = borrowed - chosen.len();
        if missed > 0 {
            self.borrowed_by_upkeep.fetch_sub(missed, Ordering::SeqCst);
            self.demand();
        }
        for held in chosen {
            self.validating.fetch_add(1, Ordering::Relaxed);
            self.submit_check(Job::KeepAlive, held);
        }
        // A sweep of a queue takes out what it gives back, so somebody may have looked in vain, also whoever closed the pool.
        if self.waiters.attention() & (NOTIFY | CLOSED) != 0 {
            self.attend();
        }
    }

    /// A connection that nobody had asked for is valid. That is no use of it: it stays as old as it was, in the reserve.
    pub(crate) fn kept_alive(&self, held: Held) {
        let slot = self.slots.slot(&held);
        let tick = self.ticks_now();
        slot.checked_at.store(tick, Ordering::Relaxed);
        let expires_at = slot.expires_at.load(Ordering::Relaxed);
        slot.due_at
            .store(expires_at.min(tick.saturating_add(self.validate_after.max(VALIDATED_FOR))), Ordering::Relaxed);
        self.reserve.set_aside(&self.slots, held);
        self.attend_after_setting_aside();
    }
}

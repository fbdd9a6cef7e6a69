//! What happens by itself: the tick, deadlines of async waiters, retries, ages, `min_idle`.
//!
//! One thread per pool, asleep between beats. A beat comes as often as the shortest age among the options asks for,
//! between [`SHORTEST_PERIOD`] and [`LONGEST_PERIOD`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, Reason, ticks};
use crate::idle::IdleSet;
use crate::slot::{Held, NEVER, Phase};
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Condvar, Mutex, now, thread};
use crate::waiters::NOTIFY;

/// The shortest time between two beats.
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);
/// The longest time between two beats.
const LONGEST_PERIOD: Duration = Duration::from_secs(1);
/// Ages are seen this fraction of their option late at most.
const BEATS_PER_AGE: u32 = 10;

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

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Starts the upkeep thread.
    pub(crate) fn start_upkeep(self: &Arc<Self>) -> std::io::Result<()> {
        let core = Arc::clone(self);
        let name = format!("{}-upkeep", self.config.name);
        thread::Builder::new().name(name).spawn(move || core.keep_up()).map(drop)
    }

    fn keep_up(&self) {
        let config = &self.config;
        let ages = [config.idle_timeout, config.max_lifetime, config.validate_after_idle, config.leak_after];
        let shortest = ages.into_iter().flatten().min().unwrap_or(LONGEST_PERIOD);
        let period = (shortest / BEATS_PER_AGE).clamp(SHORTEST_PERIOD, LONGEST_PERIOD);
        let mut beat_at = now() + period;
        while self.plan.sleep(beat_at) {
            let time = now();
            self.tick.store(ticks(time.saturating_duration_since(self.started)), Ordering::Relaxed);
            if let Some(next) = self.waiters.ring_due(time) {
                self.plan.nudge(next);
            }
            if time >= beat_at {
                self.reap();
                self.watch_loans();
                beat_at = time + period;
            }
            self.demand();
            let retry_at = self.supply.lock().retry_at();
            if let Some(retry_at) = retry_at.filter(|retry_at| *retry_at > time) {
                self.plan.nudge(retry_at);
            }
            self.workers.help(|job| self.run(job));
            // A duty, since a sweep of a queue takes out what it gives back; and a net, since a woken task that is never
            // polled again keeps its wake to itself.
            if self.waiters.attention() & NOTIFY != 0 {
                self.attend();
            }
        }
    }

    /// Closes what is too old, and sets aside what nobody needed since the last beat.
    fn reap(&self) {
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
            let unused = tick.saturating_sub(slot.idle_since.load(Ordering::Relaxed));
            let chosen = unused >= idle_timeout && spare > 0;
            spare -= usize::from(chosen);
            chosen
        };
        // A sweep of a queue takes every connection out for a moment; most beats find nothing to do.
        let any = (0..self.slots.len()).any(|index| {
            let is_idle = self.slots.phase_is(index, Phase::Idle) || self.slots.phase_is(index, Phase::Reserved);
            let slot = self.slots.slot_at(index);
            let unused = tick.saturating_sub(slot.idle_since.load(Ordering::Relaxed));
            is_idle && (tick >= slot.expires_at.load(Ordering::Relaxed) || unused >= idle_timeout)
        });
        if any {
            self.reserve.sweep(&self.slots, &mut choose, &mut doomed);
            self.idle.sweep(&self.slots, &mut choose, &mut doomed);
        }
        for held in doomed {
            let expired = tick >= self.slots.slot(&held).expires_at.load(Ordering::Relaxed);
            self.retire(held, if expired { Reason::Lifetime } else { Reason::IdleTimeout });
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
        self.idle.sweep(&self.slots, &mut |index| by_age.iter().any(|(_, oldest)| *oldest == index), &mut chosen);
        for held in chosen {
            self.reserve.set_aside(&self.slots, held);
        }
        // Like any checkin: somebody may have registered while the connection was in our hands. Model-checked:
        // `a_connection_set_aside_is_found`.
        fence(Ordering::SeqCst);
        if self.waiters.attention() != 0 {
            self.attend();
        }
    }
}

//! Who gets a connection that comes back while somebody waits.

use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, tally};
use crate::events::CloseReason;
use crate::idle::IdleSet;
use crate::slot::Held;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{now, thread};
use crate::waiters::{Alarm, CLOSED, COMING, NOTIFY, RETIRE};

/// While loans are short and a woken thread is on its way, one checkin in so many looks whether it is late.
pub(crate) const LOANS_PER_LOOK: u64 = 32;

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// A connection becomes idle in a pool that wants attention.
    #[cold]
    pub(crate) fn make_idle_with_waiters(&self, held: Held) {
        let attention = self.waiters.attention_hint();
        if attention & CLOSED != 0 {
            return self.retire(held, CloseReason::PoolClosed);
        }
        let retire_calls = self.retire_calls.load(Ordering::Relaxed);
        let held = if attention & RETIRE != 0 { self.spared(held) } else { Some(held) };
        let Some(held) = held else { return };
        if attention & NOTIFY != 0 || (attention & COMING != 0 && self.is_late(&held)) {
            if !self.give_attended(held) {
                return;
            }
            if self.waiters.attention() & CLOSED != 0 {
                self.attend();
            }
        } else {
            self.idle.give(&self.slots, held);
            if self.waiters.attention() & (NOTIFY | CLOSED) != 0 {
                self.attend();
            }
        }
        // The same look as after every `give`; but what was asked about since the last call, and may stay, needs no sweep.
        // Model-checked: `a_purge_of_a_paused_pool_catches_a_checkin_*`.
        let is_spared = attention & RETIRE != 0 && self.retire_calls.load(Ordering::SeqCst) == retire_calls;
        if self.waiters.attention() & RETIRE != 0 && !is_spared {
            self.retire_idle();
        }
    }

    /// Something is up that a checkin had not seen before it gave its connection back.
    #[cold]
    pub(crate) fn attend_after_give(&self) {
        if self.waiters.attention() & RETIRE != 0 {
            self.retire_idle();
        }
        self.attend();
    }

    /// Hands a connection to the first in line if that one is overdue; else makes it idle and wakes the first. Whether it
    /// is idle now.
    ///
    /// The one it is for may be waiting for our processor, so a thread is [given way](give_way) to.
    ///
    /// All under the line's lock, so there is no need to look after the line again: whoever comes after us sees what is
    /// idle. Model-checked: `no_lost_wakeup_*`, `no_lost_handoff_*`.
    fn give_attended(&self, held: Held) -> bool {
        let mut attendant = self.waiters.look_after();
        let is_overdue = attendant.is_overdue(now, |now| self.loan_lately(&held, now));
        let alarm = if is_overdue {
            match attendant.hand_over(held) {
                Ok(alarm) => {
                    tally(&self.tallies.handoffs);
                    alarm
                }
                Err(_) => unreachable!("the line is locked and somebody in it is overdue"),
            }
        } else {
            self.idle.give(&self.slots, held);
            attendant.wake_first()
        };
        drop(attendant);
        // No alarm with a hand-over: a thread has been woken before and has not come yet.
        let is_for_thread = alarm.as_ref().map_or(is_overdue, |alarm| matches!(alarm, Alarm::Thread(_)));
        if let Some(alarm) = alarm {
            alarm.ring();
        }
        if is_for_thread {
            give_way();
        }
        !is_overdue
    }

    /// How long the loans of a slot have taken since this was last asked, on the average.
    fn loan_lately(&self, held: &Held, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.started);
        self.slots.slot(held).loan_since_last_look(u64::try_from(time.as_nanos()).ok()?).map(Duration::from_nanos)
    }

    /// Whether a thread that was woken has been on its way for too long. While loans are short, only now and then: a
    /// look at the clock costs more than the loan.
    fn is_late(&self, held: &Held) -> bool {
        let loans = self.slots.slot(held).loans.load(Ordering::Relaxed);
        (!self.spin.pays() || loans.is_multiple_of(LOANS_PER_LOOK)) && self.waiters.is_late(now())
    }

    /// Looks after the line, or after the end of a closed pool. The duty of whoever made a connection idle or ended a
    /// wake.
    #[cold]
    pub(crate) fn attend(&self) {
        loop {
            let attention = self.waiters.attention();
            if attention & CLOSED != 0 {
                return self.drain();
            }
            if attention & NOTIFY == 0 {
                return;
            }
            // Whoever ends a wake has raised NOTIFY before this fence and looks for idle connections after it; a checkin
            // that did not see NOTIFY made its connection idle before. Model-checked:
            // `a_throttled_wake_is_made_up_for_slots`.
            fence(Ordering::SeqCst);
            if !self.has_idle() {
                return;
            }
            let mut attendant = self.waiters.look_after();
            let is_overdue = attendant.is_overdue(now, |_| None);
            let alarm = if is_overdue {
                let Some(held) = self.take_idle() else { return };
                match attendant.hand_over(held) {
                    Ok(alarm) => {
                        tally(&self.tallies.handoffs);
                        alarm
                    }
                    Err(_) => unreachable!("the line is locked and somebody in it is overdue"),
                }
            } else if self.has_idle() {
                attendant.wake_first()
            } else {
                return;
            };
            drop(attendant);
            if let Some(alarm) = alarm {
                alarm.ring();
            }
            // A wake is passed on by the woken; a hand-over is not.
            if !is_overdue {
                return;
            }
        }
    }

    /// Whether there is something to give. A hint.
    fn has_idle(&self) -> bool {
        self.idle.has_idle(&self.slots) || !self.reserve.is_empty()
    }
}

/// Lets another thread have this processor, if one is waiting for it.
///
/// Whoever serves a sleeping thread does so, right after it has given its connection away. A thread whose loans are short
/// does not sleep between them: on a busy machine it would go on until the kernel takes the processor away, some milliseconds
/// later, and for as long the connection would be with somebody who cannot run. The wake-up before it has cost several times
/// as much.
fn give_way() {
    #[cfg(all(test, not(any(loom, shuttle))))]
    tests::count_way_given();
    // To a model checker it would be one more schedule to explore.
    if !cfg!(any(loom, shuttle)) {
        thread::yield_now();
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        static WAYS_GIVEN: Cell<u32> = const { Cell::new(0) };
    }

    pub(super) fn count_way_given() {
        WAYS_GIVEN.set(WAYS_GIVEN.get() + 1);
    }

    /// How often this thread has given way since this was last asked.
    pub(crate) fn ways_given() -> u32 {
        WAYS_GIVEN.replace(0)
    }
}

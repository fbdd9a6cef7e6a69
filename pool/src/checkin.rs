//! Checkin: a connection comes back and becomes idle, or goes to somebody who has waited for it.

use crate::Manager;
use crate::connector::Job;
use crate::core::Core;
use crate::events::CloseReason;
use crate::idle::IdleSet;
use crate::rescue::Rescue;
use crate::slot::{Held, Lent};
use crate::sync::atomic::{Ordering, fence};
use crate::timing::{self, Start};
use crate::waiters::{CLOSED, EXTRAS, NOTIFY, RETIRE};

/// Ticks for which a validation holds at least: long enough for the one who asked for it to wake up and take the
/// connection, or the pool would validate in circles.
pub(crate) const VALIDATED_FOR: u64 = 1_000;

impl<M: Manager, I: IdleSet> Core<M, I> {
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
        let mut rescue = Rescue::of(self, lent);
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
        let mut rescue = Rescue::of(self, lent);
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
            return self.retire(held, CloseReason::Lifetime);
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
            self.retire(held, CloseReason::PoolClosed);
        }
    }
}

//! The lock-free queue: the seed author's proposed remedy.

use crossbeam::queue::ArrayQueue;

use super::{IdleSet, sealed::Set};
use crate::slot::{Held, Phase, SlotTable};
use crate::sync::atomic::{Ordering, fence};

/// Slot numbers in a bounded lock-free queue, first in, first out.
///
/// The queue is `crossbeam`'s `ArrayQueue`, after Dmitry Vyukov's bounded MPMC queue: every thread moves the same two
/// counters, with a compare-and-swap each, and then owns one cell of the ring.
pub struct LockFreeQueue {
    idle: ArrayQueue<Held>,
}

impl IdleSet for LockFreeQueue {
    const NAME: &'static str = "lock-free";
}

#[allow(private_interfaces, reason = "callable inside the crate only")]
impl Set for LockFreeQueue {
    fn with_capacity(max_size: usize) -> Self {
        Self { idle: ArrayQueue::new(max_size) }
    }

    #[inline(always)]
    fn take<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let held = self.idle.pop()?;
        slots.mark(&held, Phase::Lent);
        Some(held)
    }

    /// `ArrayQueue::push` claims its cell by a SeqCst read-modify-write of the tail. `pop` says "empty" only after a
    /// SeqCst fence and a load of that tail, and when the tail has moved on but the cell is not yet filled it waits for
    /// it. So if the look for waiters that follows (a SeqCst load) missed a waiter, the waiter's registration comes
    /// later in the single order of SeqCst operations than the tail's move, and its pop finds the cell. Checked by
    /// random schedules and the stress test; loom cannot see into the queue.
    #[inline(never)]
    fn put<C>(&self, slots: &SlotTable<C>, held: Held) {
        slots.mark_queued(&held);
        let mut held = held;
        // There are as many cells as rights, so there is room; a refusal could only be a stale look at the head.
        while let Err(refused) = self.idle.push(held) {
            held = refused;
            fence(Ordering::SeqCst);
        }
    }

    fn has_idle<C>(&self, _slots: &SlotTable<C>) -> bool {
        !self.idle.is_empty()
    }

    /// Turns the ring once, one right at a time; the order of the rest stays.
    fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        for _ in 0..self.idle.len() {
            let Some(held) = self.take(slots) else { return };
            if choose(held.index()) { out.push(held) } else { self.give(slots, held) }
        }
    }
}

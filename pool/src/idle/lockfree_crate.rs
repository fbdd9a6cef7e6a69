//! The `lockfree` crate's queue, for the comparison.
//!
//! The crate is abandoned, has an advisory against it, and its queue says "empty" when it is not: a push swings the tail
//! and links its node afterwards, and until then everything behind that node is hidden. What saves the pool is that a
//! hidden right becomes visible when that push completes, and that whoever completed it looks for waiters next.

use lockfree::queue::Queue;

use super::{IdleSet, sealed::Set};
use crate::slot::{Held, SlotTable};
use crate::sync::atomic::{Ordering, fence};

/// Slot numbers in the `lockfree` crate's unbounded queue, first in, first out. Off by default; see the module.
///
/// Only numbers go through it: for many other types its constructor aborts the process (it makes an uninitialised value).
pub struct LockfreeCrateQueue {
    idle: Queue<usize>,
}

impl IdleSet for LockfreeCrateQueue {
    const NAME: &'static str = "lockfree";
}

#[allow(private_interfaces, reason = "callable inside the crate only")]
impl Set for LockfreeCrateQueue {
    fn with_capacity(_max_size: usize) -> Self {
        Self { idle: Queue::new() }
    }

    /// The number says which slot; the right itself is claimed at the slot's own word. That also supplies the ordering
    /// that the crate's `pop` lacks (ThreadSanitizer reports it).
    #[inline]
    fn take<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        loop {
            let index = self.idle.pop()?;
            if let Some(held) = slots.claim(index) {
                return Some(held);
            }
            // Only a number without a right could get here; there is none, but a lost slot would be worse than a turn.
        }
    }

    /// The fence orders the push before the look for waiters; a pop that missed this push because another one was
    /// unfinished is made up for by that other one's look.
    #[inline]
    fn put<C>(&self, slots: &SlotTable<C>, held: Held) {
        let index = held.index();
        slots.release(held);
        self.idle.push(index);
        fence(Ordering::SeqCst);
    }

    /// A walk over the slots: the queue itself cannot say.
    fn has_idle<C>(&self, slots: &SlotTable<C>) -> bool {
        (0..slots.len()).any(|index| slots.phase_is(index, crate::slot::Phase::Idle))
    }

    fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        for _ in 0..slots.len() {
            let Some(held) = self.take(slots) else { return };
            if choose(held.index()) { out.push(held) } else { self.give(slots, held) }
        }
    }
}

//! The idle set: which connections are free. It is the one thing in which the pools differ.
//!
//! | kind | idle set | what every thread writes to |
//! |---|---|---|
//! | [`MutexQueue`] | a stack of slot numbers under a `parking_lot` mutex | the lock's word and the stack |
//! | [`LockFreeQueue`] | a bounded `crossbeam` `ArrayQueue` of slot numbers | the queue's two counters |
//! | [`Slots`] | no queue: a state word per slot, found again through a hint per thread | nothing, as long as each thread finds its slot free |
//! | `LockfreeCrateQueue` | the `lockfree` crate's queue (feature `lockfree`) | the queue's two ends |
//!
//! # The contract of a set
//!
//! A checkin gives a right and then looks for waiters; a waiter registers and then takes. Each set must see to it that
//! at least one of them sees the other: if the checkin's look misses the waiter, then the waiter's `take` finds the right
//! (or waits for a `give` that is under way). Each set says in its `give` what provides this.

mod home;
mod lock_free;
#[cfg(feature = "lockfree")]
mod lockfree_crate;
mod mutex;
mod slots;

pub use lock_free::LockFreeQueue;
#[cfg(feature = "lockfree")]
pub use lockfree_crate::LockfreeCrateQueue;
pub use mutex::MutexQueue;
pub use slots::Slots;

/// A way to keep the set of idle connections. Sealed: the kinds are in this module.
pub trait IdleSet: sealed::Set {
    /// The kind's name in logs, tables and charts.
    const NAME: &'static str;
}

pub(crate) mod sealed {
    use crate::slot::{Held, SlotTable};

    /// What a set does. See the contract in the parent module.
    #[allow(unreachable_pub, reason = "the supertrait of a public trait, unreachable on purpose")]
    #[allow(private_interfaces, reason = "callable inside the crate only")]
    pub trait Set: Send + Sync + Sized + 'static {
        /// An empty set with room for `max_size` rights.
        fn with_capacity(max_size: usize) -> Self;

        /// Takes an idle slot and marks it lent.
        fn take<C>(&self, slots: &SlotTable<C>) -> Option<Held>;

        /// Makes a slot idle.
        fn give<C>(&self, slots: &SlotTable<C>, held: Held) {
            let index = held.index();
            self.put(slots, held);
            if self.hides() {
                self.announce(index);
            }
        }

        /// The part of [`give`](Self::give) that is all there is to it in nearly every pool, to be inlined or called as suits
        /// the set. In a set that [`hides`](Self::hides) slots [`announce`](Self::announce) must follow.
        fn put<C>(&self, slots: &SlotTable<C>, held: Held);

        /// Whether a slot that was put may not be found until it is announced.
        #[inline(always)]
        fn hides(&self) -> bool {
            false
        }

        /// Sees to it that a slot that was put is found. The look for waiters counts from here.
        fn announce(&self, _index: usize) {}

        /// Whether `take` would find something. A hint.
        fn has_idle<C>(&self, slots: &SlotTable<C>) -> bool;

        /// Takes out every idle slot that `choose` picks, without making the others unavailable for longer than a
        /// moment each. For the upkeep thread.
        fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>);

        /// Time that callers spent blocked on the set's lock, in nanoseconds; 0 for a set without one.
        #[cfg(feature = "timing")]
        fn lock_wait_ns(&self) -> u64 {
            0
        }
    }
}

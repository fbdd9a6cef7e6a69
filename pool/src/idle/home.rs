//! Which slot this thread used last.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many pools a thread remembers a home slot for. More pools share the places, which costs a search, never
/// correctness: a home is only where the search begins.
const PLACES: usize = 8;

/// A pool's key to its threads' home slots.
///
/// A home outlives the pool and the connection and is never cleaned up; a stale one costs one failed attempt. So threads,
/// pools and tasks may come and go as they like.
pub(super) struct Home {
    place: usize,
}

impl Home {
    pub(super) fn new() -> Self {
        static POOLS: AtomicU32 = AtomicU32::new(0);
        Self { place: POOLS.fetch_add(1, Ordering::Relaxed) as usize % PLACES }
    }
}

#[cfg(not(any(loom, shuttle)))]
mod per_thread {
    use std::cell::Cell;

    thread_local! {
        /// The index plus one; zero: none yet.
        static HOMES: [Cell<u32>; super::PLACES] = const { [const { Cell::new(0) }; super::PLACES] };
    }

    impl super::Home {
        /// The slot this thread used last, or a number that is no slot.
        #[inline]
        pub(in super::super) fn get(&self) -> usize {
            HOMES.with(|homes| homes[self.place].get()).wrapping_sub(1) as usize
        }

        #[inline]
        pub(in super::super) fn set(&self, index: usize) {
            HOMES.with(|homes| homes[self.place].set(index as u32 + 1));
        }
    }
}

/// Model checkers run all threads on one and repeat runs, so a memory that lasts would make runs differ.
#[cfg(any(loom, shuttle))]
impl Home {
    pub(super) fn get(&self) -> usize {
        debug_assert!(self.place < PLACES);
        usize::MAX
    }

    pub(super) fn set(&self, _index: usize) {}
}

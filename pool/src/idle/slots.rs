//! No queue at all: a state word per slot, and a hint per thread.
//!
//! A thread that returns to the slot it used last finds the slot's word and its connection in its own cache and touches
//! nothing that another thread writes. This is the idea of HikariCP's `ConcurrentBag`, Agroal and Stormpot.

use std::sync::atomic::{AtomicU32 as StdAtomicU32, Ordering as StdOrdering};

use crossbeam::utils::CachePadded;

use super::home::Home;
use super::{IdleSet, sealed::Set};
use crate::slot::{Held, Phase, SlotTable};
use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// Slots per group. Above this many, a search skips groups that are known to have nothing idle.
#[cfg(not(loom))]
const GROUP: usize = 64;
/// A model has few slots.
#[cfg(loom)]
const GROUP: usize = 2;

/// A state word per slot; takes are a compare-and-swap on a line of their own, gives a swap.
pub struct Slots {
    /// The slot each thread used last.
    home: Home,
    /// Where the next thread without a home begins its search, so that threads start apart.
    next_home: CachePadded<StdAtomicU32>,
    /// Per group: whether something in it may be idle. Empty when one group holds all slots.
    groups: Box<[CachePadded<AtomicBool>]>,
}

impl IdleSet for Slots {
    const NAME: &'static str = "slots";
}

impl Slots {
    /// Searches all slots, beginning at this thread's home.
    #[cold]
    #[inline(never)]
    fn search<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let home = match self.home.get() {
            home if home < slots.len() => home,
            _ => self.next_home.fetch_add(1, StdOrdering::Relaxed) as usize % slots.len(),
        };
        let held = if self.groups.is_empty() {
            claim_first(slots, home, slots.len()).or_else(|| claim_first(slots, 0, home))
        } else {
            let first = home / GROUP;
            let groups = self.groups.len();
            (0..groups).find_map(|step| self.search_group(slots, (first + step) % groups))
        }?;
        self.home.set(held.index());
        Some(held)
    }

    fn search_group<C>(&self, slots: &SlotTable<C>, group: usize) -> Option<Held> {
        let maybe_idle = &self.groups[group];
        if !maybe_idle.load(Ordering::Relaxed) {
            return None;
        }
        let (from, to) = (group * GROUP, slots.len().min((group + 1) * GROUP));
        if let Some(held) = claim_first(slots, from, to) {
            return Some(held);
        }
        // Nothing idle: say so, then look again. A give makes its slot idle, then reads this flag; we write the flag,
        // then read the slots. With a full barrier between the two on both sides one of them sees the other, so no idle
        // slot stays behind a lowered flag. Model-checked: `no_slot_hides_in_its_group`.
        maybe_idle.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let held = claim_first(slots, from, to)?;
        // There may be more where this one came from.
        maybe_idle.store(true, Ordering::Relaxed);
        Some(held)
    }
}

/// Claims the first idle slot of a range. Reads before it writes: a failed compare-and-swap takes the line away from the
/// thread that uses it.
fn claim_first<C>(slots: &SlotTable<C>, from: usize, to: usize) -> Option<Held> {
    (from..to).filter(|&index| slots.phase_is(index, Phase::Idle)).find_map(|index| slots.claim(index))
}

#[allow(private_interfaces, reason = "callable inside the crate only")]
impl Set for Slots {
    fn with_capacity(max_size: usize) -> Self {
        let groups = if max_size > GROUP { max_size.div_ceil(GROUP) } else { 0 };
        Self {
            home: Home::new(),
            next_home: CachePadded::new(StdAtomicU32::new(0)),
            groups: (0..groups).map(|_| CachePadded::new(AtomicBool::new(false))).collect(),
        }
    }

    #[inline(always)]
    fn take<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let home = self.home.get();
        if home < slots.len()
            && let Some(held) = slots.claim(home)
        {
            return Some(held);
        }
        self.search(slots)
    }

    /// `release` is a full barrier, and so is the fence in `announce`: the look for waiters that follows is not older than
    /// the moment the slot could be found. Model-checked: `no_lost_wakeup_slots`.
    #[inline(always)]
    fn put<C>(&self, slots: &SlotTable<C>, held: Held) {
        slots.release(held);
    }

    #[inline(always)]
    fn hides(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Something in the slot's group is idle.
    fn announce(&self, index: usize) {
        if let Some(maybe_idle) = self.groups.get(index / GROUP) {
            // SeqCst, like the swap in `release`: a relaxed load could be older than the swap (on ARM it can).
            if !maybe_idle.load(Ordering::SeqCst) {
                maybe_idle.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
            }
        }
    }

    fn has_idle<C>(&self, slots: &SlotTable<C>) -> bool {
        (0..slots.len()).any(|index| slots.phase_is(index, Phase::Idle))
    }

    fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        for index in 0..slots.len() {
            if slots.phase_is(index, Phase::Idle)
                && choose(index)
                && let Some(held) = slots.claim(index)
            {
                out.push(held);
            }
        }
    }
}

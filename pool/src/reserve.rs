//! Idle connections that the callers have not needed lately.
//!
//! A pool shrinks when its load does only if some of its connections are left alone long enough to grow old. A stack
//! does that by itself; a FIFO queue takes turns and keeps all of them young (r2d2#65), and so do threads that return to
//! a slot each. So once per beat the upkeep thread moves the connection that has lain idle longest out of the idle set
//! into this reserve, and goes on as long as nobody draws on it. Callers draw only when the idle set is empty. What
//! stays here for `idle_timeout` was not needed for `idle_timeout`, whatever the kind of idle set.
//!
//! The callers' fast path does not know of it.

use crate::slot::{Held, Phase, SlotTable};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A stack of rights beside the idle set.
pub(crate) struct Reserve {
    set_aside: Mutex<Vec<Held>>,
    /// How many that are, so that callers who find nothing idle do not all meet at the lock. Written under it; whoever
    /// waits has a fence between its registration and this, and whoever sets aside between this and its look for waiters.
    count: AtomicUsize,
    /// Whether somebody drew since the upkeep thread last asked.
    drawn: AtomicBool,
}

impl Reserve {
    pub(crate) fn new() -> Self {
        Self { set_aside: Mutex::new(Vec::new()), count: AtomicUsize::new(0), drawn: AtomicBool::new(false) }
    }

    /// Takes what was set aside last. Model-checked: `a_connection_set_aside_is_found`.
    #[inline]
    pub(crate) fn draw<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        if self.is_empty() { None } else { self.draw_one(slots) }
    }

    #[cold]
    fn draw_one<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let mut set_aside = self.set_aside.lock();
        let held = set_aside.pop()?;
        self.count.store(set_aside.len(), Ordering::Relaxed);
        drop(set_aside);
        slots.mark(&held, Phase::Lent);
        self.drawn.store(true, Ordering::Relaxed);
        Some(held)
    }

    pub(crate) fn set_aside<C>(&self, slots: &SlotTable<C>, held: Held) {
        slots.mark(&held, Phase::Reserved);
        let mut set_aside = self.set_aside.lock();
        set_aside.push(held);
        self.count.store(set_aside.len(), Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Whether anybody drew since the last call.
    pub(crate) fn take_drawn(&self) -> bool {
        self.drawn.swap(false, Ordering::Relaxed)
    }

    /// Takes out everything that `choose` picks.
    pub(crate) fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        let taken = out.len();
        let mut set_aside = self.set_aside.lock();
        out.extend(set_aside.extract_if(.., |held| choose(held.index())));
        self.count.store(set_aside.len(), Ordering::Relaxed);
        drop(set_aside);
        for held in &out[taken..] {
            slots.mark(held, Phase::Lent);
        }
    }
}

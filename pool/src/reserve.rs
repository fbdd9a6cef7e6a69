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
use crate::sync::atomic::{AtomicBool, Ordering};

/// A stack of rights beside the idle set.
pub(crate) struct Reserve {
    set_aside: Mutex<Vec<Held>>,
    /// Whether somebody drew since the upkeep thread last asked.
    drawn: AtomicBool,
}

impl Reserve {
    pub(crate) fn new() -> Self {
        Self { set_aside: Mutex::new(Vec::new()), drawn: AtomicBool::new(false) }
    }

    /// Takes what was set aside last. The lock orders it with [`set_aside`](Self::set_aside) as a waiter needs it.
    pub(crate) fn draw<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let held = self.set_aside.lock().pop()?;
        slots.mark(&held, Phase::Lent);
        self.drawn.store(true, Ordering::Relaxed);
        Some(held)
    }

    pub(crate) fn set_aside<C>(&self, slots: &SlotTable<C>, held: Held) {
        slots.mark(&held, Phase::Reserved);
        self.set_aside.lock().push(held);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set_aside.lock().is_empty()
    }

    /// Whether anybody drew since the last call.
    pub(crate) fn take_drawn(&self) -> bool {
        self.drawn.swap(false, Ordering::Relaxed)
    }

    /// Takes out everything that `choose` picks.
    pub(crate) fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        let taken = out.len();
        out.extend(self.set_aside.lock().extract_if(.., |held| choose(held.index())));
        for held in &out[taken..] {
            slots.mark(held, Phase::Lent);
        }
    }
}

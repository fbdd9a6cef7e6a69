//! Holding callers back for a while, for a fail-over or a migration, without failing them.

use crate::Manager;
use crate::core::{Core, tally};
use crate::idle::IdleSet;
use crate::notices::Notice;
use crate::sync::atomic::{Ordering, fence};
use crate::waiters::PAUSED;

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Newcomers see the bit when they look for an idle connection, so they stand in line; the line's own code serves
    /// nobody while it is up.
    pub(crate) fn pause(&self) {
        self.notices.add_if(|| self.set_paused(true), Notice::Paused);
        self.tell_notices();
    }

    /// Lowers the bit and serves the line: with what is idle, and with what is opened for it.
    pub(crate) fn resume(&self) {
        self.notices.add_if(|| self.set_paused(false), Notice::Resumed);
        self.tell_notices();
        // What came back meanwhile found nobody to wake. Woken threads pass a wake on; tasks may never come, so there is
        // a wake for each connection, and one look more: a connection that is on its way back is either found by it, or
        // finds the bit lowered. Model-checked: `a_resumption_loses_no_*`.
        fence(Ordering::SeqCst);
        for _ in 0..=self.slots.state().idle {
            self.attend();
        }
        self.demand();
    }

    /// Raises or lowers the bit. Whether it was the other way; under the notices' lock, so nobody comes in between.
    fn set_paused(&self, is_paused: bool) -> bool {
        if self.is_paused() == is_paused {
            return false;
        }
        self.waiters.set(PAUSED, is_paused);
        if is_paused {
            tally(&self.tallies.pauses);
        }
        true
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.waiters.attention_hint() & PAUSED != 0
    }
}

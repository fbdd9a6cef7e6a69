//! Holding callers back for a while, for a fail-over or a migration, without failing them.

use crate::Manager;
use crate::core::Core;
use crate::idle::IdleSet;
use crate::sync::atomic::{Ordering, fence};
use crate::waiters::PAUSED;

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Newcomers see the bit when they look for an idle connection, so they stand in line; the line's own code serves
    /// nobody while it is up.
    pub(crate) fn pause(&self) {
        tracing::info!(db.client.connection.pool.name = %self.config.name, "pausing");
        self.waiters.set(PAUSED, true);
    }

    /// Lowers the bit and serves the line: with what is idle, and with what is opened for it.
    pub(crate) fn resume(&self) {
        tracing::info!(db.client.connection.pool.name = %self.config.name, "resuming");
        self.waiters.set(PAUSED, false);
        // What came back meanwhile found nobody to wake. Woken threads pass a wake on; tasks may never come, so there is
        // a wake for each connection, and one look more: a connection that is on its way back is either found by it, or
        // finds the bit lowered. Model-checked: `a_resumption_loses_no_*`.
        fence(Ordering::SeqCst);
        for _ in 0..=self.slots.state().idle {
            self.attend();
        }
        self.demand();
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.waiters.attention_hint() & PAUSED != 0
    }
}

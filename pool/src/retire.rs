//! Connections that have to go: the surplus after [`resize`](crate::Pool::resize), and everything that was opened before
//! a [`purge`](crate::Pool::purge).
//!
//! Slots are a fixed table, so that connections stay where they are; `resize` changes how many of them may be in use.
//! Each slot knows in which epoch its connection began to be opened, and `purge` begins a new epoch.
//!
//! # How a lent connection is caught when it comes back
//!
//! Whoever makes connections superfluous books it in the supply, raises [`RETIRE`] in the attention word that every
//! checkin and checkout reads anyway, and sweeps what is idle. While the bit is up, a checkin and a checkout ask the
//! supply about their connection ([`spared`](Core::spared)). The bit is lowered by whoever books the last such connection
//! as leaving, all under the supply's lock, so it is up exactly as long as there are any.
//!
//! So no such connection is lent once `purge` or `resize` has returned: a checkout that begins then sees the bit.
//! Model-checked: `nobody_is_lent_an_old_connection_*`.
//!
//! And none stays idle: a checkin gives its connection back, with a full barrier, and looks at the word again; the sweep
//! looks for idle connections after the bit is up. At least one of the two sees the other, and then that one closes the
//! connection. Model-checked: `a_purge_catches_a_checkin_*`, `a_shrink_catches_a_checkin_*`. A checkin that saw the bit
//! and was told that its connection may stay compares [`Core::retire_calls`] before and after instead, so that not every
//! checkin sweeps while one loan lasts. (What a sweep of the upkeep thread holds in its hands in that very moment is
//! found at its next beat.)

use crate::Manager;
use crate::core::{Core, tally};
use crate::error::ConfigError;
use crate::events::CloseReason;
use crate::foreign::log;
use crate::idle::IdleSet;
use crate::slot::{Held, Phase};
use crate::supply::Supply;
use crate::sync::atomic::{Ordering, fence};
use crate::waiters::{CLOSED, NOTIFY, RETIRE};

impl<M: Manager, I: IdleSet> Core<M, I> {
    pub(crate) fn resize(&self, max_size: usize) -> Result<(), ConfigError> {
        let error = |problem| Err(ConfigError { field: "max_size", problem });
        if max_size == 0 {
            return error("must be at least 1".into());
        }
        let capacity = self.slots.len();
        if max_size > capacity {
            return error(format!(
                "{max_size} is above the capacity, which was fixed at {capacity} when the pool was built"
            ));
        }
        log!(info, self.config.name, max_size, "resizing");
        let must_retire = {
            let mut supply = self.supply.lock();
            supply.resize(max_size);
            self.max_size.store(max_size, Ordering::Relaxed);
            self.call_for_retiring(&supply)
        };
        if must_retire {
            self.retire_idle();
        }
        self.notify_supply_changed();
        self.demand();
        Ok(())
    }

    pub(crate) fn purge(&self) {
        log!(info, self.config.name, "purging");
        let must_retire = {
            let mut supply = self.supply.lock();
            supply.begin_epoch();
            self.call_for_retiring(&supply)
        };
        if must_retire {
            self.retire_idle();
        }
    }

    /// Announces that the supply has changed its mind about what may stay. Whether anything has to go.
    fn call_for_retiring(&self, supply: &Supply<M::Error>) -> bool {
        self.retire_calls.fetch_add(1, Ordering::SeqCst);
        self.update_retire(supply);
        supply.must_retire()
    }

    /// Raises or lowers the bit as the accounts demand.
    pub(crate) fn update_retire(&self, supply: &Supply<M::Error>) {
        let wanted = if supply.must_retire() { RETIRE } else { 0 };
        // Written under the supply's lock only, which we have.
        if self.waiters.attention_hint() & RETIRE != wanted {
            self.waiters.set(RETIRE, wanted != 0);
        }
    }

    /// Books that a connection will be closed or detached: its slot is closing from now on.
    pub(crate) fn begin_leaving(&self, held: &Held) {
        let mut supply = self.supply.lock();
        self.book_leaving(&mut supply, held);
    }

    fn book_leaving(&self, supply: &mut Supply<M::Error>, held: &Held) {
        self.slots.mark(held, Phase::Closing);
        supply.begin_leaving(self.slots.slot(held).epoch.load(Ordering::Relaxed));
        self.update_retire(supply);
    }

    /// The slot has no connection any more and may get a new one, if [`demand`](Self::demand) is called next.
    /// Model-checked: `a_vacant_slot_is_not_forgotten`.
    pub(crate) fn vacate(&self, held: Held) {
        {
            let mut supply = self.supply.lock();
            let was_leaving = self.slots.phase_is(held.index(), Phase::Closing);
            let epoch = self.slots.slot(&held).epoch.load(Ordering::Relaxed);
            self.slots.mark(&held, Phase::Vacant);
            if was_leaving {
                supply.end_leaving(held);
            } else {
                supply.put_back(held, epoch);
            }
            self.update_retire(&supply);
        }
        self.notify_supply_changed();
    }

    /// The same connection, unless it is one that has to go; then it is being closed.
    #[cold]
    pub(crate) fn spared(&self, held: Held) -> Option<Held> {
        let reason = {
            let mut supply = self.supply.lock();
            let reason = if self.slots.slot(&held).epoch.load(Ordering::Relaxed) != supply.epoch() {
                CloseReason::Purged
            } else if supply.surplus() > 0 {
                CloseReason::Surplus
            } else {
                return Some(held);
            };
            self.book_leaving(&mut supply, &held);
            reason
        };
        self.close_later(held, reason);
        None
    }

    /// The same, for a caller who has not looked whether anything has to go.
    #[inline]
    pub(crate) fn spared_if_asked(&self, held: Held) -> Option<Held> {
        if self.waiters.attention_hint() & RETIRE == 0 { Some(held) } else { self.spared(held) }
    }

    /// Closes what is idle and has to go.
    #[cold]
    pub(crate) fn retire_idle(&self) {
        // The bit is up; now look. Partner: a set's `give`, then `attention`.
        fence(Ordering::SeqCst);
        let (epoch, mut surplus) = {
            let supply = self.supply.lock();
            (supply.epoch(), supply.surplus())
        };
        let mut choose = |index: usize| {
            let is_old = self.slots.slot_at(index).epoch.load(Ordering::Relaxed) != epoch;
            let is_chosen = is_old || surplus > 0;
            surplus = surplus.saturating_sub(usize::from(is_chosen));
            is_chosen
        };
        let mut chosen = Vec::new();
        // What was needed least goes first.
        self.reserve.sweep(&self.slots, &mut choose, &mut chosen);
        self.idle.sweep(&self.slots, &mut choose, &mut chosen);
        // The choice was a guess; the accounts decide.
        for held in chosen {
            if let Some(held) = self.spared(held) {
                self.make_idle(held);
            }
        }
        // A sweep of a queue takes out what it gives back, so somebody may have looked in vain.
        if self.waiters.attention() & (NOTIFY | CLOSED) != 0 {
            self.attend();
        }
    }

    /// Ends a connection. Closing it may block, so a worker does it; the slot is vacant when that is done.
    #[cold]
    pub(crate) fn retire(&self, held: Held, reason: CloseReason) {
        self.begin_leaving(&held);
        self.close_later(held, reason);
    }

    /// The rest of it, for a connection that is booked as leaving.
    fn close_later(&self, held: Held, reason: CloseReason) {
        match reason {
            CloseReason::Broken => tally(&self.tallies.broken),
            CloseReason::IdleTimeout => tally(&self.tallies.idle_timeouts),
            CloseReason::Lifetime => tally(&self.tallies.lifetime_ends),
            CloseReason::Purged => tally(&self.tallies.purged),
            CloseReason::Surplus => tally(&self.tallies.surplus),
            CloseReason::PoolClosed => {}
        }
        self.note_retired(&held, reason);
        log!(debug, self.config.name, slot = held.index(), ?reason, "closing a connection");
        self.submit(crate::connector::Job::Close(held));
    }
}

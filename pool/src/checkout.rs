//! Checkout: an idle connection, looked at and counted.
//!
//! What a checkout and a checkin consist of is inlined for certain. Left to itself the compiler returns a guard through
//! memory, in pieces that are then read back as one: the processor stalls on that for twice as long as all the rest.

use crate::Manager;
use crate::connector::Job;
use crate::core::Core;
use crate::events::CloseReason;
use crate::extras::Caller;
use crate::idle::IdleSet;
use crate::rescue::Rescue;
use crate::slot::{Held, Lent};
use crate::sync::atomic::{Ordering, fence};
use crate::timing::{self, Start};
use crate::waiters::{BARRED, EXTRAS, RETIRE};

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// An idle connection that may be lent, if there is one for newcomers.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn checkout(&self) -> Option<Lent> {
        self.checkout_for(Caller::here())
    }

    #[inline(always)]
    pub(crate) fn checkout_for(&self, caller: Caller) -> Option<Lent> {
        let attention = self.waiters.attention_hint();
        if attention & (BARRED | EXTRAS) != 0 {
            return self.checkout_with_extras(attention, caller);
        }
        let start = Start::now();
        let held = self.idle.take(&self.slots)?;
        let lent = match self.examine(held) {
            Ok(lent) => {
                self.slots.slot(lent.right()).count_loan();
                lent
            }
            Err(due) => self.look_further(due, caller)?,
        };
        self.clocks.book(timing::Phase::Checkout, start);
        Some(lent)
    }

    /// The same in a pool that was asked to do something for each loan, if newcomers are not barred.
    #[cold]
    #[inline(never)]
    fn checkout_with_extras(&self, attention: u32, caller: Caller) -> Option<Lent> {
        if attention & BARRED != 0 {
            return None;
        }
        let start = Start::now();
        let held = self.idle.take(&self.slots)?;
        let lent = self.inspect(held, caller)?;
        self.clocks.book(timing::Phase::Checkout, start);
        Some(lent)
    }

    /// Lends the connection, if it may be lent; else the next one that may.
    #[inline]
    fn inspect(&self, held: Held, caller: Caller) -> Option<Lent> {
        match self.examine_to_lend(held, caller) {
            Ok(lent) => Some(lent),
            Err(due) => self.look_further(due, caller),
        }
    }

    #[inline]
    fn examine_to_lend(&self, held: Held, caller: Caller) -> Result<Lent, Option<Held>> {
        let lent = self.examine(held)?;
        if self.extras.is_some() {
            return self.lend(lent, caller).ok_or(None);
        }
        self.slots.slot(lent.right()).count_loan();
        Ok(lent)
    }

    /// The connection, if it may be lent. `Err` has it when it must be validated first and enough are already.
    #[inline(always)]
    fn examine(&self, held: Held) -> Result<Lent, Option<Held>> {
        let slot = self.slots.slot(&held);
        if self.tick.load(Ordering::Relaxed) >= slot.due_at.load(Ordering::Relaxed) {
            return Err(self.examine_closely(held));
        }
        let mut rescue = Rescue::of_taken(self, held).ok_or(None)?;
        // If it does not, what remains to be done is what a rescue does.
        if self.manager.looks_alive(rescue.connection()) { Ok(rescue.disarm()) } else { Err(None) }
    }

    /// Something is due: the connection's life is over, or it must be validated first.
    #[cold]
    fn examine_closely(&self, held: Held) -> Option<Held> {
        let slot = self.slots.slot(&held);
        if self.tick.load(Ordering::Relaxed) >= slot.expires_at.load(Ordering::Relaxed) {
            self.retire(held, CloseReason::Lifetime);
            return None;
        }
        // After a quiet time all connections are due at once; a few checks at a time are enough for whoever asks first.
        if self.validating.fetch_add(1, Ordering::Relaxed) >= self.config.max_connecting {
            return Some(held);
        }
        self.submit_check(Job::Validate, held);
        None
    }

    /// The first idle connection that may be lent. `due` may not, until some validation has ended; nor may others, but
    /// behind them there may be one that needs none.
    #[cold]
    pub(crate) fn look_further(&self, due: Option<Held>, caller: Caller) -> Option<Lent> {
        let retire_calls = due.is_none().then(|| self.retire_calls.load(Ordering::Relaxed));
        let mut passed_over = PassedOver { core: self, due: Vec::from_iter(due), retire_calls };
        loop {
            let Some(held) = self.spared_if_asked(self.take_idle()?) else { continue };
            match self.examine_to_lend(held, caller) {
                Ok(lent) => return Some(lent),
                Err(due) => passed_over.due.extend(due),
            }
        }
    }

    /// One validation fewer is under way. If there is room for another, somebody may be waiting for it.
    pub(crate) fn validation_ended(&self) {
        let before = self.validating.fetch_sub(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if before <= self.config.max_connecting {
            self.attend();
        }
    }

    /// Any idle connection that may be lent, for somebody who is already in line or has no reason to be.
    #[cold]
    pub(crate) fn look(&self, caller: Caller) -> Option<Lent> {
        if self.is_paused() { None } else { self.look_further(None, caller) }
    }

    /// The connection that was handed over, if it may be lent; else the next one that may.
    #[cold]
    pub(crate) fn inspect_handed(&self, held: Held, caller: Caller) -> Option<Lent> {
        match self.spared_if_asked(held) {
            Some(held) => self.inspect(held, caller),
            None => self.look(caller),
        }
    }

    pub(crate) fn take_idle(&self) -> Option<Held> {
        self.idle.take(&self.slots).or_else(|| self.reserve.draw(&self.slots))
    }
}

/// Connections that are due and had to be left idle. They go back also when a look at another one panics.
struct PassedOver<'a, M: Manager, I: IdleSet> {
    core: &'a Core<M, I>,
    due: Vec<Held>,
    /// As of before the first of them was taken, and asked about. `None`: one was taken by somebody who had not looked then.
    retire_calls: Option<u32>,
}

impl<M: Manager, I: IdleSet> Drop for PassedOver<'_, M, I> {
    fn drop(&mut self) {
        // Nobody needs to be told: whoever missed one of these meanwhile could not have had it.
        while let Some(due) = self.due.pop() {
            self.core.idle.give(&self.core.slots, due);
            self.core.validation_ended();
            let calls = self.core.retire_calls.load(Ordering::SeqCst);
            if self.core.waiters.attention() & RETIRE != 0 && self.retire_calls != Some(calls) {
                self.core.retire_idle();
            }
        }
    }
}

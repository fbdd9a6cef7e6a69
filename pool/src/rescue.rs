//! What happens to a connection when code of a manager panics.

use crate::Manager;
use crate::core::Core;
use crate::events::CloseReason;
use crate::idle::IdleSet;
use crate::slot::{Held, Lent};

/// Holds a right while the manager's code runs. If that code panics, or the right is simply left here, the connection is
/// retired: nobody knows what state it is in.
pub(crate) struct Rescue<'a, M: Manager, I: IdleSet> {
    core: &'a Core<M, I>,
    lent: Option<Lent>,
}

impl<'a, M: Manager, I: IdleSet> Rescue<'a, M, I> {
    #[inline(always)]
    pub(crate) fn of(core: &'a Core<M, I>, lent: Lent) -> Self {
        Self { core, lent: Some(lent) }
    }

    /// `None`: there is nothing in the slot, and it is on its way to being filled again.
    #[inline(always)]
    pub(crate) fn of_taken(core: &'a Core<M, I>, held: Held) -> Option<Self> {
        match core.slots.lent(held) {
            Ok(lent) => Some(Self::of(core, lent)),
            Err(held) => {
                core.retire(held, CloseReason::Broken);
                None
            }
        }
    }

    #[inline(always)]
    pub(crate) fn connection(&mut self) -> &mut M::Connection {
        self.core.slots.lent_mut(self.lent.as_mut().expect(NOT_DISARMED))
    }

    #[inline(always)]
    pub(crate) fn disarm(mut self) -> Lent {
        self.lent.take().expect(NOT_DISARMED)
    }
}

const NOT_DISARMED: &str = "a rescue is disarmed once, and last";

impl<M: Manager, I: IdleSet> Drop for Rescue<'_, M, I> {
    #[inline]
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.core.retire(lent.into_right(), CloseReason::Broken);
        }
    }
}

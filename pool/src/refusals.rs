//! Pauses while every new connection is refused.
//!
//! A connection that fails its validation or `on_acquire` is closed and replaced, without an error to its caller. When
//! its replacements fail, too, because the hook asks for what the database does not have, say, the pool would connect
//! and close as fast as it can. So a connection that is refused before its first loan counts like an attempt to connect
//! that failed: the first is replaced at once, and after that come the pauses of
//! [`connect_backoff`](crate::Builder::connect_backoff), one attempt at a time.
//!
//! Connections that were opened together, and die together, say one thing only. So each belongs to a generation, by the
//! number of refusals before it began to be opened, and only one of the latest generation counts.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering as StdOrdering;
use std::time::Instant;

use crate::Manager;
use crate::core::Core;
use crate::error::{Call, CallError};
use crate::idle::IdleSet;
use crate::slot::Held;
use crate::sync::atomic::Ordering;
use crate::sync::now;

/// See the module.
pub(crate) struct Refusals<E: Error + 'static> {
    /// Counts refusals, and wraps around: only whether two are equal matters.
    generation: u32,
    in_a_row: u32,
    retry_at: Option<Instant>,
    cause: Option<Arc<CallError<E>>>,
}

impl<E: Error + 'static> Default for Refusals<E> {
    fn default() -> Self {
        Self { generation: 0, in_a_row: 0, retry_at: None, cause: None }
    }
}

impl<E: Error + 'static> Refusals<E> {
    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// When the next attempt to connect may begin.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Why the pool pauses between attempts to connect, if this is why.
    pub(crate) fn cause(&self) -> Option<&Arc<CallError<E>>> {
        self.cause.as_ref().filter(|_| self.in_a_row > 1)
    }

    /// New connections pass.
    fn end(&mut self) -> Self {
        std::mem::replace(self, Self { generation: self.generation, ..Self::default() })
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// A call that decides about this connection has failed.
    pub(crate) fn book_refusal(&self, held: &Held, error: &Arc<CallError<M::Error>>) {
        if !matches!(error.call(), Call::Validate | Call::OnAcquire) {
            return; // there was a loan
        }
        if self.slots.slot(held).loans_before.load(Ordering::Relaxed)
            != self.slots.slot(held).loans.load(Ordering::Relaxed)
        {
            return self.accepted(held);
        }
        // Dropped after the lock is given up: an error's destructor is foreign code.
        let _replaced;
        let retry_at = {
            let mut supply = self.supply.lock();
            let refusals = &mut supply.refusals;
            if self.slots.slot(held).generation.load(Ordering::Relaxed) != refusals.generation {
                return;
            }
            refusals.generation = refusals.generation.wrapping_add(1);
            refusals.in_a_row = refusals.in_a_row.saturating_add(1);
            _replaced = refusals.cause.replace(Arc::clone(error));
            refusals.retry_at = refusals.in_a_row.checked_sub(2).map(|others| now() + self.config.pause_after(others));
            self.is_refusing.store(true, StdOrdering::Relaxed);
            refusals.retry_at
        };
        if let Some(retry_at) = retry_at {
            self.plan.nudge(retry_at);
        }
    }

    /// Validation has passed, and there is nothing else that could refuse the connection.
    pub(crate) fn validation_passed(&self, held: &Held) {
        if self.hooks.on_acquire.is_none() {
            self.accepted(held);
        }
    }

    /// A connection is as it should be. If it is one of the latest, the refusals have ended.
    #[inline]
    pub(crate) fn accepted(&self, held: &Held) {
        if self.is_refusing.load(StdOrdering::Relaxed) {
            self.end_refusals(held);
        }
    }

    #[cold]
    fn end_refusals(&self, held: &Held) {
        let ended = {
            let mut supply = self.supply.lock();
            if self.slots.slot(held).generation.load(Ordering::Relaxed) != supply.refusals.generation {
                return;
            }
            self.is_refusing.store(false, StdOrdering::Relaxed);
            supply.refusals.end()
        };
        drop(ended);
        // There may have been a pause, and more than one may be opened at a time again.
        self.demand();
    }
}

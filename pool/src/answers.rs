//! What callers are told who get no connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::{Core, Failure, tally};
use crate::error::AcquireError;
use crate::events::Event;
use crate::idle::IdleSet;
use crate::sync::now;
use crate::waiters::CLOSED;
use crate::{Manager, State};

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// The answer to a waiter for whom no connection will come.
    pub(crate) fn failed(&self, failure: Failure<M::Error>, since: Instant) -> AcquireError<M::Error> {
        tally(&self.tallies.failures);
        let waited = now().saturating_duration_since(since);
        let error = match failure {
            Failure::Closed => AcquireError::Closed,
            Failure::Connect(source) => AcquireError::ConnectFailed { waited, state: self.state(), source },
        };
        self.emit(Event::AcquireFailed { waited, error: &error });
        error
    }

    /// The answer to a waiter whose time is up.
    #[cold]
    pub(crate) fn timed_out(&self, waited: Duration) -> AcquireError<M::Error> {
        tally(&self.tallies.failures);
        let error = self.what_was_missing(waited);
        if !error.is_closed() {
            tally(&self.tallies.timeouts);
        }
        self.emit(Event::AcquireFailed { waited, error: &error });
        error
    }

    fn what_was_missing(&self, waited: Duration) -> AcquireError<M::Error> {
        if self.waiters.attention_hint() & CLOSED != 0 {
            return AcquireError::Closed;
        }
        let state = self.state();
        if state.is_paused {
            return AcquireError::Paused { waited, state };
        }
        let (connect_failure, refusal) = {
            let supply = self.supply.lock();
            (supply.last_failure().map(Arc::clone), supply.refusals.cause().map(Arc::clone))
        };
        if let Some(source) = connect_failure
            && (state.size < state.max_size || state.connecting > 0)
        {
            return AcquireError::ConnectFailed { waited, state, source };
        }
        // Nobody who did not wait has seen a failure of others; but what keeps the pool from opening concerns everybody.
        let seen = if waited.is_zero() { None } else { self.last_failure.within(waited) };
        let last_failure = seen.or(refusal);
        if is_exhausted(&state, last_failure.is_some()) {
            let oldest_loan = self.oldest_loan().map(Box::new);
            return AcquireError::Exhausted { waited, state, oldest_loan };
        }
        AcquireError::TimedOut { waited, state, last_failure }
    }
}

/// Whether there was nothing to be had because others had it, rather than because it was being opened or checked, or was
/// found to be no good.
pub(crate) fn is_exhausted(state: &State, has_failure: bool) -> bool {
    state.lent >= state.max_size || (state.lent + state.idle >= state.max_size && !has_failure)
}

//! The end of a pool, awaited by a thread or by a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, Failure, end_of};
use crate::error::CloseError;
use crate::foreign;
use crate::idle::IdleSet;
use crate::supply::Supply;
use crate::sync::{Mutex, now};
use crate::waiters::Alarm;

/// Tasks that wait for the pool to be empty.
#[derive(Default)]
pub(crate) struct Closers {
    waiting: Mutex<Vec<Closer>>,
}

struct Closer {
    id: u64,
    until: Instant,
    waker: Waker,
}

impl Closers {
    /// Leaves the current waker of a task; the last one wins.
    fn enter(&self, id: u64, until: Instant, waker: Waker) {
        let mut waiting = self.waiting.lock();
        let closer = Closer { id, until, waker };
        let old = match waiting.iter_mut().find(|closer| closer.id == id) {
            Some(place) => Some(std::mem::replace(place, closer)),
            None => {
                waiting.push(closer);
                None
            }
        };
        drop(waiting);
        foreign::end(old);
    }

    fn leave(&self, id: u64) {
        let mut waiting = self.waiting.lock();
        let left: Vec<_> = waiting.extract_if(.., |closer| closer.id == id).collect();
        drop(waiting);
        foreign::end(left);
    }

    /// Wakes everybody; whoever still has to wait comes back.
    pub(crate) fn ring(&self) {
        let rung = std::mem::take(&mut *self.waiting.lock());
        rung.into_iter().for_each(|closer| foreign::wake(closer.waker));
    }

    /// Wakes those whose time is up and says when the next one's is. For the upkeep thread.
    pub(crate) fn ring_due(&self, time: Instant) -> Option<Instant> {
        let mut waiting = self.waiting.lock();
        let due: Vec<_> = waiting.extract_if(.., |closer| closer.until <= time).collect();
        let next = waiting.iter().map(|closer| closer.until).min();
        drop(waiting);
        due.into_iter().for_each(|closer| foreign::wake(closer.waker));
        next
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    pub(crate) fn begin_close(&self) {
        self.supply.lock().close();
        self.waiters.fail_all(&Failure::Closed, true).into_iter().for_each(Alarm::ring);
        self.drain();
    }

    pub(crate) fn wait_until_empty(&self, deadline: Duration) -> Result<(), CloseError> {
        let since = now();
        let until = end_of(since, deadline);
        let mut supply = self.supply.lock();
        loop {
            if let Some(answer) = self.end_of_close(&supply, since, until) {
                return answer;
            }
            supply = self.supply_changed.wait_until(supply, Some(until));
        }
    }

    /// Whether closing has ended by now, and how.
    ///
    /// Under the supply's lock, under which every slot becomes vacant: so whatever was done while its connection was out,
    /// and by closing it, has been seen by whoever is told that all are closed. The words of the slots say nothing about
    /// that. Model-checked: `a_closed_pool_has_seen_every_loan_end_*`, `a_task_that_closed_a_pool_has_seen_*`.
    fn end_of_close(
        &self,
        _accounts: &Supply<M::Error>,
        since: Instant,
        until: Instant,
    ) -> Option<Result<(), CloseError>> {
        let state = self.state();
        if state.size == 0 {
            return Some(Ok(()));
        }
        let time = now();
        (time >= until).then(|| Err(CloseError { waited: time.saturating_duration_since(since), state }))
    }
}

/// A pool that is being closed. Made by [`Pool::close_async`](crate::Pool::close_async).
///
/// The pool closes at the first poll, and stays closed when this is dropped before its end.
#[must_use = "futures do nothing unless polled"]
pub struct Close<'p, M: Manager, I: IdleSet> {
    core: &'p Core<M, I>,
    deadline: Duration,
    /// When it began and when it must end, and the number of this future among those of its pool.
    begun: Option<(Instant, Instant, u64)>,
}

impl<'p, M: Manager, I: IdleSet> Close<'p, M, I> {
    pub(crate) fn new(core: &'p Core<M, I>, deadline: Duration) -> Self {
        Self { core, deadline, begun: None }
    }
}

impl<M: Manager, I: IdleSet> Future for Close<'_, M, I> {
    type Output = Result<(), CloseError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static IDS: AtomicU64 = AtomicU64::new(0);

        let core = self.core;
        let (since, until, id) = match self.begun {
            Some(begun) => begun,
            None => {
                let since = now();
                let begun = (since, end_of(since, self.deadline), IDS.fetch_add(1, Ordering::Relaxed));
                self.begun = Some(begun);
                core.begin_close();
                begun
            }
        };
        if let Some(answer) = core.end_of_close(&core.supply.lock(), since, until) {
            return Poll::Ready(answer);
        }
        // Registered, then looked again: whoever makes the last slot vacant rings after that.
        core.closers.enter(id, until, context.waker().clone());
        core.plan.nudge(until);
        match core.end_of_close(&core.supply.lock(), since, until) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl<M: Manager, I: IdleSet> Drop for Close<'_, M, I> {
    fn drop(&mut self) {
        if let Some((_, _, id)) = self.begun {
            self.core.closers.leave(id);
        }
    }
}

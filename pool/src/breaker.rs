//! Failing fast while the database is down.
//!
//! Callers wait through short outages: somebody tries to connect, with pauses, and they are served when it succeeds.
//! Through long ones they would only pile up, each with its thread or task and its own timeout. So when connecting has
//! failed, without a success in between, for [`fail_fast_after`](crate::Builder::fail_fast_after), and no connection is
//! left that could come back, the breaker opens: all waiters are told the real cause, and so is everybody who would have
//! to wait, at once. Meanwhile the pool itself tries to connect, one attempt at a time and with the usual pauses, whether
//! anybody asks or not (half-open, in the usual words). The first success closes the breaker.
//!
//! An error that trying again cannot mend ([`Manager::is_transient`]) turns callers away without a breaker, from the
//! failure to the end of the pause after it; the first caller after that has it tried again, and nobody tries it on his
//! own: a wrong password tried once a second locks accounts.

use std::sync::Arc;
use std::sync::atomic::Ordering as StdOrdering;
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, Failure};
use crate::error::ConnectError;
use crate::idle::IdleSet;
use crate::notices::Notice;
use crate::supply::{Course, Supply};
use crate::sync::now;

impl<E: std::error::Error + 'static> Course<E> {
    /// Books a failed attempt that lasted from `began` to `ended`; the next may begin at `retry_at`. Returns the error that
    /// this one supersedes.
    fn fail(
        &mut self,
        error: Arc<ConnectError<E>>,
        is_hopeless: bool,
        (began, ended): (Instant, Instant),
        retry_at: Instant,
        quiet: Duration,
    ) -> Option<Arc<ConnectError<E>>> {
        // A failure long ago says nothing about an outage if nobody has tried since. (While the breaker is open the pool
        // tries by itself; if it did not, it did not run.)
        let is_stale =
            !self.is_open && self.retry_at.is_some_and(|retry_at| began.saturating_duration_since(retry_at) > quiet);
        if is_stale {
            self.failing_since = None;
        }
        // An attempt that began before a success of another one says nothing about the time before that.
        let began = self.succeeded_at.map_or(began, |succeeded_at| succeeded_at.max(began));
        let since = self.failing_since.map_or(began, |since| since.min(began));
        self.failing_since = Some(since.min(ended));
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(retry_at);
        self.is_hopeless = is_hopeless;
        self.last_failure.replace(error)
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Books a failure. Whether the waiters must be told, since no connection is left that could come back to one; and what
    /// went before, to be dropped outside the lock.
    pub(crate) fn book_failure(
        &self,
        supply: &mut Supply<M::Error>,
        error: &Arc<ConnectError<M::Error>>,
        is_hopeless: bool,
        (began, ended): (Instant, Instant),
        retry_at: Instant,
    ) -> (bool, Option<Arc<ConnectError<M::Error>>>) {
        let patience = self.config.fail_fast_after;
        let has_live = self.has_live();
        let course = &mut supply.course;
        let quiet = patience.unwrap_or(Duration::MAX);
        let former = course.fail(Arc::clone(error), is_hopeless, (began, ended), retry_at, quiet);
        let is_open = !is_hopeless
            && !has_live
            && patience.is_some_and(|patience| {
                course.failing_since.is_some_and(|since| ended.saturating_duration_since(since) >= patience)
            });
        self.set_breaker(supply, is_open);
        let tells = (is_hopeless && !has_live) || is_open;
        // Before the waiters are told: whoever enters the line too late for that sees it.
        self.turns_away.store(tells, StdOrdering::Release);
        (tells && !self.is_paused(), former)
    }

    /// Books that a connection was opened. What went before is to be dropped outside the lock.
    pub(crate) fn book_success(&self, supply: &mut Supply<M::Error>) -> Course<M::Error> {
        self.set_breaker(supply, false);
        self.turns_away.store(false, StdOrdering::Release);
        let course = Course { succeeded_at: Some(now()), ..Course::default() };
        std::mem::replace(&mut supply.course, course)
    }

    /// Opens or closes the breaker. Whoever calls this must [`tell_notices`](Self::tell_notices) when the lock is given
    /// up.
    pub(crate) fn set_breaker(&self, supply: &mut Supply<M::Error>, is_open: bool) {
        let course = &mut supply.course;
        if course.is_open == is_open {
            return;
        }
        let time = now();
        course.is_open = is_open;
        self.is_breaker_open.store(is_open, StdOrdering::Relaxed);
        let since = |instant: Option<Instant>| time.saturating_duration_since(instant.unwrap_or(time));
        let opened_at = std::mem::replace(&mut course.opened_at, is_open.then_some(time));
        match (&course.last_failure, is_open) {
            (Some(error), true) => {
                crate::core::tally(&self.tallies.breaker_openings);
                let failing_for = since(course.failing_since);
                self.notices.add(Notice::BreakerOpened { error: Arc::clone(error), failing_for });
            }
            _ => self.notices.add(Notice::BreakerClosed { open_for: since(opened_at) }),
        }
    }

    /// The answer to somebody who would have to wait, if waiting is not worth it.
    #[inline]
    pub(crate) fn refusal(&self) -> Option<Failure<M::Error>> {
        if self.turns_away.load(StdOrdering::Acquire) { self.refusal_now() } else { None }
    }

    #[cold]
    fn refusal_now(&self) -> Option<Failure<M::Error>> {
        if self.is_paused() || self.has_live() {
            return None;
        }
        let supply = self.supply.lock();
        let course = &supply.course;
        // While an attempt is under way it may as well be waited for; with an open breaker it may not.
        let is_hopeless =
            course.is_hopeless && supply.connecting == 0 && course.retry_at.is_some_and(|retry_at| now() < retry_at);
        let source = course.last_failure.as_ref().filter(|_| is_hopeless || course.is_open)?;
        Some(Failure::Connect(Arc::clone(source)))
    }

    /// Whether there is a connection that is idle, lent or being checked.
    fn has_live(&self) -> bool {
        let state = self.slots.state();
        state.idle + state.lent + state.checking > 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::Course;
    use crate::error::ConnectError;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(course: &mut Course<Infallible>, began: Instant, ended: Instant) -> Duration {
        let error = Arc::new(ConnectError::Panicked("refused".into()));
        let _former = course.fail(error, false, (began, ended), ended + SECOND, 5 * SECOND);
        ended - course.failing_since.expect("it fails")
    }

    #[test]
    fn an_outage_begins_with_the_first_attempt_that_failed() {
        let start = Instant::now();
        let mut course = Course::default();
        assert_eq!(fail(&mut course, start, start + 3 * SECOND), 3 * SECOND, "a slow failure is an outage, too");
        assert_eq!(fail(&mut course, start + 4 * SECOND, start + 6 * SECOND), 6 * SECOND);
        // One that began before the others and failed after them.
        assert_eq!(fail(&mut course, start - SECOND, start + 7 * SECOND), 8 * SECOND);
        assert_eq!(course.failures, 3);
    }

    #[test]
    fn a_failure_long_ago_is_no_outage() {
        let start = Instant::now();
        let mut course = Course::default();
        fail(&mut course, start, start);
        // Nobody tried for an hour, or the machine slept.
        let later = start + 3600 * SECOND;
        assert_eq!(fail(&mut course, later, later), Duration::ZERO);
        // Pauses as they are between attempts do not end an outage.
        let again = later + 5 * SECOND;
        assert_eq!(fail(&mut course, again, again), 5 * SECOND);
        // Nor does a long one while the breaker is open.
        course.is_open = true;
        let after_sleep = again + 600 * SECOND;
        assert_eq!(fail(&mut course, after_sleep, after_sleep), 605 * SECOND);
    }

    #[test]
    fn an_outage_does_not_begin_before_a_success() {
        let start = Instant::now();
        let succeeded_at = Some(start + 9 * SECOND);
        let mut course = Course { succeeded_at, ..Course::default() };
        assert_eq!(fail(&mut course, start, start + 10 * SECOND), SECOND);
    }
}

//! Waiting for a connection, by blocking a thread or by awaiting.
//!
//! Both doors stand in the same line ([`waiters`](crate::waiters)) and take the same steps; they differ in how they are
//! woken.

use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, end_of, tally};
use crate::error::AcquireError;
use crate::events::Event;
use crate::extras::Caller;
use crate::guard::{Guard, OwnedGuard};
use crate::idle::{self, IdleSet};
use crate::slot::Lent;
use crate::sync::{now, park_until, thread};
use crate::timing::{Phase, Start};
use crate::waiters::{Alarm, LINE, News, Ticket};

type Acquired<M> = Result<Lent, AcquireError<<M as Manager>::Error>>;

/// A place in the line. Dropping it at any point leaves the line and passes on whatever was on its way to it.
struct InLine<B, M, I>
where
    M: Manager,
    I: IdleSet,
    B: Borrow<Core<M, I>>,
{
    core: B,
    ticket: Option<Ticket>,
    since: Instant,
    deadline: Instant,
    start: Start,
    caller: Caller,
    kind: std::marker::PhantomData<fn() -> (M, I)>,
}

impl<B, M, I> InLine<B, M, I>
where
    M: Manager,
    I: IdleSet,
    B: Borrow<Core<M, I>>,
{
    /// Enters the line at the end and looks once more. `Pending`: the alarm will ring.
    fn enter(
        core: B,
        alarm: Alarm,
        since: Instant,
        timeout: Duration,
        start: Start,
        caller: Caller,
    ) -> (Self, Poll<Acquired<M>>) {
        let deadline = end_of(since, timeout);
        let mut place = Self { core, ticket: None, since, deadline, start, caller, kind: std::marker::PhantomData };
        tally(&place.core.borrow().tallies.waits);
        let poll = match place.take_place(alarm, false) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) => place.look_before_sleep(),
        };
        (place, poll)
    }

    fn take_place(&mut self, alarm: Alarm, at_front: bool) -> Result<(), AcquireError<M::Error>> {
        let core = self.core.borrow();
        match core.waiters.enter(alarm, self.since, self.deadline, at_front) {
            Ok((ticket, is_earliest)) => {
                self.ticket = Some(ticket);
                if is_earliest {
                    core.plan.nudge(self.deadline);
                }
                Ok(())
            }
            Err(failure) => Err(core.failed(failure, self.since)),
        }
    }

    /// The look between registering and sleeping that makes sure no wake-up is lost.
    fn look_before_sleep(&mut self) -> Poll<Acquired<M>> {
        let core = self.core.borrow();
        if core.is_strict() {
            // Whoever is first gets what is idle, and that may not be us.
            core.attend();
        } else if let Some(lent) = core.look(self.caller) {
            return self.served(lent);
        }
        if let Some(ticket) = &mut self.ticket {
            core.waiters.end_look(ticket);
        }
        core.demand_in_line();
        // Looked at when we stand in line: whoever turns the waiters away later answers us, too.
        if let Some(failure) = core.refusal() {
            let error = core.failed(failure, self.since);
            self.leave();
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// After an alarm, or none: what has happened?
    ///
    /// `alarm` makes an alarm for this waiter, if a new one is needed; `waker` is the task's current one.
    fn resume(&mut self, waker: Option<&Waker>, alarm: impl Fn() -> Alarm) -> Poll<Acquired<M>> {
        loop {
            let core = self.core.borrow();
            let Some(ticket) = &mut self.ticket else { unreachable!("nobody resumes after the answer") };
            let mut news = core.waiters.news(ticket);
            if let News::None | News::LookAgain = news {
                if let News::None = news {
                    core.waiters.begin_look(ticket);
                }
                if !core.is_strict()
                    && let Some(lent) = core.look(self.caller)
                {
                    return self.served(lent);
                }
                let time = now();
                if time >= self.deadline {
                    return self.give_up(time);
                }
                let Some(ticket) = &mut self.ticket else { unreachable!("nobody else has it") };
                news = core.waiters.rearm(ticket, waker);
            }
            match news {
                News::None | News::LookAgain => return self.look_before_sleep(),
                News::Failed(failure) => {
                    let error = core.failed(failure, self.since);
                    self.leave();
                    return Poll::Ready(Err(error));
                }
                News::Handed(held) => {
                    if let Some(lent) = core.inspect_handed(held, self.caller) {
                        return self.served(lent);
                    }
                    // It was no good. We have waited longest, so we go on from the front.
                    self.leave();
                    if let Err(error) = self.take_place(alarm(), true) {
                        return Poll::Ready(Err(error));
                    }
                    if let Poll::Ready(answer) = self.look_before_sleep() {
                        return Poll::Ready(answer);
                    }
                }
            }
        }
    }

    fn served(&mut self, lent: Lent) -> Poll<Acquired<M>> {
        self.leave();
        self.core.borrow().clocks.book(Phase::Wait, self.start);
        Poll::Ready(Ok(lent))
    }

    /// The time is up. A connection that arrives in this very moment is taken all the same. Model-checked:
    /// `a_timeout_passes_its_wake_on`, `a_timeout_passes_its_handoff_on`.
    fn give_up(&mut self, time: Instant) -> Poll<Acquired<M>> {
        let core = self.core.borrow();
        if let Some(ticket) = self.ticket.take() {
            let was_looking = ticket.is_looking();
            let handed = core.waiters.leave(ticket);
            core.attend_from_outside(was_looking);
            if let Some(lent) = handed.and_then(|held| core.inspect_handed(held, self.caller)) {
                return self.served(lent);
            }
        }
        Poll::Ready(Err(self.core.borrow().timed_out(time.saturating_duration_since(self.since))))
    }

    /// Gives up the place and passes on what was on its way to it. Model-checked: `a_passed_wake_is_not_lost`,
    /// `a_passed_handoff_is_not_lost`, `a_wake_is_passed_on_by_whoever_was_served`.
    fn leave(&mut self) {
        let core = self.core.borrow();
        if let Some(ticket) = self.ticket.take() {
            let was_looking = ticket.is_looking();
            if let Some(held) = core.waiters.leave(ticket) {
                core.make_idle(held);
            }
            core.attend_from_outside(was_looking);
        }
    }
}

impl<B, M, I> Drop for InLine<B, M, I>
where
    M: Manager,
    I: IdleSet,
    B: Borrow<Core<M, I>>,
{
    fn drop(&mut self) {
        let is_cancelled = self.ticket.is_some();
        self.leave();
        if is_cancelled {
            let core = self.core.borrow();
            tally(&core.tallies.cancelled);
            core.emit(Event::AcquireCancelled { waited: now().saturating_duration_since(self.since) });
        }
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    fn is_strict(&self) -> bool {
        self.config.fairness == crate::Fairness::Strict
    }

    /// What somebody who has just left the line owes those who are still in it.
    #[inline]
    fn attend_from_outside(&self, was_looking: bool) {
        self.attend();
        // They were counted as one fewer while he looked.
        if was_looking {
            self.demand_in_line();
        }
    }

    /// What can be had without standing in line.
    fn look_as_newcomer(&self, caller: Caller) -> Option<Lent> {
        if self.waiters.attention_hint() & LINE != 0 || self.is_closed() {
            return None;
        }
        self.look(caller)
    }

    /// Blocks until there is a connection, or for `timeout`; `None`: the pool's, which nobody reads who need not wait.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn acquire(&self, timeout: Option<Duration>) -> Acquired<M> {
        match self.checkout() {
            Some(lent) => Ok(lent),
            None => self.acquire_blocking(timeout),
        }
    }

    /// The part of a blocking acquire that begins when nothing was idle.
    #[cold]
    #[track_caller]
    pub(crate) fn acquire_blocking(&self, timeout: Option<Duration>) -> Acquired<M> {
        let timeout = timeout.unwrap_or(self.config.acquire_timeout);
        let start = Start::now();
        let caller = Caller::here().waiting(self);
        if let Some(lent) = self.look_as_newcomer(caller) {
            self.clocks.book(Phase::Wait, start);
            return Ok(lent);
        }
        if timeout.is_zero() {
            return Err(self.timed_out(Duration::ZERO));
        }
        let since = now();
        if let Some(lent) = self.spin.look(since, || self.look_as_newcomer(caller)) {
            self.clocks.book(Phase::Wait, start);
            return Ok(lent);
        }
        let alarm = || Alarm::Thread(thread::current());
        let (mut place, mut poll) = InLine::enter(self, alarm(), since, timeout, start, caller);
        loop {
            match poll {
                Poll::Ready(answer) => return answer,
                Poll::Pending => park_until(place.deadline),
            }
            poll = place.resume(None, alarm);
        }
    }
}

/// A future with the state of an acquire, for both kinds of guard.
struct Waiting<B, M, I>
where
    M: Manager,
    I: IdleSet,
    B: Borrow<Core<M, I>> + Clone,
{
    core: B,
    /// `None`: the pool's.
    timeout: Option<Duration>,
    caller: Caller,
    place: Option<InLine<B, M, I>>,
}

impl<B, M, I> Waiting<B, M, I>
where
    M: Manager,
    I: IdleSet,
    B: Borrow<Core<M, I>> + Clone,
{
    #[inline(always)]
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Acquired<M>> {
        if self.place.is_none()
            && let Some(lent) = self.core.borrow().checkout_for(self.caller)
        {
            return Poll::Ready(Ok(lent));
        }
        self.poll_slowly(context)
    }

    #[cold]
    fn poll_slowly(&mut self, context: &mut Context<'_>) -> Poll<Acquired<M>> {
        let alarm = || Alarm::Task(context.waker().clone());
        let poll = match &mut self.place {
            Some(place) => place.resume(Some(context.waker()), alarm),
            None => {
                let start = Start::now();
                let core = self.core.borrow();
                let caller = self.caller.waiting(core);
                let timeout = self.timeout.unwrap_or(core.config.acquire_timeout);
                if timeout.is_zero() {
                    if let Some(lent) = core.look_as_newcomer(caller) {
                        return Poll::Ready(Ok(lent));
                    }
                    return Poll::Ready(Err(core.timed_out(Duration::ZERO)));
                }
                let (place, poll) = InLine::enter(self.core.clone(), alarm(), now(), timeout, start, caller);
                self.place = Some(place);
                poll
            }
        };
        if poll.is_ready() {
            self.place = None;
        }
        poll
    }
}

/// An acquire in progress; resolves to a [`Guard`]. Made by [`Pool::get_async`](crate::Pool::get_async).
///
/// Its time runs from the first poll. Dropping it leaves the line; a wake-up or a connection that was on its way to it
/// goes to the next waiter, and a connect that it caused goes on for whoever comes.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<'p, M: Manager, I: IdleSet = idle::Slots> {
    waiting: Waiting<&'p Core<M, I>, M, I>,
}

impl<'p, M: Manager, I: IdleSet> Acquire<'p, M, I> {
    #[track_caller]
    pub(crate) fn new(core: &'p Core<M, I>, timeout: Option<Duration>) -> Self {
        Self { waiting: Waiting { core, timeout, caller: Caller::here(), place: None } }
    }
}

impl<'p, M: Manager, I: IdleSet> Future for Acquire<'p, M, I> {
    type Output = Result<Guard<'p, M, I>, AcquireError<M::Error>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let core = self.waiting.core;
        self.waiting.poll(context).map_ok(|lent| Guard::new(core, lent))
    }
}

/// An acquire in progress that borrows nothing; resolves to an [`OwnedGuard`]. Made by
/// [`Pool::get_owned_async`](crate::Pool::get_owned_async). See [`Acquire`].
#[must_use = "futures do nothing unless polled"]
pub struct AcquireOwned<M: Manager, I: IdleSet = idle::Slots> {
    waiting: Waiting<Arc<Core<M, I>>, M, I>,
}

impl<M: Manager, I: IdleSet> AcquireOwned<M, I> {
    #[track_caller]
    pub(crate) fn new(core: Arc<Core<M, I>>, timeout: Option<Duration>) -> Self {
        Self { waiting: Waiting { core, timeout, caller: Caller::here(), place: None } }
    }
}

impl<M: Manager, I: IdleSet> Future for AcquireOwned<M, I> {
    type Output = Result<OwnedGuard<M, I>, AcquireError<M::Error>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.waiting.poll(context).map_ok(|lent| OwnedGuard::new(Arc::clone(&self.waiting.core), lent))
    }
}

impl<M: Manager, I: IdleSet> fmt::Debug for Acquire<'_, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}

impl<M: Manager, I: IdleSet> fmt::Debug for AcquireOwned<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireOwned").finish_non_exhaustive()
    }
}

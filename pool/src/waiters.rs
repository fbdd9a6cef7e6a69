//! The one line in which blocking and async acquires wait.
//!
//! # The handshake
//!
//! A waiter enters the line, looks for an idle connection once more, and only then sleeps. A checkin makes its
//! connection idle and then looks at [`attention`](Waiters::attention). With a full barrier between the two steps on
//! both sides, at least one sees the other, so no connection lies idle while a waiter sleeps. The barrier on the
//! checkin's side belongs to the idle set's `give`; on the waiter's side it is the fence in [`Waiters::enter`] and
//! [`Waiters::rearm`]. Model-checked: `no_lost_wakeup_*`.
//!
//! # Throttled wakes
//!
//! A thread takes tens of microseconds to wake. If every checkin in that time woke one more thread, they would all find
//! the connections taken by callers who did not have to wait. So one woken thread at a time is under way
//! ([`MAX_THREADS_WOKEN`]); checkins meanwhile see no attention wanted and are as fast as ever. Whoever ends a wake, by
//! leaving the line or by going back to sleep, looks after the rest of the line. Tasks are not throttled: waking one is
//! cheap, and a task may be woken and never polled again.
//!
//! On a busy machine a woken thread may have to wait for a processor for many milliseconds. So the throttle ends when the
//! first in line is overdue: [`COMING`] tells checkins that a thread is on its way, [`Waiters::is_late`] whether it has
//! been for too long, and then it is handed a connection, as a sleeper is. Model-checked:
//! `a_late_thread_is_handed_a_connection_*`.
//!
//! # Places
//!
//! A waiter keeps its place until it leaves. States of a place, all changed under the line's lock:
//!
//! | state | means | next |
//! |---|---|---|
//! | `Waiting` | asleep, or about to be | `Woken`, `Handed`, `Failed` |
//! | `Woken` | told to look again | `Waiting`, `Handed` (threads), `Failed`, gone |
//! | `Handed` | has a connection that it has not collected | gone; `Woken` (a task that does not come for it) |
//! | `Failed` | has an answer that it has not collected | gone |
//! | `Collected` | has what it came for, or its answer | gone |

mod line;
mod patience;

use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

#[cfg(all(test, loom))]
pub(crate) use self::line::COLLECT_WITHIN;
use self::line::{Line, Place, PlaceState};
use self::patience::Patience;
use crate::config::Fairness;
use crate::foreign;
use crate::slot::Held;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::thread::Thread;
use crate::sync::{Mutex, MutexGuard};

/// Threads that may be on their way from sleep to a connection at the same time.
const MAX_THREADS_WOKEN: usize = 1;

/// After a look at all deadlines, the next one comes no sooner than so much later for every waiter: with 10 000 of them
/// timeouts are a millisecond late at most.
const PAUSE_PER_WAITER: Duration = Duration::from_nanos(100);

/// Bits of [`Waiters::attention`].
///
/// A checkin that sees this bit must look after the line.
pub(crate) const NOTIFY: u32 = 1;
/// Newcomers stand in line even if something is idle.
pub(crate) const LINE: u32 = 2;
/// The pool is closed.
pub(crate) const CLOSED: u32 = 4;
/// A woken thread is on its way. A checkin looks from time to time whether it is late.
pub(crate) const COMING: u32 = 8;
/// Some connections must be retired instead of being lent (again): see [`retire`](crate::retire).
pub(crate) const RETIRE: u32 = 16;
/// Nobody is served.
pub(crate) const PAUSED: u32 = 32;
/// Something is done for each loan on request: see [`extras`](crate::extras). For as long as the pool lives.
pub(crate) const EXTRAS: u32 = 64;
/// What keeps a newcomer from taking an idle connection without a closer look.
pub(crate) const BARRED: u32 = CLOSED | LINE | RETIRE | PAUSED;

/// A time that never comes, among nanoseconds since the pool was built.
const NEVER: u64 = u64::MAX;

/// How to tell a waiter.
#[derive(Debug, Clone)]
pub(crate) enum Alarm {
    Thread(Thread),
    Task(Waker),
}

impl Alarm {
    /// Wakes the waiter. Runs an executor's code, so never under a lock.
    pub(crate) fn ring(self) {
        match self {
            Self::Thread(thread) => thread.unpark(),
            Self::Task(waker) => foreign::wake(waker),
        }
    }
}

/// A waiter's right to its place. Whoever has it must [`leave`](Waiters::leave).
#[derive(Debug)]
#[must_use = "a dropped ticket is a waiter that never leaves the line"]
pub(crate) struct Ticket {
    place: u32,
    /// It counts as [`looking`](Waiters::looking).
    is_looking: bool,
}

impl Ticket {
    /// Whether the waiter has not said yet what came of its look.
    pub(crate) fn is_looking(&self) -> bool {
        self.is_looking
    }
}

/// What a waiter finds at its place.
#[derive(Debug)]
pub(crate) enum News<F> {
    /// Nothing; sleep on.
    None,
    /// Something may be idle.
    LookAgain,
    /// A connection of its own.
    Handed(Held),
    /// No connection will come.
    Failed(F),
}

/// The line and the word that says whether anybody needs to look at it.
pub(crate) struct Waiters<F> {
    /// Read by every checkin, written only when the line changes between "nobody needs me" and "somebody does".
    attention: CachePadded<AtomicU32>,
    /// When the first in line is overdue, in nanoseconds since `started`. Valid while [`COMING`] is set.
    overdue_at: AtomicU64,
    /// Everybody in the line, in whatever state.
    count: AtomicUsize,
    /// Those that are looking for something idle at this moment: each may have a connection already.
    looking: AtomicUsize,
    line: Mutex<Line<F>>,
    fairness: Fairness,
    started: Instant,
}

impl<F: Clone> Waiters<F> {
    pub(crate) fn new(fairness: Fairness, started: Instant) -> Self {
        let bound = if let Fairness::Bounded(bound) = fairness { bound } else { Duration::ZERO };
        Self {
            attention: CachePadded::new(AtomicU32::new(0)),
            overdue_at: AtomicU64::new(NEVER),
            count: AtomicUsize::new(0),
            looking: AtomicUsize::new(0),
            line: Mutex::new(Line::new(Patience::new(bound))),
            fairness,
            started,
        }
    }

    /// The bits as they were a moment ago, for decisions that the next look will correct.
    #[inline]
    pub(crate) fn attention_hint(&self) -> u32 {
        self.attention.load(Ordering::Relaxed)
    }

    /// The bits for a checkin that has just given: its partner is the fence in `enter` and `rearm`.
    #[inline]
    pub(crate) fn attention(&self) -> u32 {
        self.attention.load(Ordering::SeqCst)
    }

    /// Whether whoever is first in line ought to have been served by `now`, though a wake is under way.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.started)) >= self.overdue_at.load(Ordering::Relaxed)
    }

    /// Acquires in the line, woken or not.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Acquires in the line that found nothing, that nothing is on its way to and that may be served.
    ///
    /// For each that still looks there is one fewer, lest a connection be opened for somebody who has just found one.
    /// Whoever ends a look therefore asks in turn whether the pool may grow.
    pub(crate) fn waiting(&self) -> usize {
        // There is room; now count. Partner: the fence in `found_nothing`.
        fence(Ordering::SeqCst);
        let line = self.line.lock();
        if line.raised & PAUSED == 0 { line.waiting.saturating_sub(self.looking.load(Ordering::Relaxed)) } else { 0 }
    }

    /// A waiter looks though nobody has told it to.
    pub(crate) fn begin_look(&self, ticket: &mut Ticket) {
        if !std::mem::replace(&mut ticket.is_looking, true) {
            self.looking.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The look that a waiter owes after [`enter`](Self::enter) or [`rearm`](Self::rearm) was in vain.
    ///
    /// It asks next whether the pool may grow; whoever makes room says so and then counts who waits. With a full barrier
    /// on both sides one sees the other. Model-checked: `a_vacant_slot_is_not_forgotten`.
    pub(crate) fn end_look(&self, ticket: &mut Ticket) {
        if std::mem::take(&mut ticket.is_looking) {
            self.looking.fetch_sub(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Raises or lowers [`RETIRE`], [`PAUSED`] or [`EXTRAS`]. Whoever raises one must look for what was idle before.
    pub(crate) fn set(&self, bit: u32, is_raised: bool) {
        let mut line = self.line.lock();
        if is_raised {
            line.raised |= bit;
        } else {
            line.raised &= !bit;
        }
        self.update_attention(&line);
    }

    /// Takes the last place, or the first for a waiter who was served something useless and must not lose its turn.
    ///
    /// The caller must look for an idle connection before it sleeps. Also says whether the upkeep thread must be told of
    /// an earlier deadline. Fails when the pool is closed.
    pub(crate) fn enter(
        &self,
        alarm: Alarm,
        since: Instant,
        deadline: Instant,
        at_front: bool,
    ) -> Result<(Ticket, bool), F> {
        let mut line = self.line.lock();
        if let Some(failure) = &line.closed {
            return Err(failure.clone());
        }
        let is_task = matches!(alarm, Alarm::Task(_));
        let index = line.add(Place::new(alarm, since, deadline), at_front);
        line.waiting += 1;
        let earliest = is_task && line.expect_due(deadline);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.looking.fetch_add(1, Ordering::Relaxed);
        self.update_attention(&line);
        drop(line);
        // Registered; now look. Partner: `attention` after a set's `give`.
        fence(Ordering::SeqCst);
        Ok((Ticket { place: index, is_looking: true }, earliest))
    }

    /// What has happened at this place. Something that is handed over is collected by this call; the place stays.
    pub(crate) fn news(&self, ticket: &Ticket) -> News<F> {
        self.line.lock().news(ticket.place)
    }

    /// Back to sleep: the waiter found nothing. If a wake was under way it is over.
    ///
    /// The caller must look once more before it sleeps, unless this brings news. A task gives its current waker: the
    /// last one wins.
    pub(crate) fn rearm(&self, ticket: &mut Ticket, waker: Option<&Waker>) -> News<F> {
        // Cloning and dropping wakers is an executor's code: outside the lock.
        let mut fresh = waker.map(|waker| Alarm::Task(waker.clone()));
        let mut line = self.line.lock();
        let news = line.news(ticket.place);
        if let News::None | News::LookAgain = news {
            line.settle(ticket.place);
            let place = &mut line.places[ticket.place as usize];
            place.state = PlaceState::Waiting;
            if fresh.is_some() {
                std::mem::swap(&mut place.alarm, &mut fresh);
            }
            line.waiting += 1;
            self.begin_look(ticket);
            self.update_attention(&line);
            drop(line);
            drop(fresh);
            fence(Ordering::SeqCst);
            return News::None;
        }
        news
    }

    /// Gives up the place. Whatever was on its way to it comes back: a connection to be given on, and, in any case, the
    /// duty to look after the line when [`attention`](Self::attention) says so.
    pub(crate) fn leave(&self, ticket: Ticket) -> Option<Held> {
        let mut line = self.line.lock();
        let news = line.news(ticket.place);
        line.settle(ticket.place);
        if ticket.is_looking {
            self.looking.fetch_sub(1, Ordering::Relaxed);
        }
        let alarm = line.remove(ticket.place);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.update_attention(&line);
        drop(line);
        foreign::end(alarm);
        match news {
            News::Handed(held) => Some(held),
            other => {
                foreign::end(other);
                None
            }
        }
    }

    /// The line, for somebody who has a connection to give or knows that one is idle.
    pub(crate) fn look_after(&self) -> Attendant<'_, F> {
        Attendant { line: self.line.lock(), waiters: self }
    }

    /// Answers everybody with `failure`, now and (when `for_good`) in future. The alarms are for the caller to ring, under no
    /// lock.
    #[must_use = "they wait for it"]
    pub(crate) fn fail_all(&self, failure: &F, for_good: bool) -> Vec<Alarm> {
        let mut line = self.line.lock();
        if for_good {
            line.closed = Some(failure.clone());
            self.attention.fetch_or(CLOSED, Ordering::SeqCst);
        }
        let alarms = line.fail_all(failure);
        self.update_attention(&line);
        alarms
    }

    /// Wakes the tasks whose deadline has passed and says when the next one is due.
    pub(crate) fn ring_due(&self, now: Instant) -> Option<Instant> {
        let mut line = self.line.lock();
        if line.next_due.is_none_or(|next_due| now < next_due) {
            return line.next_due;
        }
        let (alarms, next_due) = line.ring_due(now);
        // However the deadlines lie, looking at all of them takes a small part of the time only.
        let waiting = u32::try_from(self.count()).unwrap_or(u32::MAX);
        line.next_due = next_due.map(|next_due| next_due.max(now + PAUSE_PER_WAITER * waiting));
        let next_due = line.next_due;
        drop(line);
        alarms.into_iter().for_each(Alarm::ring);
        next_due
    }

    /// What tasks have left lying for too long, and when to ask again. For the upkeep thread.
    pub(crate) fn take_back(&self, now: Instant) -> (Vec<Held>, Option<Instant>) {
        let mut line = self.line.lock();
        let (taken, next_due) = line.take_back(now);
        if !taken.is_empty() {
            self.update_attention(&line);
        }
        (taken, next_due)
    }

    fn update_attention(&self, line: &Line<F>) {
        let notify = if line.may_wake() { NOTIFY } else { 0 };
        let barred = if self.fairness == Fairness::Strict && !line.is_empty() { LINE } else { 0 };
        let closed = if line.closed.is_some() { CLOSED } else { 0 };
        let mut coming = 0;
        if line.threads_woken > 0
            && let Fairness::Bounded(_) = self.fairness
            && let Some(first) = line.first_to_serve()
        {
            coming = COMING;
            let since = line.places[first as usize].since.saturating_duration_since(self.started);
            self.overdue_at.store(nanos(since.saturating_add(line.patience.bound())), Ordering::Relaxed);
        }
        let wanted = notify | barred | closed | coming | line.raised;
        // Only changes are written, so that the word stays in every core's cache.
        if self.attention.load(Ordering::Relaxed) != wanted {
            self.attention.store(wanted, Ordering::SeqCst);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER)
}

/// Somebody who looks after the line, with the line's lock. Nothing here calls foreign code; alarms are rung by the
/// caller when the attendant is gone.
pub(crate) struct Attendant<'a, F> {
    line: MutexGuard<'a, Line<F>>,
    waiters: &'a Waiters<F>,
}

impl<F: Clone> Attendant<'_, F> {
    /// Whether the first who can be served has waited for longer than the pool's fairness allows.
    ///
    /// `now` is asked only when it is needed: a clock costs as much as six checkouts. `loan` may know how long loans have
    /// taken lately.
    pub(crate) fn is_overdue(
        &mut self,
        now: impl FnOnce() -> Instant,
        loan: impl FnOnce(Instant) -> Option<Duration>,
    ) -> bool {
        let Some(first) = self.line.first_to_serve() else { return false };
        match self.waiters.fairness {
            Fairness::Strict => true,
            Fairness::Bounded(_) => {
                let now = now();
                if let Some(loan) = loan(now) {
                    self.line.patience.note(loan);
                }
                now.saturating_duration_since(self.line.places[first as usize].since) >= self.line.patience.bound()
            }
            Fairness::Free => false,
        }
    }

    /// Hands a connection to the first who can be served. Gives it back if there is none. Model-checked:
    /// `no_lost_handoff_*`.
    ///
    /// There is no alarm to ring if it has been woken for another reason and has not come yet.
    pub(crate) fn hand_over(&mut self, held: Held) -> Result<Option<Alarm>, Held> {
        let Some(first) = self.line.first_to_serve() else { return Err(held) };
        let alarm = self.line.hand(first, held);
        self.waiters.update_attention(&self.line);
        Ok(alarm)
    }

    /// Tells the first sleeper to look again, unless enough wakes are under way.
    pub(crate) fn wake_first(&mut self) -> Option<Alarm> {
        if !self.line.may_wake() {
            return None;
        }
        let first = self.line.first_waiting()?;
        self.line.waiting -= 1;
        let place = &mut self.line.places[first as usize];
        place.state = PlaceState::Woken;
        let alarm = place.ring();
        if matches!(alarm, Some(Alarm::Thread(_))) {
            self.line.threads_woken += 1;
        }
        self.waiters.update_attention(&self.line);
        alarm
    }
}

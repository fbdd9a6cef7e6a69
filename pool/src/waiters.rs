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
//! | `Handed` | has a connection that it has not collected | gone |
//! | `Failed` | has an answer that it has not collected | gone |
//! | `Collected` | has what it came for, or its answer | gone |

use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::config::Fairness;
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
            Self::Task(waker) => waker.wake(),
        }
    }
}

/// A waiter's right to its place. Whoever has it must [`leave`](Waiters::leave).
#[derive(Debug)]
#[must_use = "a dropped ticket is a waiter that never leaves the line"]
pub(crate) struct Ticket {
    place: u32,
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

#[derive(Debug)]
enum PlaceState<F> {
    Free,
    Waiting,
    Woken,
    Handed(Held),
    Failed(F),
    Collected,
}

const NOBODY: u32 = u32::MAX;

struct Place<F> {
    state: PlaceState<F>,
    alarm: Option<Alarm>,
    since: Instant,
    deadline: Instant,
    previous: u32,
    next: u32,
}

impl<F> Place<F> {
    /// The alarm to ring. A task leaves a new waker each time it goes back to sleep, so its old one is used up; a thread
    /// is always the same (and what counts it as woken).
    fn ring(&mut self) -> Option<Alarm> {
        match &self.alarm {
            Some(Alarm::Thread(thread)) => Some(Alarm::Thread(thread.clone())),
            _ => self.alarm.take(),
        }
    }
}

/// The line itself: places in a slab, linked in the order of arrival.
pub(crate) struct Line<F> {
    places: Vec<Place<F>>,
    free: Vec<u32>,
    first: u32,
    last: u32,
    /// Places in state `Waiting`.
    waiting: usize,
    /// Threads in state `Woken`.
    threads_woken: usize,
    /// No task's deadline is before this; threads mind their own. It may be that of a task that has left: a timeout is
    /// rare, and to keep the deadlines in order would cost every wait as much as all the rest of it.
    next_due: Option<Instant>,
    closed: Option<F>,
}

/// The line and the word that says whether anybody needs to look at it.
pub(crate) struct Waiters<F> {
    /// Read by every checkin, written only when the line changes between "nobody needs me" and "somebody does".
    attention: CachePadded<AtomicU32>,
    /// When the first in line is overdue, in nanoseconds since `started`. Valid while [`COMING`] is set.
    overdue_at: AtomicU64,
    /// Everybody in the line, in whatever state.
    count: AtomicUsize,
    line: Mutex<Line<F>>,
    fairness: Fairness,
    started: Instant,
}

impl<F: Clone> Waiters<F> {
    pub(crate) fn new(fairness: Fairness, started: Instant) -> Self {
        let line = Line {
            places: Vec::new(),
            free: Vec::new(),
            first: NOBODY,
            last: NOBODY,
            waiting: 0,
            threads_woken: 0,
            next_due: None,
            closed: None,
        };
        Self {
            attention: CachePadded::new(AtomicU32::new(0)),
            overdue_at: AtomicU64::new(NEVER),
            count: AtomicUsize::new(0),
            line: Mutex::new(line),
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

    /// Acquires in the line that nothing is on its way to.
    pub(crate) fn waiting(&self) -> usize {
        self.line.lock().waiting
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
        let place =
            Place { state: PlaceState::Waiting, alarm: Some(alarm), since, deadline, previous: NOBODY, next: NOBODY };
        let index = line.add(place, at_front);
        line.waiting += 1;
        let earliest = is_task && line.next_due.is_none_or(|next_due| deadline < next_due);
        if earliest {
            line.next_due = Some(deadline);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.update_attention(&line);
        drop(line);
        // Registered; now look. Partner: `attention` after a set's `give`.
        fence(Ordering::SeqCst);
        Ok((Ticket { place: index }, earliest))
    }

    /// What has happened at this place. Something that is handed over is collected by this call; the place stays.
    pub(crate) fn news(&self, ticket: &Ticket) -> News<F> {
        self.line.lock().news(ticket.place)
    }

    /// Back to sleep: the waiter found nothing. If a wake was under way it is over.
    ///
    /// The caller must look once more before it sleeps, unless this brings news. A task gives its current waker: the
    /// last one wins.
    pub(crate) fn rearm(&self, ticket: &Ticket, waker: Option<&Waker>) -> News<F> {
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
        let handed = match line.news(ticket.place) {
            News::Handed(held) => Some(held),
            _ => None,
        };
        line.settle(ticket.place);
        let alarm = line.remove(ticket.place);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.update_attention(&line);
        drop(line);
        drop(alarm);
        handed
    }

    /// The line, for somebody who has a connection to give or knows that one is idle.
    pub(crate) fn look_after(&self) -> Attendant<'_, F> {
        Attendant { line: self.line.lock(), waiters: self }
    }

    /// Answers everybody with `failure`, now and (when `for_good`) in future.
    pub(crate) fn fail_all(&self, failure: &F, for_good: bool) {
        let mut line = self.line.lock();
        if for_good {
            line.closed = Some(failure.clone());
            self.attention.fetch_or(CLOSED, Ordering::SeqCst);
        }
        let mut alarms = Vec::new();
        let mut index = line.first;
        while index != NOBODY {
            let next = line.places[index as usize].next;
            line.settle(index);
            line.unlink(index);
            let place = &mut line.places[index as usize];
            place.state = PlaceState::Failed(failure.clone());
            alarms.extend(place.alarm.take());
            index = next;
        }
        self.update_attention(&line);
        drop(line);
        alarms.into_iter().for_each(Alarm::ring);
    }

    /// Wakes the tasks whose deadline has passed and says when the next one is due.
    pub(crate) fn ring_due(&self, now: Instant) -> Option<Instant> {
        let mut line = self.line.lock();
        if line.next_due.is_none_or(|next_due| now < next_due) {
            return line.next_due;
        }
        let mut alarms = Vec::new();
        let mut next_due: Option<Instant> = None;
        let mut index = line.first;
        while index != NOBODY {
            let place = &mut line.places[index as usize];
            index = place.next;
            if let Some(Alarm::Thread(_)) = place.alarm {
                continue;
            }
            if place.deadline <= now {
                alarms.extend(place.ring());
            } else {
                next_due = Some(next_due.map_or(place.deadline, |next_due| next_due.min(place.deadline)));
            }
        }
        // However the deadlines lie, looking at all of them takes a small part of the time only.
        let waiting = u32::try_from(self.count()).unwrap_or(u32::MAX);
        line.next_due = next_due.map(|next_due| next_due.max(now + PAUSE_PER_WAITER * waiting));
        let next_due = line.next_due;
        drop(line);
        alarms.into_iter().for_each(Alarm::ring);
        next_due
    }

    fn update_attention(&self, line: &Line<F>) {
        let notify = if line.may_wake() { NOTIFY } else { 0 };
        let barred = if self.fairness == Fairness::Strict && line.first != NOBODY { LINE } else { 0 };
        let closed = if line.closed.is_some() { CLOSED } else { 0 };
        let mut coming = 0;
        if line.threads_woken > 0
            && let Fairness::Bounded(bound) = self.fairness
            && let Some(first) = line.first_to_serve()
        {
            coming = COMING;
            let since = line.places[first as usize].since.saturating_duration_since(self.started);
            self.overdue_at.store(nanos(since.saturating_add(bound)), Ordering::Relaxed);
        }
        let wanted = notify | barred | closed | coming;
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
    /// `now` is asked only when it is needed: a clock costs as much as six checkouts.
    pub(crate) fn is_overdue(&self, now: impl FnOnce() -> Instant) -> bool {
        let Some(first) = self.line.first_to_serve() else { return false };
        match self.waiters.fairness {
            Fairness::Strict => true,
            Fairness::Bounded(bound) => {
                now().saturating_duration_since(self.line.places[first as usize].since) >= bound
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
        let was_asleep = matches!(self.line.places[first as usize].state, PlaceState::Waiting);
        self.line.settle(first);
        self.line.unlink(first);
        let place = &mut self.line.places[first as usize];
        place.state = PlaceState::Handed(held);
        let alarm = place.alarm.take().filter(|_| was_asleep);
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

impl<F> Line<F> {
    fn add(&mut self, mut place: Place<F>, at_front: bool) -> u32 {
        let (previous, next) = if at_front { (NOBODY, self.first) } else { (self.last, NOBODY) };
        (place.previous, place.next) = (previous, next);
        let index = match self.free.pop() {
            Some(index) => {
                self.places[index as usize] = place;
                index
            }
            None => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        };
        match previous {
            NOBODY => self.first = index,
            previous => self.places[previous as usize].next = index,
        }
        match next {
            NOBODY => self.last = index,
            next => self.places[next as usize].previous = index,
        }
        index
    }

    /// Takes a place out of the order; it is served, though its owner may not know yet.
    fn unlink(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let (previous, next) = (place.previous, place.next);
        (place.previous, place.next) = (NOBODY, NOBODY);
        match previous {
            NOBODY if self.first == index => self.first = next,
            NOBODY => return, // it was not linked
            previous => self.places[previous as usize].next = next,
        }
        match next {
            NOBODY => self.last = previous,
            next => self.places[next as usize].previous = previous,
        }
    }

    /// Ends whatever the counts say about this place.
    fn settle(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        match place.state {
            PlaceState::Waiting => self.waiting -= 1,
            PlaceState::Woken if matches!(place.alarm, Some(Alarm::Thread(_))) => self.threads_woken -= 1,
            _ => {}
        }
    }

    fn remove(&mut self, index: u32) -> Option<Alarm> {
        self.unlink(index);
        let place = &mut self.places[index as usize];
        place.state = PlaceState::Free;
        let alarm = place.alarm.take();
        self.free.push(index);
        alarm
    }

    fn news(&mut self, index: u32) -> News<F> {
        let state = &mut self.places[index as usize].state;
        match state {
            PlaceState::Free => unreachable!("a ticket without a place"),
            PlaceState::Waiting | PlaceState::Collected => News::None,
            PlaceState::Woken => News::LookAgain,
            PlaceState::Handed(_) | PlaceState::Failed(_) => match std::mem::replace(state, PlaceState::Collected) {
                PlaceState::Handed(held) => News::Handed(held),
                PlaceState::Failed(failure) => News::Failed(failure),
                _ => unreachable!("matched above"),
            },
        }
    }

    /// Whether somebody sleeps and may be woken.
    fn may_wake(&self) -> bool {
        self.waiting > 0 && self.threads_woken < MAX_THREADS_WOKEN
    }

    /// The first who sleeps. Those before it are woken and few: threads are throttled, tasks were woken in order.
    fn first_waiting(&self) -> Option<u32> {
        self.first_where(|place| matches!(place.state, PlaceState::Waiting))
    }

    /// The first who can be handed a connection: who sleeps, or is a thread on its way. A woken task may never come.
    fn first_to_serve(&self) -> Option<u32> {
        self.first_where(|place| match place.state {
            PlaceState::Waiting => true,
            PlaceState::Woken => matches!(place.alarm, Some(Alarm::Thread(_))),
            _ => false,
        })
    }

    fn first_where(&self, is_wanted: impl Fn(&Place<F>) -> bool) -> Option<u32> {
        let mut index = self.first;
        while index != NOBODY {
            let place = &self.places[index as usize];
            if is_wanted(place) {
                return Some(index);
            }
            index = place.next;
        }
        None
    }
}

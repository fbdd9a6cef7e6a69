//! The places of the line: a slab, and the two lists its places are linked in.

use std::time::{Duration, Instant};

use super::patience::Patience;
use super::{Alarm, MAX_THREADS_WOKEN, News, PAUSED};
use crate::slot::Held;

/// How long a task may leave a connection lying that was handed to it. Then somebody else gets it, and the task keeps its
/// turn. Counted from the beat at which the upkeep thread first saw it lying there.
///
/// Long for an executor that is merely busy, short for those who wait behind a task that will never be polled again.
pub(crate) const COLLECT_WITHIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) enum PlaceState<F> {
    Free,
    Waiting,
    Woken,
    Handed(Held),
    Failed(F),
    Collected,
}

pub(super) const NOBODY: u32 = u32::MAX;

/// The list that a place is linked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linked {
    /// Served, answered or free.
    Nowhere,
    /// In the order of arrival.
    InLine,
    /// A task that was handed a connection and has not come for it.
    Uncollected,
}

pub(super) struct Place<F> {
    pub(super) state: PlaceState<F>,
    pub(super) alarm: Option<Alarm>,
    pub(super) since: Instant,
    deadline: Instant,
    /// When the upkeep thread first saw that the task had not come for its connection.
    seen_at: Option<Instant>,
    linked: Linked,
    previous: u32,
    next: u32,
}

impl<F> Place<F> {
    pub(super) fn new(alarm: Alarm, since: Instant, deadline: Instant) -> Self {
        Self {
            state: PlaceState::Waiting,
            alarm: Some(alarm),
            since,
            deadline,
            seen_at: None,
            linked: Linked::Nowhere,
            previous: NOBODY,
            next: NOBODY,
        }
    }

    /// The alarm to ring. A task leaves a new waker each time it goes back to sleep, so its old one is used up; a thread
    /// is always the same (and what counts it as woken).
    pub(super) fn ring(&mut self) -> Option<Alarm> {
        match &self.alarm {
            Some(Alarm::Thread(thread)) => Some(Alarm::Thread(thread.clone())),
            _ => self.alarm.take(),
        }
    }
}

/// Both ends of a list of places.
struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    const NONE: Self = Self { first: NOBODY, last: NOBODY };
}

/// The line itself: places in a slab, linked in the order of arrival.
pub(super) struct Line<F> {
    pub(super) places: Vec<Place<F>>,
    free: Vec<u32>,
    in_line: Ends,
    uncollected: Ends,
    /// Places in state `Waiting`.
    pub(super) waiting: usize,
    /// Threads in state `Woken`.
    pub(super) threads_woken: usize,
    /// No task's deadline is before this; threads mind their own. It may be that of a task that has left: a timeout is
    /// rare, and to keep the deadlines in order would cost every wait as much as all the rest of it.
    pub(super) next_due: Option<Instant>,
    /// The bits of the attention word that others than the line decide on.
    pub(super) raised: u32,
    pub(super) closed: Option<F>,
    pub(super) patience: Patience,
}

impl<F> Line<F> {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            in_line: Ends::NONE,
            uncollected: Ends::NONE,
            waiting: 0,
            threads_woken: 0,
            next_due: None,
            raised: 0,
            closed: None,
            patience,
        }
    }

    pub(super) fn add(&mut self, place: Place<F>, at_front: bool) -> u32 {
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
        self.link(index, Linked::InLine, at_front);
        index
    }

    fn ends(&mut self, list: Linked) -> Option<&mut Ends> {
        match list {
            Linked::Nowhere => None,
            Linked::InLine => Some(&mut self.in_line),
            Linked::Uncollected => Some(&mut self.uncollected),
        }
    }

    fn link(&mut self, index: u32, list: Linked, at_front: bool) {
        let Some(ends) = self.ends(list) else { return };
        let (previous, next) = if at_front { (NOBODY, ends.first) } else { (ends.last, NOBODY) };
        if previous == NOBODY {
            ends.first = index;
        }
        if next == NOBODY {
            ends.last = index;
        }
        let place = &mut self.places[index as usize];
        (place.linked, place.previous, place.next) = (list, previous, next);
        if previous != NOBODY {
            self.places[previous as usize].next = index;
        }
        if next != NOBODY {
            self.places[next as usize].previous = index;
        }
    }

    /// Takes a place out of its list, if it is in one. Out of the line it is served, though its owner may not know yet.
    pub(super) fn unlink(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let (list, previous, next) = (place.linked, place.previous, place.next);
        (place.linked, place.previous, place.next) = (Linked::Nowhere, NOBODY, NOBODY);
        let Some(ends) = self.ends(list) else { return };
        if previous == NOBODY {
            ends.first = next;
        }
        if next == NOBODY {
            ends.last = previous;
        }
        if previous != NOBODY {
            self.places[previous as usize].next = next;
        }
        if next != NOBODY {
            self.places[next as usize].previous = previous;
        }
    }

    /// A task in the line has this deadline. Whether it is the earliest.
    pub(super) fn expect_due(&mut self, deadline: Instant) -> bool {
        let is_earliest = self.next_due.is_none_or(|next_due| deadline < next_due);
        if is_earliest {
            self.next_due = Some(deadline);
        }
        is_earliest
    }

    /// The alarms of the tasks whose time is up, and the next deadline after that.
    pub(super) fn ring_due(&mut self, now: Instant) -> (Vec<Alarm>, Option<Instant>) {
        let (mut alarms, mut next_due) = (Vec::new(), None::<Instant>);
        let mut index = self.in_line.first;
        while index != NOBODY {
            let place = &mut self.places[index as usize];
            index = place.next;
            if let Some(Alarm::Thread(_)) = place.alarm {
                continue;
            }
            if place.deadline <= now {
                alarms.extend(place.ring());
            } else {
                next_due = Some(next_due.map_or(place.deadline, |next| next.min(place.deadline)));
            }
        }
        (alarms, next_due)
    }

    /// Gives a connection to a place in the line. The alarm is to be rung.
    ///
    /// There is none if the place's owner has been woken for another reason and has not come yet.
    pub(super) fn hand(&mut self, index: u32, held: Held) -> Option<Alarm> {
        let was_asleep = matches!(self.places[index as usize].state, PlaceState::Waiting);
        self.settle(index);
        self.unlink(index);
        let place = &mut self.places[index as usize];
        place.state = PlaceState::Handed(held);
        place.seen_at = None;
        // A task's alarm may have been used up, by its deadline; a thread's never is.
        let alarm = place.alarm.take();
        if !matches!(alarm, Some(Alarm::Thread(_))) {
            self.link(index, Linked::Uncollected, false);
        }
        alarm.filter(|_| was_asleep)
    }

    /// Takes the connections back that tasks have left lying for [`COLLECT_WITHIN`]. Such a task is first in line again,
    /// but as one that has been woken and may never come: nothing is handed to it until it does. Also says when the next
    /// one is to be taken back. Model-checked: `a_connection_left_lying_is_taken_back`.
    pub(super) fn take_back(&mut self, now: Instant) -> (Vec<Held>, Option<Instant>) {
        let (mut taken, mut next_due) = (Vec::new(), None::<Instant>);
        // The latest first, so that the earliest is first in line again.
        let mut index = self.uncollected.last;
        while index != NOBODY {
            let place = &mut self.places[index as usize];
            let earlier = place.previous;
            let seen_at = *place.seen_at.get_or_insert(now);
            if now.saturating_duration_since(seen_at) < COLLECT_WITHIN {
                let due = seen_at + COLLECT_WITHIN;
                next_due = Some(next_due.map_or(due, |next| next.min(due)));
            } else {
                let deadline = place.deadline;
                if let PlaceState::Handed(held) = std::mem::replace(&mut place.state, PlaceState::Woken) {
                    taken.push(held);
                }
                self.unlink(index);
                self.link(index, Linked::InLine, true);
                self.expect_due(deadline);
            }
            index = earlier;
        }
        (taken, next_due)
    }

    /// Ends whatever the counts say about this place.
    pub(super) fn settle(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        match place.state {
            PlaceState::Waiting => self.waiting -= 1,
            PlaceState::Woken if matches!(place.alarm, Some(Alarm::Thread(_))) => self.threads_woken -= 1,
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Alarm> {
        self.unlink(index);
        let place = &mut self.places[index as usize];
        place.state = PlaceState::Free;
        let alarm = place.alarm.take();
        self.free.push(index);
        alarm
    }

    pub(super) fn news(&mut self, index: u32) -> News<F> {
        let state = &mut self.places[index as usize].state;
        match state {
            PlaceState::Free => unreachable!("a ticket without a place"),
            PlaceState::Waiting | PlaceState::Collected => News::None,
            PlaceState::Woken => News::LookAgain,
            PlaceState::Handed(_) | PlaceState::Failed(_) => {
                let news = match std::mem::replace(state, PlaceState::Collected) {
                    PlaceState::Handed(held) => News::Handed(held),
                    PlaceState::Failed(failure) => News::Failed(failure),
                    _ => unreachable!("matched above"),
                };
                self.unlink(index);
                news
            }
        }
    }

    /// Takes everybody out of the line with this answer; the alarms are to be rung.
    pub(super) fn fail_all(&mut self, failure: &F) -> Vec<Alarm>
    where
        F: Clone,
    {
        let mut alarms = Vec::new();
        while self.in_line.first != NOBODY {
            let index = self.in_line.first;
            self.settle(index);
            self.unlink(index);
            let place = &mut self.places[index as usize];
            place.state = PlaceState::Failed(failure.clone());
            alarms.extend(place.alarm.take());
        }
        alarms
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_line.first == NOBODY
    }

    fn is_paused(&self) -> bool {
        self.raised & PAUSED != 0
    }

    /// Whether somebody sleeps and may be woken.
    pub(super) fn may_wake(&self) -> bool {
        self.waiting > 0 && self.threads_woken < MAX_THREADS_WOKEN && !self.is_paused()
    }

    /// The first who sleeps. Those before it are woken and few: threads are throttled, tasks were woken in order.
    pub(super) fn first_waiting(&self) -> Option<u32> {
        self.first_where(|place| matches!(place.state, PlaceState::Waiting))
    }

    /// The first who can be handed a connection: who sleeps, or is a thread on its way. A woken task may never come, and
    /// while the pool is paused nobody is served.
    pub(super) fn first_to_serve(&self) -> Option<u32> {
        if self.is_paused() {
            return None;
        }
        self.first_where(|place| match place.state {
            PlaceState::Waiting => true,
            PlaceState::Woken => matches!(place.alarm, Some(Alarm::Thread(_))),
            _ => false,
        })
    }

    fn first_where(&self, is_wanted: impl Fn(&Place<F>) -> bool) -> Option<u32> {
        let mut index = self.in_line.first;
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

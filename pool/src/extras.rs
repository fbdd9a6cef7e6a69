//! What a pool does for each loan only when it is asked to: hooks, events, times, records of who borrows.
//!
//! A pool that was asked for nothing of this has no [`Extras`]. One that was has a bit in the attention word
//! ([`EXTRAS`](crate::waiters::EXTRAS)), which every checkout and checkin looks at anyway. All the rest is out of line, here.

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use crossbeam::utils::CachePadded;

use crate::config::{Builder, Config};
use crate::core::{Core, tally};
use crate::error::{Call, CallError};
use crate::events::{CloseReason, Event};
use crate::foreign::{caught, log};
use crate::histogram::Recorders;
use crate::hooks::Hooks;
use crate::idle::IdleSet;
use crate::loans::Loan;
use crate::slot::{Held, Lent};
use crate::sync::{Mutex, now};
use crate::{Histograms, Manager};

impl<M: Manager, I: IdleSet> Builder<M, I> {
    /// Whether to keep [`Histograms`] of how long callers wait, connections are held and connecting takes. Default: no.
    ///
    /// Costs two readings of the clock and four additions to counters per loan, and up to 13 KiB.
    #[must_use]
    pub fn histograms(mut self, histograms: bool) -> Self {
        self.config.histograms = histograms;
        self
    }

    /// Whether to record for each loan when and where it was asked for. Default: no.
    ///
    /// Then [`Pool::loans`](crate::Pool::loans), the error of an exhausted pool and the warning of
    /// [`leak_after`](Self::leak_after) tell the source line of the call that borrowed, and the exact time. Costs two
    /// readings of the clock and two locks of a mutex per loan; the mutex is the slot's own.
    #[must_use]
    pub fn record_loans(mut self, record_loans: bool) -> Self {
        self.config.record_loans = record_loans;
        self
    }

    /// Warn once about each connection that is out for longer than this. Default `None`: never.
    ///
    /// The warning is a `tracing` event, an [`Event::LongLoan`] and a [count](crate::Counters::long_loans); nothing is
    /// taken away from the holder. It comes up to a beat of the upkeep thread late: a tenth of this time, 5 ms to 1 s.
    /// Costs a loan nothing.
    #[must_use]
    pub fn leak_after(mut self, leak_after: impl Into<Option<Duration>>) -> Self {
        self.config.leak_after = leak_after.into();
        self
    }

    /// Warn when a caller waited for longer than this before it was served. Default `None`: never.
    ///
    /// The warning is a `tracing` event, an [`Event::SlowAcquire`] and a [count](crate::Counters::slow_acquires), with
    /// the source line of the call. Costs two readings of the clock per acquire that has to wait.
    #[must_use]
    pub fn slow_acquire(mut self, slow_acquire: impl Into<Option<Duration>>) -> Self {
        self.config.slow_acquire = slow_acquire.into();
        self
    }
}

/// Who acquires. Two words, which travel in registers; one more, and every checkout would write them to memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    site: &'static Location<'static>,
    /// When it found nothing idle, in nanoseconds since the pool was built; [`AT_ONCE`] if that has not happened, or
    /// nobody wants to know.
    since_ns: u64,
}

/// No time at which a wait began.
const AT_ONCE: u64 = u64::MAX;

impl Caller {
    /// Whoever calls the public method that calls this.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn here() -> Self {
        Self { site: Location::caller(), since_ns: AT_ONCE }
    }

    /// The same, waiting from now on.
    pub(crate) fn waiting<M: Manager, I: IdleSet>(mut self, core: &Core<M, I>) -> Self {
        if core.extras.as_ref().is_some_and(|extras| extras.wants_waits) {
            self.since_ns = nanos(now().saturating_duration_since(core.started));
        }
        self
    }
}

/// What a pool keeps for the options of this file.
pub(crate) struct Extras {
    records: Box<[CachePadded<Record>]>,
    last_id: AtomicU64,
    histograms: Option<Recorders>,
    keeps_loans: bool,
    /// Somebody wants to know how long callers wait.
    wants_waits: bool,
    /// Somebody wants to know when each loan begins and ends.
    wants_times: bool,
}

/// What is known about a slot's connection. Written by the holder of the slot's right, but for `loan` read by it, too.
struct Record {
    id: AtomicU64,
    /// Nanoseconds since the pool was built.
    connected_at: AtomicU64,
    lent_at: AtomicU64,
    /// Why it is being closed.
    reason: AtomicCell<CloseReason>,
    /// For others to look at, so under a lock: a line that is blamed for another one's loan is worse than none.
    loan: Mutex<Option<Borrowed>>,
}

#[derive(Clone, Copy)]
struct Borrowed {
    connection: u64,
    since: Instant,
    site: &'static Location<'static>,
}

impl Extras {
    /// `None` when nothing was asked for that concerns loans.
    pub(crate) fn new<M: Manager>(config: &Config, hooks: &Hooks<M>, slots: usize) -> Option<Box<Self>> {
        let is_observed = hooks.observer.is_some();
        let wants_times = is_observed || config.histograms || config.record_loans;
        let wants_waits = is_observed || config.histograms || config.slow_acquire.is_some();
        if !wants_times && !wants_waits && hooks.on_acquire.is_none() && hooks.on_checkin.is_none() {
            return None;
        }
        let record = |_| {
            CachePadded::new(Record {
                id: AtomicU64::new(0),
                connected_at: AtomicU64::new(0),
                lent_at: AtomicU64::new(0),
                reason: AtomicCell::new(CloseReason::Broken),
                loan: Mutex::new(None),
            })
        };
        Some(Box::new(Self {
            records: (0..slots).map(record).collect(),
            last_id: AtomicU64::new(0),
            histograms: config.histograms.then(|| Recorders::new(slots)),
            keeps_loans: config.record_loans,
            wants_waits,
            wants_times,
        }))
    }

    fn record(&self, held: &Held) -> &Record {
        &self.records[held.index()]
    }

    pub(crate) fn keeps_loans(&self) -> bool {
        self.keeps_loans
    }

    /// The number of the connection in the slot, or of the last one that was.
    pub(crate) fn id_at(&self, index: usize) -> u64 {
        self.records[index].id.load(Ordering::Relaxed)
    }

    pub(crate) fn loan_at(&self, index: usize, time: Instant) -> Option<Loan> {
        let borrowed = (*self.records[index].loan.lock())?;
        Some(Loan {
            slot: index,
            connection: Some(borrowed.connection),
            held_for: time.saturating_duration_since(borrowed.since),
            site: Some(borrowed.site),
        })
    }

    /// Ends the record of a loan and says how long it was.
    fn end_loan(&self, held: &Held, started: Instant) -> Duration {
        if !self.wants_times {
            return Duration::ZERO;
        }
        let record = self.record(held);
        if self.keeps_loans {
            *record.loan.lock() = None;
        }
        let lent_at = Duration::from_nanos(record.lent_at.load(Ordering::Relaxed));
        let held_for = now().saturating_duration_since(started).saturating_sub(lent_at);
        if let Some(histograms) = &self.histograms {
            histograms.hold.record(held.index(), held_for);
        }
        held_for
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// The number of the slot's connection; 0 if nobody counts.
    pub(crate) fn connection_id(&self, held: &Held) -> u64 {
        self.extras.as_ref().map_or(0, |extras| extras.id_at(held.index()))
    }

    /// The last step of a checkout: gives the connection to `caller`, or gives it up.
    #[cold]
    pub(crate) fn lend(&self, mut lent: Lent, caller: Caller) -> Option<Lent> {
        if let Some(hook) = &self.hooks.on_acquire {
            let connection = self.slots.lent_mut(&mut lent);
            // Caught, so the right to the slot cannot be lost here.
            if let Err(error) = caught(Call::OnAcquire, || hook(connection)) {
                return self.give_up_on(lent.into_right(), error);
            }
            self.accepted(lent.right());
        }
        let held = lent.right();
        self.slots.slot(held).count_loan();
        let Some(extras) = &self.extras else { return Some(lent) };
        if !extras.wants_times && caller.since_ns == AT_ONCE {
            return Some(lent);
        }
        let time = now();
        let time_ns = nanos(time.saturating_duration_since(self.started));
        let record = extras.record(held);
        let connection = record.id.load(Ordering::Relaxed);
        // Zero for `AT_ONCE`, which is later than any time.
        let waited = Duration::from_nanos(time_ns.saturating_sub(caller.since_ns));
        record.lent_at.store(time_ns, Ordering::Relaxed);
        if extras.keeps_loans {
            *record.loan.lock() = Some(Borrowed { connection, since: time, site: caller.site });
        }
        if let Some(histograms) = &extras.histograms {
            histograms.wait.record(held.index(), waited);
        }
        self.emit(Event::CheckedOut { connection, waited });
        if self.config.slow_acquire.is_some_and(|slow| waited > slow) {
            self.warn_of_slow_acquire(connection, waited, caller.site);
        }
        Some(lent)
    }

    fn give_up_on(&self, held: Held, error: CallError<M::Error>) -> Option<Lent> {
        self.call_failed(&held, error);
        self.retire(held, CloseReason::Broken);
        None
    }

    fn warn_of_slow_acquire(&self, connection: u64, waited: Duration, site: &'static Location<'static>) {
        tally(&self.tallies.slow_acquires);
        let (pool, state) = (&self.config.name, self.state());
        log!(
            warn,
            pool,
            db.client.connection.wait_time = waited.as_secs_f64(),
            %site,
            %state,
            "a slow acquire: it took {waited:.1?}"
        );
        self.emit(Event::SlowAcquire { connection, waited, site });
    }

    /// The first step of a checkin: the loan is over. Says whether the connection is broken.
    #[cold]
    pub(crate) fn take_back(&self, lent: &mut Lent, is_broken: bool) -> bool {
        let Some(extras) = &self.extras else { return is_broken };
        let held_for = extras.end_loan(lent.right(), self.started);
        let id = extras.id_at(lent.right().index());
        self.emit(Event::CheckedIn { connection: id, held_for });
        let Some(hook) = self.hooks.on_checkin.as_ref().filter(|_| !is_broken) else { return is_broken };
        let connection = self.slots.lent_mut(lent);
        match caught(Call::OnCheckin, || hook(connection)) {
            Ok(()) => false,
            Err(error) => {
                self.call_failed(lent.right(), error);
                true
            }
        }
    }

    /// A connection is in its slot. `took`: to open it; zero if somebody else has.
    pub(crate) fn note_installed(&self, held: &Held, took: Duration) {
        let Some(extras) = &self.extras else { return };
        let connection = extras.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let record = extras.record(held);
        record.id.store(connection, Ordering::Relaxed);
        let connected_at = nanos(now().saturating_duration_since(self.started));
        record.connected_at.store(connected_at, Ordering::Relaxed);
        self.emit(Event::Connected { connection, took });
    }

    /// An attempt to connect has ended, one way or the other.
    pub(crate) fn note_connect_time(&self, took: Duration) {
        if let Some(histograms) = self.extras.as_ref().and_then(|extras| extras.histograms.as_ref()) {
            histograms.connect.record(0, took);
        }
    }

    /// The holder keeps the connection.
    pub(crate) fn note_detached(&self, held: &Held) {
        tally(&self.tallies.detached);
        let Some(extras) = &self.extras else { return };
        let held_for = extras.end_loan(held, self.started);
        self.emit(Event::Detached { connection: extras.id_at(held.index()), held_for });
    }

    /// The connection will be closed, and this is why.
    pub(crate) fn note_retired(&self, held: &Held, reason: CloseReason) {
        if let Some(extras) = &self.extras {
            extras.record(held).reason.store(reason);
        }
    }

    /// The connection has been closed.
    pub(crate) fn note_closed(&self, held: &Held) {
        tally(&self.tallies.closes);
        let Some(extras) = &self.extras else { return };
        let record = extras.record(held);
        let connected_at = Duration::from_nanos(record.connected_at.load(Ordering::Relaxed));
        let age = now().saturating_duration_since(self.started).saturating_sub(connected_at);
        self.emit(Event::Closed { connection: record.id.load(Ordering::Relaxed), reason: record.reason.load(), age });
    }

    pub(crate) fn histograms(&self) -> Option<Histograms> {
        self.extras.as_ref()?.histograms.as_ref().map(Recorders::snapshot)
    }
}

//! Who has the connections, and since when.
//!
//! A pool that does not [record its loans](crate::Builder::record_loans) knows it nevertheless, to the precision of a
//! beat: at every beat the upkeep thread notes for each slot which loan it sees, by the slot's count of loans, and a loan
//! that it saw before has lasted at least since then. So the error of an exhausted pool can say how old the oldest loan
//! is, and leaks are noticed, at no cost to those who borrow.

use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Manager;
use crate::core::{Core, tally};
use crate::events::Event;
use crate::foreign::log;
use crate::idle::IdleSet;
use crate::slot::Phase;
use crate::sync::now;

/// A connection that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loan {
    /// The slot's number, below the pool's [`capacity`](crate::Builder::capacity).
    pub slot: usize,
    /// The connection's number, as in [`Event`]; `None` unless the pool observes or records.
    pub connection: Option<u64>,
    /// How long it has been out. At least that long, and at most a beat of the upkeep thread (a second or less) longer,
    /// unless the pool [records its loans](crate::Builder::record_loans).
    pub held_for: Duration,
    /// Where it was asked for, if the pool records its loans.
    pub site: Option<&'static Location<'static>>,
}

impl fmt::Display for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connection {
            Some(connection) => write!(f, "connection {connection}")?,
            None => write!(f, "the connection in slot {}", self.slot)?,
        }
        match self.site {
            Some(site) => write!(f, ", out for {:.1?}, borrowed at {site}", self.held_for),
            None => write!(f, ", out for at least {:.1?}", self.held_for),
        }
    }
}

/// No loan, among the counts of a slot's loans.
const NO_LOAN: u64 = u64::MAX;

/// What the upkeep thread saw at its last beat, slot by slot. It alone writes.
pub(crate) struct LoanWatch {
    seen: Box<[Seen]>,
}

struct Seen {
    /// The loan, by the slot's count of loans.
    loan: AtomicU64,
    /// The tick at which it was first seen.
    since: AtomicU64,
    /// Whether it has been reported as too long.
    is_reported: AtomicBool,
}

impl LoanWatch {
    pub(crate) fn new(slots: usize) -> Self {
        let seen =
            |_| Seen { loan: AtomicU64::new(NO_LOAN), since: AtomicU64::new(0), is_reported: AtomicBool::new(false) };
        Self { seen: (0..slots).map(seen).collect() }
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// What is out, oldest first.
    pub(crate) fn loans(&self) -> Vec<Loan> {
        let mut loans: Vec<_> = self.each_loan().collect();
        loans.sort_by_key(|loan| std::cmp::Reverse(loan.held_for));
        loans
    }

    /// The loan that has lasted longest, if any is known to have lasted.
    pub(crate) fn oldest_loan(&self) -> Option<Loan> {
        self.each_loan().max_by_key(|loan| loan.held_for).filter(|loan| !loan.held_for.is_zero())
    }

    fn each_loan(&self) -> impl Iterator<Item = Loan> + '_ {
        let time = now();
        (0..self.slots.len()).filter_map(move |index| self.loan_at(index, time))
    }

    fn loan_at(&self, index: usize, time: Instant) -> Option<Loan> {
        if !self.slots.phase_is(index, Phase::Lent) {
            return None;
        }
        if let Some(extras) = &self.extras
            && extras.keeps_loans()
        {
            return extras.loan_at(index, time);
        }
        let seen = &self.watch.seen[index];
        let is_same = self.slots.slot_at(index).loans.load(Ordering::Relaxed) == seen.loan.load(Ordering::Relaxed);
        let since = seen.since.load(Ordering::Relaxed);
        // Rounded down, where ticks are rounded up: what is told is the least it can be.
        let elapsed = time.saturating_duration_since(self.started).as_millis() as u64;
        let held_for = if is_same { elapsed.saturating_sub(since) } else { 0 };
        Some(Loan {
            slot: index,
            connection: self.extras.as_ref().map(|extras| extras.id_at(index)),
            held_for: Duration::from_millis(held_for),
            site: None,
        })
    }

    /// Notes the loans that there are, and reports those that are too long. Once a beat, on the upkeep thread.
    pub(crate) fn watch_loans(&self) {
        let tick = self.tick.load(Ordering::Relaxed);
        for (index, seen) in self.watch.seen.iter().enumerate() {
            if !self.slots.phase_is(index, Phase::Lent) {
                if seen.loan.load(Ordering::Relaxed) != NO_LOAN {
                    seen.loan.store(NO_LOAN, Ordering::Relaxed);
                }
                continue;
            }
            let loan = self.slots.slot_at(index).loans.load(Ordering::Relaxed);
            if loan != seen.loan.load(Ordering::Relaxed) {
                seen.since.store(tick, Ordering::Relaxed);
                seen.is_reported.store(false, Ordering::Relaxed);
                seen.loan.store(loan, Ordering::Relaxed);
            }
            if let Some(leak_after) = self.config.leak_after
                && !seen.is_reported.load(Ordering::Relaxed)
            {
                self.report_if_long(index, leak_after, seen);
            }
        }
    }

    fn report_if_long(&self, index: usize, leak_after: Duration, seen: &Seen) {
        let Some(loan) = self.loan_at(index, now()).filter(|loan| loan.held_for >= leak_after) else { return };
        seen.is_reported.store(true, Ordering::Relaxed);
        let (pool, held_for) = (&self.config.name, loan.held_for);
        match loan.site {
            Some(site) => {
                log!(warn, pool, ?held_for, %site, "a long loan: {loan}");
            }
            None => log!(warn, pool, ?held_for, "a long loan: {loan}"),
        }
        tally(&self.tallies.long_loans);
        self.emit(Event::LongLoan { loan: &loan });
    }
}

//! What happens to a pool over time: a spike, an outage, churn, saturation, a storm of cancellations.
//!
//! Each scenario is a file with one documented workload, written once for every pool and for both
//! [doors](door::Door). It runs over a [stub at a distance](crate::backend::remote) and brings back a [`Finding`]. Numbers
//! of the two doors are not compared with each other: a task's timer has the precision of a millisecond.

pub mod cancel;
pub mod churn;
pub mod door;
pub mod outage;
pub mod saturation;
pub mod spike;

use std::time::{Duration, Instant};

use crate::backend::remote::{Distance, Incident};
use crate::backend::{Failure, Gauge};
use crate::contender::Options;
use crate::contenders::Entrant;
use crate::record::{Course, MAX, Metric, P50, P99, P999};

/// Which scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Everybody at once on an empty pool.
    Spike,
    /// The database goes and comes back.
    Outage,
    /// Connections that live shortly.
    Churn,
    /// More clients than connections, for long.
    Saturation,
    /// Most acquires are dropped before they complete.
    Cancel,
}

impl Scenario {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 5] = [Self::Spike, Self::Outage, Self::Churn, Self::Saturation, Self::Cancel];

    /// The name in records.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Outage => "outage",
            Self::Churn => "churn",
            Self::Saturation => "saturation over time",
            Self::Cancel => "cancel storm",
        }
    }

    /// The workload's name in records, through a door.
    #[must_use]
    pub fn workload(self, kind: door::Kind) -> String {
        format!("{}, {}", self.id(), kind.label())
    }

    /// Clients, the pool's options and how far the database is.
    #[must_use]
    pub fn setting(self) -> Setting {
        match self {
            Self::Spike => spike::SETTING,
            Self::Outage => outage::SETTING,
            Self::Churn => churn::SETTING,
            Self::Saturation => saturation::SETTING,
            Self::Cancel => cancel::SETTING,
        }
    }

    /// Whether a pool can take part through a door.
    #[must_use]
    pub fn suits(self, entrant: Entrant, kind: door::Kind) -> bool {
        let has_door = kind.entrants().contains(&entrant);
        match self {
            // Dropping an acquire half-way is for tasks.
            Self::Cancel => has_door && kind == door::Kind::Tasks,
            // r2d2 looks for old connections every 30 s, which cannot be set; fast_pool has no lifetime.
            // The idle set has no part in it, so all three of ours are shown through one door only.
            Self::Outage if kind == door::Kind::Tasks => {
                has_door && !matches!(entrant, Entrant::Mutex | Entrant::LockFree)
            }
            Self::Churn => has_door && !matches!(entrant, Entrant::R2d2 | Entrant::FastPool),
            _ => has_door,
        }
    }
}

/// What a scenario's cells have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Clients that want connections.
    pub clients: usize,
    /// The most connections.
    pub size: usize,
    /// Whether the pool begins with all its connections open.
    pub is_filled: bool,
    /// How long an acquire may take.
    pub acquire_timeout: Duration,
    /// How old a connection may become.
    pub max_lifetime: Option<Duration>,
    /// How far the database is.
    pub distance: Distance,
}

impl Setting {
    /// The pool's options.
    #[must_use]
    pub fn options(&self) -> Options {
        let options = if self.is_filled { Options::filled(self.size) } else { Options::empty(self.size) };
        Options { acquire_timeout: Some(self.acquire_timeout), max_lifetime: self.max_lifetime, ..options }
    }
}

/// What a scenario found.
#[derive(Debug, Clone, Default)]
pub struct Finding {
    /// Numbers of the whole run. The first is the one by which the round in the middle is chosen.
    pub metrics: Vec<(Metric, f64)>,
    /// Numbers over time.
    pub courses: Vec<(Metric, Course)>,
    /// Operations done.
    pub ops: u64,
}

impl Finding {
    /// A number of the whole run.
    #[must_use]
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| *known == metric).map(|(_, value)| *value)
    }
}

/// The most connections open at once.
pub const MOST_OPEN: Metric = Metric { name: "most_open", unit: "connections" };
/// Connections opened in a second.
pub const CONNECTS_PER_S: Metric = Metric { name: "connects", unit: "1/s" };
/// Operations that failed.
pub const ERRORS: Metric = Metric { name: "errors", unit: "operations" };

/// Fails when one of our pools had more connections open than allowed. A peer that does is shown, not stopped.
///
/// # Errors
///
/// Then.
pub fn expect_size(entrant: Entrant, gauge: &Gauge, size: usize) -> Result<(), Failure> {
    let high = gauge.high_water();
    if entrant.row().is_ours && high > size {
        let label = entrant.row().label;
        return Err(Failure::new(format!("{label} had {high} connections open, {size} were allowed")));
    }
    Ok(())
}

/// An operation that was served: when it ended, and how long its acquire took.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// When the connection was given back.
    pub at: Instant,
    /// How long the client waited for it.
    pub wait: Duration,
}

/// Sorted waits in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Waits(Vec<u64>);

impl Waits {
    /// Of some operations.
    #[must_use]
    pub fn of(waits: impl IntoIterator<Item = Duration>) -> Self {
        let mut nanos: Vec<u64> =
            waits.into_iter().map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)).collect();
        nanos.sort_unstable();
        Self(nanos)
    }

    /// A percentile: the smallest wait that so many in a hundred do not exceed. `None` without waits.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.max(1) - 1).map(|nanos| *nanos as f64)
    }

    /// The usual four.
    #[must_use]
    pub fn quantiles(&self) -> Vec<(Metric, f64)> {
        [(P50, 50.0), (P99, 99.0), (P999, 99.9), (MAX, 100.0)]
            .into_iter()
            .filter_map(|(metric, percent)| Some((metric, self.percentile(percent)?)))
            .collect()
    }
}

/// Time cut into steps.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// Where the first one begins.
    pub start: Instant,
    /// How long each is; a whole number of milliseconds.
    pub step: Duration,
    /// How many there are.
    pub count: usize,
}

impl Steps {
    /// As many steps as fit in between.
    #[must_use]
    pub fn between(start: Instant, end: Instant, step: Duration) -> Self {
        let count = (end - start).as_nanos() / step.as_nanos();
        Self { start, step, count: usize::try_from(count).unwrap_or(0) }
    }

    /// The step in which a moment lies; `None` before the first and after the last.
    #[must_use]
    pub fn place(&self, at: Instant) -> Option<usize> {
        let since = at.checked_duration_since(self.start)?;
        let place = usize::try_from(since.as_nanos() / self.step.as_nanos()).ok()?;
        (place < self.count).then_some(place)
    }

    /// A course with these values.
    #[must_use]
    pub fn course(&self, values: Vec<f64>) -> Course {
        Course { step_ms: u64::try_from(self.step.as_millis()).unwrap_or(u64::MAX), values }
    }

    /// How many of some moments lie in each step.
    #[must_use]
    pub fn counts(&self, moments: impl IntoIterator<Item = Instant>) -> Vec<f64> {
        let mut counts = vec![0.0; self.count];
        for place in moments.into_iter().filter_map(|at| self.place(at)) {
            counts[place] += 1.0;
        }
        counts
    }

    /// Connections open at the end of each step, from the log of what happened to them.
    #[must_use]
    pub fn open(&self, incidents: &[(Instant, Incident)]) -> Vec<f64> {
        let mut open = 0.0;
        let mut rest = incidents.iter().peekable();
        (1..=self.count)
            .map(|place| {
                let end = self.start + self.step * u32::try_from(place).unwrap_or(u32::MAX);
                while let Some((_, incident)) = rest.next_if(|(at, _)| *at < end) {
                    match incident {
                        Incident::Opened => open += 1.0,
                        Incident::Closed => open -= 1.0,
                        Incident::Attempt | Incident::Refused => {}
                    }
                }
                open
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn percentiles_are_waits_that_happened() {
        let waits = Waits::of((1..=1_000).rev().map(Duration::from_nanos));
        let percentile = |percent| waits.percentile(percent).unwrap();
        assert_eq!((percentile(50.0), percentile(99.0), percentile(99.9)), (500.0, 990.0, 999.0));
        assert_eq!((percentile(0.0), percentile(100.0)), (1.0, 1_000.0));
        assert!(Waits::default().percentile(50.0).is_none());
    }

    #[test]
    fn moments_are_counted_in_their_steps() {
        let start = Instant::now();
        let steps = Steps::between(start, start + 35 * MS, 10 * MS);
        assert_eq!(steps.count, 3);
        let at = |ms: u32| start + ms * MS;
        assert_eq!(steps.counts([at(0), at(9), at(10), at(29), at(30), at(99)]), [2.0, 1.0, 1.0]);
        assert_eq!(steps.place(start - MS), None);
    }

    #[test]
    fn open_connections_are_opened_less_closed() {
        let start = Instant::now() + 5 * MS;
        let steps = Steps { start, step: MS, count: 4 };
        let half = MS / 2;
        let log = [
            (start - MS, Incident::Opened),
            (start + half, Incident::Attempt),
            (start + MS + half, Incident::Opened),
            (start + 3 * MS + half, Incident::Closed),
        ];
        assert_eq!(steps.open(&log), [1.0, 2.0, 2.0, 1.0]);
    }
}

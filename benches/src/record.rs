//! A cell and what was measured in it, as it lies in `reports/data/*.csv`: one line a metric.

use serde::{Deserialize, Serialize};

use crate::contenders::Entrant;
use crate::stamp::Stamp;
use crate::units::digits;

/// The three numbers that stand for some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The 10th percentile; the smallest where there are ten samples or fewer.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The 90th percentile; the largest where there are ten samples or fewer.
    pub high: f64,
    /// How many samples there were.
    pub samples: usize,
}

impl Spread {
    /// Summarises samples; `None` when there are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (count, last) = (sorted.len(), sorted.len().checked_sub(1)?);
        // Of eleven samples the second is the 10th percentile; of fewer there is none but the first.
        let tail = (last as f64 * 0.1).floor() as usize;
        let median = f64::midpoint(sorted[last / 2], sorted[count / 2]);
        Some(Self { low: sorted[tail], median, high: sorted[last - tail], samples: count })
    }

    /// Whether its ends are the smallest and the largest sample.
    #[must_use]
    pub fn has_extremes(&self) -> bool {
        self.samples <= 10
    }

    /// The largest sample, where it was recorded.
    #[must_use]
    pub fn largest(&self) -> Option<f64> {
        self.has_extremes().then_some(self.high)
    }

    /// The spread of another quantity, computed from each number.
    #[must_use]
    pub fn map(self, convert: impl Fn(f64) -> f64) -> Self {
        let (one, other) = (convert(self.low), convert(self.high));
        Self { low: one.min(other), median: convert(self.median), high: one.max(other), samples: self.samples }
    }
}

/// How a number went over the time of a run: one value for each step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Course {
    /// How long a step is.
    pub step_ms: u64,
    /// The values, in order.
    pub values: Vec<f64>,
}

impl Course {
    /// Of a course's text in a record; `None` when it has none or is damaged.
    fn parse(step_ms: u64, text: &str) -> Option<Self> {
        if step_ms == 0 || text.is_empty() {
            return None;
        }
        let values = text.split(';').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { step_ms, values })
    }

    /// Its text in a record, with three digits a value.
    fn text(&self) -> String {
        let text = |value: &f64| if value.abs() < 100.0 { digits(*value) } else { format!("{value:.0}") };
        self.values.iter().map(text).collect::<Vec<_>>().join(";")
    }
}

/// What was asked: a contender under a workload at some size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The suite.
    pub suite: String,
    /// What each operation did, with the kind of hold where there is one.
    pub workload: String,
    /// `stub`, `sqlite` or `mariadb`.
    pub backend: String,
    /// How commits reach the disk; empty where there is no server.
    pub flush: String,
    /// The row's id, or the name of a way to connect in the suite `connect`.
    pub contender: String,
    /// Threads that wanted a connection.
    pub threads: usize,
    /// The most connections there could be.
    pub size: usize,
    /// How long a stub was held, in microseconds.
    pub hold_us: u64,
    /// Rows inserted or read in one run; 0 for stubs.
    pub rows: u64,
}

impl Cell {
    /// Whose cell it is, when it is a contender's.
    #[must_use]
    pub fn entrant(&self) -> Option<Entrant> {
        Entrant::from_id(&self.contender)
    }

    /// A name for progress and for choosing cells on the command line.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { suite, workload, backend, flush, contender, threads, size, rows, .. } = self;
        let flush = if flush.is_empty() { String::new() } else { format!("-{flush}") };
        let rows = if *rows == 0 { String::new() } else { format!("/{rows} rows") };
        format!("{suite}/{workload}/{backend}{flush}{rows}/{threads} on {size}/{contender}")
    }
}

/// One metric of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The suite.
    pub suite: String,
    /// See [`Cell::workload`].
    pub workload: String,
    /// See [`Cell::backend`].
    pub backend: String,
    /// See [`Cell::flush`].
    pub flush: String,
    /// See [`Cell::contender`].
    pub contender: String,
    /// See [`Cell::threads`].
    pub threads: usize,
    /// See [`Cell::size`].
    pub size: usize,
    /// See [`Cell::hold_us`].
    pub hold_us: u64,
    /// See [`Cell::rows`].
    pub rows: u64,
    /// What was measured.
    pub metric: String,
    /// In which unit.
    pub unit: String,
    /// See [`Spread::low`].
    pub low: f64,
    /// See [`Spread::median`].
    pub median: f64,
    /// See [`Spread::high`].
    pub high: f64,
    /// See [`Spread::samples`].
    pub samples: usize,
    /// Operations behind the numbers, all samples together.
    pub ops: u64,
    /// The contender's crates and their versions.
    pub version: String,
    /// What the contender does to make sure that a connection works.
    pub validation: String,
    /// The server's version; empty where there is none.
    pub server: String,
    /// See [`Stamp::commit`].
    pub commit: String,
    /// See [`Stamp::rustc`].
    pub rustc: String,
    /// See [`Stamp::cpu`].
    pub cpu: String,
    /// See [`Stamp::cores`].
    pub cores: usize,
    /// See [`Stamp::profile`].
    pub profile: String,
    /// See [`Stamp::date`].
    pub date: String,
    /// See [`Course::step_ms`]; 0 where there is no course.
    #[serde(default)]
    pub step_ms: u64,
    /// The values of a [`Course`] with `;` between them; the three numbers above are those of its values then.
    #[serde(default)]
    pub course: String,
}

/// A metric's name and unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in records.
    pub name: &'static str,
    /// Its unit in records.
    pub unit: &'static str,
}

/// Time of a whole run.
pub const WALL_MS: Metric = Metric { name: "wall", unit: "ms" };
/// Time of a run divided by its operations: what a program waits for one more operation, all threads together.
pub const NS_PER_OP: Metric = Metric { name: "per_op", unit: "ns" };
/// Operations in a second, all threads together.
pub const OPS_PER_S: Metric = Metric { name: "ops", unit: "1/s" };
/// Time of a run times its threads, divided by its operations: what each thread spends on one operation.
pub const THREAD_NS_PER_OP: Metric = Metric { name: "per_op_and_thread", unit: "ns" };
/// Opening a connection.
pub const CONNECT_NS: Metric = Metric { name: "connect", unit: "ns" };
/// Closing a connection, as the client sees it.
pub const CLOSE_NS: Metric = Metric { name: "close", unit: "ns" };
/// A round trip.
pub const PING_NS: Metric = Metric { name: "ping", unit: "ns" };
/// What an operation consists of, each per operation: connecting, standing blocked on the idle set's lock, standing in
/// line for a connection, the rest of the acquire, the statement, giving back (or closing, without a pool).
pub const PARTS: [Metric; 6] = [
    Metric { name: "part_connect", unit: "ns" },
    Metric { name: "part_lock_wait", unit: "ns" },
    Metric { name: "part_wait", unit: "ns" },
    Metric { name: "part_checkout", unit: "ns" },
    Metric { name: "part_query", unit: "ns" },
    Metric { name: "part_checkin", unit: "ns" },
];
/// Median acquire.
pub const P50: Metric = Metric { name: "acquire_p50", unit: "ns" };
/// 99th percentile of the acquires.
pub const P99: Metric = Metric { name: "acquire_p99", unit: "ns" };
/// 99.9th percentile of the acquires.
pub const P999: Metric = Metric { name: "acquire_p999", unit: "ns" };
/// The longest acquire.
pub const MAX: Metric = Metric { name: "acquire_max", unit: "ns" };
/// 99th percentile of whole operations, from asking for a connection to being ready to ask again.
pub const OPERATION_P99: Metric = Metric { name: "operation_p99", unit: "ns" };
/// Their 99.9th percentile.
pub const OPERATION_P999: Metric = Metric { name: "operation_p999", unit: "ns" };
/// The longest of them.
pub const OPERATION_MAX: Metric = Metric { name: "operation_max", unit: "ns" };
/// Operations of the best-served thread for each of the worst-served.
pub const UNFAIRNESS: Metric = Metric { name: "max_over_min", unit: "ratio" };

impl Record {
    /// A metric of a cell under a stamp.
    #[must_use]
    pub fn new(cell: &Cell, metric: Metric, spread: Spread, ops: u64, server: &str, stamp: &Stamp) -> Self {
        let row = cell.entrant().map(Entrant::row);
        let cell = cell.clone();
        let stamp = stamp.clone();
        Self {
            suite: cell.suite,
            workload: cell.workload,
            backend: cell.backend,
            flush: cell.flush,
            contender: cell.contender,
            threads: cell.threads,
            size: cell.size,
            hold_us: cell.hold_us,
            rows: cell.rows,
            metric: metric.name.to_owned(),
            unit: metric.unit.to_owned(),
            low: spread.low,
            median: spread.median,
            high: spread.high,
            samples: spread.samples,
            ops,
            version: row.map_or_else(String::new, |row| row.version.to_owned()),
            validation: row.map_or_else(String::new, |row| row.validation.to_owned()),
            server: server.to_owned(),
            commit: stamp.commit,
            rustc: stamp.rustc,
            cpu: stamp.cpu,
            cores: stamp.cores,
            profile: stamp.profile,
            date: stamp.date,
            step_ms: 0,
            course: String::new(),
        }
    }

    /// The same record with the course that its numbers sum up.
    #[must_use]
    pub fn with_course(self, course: &Course) -> Self {
        Self { step_ms: course.step_ms, course: course.text(), ..self }
    }

    /// How the metric went over time, when that was recorded.
    #[must_use]
    pub fn course(&self) -> Option<Course> {
        Course::parse(self.step_ms, &self.course)
    }

    /// Its cell.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell {
            suite: self.suite.clone(),
            workload: self.workload.clone(),
            backend: self.backend.clone(),
            flush: self.flush.clone(),
            contender: self.contender.clone(),
            threads: self.threads,
            size: self.size,
            hold_us: self.hold_us,
            rows: self.rows,
        }
    }

    /// Its stamp.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp {
            commit: self.commit.clone(),
            rustc: self.rustc.clone(),
            cpu: self.cpu.clone(),
            cores: self.cores,
            profile: self.profile.clone(),
            date: self.date.clone(),
        }
    }

    /// Its numbers.
    #[must_use]
    pub fn spread(&self) -> Spread {
        Spread { low: self.low, median: self.median, high: self.high, samples: self.samples }
    }

    /// Whether `other` is a newer measurement of the same thing.
    #[must_use]
    pub fn is_same_question(&self, other: &Self) -> bool {
        let is_course = |record: &Self| record.step_ms > 0;
        self.metric == other.metric && is_course(self) == is_course(other) && self.cell() == other.cell()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_tails() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high, spread.samples), (1.0, 2.0, 3.0, 3));
        let many: Vec<f64> = (0..=20).map(f64::from).collect();
        let spread = Spread::of(&many).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 10.0, 18.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn a_spread_knows_whether_its_ends_are_the_extremes() {
        for count in 1_u8..=20 {
            let spread = Spread::of(&(1..=count).map(f64::from).collect::<Vec<_>>()).unwrap();
            let is_whole = (spread.low, spread.high) == (1.0, f64::from(count));
            assert_eq!((spread.has_extremes(), spread.largest().is_some()), (is_whole, is_whole), "{count} samples");
        }
    }

    #[test]
    fn a_course_survives_its_text() {
        let course = Course { step_ms: 100, values: vec![0.0, 1.25, 1234.0] };
        assert_eq!(course.text(), "0;1.25;1234");
        assert_eq!(Course::parse(100, &course.text()), Some(course));
        assert_eq!(Course::parse(0, ""), None);
        assert_eq!(Course::parse(100, "1;x"), None);
    }

    #[test]
    fn a_reciprocal_swaps_low_and_high() {
        let spread = Spread { low: 1.0, median: 2.0, high: 4.0, samples: 3 }.map(|value| 1.0 / value);
        assert_eq!((spread.low, spread.median, spread.high), (0.25, 0.5, 1.0));
    }
}

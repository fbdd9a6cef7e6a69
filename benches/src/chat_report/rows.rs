//! What was measured: the lines of the data, and choices of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::contenders::Entrant;
use crate::record::Spread;

/// One number of one run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Row {
    /// `traffic`, `logins`, `idle` or `start`.
    pub question: String,
    /// `modern` or `original`.
    pub protocol: String,
    /// `ours` or `original`.
    pub server: String,
    /// `sqlite` or `mariadb`; with how commits reach the disk.
    pub database: String,
    /// `durable` or `relay`.
    pub delivery: String,
    /// The pool that the server was built with.
    pub pool: String,
    /// How many nodes, and what is between them.
    pub nodes: String,
    /// Conversations at the same time.
    pub conversations: String,
    /// Members of a group, 0 for single users.
    pub group_size: String,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pub kind: String,
    /// Messages of a conversation in flight, in closed loop.
    pub window: String,
    /// Messages per second, in open loop.
    pub rate: String,
    /// Bytes of a text.
    pub size: String,
    /// `password` or `resume`.
    pub way: String,
    /// Logins at the same time.
    pub in_flight: String,
    /// Idle sessions.
    pub sessions: String,
    /// What was measured.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// The number.
    pub value: f64,
    /// The commit of the server and the generator.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// The processor.
    pub cpu: String,
    /// Processors.
    pub cores: usize,
    /// The day.
    pub date: String,
    /// Of the file that it stands in, without its ending.
    #[serde(skip)]
    pub file: String,
}

impl Row {
    pub(super) fn stamp(&self) -> String {
        let Self { cpu, cores, commit, rustc, date, .. } = self;
        format!("{cpu}, {cores} cores, generator on the same machine · commit {commit} · {rustc} · {date}")
    }

    /// The contender that the server was built with; `None` for one that the lab does not know.
    pub(super) fn entrant(&self) -> Option<Entrant> {
        // The server's feature for the lock-free queue is older than the kind that stands on the crate of its name.
        match self.pool.as_str() {
            "lockfree" => Some(Entrant::LockFree),
            "none" => Some(Entrant::NoPool),
            id => Entrant::from_id(id),
        }
    }

    /// Who answered: the server, what it stands on, how it was spoken to.
    pub(super) fn who(&self) -> String {
        let mut who = match self.server.as_str() {
            "original" => "the original".to_owned(),
            _ => format!("{}, {}", self.delivery, self.database),
        };
        if self.protocol == "original" && self.server != "original" {
            who.push_str(", original protocol");
        }
        if !matches!(self.nodes.as_str(), "" | "1") {
            // Recorded as `2 over Redis`.
            let _ = write!(who, ", {}", self.nodes.replacen(' ', " nodes ", 1));
        }
        who
    }
}

/// Rows of a question.
#[derive(Debug, Clone)]
pub(super) struct Data<'a>(pub(super) Vec<&'a Row>);

impl<'a> Data<'a> {
    pub(super) fn of(rows: &'a [Row], question: &str) -> Self {
        Self(rows.iter().filter(|row| row.question == question).collect())
    }

    pub(super) fn filter(&self, is_wanted: impl Fn(&Row) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|row| is_wanted(row)).collect())
    }

    /// The values of a field, numbers by size.
    pub(super) fn values(&self, field: impl Fn(&Row) -> String) -> Vec<String> {
        let mut values: Vec<String> =
            self.0.iter().map(|row| field(row)).collect::<BTreeSet<_>>().into_iter().collect();
        values.sort_by(|one, other| match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(one), Ok(other)) => one.total_cmp(&other),
            _ => one.cmp(other),
        });
        values
    }

    /// The contenders, in the order of the tables.
    pub(super) fn entrants(&self) -> Vec<Entrant> {
        self.0.iter().filter_map(|row| row.entrant()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A number over all runs.
    pub(super) fn spread(&self, metric: &str) -> Option<Spread> {
        let values: Vec<f64> = self.0.iter().filter(|row| row.metric == metric).map(|row| row.value).collect();
        Spread::of(&values)
    }

    pub(super) fn median(&self, metric: &str) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }

    /// The largest number of all runs, where it was recorded: what is the largest in its run is summed up by no median.
    pub(super) fn largest(&self, metric: &str) -> Option<f64> {
        self.spread(metric).and_then(|spread| spread.largest())
    }

    pub(super) fn stamps(&self) -> Vec<String> {
        self.0.iter().map(|row| row.stamp()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The file of the question about pools. Its rows are compared with one another only, since they were measured in turns.
pub(super) const POOLS: &str = "pools";

/// Traffic in closed loop, with the default pool.
pub(super) fn closed(rows: &[Row]) -> Data<'_> {
    Data::of(rows, "traffic").filter(|row| row.kind == "closed" && row.file != POOLS)
}

/// The same load on each pool.
pub(super) fn pools(rows: &[Row]) -> Data<'_> {
    Data::of(rows, "traffic").filter(|row| row.kind == "closed" && row.file == POOLS)
}

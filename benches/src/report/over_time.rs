//! The tables of the scenarios, of the policies and of the memory, for `reports/SCENARIOS.md`.

use crate::chart::figures::Data;
use crate::contenders::Entrant;
use crate::fairness::{Contestant, Load};
use crate::footprint::{CROWD_MS, IDLE_BYTES, Question, TASK_BYTES, THREAD_BYTES, THREADS};
use crate::record::{MAX, Metric, OPS_PER_S, P50, P99, P999, Record, UNFAIRNESS, WALL_MS};
use crate::scenario::cancel::{CALM_OPS_PER_S, CANCELLED_PER_S, CANCELLED_SHARE, EXCESS, USABLE};
use crate::scenario::churn::OLDEST_MS;
use crate::scenario::door::Kind;
use crate::scenario::outage::{
    ATTEMPTS_PER_S, FAILED_QUERIES, FAILURE_P50, FULL_RECOVERY_MS, RECOVERY_MS, TOLD, UNTOLD,
};
use crate::scenario::spike::{OPENED, OPENED_WHEN_SERVED};
use crate::scenario::{CONNECTS_PER_S, ERRORS, MOST_OPEN, Scenario};
use crate::units::{count, digits, time, times};

use super::{Piece, label, shown, table};

/// Every piece for which there are records.
pub(super) fn pieces(records: &[Record]) -> Vec<Piece> {
    let tables = [
        ("scenarios-stamp", super::stamp_of(records, &["fairness", "memory", "scenarios"])),
        ("scenarios-contenders", contenders(records)),
        ("table-spike", scenario(records, Scenario::Spike, &SPIKE)),
        ("table-outage", scenario(records, Scenario::Outage, &OUTAGE)),
        ("table-churn", scenario(records, Scenario::Churn, &CHURN)),
        ("table-saturation-over-time", scenario(records, Scenario::Saturation, &SATURATION)),
        ("table-cancel", scenario(records, Scenario::Cancel, &CANCEL)),
        ("table-policies", policies(records)),
        ("table-memory", memory(records)),
    ];
    tables.into_iter().filter_map(|(name, text)| Some(Piece { name: name.to_owned(), text: text? })).collect()
}

type Field = (&'static str, Metric, fn(f64) -> String);

fn milliseconds(ms: f64) -> String {
    time(ms * 1e6)
}

fn percent(share: f64) -> String {
    format!("{} %", digits(100.0 * share))
}

fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes.abs() < 1_024.0 => format!("{} B", digits(bytes)),
        bytes => format!("{} KiB", digits(bytes / 1_024.0)),
    }
}

const SPIKE: [Field; 7] = [
    ("opened", OPENED, count),
    ("of them until all were served", OPENED_WHEN_SERVED, count),
    ("most open", MOST_OPEN, count),
    ("all served in", WALL_MS, milliseconds),
    ("wait p50", P50, time),
    ("wait p99", P99, time),
    ("wait max", MAX, time),
];

const OUTAGE: [Field; 8] = [
    ("first success after", RECOVERY_MS, milliseconds),
    ("nine tenths of before after", FULL_RECOVERY_MS, milliseconds),
    ("connects/s while gone", ATTEMPTS_PER_S, count),
    ("failed acquires with cause", TOLD, count),
    ("without", UNTOLD, count),
    ("failing acquire p50", FAILURE_P50, time),
    ("failed queries", FAILED_QUERIES, count),
    ("most open", MOST_OPEN, count),
];

const CHURN: [Field; 8] = [
    ("operations/s", OPS_PER_S, count),
    ("connects/s", CONNECTS_PER_S, count),
    ("wait p50", P50, time),
    ("wait p99", P99, time),
    ("wait max", MAX, time),
    ("oldest lent", OLDEST_MS, milliseconds),
    ("errors", ERRORS, count),
    ("most open", MOST_OPEN, count),
];

const SATURATION: [Field; 6] = [
    ("operations/s", OPS_PER_S, count),
    ("wait p50", P50, time),
    ("wait p99", P99, time),
    ("wait p99.9", P999, time),
    ("wait max", MAX, time),
    ("best over worst served", UNFAIRNESS, times),
];

const CANCEL: [Field; 8] = [
    ("operations/s of those who stay", OPS_PER_S, count),
    ("without the storm", CALM_OPS_PER_S, count),
    ("their wait p99", P99, time),
    ("max", MAX, time),
    ("cancelled/s", CANCELLED_PER_S, count),
    ("share", CANCELLED_SHARE, percent),
    ("usable afterwards", USABLE, count),
    ("beyond the limit", EXCESS, count),
];

fn field(cell: &Data<'_>, metric: Metric, unit: fn(f64) -> String) -> String {
    shown(cell, metric).map_or_else(|| "–".to_owned(), unit)
}

/// A table with a row for each contender and door.
fn scenario(records: &[Record], scenario: Scenario, fields: &[Field]) -> Option<String> {
    let data = Data::of(records, "scenarios");
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let data = data.filter(|record| record.workload == scenario.workload(kind));
        for entrant in data.entrants() {
            let cell = data.by(entrant);
            let values = fields.iter().map(|(_, metric, unit)| field(&cell, *metric, *unit));
            rows.push([kind.label().to_owned(), label(entrant)].into_iter().chain(values).collect());
        }
    }
    let headings: Vec<String> = ["clients", "contender"]
        .into_iter()
        .chain(fields.iter().map(|(heading, ..)| *heading))
        .map(str::to_owned)
        .collect();
    table(&headings, &rows)
}

/// A table for each load.
fn policies(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "fairness");
    let fields: [Field; 6] = [
        ("operations/s", OPS_PER_S, count),
        ("wait p50", P50, time),
        ("wait p99", P99, time),
        ("wait p99.9", P999, time),
        ("wait max", MAX, time),
        ("best over worst served", UNFAIRNESS, times),
    ];
    let mut text = String::new();
    for load in Load::ALL {
        let rows: Vec<Vec<String>> = Contestant::ALL
            .into_iter()
            .filter_map(|contestant| {
                let cell = data.of_contestant(contestant, load);
                if cell.is_empty() {
                    return None;
                }
                let name = contestant.label();
                let name = if contestant.entrant.row().is_ours { format!("**{name}**") } else { name.to_owned() };
                let values = fields.iter().map(|(_, metric, unit)| field(&cell, *metric, *unit));
                Some(std::iter::once(name).chain(values).collect())
            })
            .collect();
        let headings: Vec<String> =
            std::iter::once(load.label()).chain(fields.iter().map(|(heading, ..)| (*heading).to_owned())).collect();
        if let Some(table) = table(&headings, &rows) {
            text.push_str(&table);
            text.push('\n');
        }
    }
    (!text.is_empty()).then_some(text)
}

/// One table for all questions.
fn memory(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "memory");
    let of = |question: Question| data.filter(|record| record.workload == question.label());
    let (idle, threads, tasks) = (of(Question::Idle), of(Question::Threads), of(Question::Tasks));
    let rows: Vec<Vec<String>> = data
        .entrants()
        .into_iter()
        .map(|entrant| {
            let (idle, threads, tasks) = (idle.by(entrant), threads.by(entrant), tasks.by(entrant));
            vec![
                label(entrant),
                field(&idle, IDLE_BYTES, bytes),
                field(&idle, THREADS, count),
                field(&threads, THREAD_BYTES, bytes),
                field(&tasks, TASK_BYTES, bytes),
                field(&tasks, CROWD_MS, milliseconds),
            ]
        })
        .collect();
    let crowd = tasks.threads().into_iter().max().map_or_else(String::new, |tasks| crate::units::grouped(tasks as u64));
    let headings = [
        "contender".to_owned(),
        "idle pool of 10".to_owned(),
        "threads started".to_owned(),
        "a waiting thread".to_owned(),
        "a waiting task".to_owned(),
        format!("{crowd} tasks on 3 served in"),
    ];
    table(&headings, &rows)
}

/// The peers' versions, from the records.
fn contenders(records: &[Record]) -> Option<String> {
    let is_here = |record: &&Record| ["fairness", "memory", "scenarios"].contains(&record.suite.as_str());
    let rows: Vec<Vec<String>> = Entrant::ALL
        .into_iter()
        .filter_map(|entrant| {
            let record = records.iter().filter(is_here).find(|record| record.contender == entrant.row().id)?;
            Some(vec![label(entrant), record.version.clone()])
        })
        .collect();
    table(&["contender", "versions"].map(str::to_owned), &rows)
}

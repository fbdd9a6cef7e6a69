//! Does the order in which idle connections are lent matter? Pairs of rows that differ in nothing else.

use std::fmt::Write as _;

use crate::chart::figures::Data;
use crate::contenders::Entrant;
use crate::record::{NS_PER_OP, Record};
use crate::units::{time, times};

use super::{by_threads, label, table};

const WORKLOADS: [(&str, &str); 2] = [("point select", "Point selects"), ("insert", "Relaxed inserts")];

pub(super) fn order(records: &[Record]) -> Option<String> {
    let mut text = String::new();
    for (workload, title) in WORKLOADS {
        let data = Data::of(records, "order").filter(|record| record.workload == workload);
        let Some(rows) = by_threads(&data, NS_PER_OP, time) else { continue };
        let _ = writeln!(text, "{title}, time of each:\n\n{rows}");
        if let Some(pairs) = pairs(&data) {
            let _ = writeln!(text, "{title}, how many times as long when the connections take turns:\n\n{pairs}");
        }
    }
    (!text.is_empty()).then_some(text)
}

/// A row for each pair.
fn pairs(data: &Data<'_>) -> Option<String> {
    let threads = data.threads();
    let median = |entrant: Entrant, threads: usize| {
        let cell = data.by(entrant).filter(|record| record.threads == threads);
        cell.spread(NS_PER_OP).map(|spread| spread.median)
    };
    let row = |turns: Entrant| {
        let last_used = turns.without_turns()?;
        let fields: Vec<Option<f64>> =
            threads.iter().map(|threads| Some(median(turns, *threads)? / median(last_used, *threads)?)).collect();
        let is_measured = fields.iter().any(Option::is_some);
        let fields = fields.into_iter().map(|ratio| ratio.map_or_else(|| "–".to_owned(), times));
        is_measured.then(|| std::iter::once(label(last_used)).chain(fields).collect())
    };
    let rows: Vec<Vec<String>> = Entrant::IN_TURNS.into_iter().filter_map(row).collect();
    let headings: Vec<String> =
        std::iter::once("threads".to_owned()).chain(threads.iter().map(ToString::to_string)).collect();
    table(&headings, &rows)
}

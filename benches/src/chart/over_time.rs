//! The charts of the scenarios and of the policies.

use crate::backend::Failure;
use crate::fairness::{Contestant, Load};
use crate::record::{Course, Metric, OPS_PER_S, P50, P99, P999, Record, UNFAIRNESS, WALL_MS};
use crate::scenario::door::Kind;
use crate::scenario::outage::{ATTEMPTS_PER_S, FAILURES, RECOVERY_MS, SUCCESSES, TOLD, UNTOLD};
use crate::scenario::spike::{OPEN, OPENED};
use crate::scenario::{ERRORS, Scenario};
use crate::units::{count, time, times};

use super::figures::{Data, Figure, name};
use super::matrix::{self, Mark, Name, matrix};
use super::strips::{Column, Section, Strip, Track, strips};

/// Draws every one for which there are records.
///
/// # Errors
///
/// When one cannot be drawn.
pub fn figures(records: &[Record]) -> Result<Vec<Figure>, Failure> {
    let all = [
        ("spike.svg", "Open connections over time in a spike of fifty clients", spike(records)?),
        ("outage.svg", "Successes and failures over time while the database goes and comes back", outage(records)?),
        (
            "saturation-over-time.svg",
            "Throughput and waits over time when clients outnumber connections",
            saturation(records)?,
        ),
        ("policies.svg", "Throughput, tail and fairness of our three policies and of the peers", policies(records)?),
    ];
    Ok(all.into_iter().filter_map(|(file, alt, svg)| Some(Figure { file, alt, svg: svg? })).collect())
}

/// A section for each door, a strip for each contender that was followed.
fn sections(
    data: &Data<'_>,
    scenario: Scenario,
    columns: impl Fn(u64) -> Vec<Column>,
    strip: impl Fn(&Data<'_>) -> Option<(Vec<Track>, Vec<String>, u64)>,
) -> Vec<Section> {
    let section = |kind: Kind| {
        let data = data.filter(|record| record.workload == scenario.workload(kind));
        let mut step_ms = 0;
        let strips: Vec<Strip> = data
            .entrants()
            .into_iter()
            .filter_map(|entrant| {
                let (tracks, notes, step) = strip(&data.by(entrant))?;
                step_ms = step;
                let Name { label, colour, is_ours } = name(entrant);
                Some(Strip { label, colour, is_ours, tracks, notes })
            })
            .collect();
        let setting = scenario.setting();
        let heading = format!("{} {} on {} connections", setting.clients, kind.label(), setting.size);
        (!strips.is_empty()).then(|| Section { heading, columns: columns(step_ms), strips, band: None })
    };
    Kind::ALL.into_iter().filter_map(section).collect()
}

fn median(cell: &Data<'_>, metric: Metric) -> Option<f64> {
    cell.spread(metric).map(|spread| spread.median)
}

fn milliseconds(ms: f64) -> String {
    time(ms * 1e6)
}

fn spike(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "scenarios").filter(|record| record.workload.starts_with(Scenario::Spike.id()));
    let sections = sections(
        &data,
        Scenario::Spike,
        |step_ms| vec![Column { heading: "connections open".to_owned(), step_ms, unit: count, at_least: 50.0 }],
        |cell| {
            let Course { step_ms, values } = cell.course(OPEN)?;
            let notes = vec![
                format!("{} opened", count(median(cell, OPENED)?)),
                format!("all served in {}", milliseconds(median(cell, WALL_MS)?)),
            ];
            Some((vec![Track::Areas { up: values, down: Vec::new() }], notes, step_ms))
        },
    );
    if sections.is_empty() {
        return Ok(None);
    }
    let heading = data.heading(
        "Fifty clients at once on an empty pool: how many connections it opens",
        &["stub: a connect takes 150 ms, a query 2 ms; the round in the middle; numbers: medians of the rounds"],
    );
    strips(&heading, &sections).map(Some)
}

fn outage(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "scenarios").filter(|record| record.workload.starts_with(Scenario::Outage.id()));
    let mut sections = sections(
        &data,
        Scenario::Outage,
        |step_ms| {
            let heading = format!("per {step_ms} ms: successes up, failures down");
            vec![Column { heading, step_ms, unit: count, at_least: 0.0 }]
        },
        |cell| {
            let (up, down) = (cell.course(SUCCESSES)?, cell.course(FAILURES)?);
            let first = median(cell, RECOVERY_MS)
                .map_or_else(|| "no success afterwards".to_owned(), |ms| format!("back after {}", milliseconds(ms)));
            let attempts = median(cell, ATTEMPTS_PER_S)?;
            let (told, untold) = (median(cell, TOLD)?, median(cell, UNTOLD)?);
            let cause = match (told > 0.0, untold > 0.0) {
                (false, false) => "",
                (true, false) => ", all acquires say why",
                (false, true) => ", no acquire says why",
                (true, true) => ", some acquires say why",
            };
            let notes = vec![
                format!("{first}; {} connects/s", count(attempts)),
                format!("{} failures{cause}", count(median(cell, ERRORS)?)),
            ];
            Some((vec![Track::Areas { up: up.values, down: down.values }], notes, up.step_ms))
        },
    );
    if sections.is_empty() {
        return Ok(None);
    }
    for section in &mut sections {
        section.band = data.window();
    }
    let heading = data.heading(
        "The database goes and comes back",
        &["stub: refuses every connect while it is gone (shaded); connects/s: attempts in that time"],
    );
    strips(&heading, &sections).map(Some)
}

fn saturation(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "scenarios").filter(|record| record.workload.starts_with(Scenario::Saturation.id()));
    let sections = sections(
        &data,
        Scenario::Saturation,
        |step_ms| {
            let column = |heading: &str, unit| Column { heading: heading.to_owned(), step_ms, unit, at_least: 0.0 };
            vec![column("operations/s", count as fn(f64) -> String), column("p50, p99, max", time)]
        },
        |cell| {
            let Course { step_ms, values } = cell.course(OPS_PER_S)?;
            let waits = [P50, P99, crate::record::MAX].map(|metric| cell.course(metric).map(|course| course.values));
            let waits = waits.into_iter().collect::<Option<Vec<_>>>()?;
            let notes = vec![
                format!("{}/s, p99.9 {}", count(median(cell, OPS_PER_S)?), time(median(cell, P999)?)),
                format!("best over worst served {}", times(median(cell, UNFAIRNESS)?)),
            ];
            Some((vec![Track::Areas { up: values, down: Vec::new() }, Track::Lines(waits)], notes, step_ms))
        },
    );
    if sections.is_empty() {
        return Ok(None);
    }
    let heading = data.heading(
        "Four clients for each connection, over time",
        &["stub: a query takes 1 ms (a task's timer up to twice that, so doors are not compared); waits: logarithmic"],
    );
    strips(&heading, &sections).map(Some)
}

fn policies(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "fairness");
    if data.is_empty() {
        return Ok(None);
    }
    let section = |heading: &str, unit: fn(f64) -> String, mark: fn(&Data<'_>) -> Option<Mark>| {
        let column = |load: &Load| {
            let marks =
                Contestant::ALL.iter().map(|contestant| mark(&data.of_contestant(*contestant, *load))).collect();
            matrix::Column { heading: load.label(), marks }
        };
        let names = Contestant::ALL
            .iter()
            .map(|contestant| Name {
                label: contestant.label().to_owned(),
                colour: contestant.colour(),
                is_ours: contestant.entrant.row().is_ours,
            })
            .collect();
        matrix::Section {
            heading: heading.to_owned(),
            names,
            columns: Load::ALL.iter().map(column).collect(),
            unit,
            is_shared: false,
        }
    };
    let sections = [
        section("Operations per second; further right is faster", count, |cell| cell.spread(OPS_PER_S).map(Mark::Dot)),
        section(
            "Wait for a connection: ticks at p50 and p99, dot and number at p99.9; further left is better",
            time,
            |cell| {
                let [p50, p99, p999] = [P50, P99, P999].map(|metric| cell.spread(metric).map(|spread| spread.median));
                Some(Mark::Tail { p50: p50?, p99: p99?, p999: p999? })
            },
        ),
        section("Operations of the best-served client over the worst-served; 1x is fair", times, |cell| {
            cell.spread(UNFAIRNESS).map(Mark::Dot)
        }),
    ];
    let heading = data.heading(
        "Who is served next: our three policies and the peers",
        &["stub connections; bounded is our default; dots: medians, lines: lowest to highest; async pools on threads are polled there"],
    );
    matrix(&heading, &sections).map(Some)
}

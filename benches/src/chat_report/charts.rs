//! The charts of the chat server.

use super::rows::{Data, Row, closed, pools};
use super::{microseconds, milliseconds};
use crate::backend::Failure;
use crate::chart::matrix::{Column, Mark, Name, Section, matrix};
use crate::chart::{Heading, figures};
use crate::units::count;

/// The colours of rows that are no contenders, in turn.
const COLOURS: [(u8, u8, u8); 8] = [
    (0x1f, 0x77, 0xb4),
    (0xff, 0x7f, 0x0e),
    (0x2c, 0xa0, 0x2c),
    (0xd6, 0x27, 0x28),
    (0x94, 0x67, 0xbd),
    (0x8c, 0x56, 0x4b),
    (0xe3, 0x77, 0xc2),
    (0x7f, 0x7f, 0x7f),
];

/// Each chart for which there are rows: name, text for who does not see it, picture.
pub(super) fn charts(rows: &[Row]) -> Result<Vec<(&'static str, &'static str, String)>, Failure> {
    let all = [
        (
            "chat-traffic",
            "Messages delivered per second and server time for each, by number of pairs",
            traffic_chart(rows)?,
        ),
        ("chat-latency", "Latency of messages at a paced rate", latency_chart(rows)?),
        ("chat-pools", "What the choice of the pool changes in the whole server", pools_chart(rows)?),
    ];
    Ok(all.into_iter().filter_map(|(name, alt, svg)| Some((name, alt, svg?))).collect())
}

fn names(labels: &[String]) -> Vec<Name> {
    let colours = COLOURS.iter().cycle();
    let name = |(label, colour): (&String, &(u8, u8, u8))| Name {
        label: label.clone(),
        colour: *colour,
        is_ours: label != "the original",
    };
    labels.iter().zip(colours).map(name).collect()
}

fn heading(data: &Data<'_>, title: &str, how: &str) -> Heading {
    let mut lines = data.stamps();
    lines.push(how.to_owned());
    Heading { title: title.to_owned(), lines }
}

pub(super) fn traffic_chart(rows: &[Row]) -> Result<Option<String>, Failure> {
    let data = closed(rows).filter(|row| row.window == "1" && row.group_size == "0");
    if data.0.is_empty() {
        return Ok(None);
    }
    let (who, pairs) = (data.values(Row::who), data.values(|row| row.conversations.clone()));
    let section = |heading: &str, metric: &str, unit: fn(f64) -> String| Section {
        heading: heading.to_owned(),
        names: names(&who),
        columns: pairs
            .iter()
            .map(|pairs| Column {
                heading: format!("{pairs} pairs"),
                marks: who
                    .iter()
                    .map(|who| {
                        let cell = data.filter(|row| row.who() == *who && row.conversations == *pairs);
                        cell.spread(metric).map(Mark::Dot)
                    })
                    .collect(),
            })
            .collect(),
        unit,
        is_shared: true,
    };
    let sections = [
        section("delivered per second (further right is better)", "delivered", count),
        section("server's processor time for each (further left is better)", "server_cpu", microseconds),
    ];
    let how = "closed loop, one message of each pair in flight; dot and number: median of the runs; line: all runs";
    matrix(&heading(&data, "Messages between pairs of users", how), &sections).map(Some)
}

fn latency_chart(rows: &[Row]) -> Result<Option<String>, Failure> {
    let data = Data::of(rows, "traffic").filter(|row| row.kind == "open");
    if data.0.is_empty() {
        return Ok(None);
    }
    let label = |row: &Row| format!("{} at {}/s", row.who(), count(row.rate.parse().unwrap_or(0.0)));
    let who = data.values(label);
    let marks = who.iter().map(|who| {
        let cell = data.filter(|row| label(row) == *who);
        let [p50, p99, p999] = ["latency_p50", "latency_p99", "latency_p999"].map(|metric| cell.median(metric));
        Some(Mark::Tail { p50: p50?, p99: p99?, p999: p999? })
    });
    let section = Section {
        heading: "from when a message was due to its arrival".to_owned(),
        names: names(&who),
        columns: vec![Column { heading: "p50, p99, p99.9".to_owned(), marks: marks.collect() }],
        unit: milliseconds,
        is_shared: true,
    };
    let how = "open loop; ticks: p50 and p99; dot and number: p99.9; medians of the runs; further left is better";
    matrix(&heading(&data, "Latency at a paced rate", how), &[section]).map(Some)
}

pub(super) fn pools_chart(rows: &[Row]) -> Result<Option<String>, Failure> {
    let data = pools(rows);
    if data.0.is_empty() {
        return Ok(None);
    }
    let (pools, who) = (data.entrants(), data.values(Row::who));
    let section = |heading: &str, metric: &str, unit: fn(f64) -> String| Section {
        heading: heading.to_owned(),
        names: pools.iter().map(|pool| figures::name(*pool)).collect(),
        columns: who
            .iter()
            .map(|who| Column {
                heading: who.clone(),
                marks: pools
                    .iter()
                    .map(|pool| {
                        let cell = data.filter(|row| row.who() == *who && row.entrant() == Some(*pool));
                        cell.spread(metric).map(Mark::Dot)
                    })
                    .collect(),
            })
            .collect(),
        unit,
        is_shared: false,
    };
    let sections = [
        section("delivered per second (further right is better)", "delivered", count),
        section("server's processor time for each (further left is better)", "server_cpu", microseconds),
    ];
    let how = "closed loop, one message of each pair in flight; dot and number: median of the runs; line: all runs";
    matrix(&heading(&data, "The same server on each pool", how), &sections).map(Some)
}

//! The tables of the chat server.

use std::fmt::Write as _;

use super::rows::{Data, Row, closed, pools};
use super::{microseconds, milliseconds};
use crate::record::Spread;
use crate::report::{Piece, label};
use crate::units::{count, digits};

pub(super) fn tables(rows: &[Row]) -> Vec<Piece> {
    let stamps = Data(rows.iter().collect()).stamps();
    let all = [
        ("chat-stamp", Some(stamps.iter().map(|stamp| format!("- {stamp}\n")).collect())),
        ("chat-traffic", traffic_table(rows)),
        ("chat-latency", latency_table(rows)),
        ("chat-pools", pools_table(rows)),
        ("chat-logins", logins_table(rows)),
        ("chat-idle", idle_table(rows)),
        ("chat-start", start_table(rows)),
    ];
    all.into_iter().filter_map(|(name, text)| Some(Piece { name: name.to_owned(), text: text? })).collect()
}

/// A table in Markdown, without rows none.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut text = format!("| {} |\n|:--|{}\n", head.join(" | "), "--:|".repeat(head.len() - 1));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    Some(text)
}

fn field(value: Option<f64>, unit: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), unit)
}

pub(super) fn traffic_table(rows: &[Row]) -> Option<String> {
    let data = closed(rows);
    let load = |row: &Row| {
        let what = if row.group_size == "0" { "pairs".to_owned() } else { format!("groups of {}", row.group_size) };
        format!("{:>6} {what}, {} in flight", row.conversations, row.window)
    };
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        let own = data.filter(|row| row.who() == who);
        let loads = |of_groups| own.filter(|row| (row.group_size != "0") == of_groups).values(load);
        for load_of in loads(false).into_iter().chain(loads(true)) {
            let cell = own.filter(|row| load(row) == load_of);
            lines.push(vec![
                who.clone(),
                load_of.trim_start().to_owned(),
                field(cell.median("delivered"), count),
                field(cell.median("accepted"), count),
                field(cell.median("server_cpu"), microseconds),
                field(cell.median("generator_cpu"), microseconds),
                field(cell.median("latency_p50"), milliseconds),
                field(cell.median("latency_p99"), milliseconds),
                field(cell.largest("lost"), digits),
            ]);
        }
    }
    let head = [
        "server",
        "load",
        "delivered/s",
        "accepted/s",
        "server time each",
        "generator time each",
        "p50",
        "p99",
        "lost",
    ];
    table(&head, lines)
}

fn latency_table(rows: &[Row]) -> Option<String> {
    let data = Data::of(rows, "traffic").filter(|row| row.kind == "open");
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        let own = data.filter(|row| row.who() == who);
        for rate in own.values(|row| row.rate.clone()) {
            let cell = own.filter(|row| row.rate == rate);
            let latency = |metric: &str| field(cell.median(metric), milliseconds);
            lines.push(vec![
                who.clone(),
                field(rate.parse().ok(), count),
                field(cell.median("delivered"), count),
                latency("latency_p50"),
                latency("latency_p90"),
                latency("latency_p99"),
                latency("latency_p999"),
                field(cell.largest("latency_max"), milliseconds),
                latency("answer_p99"),
            ]);
        }
    }
    let head = ["server", "due/s", "delivered/s", "p50", "p90", "p99", "p99.9", "max", "p99 of the answer"];
    table(&head, lines)
}

pub(super) fn pools_table(rows: &[Row]) -> Option<String> {
    let data = pools(rows);
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        for pool in data.entrants() {
            let cell = data.filter(|row| row.who() == who && row.entrant() == Some(pool));
            let Some(Spread { low, median, high, .. }) = cell.spread("delivered") else { continue };
            lines.push(vec![
                who.clone(),
                label(pool),
                count(median),
                format!("{} to {}", count(low), count(high)),
                field(cell.median("server_cpu"), microseconds),
                field(cell.median("latency_p99"), milliseconds),
            ]);
        }
    }
    table(&["server", "pool", "delivered/s", "all runs", "server time each", "p99"], lines)
}

fn logins_table(rows: &[Row]) -> Option<String> {
    let data = Data::of(rows, "logins");
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        let own = data.filter(|row| row.who() == who);
        for way in own.values(|row| row.way.clone()) {
            for in_flight in own.values(|row| row.in_flight.clone()) {
                let cell = own.filter(|row| row.way == way && row.in_flight == in_flight);
                let Some(logins) = cell.median("logins") else { continue };
                lines.push(vec![
                    who.clone(),
                    way.clone(),
                    in_flight,
                    count(logins),
                    field(cell.median("login_p50"), milliseconds),
                    field(cell.median("login_p99"), milliseconds),
                    field(cell.median("server_cpu"), microseconds),
                ]);
            }
        }
    }
    table(&["server", "way", "in flight", "logins/s", "p50", "p99", "server time each"], lines)
}

fn idle_table(rows: &[Row]) -> Option<String> {
    let data = Data::of(rows, "idle");
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        let own = data.filter(|row| row.who() == who);
        for sessions in own.values(|row| row.sessions.clone()) {
            let cell = own.filter(|row| row.sessions == sessions);
            lines.push(vec![
                who.clone(),
                sessions,
                field(cell.median("per_session"), |bytes| format!("{} KiB", digits(bytes / 1024.0))),
                field(cell.median("server_resident"), |mib| format!("{} MiB", digits(mib))),
                field(cell.median("idle_cpu"), |cores| format!("{} %", digits(100.0 * cores))),
            ]);
        }
    }
    table(&["server", "idle sessions", "resident each", "resident", "of one core, idle"], lines)
}

pub(super) fn start_table(rows: &[Row]) -> Option<String> {
    let data = Data::of(rows, "start");
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        let cell = data.filter(|row| row.who() == who);
        let Some(Spread { low, median, high, .. }) = cell.spread("ready") else { continue };
        lines.push(vec![
            who,
            milliseconds(median),
            format!("{} to {}", milliseconds(low), milliseconds(high)),
            field(cell.median("first_answer"), milliseconds),
            field(cell.median("stop"), milliseconds),
            field(cell.median("server_resident"), |mib| format!("{} MiB", digits(mib))),
        ]);
    }
    table(&["server", "ready", "all runs", "first answer", "from SIGTERM to its end", "resident"], lines)
}

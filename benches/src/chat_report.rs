//! The chat server's report: `reports/data/chat/*.csv`, as `scripts/load` leaves them, drawn and put into
//! `reports/CHAT.md`. Each line is one number of one run; runs of the same circumstances are summarised here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::backend::Failure;
use crate::chart::Heading;
use crate::chart::matrix::{Column, Mark, Name, Section, matrix};
use crate::record::Spread;
use crate::report::{Piece, splice};
use crate::units::{count, digits, time};

/// The report that is filled.
pub const REPORT: &str = "CHAT.md";
/// The folder of the data, which have other columns than those of the suites.
pub const DATA: &str = "data/chat";
/// The rows' colours, in turn.
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
    fn stamp(&self) -> String {
        let Self { cpu, cores, commit, rustc, date, .. } = self;
        format!("{cpu}, {cores} cores, generator on the same machine · commit {commit} · {rustc} · {date}")
    }

    /// Who answered: the server, what it stands on, how it was spoken to.
    fn who(&self) -> String {
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
struct Data<'a>(Vec<&'a Row>);

impl<'a> Data<'a> {
    fn of(rows: &'a [Row], question: &str) -> Self {
        Self(rows.iter().filter(|row| row.question == question).collect())
    }

    fn filter(&self, is_wanted: impl Fn(&Row) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|row| is_wanted(row)).collect())
    }

    /// The values of a field, numbers by size.
    fn values(&self, field: impl Fn(&Row) -> String) -> Vec<String> {
        let mut values: Vec<String> =
            self.0.iter().map(|row| field(row)).collect::<BTreeSet<_>>().into_iter().collect();
        values.sort_by(|one, other| match (one.parse::<f64>(), other.parse::<f64>()) {
            (Ok(one), Ok(other)) => one.total_cmp(&other),
            _ => one.cmp(other),
        });
        values
    }

    /// A number over all runs.
    fn spread(&self, metric: &str) -> Option<Spread> {
        let values: Vec<f64> = self.0.iter().filter(|row| row.metric == metric).map(|row| row.value).collect();
        Spread::of(&values)
    }

    fn median(&self, metric: &str) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }

    fn stamps(&self) -> Vec<String> {
        self.0.iter().map(|row| row.stamp()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Reads every file of the folder; none where nothing was measured yet.
///
/// # Errors
///
/// When a file cannot be read or a line is no row.
pub fn read(reports: &Path) -> Result<Vec<Row>, Failure> {
    let folder = reports.join(DATA);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&folder).map_err(|error| Failure::of(folder.display(), error))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    let mut rows = Vec::new();
    for path in paths {
        let failed = |error: csv::Error| Failure::of(path.display(), error);
        for row in csv::Reader::from_path(&path).map_err(failed)?.deserialize() {
            let row: Row = row.map_err(failed)?;
            let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            rows.push(Row { file, ..row });
        }
    }
    Ok(rows)
}

/// Draws the charts and fills the report; adds to `summary` what was done.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn render(reports: &Path, summary: String) -> Result<String, Failure> {
    let rows = read(reports)?;
    if rows.is_empty() {
        return Ok(summary);
    }
    let charts = charts(&rows)?;
    let mut pieces = tables(&rows);
    let folder = reports.join("charts");
    fs::create_dir_all(&folder).map_err(|error| Failure::of(folder.display(), error))?;
    for (name, alt, svg) in &charts {
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, svg).map_err(|error| Failure::of(path.display(), error))?;
        pieces.push(Piece { name: format!("chart-{name}"), text: format!("![{alt}](charts/{name}.svg)") });
    }
    let path = reports.join(REPORT);
    let old = fs::read_to_string(&path).map_err(|error| Failure::of(path.display(), error))?;
    let new = splice(&old, &pieces).map_err(|failure| failure.during(path.display()))?;
    if new != old {
        fs::write(&path, new).map_err(|error| Failure::of(path.display(), error))?;
    }
    Ok(format!("{summary}; chat server: {} numbers, {} charts", rows.len(), charts.len()))
}

/// Each chart for which there are rows: name, text for who does not see it, picture.
fn charts(rows: &[Row]) -> Result<Vec<(&'static str, &'static str, String)>, Failure> {
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

fn tables(rows: &[Row]) -> Vec<Piece> {
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

/// The file of the question about pools. Its rows are compared with one another only, since they were measured in turns.
const POOLS: &str = "pools";

/// Traffic in closed loop, with the default pool.
fn closed(rows: &[Row]) -> Data<'_> {
    Data::of(rows, "traffic").filter(|row| row.kind == "closed" && row.file != POOLS)
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

fn microseconds(us: f64) -> String {
    time(us * 1e3)
}

fn milliseconds(ms: f64) -> String {
    time(ms * 1e6)
}

fn traffic_chart(rows: &[Row]) -> Result<Option<String>, Failure> {
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

/// The same load on each pool.
fn pools(rows: &[Row]) -> Data<'_> {
    Data::of(rows, "traffic").filter(|row| row.kind == "closed" && row.file == POOLS)
}

fn pools_chart(rows: &[Row]) -> Result<Option<String>, Failure> {
    let data = pools(rows);
    if data.0.is_empty() {
        return Ok(None);
    }
    let (pools, who) = (data.values(|row| row.pool.clone()), data.values(Row::who));
    let section = |heading: &str, metric: &str, unit: fn(f64) -> String| Section {
        heading: heading.to_owned(),
        names: names(&pools),
        columns: who
            .iter()
            .map(|who| Column {
                heading: who.clone(),
                marks: pools
                    .iter()
                    .map(|pool| data.filter(|row| row.who() == *who && row.pool == *pool).spread(metric).map(Mark::Dot))
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

fn traffic_table(rows: &[Row]) -> Option<String> {
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
                field(cell.spread("lost").map(|spread| spread.high), digits),
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
                latency("latency_max"),
                latency("answer_p99"),
            ]);
        }
    }
    let head = ["server", "due/s", "delivered/s", "p50", "p90", "p99", "p99.9", "max", "p99 of the answer"];
    table(&head, lines)
}

fn pools_table(rows: &[Row]) -> Option<String> {
    let data = pools(rows);
    let mut lines = Vec::new();
    for who in data.values(Row::who) {
        for pool in data.values(|row| row.pool.clone()) {
            let cell = data.filter(|row| row.who() == who && row.pool == pool);
            let Some(Spread { low, median, high, .. }) = cell.spread("delivered") else { continue };
            lines.push(vec![
                who.clone(),
                pool,
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

fn start_table(rows: &[Row]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(delivery: &str, pool: &str, conversations: &str, metric: &str, value: f64) -> Row {
        let text = str::to_owned;
        Row {
            question: text("traffic"),
            protocol: text("modern"),
            server: text("ours"),
            database: text("sqlite"),
            delivery: text(delivery),
            pool: text(pool),
            nodes: text("1"),
            conversations: text(conversations),
            group_size: text("0"),
            kind: text("closed"),
            window: text("1"),
            rate: String::new(),
            size: text("100"),
            way: String::new(),
            in_flight: String::new(),
            sessions: String::new(),
            metric: text(metric),
            unit: text("1/s"),
            value,
            commit: text("abc"),
            rustc: text("rustc 1"),
            cpu: text("cpu"),
            cores: 2,
            date: text("2026-11-23"),
            file: text("traffic"),
        }
    }

    #[test]
    fn runs_of_the_same_circumstances_become_one_number() {
        let rows: Vec<Row> =
            [10_000.0, 30_000.0, 20_000.0].map(|value| row("relay", "lockfree", "10", "delivered", value)).into();
        let table = traffic_table(&rows).unwrap();
        assert!(table.contains("| relay, sqlite | 10 pairs, 1 in flight | 20 k |"), "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
    }

    #[test]
    fn pools_are_compared_with_what_was_measured_in_turn_with_them() {
        let in_turn = |pool| Row { file: POOLS.into(), ..row("durable", pool, "100", "delivered", 5.0) };
        let mut rows = vec![row("durable", "lockfree", "100", "delivered", 9.0), in_turn("lockfree"), in_turn("mutex")];
        assert_eq!((pools(&rows).0.len(), closed(&rows).0.len()), (2, 1));
        rows.truncate(1);
        assert!(pools_table(&rows).is_none());
        assert!(pools_chart(&rows).unwrap().is_none());
    }

    #[test]
    fn a_start_is_told_with_its_range() {
        let start = |value| Row { question: "start".into(), ..row("durable", "lockfree", "", "ready", value) };
        let table = start_table(&[20.0, 10.0, 40.0].map(start)).unwrap();
        assert!(table.contains("| durable, sqlite | 20 ms | 10 ms to 40 ms | – | – | – |"), "{table}");
    }

    #[test]
    fn pair_counts_are_sorted_as_numbers() {
        let rows = ["1000", "10", "100"].map(|pairs| row("relay", "lockfree", pairs, "delivered", 1.0));
        assert_eq!(closed(&rows).values(|row| row.conversations.clone()), ["10", "100", "1000"]);
        let svg = traffic_chart(&rows).unwrap().unwrap();
        let place = |text: &str| svg.find(text).unwrap_or_else(|| panic!("{text} is not in the chart"));
        assert!(place("10 pairs") < place("100 pairs") && place("100 pairs") < place("1000 pairs"));
    }
}

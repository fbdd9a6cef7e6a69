//! The generated half of `reports/*.md`: tables and charts between markers, nothing outside them.

mod order;
mod over_time;
mod rivals;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::backend::Failure;
use crate::chart::figures::{Data, Figure};
use crate::contenders::Entrant;
use crate::options::PoolOption;
use crate::record::{
    CLOSE_NS, CONNECT_NS, MAX, Metric, NS_PER_OP, OPERATION_MAX, OPERATION_P99, OPERATION_P999, OPS_PER_S, P50, P99,
    P999, PARTS, PING_NS, Record, Spread, THREAD_NS_PER_OP, UNFAIRNESS, WALL_MS,
};
use crate::scenario::MOST_OPEN;
use crate::scenario::churn::OLDEST_MS;
use crate::tasks::TaskHold;
use crate::units::{count, digits, grouped, time, times};
use crate::ways::Way;
use crate::workload::{HOLDS, SEED_ROWS};

/// A piece of the report that is generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the markers.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The reports whose markers are filled.
pub const REPORTS: [&str; 2] = ["README.md", "SCENARIOS.md"];

/// Puts pieces between their markers, `<!-- BEGIN generated:name -->` and `<!-- END generated:name -->`. What is between
/// markers without a piece stays; so does everything outside.
///
/// # Errors
///
/// When a marker has no partner or occurs twice.
pub fn splice(report: &str, pieces: &[Piece]) -> Result<String, Failure> {
    let mut report = report.to_owned();
    for Piece { name, text } in pieces {
        let (begin, end) = (format!("<!-- BEGIN generated:{name} -->"), format!("<!-- END generated:{name} -->"));
        match (report.matches(&begin).count(), report.matches(&end).count()) {
            (0, 0) => continue,
            (1, 1) => {}
            (begins, ends) => {
                return Err(Failure::new(format!("generated:{name} begins {begins} times and ends {ends} times")));
            }
        }
        let (head, rest) = report.split_once(&begin).unwrap_or_default();
        let Some((_, tail)) = rest.split_once(&end) else {
            return Err(Failure::new(format!("generated:{name} ends before it begins")));
        };
        report = format!("{head}{begin}\n{}\n{end}{tail}", text.trim_end());
    }
    Ok(report)
}

/// Markers without a piece, which are mistakes in the report or questions that were not measured.
#[must_use]
pub fn unanswered(report: &str, pieces: &[Piece]) -> Vec<String> {
    report
        .split("<!-- BEGIN generated:")
        .skip(1)
        .filter_map(|rest| rest.split_once(" -->").map(|(name, _)| name.to_owned()))
        .filter(|name| !pieces.iter().any(|piece| piece.name == *name))
        .collect()
}

/// Writes the charts beside the report and the pieces into it.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn publish(reports: &Path, figures: &[Figure], pieces: &[Piece]) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| Failure::of(path.display(), error);
    let charts = reports.join("charts");
    fs::create_dir_all(&charts).map_err(|error| failed(&charts, error))?;
    for figure in figures {
        let path = charts.join(figure.file);
        fs::write(&path, &figure.svg).map_err(|error| failed(&path, error))?;
    }
    for name in REPORTS {
        let path = reports.join(name);
        let old = match fs::read_to_string(&path) {
            Ok(old) => old,
            // Somebody sent the output elsewhere: then the first report is all that is generated.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && name == REPORTS[0] => blank(pieces),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, error)),
        };
        let new = splice(&old, pieces).map_err(|failure| failure.during(path.display()))?;
        if new != old || !path.exists() {
            fs::write(&path, new).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

/// A report of markers only.
fn blank(pieces: &[Piece]) -> String {
    let mut report = String::from("# Report\n");
    for Piece { name, .. } in pieces {
        let _ = write!(report, "\n<!-- BEGIN generated:{name} -->\n<!-- END generated:{name} -->\n");
    }
    report
}

/// Every piece for which there are records.
#[must_use]
pub fn pieces(records: &[Record], figures: &[Figure]) -> Vec<Piece> {
    let tables = [
        ("stamp", stamp(records)),
        ("contenders", contenders(records)),
        ("table-seed-durable", seed(records, "durable")),
        ("table-seed-relaxed", seed(records, "relaxed")),
        ("table-seed-gain", gain(records)),
        ("table-rivals", rivals::rivals(records)),
        ("table-order", order::order(records)),
        ("table-select", selects(records, "mariadb")),
        ("table-sqlite-select", selects(records, "sqlite")),
        ("table-sqlite-insert", sqlite_inserts(records)),
        ("table-checkout", checkout(records)),
        ("table-options", options(records)),
        ("table-scaling", scaling(records)),
        ("table-saturation", saturation(records)),
        ("table-latency", latency(records)),
        ("table-operation", operation(records)),
        ("table-fairness", fairness(records)),
        ("table-tasks", tasks(records)),
        ("table-split", split(records)),
        ("table-ablation", ablation(records)),
        ("table-connect", connect(records)),
    ];
    let tables = tables.into_iter().filter_map(|(name, text)| Some(Piece { name: name.to_owned(), text: text? }));
    let charts = figures.iter().map(|Figure { file, alt, .. }| Piece {
        name: format!("chart-{}", file.trim_end_matches(".svg")),
        text: format!("![{alt}](charts/{file})"),
    });
    tables.chain(over_time::pieces(records)).chain(charts).collect()
}

/// A table in Markdown; the first column left, all others right. `None` without rows.
fn table(headings: &[String], rows: &[Vec<String>]) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut text = format!("| {} |\n|:--|{}\n", headings.join(" | "), "--:|".repeat(headings.len() - 1));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    Some(text)
}

/// A contender's name in a table; ours are bold.
pub(crate) fn label(entrant: Entrant) -> String {
    let row = entrant.row();
    if row.is_ours { format!("**{}**", row.label) } else { row.label.to_owned() }
}

fn field(spread: Option<Spread>, unit: impl Fn(f64) -> String) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| unit(spread.median))
}

/// What stands in a table for a metric: the median of the rounds, but of what is the largest in its round the largest of
/// all rounds. Nobody takes a maximum for a median, and a bad round that a median hides is what a maximum is read for.
fn shown(cell: &Data<'_>, metric: Metric) -> Option<f64> {
    let spread = cell.spread(metric)?;
    if [MAX, OPERATION_MAX, OLDEST_MS, MOST_OPEN].contains(&metric) { spread.largest() } else { Some(spread.median) }
}

/// A row for each contender, a column for each thread count.
fn by_threads(data: &Data<'_>, metric: Metric, unit: impl Fn(f64) -> String) -> Option<String> {
    let threads = data.threads();
    let headings: Vec<String> =
        std::iter::once("threads".to_owned()).chain(threads.iter().map(ToString::to_string)).collect();
    let row = |entrant: Entrant| {
        let own = data.by(entrant);
        let fields = threads.iter().map(|threads| field(own.filter(|r| r.threads == *threads).spread(metric), &unit));
        std::iter::once(label(entrant)).chain(fields).collect()
    };
    table(&headings, &data.entrants().into_iter().map(row).collect::<Vec<_>>())
}

fn stamp(records: &[Record]) -> Option<String> {
    let mut suites: Vec<&str> = records.iter().map(|record| record.suite.as_str()).collect();
    suites.sort_unstable();
    suites.dedup();
    stamp_of(records, &suites)
}

/// Where the numbers of some suites are from.
fn stamp_of(records: &[Record], suites: &[&str]) -> Option<String> {
    let rows: Vec<Vec<String>> = suites
        .iter()
        .map(|suite| (*suite, Data::of(records, suite)))
        .filter(|(_, data)| !data.is_empty())
        .map(|(suite, data)| vec![suite.to_owned(), data.provenance().join("<br>")])
        .collect();
    let mut text = "| suite | measured |\n|:--|:--|\n".to_owned();
    for row in &rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    (!rows.is_empty()).then_some(text)
}

/// From the records, not from this program: a chart drawn later must not claim today's versions.
fn contenders(records: &[Record]) -> Option<String> {
    let mut text = "| contender | ours | versions | how it validates a connection |\n|:--|:--|:--|:--|\n".to_owned();
    let mut is_empty = true;
    for entrant in Entrant::known() {
        let mut own = records.iter().filter(|record| record.contender == entrant.row().id);
        let Some(record) = own.next() else { continue };
        let ours = if entrant.row().is_ours { "yes" } else { "" };
        let _ = writeln!(text, "| {} | {ours} | {} | {} |", label(entrant), record.version, record.validation);
        is_empty = false;
    }
    (!is_empty).then_some(text)
}

fn milliseconds(ms: f64) -> String {
    digits(ms)
}

fn seed(records: &[Record], flush: &str) -> Option<String> {
    let data = Data::of(records, "seed").filter(|record| record.workload == "insert" && record.flush == flush);
    let mut text = String::new();
    for rows in SEED_ROWS {
        let data = data.filter(|record| record.rows == rows);
        if let Some(table) = by_threads(&data, WALL_MS, milliseconds) {
            let _ = write!(text, "{} rows, milliseconds:\n\n{table}\n", grouped(rows));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// How many times as fast as without a pool, as the seed's author counted.
fn gain(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "seed").filter(|record| record.workload == "insert" && !record.flush.is_empty());
    let mut rows = Vec::new();
    let threads = data.threads();
    for flush in ["durable", "relaxed"] {
        for count in SEED_ROWS {
            let data = data.filter(|record| record.flush == flush && record.rows == count);
            for entrant in [Entrant::Mutex, Entrant::LockFree, Entrant::Slots, Entrant::PerThread] {
                let median = |entrant: Entrant, threads: usize| {
                    data.by(entrant)
                        .filter(|record| record.threads == threads)
                        .spread(WALL_MS)
                        .map(|spread| spread.median)
                };
                let fields: Vec<Option<f64>> = threads
                    .iter()
                    .map(|threads| Some(median(Entrant::NoPool, *threads)? / median(entrant, *threads)?))
                    .collect();
                if fields.iter().any(Option::is_some) {
                    let fields = fields.into_iter().map(|gain| gain.map_or_else(|| "–".to_owned(), times));
                    rows.push([flush.to_owned(), grouped(count), label(entrant)].into_iter().chain(fields).collect());
                }
            }
        }
    }
    let headings: Vec<String> = ["commits", "rows", "against no pool, at threads:"]
        .map(str::to_owned)
        .into_iter()
        .chain(threads.iter().map(ToString::to_string))
        .collect();
    table(&headings, &rows)
}

fn selects(records: &[Record], backend: &str) -> Option<String> {
    let data =
        Data::of(records, "seed").filter(|record| record.workload == "point select" && record.backend == backend);
    by_threads(&data, OPS_PER_S, count)
}

fn sqlite_inserts(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "seed").filter(|record| record.workload == "insert" && record.backend == "sqlite");
    by_threads(&data, OPS_PER_S, count)
}

fn checkout(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "checkout");
    let of = |entrant: Entrant| data.by(entrant).spread(NS_PER_OP).map(|spread| spread.median);
    let ours = of(Entrant::Slots)?;
    let limit = of(Entrant::Limit);
    let rows: Vec<Vec<String>> = data
        .entrants()
        .into_iter()
        .filter_map(|entrant| {
            let Spread { low, median, high, .. } = data.by(entrant).spread(NS_PER_OP)?;
            Some(vec![
                label(entrant),
                digits(median),
                format!("{} to {}", digits(low), digits(high)),
                times(median / ours),
                limit.map_or_else(|| "–".to_owned(), |limit| times(median / limit)),
            ])
        })
        .collect();
    let headings = ["contender", "ns per cycle", data.ends(), "against slots", "against the limit"];
    table(&headings.map(str::to_owned), &rows)
}

/// What each option of ours adds to a cycle of `slots`.
fn options(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "options");
    let median = |option: PoolOption, threads: usize| {
        let cell = data.filter(|record| record.workload == option.id() && record.threads == threads);
        cell.spread(NS_PER_OP).map(|spread| spread.median)
    };
    let threads = data.threads();
    let headings = threads.iter().flat_map(|threads| [format!("ns per cycle, threads: {threads}"), "adds".to_owned()]);
    let headings: Vec<String> = std::iter::once("option".to_owned()).chain(headings).collect();
    let row = |option: PoolOption| {
        let fields = threads.iter().flat_map(|threads| {
            let (with, without) = (median(option, *threads), median(PoolOption::None, *threads));
            let added = with.zip(without).filter(|_| option != PoolOption::None).map(|(with, without)| with - without);
            [with, added].map(|ns| ns.map_or_else(|| "–".to_owned(), digits))
        });
        std::iter::once(option.label().to_owned()).chain(fields).collect()
    };
    let measured = |option: &PoolOption| threads.iter().any(|threads| median(*option, *threads).is_some());
    table(&headings, &PoolOption::ALL.into_iter().filter(measured).map(row).collect::<Vec<_>>())
}

fn scaling(records: &[Record]) -> Option<String> {
    by_threads(&Data::of(records, "scaling"), OPS_PER_S, count)
}

/// A table for each load: a row for each contender, a column for each hold.
fn by_hold(data: &Data<'_>, value: impl Fn(&Data<'_>) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    for (threads, size) in data.loads() {
        let data = data.filter(|record| record.threads == threads && record.size == size);
        let headings: Vec<String> = std::iter::once(format!("{threads} threads on {size}"))
            .chain(HOLDS.iter().map(|hold| hold.label()))
            .collect();
        let row = |entrant: Entrant| {
            let own = data.by(entrant);
            let fields = HOLDS.iter().map(|hold| {
                value(&own.filter(|record| record.workload == hold.label())).unwrap_or_else(|| "–".to_owned())
            });
            std::iter::once(label(entrant)).chain(fields).collect()
        };
        let rows: Vec<Vec<String>> = data.entrants().into_iter().map(row).collect();
        if let Some(table) = table(&headings, &rows) {
            let _ = writeln!(text, "{table}");
        }
    }
    (!text.is_empty()).then_some(text)
}

fn saturation(records: &[Record]) -> Option<String> {
    by_hold(&Data::of(records, "saturation"), |cell| cell.spread(OPS_PER_S).map(|spread| count(spread.median)))
}

fn latency(records: &[Record]) -> Option<String> {
    let table = quantiles(records, &[P50, P99, P999, MAX])?;
    Some(format!("p50 / p99 / p99.9 / max of the acquire; {OF_THE_ROUNDS}:\n\n{table}"))
}

fn operation(records: &[Record]) -> Option<String> {
    let table = quantiles(records, &[OPERATION_P99, OPERATION_P999, OPERATION_MAX])?;
    Some(format!("p99 / p99.9 / max of the whole operation; {OF_THE_ROUNDS}:\n\n{table}"))
}

const OF_THE_ROUNDS: &str = "quantiles are the medians of the rounds, the maximum is that of all rounds";

fn quantiles(records: &[Record], metrics: &[Metric]) -> Option<String> {
    by_hold(&Data::of(records, "latency"), |cell| {
        let quantiles = metrics.iter().map(|metric| shown(cell, *metric).map(time));
        quantiles.collect::<Option<Vec<_>>>().map(|quantiles| quantiles.join(" / "))
    })
}

fn fairness(records: &[Record]) -> Option<String> {
    by_hold(&Data::of(records, "latency"), |cell| cell.spread(UNFAIRNESS).map(|spread| times(spread.median)))
}

fn tasks(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "tasks");
    let columns: Vec<(usize, usize, TaskHold)> = data
        .loads()
        .into_iter()
        .flat_map(|(tasks, size)| TaskHold::ALL.into_iter().map(move |hold| (tasks, size, hold)))
        .collect();
    let headings: Vec<String> = std::iter::once("tasks on connections".to_owned())
        .chain(columns.iter().map(|(tasks, size, hold)| format!("{tasks} on {size}, {}", hold.label())))
        .collect();
    let row = |entrant: Entrant| {
        let own = data.by(entrant);
        let fields = columns.iter().map(|(tasks, size, hold)| {
            let cell = own.filter(|r| r.threads == *tasks && r.size == *size && r.workload == hold.label());
            field(cell.spread(OPS_PER_S), count)
        });
        std::iter::once(label(entrant)).chain(fields).collect()
    };
    table(&headings, &data.entrants().into_iter().map(row).collect::<Vec<_>>())
}

/// Rows of both split tables: commits, threads, contender.
fn split_rows(data: &Data<'_>, fields: impl Fn(&Data<'_>, &Data<'_>) -> Vec<String>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for flush in ["durable", "relaxed"] {
        for threads in data.threads() {
            let block = data.filter(|record| record.flush == flush && record.threads == threads);
            for entrant in block.entrants() {
                let head = [format!("{flush}, {threads}"), label(entrant)];
                rows.push(head.into_iter().chain(fields(&block, &block.by(entrant))).collect());
            }
        }
    }
    rows
}

fn split(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "split").filter(|record| record.workload == "clocks");
    let rows = split_rows(&data, |_, own| {
        let parts = PARTS.map(|part| own.spread(part).map(|spread| spread.median));
        let total: f64 = parts.iter().flatten().sum();
        let lock = parts[1].map_or_else(|| "–".to_owned(), |lock| format!("{} %", digits(100.0 * lock / total)));
        let parts = parts.map(|part| part.map_or_else(|| "–".to_owned(), time));
        parts.into_iter().chain([time(total), lock]).collect()
    });
    let headings = [
        "commits, threads",
        "contender",
        "connect",
        "blocked on the lock",
        "wait for a connection",
        "rest of the acquire",
        "the insert",
        "give back or close",
        "sum",
        "lock's share",
    ];
    table(&headings.map(str::to_owned), &rows)
}

fn ablation(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "split").filter(|record| record.workload == "ablation");
    let rows = split_rows(&data, |block, own| {
        let Some(spread) = own.spread(THREAD_NS_PER_OP) else { return vec!["–".to_owned(); 3] };
        let mutex = block.by(Entrant::Mutex).spread(THREAD_NS_PER_OP).map(|spread| spread.median);
        let change =
            mutex.map_or_else(|| "–".to_owned(), |mutex| format!("{:+.1} %", 100.0 * (spread.median - mutex) / mutex));
        vec![time(spread.median), format!("{} to {}", time(spread.low), time(spread.high)), change]
    });
    let headings =
        ["commits, threads", "contender", "time of an insert on its thread", data.ends(), "against the mutex pool"];
    table(&headings.map(str::to_owned), &rows)
}

fn connect(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "connect");
    let rows: Vec<Vec<String>> = Way::ALL
        .into_iter()
        .filter_map(|way| {
            let own = data.filter(|record| record.contender == way.id());
            let whole = own.spread(if way.is_ping() { PING_NS } else { CONNECT_NS })?;
            let close = field(own.spread(CLOSE_NS), time);
            Some(vec![
                way.label().to_owned(),
                time(whole.median),
                format!("{} to {}", time(whole.low), time(whole.high)),
                close,
            ])
        })
        .collect();
    table(&["way", "open (or ping)", data.ends(), "close"].map(str::to_owned), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cell;
    use crate::stamp::Stamp;

    fn piece(name: &str, text: &str) -> Piece {
        Piece { name: name.into(), text: text.into() }
    }

    #[test]
    fn only_what_is_between_markers_changes() {
        let report = "a\n<!-- BEGIN generated:x -->\nold\n<!-- END generated:x -->\nb\n";
        let new = splice(report, &[piece("x", "new\n"), piece("absent", "?")]).unwrap();
        assert_eq!(new, "a\n<!-- BEGIN generated:x -->\nnew\n<!-- END generated:x -->\nb\n");
        assert_eq!(splice(&new, &[piece("x", "new\n")]).unwrap(), new, "splicing twice changes nothing");
    }

    #[test]
    fn a_broken_pair_of_markers_is_an_error() {
        for report in ["<!-- BEGIN generated:x -->", "<!-- END generated:x --> <!-- BEGIN generated:x -->"] {
            let error = splice(report, &[piece("x", "")]).unwrap_err().to_string();
            assert!(error.contains("generated:x"), "{error}");
        }
    }

    fn record(suite: &str, workload: &str, entrant: Entrant, metric: Metric, spread: Spread) -> Record {
        let cell = Cell {
            suite: suite.into(),
            workload: workload.into(),
            backend: "mariadb".into(),
            flush: "durable".into(),
            contender: entrant.row().id.into(),
            threads: 16,
            size: 8,
            hold_us: 0,
            rows: 0,
        };
        let text = str::to_owned;
        let (commit, rustc, cpu) = (text("abc"), text("rustc 1"), text("cpu"));
        let stamp = Stamp { commit, rustc, cpu, cores: 2, profile: text("full"), date: text("2026-11-28") };
        Record::new(&cell, metric, spread, 1, "", &stamp)
    }

    fn spread(low: f64, median: f64, high: f64, samples: usize) -> Spread {
        Spread { low, median, high, samples }
    }

    #[test]
    fn a_maximum_is_that_of_all_rounds() {
        let latency_of = |samples| {
            let metrics = [P50, P99, P999, MAX];
            let records = metrics
                .map(|metric| record("latency", "no hold", Entrant::Mutex, metric, spread(10.0, 20.0, 70.0, samples)));
            latency(&records).unwrap()
        };
        assert!(latency_of(9).contains("| 20 ns / 20 ns / 20 ns / 70 ns |"), "{}", latency_of(9));
        assert!(!latency_of(11).contains("70 ns"), "a 90th percentile of rounds is no maximum: {}", latency_of(11));
    }

    #[test]
    fn the_ends_of_a_spread_are_called_what_they_are() {
        let checkout_of = |samples| {
            let record = record("checkout", "checkout", Entrant::Slots, NS_PER_OP, spread(1.0, 2.0, 3.0, samples));
            checkout(&[record]).unwrap()
        };
        assert!(checkout_of(5).contains("| lowest to highest |"), "{}", checkout_of(5));
        assert!(checkout_of(30).contains("| p10 to p90 |"), "{}", checkout_of(30));
    }

    #[test]
    fn ours_are_compared_with_peers_that_check_no_more_than_they_do() {
        let time_of = |entrant, ns| record("seed", "insert", entrant, NS_PER_OP, spread(ns, ns, ns, 5));
        let records = [
            (Entrant::Slots, 4.0),
            (Entrant::R2d2, 8.0),
            (Entrant::R2d2Unpinged, 2.0),
            (Entrant::MysqlPoolUnchecked, 4.0),
        ]
        .map(|(entrant, ns)| time_of(entrant, ns));
        let table = rivals::rivals(&records).unwrap();
        for row in [
            "| **slots (ours)** | r2d2 | 0 of 1 | 0 | 0.5x |",
            "| **slots (ours)** | r2d2, no ping | 1 of 1 | 1 | 2x |",
            "| **slots (ours)** | mysql::Pool, no checks | 0 of 1 | 0 | 1x |",
        ] {
            assert!(table.contains(row), "{table}");
        }
    }

    #[test]
    fn a_marker_nobody_fills_is_named() {
        let report =
            "<!-- BEGIN generated:x --><!-- END generated:x --><!-- BEGIN generated:y --><!-- END generated:y -->";
        assert_eq!(unanswered(report, &[piece("x", "")]), ["y"]);
    }
}

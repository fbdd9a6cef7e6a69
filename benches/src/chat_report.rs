//! The chat server's report: `reports/data/chat/*.csv`, as `scripts/load` leaves them, drawn and put into
//! `reports/CHAT.md`. Each line is one number of one run; runs of the same circumstances are summarised here.

use std::fs;
use std::path::Path;

mod charts;
mod rows;
mod tables;

pub use rows::Row;

use crate::backend::Failure;
use crate::report::{Piece, splice};
use crate::units::time;

/// The report that is filled.
pub const REPORT: &str = "CHAT.md";
/// The folder of the data, which have other columns than those of the suites.
pub const DATA: &str = "data/chat";
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
    let charts = charts::charts(&rows)?;
    let mut pieces = tables::tables(&rows);
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

fn microseconds(us: f64) -> String {
    time(us * 1e3)
}

fn milliseconds(ms: f64) -> String {
    time(ms * 1e6)
}

#[cfg(test)]
mod tests {
    use super::charts::{pools_chart, traffic_chart};
    use super::rows::{POOLS, closed, pools};
    use super::tables::{pools_table, start_table, traffic_table};
    use super::*;
    use crate::contenders::Entrant;

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
    fn a_pool_has_the_name_and_the_colour_that_it_has_everywhere() {
        let of = |pool| Row { file: POOLS.into(), ..row("durable", pool, "100", "delivered", 5.0) };
        let rows = ["lockfree", "mutex", "none", "r2d2"].map(of);
        let svg = pools_chart(&rows).unwrap().unwrap();
        let table = pools_table(&rows).unwrap();
        for entrant in [Entrant::LockFree, Entrant::Mutex, Entrant::NoPool, Entrant::R2d2] {
            let contender = entrant.row();
            let (red, green, blue) = contender.colour;
            assert!(svg.contains(&format!("#{red:02X}{green:02X}{blue:02X}")), "no {} in {svg}", contender.label);
            assert!(svg.contains(contender.label) && table.contains(contender.label), "{}", contender.label);
        }
        assert!(!svg.contains("lockfree"), "that is the crate's name");
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

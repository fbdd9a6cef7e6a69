//! Which charts there are, and what each takes from the records.

use std::collections::BTreeSet;

use crate::backend::Failure;
use crate::backend::stub::Hold;
use crate::contenders::Entrant;
use crate::fairness::{Contestant, Load};
use crate::record::{
    CLOSE_NS, CONNECT_NS, Course, Metric, NS_PER_OP, OPS_PER_S, P50, P99, P999, PARTS, PING_NS, Record, Spread,
    UNFAIRNESS, WALL_MS,
};
use crate::scenario::outage::{RETURNED_MS, WENT_MS};
use crate::tasks::TaskHold;
use crate::units::{count, time, times};
use crate::ways::Way;
use crate::workload::{HOLDS, SEED_ROWS};

use super::Heading;
use super::lines::{Names, Panel, Series, lines};
use super::matrix::{Column, Mark, Name, Section, matrix};
use super::over_time;
use super::stack::{self, Bar, Part, stack};

/// A chart.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its file's name.
    pub file: &'static str,
    /// What it shows, for readers who do not see it.
    pub alt: &'static str,
    /// The picture.
    pub svg: String,
}

/// Draws every chart for which there are records.
///
/// # Errors
///
/// When one cannot be drawn.
pub fn figures(records: &[Record]) -> Result<Vec<Figure>, Failure> {
    let all = [
        (
            "seed-durable.svg",
            "Time of the seed's inserts by rows and threads, durable commits: without a pool, on one connection per thread, \
             with three of our pools and with peers that do not ping",
            seed(records, "durable")?,
        ),
        (
            "seed-relaxed.svg",
            "Time of the seed's inserts by rows and threads, relaxed commits: without a pool, on one connection per thread, \
             with three of our pools and with peers that do not ping",
            seed(records, "relaxed")?,
        ),
        ("seed-everybody.svg", "Time of 1 000 inserts and of point selects for all contenders", everybody(records)?),
        ("checkout.svg", "Time of an uncontended cycle for all contenders", checkout(records)?),
        ("cycle.svg", "Time of a cycle by threads for all contenders", cycle(records)?),
        ("saturation.svg", "Operations per second when threads outnumber connections", saturation(records)?),
        ("latency.svg", "Acquire time from median to p99.9 when threads outnumber connections", latency(records)?),
        ("fairness.svg", "Best-served over worst-served thread when threads outnumber connections", fairness(records)?),
        ("tasks.svg", "Operations per second through the async door", tasks(records)?),
        ("split.svg", "What one insert's time consists of, at one and at four threads", split(records)?),
        ("connect.svg", "Time to open a connection, by way of connecting", connect(records)?),
    ];
    let drawn = all.into_iter().filter_map(|(file, alt, svg)| Some(Figure { file, alt, svg: svg? }));
    Ok(drawn.chain(over_time::figures(records)?).collect())
}

/// The records of a question, in reach of a few words.
#[derive(Debug, Clone)]
pub struct Data<'a>(Vec<&'a Record>);

impl<'a> Data<'a> {
    /// Those of a suite.
    #[must_use]
    pub fn of(records: &'a [Record], suite: &str) -> Self {
        Self(records.iter().filter(|record| record.suite == suite).collect())
    }

    /// Those for which it is true.
    #[must_use]
    pub fn filter(&self, is_wanted: impl Fn(&Record) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|record| is_wanted(record)).collect())
    }

    /// Those of a contender.
    #[must_use]
    pub fn by(&self, entrant: Entrant) -> Self {
        self.filter(|record| record.contender == entrant.row().id)
    }

    /// The numbers of a metric of the first cell.
    #[must_use]
    pub fn spread(&self, metric: Metric) -> Option<Spread> {
        let is_it = |record: &&&Record| record.metric == metric.name && record.step_ms == 0;
        self.0.iter().find(is_it).map(|record| record.spread())
    }

    /// What the ends of its spreads are, which depends on how many samples there were.
    #[must_use]
    pub fn ends(&self) -> &'static str {
        let mut extremes = self.0.iter().map(|record| record.spread().has_extremes());
        let first = extremes.next().unwrap_or(false);
        match (first, extremes.all(|other| other == first)) {
            (true, true) => "lowest to highest",
            (false, true) => "p10 to p90",
            (_, false) => "p10 to p90, of up to ten samples lowest to highest",
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Contenders that have records, in the order of the tables.
    #[must_use]
    pub fn entrants(&self) -> Vec<Entrant> {
        Entrant::known().filter(|entrant| !self.by(*entrant).is_empty()).collect()
    }

    /// Thread counts that occur.
    #[must_use]
    pub fn threads(&self) -> Vec<usize> {
        self.0.iter().map(|record| record.threads).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Saturated sizes, the largest first.
    #[must_use]
    pub fn loads(&self) -> Vec<(usize, usize)> {
        self.0.iter().map(|record| (record.threads, record.size)).collect::<BTreeSet<_>>().into_iter().rev().collect()
    }

    /// Lines that say where the numbers are from.
    #[must_use]
    pub fn provenance(&self) -> Vec<String> {
        let stamps: BTreeSet<String> = self.0.iter().map(|record| record.stamp().line()).collect();
        let servers: BTreeSet<&str> =
            self.0.iter().map(|record| record.server.as_str()).filter(|server| !server.is_empty()).collect();
        let mut lines: Vec<String> = stamps.into_iter().collect();
        lines.extend(servers.into_iter().map(|server| format!("server {server}, same machine")));
        lines
    }

    /// How a metric of the first cell went over time.
    #[must_use]
    pub fn course(&self, metric: Metric) -> Option<Course> {
        self.0.iter().filter(|record| record.metric == metric.name).find_map(|record| record.course())
    }

    /// Those of a contestant under a load.
    #[must_use]
    pub fn of_contestant(&self, contestant: Contestant, load: Load) -> Self {
        self.filter(|record| contestant.owns(&record.contender, &record.workload) && load.is_of(&record.workload))
    }

    /// The time that a run's records mark, in seconds from its start.
    #[must_use]
    pub fn window(&self) -> Option<(f64, f64)> {
        let at = |metric| self.spread(metric).map(|spread| spread.median / 1e3);
        Some((at(WENT_MS)?, at(RETURNED_MS)?))
    }

    pub(super) fn heading(&self, title: &str, how: &[&str]) -> Heading {
        let mut lines = self.provenance();
        lines.extend(how.iter().map(|line| (*line).to_owned()));
        Heading { title: title.to_owned(), lines }
    }
}

/// A contender's name and colour, the same in every chart.
pub fn name(entrant: Entrant) -> Name {
    let row = entrant.row();
    Name { label: row.label.to_owned(), colour: row.colour, is_ours: row.is_ours }
}

fn milliseconds(ms: f64) -> String {
    time(ms * 1e6)
}

fn seed(records: &[Record], flush: &str) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "seed").filter(|record| record.workload == "insert" && record.flush == flush);
    // Those who were measured at more than the smallest number of rows; everybody is in another chart.
    let large = data.filter(|record| record.rows > SEED_ROWS[0]);
    let entrants = if large.is_empty() { data.entrants() } else { large.entrants() };
    let core: Vec<Entrant> = entrants.into_iter().filter(|entrant| IN_SEED.contains(entrant)).collect();
    let mut panels = Vec::new();
    for rows in SEED_ROWS {
        let data = data.filter(|record| record.rows == rows);
        let series: Vec<Series> =
            core.iter().filter_map(|entrant| series(&data, *entrant, WALL_MS, |_, spread| spread)).collect();
        if !series.is_empty() {
            panels.push(Panel { heading: format!("{} rows", crate::units::grouped(rows)), series });
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let setting = if flush == "durable" { 1 } else { 0 };
    let how = format!(
        "innodb_flush_log_at_trx_commit = {setting}; ten connections (16 for 16 threads), open from the start; median, bars: {}",
        data.ends()
    );
    let heading = data.heading(&format!("The seed's table: time of single-row inserts, {flush} commits"), &[&how]);
    lines(&heading, &panels, 300, Names::Below, milliseconds).map(Some)
}

/// Who is in the seed's line charts: with everybody in them nobody could be told from anybody. The peers are those that
/// ask the server as little as ours do, or the chart would show what a ping costs.
const IN_SEED: [Entrant; 7] = [
    Entrant::NoPool,
    Entrant::PerThread,
    Entrant::Mutex,
    Entrant::LockFree,
    Entrant::Slots,
    Entrant::R2d2Unpinged,
    Entrant::Deadpool,
];

fn series(
    data: &Data<'_>,
    entrant: Entrant,
    metric: Metric,
    value: impl Fn(usize, Spread) -> Spread,
) -> Option<Series> {
    let own = data.by(entrant);
    let points: Vec<(usize, Spread)> = own
        .threads()
        .into_iter()
        .filter_map(|threads| {
            Some((threads, value(threads, own.filter(|record| record.threads == threads).spread(metric)?)))
        })
        .collect();
    let Name { label, colour, is_ours } = name(entrant);
    (!points.is_empty()).then_some(Series { label, colour, is_ours, points })
}

/// A column for each thread count.
fn by_threads(data: &Data<'_>, entrants: &[Entrant], metric: Metric) -> Vec<Column> {
    let column = |threads: usize| {
        let data = data.filter(|record| record.threads == threads);
        let marks = entrants.iter().map(|entrant| data.by(*entrant).spread(metric).map(Mark::Dot)).collect();
        Column { heading: if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }, marks }
    };
    data.threads().into_iter().map(column).collect()
}

fn everybody(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "seed").filter(|record| record.backend == "mariadb");
    let blocks = [
        (
            "1 000 inserts, durable commits",
            data.filter(|r| r.workload == "insert" && r.flush == "durable" && r.rows == SEED_ROWS[0]),
            WALL_MS,
            milliseconds as fn(f64) -> String,
        ),
        (
            "1 000 inserts, relaxed commits",
            data.filter(|r| r.workload == "insert" && r.flush == "relaxed" && r.rows == SEED_ROWS[0]),
            WALL_MS,
            milliseconds,
        ),
        (
            "Point selects, time for one more (all threads together)",
            data.filter(|r| r.workload == "point select"),
            NS_PER_OP,
            time,
        ),
    ];
    let sections: Vec<Section> = blocks
        .into_iter()
        .filter(|(_, data, ..)| !data.is_empty())
        .map(|(heading, data, metric, unit)| {
            let entrants = data.entrants();
            let columns = by_threads(&data, &entrants, metric);
            Section {
                heading: heading.to_owned(),
                names: entrants.into_iter().map(name).collect(),
                columns,
                unit,
                is_shared: true,
            }
        })
        .collect();
    if sections.is_empty() {
        return Ok(None);
    }
    let how = format!("dot and number: median; line: {}; further left is faster", data.ends());
    let heading = data.heading("On MariaDB: everybody, by threads", &[&how]);
    matrix(&heading, &sections).map(Some)
}

fn checkout(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "checkout");
    let entrants = data.entrants();
    if entrants.is_empty() {
        return Ok(None);
    }
    let marks = entrants.iter().map(|entrant| data.by(*entrant).spread(NS_PER_OP).map(Mark::Dot)).collect();
    let section = Section {
        heading: "Acquire, use, give back: one thread, ten connections".to_owned(),
        names: entrants.into_iter().map(name).collect(),
        columns: vec![Column { heading: "time of a cycle".to_owned(), marks }],
        unit: time,
        is_shared: true,
    };
    let how = format!("stub connections; dot and number: median; line: {}; further left is faster", data.ends());
    let heading = data.heading("The cost of an uncontended cycle", &[&how]);
    matrix(&heading, &[section]).map(Some)
}

fn cycle(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "scaling");
    let cores = data.0.first().map_or(1, |record| record.cores);
    // Threads beyond the cores do not run at the same time, so a cycle takes as many cores' time as there are.
    let on_core = |threads: usize, spread: Spread| {
        #[expect(clippy::cast_precision_loss)]
        let busy = threads.min(cores) as f64;
        spread.map(|ns| ns * busy)
    };
    let series: Vec<Series> =
        data.entrants().into_iter().filter_map(|entrant| series(&data, entrant, NS_PER_OP, on_core)).collect();
    if series.is_empty() {
        return Ok(None);
    }
    let how = format!(
        "stub connections, as many as threads; time of a core per cycle ({cores} cores); median, bars: {}",
        data.ends()
    );
    let heading = data.heading("The time of a cycle when nobody has to wait", &[&how]);
    let panel = Panel { heading: "time of a core per cycle".to_owned(), series };
    lines(&heading, &[panel], 420, Names::AtEnds(180), time).map(Some)
}

/// A section for each load, a column for each of `workloads`.
fn by_load(
    data: &Data<'_>,
    noun: &str,
    workloads: &[String],
    unit: fn(f64) -> String,
    mark: impl Fn(&Data<'_>) -> Option<Mark>,
) -> Vec<Section> {
    let section = |(threads, size): (usize, usize)| {
        let data = data.filter(|record| record.threads == threads && record.size == size);
        let entrants = data.entrants();
        let column = |workload: &String| {
            let data = data.filter(|record| record.workload == *workload);
            let marks = entrants.iter().map(|entrant| mark(&data.by(*entrant))).collect();
            Column { heading: workload.clone(), marks }
        };
        Section {
            heading: format!("{threads} {noun} on {size} connections"),
            columns: workloads.iter().map(column).collect(),
            names: entrants.iter().map(|entrant| name(*entrant)).collect(),
            unit,
            is_shared: false,
        }
    };
    data.loads().into_iter().map(section).collect()
}

/// [`by_load`] for threads and every hold.
fn by_hold(data: &Data<'_>, unit: fn(f64) -> String, mark: impl Fn(&Data<'_>) -> Option<Mark>) -> Vec<Section> {
    by_load(data, "threads", &HOLDS.map(Hold::label), unit, mark)
}

fn saturation(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "saturation");
    if data.is_empty() {
        return Ok(None);
    }
    let sections = by_hold(&data, count, |cell| cell.spread(OPS_PER_S).map(Mark::Dot));
    let how = format!(
        "stub connections, all threads together; dot and number: median; line: {}; further right is faster",
        data.ends()
    );
    let heading = data.heading("Operations per second when threads outnumber connections", &[&how]);
    matrix(&heading, &sections).map(Some)
}

fn latency(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "latency");
    if data.is_empty() {
        return Ok(None);
    }
    let sections = by_hold(&data, time, |cell| {
        let [p50, p99, p999] = [P50, P99, P999].map(|metric| cell.spread(metric).map(|spread| spread.median));
        Some(Mark::Tail { p50: p50?, p99: p99?, p999: p999? })
    });
    let heading = data.heading(
        "How long an acquire takes when threads outnumber connections",
        &["stub connections; ticks: p50 and p99; dot and number: p99.9; medians of the rounds; further left is better"],
    );
    matrix(&heading, &sections).map(Some)
}

fn fairness(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "latency");
    if data.is_empty() {
        return Ok(None);
    }
    let sections = by_hold(&data, times, |cell| cell.spread(UNFAIRNESS).map(Mark::Dot));
    let how =
        format!("stub connections; 1x is fair; dot and number: median; line: {}; further left is better", data.ends());
    let heading = data.heading("Who is served: operations of the best-served thread over the worst-served", &[&how]);
    matrix(&heading, &sections).map(Some)
}

fn tasks(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "tasks");
    if data.is_empty() {
        return Ok(None);
    }
    let workloads = TaskHold::ALL.map(|hold| hold.label().to_owned());
    let sections = by_load(&data, "tasks", &workloads, count, |cell| cell.spread(OPS_PER_S).map(Mark::Dot));
    let how = format!(
        "stub connections, tasks on tokio's threads; dot and number: median; line: {}; further right is faster",
        data.ends()
    );
    let heading = data.heading("Operations per second through the async door", &[&how]);
    matrix(&heading, &sections).map(Some)
}

/// The parts of an operation in the order of [`PARTS`].
const PART_NAMES: [Part; 6] = [
    Part { label: "connect", colour: (0x4a, 0x4a, 0x4a) },
    Part { label: "blocked on the lock", colour: (0xd6, 0x27, 0x28) },
    Part { label: "wait for a connection", colour: (0xff, 0xa6, 0x3d) },
    Part { label: "rest of the acquire", colour: (0x8e, 0x44, 0xad) },
    Part { label: "the insert", colour: (0x9e, 0xc5, 0xe8) },
    Part { label: "give back or close", colour: (0x2c, 0x8c, 0x6a) },
];

fn split(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "split").filter(|record| record.workload == "clocks");
    let mut panels = Vec::new();
    for flush in ["durable", "relaxed"] {
        for threads in data.threads() {
            let data = data.filter(|record| record.flush == flush && record.threads == threads);
            let bars: Vec<Bar> = data.entrants().into_iter().filter_map(|entrant| bar(&data, entrant)).collect();
            if !bars.is_empty() {
                let plural = if threads == 1 { "" } else { "s" };
                panels.push(stack::Panel { heading: format!("{threads} thread{plural}, {flush} commits"), bars });
            }
        }
    }
    if panels.is_empty() {
        return Ok(None);
    }
    let heading = data.heading(
        "What one insert's time consists of",
        &["clocks around each operation and, in our pools, around each phase; medians of the runs' means"],
    );
    stack(&heading, &PART_NAMES, &panels, time).map(Some)
}

fn bar(data: &Data<'_>, entrant: Entrant) -> Option<Bar> {
    let own = data.by(entrant);
    let parts: Vec<f64> = PARTS.iter().map(|part| own.spread(*part).map_or(0.0, |spread| spread.median)).collect();
    let total: f64 = parts.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let Name { label, is_ours, .. } = name(entrant);
    let note = if is_ours { format!("{}, of it lock {}", time(total), time(parts[1])) } else { time(total) };
    Some(Bar { label, is_ours, parts, note })
}

fn connect(records: &[Record]) -> Result<Option<String>, Failure> {
    let data = Data::of(records, "connect");
    if data.is_empty() {
        return Ok(None);
    }
    let parts = [
        Part { label: "open", colour: (0x1f, 0x4e, 0x9e) },
        Part { label: "close, as the client sees it", colour: (0x9c, 0xbe, 0xec) },
        Part { label: "one round trip", colour: (0x2c, 0xa0, 0x2c) },
    ];
    let bars: Vec<Bar> = Way::ALL
        .into_iter()
        .filter_map(|way| {
            let own = data.filter(|record| record.contender == way.id());
            let median = |metric| own.spread(metric).map_or(0.0, |spread| spread.median);
            let lengths = vec![median(CONNECT_NS), median(CLOSE_NS), median(PING_NS)];
            let Spread { low, median, high, .. } = own.spread(if way.is_ping() { PING_NS } else { CONNECT_NS })?;
            let verb = if way.is_ping() { "" } else { "open " };
            let note = format!("{verb}{} ({} to {})", time(median), time(low), time(high));
            Some(Bar { label: way.label().to_owned(), is_ours: false, parts: lengths, note })
        })
        .collect();
    let how = format!("one thread; medians; numbers: opening or the ping alone, in brackets {}", data.ends());
    let heading = data.heading("What a connection costs", &[&how]);
    let panel = stack::Panel { heading: "open, then close".to_owned(), bars };
    stack(&heading, &parts, &[panel], time).map(Some)
}

//! What happens to a pool in a spike, in an outage, when connections live shortly, when it is saturated for long, and when
//! most acquires are dropped? See [`benches::scenario`], one file a scenario.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use benches::backend::remote::{Remote, RemoteConnection};
use benches::backend::{Failure, Gauge};
use benches::contenders::Entrant;
use benches::measure::in_rounds;
use benches::record::{Cell, Metric, Spread};
use benches::scenario::cancel::{Cancel, EXCESS, USABLE};
use benches::scenario::churn::Churn;
use benches::scenario::door::{Door, Kind, VisitDoor, enter};
use benches::scenario::outage::{Outage, Times};
use benches::scenario::saturation::Saturation;
use benches::scenario::spike::Spike;
use benches::scenario::{ERRORS, Finding, MOST_OPEN, Scenario, expect_size};
use benches::suite::{self, Suite};
use benches::tasks::AsyncPool;

fn main() -> ExitCode {
    suite::run("scenarios", |suite| {
        for scenario in Scenario::ALL {
            for kind in Kind::ALL {
                let cells: Vec<Cell> = kind
                    .entrants()
                    .iter()
                    .filter(|entrant| scenario.suits(**entrant, kind))
                    .map(|entrant| cell(scenario, kind, *entrant))
                    .collect();
                suite.announce(&cells, &scenario.workload(kind));
                block(suite, cells, scenario, kind)?;
            }
        }
        Ok(())
    })
}

fn cell(scenario: Scenario, kind: Kind, entrant: Entrant) -> Cell {
    let setting = scenario.setting();
    Cell {
        suite: "scenarios".to_owned(),
        workload: scenario.workload(kind),
        backend: "remote".to_owned(),
        flush: String::new(),
        contender: entrant.row().id.to_owned(),
        threads: setting.clients,
        size: setting.size,
        hold_us: u64::try_from(setting.distance.query.as_micros()).unwrap_or(u64::MAX),
        rows: 0,
    }
}

fn block(suite: &mut Suite, mut cells: Vec<Cell>, scenario: Scenario, kind: Kind) -> Result<(), Failure> {
    cells.retain(|cell| suite.wants(cell));
    let profile = suite.profile();
    let rounds = match scenario {
        Scenario::Spike => profile.pick(1, 1, 2, 5),
        // Once is long enough.
        Scenario::Outage | Scenario::Saturation => 1,
        Scenario::Churn | Scenario::Cancel => profile.pick(1, 1, 1, 5),
    };
    let times = Lengths::of(suite);
    let findings = in_rounds(&cells, rounds, |cell| {
        let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
        run(scenario, kind, entrant, times)
    })?;
    for (cell, findings) in cells.iter().zip(&findings) {
        let Some(middle) = middle(findings) else { continue };
        let spread = |metric: Metric| {
            let values: Vec<f64> = findings.iter().filter_map(|finding| finding.value(metric)).collect();
            Spread::of(&values)
        };
        let metrics: Vec<(Metric, Spread)> =
            middle.metrics.iter().filter_map(|(metric, _)| Some((*metric, spread(*metric)?))).collect();
        let ops = findings.iter().map(|finding| finding.ops).sum();
        suite.finish_with_courses(cell, &metrics, &middle.courses, ops)?;
    }
    Ok(())
}

/// The round whose first metric is the median: what was followed over time is shown of a round that was as usual.
fn middle(findings: &[Finding]) -> Option<&Finding> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    let first = |finding: &Finding| finding.metrics.first().map_or(0.0, |(_, value)| *value);
    sorted.sort_by(|one, other| first(one).total_cmp(&first(other)));
    sorted.get(sorted.len() / 2).copied()
}

/// How long the parts are.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    watched: Duration,
    outage: Times,
    churn: Duration,
    saturation: Duration,
    step: Duration,
    cancel: Duration,
    smoke: bool,
}

impl Lengths {
    fn of(suite: &Suite) -> Self {
        let profile = suite.profile();
        let ms = |smoke, quick, default, full| Duration::from_millis(profile.pick(smoke, quick, default, full));
        Self {
            watched: ms(200, 400, 1_200, 1_200),
            outage: Times {
                before: ms(150, 200, 600, 3_000),
                gone: ms(100, 500, 10_000, 10_000),
                after: ms(20, 100, 600, 3_000),
            },
            churn: ms(250, 300, 1_500, 5_000),
            saturation: ms(60, 300, 3_000, 60_000),
            step: ms(20, 50, 200, 1_000),
            cancel: ms(20, 100, 500, 3_000),
            smoke: profile.name() == "smoke",
        }
    }
}

fn run(scenario: Scenario, kind: Kind, entrant: Entrant, times: Lengths) -> Result<Finding, Failure> {
    let setting = scenario.setting();
    let mut options = setting.options();
    if times.smoke && scenario == Scenario::Spike {
        // The smoke run looks whether everything works, and has no time to open 50 connections by three threads.
        options.size = 10;
    }
    let remote = Remote::new(setting.distance);
    let gauge = Gauge::new();
    let clients = setting.clients;
    let visit = Run { scenario, remote: &remote, clients, size: options.size, times };
    let mut finding = enter(entrant, kind, &remote, &gauge, &options, visit)?;
    expect_size(entrant, &gauge, options.size)?;
    #[expect(clippy::cast_precision_loss)]
    finding.metrics.push((MOST_OPEN, gauge.high_water() as f64));
    expect_of_ours(scenario, entrant, &finding, options.size)?;
    Ok(finding)
}

/// What every run of ours must have found, however slow the machine.
#[expect(clippy::cast_precision_loss)]
fn expect_of_ours(scenario: Scenario, entrant: Entrant, finding: &Finding, size: usize) -> Result<(), Failure> {
    let expected: &[(Metric, f64)] = match scenario {
        Scenario::Churn => &[(ERRORS, 0.0)],
        Scenario::Cancel => &[(USABLE, size as f64), (EXCESS, 0.0)],
        Scenario::Spike | Scenario::Outage | Scenario::Saturation => &[],
    };
    for (metric, expected) in expected.iter().filter(|_| entrant.row().is_ours) {
        let found = finding.value(*metric);
        if found != Some(*expected) {
            let problem = format!("{} is {found:?}, where {expected} was expected", metric.name);
            return Err(Failure::new(problem));
        }
    }
    Ok(())
}

/// A scenario's visit.
struct Run<'a> {
    scenario: Scenario,
    remote: &'a Remote,
    clients: usize,
    size: usize,
    times: Lengths,
}

impl VisitDoor for Run<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let Self { scenario, remote, clients, size, times } = self;
        match scenario {
            Scenario::Spike => Spike { remote, clients, watched: times.watched }.visit(door, pool),
            Scenario::Outage => Outage { remote, clients, times: times.outage }.visit(door, pool),
            Scenario::Churn => Churn { remote, clients, time: times.churn }.visit(door, pool),
            Scenario::Saturation => {
                Saturation { remote, clients, time: times.saturation, step: times.step }.visit(door, pool)
            }
            Scenario::Cancel => Cancel { remote, clients, size, time: times.cancel }.visit(door, pool),
        }
    }
}

//! Who is served when clients outnumber connections, by our policies and by the peers? See [`benches::fairness`].

use std::process::ExitCode;
use std::time::Duration;

use benches::backend::remote::Remote;
use benches::backend::stub::{Hold, Stub, StubConnection};
use benches::backend::{Failure, Gauge};
use benches::contender::{Contender, Visit, open_all};
use benches::contenders::enter_with;
use benches::drive::{Observation, observe};
use benches::fairness::{Contestant, Load, TASKS_DISTANCE};
use benches::measure::{expect_limit, in_rounds};
use benches::record::{Cell, MAX, Metric, OPS_PER_S, P50, P99, P999, Spread, UNFAIRNESS};
use benches::scenario::door::{Kind, enter};
use benches::scenario::saturation::Saturation;
use benches::scenario::{Finding, expect_size};
use benches::suite::{self, Suite};
use benches::workload::Keep;

fn main() -> ExitCode {
    suite::run("fairness", |suite| {
        for load in Load::ALL {
            let contestants = Contestant::ALL.into_iter().filter(|contestant| load.suits(*contestant));
            let cells: Vec<(Contestant, Cell)> =
                contestants.map(|contestant| (contestant, contestant.cell(load))).collect();
            suite.announce(&cells.iter().map(|(_, cell)| cell.clone()).collect::<Vec<_>>(), &load.label());
            block(suite, &cells, load)?;
        }
        Ok(())
    })
}

fn block(suite: &mut Suite, cells: &[(Contestant, Cell)], load: Load) -> Result<(), Failure> {
    let wanted: Vec<Cell> = cells.iter().map(|(_, cell)| cell.clone()).filter(|cell| suite.wants(cell)).collect();
    let profile = suite.profile();
    let (time, rounds) = match load {
        Load::Threads(_) => (Duration::from_millis(profile.pick(5, 100, 250, 3_000)), profile.pick(1, 1, 2, 5)),
        Load::Tasks => (Duration::from_millis(profile.pick(20, 300, 1_500, 10_000)), profile.pick(1, 1, 1, 3)),
    };
    let findings = in_rounds(&wanted, rounds, |cell| {
        let contestant = cells.iter().find(|(_, known)| known == cell).map(|(contestant, _)| *contestant);
        let contestant = contestant.ok_or_else(|| Failure::new("a cell without a contestant"))?;
        match load {
            Load::Threads(hold) => on_threads(contestant, load, hold, time),
            Load::Tasks => on_tasks(contestant, load, time),
        }
    })?;
    for (cell, findings) in wanted.iter().zip(&findings) {
        let spread = |metric: Metric| {
            let values: Vec<f64> = findings.iter().filter_map(|finding| finding.value(metric)).collect();
            Spread::of(&values).map(|spread| (metric, spread))
        };
        let metrics: Vec<(Metric, Spread)> =
            [OPS_PER_S, P50, P99, P999, MAX, UNFAIRNESS].into_iter().filter_map(spread).collect();
        suite.finish(cell, &metrics, findings.iter().map(|finding| finding.ops).sum())?;
    }
    Ok(())
}

/// One observed run as a visit.
struct Watched {
    hold: Hold,
    load: Load,
    time: Duration,
}

impl Visit<StubConnection> for Watched {
    type Output = Observation;

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<Observation, Failure> {
        open_all(contender, self.load.size())?;
        observe(contender, &Keep(self.hold), self.load.clients(), self.time)
    }
}

#[expect(clippy::cast_precision_loss)]
fn on_threads(contestant: Contestant, load: Load, hold: Hold, time: Duration) -> Result<Finding, Failure> {
    let (stub, gauge) = (Stub::new(), Gauge::new());
    let visit = Watched { hold, load, time };
    let seen = enter_with(contestant.entrant, &stub, &gauge, &contestant.options(load.size()), visit)?;
    expect_limit(contestant.entrant, &gauge, load.clients(), load.size())?;
    if stub.uses() != seen.ops() {
        return Err(Failure::new(format!("{} operations used connections {} times", seen.ops(), stub.uses())));
    }
    let nanos = |percent| seen.waits.value_at_percentile(percent) as f64;
    let metrics = vec![
        (OPS_PER_S, seen.ops() as f64 / seen.elapsed.as_secs_f64()),
        (P50, nanos(50.0)),
        (P99, nanos(99.0)),
        (P999, nanos(99.9)),
        (MAX, nanos(100.0)),
        (UNFAIRNESS, seen.unfairness()),
    ];
    Ok(Finding { metrics, courses: Vec::new(), ops: seen.ops() })
}

/// The saturation scenario with more clients; it counts answers against operations.
fn on_tasks(contestant: Contestant, load: Load, time: Duration) -> Result<Finding, Failure> {
    let (remote, gauge) = (Remote::new(TASKS_DISTANCE), Gauge::new());
    let options = contestant.options(load.size());
    let visit = Saturation { remote: &remote, clients: load.clients(), time, step: time };
    let finding = enter(contestant.entrant, Kind::Tasks, &remote, &gauge, &options, visit)?;
    expect_size(contestant.entrant, &gauge, load.size())?;
    Ok(finding)
}

//! How long do acquires take when threads outnumber connections, and is everybody served? See [`SATURATION_2X`].

use std::process::ExitCode;
use std::time::Duration;

use benches::backend::Failure;
use benches::backend::stub::{Hold, Stub, StubConnection};
use benches::contender::{Contender, Visit};
use benches::drive::{Observation, observe};
use benches::measure::{in_rounds, visit_open};
use benches::record::{
    Cell, MAX, Metric, OPERATION_MAX, OPERATION_P99, OPERATION_P999, OPS_PER_S, P50, P99, P999, Spread, UNFAIRNESS,
};
use benches::suite::{self, Suite};
use benches::workload::{HOLDS, Keep, SATURATION_2X, SATURATION_4X, stub_entrants};
use hdrhistogram::Histogram;

/// One observed run as a visit.
struct Watched {
    hold: Hold,
    threads: usize,
    time: Duration,
}

impl Visit<StubConnection> for Watched {
    type Output = Observation;

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<Observation, Failure> {
        observe(contender, &Keep(self.hold), self.threads, self.time)
    }
}

fn main() -> ExitCode {
    suite::run("latency", |suite| {
        for workload in [SATURATION_2X, SATURATION_4X] {
            for &threads in workload.threads {
                for hold in HOLDS {
                    let cells = workload.block("latency", "stub", threads, hold, &stub_entrants());
                    let size = workload.size.of(threads);
                    suite.announce(&cells, &format!("{threads} threads on {size} connections, {}", hold.label()));
                    block(suite, cells, hold)?;
                }
            }
        }
        Ok(())
    })
}

fn block(suite: &mut Suite, mut cells: Vec<Cell>, hold: Hold) -> Result<(), Failure> {
    cells.retain(|cell| suite.wants(cell));
    let profile = suite.profile();
    // Long enough that the kernel gives each of the threads its turn many times, and that a thousandth of the acquires of
    // the slowest hold are still a few.
    let time = Duration::from_millis(profile.pick(5, 150, 300, 1_000));
    // Many short rounds rather than few long ones: a machine that is disturbed for a second spoils one round of one
    // contender, and the median does not see it.
    let rounds = profile.pick(1, 1, 3, 9);
    let observations = in_rounds(&cells, rounds, |cell| {
        let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
        let stub = Stub::new();
        let watched = Watched { hold, threads: cell.threads, time };
        let observation = visit_open(entrant, &stub, cell.threads, cell.size, watched)?;
        if stub.uses() == observation.ops() {
            return Ok(observation);
        }
        Err(Failure::new(format!("{} operations used connections {} times", observation.ops(), stub.uses())))
    })?;
    for (cell, observations) in cells.iter().zip(&observations) {
        let metrics: Vec<(Metric, Spread)> = [
            (P50, values(observations, |seen| nanos(&seen.waits, 50.0))),
            (P99, values(observations, |seen| nanos(&seen.waits, 99.0))),
            (P999, values(observations, |seen| nanos(&seen.waits, 99.9))),
            (MAX, values(observations, |seen| nanos(&seen.waits, 100.0))),
            (OPERATION_P99, values(observations, |seen| nanos(&seen.operations, 99.0))),
            (OPERATION_P999, values(observations, |seen| nanos(&seen.operations, 99.9))),
            (OPERATION_MAX, values(observations, |seen| nanos(&seen.operations, 100.0))),
            (UNFAIRNESS, values(observations, Observation::unfairness)),
            #[expect(clippy::cast_precision_loss)]
            (OPS_PER_S, values(observations, |seen| seen.ops() as f64 / seen.elapsed.as_secs_f64())),
        ]
        .into_iter()
        .filter_map(|(metric, spread)| Some((metric, spread?)))
        .collect();
        suite.finish(cell, &metrics, observations.iter().map(Observation::ops).sum())?;
    }
    Ok(())
}

fn values(observations: &[Observation], value: impl Fn(&Observation) -> f64) -> Option<Spread> {
    Spread::of(&observations.iter().map(value).collect::<Vec<_>>())
}

#[expect(clippy::cast_precision_loss)]
fn nanos(times: &Histogram<u64>, percentile: f64) -> f64 {
    times.value_at_percentile(percentile) as f64
}

//! How many operations a second through the async door, when tasks outnumber connections? See [`benches::tasks`].

use std::cell::RefCell;
use std::process::ExitCode;
use std::sync::Arc;

use benches::backend::stub::Stub;
use benches::backend::{Failure, Gauge};
use benches::collect::{criterion_folder, take_criterion_samples};
use benches::measure::expect_limit;
use benches::profile::Profile;
use benches::record::{Cell, NS_PER_OP, OPS_PER_S, Spread};
use benches::suite::{self, Suite};
use benches::tasks::{AsyncPool, ENTRANTS, TaskHold, VisitAsync, enter, run};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode, Throughput};
use tokio::runtime::Runtime;

/// Tasks, and connections for them.
const LOADS: [(usize, usize); 2] = [(16, 16), (16, 4)];

/// Operations in one of criterion's iterations.
const UNIT: u64 = 1_024;

fn main() -> ExitCode {
    suite::run("tasks", |suite| {
        for (tasks, size) in LOADS {
            for hold in TaskHold::ALL {
                block(suite, tasks, size, hold)?;
            }
        }
        Ok(())
    })
}

fn block(suite: &mut Suite, tasks: usize, size: usize, hold: TaskHold) -> Result<(), Failure> {
    let cell = |entrant: &benches::contenders::Entrant| Cell {
        suite: "tasks".to_owned(),
        workload: hold.label().to_owned(),
        backend: "stub".to_owned(),
        flush: String::new(),
        contender: entrant.row().id.to_owned(),
        threads: tasks,
        size,
        hold_us: 0,
        rows: 0,
    };
    let cells: Vec<Cell> = ENTRANTS.iter().map(cell).collect();
    suite.announce(&cells, &format!("{tasks} tasks on {size} connections, {}", hold.label()));
    let cells: Vec<Cell> = cells.into_iter().filter(|cell| suite.wants(cell)).collect();
    let mut samples = vec![Vec::new(); cells.len()];
    let mut ops = vec![0; cells.len()];
    for _ in 0..suite.profile().rounds() {
        let mut criterion = suite.criterion();
        for (turn, cell) in cells.iter().enumerate() {
            let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
            let group_name = format!("tasks-{}", hold.label()).replace(' ', "-");
            let value = format!("{tasks}-on-{size}");
            let mut group = criterion.benchmark_group(&group_name);
            group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(UNIT));
            let (stub, gauge) = (Stub::new(), Gauge::new());
            let id = BenchmarkId::new(&cell.contender, &value);
            let done = enter(entrant, &stub, &gauge, size, Cycles { group: &mut group, id, cell, hold })?;
            group.finish();
            expect_limit(entrant, &gauge, tasks, size)?;
            if stub.uses() != done {
                let uses = stub.uses();
                return Err(
                    Failure::new(format!("{done} operations used connections only {uses} times")).during(cell.name())
                );
            }
            ops[turn] += done;
            if let Some(new) = take_criterion_samples(&criterion_folder(), &group_name, &cell.contender, &value)? {
                #[expect(clippy::cast_precision_loss)]
                samples[turn].extend(new.into_iter().map(|ns| ns / UNIT as f64));
            }
        }
    }
    for (turn, cell) in cells.iter().enumerate() {
        if let Some(spread) = Spread::of(&samples[turn]) {
            suite.finish(cell, &[(NS_PER_OP, spread), (OPS_PER_S, spread.map(|ns| 1e9 / ns))], ops[turn])?;
        } else if suite.profile() == Profile::Smoke {
            suite.finish(cell, &[], ops[turn])?;
        }
    }
    Ok(())
}

/// Criterion over the cycles of one pool.
struct Cycles<'a, 'c> {
    group: &'a mut BenchmarkGroup<'c, WallTime>,
    id: BenchmarkId,
    cell: &'a Cell,
    hold: TaskHold,
}

impl VisitAsync for Cycles<'_, '_> {
    type Output = u64;

    fn visit<P: AsyncPool>(self, runtime: &Runtime, pool: Arc<P>) -> Result<u64, Failure> {
        let Self { group, id, cell, hold } = self;
        let ops = RefCell::new(0);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| match run(runtime, &pool, cell.threads, hold, iterations * UNIT) {
                Ok(sample) => {
                    *ops.borrow_mut() += sample.ops;
                    sample.elapsed
                }
                // Criterion has no way to hear of it, and stubs do not fail: a contender is broken.
                Err(failure) => panic!("{}: {failure}", cell.name()),
            });
        });
        Ok(ops.into_inner())
    }
}

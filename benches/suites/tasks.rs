//! How many operations a second through the async door, when tasks outnumber connections? See [`benches::tasks`].

use std::process::ExitCode;
use std::sync::Arc;

use benches::backend::Failure;
use benches::contenders::Entrant;
use benches::measure::{Turn, criterion_block};
use benches::record::Cell;
use benches::suite;
use benches::tasks::{AsyncPool, ENTRANTS, TaskHold, VisitAsync, enter, run};
use tokio::runtime::Runtime;

/// Tasks, and connections for them.
const LOADS: [(usize, usize); 2] = [(16, 16), (16, 4)];

/// Operations in one of criterion's iterations.
const UNIT: u64 = 1_024;

fn main() -> ExitCode {
    suite::run("tasks", |suite| {
        for (tasks, size) in LOADS {
            for hold in TaskHold::ALL {
                let cell = |entrant: &Entrant| Cell {
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
                criterion_block(suite, &cells, UNIT, |entrant, stub, gauge, turn| {
                    enter(entrant, stub, gauge, size, Cycles { turn, hold })
                })?;
            }
        }
        Ok(())
    })
}

/// Cycles on tasks as a visit.
struct Cycles<'a, 'c> {
    turn: Turn<'a, 'c>,
    hold: TaskHold,
}

impl VisitAsync for Cycles<'_, '_> {
    type Output = u64;

    fn visit<P: AsyncPool>(self, runtime: &Runtime, pool: Arc<P>) -> Result<u64, Failure> {
        let Self { turn, hold } = self;
        let tasks = turn.cell.threads;
        Ok(turn.measure(|ops| run(runtime, &pool, tasks, hold, ops)))
    }
}

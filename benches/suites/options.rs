//! What does each option that is off by default add to a cycle of `slots`?
//!
//! The cycle is that of the suite `checkout`: acquire and give back at once, on one thread, where nothing hides the cost;
//! and on two, where it would show if the threads wrote to the same lines. Hooks and closures are empty, so what is
//! measured is the pool's part. Every loan is as short as it can be; beside a query none of this is to be seen.

use std::process::ExitCode;

use benches::backend::stub::Hold;
use benches::backend::{Backend as _, Failure};
use benches::contender::open_all;
use benches::contenders::Entrant;
use benches::contenders::ours::Ours;
use benches::drive::{Quota, run};
use benches::measure::criterion_block;
use benches::options::PoolOption;
use benches::record::Cell;
use benches::suite;
use benches::workload::{Size, Touch, Work as _, Workload};
use pool::idle::Slots;

const THREADS: [usize; 2] = [1, 2];

fn main() -> ExitCode {
    suite::run("options", |suite| {
        for threads in THREADS {
            let cells: Vec<Cell> = PoolOption::ALL.into_iter().flat_map(|option| cells(option, threads)).collect();
            let unit = Touch.batch() * threads as u64;
            criterion_block(suite, &cells, unit, |_, stub, gauge, turn| {
                let (option, size) = (turn.cell.workload.clone(), turn.cell.size);
                let option = PoolOption::from_id(&option).ok_or_else(|| Failure::new(format!("no option {option}")))?;
                let pool = Ours::<_, Slots>::open_changed(size, stub.manager(gauge), |options| option.apply(options))?;
                open_all(&pool, size)?;
                let done = turn.measure(|ops| run(&pool, &Touch, threads, Quota::Split(ops)));
                // Connections tell their uses when they are closed.
                drop(pool);
                gauge.settle()?;
                Ok(done)
            })?;
        }
        Ok(())
    })
}

fn cells(option: PoolOption, threads: usize) -> Vec<Cell> {
    let workload = Workload { name: option.id(), threads: &THREADS, size: Size::Fixed(10) };
    workload.block("options", "stub", threads, Hold::None, &[Entrant::Slots])
}

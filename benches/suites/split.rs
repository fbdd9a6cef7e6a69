//! Where does the time of one insert go, at one thread and at four? By two methods that share nothing.
//!
//! **Ablation** (`cargo bench --bench split`): the same inserts on the mutex pool, on pools without the mutex, and on one
//! connection per thread, which has no pool at all. What the lock costs is what the time falls by when it goes.
//!
//! **Clocks** (`cargo bench --features timing --bench split`): our pools read the clock at each phase, and the caller
//! does around each operation. What the lock costs is what the threads stood blocked on it.

use std::process::ExitCode;

use benches::backend::Failure;
use benches::backend::mysql::{Flush, Mysql, Observer, Sql, Table};
use benches::contender::{Contender, PoolTiming, Visit};
use benches::contenders::Entrant;
use benches::drive::{Phases, Quota, Sample, dissect};
use benches::measure::{Bench, Timed, in_rounds};
use benches::profile::Profile;
use benches::record::{Cell, NS_PER_OP, PARTS, Spread, THREAD_NS_PER_OP};
use benches::suite::{self, Suite};
use benches::workload::{Insert, SEED};

/// From all of it to none of it.
const LADDER: [Entrant; 7] = [
    Entrant::NoPool,
    Entrant::R2d2,
    Entrant::Mutex,
    Entrant::LockFree,
    Entrant::LockfreeCrate,
    Entrant::Slots,
    Entrant::PerThread,
];

/// Whether this program's pools read the clock.
const HAS_CLOCKS: bool = cfg!(feature = "timing");

fn main() -> ExitCode {
    suite::run("split", |suite| {
        let Some((server, mut observer)) = suite.server("the split of an insert's time")? else { return Ok(()) };
        observer.with_tables(["split"], |observer, [table]| split(suite, &server, observer, table))
    })
}

fn split(suite: &mut Suite, server: &Mysql, observer: &mut Observer, table: &Table) -> Result<(), Failure> {
    let profile = suite.profile();
    let method = if HAS_CLOCKS { "clocks" } else { "ablation" };
    let work = Insert { table: table.name.clone() };
    for flush in [Flush::Relaxed, Flush::Durable] {
        if !observer.set_flush(flush)? {
            let name = flush.name();
            suite
                .say(&format!("skipped {name} commits: the account may not SET GLOBAL innodb_flush_log_at_trx_commit"));
            continue;
        }
        let rows = match (profile, flush) {
            (Profile::Smoke, _) => 20,
            (Profile::Quick, _) => 400,
            (Profile::Default, _) => 1_000,
            (Profile::Full, _) => 5_000,
        };
        // Ablation subtracts large numbers from each other, so it needs more of them.
        let rounds = if HAS_CLOCKS { profile.pick(1, 1, 3, 5) } else { profile.pick(1, 2, 5, 11) };
        for threads in [1, 4] {
            let cell = |entrant: &Entrant| Cell {
                suite: "split".to_owned(),
                workload: method.to_owned(),
                backend: "mariadb".to_owned(),
                flush: flush.name().to_owned(),
                contender: entrant.row().id.to_owned(),
                threads,
                size: SEED.size.of(threads),
                hold_us: 0,
                rows,
            };
            let cells: Vec<Cell> = LADDER.iter().map(cell).filter(|cell| suite.wants(cell)).collect();
            let what = format!("{method}: {rows} {} inserts on {threads} threads, {rounds} rounds", flush.name());
            suite.announce(&cells, &what);
            let samples = in_rounds(&cells, rounds, |cell| {
                let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
                let mut bench = Bench { server, observer, table };
                if HAS_CLOCKS {
                    let dissected = Dissected { work: &work, threads, rows };
                    let (sample, parts) = bench.insert(entrant, threads, cell.size, rows, dissected)?;
                    Ok((sample, Some(parts)))
                } else {
                    let timed = Timed { work: &work, threads, quota: Quota::Split(rows) };
                    Ok((bench.insert(entrant, threads, cell.size, rows, timed)?, None))
                }
            })?;
            for (cell, samples) in cells.iter().zip(&samples) {
                finish(suite, cell, samples)?;
            }
        }
    }
    Ok(())
}

/// Sums of one run by part, in the order of [`PARTS`]; `None` where a part cannot be told from the rest.
type Parts = [Option<u64>; PARTS.len()];

/// A timed run, with its parts where there were clocks.
type Run = (Sample, Option<Parts>);

/// One run with clocks as a visit.
struct Dissected<'a> {
    work: &'a Insert,
    threads: usize,
    rows: u64,
}

impl Visit<dyn Sql> for Dissected<'_> {
    type Output = (Sample, Parts);

    fn visit<C: Contender<dyn Sql>>(self, contender: &C) -> Result<Self::Output, Failure> {
        let before = contender.pool_timing();
        let (sample, phases) = dissect(contender, self.work, self.threads, self.rows)?;
        let pool = match (before, contender.pool_timing()) {
            (Some(before), Some(after)) => Some(after.since(before)),
            _ => None,
        };
        Ok((sample, parts(phases, pool, contender.connects_per_operation())))
    }
}

/// Divides an operation. From outside one sees acquire, query and checkin; for our pools the acquire can be divided
/// further. The wait for the lock is that of checkout and checkin; it is taken out of the checkout.
fn parts(seen: Phases, pool: Option<PoolTiming>, is_connecting: bool) -> Parts {
    let Phases { acquire_ns, work_ns, checkin_ns } = seen;
    let (connect, lock_wait, wait, checkout) = match pool {
        _ if is_connecting => (Some(acquire_ns), None, None, None),
        Some(PoolTiming { wait_ns, lock_wait_ns }) => {
            (None, Some(lock_wait_ns), Some(wait_ns), Some(acquire_ns.saturating_sub(wait_ns + lock_wait_ns)))
        }
        None => (None, None, None, Some(acquire_ns)),
    };
    [connect, lock_wait, wait, checkout, Some(work_ns), Some(checkin_ns)]
}

#[expect(clippy::cast_precision_loss)]
fn finish(suite: &mut Suite, cell: &Cell, samples: &[Run]) -> Result<(), Failure> {
    let spread =
        |value: &dyn Fn(&Run) -> Option<f64>| Spread::of(&samples.iter().filter_map(value).collect::<Vec<_>>());
    let per_op = spread(&|(sample, _)| Some(sample.elapsed.as_secs_f64() * 1e9 / sample.ops as f64));
    let per_thread = per_op.map(|spread| spread.map(|ns| ns * cell.threads as f64));
    let mut metrics = vec![(NS_PER_OP, per_op), (THREAD_NS_PER_OP, per_thread)];
    for (part, metric) in PARTS.into_iter().enumerate() {
        metrics.push((metric, spread(&|(sample, parts)| Some((*parts)?[part]? as f64 / sample.ops as f64))));
    }
    let metrics: Vec<_> = metrics.into_iter().filter_map(|(metric, spread)| Some((metric, spread?))).collect();
    suite.finish(cell, &metrics, samples.iter().map(|(sample, _)| sample.ops).sum())
}

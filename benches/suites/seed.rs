//! The seed's table: how long do so many inserts take, with and without a pool, on so many threads? See [`SEED`].
//!
//! On MariaDB with commits that wait for the disk and with commits that do not, plus reads of single rows; the same on a
//! SQLite file, where there is no round trip. Samples are taken in rounds of our own: criterion wants ten of each, and
//! ten of the largest cell would take two minutes.

use std::process::ExitCode;
use std::time::Duration;

use benches::backend::Failure;
use benches::backend::mysql::{Flush, Mysql, Observer, Table};
use benches::backend::sqlite::Sqlite;
use benches::contenders::Entrant;
use benches::drive::{Quota, Sample};
use benches::measure::{Bench, Timed, in_rounds, visit_open};
use benches::profile::Profile;
use benches::record::{Cell, NS_PER_OP, OPS_PER_S, Spread, WALL_MS};
use benches::suite::{self, Suite};
use benches::workload::{Insert, SEED, SEED_ROWS, Select};

/// Those whose times answer the seed's question; everybody else is measured at the smallest number of rows.
const CORE: [Entrant; 6] =
    [Entrant::NoPool, Entrant::PerThread, Entrant::Mutex, Entrant::LockFree, Entrant::Slots, Entrant::R2d2];

/// Rows of the table that is read.
const READ_ROWS: u32 = 1_000;

fn main() -> ExitCode {
    suite::run("seed", |suite| {
        // First, so that a wrong address is told at once.
        let server = suite.server("the seed's table on MariaDB")?;
        sqlite(suite)?;
        let Some((server, mut observer)) = server else { return Ok(()) };
        let setting = observer.flush_setting()?;
        let insert = observer.make_table("insert")?;
        let read = observer.make_table("read")?;
        let outcome = mariadb(suite, &server, &mut observer, &insert, &read);
        observer.restore_flush(setting);
        // The first failure is the one to tell.
        outcome.and(observer.drop_table(insert)).and(observer.drop_table(read))
    })
}

/// Cells that are alike but for the contender.
struct Block {
    rows: u64,
    threads: usize,
    rounds: usize,
    entrants: Vec<Entrant>,
}

impl Block {
    fn cells(&self, workload: &str, backend: &str, flush: &str) -> Vec<Cell> {
        let size = SEED.size.of(self.threads);
        let cell = |entrant: &Entrant| Cell {
            suite: "seed".to_owned(),
            workload: workload.to_owned(),
            backend: backend.to_owned(),
            flush: flush.to_owned(),
            contender: entrant.row().id.to_owned(),
            threads: self.threads,
            size,
            hold_us: 0,
            rows: self.rows,
        };
        self.entrants.iter().map(cell).collect()
    }
}

/// Everybody but the bare structures, which are no pools.
fn everybody() -> Vec<Entrant> {
    let is_pool = |entrant: &Entrant| !matches!(entrant, Entrant::BareMutex | Entrant::BareQueue);
    Entrant::ALL.into_iter().filter(is_pool).collect()
}

/// The blocks of inserts. A durable insert takes a fifth to half a millisecond whatever the threads, which is what the
/// choice is about.
fn inserts(profile: Profile, flush: Flush) -> Vec<Block> {
    let mut blocks = Vec::new();
    for rows in SEED_ROWS {
        let is_small = rows == SEED_ROWS[0];
        let is_large = rows == SEED_ROWS[2];
        let threads: &[usize] = match profile {
            Profile::Smoke => &[1, 2],
            Profile::Full => SEED.threads,
            Profile::Default if is_small => SEED.threads,
            Profile::Quick | Profile::Default => &[1, 4],
        };
        let rounds = match (profile, flush) {
            (Profile::Smoke, _) if is_small => 1,
            (Profile::Quick, _) if is_small => 1,
            (Profile::Smoke | Profile::Quick, _) => continue,
            (Profile::Default, Flush::Durable) if is_large => 1,
            (Profile::Default, Flush::Durable) if !is_small => 2,
            (Profile::Default, _) => 3,
            (Profile::Full, _) => 5,
        };
        let everybody = everybody();
        let entrants = if is_small || profile == Profile::Full { everybody } else { CORE.to_vec() };
        let rows = if profile == Profile::Smoke { 20 } else { rows };
        blocks.extend(threads.iter().map(|&threads| Block { rows, threads, rounds, entrants: entrants.clone() }));
    }
    blocks
}

/// The blocks of reads of one row.
fn reads(profile: Profile) -> Vec<Block> {
    let threads: &[usize] = profile.pick(&[2], &[1, 4], &[1, 4, 16], SEED.threads);
    let (rows, rounds) = (profile.pick(20, 500, 2_000, 10_000), profile.pick(1, 1, 3, 5));
    threads.iter().map(|&threads| Block { rows, threads, rounds, entrants: everybody() }).collect()
}

fn mariadb(
    suite: &mut Suite,
    server: &Mysql,
    observer: &mut Observer,
    insert: &Table,
    read: &Table,
) -> Result<(), Failure> {
    let profile = suite.profile();
    for flush in [Flush::Durable, Flush::Relaxed] {
        if !observer.set_flush(flush)? {
            let name = flush.name();
            suite
                .say(&format!("skipped {name} commits: the account may not SET GLOBAL innodb_flush_log_at_trx_commit"));
            continue;
        }
        let work = Insert { table: insert.name.clone() };
        for block in inserts(profile, flush) {
            let Block { rows, threads, rounds, .. } = block;
            let what = format!("{rows} {} inserts on {threads} threads, {rounds} rounds", flush.name());
            finish(suite, &what, &block, block.cells("insert", "mariadb", flush.name()), |cell, entrant| {
                let mut bench = Bench { server, observer, table: insert };
                let timed = Timed { work: &work, threads, quota: Quota::Split(rows) };
                bench.insert(entrant, threads, cell.size, rows, timed)
            })?;
        }
    }
    // Reads commit nothing, so the setting does not matter.
    observer.fill(read, u64::from(READ_ROWS))?;
    let work = Select { table: read.name.clone(), rows: u64::from(READ_ROWS) };
    for block in reads(profile) {
        let Block { rows, threads, rounds, .. } = block;
        let what = format!("{rows} point selects on {threads} threads, {rounds} rounds");
        finish(suite, &what, &block, block.cells("point select", "mariadb", ""), |cell, entrant| {
            let mut bench = Bench { server, observer, table: read };
            bench.read(entrant, threads, cell.size, Timed { work: &work, threads, quota: Quota::Split(rows) })
        })?;
    }
    Ok(())
}

fn sqlite(suite: &mut Suite) -> Result<(), Failure> {
    let profile = suite.profile();
    let threads: &[usize] = profile.pick(&[2], &[1, 4], &[1, 4], SEED.threads);
    let entrants: Vec<_> = everybody().into_iter().filter(|entrant| !entrant.needs_mysql()).collect();
    for &threads in threads {
        let (rows, rounds) = (profile.pick(20, 500, 2_000, 10_000), profile.pick(1, 1, 3, 5));
        let block = Block { rows, threads, rounds, entrants: entrants.clone() };
        let what = format!("{rows} point selects in SQLite on {threads} threads, {rounds} rounds");
        let work = Select { table: Sqlite::TABLE.to_owned(), rows: u64::from(READ_ROWS) };
        let sqlite = Sqlite::make(READ_ROWS)?;
        finish(suite, &what, &block, block.cells("point select", "sqlite", ""), |cell, entrant| {
            let timed = Timed { work: &work, threads, quota: Quota::Split(rows) };
            visit_open(entrant, &sqlite, threads, cell.size, timed)
        })?;
        drop(sqlite);

        // SQLite has one writer at a time and makes the others try again later, so more threads measure its patience.
        let rows: u32 = profile.pick(20, 100, 200, 1_000);
        let block = Block { rows: u64::from(rows), threads, rounds, entrants: entrants.clone() };
        let what = format!("{rows} inserts in SQLite on {threads} threads, {rounds} rounds");
        let work = Insert { table: Sqlite::TABLE.to_owned() };
        finish(suite, &what, &block, block.cells("insert", "sqlite", ""), |cell, entrant| {
            let sqlite = Sqlite::make(0)?;
            let timed = Timed { work: &work, threads, quota: Quota::Split(u64::from(rows)) };
            let sample = visit_open(entrant, &sqlite, threads, cell.size, timed)?;
            sqlite.expect_rows(rows).map(|()| sample)
        })?;
    }
    Ok(())
}

/// Measures the wanted cells of a block in rounds and finishes them.
fn finish(
    suite: &mut Suite,
    what: &str,
    block: &Block,
    mut cells: Vec<Cell>,
    mut sample: impl FnMut(&Cell, Entrant) -> Result<Sample, Failure>,
) -> Result<(), Failure> {
    cells.retain(|cell| suite.wants(cell));
    if cells.is_empty() {
        return Ok(());
    }
    suite.say(what);
    let samples = in_rounds(&cells, block.rounds, |cell| {
        let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
        sample(cell, entrant)
    })?;
    for (cell, samples) in cells.iter().zip(&samples) {
        let seconds: Vec<f64> =
            samples.iter().map(|sample| sample.elapsed).map(|time: Duration| time.as_secs_f64()).collect();
        let Some(wall) = Spread::of(&seconds) else { continue };
        #[expect(clippy::cast_precision_loss)]
        let rows = block.rows as f64;
        let metrics = [
            (WALL_MS, wall.map(|seconds| seconds * 1e3)),
            (NS_PER_OP, wall.map(|seconds| seconds * 1e9 / rows)),
            (OPS_PER_S, wall.map(|seconds| rows / seconds)),
        ];
        suite.finish(cell, &metrics, samples.iter().map(|sample| sample.ops).sum())?;
    }
    Ok(())
}

//! The seed's table: how long do so many inserts take, with and without a pool, on so many threads? See [`SEED`].
//!
//! On MariaDB with commits that wait for the disk and with commits that do not, plus reads of single rows; the same on a
//! SQLite file, where there is no round trip. Samples are taken in rounds of our own: criterion wants ten of each, and
//! ten of the largest cell would take two minutes.

use std::process::ExitCode;

use benches::backend::Failure;
use benches::backend::mysql::{Flush, Mysql, Observer, Table};
use benches::backend::sqlite::Sqlite;
use benches::block::Block;
use benches::contenders::Entrant;
use benches::drive::Quota;
use benches::measure::{Bench, Timed, visit_open};
use benches::profile::Profile;
use benches::suite::{self, Suite};
use benches::workload::{Insert, SEED, SEED_ROWS, Select};

/// Those whose times answer the seed's question, with a peer that asks the server as little as they do; everybody else is
/// measured at the smallest number of rows.
const CORE: [Entrant; 6] =
    [Entrant::NoPool, Entrant::PerThread, Entrant::Mutex, Entrant::LockFree, Entrant::Slots, Entrant::R2d2Unpinged];

/// Rows of the table that is read.
const READ_ROWS: u32 = 1_000;

fn main() -> ExitCode {
    suite::run("seed", |suite| {
        // First, so that a wrong address is told at once.
        let server = suite.server("the seed's table on MariaDB")?;
        sqlite(suite)?;
        let Some((server, mut observer)) = server else { return Ok(()) };
        observer
            .with_tables(["insert", "read"], |observer, [insert, read]| mariadb(suite, &server, observer, insert, read))
    })
}

/// The seed's cells of these: ten connections, or as many as threads.
fn seed_block(rows: u64, threads: usize, rounds: usize, entrants: Vec<Entrant>) -> Block {
    Block { rows, threads, size: SEED.size.of(threads), rounds, entrants }
}

/// Everybody but the bare structures, which are no pools.
fn everybody() -> Vec<Entrant> {
    Entrant::ALL.into_iter().filter(|entrant| !entrant.is_bare()).collect()
}

/// The blocks of inserts. A durable insert takes a fifth to half a millisecond whatever the threads, which is what the
/// choice is about.
fn inserts(profile: Profile) -> Vec<Block> {
    let mut blocks = Vec::new();
    for rows in SEED_ROWS {
        let is_small = rows == SEED_ROWS[0];
        let threads: &[usize] = match profile {
            Profile::Smoke => &[1, 2],
            Profile::Full => SEED.threads,
            Profile::Default if is_small => SEED.threads,
            Profile::Quick | Profile::Default => &[1, 4],
        };
        let rounds = match profile {
            Profile::Smoke | Profile::Quick if is_small => 1,
            Profile::Smoke | Profile::Quick => continue,
            Profile::Default if is_small => 3,
            Profile::Default => 2,
            Profile::Full => 5,
        };
        let everybody = everybody();
        let entrants = if is_small || profile == Profile::Full { everybody } else { CORE.to_vec() };
        let rows = if profile == Profile::Smoke { 20 } else { rows };
        blocks.extend(threads.iter().map(|&threads| seed_block(rows, threads, rounds, entrants.clone())));
    }
    blocks
}

/// The blocks of reads of one row.
fn reads(profile: Profile) -> Vec<Block> {
    let threads: &[usize] = profile.pick(&[2], &[1, 4], &[1, 4, 16], SEED.threads);
    let (rows, rounds) = (profile.pick(20, 500, 2_000, 10_000), profile.pick(1, 1, 5, 5));
    threads.iter().map(|&threads| seed_block(rows, threads, rounds, everybody())).collect()
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
        for block in inserts(profile) {
            let Block { rows, threads, rounds, .. } = block;
            let what = format!("{rows} {} inserts on {threads} threads, {rounds} rounds", flush.name());
            let cells = block.cells(suite, "insert", "mariadb", flush.name());
            block.measure(suite, &what, cells, |cell, entrant| {
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
        let cells = block.cells(suite, "point select", "mariadb", "");
        block.measure(suite, &what, cells, |cell, entrant| {
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
        let block = seed_block(rows, threads, rounds, entrants.clone());
        let what = format!("{rows} point selects in SQLite on {threads} threads, {rounds} rounds");
        let work = Select { table: Sqlite::TABLE.to_owned(), rows: u64::from(READ_ROWS) };
        let sqlite = Sqlite::make(READ_ROWS)?;
        let cells = block.cells(suite, "point select", "sqlite", "");
        block.measure(suite, &what, cells, |cell, entrant| {
            let timed = Timed { work: &work, threads, quota: Quota::Split(rows) };
            visit_open(entrant, &sqlite, threads, cell.size, timed)
        })?;
        drop(sqlite);

        // SQLite has one writer at a time and makes the others try again later, so more threads measure its patience.
        let rows: u32 = profile.pick(20, 100, 200, 1_000);
        let block = seed_block(u64::from(rows), threads, rounds, entrants.clone());
        let what = format!("{rows} inserts in SQLite on {threads} threads, {rounds} rounds");
        let work = Insert { table: Sqlite::TABLE.to_owned() };
        let cells = block.cells(suite, "insert", "sqlite", "");
        block.measure(suite, &what, cells, |cell, entrant| {
            let sqlite = Sqlite::make(0)?;
            let timed = Timed { work: &work, threads, quota: Quota::Split(u64::from(rows)) };
            let sample = visit_open(entrant, &sqlite, threads, cell.size, timed)?;
            sqlite.expect_rows(rows).map(|()| sample)
        })?;
    }
    Ok(())
}

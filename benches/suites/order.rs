//! Does it matter which idle connection is lent next: the one that came back last, or all in turns?
//!
//! A queue, under a lock or without one, makes all idle connections take turns; a stack lends the warm one again. So a
//! mutex pool and a lock-free one may differ for a reason that has nothing to do with locks. Three pairs of rows in which
//! nothing but the order differs tell the two apart; one connection per thread is the floor, and our pools are there for
//! their place among them.

use std::process::ExitCode;

use benches::backend::Failure;
use benches::backend::mysql::{Flush, Mysql, Observer, Table};
use benches::block::Block;
use benches::contenders::Entrant;
use benches::drive::Quota;
use benches::measure::{Bench, Timed};
use benches::suite::{self, Suite};
use benches::workload::{Insert, Select};

/// Who takes part.
const ENTRANTS: [Entrant; 11] = [
    Entrant::PerThread,
    Entrant::BareMutex,
    Entrant::BareMutexTurns,
    Entrant::BareQueue,
    Entrant::Mutex,
    Entrant::LockFree,
    Entrant::Slots,
    Entrant::Deadpool,
    Entrant::DeadpoolTurns,
    Entrant::Bb8,
    Entrant::Bb8Turns,
];

/// Connections of every pool, as in the seed.
const SIZE: usize = 10;

/// Rows of the table that is read.
const READ_ROWS: u32 = 1_000;

fn main() -> ExitCode {
    suite::run("order", |suite| {
        let Some((server, mut observer)) = suite.server("the order of idle connections")? else { return Ok(()) };
        observer.with_tables(["order_insert", "order_read"], |observer, [insert, read]| {
            measure(suite, &server, observer, insert, read)
        })
    })
}

fn measure(
    suite: &mut Suite,
    server: &Mysql,
    observer: &mut Observer,
    insert: &Table,
    read: &Table,
) -> Result<(), Failure> {
    let profile = suite.profile();
    // Never more than there are connections: nobody waits, and what is left of a difference is the order.
    let threads: &[usize] = profile.pick(&[2], &[2], &[1, 2, 4, 8], &[1, 2, 4, 8]);
    // Short samples and many: what a machine does to a second of measuring it does to everybody's.
    let (selects, inserts) = (profile.pick(20, 500, 1_000, 2_000), profile.pick(20, 200, 500, 1_000));
    let rounds = profile.pick(1, 3, 9, 25);

    observer.fill(read, u64::from(READ_ROWS))?;
    let work = Select { table: read.name.clone(), rows: u64::from(READ_ROWS) };
    for &threads in threads {
        let block = Block { rows: selects, threads, size: SIZE, rounds, entrants: ENTRANTS.to_vec() };
        let what = format!("{selects} point selects on {threads} threads, {rounds} rounds");
        let cells = block.cells(suite, "point select", "mariadb", "");
        block.measure(suite, &what, cells, |cell, entrant| {
            let mut bench = Bench { server, observer, table: read };
            bench.read(entrant, threads, cell.size, Timed { work: &work, threads, quota: Quota::Split(selects) })
        })?;
    }

    // Without the wait for the disk, which would hide everything else.
    if !observer.set_flush(Flush::Relaxed)? {
        suite.say("skipped inserts: the account may not SET GLOBAL innodb_flush_log_at_trx_commit");
        return Ok(());
    }
    let work = Insert { table: insert.name.clone() };
    for &threads in threads {
        let block = Block { rows: inserts, threads, size: SIZE, rounds, entrants: ENTRANTS.to_vec() };
        let what = format!("{inserts} relaxed inserts on {threads} threads, {rounds} rounds");
        let cells = block.cells(suite, "insert", "mariadb", Flush::Relaxed.name());
        block.measure(suite, &what, cells, |cell, entrant| {
            let mut bench = Bench { server, observer, table: insert };
            let timed = Timed { work: &work, threads, quota: Quota::Split(inserts) };
            bench.insert(entrant, threads, cell.size, inserts, timed)
        })?;
    }
    Ok(())
}

//! Threads that share a database: eight of them count visits in a SQLite file, through a pool of four connections.
//!
//! ```console
//! $ cargo run -p pool --example blocking --features sqlite
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use pool::managers::sqlite::SqliteManager;
use pool::{AcquireError, SlotsPool};

type Failure = Box<dyn Error + Send + Sync>;

const THREADS: i64 = 8;
const VISITS_EACH: i64 = 50;

fn main() -> Result<(), Failure> {
    let file = std::env::temp_dir().join(format!("pool-example-blocking-{}.db", std::process::id()));
    let outcome = run(&file);
    for suffix in ["", "-wal", "-shm"] {
        // Not all of them need to be there.
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    outcome
}

fn run(file: &std::path::Path) -> Result<(), Failure> {
    let manager = SqliteManager::file(file)
        .busy_timeout(Duration::from_secs(20))
        // Every new connection prepares itself.
        .init(|connection| connection.execute_batch("CREATE TABLE IF NOT EXISTS visit (page INTEGER, thread INTEGER)"));
    let pool = SlotsPool::builder()
        .name("visits")
        .max_size(4)
        .min_idle(1) // `build` opens this one, so a wrong path is told here and not in the first request
        .acquire_timeout(Duration::from_secs(20))
        .build(manager)?;

    // The pool can be shared by reference: guards that borrow it are the cheap ones.
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let pool = &pool;
                    move || visit(pool, thread)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;

    // When all are lent and the time is up, the error says so, with the counts.
    let lent: Vec<_> = (0..4).map(|_| pool.get()).collect::<Result<_, _>>()?;
    match pool.get_timeout(Duration::from_millis(10)) {
        Err(error @ AcquireError::Exhausted { .. }) => println!("as it should be: {error}"),
        other => return Err(format!("all connections are lent, and yet: {:?}", other.map(drop)).into()),
    }
    drop(lent);

    // `run` hears errors: a connection that one of them leaves unusable is closed instead of being lent again.
    let visits: i64 =
        pool.get()?.run(|connection| connection.query_row("SELECT COUNT(*) FROM visit", [], |row| row.get(0)))?;
    println!("{visits} visits, {}", pool.state());
    println!("{:?}", pool.counters());
    if visits != THREADS * VISITS_EACH {
        return Err("some visits were not counted".into());
    }
    // Waits for loans, at most this long; dropping the pool would not wait.
    pool.close(Duration::from_secs(20))?;
    Ok(())
}

fn visit(pool: &SlotsPool<SqliteManager>, thread: i64) -> Result<(), Failure> {
    for page in 0..VISITS_EACH {
        let connection = pool.get()?;
        connection.execute("INSERT INTO visit VALUES (?, ?)", (page, thread))?;
    }
    Ok(())
}

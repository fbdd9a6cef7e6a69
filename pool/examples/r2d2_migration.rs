//! Moving a program from r2d2 to this crate: the program's code stands once, in [`program.rs`](r2d2_migration/program.rs),
//! and runs on both pools. What differs is one line. Then the next step, which r2d2 has no words for.
//!
//! ```console
//! $ cargo run -p pool --example r2d2_migration --features r2d2
//! ```

use std::error::Error;
use std::time::Duration;

use pool::SlotsPool;
use pool::managers::r2d2::R2d2Manager;
use r2d2_sqlite::SqliteConnectionManager;

mod before {
    include!("r2d2_migration/program.rs");
}

mod after {
    use pool::r2d2_compat as r2d2; // the line

    include!("r2d2_migration/program.rs");
}

fn main() -> Result<(), Box<dyn Error>> {
    let (before, after) = (before::program()?, after::program()?);
    println!("on r2d2: {before}\non ours: {after}");
    if before != after {
        return Err("they should be the same".into());
    }

    // The same manager in a pool of this crate's own: connections are checked when they were idle for a while instead of
    // every time, errors keep their cause, and `get_async` awaits.
    let manager = R2d2Manager::new(SqliteConnectionManager::memory());
    let pool = SlotsPool::builder()
        .max_size(4)
        .acquire_timeout(Duration::from_secs(20))
        .validate_after_idle(Duration::from_secs(30))
        .build(manager)?;
    let version: String = pool.get()?.query_row("SELECT sqlite_version()", [], |row| row.get(0))?;
    println!("and then: SQLite {version}, {}", pool.state());
    Ok(())
}

// Code as it is written for r2d2 0.8. Nothing here knows which pool it runs on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use r2d2::{CustomizeConnection, HandleEvent, event};
use r2d2_sqlite::{SqliteConnectionManager as Manager, rusqlite};

/// Counts the loans.
#[derive(Debug, Clone, Default)]
struct Loans(Arc<AtomicUsize>);

impl HandleEvent for Loans {
    fn handle_checkin(&self, _: event::CheckinEvent) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Prepares each new connection.
#[derive(Debug)]
struct Pragmas;

impl CustomizeConnection<rusqlite::Connection, rusqlite::Error> for Pragmas {
    fn on_acquire(&self, connection: &mut rusqlite::Connection) -> Result<(), rusqlite::Error> {
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA read_uncommitted = ON")
    }
}

/// What came of it.
pub(super) fn program() -> Result<String, Box<dyn std::error::Error>> {
    let loans = Loans::default();
    let pool: r2d2::Pool<Manager> = r2d2::Pool::builder()
        .max_size(3)
        .event_handler(Box::new(loans.clone()))
        .connection_customizer(Box::new(Pragmas))
        .build(Manager::memory())?;

    pool.get()?.execute_batch("CREATE TABLE number (n INTEGER)")?;
    for n in 1..=10 {
        pool.get()?.execute("INSERT INTO number VALUES (?)", [n])?;
    }
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let connection = pool.get().expect("a connection within thirty seconds");
                connection.query_row("SELECT SUM(n) FROM number", [], |row| row.get::<_, i64>(0))
            })
        })
        .collect();
    let mut sums = Vec::new();
    for reader in readers {
        sums.push(reader.join().map_err(|_| "a reader panicked")??);
    }
    let state = pool.state();
    Ok(format!(
        "{sums:?}, {} loans, {} of {} connections idle",
        loans.0.load(Ordering::SeqCst),
        state.idle_connections,
        state.connections
    ))
}

//! The pool and its SQLite manager, in files and in memory.
#![cfg(feature = "sqlite")]

#[macro_use]
mod kinds;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use pool::idle::IdleSet;
use pool::managers::sqlite::{SqliteManager, Synchronous};
use pool::{Builder, Manager, Pool};
use rusqlite::Connection;
use tempfile::TempDir;

over_every_kind! { plain:
    a_file_gets_its_settings
    the_database_in_memory_is_shared_and_outlives_its_connections
    two_databases_in_memory_are_two
    an_open_transaction_is_rolled_back
    an_unfinished_statement_costs_the_connection
    an_error_of_a_statement_costs_nothing
    the_init_hook_sees_every_connection
    a_failing_init_hook_is_told_at_once
    a_folder_that_is_not_there_is_told_at_once
    a_file_that_is_no_database_is_told_at_once
    writers_wait_for_each_other
    a_busy_database_is_told_after_the_busy_timeout
}

/// A folder that is deleted when dropped.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::with_prefix("pool-sqlite-").expect("the temporary folder is writable"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("test.db")
    }
}

fn builder<I: IdleSet>() -> Builder<SqliteManager, I> {
    Pool::<SqliteManager, I>::builder().max_size(1).acquire_timeout(Duration::from_secs(10))
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> T {
    connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

fn count(connection: &Connection) -> u32 {
    connection.query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn a_file_gets_its_settings<I: IdleSet>() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file());
    let connection = builder::<I>().build(manager.clone()).unwrap().get().unwrap().detach();
    assert_eq!(pragma::<String>(&connection, "journal_mode"), "wal");
    assert_eq!(pragma::<u32>(&connection, "synchronous"), 1);
    assert_eq!(pragma::<u32>(&connection, "foreign_keys"), 1);
    assert_eq!(pragma::<u32>(&connection, "busy_timeout"), 5000);

    let manager = manager.synchronous(Synchronous::Full).busy_timeout(Duration::from_millis(70));
    let connection = builder::<I>().build(manager).unwrap().get().unwrap().detach();
    assert_eq!(pragma::<u32>(&connection, "synchronous"), 2);
    assert_eq!(pragma::<u32>(&connection, "busy_timeout"), 70);
}

fn the_database_in_memory_is_shared_and_outlives_its_connections<I: IdleSet>() {
    let pool = builder::<I>().max_size(2).build(SqliteManager::memory().unwrap()).unwrap();
    let mut one = pool.get().unwrap();
    let two = pool.get().unwrap();
    one.execute_batch("CREATE TABLE t (id INTEGER); INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(count(&two), 1);
    one.mark_broken();
    drop(one);
    drop(two.detach());
    assert_eq!(count(&pool.get().unwrap()), 1);
}

fn two_databases_in_memory_are_two<I: IdleSet>() {
    let one = builder::<I>().build(SqliteManager::memory().unwrap()).unwrap();
    let two = builder::<I>().build(SqliteManager::memory().unwrap()).unwrap();
    one.get().unwrap().execute_batch("CREATE TABLE t (id INTEGER)").unwrap();
    two.get().unwrap().execute_batch("SELECT * FROM t").unwrap_err();
}

fn an_open_transaction_is_rolled_back<I: IdleSet>() {
    let folder = Folder::new();
    let pool = builder::<I>().build(SqliteManager::file(folder.file())).unwrap();
    pool.get().unwrap().execute_batch("CREATE TABLE t (id INTEGER)").unwrap();
    pool.get().unwrap().execute_batch("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let connection = pool.get().unwrap();
    assert!(connection.is_autocommit());
    assert_eq!(count(&connection), 0);
    assert_eq!(pool.counters().connects, 1, "a rollback is enough");
}

fn an_unfinished_statement_costs_the_connection<I: IdleSet>() {
    let pool = builder::<I>().build(SqliteManager::memory().unwrap()).unwrap();
    let connection = pool.get().unwrap();
    let mut statement = connection.prepare("SELECT 1 UNION SELECT 2").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap();
    std::mem::forget(rows);
    std::mem::forget(statement);
    drop(connection);
    pool.get().unwrap().execute_batch("SELECT 1").unwrap();
    assert_eq!(pool.counters().broken, 1);
}

fn an_error_of_a_statement_costs_nothing<I: IdleSet>() {
    let pool = builder::<I>().build(SqliteManager::memory().unwrap()).unwrap();
    let mut guard = pool.get().unwrap();
    guard.run(|connection| connection.execute_batch("SELECT nothing FROM nowhere")).unwrap_err();
    guard.run(|connection| connection.query_row("SELECT 1 WHERE 0", [], |_| Ok(()))).unwrap_err();
    drop(guard);
    drop(pool.get().unwrap());
    assert_eq!((pool.counters().broken, pool.counters().connects), (0, 1));
}

fn the_init_hook_sees_every_connection<I: IdleSet>() {
    let seen = Arc::new(AtomicUsize::new(0));
    let manager = SqliteManager::memory().unwrap().init({
        let seen = Arc::clone(&seen);
        move |connection| {
            seen.fetch_add(1, Ordering::Relaxed);
            connection.execute_batch("PRAGMA cache_size = -77")
        }
    });
    let pool = builder::<I>().max_size(3).min_idle(3).build(manager).unwrap();
    let guards = [pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()];
    assert!(guards.iter().all(|connection| pragma::<i32>(connection, "cache_size") == -77));
    assert_eq!(seen.load(Ordering::Relaxed), 3);
}

/// Building and acquiring fail at once, with one clear line that contains `words`.
fn refused<I: IdleSet>(manager: SqliteManager, words: &str) {
    let check = |message: String| {
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
    };
    let began = Instant::now();
    check(builder::<I>().min_idle(1).build(manager.clone()).expect_err("it cannot be opened").to_string());
    let pool = builder::<I>().build_unchecked(manager).unwrap();
    check(pool.get().expect_err("it cannot be opened").to_string());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

fn a_failing_init_hook_is_told_at_once<I: IdleSet>() {
    let manager = SqliteManager::memory().unwrap().init(|connection| connection.execute_batch("no such thing"));
    refused::<I>(manager, "syntax error");
}

fn a_folder_that_is_not_there_is_told_at_once<I: IdleSet>() {
    refused::<I>(SqliteManager::file(Path::new("/no/such/folder/test.db")), "unable to open database file");
}

fn a_file_that_is_no_database_is_told_at_once<I: IdleSet>() {
    let folder = Folder::new();
    std::fs::write(folder.file(), "certainly not a database, and long enough to tell").unwrap();
    refused::<I>(SqliteManager::file(folder.file()), "file is not a database");
}

fn writers_wait_for_each_other<I: IdleSet>() {
    let folder = Folder::new();
    for manager in [SqliteManager::file(folder.file()), SqliteManager::memory().unwrap()] {
        let manager = manager.busy_timeout(Duration::from_secs(60));
        let pool = builder::<I>().max_size(4).acquire_timeout(Duration::from_secs(60)).build(manager).unwrap();
        pool.get().unwrap().execute_batch("CREATE TABLE t (id INTEGER)").unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for id in 0..20 {
                        pool.get().unwrap().execute("INSERT INTO t VALUES (?)", [id]).unwrap();
                    }
                });
            }
        });
        assert_eq!(count(&pool.get().unwrap()), 160);
        assert!(pool.counters().connects <= 4);
    }
}

fn a_busy_database_is_told_after_the_busy_timeout<I: IdleSet>() {
    let folder = Folder::new();
    let manager = SqliteManager::file(folder.file()).busy_timeout(Duration::from_millis(50));
    let pool = builder::<I>().max_size(2).build(manager.clone()).unwrap();
    let one = pool.get().unwrap();
    one.execute_batch("CREATE TABLE t (id INTEGER); BEGIN IMMEDIATE").unwrap();
    let mut two = pool.get().unwrap();
    let error = two.run(|connection| connection.execute("INSERT INTO t VALUES (1)", [])).unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    assert!(!manager.is_fatal(&error) && manager.is_transient(&error));
    drop(one);
    two.execute("INSERT INTO t VALUES (1)", []).unwrap();
    assert_eq!(pool.counters().broken, 0);
}

/// Not through a pool, which opens its first connection alone when `min_idle` asks for it.
#[test]
fn connections_that_are_the_first_to_a_file_do_not_lock_each_other_out() {
    for _ in 0..50 {
        let folder = Folder::new();
        let manager = SqliteManager::file(folder.file());
        let start = Barrier::new(8);
        let connect = || {
            start.wait();
            manager.connect()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(connect)).collect();
            for thread in threads {
                let connection = thread.join().unwrap().unwrap();
                let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
                assert_eq!(mode, "wal");
            }
        });
    }
}

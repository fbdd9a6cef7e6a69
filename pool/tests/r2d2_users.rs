//! Managers of other people, unchanged, in our pools: of r2d2_sqlite, of diesel and of r2d2_mysql, under r2d2's names and
//! under ours.
//!
//! What needs a MySQL server finds it at `DATABASE_URL`; without it, those tests pass without doing anything, unless
//! `REQUIRE_DATABASE` is set.
#![cfg(feature = "r2d2")]

#[macro_use]
mod kinds;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ::diesel::prelude::*;
use ::diesel::r2d2::ConnectionManager;
use pool::managers::r2d2::{R2d2Manager, TextErrors};
use pool::{AcquireError, BuildError, Builder, IdleSet, Manager, Pool};
use r2d2::ManageConnection;
use r2d2_mysql::MySqlConnectionManager;
use r2d2_mysql::mysql::prelude::Queryable;
use r2d2_mysql::mysql::{self, Opts, OptsBuilder};
use r2d2_sqlite::SqliteConnectionManager;
use tempfile::TempDir;

#[allow(unreachable_pub, clippy::all, reason = "programs of somebody else's")]
mod with_r2d2 {
    use r2d2;
    include!("r2d2_compat/users.rs");
}

#[allow(unreachable_pub, clippy::all, reason = "the same programs")]
mod with_ours {
    use pool::r2d2_compat as r2d2;
    include!("r2d2_compat/users.rs");
}

over_every_kind! { plain:
    sqlite_s_manager_is_pooled
    diesels_manager_is_pooled
    mysqls_manager_is_pooled
    a_broken_connection_is_replaced_unless_nobody_asks
    errors_that_stay_on_their_thread_are_kept_as_text
    an_error_is_judged_as_told
}

/// How long something may take that will happen.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// A file for a database, removed with what SQLite puts beside it.
struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::with_prefix("pool-r2d2-").expect("the temporary folder is writable"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("test.db")
    }
}

fn database_url() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
        println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
    }
    url
}

#[test]
fn a_program_with_r2d2_sqlite_runs_unchanged() {
    let (theirs, ours) = (File::new(), File::new());
    assert_eq!(with_r2d2::sqlite(&theirs.path()), 36);
    assert_eq!(with_ours::sqlite(&ours.path()), 36);
}

#[test]
fn a_program_with_diesel_runs_unchanged() {
    let expected = [(1, "ada".to_owned()), (3, "cy".to_owned())];
    let (theirs, ours) = (File::new(), File::new());
    assert_eq!(with_r2d2::diesel(&theirs.path()), expected);
    assert_eq!(with_ours::diesel(&ours.path()), expected);
}

#[test]
fn a_program_with_r2d2_mysql_runs_unchanged() {
    let Some(url) = database_url() else { return };
    let expected = [0, 2, 4, 6, 1, 1, 1, 1];
    assert_eq!(with_r2d2::mysql(&url), expected);
    assert_eq!(with_ours::mysql(&url), expected);
}

fn options<M: Manager, I: IdleSet>() -> Builder<M, I> {
    Pool::builder().max_size(2).acquire_timeout(EVENTUALLY).fail_fast_after(None)
}

fn sqlite_s_manager_is_pooled<I: IdleSet>() {
    let file = File::new();
    let manager = R2d2Manager::new(SqliteConnectionManager::file(file.path()));
    let pool = options::<_, I>().validate_after_idle(Duration::ZERO).build(manager).unwrap();
    pool.get().unwrap().execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").unwrap();
    let n: i32 = pool.get().unwrap().query_row("SELECT n FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(n, 7);
    assert!(format!("{:?}", pool.manager()).contains("SqliteConnectionManager"));

    let nowhere = R2d2Manager::new(SqliteConnectionManager::file(file.path().join("no/such/folder")));
    let options = options::<_, I>().min_idle(1).acquire_timeout(Duration::from_millis(50));
    let error = options.build(nowhere).unwrap_err();
    let source = error.source().and_then(|error| error.source()).and_then(|error| error.downcast_ref());
    assert!(
        matches!(source, Some(r2d2_sqlite::rusqlite::Error::SqliteFailure(..))),
        "the manager's own error is there: {error:?}"
    );
}

fn diesels_manager_is_pooled<I: IdleSet>() {
    use with_ours::users;

    let file = File::new();
    let manager = R2d2Manager::new(ConnectionManager::<SqliteConnection>::new(file.path().to_str().unwrap()));
    let pool = options::<_, I>().max_size(1).validate_after_idle(Duration::ZERO).build(manager).unwrap();
    let mut connection = pool.get().unwrap();
    ::diesel::sql_query("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        .execute(&mut *connection)
        .unwrap();
    ::diesel::insert_into(users::table)
        .values((users::id.eq(1), users::name.eq("ada")))
        .execute(&mut *connection)
        .unwrap();
    // A transaction that is left open through diesel's own manager breaks the connection.
    type Transactions = <SqliteConnection as ::diesel::Connection>::TransactionManager;
    use ::diesel::connection::TransactionManager;
    Transactions::begin_transaction(&mut *connection).unwrap();
    ::diesel::delete(users::table).execute(&mut *connection).unwrap();
    drop(connection);

    let names: Vec<String> = users::table.select(users::name).load(&mut *pool.get().unwrap()).unwrap();
    assert_eq!(names, ["ada"], "what was not committed is gone with its connection");
    assert_eq!((pool.counters().connects, pool.counters().broken), (2, 1));
}

/// Kills a connection and waits until the server has done it.
fn kill(opts: &OptsBuilder, id: u32) {
    let mut outside = mysql::Conn::new(opts.clone()).unwrap();
    outside.query_drop(format!("KILL {id}")).unwrap();
    let is_there = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id}");
    let since = Instant::now();
    while outside.query_first(&is_there).unwrap() != Some(0_u32) {
        assert!(since.elapsed() < EVENTUALLY, "the server does not kill connection {id}");
    }
}

fn mysqls_manager_is_pooled<I: IdleSet>() {
    let Some(url) = database_url() else { return };
    let opts = OptsBuilder::from_opts(Opts::from_url(&url).unwrap()).prefer_socket(false);
    let manager = R2d2Manager::new(MySqlConnectionManager::new(opts.clone())).ask_has_broken(false);
    let pool = options::<_, I>().validate_after_idle(Duration::ZERO).max_size(1).build(manager).unwrap();
    let killed = pool.get().unwrap();
    let id = killed.connection_id();
    kill(&opts, id);
    drop(killed);
    let mut connection = pool.get().unwrap();
    assert_ne!(connection.connection_id(), id, "the check at checkout has found out");
    assert_eq!(connection.query_first("SELECT 1").unwrap(), Some(1));
    drop(connection);

    // An error of a statement is the holder's, a lost connection is the pool's.
    let manager = R2d2Manager::new(MySqlConnectionManager::new(opts.clone()))
        .ask_has_broken(false)
        .is_fatal(|error| !matches!(error, mysql::Error::MySqlError(_)));
    let pool = options::<_, I>().max_size(1).build(manager).unwrap();
    let mut connection = pool.get().unwrap();
    let id = connection.connection_id();
    assert!(connection.run(|connection| connection.query_drop("SELEKT")).is_err());
    drop(connection);
    let mut connection = pool.get().unwrap();
    assert_eq!(connection.connection_id(), id);
    kill(&opts, id);
    assert!(connection.run(|connection| connection.query_drop("SELECT 1")).is_err());
    drop(connection);
    assert_ne!(pool.get().unwrap().connection_id(), id);

    // A wrong password is told at once, when the manager is told that it is one.
    let wrong = MySqlConnectionManager::new(opts.pass(Some("wrong")));
    let is_transient = |error: &mysql::Error| !matches!(error, mysql::Error::MySqlError(_));
    let pool = options::<_, I>().build(R2d2Manager::new(wrong).is_transient(is_transient)).unwrap();
    let since = Instant::now();
    let error = pool.get().map(drop).unwrap_err();
    assert!(matches!(error, AcquireError::ConnectFailed { .. }), "{error}");
    assert!(since.elapsed() < EVENTUALLY, "it was not tried until the time was up");
}

/// An error that stays on its thread, with one behind it that says why.
#[derive(Debug)]
struct Local(Rc<str>, fmt::Error);

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Local {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.1)
    }
}

/// Connections are numbers; those below `sound_from` break when they are used.
#[derive(Debug, Default)]
struct Numbers {
    next: AtomicU32,
    sound_from: u32,
    refuses: bool,
}

impl ManageConnection for Numbers {
    type Connection = u32;
    type Error = Local;

    fn connect(&self) -> Result<u32, Local> {
        if self.refuses {
            return Err(Local("no".into(), fmt::Error));
        }
        Ok(self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn is_valid(&self, number: &mut u32) -> Result<(), Local> {
        if *number < self.sound_from { Err(Local("old".into(), fmt::Error)) } else { Ok(()) }
    }

    fn has_broken(&self, number: &mut u32) -> bool {
        *number < self.sound_from
    }
}

/// The next number, which goes back at once.
fn next<I: IdleSet>(pool: &Pool<R2d2Manager<TextErrors<Numbers>>, I>) -> u32 {
    *pool.get().unwrap()
}

fn a_broken_connection_is_replaced_unless_nobody_asks<I: IdleSet>() {
    let numbers = || R2d2Manager::new(TextErrors(Numbers { sound_from: 1, ..Numbers::default() }));
    let pool = options::<_, I>().max_size(1).build(numbers()).unwrap();
    assert_eq!(next(&pool), 0);
    assert_eq!(next(&pool), 1);
    let pool = options::<_, I>().max_size(1).build(numbers().ask_has_broken(false)).unwrap();
    assert_eq!(next(&pool), 0);
    assert_eq!(next(&pool), 0);
    let options = options::<_, I>().max_size(1).validate_after_idle(Duration::ZERO);
    let pool = options.build(numbers().ask_has_broken(false)).unwrap();
    assert_eq!(next(&pool), 1, "a check finds out, too");
    assert_eq!(pool.manager().get_ref().0.next.load(Ordering::SeqCst), 2);
}

fn errors_that_stay_on_their_thread_are_kept_as_text<I: IdleSet>() {
    let manager = R2d2Manager::new(TextErrors(Numbers { refuses: true, ..Numbers::default() }));
    let options = options::<_, I>().min_idle(1).acquire_timeout(Duration::from_millis(50));
    let BuildError::Connect(error) = options.build(manager).unwrap_err() else { panic!("it cannot connect") };
    let because = format!("no: {}", fmt::Error);
    assert_eq!(error.connect_error().unwrap().to_string(), because);
    assert!(error.to_string().contains(&because));
}

fn an_error_is_judged_as_told<I: IdleSet>() {
    let refusing = || R2d2Manager::new(TextErrors(Numbers { refuses: true, ..Numbers::default() }));
    let pool = options::<_, I>().build(refusing().is_transient(|error| error.0.contains("later"))).unwrap();
    let since = Instant::now();
    assert!(pool.get().is_err());
    assert!(since.elapsed() < EVENTUALLY, "`no` is told at once");
    let pool = options::<_, I>().build(refusing().is_transient(|error| error.0.contains("no"))).unwrap();
    let (short, since) = (Duration::from_millis(50), Instant::now());
    assert!(pool.get_timeout(short).is_err());
    assert!(since.elapsed() >= short, "`no` may be `yes` the next time");
}

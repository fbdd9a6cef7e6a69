//! The pool and its MySQL manager against a real server: MariaDB, or MySQL, at `DATABASE_URL`.
//!
//! Without `DATABASE_URL` every test here passes without doing anything, unless `REQUIRE_DATABASE` is set;
//! `scripts/test` starts a server and sets both. The user needs the right to create databases and to kill connections.
#![cfg(feature = "mysql")]

#[macro_use]
mod kinds;

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::{Queryable, TextQuery};
use mysql::{Conn, Opts, OptsBuilder, Row, TxOpts};
use pool::idle::IdleSet;
use pool::managers::mysql::{MysqlConnection, MysqlManager, ResetPolicy};
use pool::{AcquireError, BuildError, Builder, Pool};

/// A test with a database of its own, if there is a server to ask.
macro_rules! with_a_database {
    ($name:ident $kind:ident) => {
        #[test]
        fn $name() {
            if let Some(database) = crate::Database::new() {
                crate::$name::<pool::idle::$kind>(&database);
            }
        }
    };
}

over_every_kind! { with_a_database:
    a_killed_connection_is_replaced_at_checkout
    a_connection_past_wait_timeout_is_replaced_at_checkout
    a_late_reply_reaches_nobody_else_after_a_query
    a_late_reply_reaches_nobody_else_after_a_statement
    a_late_reply_reaches_nobody_else_after_an_iterator
    a_late_reply_reaches_nobody_else_after_a_transaction
    a_late_reply_reaches_nobody_else_after_the_bare_driver
    a_late_reply_reaches_nobody_else_after_run
    a_broken_connection_refuses_further_calls
    a_panic_in_the_middle_of_a_reply_costs_the_connection
    an_error_of_a_statement_costs_nothing
    a_statement_of_another_connection_is_refused
    an_open_transaction_is_rolled_back
    a_transaction_undoes_itself_unless_committed
    a_changed_session_is_reset_and_a_clean_one_keeps_its_statements
    the_reset_policy_is_obeyed
    another_default_database_does_not_stay
    another_user_does_not_stay
    a_wrong_password_is_told_at_once
    an_unknown_database_is_told_at_once
    an_unknown_host_is_told_within_the_timeout
    a_server_that_is_down_is_told_within_the_timeout
    a_server_that_says_nothing_is_told_within_the_timeout
    the_server_goes_away_and_comes_back
    the_server_never_sees_more_than_max_size_connections
}

/// A database of its own on the server, and a connection from outside every pool to look at it.
struct Database {
    opts: Opts,
    name: String,
    outside: Mutex<Conn>,
}

impl Database {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
            assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
            println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
            return None;
        };
        let opts = Opts::from_url(&url).expect("DATABASE_URL is a MySQL URL");
        let opts = Opts::from(OptsBuilder::from_opts(opts).prefer_socket(false));
        let mut outside = Conn::new(opts.clone()).expect("DATABASE_URL names a server that runs");
        let name = format!("pool_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        outside.query_drop(format!("CREATE DATABASE {name}")).expect("the user may create databases");
        outside.query_drop(format!("CREATE TABLE {name}.t (id INT)")).unwrap();
        let opts = OptsBuilder::from_opts(opts).db_name(Some(&name)).into();
        Some(Self { opts, name, outside: Mutex::new(outside) })
    }

    fn builder(&self) -> OptsBuilder {
        OptsBuilder::from_opts(self.opts.clone())
    }

    fn outside<T>(&self, look: impl FnOnce(&mut Conn) -> mysql::Result<T>) -> T {
        look(&mut self.outside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())).unwrap()
    }

    /// The connections to this database that the server knows.
    fn connections(&self) -> Vec<u32> {
        let query = format!("SELECT id FROM information_schema.processlist WHERE db = '{}'", self.name);
        self.outside(|conn| conn.query(query))
    }

    fn rows(&self) -> u32 {
        self.outside(|conn| conn.query_first(format!("SELECT COUNT(*) FROM {}.t", self.name))).unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {}", self.name);
        let _ = self.outside.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).query_drop(drop);
    }
}

/// Waits until it is so, at most ten seconds.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn builder<I: IdleSet>() -> Builder<MysqlManager, I> {
    Pool::<MysqlManager, I>::builder().max_size(1).acquire_timeout(Duration::from_secs(10))
}

fn pool<I: IdleSet>(opts: impl Into<Opts>) -> Pool<MysqlManager, I> {
    builder().build(MysqlManager::new(opts)).unwrap()
}

fn a_killed_connection_is_replaced_at_checkout<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let killed = pool.get().unwrap().connection_id();
    database.outside(|conn| conn.query_drop(format!("KILL {killed}")));
    until("the server has let go", || !database.connections().contains(&killed));

    let mut connection = pool.get().unwrap();
    assert_ne!(connection.connection_id(), killed);
    assert_eq!(connection.query_first::<u32, _>("SELECT 1").unwrap(), Some(1));
    assert_eq!(pool.counters().broken, 1);
}

fn a_connection_past_wait_timeout_is_replaced_at_checkout<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.builder().init(vec!["SET SESSION wait_timeout = 1"]));
    let old = pool.get().unwrap().connection_id();
    until("the server hangs up", || !database.connections().contains(&old));

    let mut connection = pool.get().unwrap();
    assert_ne!(connection.connection_id(), old);
    assert_eq!(connection.query_first::<u32, _>("SELECT 1").unwrap(), Some(1));
}

/// Longer than a healthy reply takes on a busy machine, shorter than what A asks for.
const READ_TIMEOUT: Duration = Duration::from_millis(400);
const OF_A: &str = "SELECT SLEEP(0.8), 'of A'";

/// A asks something that takes longer than the read timeout, ignores the error and returns the connection. Then B asks.
fn late_reply<I: IdleSet>(database: &Database, a: impl FnOnce(&Pool<MysqlManager, I>)) {
    // No reset, which would often find out, too.
    let manager = MysqlManager::new(database.builder().read_timeout(Some(READ_TIMEOUT)));
    let pool = builder::<I>().build(manager.reset_policy(ResetPolicy::Never)).unwrap();
    let id_of_a = pool.get().unwrap().connection_id();
    a(&pool);

    // Several, since the reply may arrive at any of them.
    let deadline = Instant::now() + 3 * READ_TIMEOUT;
    while Instant::now() < deadline {
        let mut b = pool.get().unwrap();
        assert_ne!(b.connection_id(), id_of_a);
        assert_eq!(b.query_first::<(u32, String), _>("SELECT 1, 'of B'").unwrap(), Some((1, "of B".into())));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pool.counters().broken, 1);
}

#[test]
fn the_driver_alone_gives_the_late_reply_to_the_next_query() {
    // What the tests below are about. Should this one fail some day, the driver has learnt to see to it.
    let Some(database) = Database::new() else { return };
    let mut conn = Conn::new(database.builder().read_timeout(Some(READ_TIMEOUT))).unwrap();
    conn.query_drop(OF_A).unwrap_err();
    thread::sleep(2 * READ_TIMEOUT);
    assert_eq!(conn.query_first::<(u32, String), _>("SELECT 1, 'of B'").unwrap(), Some((0, "of A".into())));
}

fn a_late_reply_reaches_nobody_else_after_a_query<I: IdleSet>(database: &Database) {
    late_reply::<I>(database, |pool| {
        let _ = pool.get().unwrap().query_first::<Row, _>(OF_A);
    });
    late_reply::<I>(database, |pool| {
        let _ = pool.get().unwrap().query_drop(OF_A);
    });
}

fn a_late_reply_reaches_nobody_else_after_a_statement<I: IdleSet>(database: &Database) {
    late_reply::<I>(database, |pool| {
        let _ = pool.get().unwrap().exec_first::<Row, _, _>("SELECT SLEEP(?), 'of A'", (0.8,));
    });
    late_reply::<I>(database, |pool| {
        let _ = pool.get().unwrap().exec_batch("INSERT INTO t VALUES (SLEEP(?))", [(0.8,)]);
    });
}

fn a_late_reply_reaches_nobody_else_after_an_iterator<I: IdleSet>(database: &Database) {
    // The first row fills the server's buffer and comes at once, the second one comes late.
    let slow = "SELECT REPEAT('x', 100000) UNION ALL SELECT SLEEP(0.8)";
    late_reply::<I>(database, |pool| {
        let mut a = pool.get().unwrap();
        for row in a.query_iter(slow).unwrap() {
            drop(row);
        }
    });
    late_reply::<I>(database, |pool| {
        // Nobody reads; dropping it does, and swallows the error.
        drop(pool.get().unwrap().query_iter(slow).unwrap());
    });
    late_reply::<I>(database, |pool| {
        let first: Option<Vec<u8>> = pool.get().unwrap().query_first(slow).unwrap();
        assert_eq!(first.map(|text| text.len()), Some(100_000));
    });
}

fn a_late_reply_reaches_nobody_else_after_a_transaction<I: IdleSet>(database: &Database) {
    late_reply::<I>(database, |pool| {
        let mut a = pool.get().unwrap();
        let mut transaction = a.start_transaction(TxOpts::default()).unwrap();
        let _ = transaction.query_drop(OF_A);
        assert!(transaction.commit().is_err(), "nobody knows what it would commit");
    });
    late_reply::<I>(database, |pool| {
        let mut a = pool.get().unwrap();
        let _ = a.start_transaction(TxOpts::default()).unwrap().exec_drop("SELECT SLEEP(?)", (0.8,));
    });
}

fn a_late_reply_reaches_nobody_else_after_the_bare_driver<I: IdleSet>(database: &Database) {
    late_reply::<I>(database, |pool| {
        let mut a = pool.get().unwrap();
        let conn: &mut Conn = &mut a;
        let _ = conn.query_drop(OF_A);
    });
    late_reply::<I>(database, |pool| {
        let mut a = pool.get().unwrap();
        let _ = TextQuery::run(OF_A, &mut **a);
    });
}

fn a_late_reply_reaches_nobody_else_after_run<I: IdleSet>(database: &Database) {
    late_reply::<I>(database, |pool| {
        let _ = pool.get().unwrap().run(|connection| {
            let conn: &mut Conn = connection;
            conn.query_drop(OF_A)
        });
    });
}

fn a_broken_connection_refuses_further_calls<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.builder().read_timeout(Some(READ_TIMEOUT)));
    let mut connection = pool.get().unwrap();
    connection.query_drop(OF_A).unwrap_err();
    assert!(connection.is_broken());
    thread::sleep(2 * READ_TIMEOUT);
    let error = connection.query_first::<Row, _>("SELECT 'its own next question'").unwrap_err();
    assert!(error.to_string().contains("an earlier error broke this connection"), "{error}");
    assert!(connection.ping().is_err());
}

fn a_panic_in_the_middle_of_a_reply_costs_the_connection<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let mut connection = pool.get().unwrap();
    let id = connection.connection_id();
    let panicked = catch_unwind(AssertUnwindSafe(|| connection.query_map("SELECT 1", |_: u32| panic!("on purpose"))));
    assert!(panicked.is_err());
    drop(connection);
    assert_ne!(pool.get().unwrap().connection_id(), id);
}

fn an_error_of_a_statement_costs_nothing<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let mut connection = pool.get().unwrap();
    let id = connection.connection_id();
    connection.query_drop("SELECT nothing FROM nowhere").unwrap_err();
    connection.exec_drop("SELECT ?", (1, 2)).unwrap_err();
    assert!(!connection.is_broken());
    drop(connection);
    assert_eq!(pool.get().unwrap().connection_id(), id);
}

fn a_statement_of_another_connection_is_refused<I: IdleSet>(database: &Database) {
    let pool = builder::<I>().max_size(2).build(MysqlManager::new(database.opts.clone())).unwrap();
    let (mut one, mut two) = (pool.get().unwrap(), pool.get().unwrap());
    let of_one = one.prep("SELECT 'of one'").unwrap();
    let _of_two = two.prep("SELECT 'of two'").unwrap();
    assert_eq!(one.exec_first::<String, _, _>(&of_one, ()).unwrap().as_deref(), Some("of one"));
    let in_transaction = {
        let mut transaction = two.start_transaction(TxOpts::default()).unwrap();
        transaction.exec_drop(&of_one, ())
    };
    for refused in [
        in_transaction,
        two.exec_drop(&of_one, ()),
        two.exec_iter(&of_one, ()).map(drop),
        two.exec_batch(&of_one, [()]),
        two.close(of_one.clone()),
    ] {
        assert!(refused.unwrap_err().to_string().contains("prepared on another connection"));
    }
    assert!(!two.is_broken());
}

fn an_open_transaction_is_rolled_back<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let leave_open: [fn(&mut MysqlConnection); 3] = [
        |connection| connection.query_drop("START TRANSACTION").unwrap(),
        |connection| std::mem::forget(connection.start_transaction(TxOpts::default()).unwrap()),
        |connection| connection.query_drop("SET autocommit = 0").unwrap(),
    ];
    for leave_open in leave_open {
        let mut connection = pool.get().unwrap();
        let id = connection.connection_id();
        leave_open(&mut connection);
        connection.query_drop("INSERT INTO t VALUES (1)").unwrap();
        drop(connection);

        let mut connection = pool.get().unwrap();
        assert_eq!(connection.connection_id(), id, "a reset is enough");
        assert_eq!(connection.query_first::<u32, _>("SELECT COUNT(*) FROM t").unwrap(), Some(0));
        assert_eq!(connection.query_first::<u32, _>("SELECT @@autocommit").unwrap(), Some(1));
    }
    assert_eq!(database.rows(), 0);
}

fn a_transaction_undoes_itself_unless_committed<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let mut connection = pool.get().unwrap();
    for (finish, rows) in [("drop", 0), ("rollback", 0), ("commit", 1)] {
        let mut transaction = connection.start_transaction(TxOpts::default()).unwrap();
        transaction.exec_drop("INSERT INTO t VALUES (?)", (1,)).unwrap();
        assert_eq!(transaction.affected_rows(), 1);
        match finish {
            "commit" => transaction.commit().unwrap(),
            "rollback" => transaction.rollback().unwrap(),
            _ => drop(transaction),
        }
        assert_eq!(database.rows(), rows, "{finish}");
    }
}

/// How many statements this session has prepared.
fn prepared(connection: &mut impl Queryable) -> u32 {
    let status: Option<(String, u32)> = connection.query_first("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'").unwrap();
    status.unwrap().1
}

fn a_changed_session_is_reset_and_a_clean_one_keeps_its_statements<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let id = pool.get().unwrap().connection_id();
    let before = prepared(&mut *pool.get().unwrap());
    for _ in 0..3 {
        pool.get().unwrap().exec_drop("SELECT ?", (1,)).unwrap();
    }
    assert_eq!(prepared(&mut *pool.get().unwrap()) - before, 1, "prepared once, used three times");

    pool.get().unwrap().query_drop("SET SESSION sql_mode = 'ANSI', @mine = 1").unwrap();
    let mut connection = pool.get().unwrap();
    assert_eq!(connection.connection_id(), id);
    let (mode, mine): (String, Option<u32>) = connection.query_first("SELECT @@sql_mode, @mine").unwrap().unwrap();
    assert!(!mode.contains("ANSI"), "{mode}");
    assert_eq!(mine, None);
}

/// What is left of a session's variable after a loan that set it.
fn left_after<I: IdleSet>(database: &Database, policy: ResetPolicy, set: fn(&mut MysqlConnection)) -> Option<u32> {
    let manager = MysqlManager::new(database.opts.clone()).reset_policy(policy);
    let pool = builder::<I>().build(manager).unwrap();
    set(&mut pool.get().unwrap());
    pool.get().unwrap().query_first("SELECT @left").unwrap().unwrap()
}

fn the_reset_policy_is_obeyed<I: IdleSet>(database: &Database) {
    let seen: fn(&mut MysqlConnection) = |connection| connection.query_drop("SET @left = 7").unwrap();
    let bare: fn(&mut MysqlConnection) = |connection| (**connection).query_drop("SET @left = 7").unwrap();
    let hidden: fn(&mut MysqlConnection) = |connection| connection.query_drop("SELECT @left := 7").unwrap();
    for (policy, after_seen, after_bare, after_hidden) in [
        (ResetPolicy::Never, Some(7), Some(7), Some(7)),
        (ResetPolicy::WhenDirty, None, Some(7), Some(7)),
        (ResetPolicy::WhenUnsure, None, None, Some(7)),
        (ResetPolicy::Always, None, None, None),
    ] {
        assert_eq!(left_after::<I>(database, policy, seen), after_seen, "{policy:?}");
        assert_eq!(left_after::<I>(database, policy, bare), after_bare, "{policy:?}");
        assert_eq!(left_after::<I>(database, policy, hidden), after_hidden, "{policy:?}");
    }
}

fn another_default_database_does_not_stay<I: IdleSet>(database: &Database) {
    let current = |pool: &Pool<MysqlManager, I>| -> Option<String> {
        pool.get().unwrap().query_first("SELECT DATABASE()").unwrap().unwrap()
    };
    let named = pool::<I>(database.opts.clone());
    let id = named.get().unwrap().connection_id();
    named.get().unwrap().query_drop("USE information_schema").unwrap();
    assert_eq!(current(&named).as_deref(), Some(&*database.name));
    named.get().unwrap().select_db("information_schema").unwrap();
    assert_eq!(current(&named).as_deref(), Some(&*database.name));
    assert_eq!(named.get().unwrap().connection_id(), id);

    let nameless = pool::<I>(database.builder().db_name(None::<String>).init(vec!["SET @init = 5"]));
    nameless.get().unwrap().query_drop("USE information_schema").unwrap();
    assert_eq!(current(&nameless), None);
    assert_eq!(nameless.get().unwrap().query_first::<u32, _>("SELECT @init").unwrap(), Some(5));
}

fn another_user_does_not_stay<I: IdleSet>(database: &Database) {
    let pool = pool::<I>(database.opts.clone());
    let mut connection = pool.get().unwrap();
    let id = connection.connection_id();
    connection.change_user(Default::default()).unwrap();
    drop(connection);
    assert_ne!(pool.get().unwrap().connection_id(), id);
}

/// Acquires fail with one clear line that contains `words`, in at most `limit`, from a pool and from its builder.
fn refused<I: IdleSet>(opts: impl Into<Opts>, words: &str, timeout: Duration, limit: Duration) {
    let opts = opts.into();
    let check = |what: &str, began: Instant, error: &dyn Error| {
        let message = error.to_string();
        assert!(message.contains(words) && !message.contains('\n'), "{what}: {message}");
        assert!(began.elapsed() < limit, "{what}: {:?}", began.elapsed());
    };
    let pool = builder::<I>().build_unchecked(MysqlManager::new(opts.clone())).unwrap();
    let began = Instant::now();
    let error = pool.get_timeout(timeout).expect_err("the server cannot be had");
    check("get", began, &error);
    assert!(matches!(error, AcquireError::ConnectFailed { .. } | AcquireError::TimedOut { .. }), "{error:?}");

    let began = Instant::now();
    let built = builder::<I>().min_idle(1).acquire_timeout(timeout).build(MysqlManager::new(opts));
    let error = built.expect_err("the server cannot be had");
    check("build", began, &error);
    assert!(matches!(error, BuildError::Connect(_)), "{error:?}");
}

fn a_wrong_password_is_told_at_once<I: IdleSet>(database: &Database) {
    let opts = database.builder().pass(Some("certainly not"));
    refused::<I>(opts, "Access denied", Duration::from_secs(30), Duration::from_secs(5));
}

fn an_unknown_database_is_told_at_once<I: IdleSet>(database: &Database) {
    let opts = database.builder().db_name(Some("no_such_database"));
    refused::<I>(opts, "Unknown database", Duration::from_secs(30), Duration::from_secs(5));
}

fn an_unknown_host_is_told_within_the_timeout<I: IdleSet>(database: &Database) {
    let opts = database.builder().ip_or_hostname(Some("no-such-host.invalid"));
    refused::<I>(opts, "no", Duration::from_millis(500), Duration::from_secs(3));
}

fn a_server_that_is_down_is_told_within_the_timeout<I: IdleSet>(database: &Database) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let opts = database.builder().ip_or_hostname(Some("127.0.0.1")).tcp_port(port);
    refused::<I>(opts, "refused", Duration::from_millis(300), Duration::from_secs(3));
}

fn a_server_that_says_nothing_is_told_within_the_timeout<I: IdleSet>(database: &Database) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let opts = database.builder().ip_or_hostname(Some("127.0.0.1")).tcp_port(port).read_timeout(Some(READ_TIMEOUT));
    refused::<I>(opts, "no connection was ready", READ_TIMEOUT / 2, Duration::from_secs(3));
}

fn the_server_goes_away_and_comes_back<I: IdleSet>(database: &Database) {
    let mut proxy = Proxy::start(&database.opts, "127.0.0.1:0");
    let address = proxy.address;
    let opts = database.builder().ip_or_hostname(Some("127.0.0.1")).tcp_port(address.port());
    let pool = builder::<I>().max_size(3).min_idle(3).build(MysqlManager::new(opts)).unwrap();

    proxy.stop();
    let error = pool.get_timeout(Duration::from_millis(300)).expect_err("nobody is there");
    assert!(error.to_string().contains("refused"), "{error}");

    let proxy = thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.get().unwrap().query_first::<u32, _>("SELECT 1").unwrap());
        until("somebody waits", || pool.state().waiters > 0);
        let proxy = Proxy::start(&database.opts, address);
        assert_eq!(waiter.join().unwrap(), Some(1), "served as soon as the server is back");
        proxy
    });
    until("all connections are back", || pool.state().idle == 3);
    drop(proxy);
}

fn the_server_never_sees_more_than_max_size_connections<I: IdleSet>(database: &Database) {
    const MAX_SIZE: usize = 4;
    let pool = builder::<I>().max_size(MAX_SIZE).build(MysqlManager::new(database.opts.clone())).unwrap();
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut seen = HashSet::new();
            while !done.load(Ordering::Relaxed) {
                let now = database.connections();
                assert!(now.len() <= MAX_SIZE, "{now:?}");
                seen.extend(now);
            }
            seen
        });
        let workers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..50 {
                        let mut connection = pool.get().unwrap();
                        connection.exec_drop("INSERT INTO t VALUES (?)", (round,)).unwrap();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        observer.join().unwrap()
    });
    assert!((1..=MAX_SIZE).contains(&seen.len()), "{seen:?}");
    assert_eq!(database.rows(), 16 * 50);
}

/// Stands between a pool and the server, and can go away.
struct Proxy {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    links: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    fn start(server: &Opts, address: impl std::net::ToSocketAddrs) -> Self {
        let server = (server.get_ip_or_hostname().into_owned(), server.get_tcp_port());
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let links = Arc::new(Mutex::new(Vec::new()));
        let acceptor = thread::spawn({
            let (stopped, links) = (Arc::clone(&stopped), Arc::clone(&links));
            move || {
                for client in listener.incoming().flatten() {
                    if stopped.load(Ordering::Acquire) {
                        return;
                    }
                    let server = TcpStream::connect((server.0.as_str(), server.1)).unwrap();
                    let mut links = links.lock().unwrap();
                    for (from, to) in [(&client, &server), (&server, &client)] {
                        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        thread::spawn(move || {
                            let _ = io::copy(&mut from, &mut to);
                            let _ = to.shutdown(Shutdown::Both);
                        });
                    }
                    links.extend([client, server]);
                }
            }
        });
        Self { address, stopped, links, acceptor: Some(acceptor) }
    }

    fn stop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let Some(acceptor) = self.acceptor.take() else { return };
        let _ = TcpStream::connect(self.address);
        acceptor.join().unwrap();
        for link in self.links.lock().unwrap().drain(..) {
            let _ = link.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

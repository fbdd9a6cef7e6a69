//! Every pool that is built in does what the server asks of a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_server::db::{ConnectionPool, Options};
use pool::managers::sqlite::SqliteManager;

/// Makes of each generic function below one test for every pool that is built in.
macro_rules! over_every_pool {
    ($($name:ident)*) => {
        over_every_pool! { @pool "pool-lockfree" lock_free $($name)* }
        over_every_pool! { @pool "pool-mutex" mutex $($name)* }
        over_every_pool! { @pool "pool-slots" slots $($name)* }
        over_every_pool! { @pool "pool-r2d2" r2d2 $($name)* }
        over_every_pool! { @pool "pool-none" none $($name)* }
    };
    (@pool $feature:literal $module:ident $($name:ident)*) => {
        #[cfg(feature = $feature)]
        mod $module {
            $(
                #[test]
                fn $name() {
                    super::$name::<chat_server::db::$module::Pool<pool::managers::sqlite::SqliteManager>>();
                }
            )*
        }
    };
}

over_every_pool! {
    it_lends_connections_to_many_threads
    a_loan_may_travel_to_another_thread
    a_database_that_cannot_be_had_is_told_when_the_pool_is_opened
    an_open_transaction_reaches_nobody_else
}

fn options() -> Options {
    Options { min_idle: 1, max_size: 3, acquire_timeout: Duration::from_secs(5), idle_timeout: Duration::from_secs(60) }
}

fn open<P: ConnectionPool<SqliteManager>>() -> P {
    let pool = P::open(SqliteManager::memory().unwrap(), &options()).unwrap();
    pool.acquire().unwrap().execute_batch("CREATE TABLE t (id INTEGER)").unwrap();
    pool
}

fn count<P: ConnectionPool<SqliteManager>>(pool: &P) -> u32 {
    pool.acquire().unwrap().query_row("SELECT COUNT(*) FROM t", [], |row| row.get(0)).unwrap()
}

fn it_lends_connections_to_many_threads<P: ConnectionPool<SqliteManager>>() {
    let pool = open::<P>();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for id in 0..10 {
                    let loan = pool.acquire().unwrap();
                    most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    loan.execute("INSERT INTO t VALUES (?)", [id]).unwrap();
                    now.fetch_sub(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(count(&pool), 80);
    if P::NAME != "none" {
        assert!(most.into_inner() <= options().max_size);
    }
}

fn a_loan_may_travel_to_another_thread<P: ConnectionPool<SqliteManager>>() {
    let pool = Arc::new(open::<P>());
    let loan = pool.acquire().unwrap();
    thread::spawn(move || loan.execute_batch("INSERT INTO t VALUES (1)").unwrap()).join().unwrap();
    assert_eq!(count(&*pool), 1);
}

fn a_database_that_cannot_be_had_is_told_when_the_pool_is_opened<P: ConnectionPool<SqliteManager>>() {
    let began = Instant::now();
    let opened = P::open(SqliteManager::file("/no/such/folder/chat.db"), &options());
    let message = opened.err().expect("it cannot be opened").to_string();
    assert!(message.starts_with("could not open the pool: "), "{message}");
    assert!(message.contains("unable to open database file") && !message.contains('\n'), "{message}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn an_open_transaction_reaches_nobody_else<P: ConnectionPool<SqliteManager>>() {
    let pool = open::<P>();
    pool.acquire().unwrap().execute_batch("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    for _ in 0..3 {
        assert!(pool.acquire().unwrap().is_autocommit());
    }
    assert_eq!(count(&pool), 0);
}

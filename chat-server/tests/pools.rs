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
    it_lends_connections_to_many_tasks
    a_task_that_waits_in_vain_is_told
    what_is_marked_broken_is_not_lent_again
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn it_lends_connections_to_many_tasks<P: ConnectionPool<SqliteManager>>() {
    let pool = open::<P>();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    runtime().block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for id in 0..40 {
            let (pool, now, most) = (pool.clone(), Arc::clone(&now), Arc::clone(&most));
            tasks.spawn(async move {
                let loan = pool.acquire_async().await.unwrap();
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let work = tokio::task::spawn_blocking(move || {
                    loan.execute("INSERT INTO t VALUES (?)", [id]).unwrap();
                    now.fetch_sub(1, Ordering::Relaxed);
                });
                work.await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
    assert_eq!(count(&pool), 40);
    assert!(most.load(Ordering::Relaxed) <= options().max_size, "tasks are held back by every pool");
}

fn a_task_that_waits_in_vain_is_told<P: ConnectionPool<SqliteManager>>() {
    let options = Options { acquire_timeout: Duration::from_millis(50), max_size: 1, ..options() };
    let pool = P::open(SqliteManager::memory().unwrap(), &options).unwrap();
    runtime().block_on(async {
        let loan = pool.acquire_async().await.unwrap();
        assert_eq!(pool.counts().size, 1);
        let told = pool.acquire_async().await.err().expect("the only one is lent").to_string();
        assert!(told.starts_with("could not get a connection: ") && !told.contains('\n'), "{told}");
        drop(loan);
        pool.acquire_async().await.unwrap();
    });
}

fn what_is_marked_broken_is_not_lent_again<P: ConnectionPool<SqliteManager>>() {
    let pool = P::open(SqliteManager::memory().unwrap(), &Options { max_size: 1, ..options() }).unwrap();
    let name =
        |loan: &P::Loan| loan.query_row("SELECT COUNT(*) FROM temp.sqlite_master", [], |row| row.get::<_, u32>(0));
    let mut loan = pool.acquire().unwrap();
    loan.execute_batch("CREATE TEMPORARY TABLE mark (id INTEGER)").unwrap();
    assert_eq!(name(&loan), Ok(1));
    P::mark_broken(&mut loan);
    drop(loan);
    assert_eq!(name(&pool.acquire().unwrap()), Ok(0), "it is another connection");
}

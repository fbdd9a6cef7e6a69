//! A real async driver in every kind of pool: mysql_async, against MariaDB or MySQL at `DATABASE_URL`.
//!
//! Without `DATABASE_URL` every test here passes without doing anything, unless `REQUIRE_DATABASE` is set;
//! `scripts/test` starts a server and sets both. The user needs the right to kill connections.
#![cfg(feature = "tokio")]

#[macro_use]
mod kinds;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder};
use pool::managers::asynchronous::{AsyncError, AsyncManager, OnRuntime};
use pool::{AcquireError, Builder, ConnectError, IdleSet, Pool};
use r2d2_mysql::mysql;
use r2d2_mysql::mysql::prelude::Queryable as _;
use tokio::runtime::{self, Runtime};

/// A test on each flavour of runtime, if there is a server to ask.
macro_rules! with_a_database {
    ($name:ident $kind:ident) => {
        mod $name {
            #[test]
            fn current_thread() {
                if let Some(url) = crate::database_url() {
                    let mut builder = tokio::runtime::Builder::new_current_thread();
                    crate::$name::<pool::idle::$kind>(&url, crate::runtime(&mut builder));
                }
            }

            #[test]
            fn multi_thread() {
                if let Some(url) = crate::database_url() {
                    let mut builder = tokio::runtime::Builder::new_multi_thread();
                    crate::$name::<pool::idle::$kind>(&url, crate::runtime(&mut builder));
                }
            }
        }
    };
}

over_every_kind! { with_a_database:
    tasks_take_turns
    what_a_holder_changed_is_reset
    a_killed_connection_is_replaced_at_checkout
    a_query_that_was_given_up_costs_its_connection
    a_closed_pool_has_said_goodbye
    a_wrong_password_is_told_at_once
    a_server_that_says_nothing_is_told_within_the_timeout
    a_runtime_may_end_before_its_pool
}

/// How long something may take that will happen.
const EVENTUALLY: Duration = Duration::from_secs(20);

fn database_url() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
        println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
    }
    url
}

fn runtime(builder: &mut runtime::Builder) -> Runtime {
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// All that a pool needs to know of mysql_async.
struct Mysql(Opts);

impl AsyncManager for Mysql {
    type Connection = Conn;
    type Error = Error;

    async fn connect(&self) -> Result<Conn, Error> {
        Conn::new(self.0.clone()).await
    }

    async fn is_valid(&self, conn: &mut Conn) -> Result<(), Error> {
        conn.ping().await
    }

    fn is_dirty(&self, _: &mut Conn) -> bool {
        true
    }

    async fn reset(&self, conn: &mut Conn) -> Result<(), Error> {
        conn.reset().await.map(drop)
    }

    async fn close(&self, conn: Conn) {
        // What it says if it fails, the server says in its log.
        let _ = conn.disconnect().await;
    }

    fn is_transient(&self, error: &Error) -> bool {
        !matches!(error, Error::Server(_))
    }
}

type MysqlPool<I> = Pool<OnRuntime<Mysql>, I>;

fn options<I: IdleSet>() -> Builder<OnRuntime<Mysql>, I> {
    Pool::builder().max_size(1).acquire_timeout(EVENTUALLY).fail_fast_after(None)
}

fn pool_of<I: IdleSet>(max_size: usize, url: &str, runtime: &Runtime) -> MysqlPool<I> {
    let manager = OnRuntime::new(Mysql(Opts::from_url(url).unwrap()), runtime.handle().clone());
    options().max_size(max_size).validate_after_idle(Duration::ZERO).build(manager).unwrap()
}

/// Waits until the server has none of these connections any more, asked through the blocking driver.
fn gone_from_the_server(url: &str, ids: &[u32]) {
    let mut outside = mysql::Conn::new(mysql::Opts::from_url(url).unwrap()).unwrap();
    let since = Instant::now();
    loop {
        let there: Vec<u32> = outside.query("SELECT id FROM information_schema.processlist").unwrap();
        if !ids.iter().any(|id| there.contains(id)) {
            return;
        }
        assert!(since.elapsed() < EVENTUALLY, "the server still has one of {ids:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn tasks_take_turns<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(2, url, &runtime);
    runtime.block_on(async {
        let tasks = (0..20_u32).map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut connection = pool.get_owned_async().await.unwrap();
                let doubled: Option<u32> =
                    connection.work(async |conn| conn.exec_first("SELECT ? * 2", (number,)).await).await.unwrap();
                assert_eq!(doubled, Some(number * 2));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    let counters = pool.counters();
    assert_eq!((counters.checkouts, counters.connect_failures, counters.broken), (20, 0, 0));
    assert!(counters.connects <= 2);
}

fn what_a_holder_changed_is_reset<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(1, url, &runtime);
    runtime.block_on(async {
        let mut connection = pool.get_async().await.unwrap();
        let id = connection.id();
        connection.query_drop("SET @secret = 7").await.unwrap();
        drop(connection);
        let mut connection = pool.get_async().await.unwrap();
        let seen: Option<Option<u32>> = connection.query_first("SELECT @secret").await.unwrap();
        assert_eq!((connection.id(), seen), (id, Some(None)));
    });
}

fn a_killed_connection_is_replaced_at_checkout<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(1, url, &runtime);
    let id = runtime.block_on(async { pool.get_async().await.unwrap().id() });
    mysql::Conn::new(mysql::Opts::from_url(url).unwrap()).unwrap().query_drop(format!("KILL {id}")).unwrap();
    gone_from_the_server(url, &[id]);
    runtime.block_on(async {
        let mut connection = pool.get_async().await.unwrap();
        assert_ne!(connection.id(), id);
        assert_eq!(connection.query_first("SELECT 1").await.unwrap(), Some(1));
    });
}

fn a_query_that_was_given_up_costs_its_connection<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(1, url, &runtime);
    runtime.block_on(async {
        let mut connection = pool.get_async().await.unwrap();
        let id = connection.id();
        {
            let query = connection.work(async |conn| conn.query_drop("SELECT SLEEP(0.05), 'secret of A'").await);
            let mut query = pin!(query);
            let began = query.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(began.is_pending());
        }
        drop(connection);
        let mut connection = pool.get_async().await.unwrap();
        assert_ne!(connection.id(), id);
        let row: Option<String> = connection.query_first("SELECT 'row of B'").await.unwrap();
        assert_eq!(row.as_deref(), Some("row of B"));
    });
}

fn a_closed_pool_has_said_goodbye<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(2, url, &runtime);
    let ids = runtime.block_on(async {
        let both = (pool.get_async().await.unwrap(), pool.get_async().await.unwrap());
        [both.0.id(), both.1.id()]
    });
    let closing = {
        let pool = pool.clone();
        thread::spawn(move || pool.close(EVENTUALLY))
    };
    runtime.block_on(async {
        while !closing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    closing.join().unwrap().unwrap();
    gone_from_the_server(url, &ids);
}

fn a_wrong_password_is_told_at_once<I: IdleSet>(url: &str, runtime: Runtime) {
    let opts = OptsBuilder::from_opts(Opts::from_url(url).unwrap()).pass(Some("wrong"));
    let manager = OnRuntime::new(Mysql(opts.into()), runtime.handle().clone());
    let pool: MysqlPool<I> = options().build(manager).unwrap();
    let error = runtime.block_on(async { pool.get_async().await.map(drop).unwrap_err() });
    let AcquireError::ConnectFailed { waited, source, .. } = &error else { panic!("{error}") };
    assert!(*waited < EVENTUALLY);
    assert!(matches!(**source, ConnectError::Failed(AsyncError::Failed(Error::Server(_)))), "{source:?}");
}

fn a_server_that_says_nothing_is_told_within_the_timeout<I: IdleSet>(_: &str, runtime: Runtime) {
    // Connections are accepted, into the backlog, and that is all.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let opts = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(silent.local_addr().unwrap().port())
        .prefer_socket(Some(false));
    let limit = Duration::from_millis(30);
    let manager = OnRuntime::new(Mysql(opts.into()), runtime.handle().clone()).connect_timeout(limit);
    let pool: MysqlPool<I> = options().build(manager).unwrap();
    let error = runtime.block_on(async {
        loop {
            let error = pool.get_async_timeout(limit * 2).await.map(drop).unwrap_err();
            if let AcquireError::ConnectFailed { source, .. } = error {
                return source.to_string();
            }
        }
    });
    assert_eq!(error, format!("connect was not done after {limit:?}"));
}

fn a_runtime_may_end_before_its_pool<I: IdleSet>(url: &str, runtime: Runtime) {
    let pool = pool_of::<I>(2, url, &runtime);
    let (ids, lent) = runtime.block_on(async {
        let both = (pool.get_owned_async().await.unwrap(), pool.get_owned_async().await.unwrap());
        ([both.0.id(), both.1.id()], both.0)
    });
    drop(runtime);
    // One is to be reset and the other to be validated, on a runtime that is gone; and none can be opened in their place.
    drop(lent);
    let since = Instant::now();
    let error = pool.get().map(drop).unwrap_err();
    assert!(error.to_string().contains("the runtime is gone"), "{error}");
    assert!(since.elapsed() < EVENTUALLY, "it was told at once");
    pool.close(EVENTUALLY).unwrap();
    // Nobody was left to say goodbye, but the sockets are closed.
    gone_from_the_server(url, &ids);
}

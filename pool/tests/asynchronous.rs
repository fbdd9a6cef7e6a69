//! Connections that are opened with `async fn`, in every kind of pool and on both kinds of runtime.
#![cfg(feature = "tokio")]

#[macro_use]
mod kinds;

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::mem;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pool::managers::asynchronous::{AsyncError, AsyncManager, Call, OnRuntime};
use pool::{AcquireError, Builder, ConnectError, IdleSet, Pool};
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::oneshot;

/// A test on each flavour of runtime.
macro_rules! on_each_flavour {
    ($name:ident $kind:ident) => {
        mod $name {
            #[test]
            fn current_thread() {
                crate::$name::<pool::idle::$kind>(crate::Flavour::CurrentThread);
            }

            #[test]
            fn multi_thread() {
                crate::$name::<pool::idle::$kind>(crate::Flavour::MultiThread);
            }
        }
    };
}

over_every_kind! { on_each_flavour:
    connections_are_lent_to_threads_and_to_tasks
    on_the_runtimes_own_thread_it_is_enough_to_await
    a_refused_connect_is_told_with_its_reason
    a_hanging_connect_is_aborted_and_told
    a_panic_in_connect_is_told
    a_check_that_fails_hangs_or_panics_costs_the_connection
    a_reset_that_fails_hangs_or_panics_costs_the_connection
    a_reset_that_succeeds_keeps_the_connection
    a_close_that_hangs_or_panics_frees_the_slot
    a_runtime_that_is_gone_is_told_at_once
    a_runtime_that_goes_away_ends_a_hanging_connect
    a_runtime_that_goes_away_ends_a_hanging_check
    connections_are_dropped_in_the_runtimes_context_when_it_is_gone
    a_task_that_returns_the_last_connection_of_a_dropped_pool_does_not_wait
    unfinished_work_costs_the_connection
    the_manager_is_asked_what_the_pool_asks
}

/// How long something may take that will happen.
const EVENTUALLY: Duration = Duration::from_secs(20);
/// How long a call gets that hangs.
const LIMIT: Duration = Duration::from_millis(30);

#[track_caller]
fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_happened() {
        assert!(since.elapsed() < EVENTUALLY, "it did not happen within {EVENTUALLY:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Debug, Clone, Copy)]
enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    /// A runtime without timers or IO: nothing here may need them.
    fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::CurrentThread => runtime::Builder::new_current_thread(),
            Self::MultiThread => runtime::Builder::new_multi_thread(),
        };
        builder.worker_threads(2).build().unwrap()
    }

    /// A runtime that runs on a thread of its own until it is stopped.
    fn running(self) -> Running {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = channel();
        let thread = thread::spawn(move || {
            let runtime = self.runtime();
            tell.send(runtime.handle().clone()).unwrap();
            // Stopped, or given up by a test that has failed.
            let _ = runtime.block_on(stopped);
            // Not a plain drop, which would wait for a call that never ends.
            runtime.shutdown_background();
        });
        Running { handle: told.recv().unwrap(), stop, thread }
    }
}

struct Running {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Shuts the runtime down and waits for that.
    fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().unwrap();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fault {
    #[default]
    None,
    Fail,
    Hang,
    Panic,
}

const FAULTS: [Fault; 3] = [Fault::Fail, Fault::Hang, Fault::Panic];

#[derive(Debug, PartialEq)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refused {}

/// A server that does what it is told. Its clones are the same one, and managers of it.
#[derive(Clone, Default)]
struct Server(Arc<Script>);

#[derive(Default)]
struct Script {
    connect: Mutex<Fault>,
    /// Of the next check alone: what replaces a connection is checked, too.
    is_valid: Mutex<Fault>,
    reset: Mutex<Fault>,
    close: Mutex<Fault>,
    looks_dead: AtomicBool,
    is_broken: AtomicBool,
    is_dirty: AtomicBool,
    is_hopeless: AtomicBool,
    opened: AtomicUsize,
    /// Hanging calls that began, and those whose futures were dropped.
    hanging: AtomicUsize,
    aborted: AtomicUsize,
    resets: AtomicUsize,
    closes: AtomicUsize,
    dropped: AtomicUsize,
    dropped_elsewhere: AtomicUsize,
}

struct Session {
    number: usize,
    server: Server,
}

impl Drop for Session {
    fn drop(&mut self) {
        let script = &self.server.0;
        if Handle::try_current().is_err() {
            script.dropped_elsewhere.fetch_add(1, Ordering::SeqCst);
        }
        script.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

struct Hanging<'a>(&'a Script);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.aborted.fetch_add(1, Ordering::SeqCst);
    }
}

fn count(number: &AtomicUsize) -> usize {
    number.load(Ordering::SeqCst)
}

fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::SeqCst);
}

impl Server {
    async fn obey(&self, fault: &Mutex<Fault>) -> Result<(), Refused> {
        let fault = *fault.lock().unwrap();
        // As from a driver: not done at the first poll.
        tokio::task::yield_now().await;
        match fault {
            Fault::None => Ok(()),
            Fault::Fail => Err(Refused),
            Fault::Panic => panic!("told to"),
            Fault::Hang => {
                let _hanging = Hanging(&self.0);
                self.0.hanging.fetch_add(1, Ordering::SeqCst);
                pending().await
            }
        }
    }

    fn tell(fault: &Mutex<Fault>, what: Fault) {
        *fault.lock().unwrap() = what;
    }
}

impl AsyncManager for Server {
    type Connection = Session;
    type Error = Refused;

    async fn connect(&self) -> Result<Session, Refused> {
        self.obey(&self.0.connect).await?;
        Ok(Session { number: self.0.opened.fetch_add(1, Ordering::SeqCst), server: self.clone() })
    }

    async fn is_valid(&self, _: &mut Session) -> Result<(), Refused> {
        let once = Mutex::new(mem::take(&mut *self.0.is_valid.lock().unwrap()));
        self.obey(&once).await
    }

    async fn reset(&self, _: &mut Session) -> Result<(), Refused> {
        self.obey(&self.0.reset).await?;
        self.0.resets.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn close(&self, session: Session) {
        let _ = self.obey(&self.0.close).await;
        self.0.closes.fetch_add(1, Ordering::SeqCst);
        drop(session);
    }

    fn looks_alive(&self, _: &mut Session) -> bool {
        !self.0.looks_dead.load(Ordering::SeqCst)
    }

    fn has_broken(&self, _: &mut Session) -> bool {
        self.0.is_broken.load(Ordering::SeqCst)
    }

    fn is_dirty(&self, _: &mut Session) -> bool {
        self.0.is_dirty.load(Ordering::SeqCst)
    }

    fn is_transient(&self, _: &Refused) -> bool {
        !self.0.is_hopeless.load(Ordering::SeqCst)
    }
}

type TestPool<I> = Pool<OnRuntime<Server>, I>;

/// Options that suit most tests: what ends a wait early is what the manager said, not that it said so for long.
fn options<I: IdleSet>() -> Builder<OnRuntime<Server>, I> {
    Pool::builder().max_size(1).acquire_timeout(EVENTUALLY).fail_fast_after(None)
}

fn on(server: &Server, runtime: &Handle) -> OnRuntime<Server> {
    OnRuntime::new(server.clone(), runtime.clone())
        .connect_timeout(LIMIT)
        .is_valid_timeout(LIMIT)
        .reset_timeout(LIMIT)
        .close_timeout(LIMIT)
}

/// A pool of one, on a runtime that runs elsewhere.
fn pool_of_one<I: IdleSet>(flavour: Flavour) -> (TestPool<I>, Server, Running) {
    let (server, running) = (Server::default(), flavour.running());
    let pool = options().build(on(&server, &running.handle)).unwrap();
    (pool, server, running)
}

/// After every test: nothing is left, and no connection ended outside a runtime.
#[track_caller]
fn ends<I: IdleSet>(pool: TestPool<I>, server: &Server, running: Running) {
    pool.close(EVENTUALLY).unwrap();
    drop(pool);
    running.stop();
    let opened = count(&server.0.opened);
    eventually("all connections are dropped", || count(&server.0.dropped) == opened);
    assert_eq!(count(&server.0.dropped_elsewhere), 0, "of {opened}");
    eventually("no call goes on", || count(&server.0.hanging) == count(&server.0.aborted));
}

fn connections_are_lent_to_threads_and_to_tasks<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    assert_eq!(pool.get().unwrap().number, 0);
    let in_task = {
        let pool = pool.clone();
        running.handle.spawn(async move {
            let mut connection = pool.get_owned_async().await.unwrap();
            connection
                .work(async |session| {
                    tokio::task::yield_now().await;
                    session.number
                })
                .await
        })
    };
    let (tell, told) = channel();
    running.handle.spawn(async move { tell.send(in_task.await.unwrap()).unwrap() });
    assert_eq!(told.recv_timeout(EVENTUALLY).unwrap(), 0);
    assert_eq!(count(&server.0.opened), 1);
    ends(pool, &server, running);
}

fn on_the_runtimes_own_thread_it_is_enough_to_await<I: IdleSet>(flavour: Flavour) {
    let (server, runtime) = (Server::default(), flavour.runtime());
    let pool: TestPool<I> = options().max_size(2).build(on(&server, runtime.handle())).unwrap();
    runtime.block_on(async {
        let (one, other) = (pool.get_async().await.unwrap(), pool.get_async().await.unwrap());
        assert_eq!(one.number + other.number, 1);
        drop(one);
        assert!(pool.get_async().await.is_ok());
    });
    drop(pool);
    // The calls to close are made by the pool's workers; a current_thread runtime does them when it runs.
    runtime.block_on(async {
        while count(&server.0.dropped) < 2 {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!((count(&server.0.closes), count(&server.0.dropped_elsewhere)), (2, 0));
}

fn a_refused_connect_is_told_with_its_reason<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    Server::tell(&server.0.connect, Fault::Fail);
    eventually("the reason is told", || {
        let error = pool.get_timeout(LIMIT).map(drop).unwrap_err();
        matches!(error.connect_error(), Some(ConnectError::Failed(AsyncError::Failed(Refused))))
    });
    Server::tell(&server.0.connect, Fault::None);
    drop(pool.get().unwrap());
    ends(pool, &server, running);
}

fn a_hanging_connect_is_aborted_and_told<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    Server::tell(&server.0.connect, Fault::Hang);
    eventually("the reason is told", || {
        let error = pool.get_timeout(LIMIT).map(drop).unwrap_err();
        let source = error.connect_error();
        source.is_some_and(|source| source.to_string() == format!("connect was not done after {LIMIT:?}"))
    });
    eventually("the call is aborted", || count(&server.0.aborted) > 0);
    Server::tell(&server.0.connect, Fault::None);
    assert_eq!(pool.get().unwrap().number, 0);
    ends(pool, &server, running);
}

fn a_panic_in_connect_is_told<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    Server::tell(&server.0.connect, Fault::Panic);
    eventually("the panic is told", || {
        let error = pool.get_timeout(LIMIT).map(drop).unwrap_err();
        matches!(error.connect_error(), Some(ConnectError::Panicked(message)) if message == "told to")
    });
    Server::tell(&server.0.connect, Fault::None);
    drop(pool.get().unwrap());
    ends(pool, &server, running);
}

fn a_check_that_fails_hangs_or_panics_costs_the_connection<I: IdleSet>(flavour: Flavour) {
    let (server, running) = (Server::default(), flavour.running());
    let options = options::<I>().validate_after_idle(Duration::ZERO);
    let pool = options.build(on(&server, &running.handle)).unwrap();
    drop(pool.get().unwrap());
    drop(pool.get().unwrap());
    assert_eq!(count(&server.0.opened), 1, "a check that succeeds costs nothing");
    for (number, fault) in (1..).zip(FAULTS) {
        Server::tell(&server.0.is_valid, fault);
        assert_eq!(pool.get().unwrap().number, number, "{fault:?}");
    }
    ends(pool, &server, running);
}

fn a_reset_that_fails_hangs_or_panics_costs_the_connection<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    for (number, fault) in (0..).zip(FAULTS) {
        let connection = pool.get().unwrap();
        assert_eq!(connection.number, number);
        Server::tell(&server.0.reset, fault);
        set(&server.0.is_dirty, true);
        drop(connection);
        set(&server.0.is_dirty, false);
        assert_eq!(pool.get().unwrap().number, number + 1, "{fault:?}");
    }
    ends(pool, &server, running);
}

fn a_reset_that_succeeds_keeps_the_connection<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    set(&server.0.is_dirty, true);
    drop(pool.get().unwrap());
    let connection = pool.get().unwrap();
    assert_eq!((connection.number, count(&server.0.resets)), (0, 1));
    set(&server.0.is_dirty, false);
    drop(connection);
    assert_eq!(pool.get().unwrap().number, 0);
    assert_eq!(count(&server.0.resets), 1, "what is clean is not reset");
    ends(pool, &server, running);
}

fn a_close_that_hangs_or_panics_frees_the_slot<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    for (number, fault) in (1..).zip([Fault::Hang, Fault::Panic, Fault::None]) {
        Server::tell(&server.0.close, fault);
        pool.get().unwrap().mark_broken();
        assert_eq!(pool.get().unwrap().number, number, "{fault:?}");
        eventually("it is dropped", || count(&server.0.dropped) == number);
    }
    assert_eq!(count(&server.0.closes), 1, "one was closed in peace");
    ends(pool, &server, running);
}

fn a_runtime_that_is_gone_is_told_at_once<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    drop(pool.get().unwrap());
    running.stop();
    // The idle one is still good for its holder, as far as the pool can know.
    let idle = pool.get().unwrap();
    drop(idle.detach());
    let error = pool.get().map(drop).unwrap_err();
    let AcquireError::ConnectFailed { waited, source, .. } = &error else { panic!("{error}") };
    assert!(*waited < EVENTUALLY, "it cannot mend itself");
    assert!(matches!(**source, ConnectError::Failed(AsyncError::RuntimeGone { call: Call::Connect })), "{source:?}");
    assert!(error.to_string().contains("connect: the runtime is gone"), "{error}");
    pool.close(EVENTUALLY).unwrap();
    assert_eq!((count(&server.0.dropped), count(&server.0.dropped_elsewhere)), (1, 0));
}

fn a_runtime_that_goes_away_ends_a_hanging_connect<I: IdleSet>(flavour: Flavour) {
    let (server, running) = (Server::default(), flavour.running());
    Server::tell(&server.0.connect, Fault::Hang);
    let manager = on(&server, &running.handle).connect_timeout(EVENTUALLY * 10);
    let pool: TestPool<I> = options().acquire_timeout(EVENTUALLY * 10).build(manager).unwrap();
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.get().map(drop).unwrap_err())
    };
    eventually("the connect hangs", || count(&server.0.hanging) == 1);
    running.stop();
    eventually("the waiter is told", || waiter.is_finished());
    let error = waiter.join().unwrap();
    assert!(error.to_string().contains("the runtime is gone"), "{error}");
    assert_eq!(count(&server.0.aborted), 1);
    pool.close(EVENTUALLY).unwrap();
}

fn a_runtime_that_goes_away_ends_a_hanging_check<I: IdleSet>(flavour: Flavour) {
    let (server, running) = (Server::default(), flavour.running());
    let manager = on(&server, &running.handle).is_valid_timeout(EVENTUALLY * 10);
    let options = options::<I>().validate_after_idle(Duration::ZERO);
    let pool = options.acquire_timeout(EVENTUALLY * 10).build(manager).unwrap();
    drop(pool.get().unwrap());
    Server::tell(&server.0.is_valid, Fault::Hang);
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.get().map(drop).unwrap_err())
    };
    eventually("the check hangs", || count(&server.0.hanging) == 1);
    running.stop();
    eventually("the waiter is told", || waiter.is_finished());
    let error = waiter.join().unwrap();
    assert!(error.to_string().contains("the runtime is gone"), "{error}");
    pool.close(EVENTUALLY).unwrap();
    assert_eq!((count(&server.0.dropped), count(&server.0.dropped_elsewhere)), (1, 0));
}

fn connections_are_dropped_in_the_runtimes_context_when_it_is_gone<I: IdleSet>(flavour: Flavour) {
    let (server, running) = (Server::default(), flavour.running());
    let pool: TestPool<I> = options().max_size(3).min_idle(3).build(on(&server, &running.handle)).unwrap();
    let lent = pool.get_owned().unwrap();
    running.stop();
    drop(pool);
    eventually("the idle ones are dropped", || count(&server.0.dropped) == 2);
    drop(lent);
    eventually("and the lent one", || count(&server.0.dropped) == 3);
    assert_eq!((count(&server.0.dropped_elsewhere), count(&server.0.closes)), (0, 0));
}

fn a_task_that_returns_the_last_connection_of_a_dropped_pool_does_not_wait<I: IdleSet>(flavour: Flavour) {
    for is_dirty in [false, true] {
        let (server, runtime) = (Server::default(), flavour.runtime());
        // So long that a wait would be noticed: the task would wait for a call that needs its own thread.
        let manager = OnRuntime::new(server.clone(), runtime.handle().clone())
            .close_timeout(EVENTUALLY * 10)
            .reset_timeout(EVENTUALLY * 10);
        let pool: TestPool<I> = options().build(manager).unwrap();
        runtime.block_on(async {
            let lent = pool.get_owned_async().await.unwrap();
            drop(pool);
            set(&server.0.is_dirty, is_dirty);
            let since = Instant::now();
            drop(lent);
            while count(&server.0.dropped) == 0 {
                tokio::task::yield_now().await;
            }
            assert!(since.elapsed() < EVENTUALLY * 5, "nobody waited for a timeout");
        });
        assert_eq!((count(&server.0.closes), count(&server.0.dropped_elsewhere)), (1, 0));
        assert_eq!(count(&server.0.resets), 0);
    }
}

fn unfinished_work_costs_the_connection<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    let mut connection = pool.get().unwrap();
    {
        let mut work = pin!(connection.work(async |_| tokio::task::yield_now().await));
        assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(connection);
    let mut connection = pool.get().unwrap();
    assert_eq!(connection.number, 1);
    let done = pin!(connection.work(async |session| session.number)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(done.is_ready());
    drop(connection);

    let mut connection = pool.get().unwrap();
    assert_eq!(connection.number, 1, "work that was done costs nothing");
    // Later work does not finish what was left.
    let left = pin!(connection.work(async |_| pending::<()>().await)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(left.is_pending());
    assert!(pin!(connection.work(async |_| ())).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    drop(connection);
    assert_eq!(pool.get().unwrap().number, 2);
    ends(pool, &server, running);
}

fn the_manager_is_asked_what_the_pool_asks<I: IdleSet>(flavour: Flavour) {
    let (pool, server, running) = pool_of_one::<I>(flavour);
    set(&server.0.is_broken, true);
    drop(pool.get().unwrap());
    set(&server.0.is_broken, false);
    assert_eq!(pool.get().unwrap().number, 1, "a broken one is replaced");

    set(&server.0.looks_dead, true);
    Server::tell(&server.0.connect, Fault::Fail);
    set(&server.0.is_hopeless, true);
    let error = pool.get().map(drop).unwrap_err();
    assert!(matches!(error.connect_error(), Some(ConnectError::Failed(AsyncError::Failed(Refused)))), "{error}");
    set(&server.0.looks_dead, false);
    Server::tell(&server.0.connect, Fault::None);
    eventually("it is tried again", || pool.get_timeout(LIMIT).is_ok());

    let mut connection = pool.get().unwrap();
    assert_eq!(connection.number, 2);
    assert!(connection.run(|_| Err::<(), _>(AsyncError::Failed(Refused))).is_err());
    drop(connection);
    assert_eq!(pool.get().unwrap().number, 3, "an error in `Guard::run` is fatal unless the manager says otherwise");
    ends(pool, &server, running);
}

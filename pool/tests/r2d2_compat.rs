//! The names of r2d2 over our pool: what r2d2's own tests ask of r2d2, asked of every kind of pool, and one program that
//! is compiled against both.
#![cfg(feature = "r2d2")]

#[macro_use]
mod kinds;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pool::IdleSet;
use pool::r2d2_compat::event::{AcquireEvent, CheckinEvent, CheckoutEvent, ReleaseEvent, TimeoutEvent};
use pool::r2d2_compat::{
    Builder, CustomizeConnection, HandleError, HandleEvent, ManageConnection, NopErrorHandler, Pool, PooledConnection,
};
use scheduled_thread_pool::ScheduledThreadPool;

#[allow(dead_code, unreachable_pub, clippy::all, reason = "a program of somebody else's")]
mod with_r2d2 {
    use r2d2;
    include!("r2d2_compat/user_code.rs");
}

#[allow(dead_code, unreachable_pub, clippy::all, reason = "the same program")]
mod with_ours {
    use pool::r2d2_compat as r2d2;
    include!("r2d2_compat/user_code.rs");
}

#[test]
fn a_program_for_r2d2_sees_the_same_with_ours() {
    let (theirs, ours) = (with_r2d2::outcome(), with_ours::outcome());
    assert_eq!(ours, theirs);
    assert!(theirs.len() > 40, "it looked at something: {theirs:#?}");
}

over_every_kind! { plain:
    as_many_as_max_size_are_lent
    a_returned_connection_is_lent_again
    try_get_takes_what_is_idle_and_asks_for_nothing
    a_wait_ends_with_a_connection_or_with_its_timeout
    a_wait_may_be_longer_than_connection_timeout
    no_lock_is_held_during_a_check
    a_broken_connection_is_dropped_before_its_guard_is_gone
    a_failed_start_is_told_with_its_reason
    a_late_start_is_told_with_its_reason
    a_reason_is_told_once
    a_customizer_can_refuse_a_connection
    idle_connections_are_closed_also_below_min_idle
    what_is_used_is_kept_and_the_rest_is_closed
    a_connection_closed_for_its_idleness_is_replaced
    lifetimes_end_when_nobody_holds_the_connection
    min_idle_is_kept_beside_the_lent
    a_dropped_pool_drops_its_connections
    a_lent_connection_keeps_its_pool
    events_come_in_order
    extensions_stay_with_their_connection
    a_check_that_fails_is_handled_and_the_caller_gets_another
    a_check_is_left_out_when_it_is_switched_off
    the_error_handler_hears_every_error
    connects_run_on_the_given_threads
    a_panic_in_connect_is_told_and_does_not_cost_a_connection
    a_panic_on_the_given_threads_is_told_and_does_not_cost_a_connection
    a_panic_of_the_holder_costs_the_connection
    a_panic_in_a_check_costs_the_connection
    values_beyond_our_limits_are_held_at_them
}

/// How long something may take that will happen.
const EVENTUALLY: Duration = Duration::from_secs(20);

#[track_caller]
fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_happened() {
        assert!(since.elapsed() < EVENTUALLY, "it did not happen within {EVENTUALLY:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Debug)]
struct Blammo;

impl fmt::Display for Blammo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blammo")
    }
}

impl std::error::Error for Blammo {}

/// A server that does what it is told. Its clones are the same one, and managers of it.
#[derive(Clone, Default)]
struct Server(Arc<Script>);

#[derive(Default)]
struct Script {
    /// Connections opened so far, each with its number.
    opened: AtomicUsize,
    dropped: AtomicUsize,
    /// The numbers of what was dropped, and where.
    drops: Mutex<Vec<(usize, ThreadId)>>,
    /// Connects beyond this many are refused; zero is no limit.
    most: AtomicUsize,
    refuses: AtomicBool,
    panics_in_connect: AtomicBool,
    panics_in_check: AtomicBool,
    /// Checks fail for connections numbered below this.
    valid_from: AtomicUsize,
    checks: AtomicUsize,
    is_broken: AtomicBool,
    /// Names of the threads that connected.
    threads: Mutex<Vec<String>>,
}

struct Session {
    number: usize,
    server: Server,
    mark: u32,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.0.drops.lock().unwrap().push((self.number, thread::current().id()));
        self.server.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Server {
    fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }

    fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::SeqCst);
    }

    fn refusing() -> Self {
        let server = Self::default();
        Self::set(&server.0.refuses, true);
        server
    }

    fn with_most(most: usize) -> Self {
        let server = Self::default();
        server.0.most.store(most, Ordering::SeqCst);
        server
    }
}

impl ManageConnection for Server {
    type Connection = Session;
    type Error = Blammo;

    fn connect(&self) -> Result<Session, Blammo> {
        self.0.threads.lock().unwrap().push(thread::current().name().unwrap_or_default().to_owned());
        assert!(!self.0.panics_in_connect.load(Ordering::SeqCst), "connect was told to panic");
        let most = self.0.most.load(Ordering::SeqCst);
        if self.0.refuses.load(Ordering::SeqCst) || most != 0 && self.opened() >= most {
            return Err(Blammo);
        }
        let number = self.0.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Session { number, server: self.clone(), mark: 0 })
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Blammo> {
        self.0.checks.fetch_add(1, Ordering::SeqCst);
        assert!(!self.0.panics_in_check.load(Ordering::SeqCst), "the check was told to panic");
        if session.number < self.0.valid_from.load(Ordering::SeqCst) { Err(Blammo) } else { Ok(()) }
    }

    fn has_broken(&self, _: &mut Session) -> bool {
        self.0.is_broken.load(Ordering::SeqCst)
    }
}

fn options<I: IdleSet>() -> Builder<Server, I> {
    Pool::builder().error_handler(Box::new(NopErrorHandler)).connection_timeout(EVENTUALLY).idle_set()
}

fn pool_of<I: IdleSet>(max_size: u32) -> (Pool<Server, I>, Server) {
    let server = Server::default();
    (options().max_size(max_size).build(server.clone()).unwrap(), server)
}

fn as_many_as_max_size_are_lent<I: IdleSet>() {
    let server = Server::with_most(5);
    let pool = options::<I>().max_size(5).build(server.clone()).unwrap();
    let lent: Vec<_> = (0..5).map(|_| pool.get().unwrap()).collect();
    assert_eq!((pool.state().connections, pool.state().idle_connections), (5, 0));
    drop(lent);
    assert_eq!((pool.state().connections, pool.state().idle_connections), (5, 5));
    assert_eq!(server.opened(), 5);
}

fn a_returned_connection_is_lent_again<I: IdleSet>() {
    let (pool, server) = pool_of::<I>(2);
    let first = pool.get().unwrap();
    let second = pool.get().unwrap();
    let number = first.number;
    assert_ne!(number, second.number);
    drop(first);
    let third = pool.get().unwrap();
    assert_eq!(third.number, number);
    drop((second, third));
    assert_eq!((server.opened(), server.dropped()), (2, 0));
}

fn try_get_takes_what_is_idle_and_asks_for_nothing<I: IdleSet>() {
    let server = Server::default();
    let pool = options::<I>().max_size(2).min_idle(Some(0)).build(server.clone()).unwrap();
    assert!(pool.try_get().is_none());
    let one = pool.get().unwrap();
    assert_eq!(server.opened(), 1, "try_get opens nothing, and one waiter opens one");
    for _ in 0..500 {
        assert!(pool.try_get().is_none());
    }
    drop(one);
    let one = pool.try_get();
    assert!(one.is_some());
    assert!(pool.try_get().is_none());
    assert_eq!(server.opened(), 1);
}

fn a_wait_ends_with_a_connection_or_with_its_timeout<I: IdleSet>() {
    let server = Server::default();
    let options = options::<I>().max_size(1).connection_timeout(Duration::from_millis(40));
    let pool = options.build(server).unwrap();
    let short = Duration::from_millis(20);
    let lent = pool.get_timeout(short).unwrap();

    for timeout in [short, Duration::from_millis(40), Duration::from_millis(60), Duration::ZERO] {
        let since = Instant::now();
        let error = pool.get_timeout(timeout).map(|session| session.number).unwrap_err();
        assert!(since.elapsed() >= timeout, "{timeout:?}");
        assert_eq!(error.to_string(), "timed out waiting for connection");
    }
    let since = Instant::now();
    assert!(pool.get().is_err());
    assert!(since.elapsed() >= Duration::from_millis(40));

    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.get_timeout(EVENTUALLY).map(|session| session.number))
    };
    drop(lent);
    assert_eq!(waiter.join().unwrap().unwrap(), 0);
}

fn a_wait_may_be_longer_than_connection_timeout<I: IdleSet>() {
    let options = options::<I>().max_size(1).connection_timeout(Duration::from_millis(10));
    let pool = options.build(Server::default()).unwrap();
    let lent = pool.get().unwrap();
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || pool.get_timeout(EVENTUALLY).map(|session| session.number))
    };
    // So long that an acquire of 10 ms has failed.
    thread::sleep(Duration::from_millis(50));
    assert!(!waiter.is_finished());
    drop(lent);
    assert_eq!(waiter.join().unwrap().unwrap(), 0);
}

/// Stops in its first check until it is told to go on.
struct Checkpoint {
    arrived: Mutex<Option<Sender<()>>>,
    go_on: Mutex<Receiver<()>>,
}

impl ManageConnection for Checkpoint {
    type Connection = ();
    type Error = Blammo;

    fn connect(&self) -> Result<(), Blammo> {
        Ok(())
    }

    fn is_valid(&self, (): &mut ()) -> Result<(), Blammo> {
        let first = self.arrived.lock().unwrap().take();
        if let Some(arrived) = first {
            arrived.send(()).unwrap();
            self.go_on.lock().unwrap().recv_timeout(EVENTUALLY).unwrap();
        }
        Ok(())
    }

    fn has_broken(&self, (): &mut ()) -> bool {
        false
    }
}

fn no_lock_is_held_during_a_check<I: IdleSet>() {
    let (arrived, is_there) = channel();
    let (go, go_on) = channel();
    let manager = Checkpoint { arrived: Mutex::new(Some(arrived)), go_on: Mutex::new(go_on) };
    let pool = Pool::builder().max_size(2).idle_set::<I>().build(manager).unwrap();
    let checking = {
        let pool = pool.clone();
        thread::spawn(move || pool.get().map(drop).unwrap())
    };
    is_there.recv_timeout(EVENTUALLY).unwrap();
    // One connection is being checked, on the thread that wants it; the other can be had.
    drop(pool.get().unwrap());
    assert!(pool.state().connections == 2);
    go.send(()).unwrap();
    checking.join().unwrap();
}

fn a_broken_connection_is_dropped_before_its_guard_is_gone<I: IdleSet>() {
    let (pool, server) = pool_of::<I>(1);
    Server::set(&server.0.is_broken, true);
    let session = pool.get().unwrap();
    drop(session);
    assert_eq!(server.dropped(), 1);
    assert_eq!(*server.0.drops.lock().unwrap(), [(0, thread::current().id())]);
    assert_eq!(pool.get().unwrap().number, 1, "another one takes its place");
}

fn a_failed_start_is_told_with_its_reason<I: IdleSet>() {
    let options = options::<I>().connection_timeout(Duration::from_millis(50));
    let since = Instant::now();
    let error = options.build(Server::refusing()).err().unwrap();
    assert!(since.elapsed() >= Duration::from_millis(50), "r2d2 tries until the time is up");
    assert_eq!(error.to_string(), "timed out waiting for connection: blammo");
}

fn a_late_start_is_told_with_its_reason<I: IdleSet>() {
    let server = Server::refusing();
    let pool = options::<I>().connection_timeout(Duration::from_millis(50)).build_unchecked(server.clone());
    let error = pool.get().err().unwrap();
    assert_eq!(error.to_string(), "timed out waiting for connection: blammo");
    Server::set(&server.0.refuses, false);
    eventually("the server is there again and is noticed", || pool.get().is_ok());
}

fn a_reason_is_told_once<I: IdleSet>() {
    let (errors, server) = (Errors::default(), Server::default());
    let options = options::<I>().max_size(1).error_handler(Box::new(errors.clone()));
    let pool = options.build(server.clone()).unwrap();
    let told = || pool.get_timeout(Duration::from_millis(5)).err().unwrap().to_string();
    server.0.valid_from.store(1, Ordering::SeqCst);
    Server::set(&server.0.refuses, true);
    assert!(told().contains("blammo"));

    // There is a new reason, which is none any more once connecting works again.
    let before = errors.count();
    eventually("it is tried again", || errors.count() > before);
    Server::set(&server.0.refuses, false);
    let _lent = pool.get().unwrap();
    assert_eq!(told(), "timed out waiting for connection");
}

/// Refuses connections until one was dropped, marks the others, and says what was released.
#[derive(Debug, Clone, Default)]
struct Customizer {
    released: Arc<Mutex<Vec<u32>>>,
}

impl CustomizeConnection<Session, Blammo> for Customizer {
    fn on_acquire(&self, session: &mut Session) -> Result<(), Blammo> {
        if session.server.dropped() == 0 {
            return Err(Blammo);
        }
        session.mark = 1;
        Ok(())
    }

    fn on_release(&self, session: Session) {
        self.released.lock().unwrap().push(session.mark);
    }
}

fn a_customizer_can_refuse_a_connection<I: IdleSet>() {
    let (customizer, errors, server) = (Customizer::default(), Errors::default(), Server::default());
    let pool = options::<I>()
        .max_size(1)
        .connection_customizer(Box::new(customizer.clone()))
        .error_handler(Box::new(errors.clone()))
        .build(server.clone())
        .unwrap();
    assert_eq!((server.opened(), server.dropped()), (2, 1), "the first was refused");
    assert_eq!(errors.count(), 1);
    assert!(customizer.released.lock().unwrap().is_empty(), "what was never in the pool does not leave it");

    Server::set(&server.0.is_broken, true);
    assert_eq!(pool.get().unwrap().mark, 1);
    assert_eq!(*customizer.released.lock().unwrap(), [1]);
}

const SOON: Option<Duration> = Some(Duration::from_millis(150));

fn idle_connections_are_closed_also_below_min_idle<I: IdleSet>() {
    let server = Server::with_most(5);
    let pool = options::<I>().max_size(5).idle_timeout(SOON).build(server.clone()).unwrap();
    let lent = pool.get().unwrap();
    eventually("the other four are closed", || server.dropped() == 4);
    assert_eq!(lent.server.opened(), 5);
    drop(lent);
    assert_eq!(server.dropped(), 4);
    eventually("and the last one when it has been idle, too", || server.dropped() == 5);
}

fn what_is_used_is_kept_and_the_rest_is_closed<I: IdleSet>() {
    let server = Server::with_most(5);
    let pool = options::<I>().max_size(5).idle_timeout(SOON).build(server.clone()).unwrap();
    eventually("only what is needed is left", || {
        drop(pool.get().unwrap());
        server.dropped() == 4
    });
    assert_eq!(pool.state().connections, 1);
    assert_eq!(server.opened(), 5);
}

fn a_connection_closed_for_its_idleness_is_replaced<I: IdleSet>() {
    let server = Server::default();
    let pool = options::<I>().max_size(3).min_idle(Some(2)).idle_timeout(SOON).build(server.clone()).unwrap();
    let is_dropped = |number| server.0.drops.lock().unwrap().iter().any(|(dropped, _)| *dropped == number);
    eventually("the first two are closed", || is_dropped(0) && is_dropped(1));
    eventually("and two others are opened", || server.opened() >= 4 && pool.state().idle_connections == 2);
}

fn lifetimes_end_when_nobody_holds_the_connection<I: IdleSet>() {
    let server = Server::with_most(5);
    let options = options::<I>().max_size(5).max_lifetime(SOON);
    let pool = options.build(server.clone()).unwrap();
    let lent = pool.get().unwrap();
    eventually("the idle ones are closed", || server.dropped() == 4);
    assert_eq!(lent.number, lent.number.min(4));
    drop(lent);
    eventually("and the lent one after it came back", || server.dropped() == 5);
    let error = pool.get_timeout(Duration::from_millis(50)).err().unwrap();
    assert!(error.to_string().contains("blammo"), "{error}");
}

fn min_idle_is_kept_beside_the_lent<I: IdleSet>() {
    let server = Server::default();
    let pool = options::<I>().max_size(5).min_idle(Some(2)).build(server.clone()).unwrap();
    let counts = || (pool.state().idle_connections, pool.state().connections);
    assert_eq!(counts(), (2, 2));
    let lent: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    eventually("two are idle beside the three that are lent", || counts() == (2, 5));
    drop(lent);
    assert_eq!(counts(), (5, 5));
}

fn a_dropped_pool_drops_its_connections<I: IdleSet>() {
    let customizer = Recorder::default();
    let server = Server::default();
    let options = options::<I>().max_size(10).connection_customizer(Box::new(customizer.clone()));
    drop(options.build(server.clone()).unwrap());
    eventually("all are dropped", || server.dropped() == 10);
    eventually("through the customizer", || customizer.released.load(Ordering::SeqCst) == 10);
}

#[derive(Debug, Clone, Default)]
struct Recorder {
    released: Arc<AtomicUsize>,
}

impl CustomizeConnection<Session, Blammo> for Recorder {
    fn on_release(&self, session: Session) {
        drop(session);
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}

fn a_lent_connection_keeps_its_pool<I: IdleSet>() {
    let (pool, server) = pool_of::<I>(2);
    let lent = pool.get().unwrap();
    drop(pool);
    assert_eq!((lent.number < 2, server.dropped()), (true, 0));
    drop(lent);
    eventually("the end of the last loan is the end of the pool", || server.dropped() == 2);
}

#[derive(Debug, Clone)]
enum Seen {
    Acquire(u64),
    Release(u64, Duration),
    Checkout(u64, Duration),
    Checkin(u64, Duration),
    Timeout(Duration),
}

#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Vec<Seen>>>);

impl Listener {
    fn push(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

impl HandleEvent for Listener {
    fn handle_acquire(&self, event: AcquireEvent) {
        self.push(Seen::Acquire(event.connection_id()));
    }

    fn handle_release(&self, event: ReleaseEvent) {
        self.push(Seen::Release(event.connection_id(), event.age()));
    }

    fn handle_checkout(&self, event: CheckoutEvent) {
        self.push(Seen::Checkout(event.connection_id(), event.duration()));
    }

    fn handle_timeout(&self, event: TimeoutEvent) {
        self.push(Seen::Timeout(event.timeout()));
    }

    fn handle_checkin(&self, event: CheckinEvent) {
        self.push(Seen::Checkin(event.connection_id(), event.duration()));
    }
}

fn events_come_in_order<I: IdleSet>() {
    let (listener, server) = (Listener::default(), Server::default());
    Server::set(&server.0.is_broken, true);
    let created = Instant::now();
    let options = options::<I>().max_size(1).event_handler(Box::new(listener.clone()));
    let pool = options.build(server).unwrap();

    let start = Instant::now();
    let session = pool.get().unwrap();
    let checkout = start.elapsed();
    pool.get_timeout(Duration::from_millis(23)).err().unwrap();
    drop(session);
    let (checkin, release) = (start.elapsed(), created.elapsed());
    let _second = pool.get().unwrap();

    let seen = listener.seen();
    let [
        Seen::Acquire(first),
        Seen::Checkout(out, waited),
        Seen::Timeout(timeout),
        Seen::Checkin(back, held),
        Seen::Release(gone, age),
        Seen::Acquire(second),
        Seen::Checkout(second_out, _),
    ] = seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!((out, back, gone), (first, first, first));
    assert!(second > first && second_out == second);
    assert_eq!(timeout, Duration::from_millis(23));
    assert!(waited <= checkout && held <= checkin && held >= timeout && age <= release && age >= held, "{seen:?}");
}

fn extensions_stay_with_their_connection<I: IdleSet>() {
    let (pool, _) = pool_of::<I>(2);
    let mut one = pool.get().unwrap();
    let mut other = pool.get().unwrap();
    PooledConnection::extensions_mut(&mut one).insert(1);
    PooledConnection::extensions_mut(&mut other).insert(2);
    drop(one);
    let one = pool.get().unwrap();
    assert_eq!(PooledConnection::extensions(&one).get::<i32>(), Some(&1));
}

fn a_check_that_fails_is_handled_and_the_caller_gets_another<I: IdleSet>() {
    let (listener, errors, server) = (Listener::default(), Errors::default(), Server::default());
    let pool = options::<I>()
        .max_size(3)
        .event_handler(Box::new(listener.clone()))
        .error_handler(Box::new(errors.clone()))
        .build(server.clone())
        .unwrap();
    // Everything is dead, as after a restart of the server.
    server.0.valid_from.store(3, Ordering::SeqCst);
    let lent: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    assert!(lent.iter().all(|session| session.number >= 3));
    assert_eq!((errors.count(), server.dropped()), (3, 3));
    let released = listener.seen().iter().filter(|seen| matches!(seen, Seen::Release(..))).count();
    assert_eq!(released, 3);
}

fn a_check_is_left_out_when_it_is_switched_off<I: IdleSet>() {
    let server = Server::default();
    let pool = options::<I>().max_size(1).test_on_check_out(false).build(server.clone()).unwrap();
    drop((pool.get().unwrap(), pool.try_get()));
    assert_eq!(server.0.checks.load(Ordering::SeqCst), 0);
    let (checked, server) = pool_of::<I>(1);
    drop(checked.get().unwrap());
    drop(checked.try_get().unwrap());
    assert_eq!(server.0.checks.load(Ordering::SeqCst), 2);
}

#[derive(Debug, Clone, Default)]
struct Errors(Arc<AtomicUsize>);

impl Errors {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl HandleError<Blammo> for Errors {
    fn handle_error(&self, error: Blammo) {
        assert_eq!(error.to_string(), "blammo");
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn the_error_handler_hears_every_error<I: IdleSet>() {
    let errors = Errors::default();
    let server = Server::refusing();
    let options = options::<I>().max_size(1).error_handler(Box::new(errors.clone()));
    let pool = options.build_unchecked(server.clone());
    eventually("it is tried again and again", || errors.count() >= 3);
    Server::set(&server.0.refuses, false);
    drop(pool.get().unwrap());
}

fn connects_run_on_the_given_threads<I: IdleSet>() {
    let threads = Arc::new(ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("theirs-{}").build());
    let servers = [Server::default(), Server::default()];
    let pools: Vec<_> = servers
        .iter()
        .map(|server| options::<I>().max_size(2).thread_pool(Arc::clone(&threads)).build(server.clone()).unwrap())
        .collect();
    for (pool, server) in pools.iter().zip(&servers) {
        drop(pool.get().unwrap());
        assert_eq!(*server.0.threads.lock().unwrap(), ["theirs-0", "theirs-0"]);
    }
}

fn a_panic_in_connect_is_told_and_does_not_cost_a_connection<I: IdleSet>() {
    recovers_from_a_panic(options::<I>());
}

fn a_panic_on_the_given_threads_is_told_and_does_not_cost_a_connection<I: IdleSet>() {
    let threads = Arc::new(ScheduledThreadPool::new(1));
    recovers_from_a_panic(options::<I>().thread_pool(threads));
}

fn recovers_from_a_panic<I: IdleSet>(options: Builder<Server, I>) {
    let server = Server::default();
    Server::set(&server.0.panics_in_connect, true);
    let pool = options.max_size(2).build_unchecked(server.clone());
    // A panic takes its time when it writes a backtrace.
    eventually("the panic is told", || {
        let error = pool.get_timeout(Duration::from_millis(50)).err().unwrap();
        error.to_string().ends_with("connect panicked: connect was told to panic")
    });
    Server::set(&server.0.panics_in_connect, false);
    let both = (pool.get().unwrap(), pool.get().unwrap());
    assert_eq!(pool.state().connections, 2);
    drop(both);
}

fn a_panic_of_the_holder_costs_the_connection<I: IdleSet>() {
    let (pool, server) = pool_of::<I>(1);
    let held = catch_unwind(AssertUnwindSafe(|| {
        let _session = pool.get().unwrap();
        panic!("in the middle of something");
    }));
    assert!(held.is_err());
    assert_eq!(pool.get().unwrap().number, 1);
    assert_eq!(server.dropped(), 1);
}

fn a_panic_in_a_check_costs_the_connection<I: IdleSet>() {
    let (pool, server) = pool_of::<I>(1);
    Server::set(&server.0.panics_in_check, true);
    assert!(catch_unwind(AssertUnwindSafe(|| pool.get().map(drop))).is_err());
    Server::set(&server.0.panics_in_check, false);
    assert_eq!(pool.get().unwrap().number, 1);
    assert_eq!(server.dropped(), 1);
}

fn values_beyond_our_limits_are_held_at_them<I: IdleSet>() {
    let pool = options::<I>()
        .max_size(u32::MAX)
        .min_idle(Some(1))
        .idle_timeout(Some(Duration::MAX))
        .max_lifetime(Some(Duration::MAX))
        .connection_timeout(Duration::MAX)
        .build(Server::default())
        .unwrap();
    assert_eq!((pool.max_size(), pool.connection_timeout()), (u32::MAX, Duration::MAX));
    assert_eq!((pool.idle_timeout(), pool.max_lifetime()), (Some(Duration::MAX), Some(Duration::MAX)));
    assert_eq!(pool.get().unwrap().number, 0);
    assert_eq!(pool.get_timeout(Duration::MAX).unwrap().number, 0);
}

//! The whole pool, its own threads included, under thousands of random schedules.
//!
//! Every wait in a scenario without a clock ends because somebody ends it; a wake-up that is lost is a deadlock, which
//! shuttle reports with the schedule that led to it. Each scenario runs under two ways to choose schedules: at random at
//! every step, and with a few random changes of priority (PCT), which holds single threads back for long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

use super::toy::{block_on, poll_and_drop};
use crate::idle::{IdleSet, LockFreeQueue, MutexQueue, Slots};
use crate::sync::clock;
use crate::{AcquireError, Fairness, Manager, Pool};

/// Schedules of each way, per scenario and kind; the environment's `SHUTTLE_SCHEDULES` asks for more.
const SCHEDULES: usize = 3_000;

fn explore(scenario: fn()) {
    let schedules = match std::env::var("SHUTTLE_SCHEDULES") {
        Ok(number) => number.parse().expect("SHUTTLE_SCHEDULES is a number"),
        Err(_) => SCHEDULES,
    };
    let config = || {
        let mut config = Config::new();
        config.stack_size = 128 * 1024;
        config
    };
    let run = move || {
        clock::reset();
        scenario();
    };
    Runner::new(RandomScheduler::new(schedules), config()).run(run);
    Runner::new(PctScheduler::new(3, schedules), config()).run(run);
}

/// Makes a test of a scenario for each kind whose primitives shuttle can see. The lock-free queue's own steps are out of
/// its sight, but its calls are interleaved with everything else.
macro_rules! for_every_kind {
    ($($scenario:ident),+ $(,)?) => {
        $(mod $scenario {
            #[test]
            fn mutex() {
                super::explore(super::$scenario::<super::MutexQueue>);
            }

            #[test]
            fn lock_free() {
                super::explore(super::$scenario::<super::LockFreeQueue>);
            }

            #[test]
            fn slots() {
                super::explore(super::$scenario::<super::Slots>);
            }
        })+
    };
}

for_every_kind!(
    threads_and_tasks_share_a_pool,
    waiters_give_up_beside_patient_ones,
    broken_connections_are_replaced,
    a_pool_is_closed_under_load,
    a_pool_is_dropped_with_live_guards,
    a_database_fails_now_and_then,
    a_pool_is_purged_and_resized_under_load,
    a_pool_is_paused_under_load,
    a_breaker_turns_callers_away,
);

/// Counts what is open, and who holds it.
#[derive(Default)]
struct Database {
    open: Arc<AtomicUsize>,
    limit: usize,
    /// One connect in so many fails; zero: none.
    failing: usize,
    /// All connects fail.
    is_down: Arc<AtomicBool>,
}

struct Connection {
    in_use: AtomicBool,
    open: Arc<AtomicUsize>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn used(&self) {
        assert!(!self.in_use.swap(true, Ordering::Relaxed), "two holders");
        thread::yield_now();
        assert!(self.in_use.swap(false, Ordering::Relaxed), "two holders");
    }
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Manager for Database {
    type Connection = Connection;
    type Error = Refused;

    fn connect(&self) -> Result<Connection, Refused> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(open <= self.limit, "{open} connections, {} allowed", self.limit);
        thread::yield_now();
        let fails_now = self.failing > 0 && thread_rng().gen_range(0..self.failing) == 0;
        if fails_now || self.is_down.load(Ordering::Relaxed) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused);
        }
        Ok(Connection { in_use: AtomicBool::new(false), open: Arc::clone(&self.open) })
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Refused> {
        connection.used();
        Ok(())
    }
}

/// A pool of any policy.
fn pool_of<I: IdleSet>(max_size: usize, failing: usize) -> Pool<Database, I> {
    let policies = [Fairness::Strict, Fairness::default(), Fairness::Free];
    Pool::builder()
        .max_size(max_size)
        .max_connecting(thread_rng().gen_range(1..=2))
        .fairness(policies[thread_rng().gen_range(0..policies.len())])
        // Rightly opened by a few failures while the clock runs and others are held back; it has a scenario of its own.
        .fail_fast_after(None)
        .build(Database { limit: max_size, failing, ..Database::default() })
        .expect("good options")
}

/// Runs the callers, each on a thread of its own, and waits for them.
fn together<I: IdleSet>(pool: &Pool<Database, I>, callers: &[fn(&Pool<Database, I>)]) {
    let callers: Vec<_> = callers
        .iter()
        .map(|&caller| {
            let pool = pool.clone();
            thread::spawn(move || caller(&pool))
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().expect("no caller panics"));
}

fn blocking<I: IdleSet>(pool: &Pool<Database, I>) {
    for _ in 0..2 {
        pool.get().expect("a connection").used();
    }
}

fn awaiting<I: IdleSet>(pool: &Pool<Database, I>) {
    for _ in 0..2 {
        block_on(pool.get_async()).expect("a connection").used();
    }
}

fn giving_up<I: IdleSet>(pool: &Pool<Database, I>) {
    for _ in 0..2 {
        poll_and_drop(pool.get_async());
    }
}

fn breaking<I: IdleSet>(pool: &Pool<Database, I>) {
    pool.get().expect("a connection").mark_broken();
    drop(pool.get().expect("a connection"));
}

/// Lets the others run until something has happened; shuttle gives up on a schedule that goes on for ever.
fn until(mut has_happened: impl FnMut() -> bool) {
    while !has_happened() {
        thread::yield_now();
    }
}

/// Nobody waits, nothing is lent, and every connection can be had.
fn at_rest<I: IdleSet>(pool: &Pool<Database, I>) {
    assert_eq!(pool.state().waiters, 0);
    // A new connection passes through a worker's hands.
    until(|| pool.state().lent == 0);
    let guards: Vec<_> = (0..pool.state().max_size).map(|_| pool.get().expect("a connection")).collect();
    assert_eq!(pool.state().lent, guards.len());
    drop(guards);
}

fn threads_and_tasks_share_a_pool<I: IdleSet>() {
    let pool = pool_of::<I>(thread_rng().gen_range(1..=2), 0);
    together(&pool, &[blocking, awaiting, blocking]);
    at_rest(&pool);
}

fn waiters_give_up_beside_patient_ones<I: IdleSet>() {
    let pool = pool_of::<I>(1, 0);
    together(&pool, &[blocking, giving_up, awaiting, giving_up]);
    at_rest(&pool);
}

fn broken_connections_are_replaced<I: IdleSet>() {
    let pool = pool_of::<I>(thread_rng().gen_range(1..=2), 0);
    together(&pool, &[breaking, awaiting, breaking]);
    at_rest(&pool);
}

/// Everybody is answered, one way or the other, and in the end nothing is open.
fn a_pool_is_closed_under_load<I: IdleSet>() {
    let pool = pool_of::<I>(1, 0);
    let open = Arc::clone(&pool.manager().open);
    together(
        &pool,
        &[
            |pool| drop(pool.get().map(|connection| connection.used())),
            |pool| drop(block_on(pool.get_async()).map(|connection| connection.used())),
            |pool| {
                pool.close(Duration::from_secs(1)).expect("everything comes back");
                assert!(matches!(pool.get(), Err(AcquireError::Closed)));
            },
        ],
    );
    assert_eq!((open.load(Ordering::Relaxed), pool.state().size), (0, 0));
}

/// The pool's threads end, and what is lent is closed when it comes back.
fn a_pool_is_dropped_with_live_guards<I: IdleSet>() {
    let pool = pool_of::<I>(2, 0);
    let open = Arc::clone(&pool.manager().open);
    let (first, second) = (pool.get_owned().expect("one"), pool.get_owned().expect("another"));
    let acquire = pool.get_owned_async();
    let holder = thread::spawn(move || {
        first.used();
        drop(first);
    });
    let waiter = thread::spawn(move || drop(block_on(acquire)));
    drop(pool);
    second.used();
    drop(second);
    holder.join().expect("a guard outlives its pool");
    waiter.join().expect("and so does a waiter");
    until(|| open.load(Ordering::Relaxed) == 0);
}

/// With a clock, since a failure is followed by a pause. Who runs out of time is told so; who has enough is served.
fn a_database_fails_now_and_then<I: IdleSet>() {
    let pool = pool_of::<I>(2, 3);
    let is_over = Arc::new(AtomicBool::new(false));
    let ticking = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                clock::advance(Duration::from_millis(5));
                thread::yield_now();
            }
        })
    };
    together(
        &pool,
        &[
            |pool| drop(pool.get_timeout(Duration::from_millis(20))),
            |pool| drop(block_on(pool.get_async_timeout(Duration::from_millis(20)))),
            |pool| drop(pool.get_timeout(Duration::MAX).expect("a connection")),
        ],
    );
    drop(pool.get_timeout(Duration::MAX).expect("a connection"));
    drop(pool);
    is_over.store(true, Ordering::Relaxed);
    ticking.join().expect("the clock does not fail");
}

/// Everybody is served, nothing that has to go stays, and there are never more than the table holds.
fn a_pool_is_purged_and_resized_under_load<I: IdleSet>() {
    let pool = pool_of::<I>(2, 0);
    let open = Arc::clone(&pool.manager().open);
    together(
        &pool,
        &[blocking, awaiting, |pool| {
            pool.resize(1).expect("a good size");
            pool.purge();
            pool.resize(2).expect("a good size");
        }],
    );
    at_rest(&pool);
    pool.resize(1).expect("a good size");
    until(|| pool.state().size == 1);
    pool.purge();
    until(|| open.load(Ordering::Relaxed) == 0);
    at_rest(&pool);
}

/// Who waits when the pool is resumed is served, wherever it stood when it was paused.
fn a_pool_is_paused_under_load<I: IdleSet>() {
    let pool = pool_of::<I>(thread_rng().gen_range(1..=2), 0);
    together(
        &pool,
        &[blocking, awaiting, giving_up, |pool| {
            pool.pause();
            thread::yield_now();
            pool.resume();
        }],
    );
    at_rest(&pool);
}

/// With a clock. Everybody is answered long before his time is up, while connecting fails, and served when it does not.
fn a_breaker_turns_callers_away<I: IdleSet>() {
    let is_down = Arc::new(AtomicBool::new(true));
    let database = Database { limit: 2, is_down: Arc::clone(&is_down), ..Database::default() };
    let pool = Pool::<Database, I>::builder()
        .max_size(2)
        .fail_fast_after(Duration::from_millis(50))
        .build(database)
        .expect("good options");
    let is_over = Arc::new(AtomicBool::new(false));
    let ticking = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                clock::advance(Duration::from_millis(5));
                thread::yield_now();
            }
        })
    };
    together(
        &pool,
        &[
            |pool| assert!(pool.get_timeout(Duration::MAX).is_err_and(|error| error.connect_error().is_some())),
            |pool| {
                let answer = block_on(pool.get_async_timeout(Duration::MAX));
                assert!(answer.is_err_and(|error| error.connect_error().is_some()));
            },
        ],
    );
    is_down.store(false, Ordering::Relaxed);
    // Nobody asks; the pool finds out by itself.
    until(|| !pool.state().is_breaker_open);
    drop(pool.get_timeout(Duration::MAX).expect("a connection"));
    drop(pool);
    is_over.store(true, Ordering::Relaxed);
    ticking.join().expect("the clock does not fail");
}

/// The mistake that all of this is about: a look for a connection before standing in line, and none after. Were it not
/// found here, the scenarios above would prove little.
#[test]
#[should_panic(expected = "deadlock")]
fn the_checker_finds_a_missing_look() {
    use crate::sync::{self, now};
    use crate::waiters::{Alarm, NOTIFY, Waiters};

    explore(|| {
        let waiters = Arc::new(Waiters::<()>::new(Fairness::Free, now()));
        let is_idle = Arc::new(sync::atomic::AtomicBool::new(false));
        let waiting = {
            let (waiters, is_idle) = (Arc::clone(&waiters), Arc::clone(&is_idle));
            thread::spawn(move || {
                if is_idle.load(Ordering::SeqCst) {
                    return;
                }
                let alarm = Alarm::Thread(sync::thread::current());
                let (ticket, _) = waiters.enter(alarm, now(), now(), false).expect("open");
                sync::thread::park();
                assert!(waiters.leave(ticket).is_none());
            })
        };
        is_idle.store(true, Ordering::SeqCst);
        if waiters.attention() & NOTIFY != 0
            && let Some(alarm) = waiters.look_after().wake_first()
        {
            alarm.ring();
        }
        waiting.join().expect("woken");
    });
}

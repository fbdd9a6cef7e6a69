//! The ways to acquire: blocking or async, borrowed or owned, for the configured time, a given time or none.

use std::time::Duration;

use pool::{AcquireError, IdleSet};

use super::database::Fault;
use super::support::{TestPool, blocked, options, settled};
use super::tasks::{Task, block_on};

for_every_kind!(
    every_door_opens,
    every_door_closes_in_its_time,
    a_zero_timeout_waits_at_no_door,
    owned_guards_need_no_pool
);

/// An acquire by some door: the connection's number.
type Door<I> = fn(&TestPool<I>) -> Result<u64, AcquireError<Fault>>;

/// Far more than a test may take.
const HOUR: Duration = Duration::from_secs(3600);

/// By the time each of them has.
struct Doors<I: IdleSet> {
    configured: [Door<I>; 4],
    hour: [Door<I>; 4],
    short: [Door<I>; 4],
    none: [Door<I>; 6],
}

const SHORT: Duration = Duration::from_millis(10);

fn doors<I: IdleSet>() -> Doors<I> {
    Doors {
        configured: [
            |pool| pool.get().map(|guard| guard.id),
            |pool| pool.get_owned().map(|guard| guard.id),
            |pool| block_on(pool.get_async()).map(|guard| guard.id),
            |pool| block_on(pool.get_owned_async()).map(|guard| guard.id),
        ],
        hour: [
            |pool| pool.get_timeout(HOUR).map(|guard| guard.id),
            |pool| pool.get_owned_timeout(HOUR).map(|guard| guard.id),
            |pool| block_on(pool.get_async_timeout(HOUR)).map(|guard| guard.id),
            |pool| block_on(pool.get_owned_async_timeout(HOUR)).map(|guard| guard.id),
        ],
        short: [
            |pool| pool.get_timeout(SHORT).map(|guard| guard.id),
            |pool| pool.get_owned_timeout(SHORT).map(|guard| guard.id),
            |pool| block_on(pool.get_async_timeout(SHORT)).map(|guard| guard.id),
            |pool| block_on(pool.get_owned_async_timeout(SHORT)).map(|guard| guard.id),
        ],
        none: [
            |pool| pool.try_get().map(|guard| guard.id),
            |pool| pool.try_get_owned().map(|guard| guard.id),
            |pool| pool.get_timeout(Duration::ZERO).map(|guard| guard.id),
            |pool| pool.get_owned_timeout(Duration::ZERO).map(|guard| guard.id),
            |pool| Task::new(pool.get_async_timeout(Duration::ZERO)).expect_ready().map(|guard| guard.id),
            |pool| Task::new(pool.get_owned_async_timeout(Duration::ZERO)).expect_ready().map(|guard| guard.id),
        ],
    }
}

fn every_door_opens<I: IdleSet>() {
    let database = super::database::Database::new();
    // What is configured must not decide where a time is given.
    let pool = options::<I>().max_size(1).acquire_timeout(HOUR).build(database.clone()).unwrap();
    let Doors { configured, hour, short, none } = doors::<I>();
    for door in configured.into_iter().chain(hour) {
        // Nothing is open at first, and later it is idle at once.
        assert_eq!(door(&pool).unwrap(), 1);
        // And here it comes back while somebody waits.
        let guard = pool.get().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| door(&pool));
            super::support::eventually("it waits", || pool.state().waiters == 1);
            drop(guard);
            assert_eq!(waiter.join().unwrap().unwrap(), 1);
        });
    }
    for door in short.into_iter().chain(none) {
        assert_eq!(door(&pool).unwrap(), 1);
    }
    settled(&pool, &database);
}

// 13
fn every_door_closes_in_its_time<I: IdleSet>() {
    let database = super::database::Database::new();
    let Doors { configured, short, .. } = doors::<I>();
    for (timeout, doors) in [(SHORT, configured), (HOUR, short)] {
        let pool = options::<I>().max_size(1).acquire_timeout(timeout).build(database.clone()).unwrap();
        // The first needs longer than SHORT on a busy machine.
        let guard = pool.get_timeout(HOUR).unwrap();
        for door in doors {
            let error = door(&pool).expect_err("the only connection is out");
            assert!(matches!(error, AcquireError::Exhausted { waited, .. } if waited >= SHORT), "{error}");
        }
        drop(guard);
        pool.close(HOUR).unwrap();
    }
}

// 14
fn a_zero_timeout_waits_at_no_door<I: IdleSet>() {
    let (pool, database) = super::support::pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let waits = pool.counters().waits;
    for door in doors::<I>().none {
        let error = door(&pool).expect_err("the only connection is out");
        assert!(matches!(error, AcquireError::Exhausted { waited, .. } if waited.is_zero()), "{error}");
    }
    assert_eq!((pool.counters().waits, pool.counters().failures), (waits, 6));
    let waiter = blocked(&pool);
    drop(guard);
    drop(waiter.join().unwrap().unwrap());
    settled(&pool, &database);
}

// 36
fn owned_guards_need_no_pool<I: IdleSet>() {
    let (pool, database) = super::support::pool_of::<I>(4);
    let guards = [
        pool.get_owned_timeout(HOUR).unwrap(),
        block_on(pool.get_owned_async_timeout(HOUR)).unwrap(),
        pool.get_owned().unwrap(),
    ];
    drop(pool.get().unwrap());
    let last = pool.try_get_owned().unwrap();
    drop(pool);
    std::thread::spawn(move || drop((guards, last))).join().unwrap();
    database.wait_until_open(0);
}

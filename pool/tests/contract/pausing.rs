//! Holding callers back, and letting them go on.

use std::time::Duration;

use pool::{AcquireError, Fairness, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, blocked, eventually, options, pool_of, settled, trying};
use super::tasks::{Task, block_on};

for_every_kind!(
    a_paused_pool_lends_nothing_and_says_so,
    loans_come_back_to_a_paused_pool,
    resuming_serves_the_line,
    resuming_wakes_a_task_for_each_connection,
    a_paused_pool_opens_nothing_for_its_waiters,
    a_paused_pool_keeps_min_idle,
    closing_a_paused_pool_fails_its_waiters,
    a_paused_pool_can_be_purged_and_resized,
    an_outage_during_a_pause_turns_nobody_away,
);

const SHORT: Duration = Duration::from_millis(25);
const POLICIES: [Fairness; 3] = [Fairness::Strict, Fairness::Bounded(Duration::from_micros(200)), Fairness::Free];

fn pool_with<I: IdleSet>(max_size: usize, fairness: Fairness) -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options().max_size(max_size).fairness(fairness).build(database.clone()).expect("good options");
    (pool, database)
}

fn a_paused_pool_lends_nothing_and_says_so<I: IdleSet>() {
    for fairness in POLICIES {
        let (pool, database) = pool_with::<I>(2, fairness);
        drop(pool.get().unwrap());
        assert!(!pool.is_paused() && !pool.state().is_paused);
        pool.pause();
        pool.pause();
        assert!(pool.is_paused() && pool.state().is_paused);
        assert!(pool.state().to_string().ends_with("; paused"), "{}", pool.state());
        let answers = [
            pool.try_get().map(|guard| guard.id),
            trying(&pool, SHORT).join().unwrap(),
            block_on(pool.get_async_timeout(SHORT)).map(|guard| guard.id),
        ];
        for (answer, least) in answers.into_iter().zip([Duration::ZERO, SHORT, SHORT]) {
            let error = answer.expect_err("the pool is paused");
            let AcquireError::Paused { waited, state } = &error else { panic!("{error}") };
            assert!(*waited >= least && state.idle == 1 && error.state() == Some(state), "{error}");
            assert!(error.to_string().contains("is paused"), "{error}");
        }
        pool.resume();
        assert!(!pool.is_paused());
        assert_eq!(pool.try_get().unwrap().id, 1);
        settled(&pool, &database);
    }
}

fn loans_come_back_to_a_paused_pool<I: IdleSet>() {
    for fairness in POLICIES {
        let (pool, database) = pool_with::<I>(2, fairness);
        let (first, mut second) = (pool.get().unwrap(), pool.get().unwrap());
        let mut waiter = Task::waiting(pool.get_async());
        pool.pause();
        first.used(|| ());
        drop(first);
        assert_eq!((pool.state().idle, pool.state().waiters), (1, 1));
        assert!(waiter.poll().is_pending(), "a connection was lent");
        second.is_dirty = true;
        drop(second);
        eventually("it is reset and idle", || pool.state().idle == 2);
        assert!(waiter.poll().is_pending(), "a connection was lent");
        pool.resume();
        drop(waiter.finish().unwrap());
        drop(waiter);
        settled(&pool, &database);
    }
}

fn resuming_serves_the_line<I: IdleSet>() {
    for fairness in POLICIES {
        let (pool, database) = pool_with::<I>(1, fairness);
        drop(pool.get().unwrap());
        pool.pause();
        let threads: Vec<_> = (0..3).map(|_| blocked(&pool)).collect();
        assert_eq!((pool.state().idle, pool.state().waiters), (1, 3));
        assert!(threads.iter().all(|thread| !thread.is_finished()));
        pool.resume();
        for thread in threads {
            drop(thread.join().unwrap().unwrap());
        }
        settled(&pool, &database);
    }
}

// 5: also when none of them is ever polled again.
fn resuming_wakes_a_task_for_each_connection<I: IdleSet>() {
    for fairness in POLICIES {
        let (pool, _database) = pool_with::<I>(3, fairness);
        drop([pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()]);
        pool.pause();
        let waiters: Vec<_> = (0..3).map(|_| Task::waiting(pool.get_async())).collect();
        pool.resume();
        assert!(waiters.iter().all(|waiter| waiter.bell.rings() == 1), "{fairness:?}");
    }
}

fn a_paused_pool_opens_nothing_for_its_waiters<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    pool.pause();
    let mut waiter = Task::waiting(pool.get_async());
    let thread = blocked(&pool);
    assert_eq!((database.asked(Call::Connect), pool.state().connecting), (0, 0));
    pool.resume();
    drop(waiter.finish().unwrap());
    drop(thread.join().unwrap().unwrap());
    drop(waiter);
    settled(&pool, &database);
}

// 32
fn a_paused_pool_keeps_min_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).min_idle(2).build(database.clone()).unwrap();
    let mut guard = pool.get().unwrap();
    pool.pause();
    guard.mark_broken();
    drop(guard);
    eventually("two are ready", || pool.state().idle == 2);
    pool.resume();
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 11
fn closing_a_paused_pool_fails_its_waiters<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    drop(pool.get().unwrap());
    pool.pause();
    let thread = blocked(&pool);
    let mut task = Task::waiting(pool.get_async());
    pool.close(super::support::EVENTUALLY).unwrap();
    assert!(thread.join().unwrap().is_err_and(|error| error.is_closed()));
    assert!(task.finish().is_err_and(|error| error.is_closed()));
    assert!(pool.get().is_err_and(|error| error.is_closed()));
    pool.resume();
    assert!(pool.get().is_err_and(|error| error.is_closed()));
    assert_eq!(database.counts().open, 0);
}

// 33, 34: what a pause is for.
fn a_paused_pool_can_be_purged_and_resized<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(2).capacity(3).build(database.clone()).unwrap();
    let lent = pool.get().unwrap();
    drop(pool.get().unwrap());
    pool.pause();
    let mut waiters: Vec<_> = (0..3).map(|_| Task::waiting(pool.get_owned_async())).collect();
    pool.purge();
    pool.resize(3).unwrap();
    drop(lent);
    database.wait_until_open(0);
    assert_eq!((database.counts().opened, pool.state().waiters), (2, 3));
    pool.resume();
    // All at once: there is room for three.
    let guards: Vec<_> = waiters.iter_mut().map(|waiter| waiter.finish().unwrap()).collect();
    assert!(guards.iter().all(|guard| guard.id > 2), "an old connection was lent");
    drop((guards, waiters));
    settled(&pool, &database);
}

// 21: a database that is down is what many pauses are for.
fn an_outage_during_a_pause_turns_nobody_away<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(2)
        .min_idle(1)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .fail_fast_after(Duration::ZERO)
        .build(database.clone())
        .unwrap();
    let mut guards = [pool.get().unwrap(), pool.get().unwrap()];
    pool.pause();
    let mut waiter = Task::waiting(pool.get_async());
    let thread = blocked(&pool);
    database.on(Call::Connect, Behaviour::Fails);
    guards.iter_mut().for_each(|guard| guard.mark_broken());
    drop(guards);
    let asked = database.asked(Call::Connect);
    database.wait_until_asked(Call::Connect, asked + 3);
    assert!(waiter.poll().is_pending() && !thread.is_finished());
    database.on(Call::Connect, Behaviour::Works);
    pool.resume();
    eventually("the outage is over", || !pool.state().is_breaker_open);
    // Between the resumption and the success waiters may still be told of the outage.
    let _ = (waiter.finish().map(drop), thread.join().unwrap().map(drop));
    drop(waiter);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

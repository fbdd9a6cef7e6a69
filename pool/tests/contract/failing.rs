//! What callers are told, and when.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, BuildError, ConnectError, IdleSet};

use super::database::{Behaviour, Call, Database, Fault};
use super::support::{TestPool, blocked, eventually, options, pool_of, settled, trying};
use super::tasks::{Task, block_on};

for_every_kind!(
    all_waiters_fail_at_close,
    a_failed_connect_lets_the_next_waiter_try,
    a_permanent_error_is_told_at_once,
    a_permanent_error_does_not_hide_connections_that_will_come_back,
    the_timeout_holds_when_nothing_is_idle,
    the_timeout_holds_when_connect_hangs,
    the_timeout_holds_when_validation_hangs,
    the_timeout_holds_when_close_hangs,
    the_error_says_exhausted_with_counts,
    exhausted_and_timed_out_are_told_apart,
    the_error_says_that_connecting_failed_and_why,
    the_error_says_timed_out_while_a_connect_is_under_way,
    the_error_says_closed,
    a_database_that_heals_in_the_middle_of_a_wait_serves_it,
    a_return_during_failing_connects_is_served,
    building_waits_for_the_first_connections,
    building_tells_a_permanent_error_at_once,
    building_ends_when_the_breaker_opens,
    building_tells_why_it_timed_out,
);

const SHORT: Duration = Duration::from_millis(25);

// 11
fn all_waiters_fail_at_close<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let threads: Vec<_> = (0..4).map(|_| blocked(&pool)).collect();
    let mut tasks: Vec<_> = (0..4).map(|_| Task::waiting(pool.get_async())).collect();
    pool.close(Duration::ZERO).expect_err("one is lent");
    for thread in threads {
        assert!(thread.join().unwrap().is_err_and(|error| error.is_closed()));
    }
    for task in &mut tasks {
        assert!(task.finish().is_err_and(|error| error.is_closed()));
    }
    assert!(pool.get().is_err_and(|error| error.is_closed()));
    assert!(pool.try_get().is_err_and(|error| error.is_closed()));
    assert!(block_on(pool.get_async()).is_err_and(|error| error.is_closed()));
    assert!(block_on(pool.get_owned_async()).is_err_and(|error| error.is_closed()));
    drop(tasks);
    assert_eq!(pool.state().waiters, 0);
    drop(guard);
}

// 12
fn a_failed_connect_lets_the_next_waiter_try<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(1)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .build(database.clone())
        .unwrap();
    for behaviour in [Behaviour::Fails, Behaviour::Panics] {
        database.on(Call::Connect, behaviour);
        let gone = Task::waiting(pool.get_async());
        let mut stays = Task::waiting(pool.get_async());
        let asked = database.asked(Call::Connect);
        database.wait_until_asked(Call::Connect, asked + 3);
        drop(gone);
        database.on(Call::Connect, Behaviour::Works);
        stays.finish().unwrap().mark_broken();
        drop(stays);
    }
    settled(&pool, &database);
}

// 12
fn a_permanent_error_is_told_at_once<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    database.on(Call::Connect, Behaviour::FailsForGood);
    let since = Instant::now();
    for answer in [pool.get().map(drop), block_on(pool.get_async()).map(drop)] {
        let error = answer.expect_err("the password is wrong");
        assert!(matches!(error.connect_error(), Some(ConnectError::Failed(fault)) if !fault.is_transient), "{error}");
    }
    assert!(since.elapsed() < super::support::EVENTUALLY, "the callers waited out their time");
    assert_eq!(pool.state().size, 0);
}

// 12
fn a_permanent_error_does_not_hide_connections_that_will_come_back<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get().unwrap();
    database.on(Call::Connect, Behaviour::FailsForGood);
    let waiter = blocked(&pool);
    database.wait_until_asked(Call::Connect, 2);
    eventually("the failure is known", || pool.counters().connect_failures > 0);
    drop(guard);
    assert_eq!(waiter.join().unwrap().unwrap().id, 1);
}

/// Both doors keep a caller no longer than he asked for, and no shorter.
#[track_caller]
fn times_out<I: IdleSet>(pool: &TestPool<I>) -> [AcquireError<Fault>; 2] {
    let since = Instant::now();
    let thread = trying(pool, SHORT);
    let task = block_on(pool.get_async_timeout(SHORT)).map(drop).expect_err("nothing can be had");
    let thread = thread.join().unwrap().map(drop).expect_err("nothing can be had");
    let waited = since.elapsed();
    assert!(waited >= SHORT, "gave up after {waited:?} of {SHORT:?}");
    assert_eq!(pool.state().waiters, 0);
    [thread, task]
}

// 13
fn the_timeout_holds_when_nothing_is_idle<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    times_out(&pool);
    drop(guard);
    settled(&pool, &database);
}

// 13
fn the_timeout_holds_when_connect_hangs<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    times_out(&pool);
    assert_eq!(database.inside(Call::Connect), 1);
    database.on(Call::Connect, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 13
fn the_timeout_holds_when_validation_hangs<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).validate_after_idle(Duration::ZERO).build(database.clone()).unwrap();
    drop(pool.get().unwrap());
    database.on(Call::Validate, Behaviour::Hangs);
    times_out(&pool);
    database.on(Call::Validate, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 13
fn the_timeout_holds_when_close_hangs<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Close, Behaviour::Hangs);
    pool.get().unwrap().mark_broken();
    database.wait_until_inside(Call::Close, 1);
    times_out(&pool);
    database.on(Call::Close, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 16
fn the_error_says_exhausted_with_counts<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(2);
    let _guards = (pool.get().unwrap(), pool.get().unwrap());
    for error in times_out(&pool) {
        let AcquireError::Exhausted { waited, state, .. } = &error else { panic!("{error}") };
        assert!(*waited >= SHORT && state.lent == 2 && state.max_size == 2, "{error}");
        let text = error.to_string();
        assert!(text.contains("no connection became free") && text.contains("2 lent"), "{text}");
        assert!(error.source().is_none() && error.state().is_some());
    }
    assert_eq!(pool.counters().failures, 2);
}

// 16
fn the_error_says_that_connecting_failed_and_why<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    database.on(Call::Connect, Behaviour::Fails);
    for error in times_out(&pool) {
        let AcquireError::ConnectFailed { waited, state, .. } = &error else { panic!("{error}") };
        assert!(*waited >= SHORT && state.lent == 0, "{error}");
        assert!(error.to_string().contains("refuses to Connect"), "{error}");
        let source = error.source().and_then(Error::source).expect("the manager's own error");
        assert_eq!(source.downcast_ref::<Fault>().map(|fault| fault.call), Some(Call::Connect));
    }
    database.on(Call::Connect, Behaviour::Panics);
    eventually("the panic is told", || {
        pool.get_timeout(SHORT).is_err_and(|error| error.to_string().contains("told to panic"))
    });
}

// 16
fn the_error_says_timed_out_while_a_connect_is_under_way<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    for error in times_out(&pool) {
        let AcquireError::TimedOut { state, .. } = &error else { panic!("{error}") };
        assert_eq!(state.connecting, 1);
        assert!(error.to_string().contains("1 connecting"), "{error}");
    }
    database.on(Call::Connect, Behaviour::Works);
}

// 16
fn the_error_says_closed<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    pool.close(Duration::ZERO).unwrap();
    let error = pool.get().expect_err("closed");
    assert!(error.is_closed() && error.state().is_none());
    assert_eq!(error.to_string(), "the pool is closed");
}

// 17
fn a_database_that_heals_in_the_middle_of_a_wait_serves_it<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(1)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(5))
        .build(database.clone())
        .unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let thread = blocked(&pool);
    let mut task = Task::waiting(pool.get_async());
    database.wait_until_asked(Call::Connect, 3);
    assert!(!thread.is_finished() && task.poll().is_pending());
    database.on(Call::Connect, Behaviour::Works);
    thread::scope(|scope| {
        // Whoever stands first is served first, so neither may wait for the other here.
        scope.spawn(|| drop(task.finish().unwrap()));
        drop(thread.join().unwrap().unwrap());
    });
    drop(task);
    settled(&pool, &database);
}

// 18
fn a_return_during_failing_connects_is_served<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get().unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let thread = blocked(&pool);
    database.wait_until_asked(Call::Connect, 2);
    drop(guard);
    assert_eq!(thread.join().unwrap().unwrap().id, 1);
    let guard = pool.get().unwrap();
    let mut task = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(task.expect_ready().unwrap().id, 1);
}

// 32
fn building_waits_for_the_first_connections<I: IdleSet>() {
    let database = Database::new();
    database.on(Call::Connect, Behaviour::Fails);
    let builder = options::<I>().max_size(5).min_idle(3).connect_backoff(Duration::from_millis(1), SHORT);
    let building = {
        let database = database.clone();
        thread::spawn(move || builder.build(database))
    };
    database.wait_until_asked(Call::Connect, 5);
    assert!(!building.is_finished());
    database.on(Call::Connect, Behaviour::Works);
    let pool = building.join().unwrap().unwrap();
    assert_eq!(pool.state().idle, 3);
    assert!(pool.try_get().is_ok());
}

// 16
fn building_tells_a_permanent_error_at_once<I: IdleSet>() {
    let database = Database::new();
    database.on(Call::Connect, Behaviour::FailsForGood);
    let error = options::<I>().max_size(2).min_idle(1).build(database.clone()).expect_err("the password is wrong");
    let BuildError::Connect(AcquireError::ConnectFailed { waited, .. }) = &error else { panic!("{error}") };
    assert!(*waited < super::support::EVENTUALLY, "it waited out its time");
    database.wait_until_open(0);
}

// 16
fn building_tells_why_it_timed_out<I: IdleSet>() {
    let database = Database::new();
    database.on(Call::Connect, Behaviour::Fails);
    let since = Instant::now();
    let error = options::<I>()
        .max_size(2)
        .min_idle(1)
        .acquire_timeout(SHORT)
        .build(database)
        .expect_err("the database is down");
    assert!(since.elapsed() >= SHORT);
    assert!(matches!(&error, BuildError::Connect(AcquireError::ConnectFailed { .. })), "{error}");
    assert!(error.to_string().contains("refuses to Connect"), "{error}");
}

// 16, 21, 32: waiting for the acquire timeout would take an hour.
fn building_ends_when_the_breaker_opens<I: IdleSet>() {
    let database = Database::new();
    database.on(Call::Connect, Behaviour::Fails);
    let error = options::<I>()
        .min_idle(2)
        .acquire_timeout(Duration::from_secs(3600))
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .fail_fast_after(SHORT)
        .build(database.clone())
        .map(drop)
        .expect_err("the database is down");
    let BuildError::Connect(AcquireError::ConnectFailed { source, state, .. }) = &error else { panic!("{error:?}") };
    assert!(matches!(**source, ConnectError::Failed(fault) if fault.call == Call::Connect), "{source:?}");
    assert!(state.is_breaker_open, "{state}");
    assert!(database.asked(Call::Connect) > 1, "it was not tried again");
}

// 16: the pool's size is to blame in one case, and the database in the other.
fn exhausted_and_timed_out_are_told_apart<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guards = [pool.get().unwrap(), pool.get().unwrap()];
    let asks = || {
        [
            pool.try_get().map(drop).expect_err("nothing is there"),
            pool.get_timeout(SHORT).map(drop).expect_err("nothing comes"),
            block_on(pool.get_async_timeout(SHORT)).map(drop).expect_err("nothing comes"),
            pool.get_owned_timeout(SHORT).map(drop).expect_err("nothing comes"),
        ]
    };
    for error in asks() {
        let AcquireError::Exhausted { state, .. } = &error else { panic!("all are lent, and {error:?}") };
        assert_eq!((state.lent, state.size), (2, 2));
        assert!(error.to_string().starts_with("no connection became free in"), "{error}");
    }
    // One of them is being reset; the other is lent.
    database.on(Call::Reset, Behaviour::Hangs);
    let [mut first, second] = guards;
    first.is_dirty = true;
    drop(first);
    database.wait_until_inside(Call::Reset, 1);
    for error in asks() {
        let AcquireError::TimedOut { state, last_failure: None, .. } = &error else {
            panic!("a reset hangs, {error:?}")
        };
        assert_eq!((state.lent, state.checking), (1, 1));
        assert!(error.to_string().starts_with("no connection was ready in"), "{error}");
    }
    database.on(Call::Reset, Behaviour::Works);
    let first = pool.get().unwrap();
    for error in asks() {
        assert!(matches!(error, AcquireError::Exhausted { .. }), "all are lent again, and {error:?}");
    }
    // One of them is being closed.
    database.on(Call::Close, Behaviour::Hangs);
    let mut first = first;
    first.mark_broken();
    drop(first);
    for error in asks() {
        assert!(matches!(error, AcquireError::TimedOut { last_failure: None, .. }), "a close hangs, and {error:?}");
    }
    database.on(Call::Close, Behaviour::Works);
    drop(second);
    settled(&pool, &database);
}

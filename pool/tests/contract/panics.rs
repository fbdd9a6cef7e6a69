//! A manager that panics costs the connection it was asked about, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pool::{AcquireError, ConnectError, IdleSet};

use super::database::{Behaviour, Call, Database, Fault};
use super::support::{blocked, eventually, lie_idle, options, pool_of, settled};
use super::tasks::{Task, block_on};

for_every_kind!(
    a_panic_in_connect_is_an_error_like_others,
    a_panic_in_is_transient_counts_as_transient_or_not_but_is_survived,
    a_panic_in_validation_discards,
    a_panic_in_reset_discards,
    a_panic_in_close_frees_the_slot,
    a_panic_in_a_look_at_checkout_discards,
    a_panic_in_a_look_at_checkout_does_not_lose_the_waiters,
    a_panic_in_a_look_at_checkout_gives_back_what_was_passed_over,
    a_panic_at_checkin_discards,
    a_panic_in_is_fatal_discards,
);

fn panics<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

// 26
fn a_panic_in_connect_is_an_error_like_others<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(1)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .build(database.clone())
        .unwrap();
    database.on(Call::Connect, Behaviour::Panics);
    pool.get_timeout(Duration::from_millis(30)).expect_err("connect panics");
    // A panic takes its time when it prints a backtrace.
    eventually("a failed connect", || pool.counters().connect_failures > 0);
    let error = pool.get_timeout(Duration::from_millis(30)).expect_err("connect panics");
    let AcquireError::ConnectFailed { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(&**source, ConnectError::Panicked(message) if message.contains("told to panic")), "{error}");
    database.on(Call::Connect, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 26
fn a_panic_in_is_transient_counts_as_transient_or_not_but_is_survived<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::IsTransient, Behaviour::Panics);
    database.on(Call::Connect, Behaviour::Fails);
    pool.get_timeout(Duration::from_millis(30)).expect_err("connect fails");
    eventually("the attempt has ended", || pool.state().connecting == 0);
    database.on(Call::Connect, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 26
fn a_panic_in_validation_discards<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).validate_after_idle(Duration::ZERO).build(database.clone()).unwrap();
    let guard = pool.get().unwrap();
    drop(guard);
    database.on(Call::Validate, Behaviour::Panics);
    let waiter = blocked(&pool);
    database.wait_until_asked(Call::Close, 1);
    database.on(Call::Validate, Behaviour::Works);
    assert!(waiter.join().unwrap().unwrap().id > 1);
    settled(&pool, &database);
}

// 26
fn a_panic_in_reset_discards<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Reset, Behaviour::Panics);
    pool.get().unwrap().is_dirty = true;
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 26
fn a_panic_in_close_frees_the_slot<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Close, Behaviour::Panics);
    pool.get().unwrap().mark_broken();
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
    pool.close(Duration::from_secs(5)).unwrap();
    assert_eq!(database.counts().open, 0);
}

// 26
fn a_panic_in_a_look_at_checkout_discards<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    for blocking in [true, false] {
        drop(pool.get().unwrap());
        database.on(Call::LooksAlive, Behaviour::Panics);
        // The caller's own thread asked, so the panic is the caller's.
        match blocking {
            true => assert!(panics(|| drop(pool.get()))),
            false => assert!(panics(|| drop(block_on(pool.get_async())))),
        }
        database.on(Call::LooksAlive, Behaviour::Works);
        assert_eq!(pool.state().waiters, 0);
    }
    assert_eq!(pool.get().unwrap().id, 3);
    settled(&pool, &database);
}

// 2, 26
fn a_panic_in_a_look_at_checkout_gives_back_what_was_passed_over<I: IdleSet>() {
    const SIZE: usize = 4;
    let window = Duration::from_millis(50);
    let database = Database::new();
    let pool = options::<I>()
        .max_size(SIZE)
        .min_idle(SIZE)
        .max_connecting(1)
        .idle_timeout(None)
        .validate_after_idle(window)
        .build(database.clone())
        .unwrap();
    let fresh = pool.get().unwrap();
    lie_idle(window);
    // One is being validated, two are due and must wait for that, and behind them is one to look at.
    database.on(Call::Validate, Behaviour::Hangs);
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Validate, 1);
    drop(waiter);
    drop(fresh);
    database.on(Call::LooksAlive, Behaviour::Panics);
    assert!(panics(|| drop(pool.try_get())));
    database.on(Call::LooksAlive, Behaviour::Works);
    database.on(Call::Validate, Behaviour::Works);
    let all: Vec<_> = (0..SIZE).map(|_| pool.get().expect("no slot was lost")).collect();
    drop(all);
    settled(&pool, &database);
}

// 7, 26
fn a_panic_in_a_look_at_checkout_does_not_lose_the_waiters<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut first = Task::waiting(pool.get_async());
    let mut second = Task::waiting(pool.get_async());
    drop(guard);
    first.bell.wait_for(1);
    database.on(Call::LooksAlive, Behaviour::Panics);
    assert!(panics(|| drop(first.poll())));
    database.on(Call::LooksAlive, Behaviour::Works);
    drop(first);
    assert_eq!(second.finish().unwrap().id, 2);
    drop(second);
    settled(&pool, &database);
}

// 26
fn a_panic_at_checkin_discards<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    for (round, call) in [Call::HasBroken, Call::IsDirty].into_iter().enumerate() {
        let guard = pool.get().unwrap();
        assert_eq!(guard.id, 1 + round as u64);
        database.on(call, Behaviour::Panics);
        assert!(panics(|| drop(guard)));
        database.on(call, Behaviour::Works);
    }
    assert_eq!(pool.get().unwrap().id, 3);
    settled(&pool, &database);
}

// 25, 26
fn a_panic_in_is_fatal_discards<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::IsFatal, Behaviour::Panics);
    assert!(panics(|| pool.get().unwrap().run(|_| Err::<(), _>(Fault::of_work(false)))));
    database.on(Call::IsFatal, Behaviour::Works);
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

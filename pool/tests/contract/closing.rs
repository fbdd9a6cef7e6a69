//! The end of a pool, and of a connection's time in it.

use std::thread;
use std::time::{Duration, Instant};

use pool::{IdleSet, Pool};

use super::database::{Behaviour, Call, Database};
use super::support::{EVENTUALLY, eventually, options, pool_of, settled};
use super::tasks::{Task, block_on};

for_every_kind!(
    close_waits_for_loans,
    close_reports_loans_at_its_deadline,
    close_may_be_called_again_and_from_many_threads,
    close_does_not_wait_for_ever_for_a_hanging_connect,
    close_closes_what_is_set_aside_too,
    a_connection_opened_during_close_is_closed,
    a_connection_returned_after_close_is_closed,
    dropping_the_pool_with_live_guards_is_safe,
    a_future_outlives_its_pool,
    dropping_the_last_handle_closes_everything,
    no_thread_is_left_behind,
    detach_frees_the_slot,
    detach_wakes_a_waiter,
    an_owned_guard_goes_anywhere,
    close_can_be_awaited,
    awaiting_close_ends_at_its_deadline,
    a_close_that_is_not_awaited_to_its_end_closes_all_the_same,
);

// 35
fn close_waits_for_loans<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get_owned().unwrap();
    drop(pool.get().unwrap());
    let closing = {
        let pool = pool.clone();
        thread::spawn(move || pool.close(EVENTUALLY))
    };
    eventually("it is closed to newcomers", || pool.is_closed());
    database.wait_until_open(1);
    assert!(!closing.is_finished(), "it did not wait for the loan");
    guard.used(|| ());
    drop(guard);
    closing.join().unwrap().unwrap();
    assert_eq!((database.counts().open, pool.state().size), (0, 0));
}

// 35
fn close_reports_loans_at_its_deadline<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get().unwrap();
    let (since, deadline) = (Instant::now(), Duration::from_millis(20));
    let error = pool.close(deadline).expect_err("one is lent");
    assert!(since.elapsed() >= deadline && error.waited >= deadline);
    assert_eq!(error.state.lent, 1);
    assert!(error.to_string().contains("1 lent"), "{error}");
    drop(guard);
    pool.close(EVENTUALLY).unwrap();
    assert_eq!(database.counts().open, 0);
}

// 35
fn close_may_be_called_again_and_from_many_threads<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| drop(pool.get()));
            scope.spawn(|| pool.close(EVENTUALLY).unwrap());
        }
    });
    pool.close(Duration::ZERO).unwrap();
    assert!(pool.get().is_err_and(|error| error.is_closed()));
    assert_eq!(database.counts().open, 0);
}

// 13, 35
fn close_does_not_wait_for_ever_for_a_hanging_connect<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    let error = pool.close(Duration::from_millis(20)).expect_err("a connect hangs");
    assert_eq!(error.state.connecting, 1);
    assert!(waiter.finish().is_err_and(|error| error.is_closed()));
    database.on(Call::Connect, Behaviour::Works);
    pool.close(EVENTUALLY).unwrap();
    assert_eq!(database.counts().open, 0);
}

// 35
fn close_closes_what_is_set_aside_too<I: IdleSet>() {
    let database = Database::new();
    // Beats come every 5 ms and set idle connections aside; none is old enough to be closed.
    let pool = options::<I>()
        .max_size(8)
        .min_idle(8)
        .validate_after_idle(Duration::from_millis(1))
        .build(database.clone())
        .unwrap();
    thread::sleep(Duration::from_millis(60));
    assert_eq!(pool.state().idle, 8);
    pool.close(EVENTUALLY).unwrap();
    assert_eq!((database.counts().open, pool.state().size), (0, 0));
}

// 35
fn a_connection_opened_during_close_is_closed<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    drop(waiter);
    drop(pool);
    database.on(Call::Connect, Behaviour::Works);
    database.wait_until_asked(Call::Close, 1);
    database.wait_until_open(0);
}

// 35
fn a_connection_returned_after_close_is_closed<I: IdleSet>() {
    for is_dirty in [false, true] {
        let (pool, database) = pool_of::<I>(1);
        let mut guard = pool.get().unwrap();
        pool.close(Duration::ZERO).expect_err("one is lent");
        guard.used(|| ());
        guard.is_dirty = is_dirty;
        drop(guard);
        database.wait_until_open(0);
        pool.close(EVENTUALLY).unwrap();
    }
}

// 36
fn dropping_the_pool_with_live_guards_is_safe<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(3);
    let guards: Vec<_> = (0..2).map(|_| pool.get_owned().unwrap()).collect();
    drop(pool.get().unwrap());
    let elsewhere = {
        let guard = block_on(pool.get_owned_async()).unwrap();
        thread::spawn(move || guard)
    };
    drop(pool);
    database.wait_until_open(3);
    let elsewhere = elsewhere.join().unwrap();
    for guard in guards.into_iter().chain([elsewhere]) {
        guard.used(|| ());
        drop(guard);
    }
    database.wait_until_open(0);
    assert_eq!(database.asked(Call::Close), 3);
}

// 36
fn a_future_outlives_its_pool<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get_owned().unwrap();
    let mut waiting = Task::waiting(pool.get_owned_async());
    let mut unpolled = Task::new(pool.get_owned_async());
    drop(pool);
    assert!(waiting.finish().is_err_and(|error| error.is_closed()));
    assert!(unpolled.finish().is_err_and(|error| error.is_closed()));
    drop(guard);
    database.wait_until_open(0);
}

// 36
fn dropping_the_last_handle_closes_everything<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(4).min_idle(4).build(database.clone()).unwrap();
    let other = pool.clone();
    drop(pool);
    assert!(!other.is_closed());
    drop(other.get().unwrap());
    drop(other);
    database.wait_until_open(0);
    assert_eq!(database.asked(Call::Close), 4);
}

/// Threads of this process by the beginning of their names, of which the system keeps 15 bytes.
pub fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    // A task that ends between the two reads has no name, and is gone.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

// 36
fn no_thread_is_left_behind<I: IdleSet>() {
    let name = format!("left-{}", &I::NAME[..5]);
    let database = Database::new();
    let pool = Pool::<Database, I>::builder()
        .name(name.clone())
        .max_size(6)
        .min_idle(6)
        .max_connecting(6)
        .build(database.clone())
        .unwrap();
    eventually("the upkeep thread has the pool's name", || threads_named(&name) >= 1);
    for _ in 0..6 {
        pool.get().unwrap().mark_broken();
    }
    let guard = pool.get_owned().unwrap();
    drop(pool);
    eventually("the pool's threads end although a guard lives", || threads_named(&name) == 0);
    drop(guard);
    database.wait_until_open(0);
    // Not at once: a thread that was started before the end has its name only when it runs.
    eventually("no thread is left", || threads_named(&name) == 0);
}

// 37
fn detach_frees_the_slot<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let connection = pool.get().unwrap().detach();
    assert_eq!((connection.id, pool.state().size), (1, 0));
    let owned = pool.get_owned().unwrap().detach();
    assert_eq!(owned.id, 2);
    assert_eq!(pool.get().unwrap().id, 3);
    drop((connection, owned));
    assert_eq!(database.asked(Call::Close), 0, "the pool closed what was not its own");
    database.wait_until_open(1);
}

// 9, 37
fn detach_wakes_a_waiter<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut waiter = Task::waiting(pool.get_async());
    let connection = guard.detach();
    assert_eq!(waiter.finish().unwrap().id, 2);
    assert_eq!(connection.id, 1);
}

fn an_owned_guard_goes_anywhere<I: IdleSet>() {
    fn is_static<T: Send + 'static>(value: T) -> T {
        value
    }
    let (pool, database) = pool_of::<I>(2);
    let mut first = is_static(pool.get_owned().unwrap());
    let mut second = is_static(block_on(is_static(pool.get_owned_async())).unwrap());
    assert_eq!(first.run(|connection| Ok(connection.id)), Ok(1));
    second.is_dirty = true;
    thread::spawn(move || drop((first, second))).join().unwrap();
    drop((pool.get().unwrap(), pool.get().unwrap()));
    assert_eq!(database.asked(Call::Reset), 1);
    settled(&pool, &database);
}

// 35
fn close_can_be_awaited<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get_owned().unwrap();
    // Its deadline would wake it, too, but not while this test has patience.
    let hour = Duration::from_secs(3600);
    let mut waiting = (Task::waiting(pool.close_async(hour)), Task::waiting(pool.close_async(hour)));
    assert!(pool.is_closed() && pool.get().is_err_and(|error| error.is_closed()));
    database.on(Call::Close, Behaviour::Hangs);
    drop(guard);
    database.wait_until_inside(Call::Close, 1);
    assert!(waiting.0.poll().is_pending(), "it did not wait for the connection to be closed");
    database.on(Call::Close, Behaviour::Works);
    waiting.0.bell.wait_for(1);
    waiting.0.finish().unwrap();
    waiting.1.bell.wait_for(1);
    waiting.1.finish().unwrap();
    assert_eq!((database.counts().open, pool.state().size), (0, 0));
    Task::new(pool.close_async(Duration::ZERO)).expect_ready().unwrap();
}

// 35
fn awaiting_close_ends_at_its_deadline<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get().unwrap();
    let since = Instant::now();
    let deadline = Duration::from_millis(20);
    let mut longer = Task::waiting(pool.close_async(Duration::from_secs(3600)));
    let error = block_on(pool.close_async(deadline)).expect_err("one is lent");
    assert!(error.waited >= deadline && since.elapsed() >= deadline && error.state.lent == 1, "{error}");
    assert!(longer.poll().is_pending());
    drop(guard);
    longer.finish().unwrap();
    assert_eq!(database.counts().open, 0);
}

// 35
fn a_close_that_is_not_awaited_to_its_end_closes_all_the_same<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let guard = pool.get().unwrap();
    drop(pool.close_async(EVENTUALLY));
    assert!(!pool.is_closed(), "futures do nothing unless polled");
    drop(Task::waiting(pool.close_async(EVENTUALLY)));
    assert!(pool.is_closed());
    drop(guard);
    database.wait_until_open(0);
}

//! Growing and shrinking while the pool is in use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pool::IdleSet;

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, blocked, eventually, options, settled};
use super::tasks::Task;

for_every_kind!(
    a_size_out_of_range_is_refused,
    growing_serves_those_who_wait,
    shrinking_closes_surplus_idle_connections_at_once,
    shrinking_closes_lent_ones_when_they_come_back,
    a_smaller_pool_lends_no_more_than_it_may,
    shrinking_and_growing_back_in_time_closes_nothing,
    shrinking_counts_connections_that_are_being_opened,
    min_idle_is_limited_by_the_present_size,
    what_is_dead_anyway_is_not_closed_twice,
    a_pool_that_is_resized_under_load_keeps_its_accounts,
);

fn pool_with_room<I: IdleSet>(max_size: usize, capacity: usize) -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options().max_size(max_size).capacity(capacity).build(database.clone()).expect("good options");
    (pool, database)
}

// 45
fn a_size_out_of_range_is_refused<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(2, 4);
    for size in [0, 5, usize::MAX] {
        let error = pool.resize(size).expect_err("out of range");
        assert_eq!(error.field, "max_size");
    }
    assert!(pool.resize(5).unwrap_err().problem.contains("fixed at 4"));
    assert_eq!(pool.state().max_size, 2);
    pool.resize(4).unwrap();
    let guards: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    assert_eq!(pool.state().lent, 4);
    drop(guards);
    settled(&pool, &database);
    // Without room of its own, a pool may shrink and grow back.
    let (pool, _database) = super::support::pool_of::<I>(2);
    assert!(pool.resize(3).is_err());
    pool.resize(1).unwrap();
    pool.resize(2).unwrap();
}

// 10
fn growing_serves_those_who_wait<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(1, 3);
    let guard = pool.get().unwrap();
    let thread = blocked(&pool);
    let mut task = Task::waiting(pool.get_owned_async());
    pool.resize(3).unwrap();
    let both = (thread.join().unwrap().unwrap(), task.finish().unwrap());
    assert_eq!((pool.state().lent, pool.state().max_size), (3, 3));
    drop((guard, both, task));
    settled(&pool, &database);
}

// 34
fn shrinking_closes_surplus_idle_connections_at_once<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(4, 4);
    let lent = pool.get().unwrap();
    drop([pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()]);
    assert_eq!(pool.state().idle, 3);
    pool.resize(2).unwrap();
    database.wait_until_open(2);
    assert_eq!((pool.state().lent, pool.state().max_size, pool.counters().surplus), (1, 2, 2));
    eventually("one is left beside it", || pool.state().idle == 1);
    drop(lent);
    assert_eq!(pool.state().idle, 2, "one too many was closed");
    settled_small(&pool, &database);
}

/// Like `settled`, for a pool that was larger once.
#[track_caller]
fn settled_small<I: IdleSet>(pool: &TestPool<I>, database: &Database) {
    eventually("the pool comes to rest", || {
        let state = pool.state();
        state.waiters == 0 && state.connecting + state.checking + state.closing == 0
    });
    let state = pool.state();
    assert_eq!(state.idle + state.lent, state.size, "{state}");
    assert!(state.size <= state.max_size, "{state}");
    assert_eq!(database.counts().open, state.size, "{state}");
    // Every slot that may be used still works, and no other.
    let guards: Vec<_> = (state.lent..state.max_size).map(|_| pool.get().unwrap()).collect();
    assert!(pool.try_get().is_err());
    drop(guards);
}

// 34
fn shrinking_closes_lent_ones_when_they_come_back<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(4, 4);
    let mut guards: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    pool.resize(2).unwrap();
    assert_eq!((pool.state().size, pool.state().lent, pool.state().max_size), (4, 4, 2));
    for left in [3, 2] {
        drop(guards.pop());
        database.wait_until_open(left);
    }
    for idle in [1, 2] {
        drop(guards.pop());
        eventually("it stays", || pool.state().idle == idle);
    }
    assert_eq!((pool.counters().surplus, database.asked(Call::Close)), (2, 2));
    settled_small(&pool, &database);
}

// 34
fn a_smaller_pool_lends_no_more_than_it_may<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(2, 2);
    let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
    let id = second.id;
    pool.resize(1).unwrap();
    let mut waiter = Task::waiting(pool.get_async());
    drop(first);
    database.wait_until_open(1);
    assert!(waiter.poll().is_pending() && pool.try_get().is_err(), "there is one too many");
    drop(second);
    assert_eq!(waiter.finish().unwrap().id, id);
    drop(waiter);
    settled_small(&pool, &database);
}

// 34
fn shrinking_and_growing_back_in_time_closes_nothing<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(4, 6);
    let guards: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    pool.resize(1).unwrap();
    pool.resize(6).unwrap();
    drop(guards);
    assert_eq!((pool.state().idle, database.asked(Call::Close)), (4, 0));
    settled_small(&pool, &database);
}

// 1, 34
fn shrinking_counts_connections_that_are_being_opened<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(3, 3);
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiters: Vec<_> = (0..3).map(|_| Task::waiting(pool.get_owned_async())).collect();
    database.wait_until_inside(Call::Connect, 3);
    pool.resize(1).unwrap();
    database.on(Call::Connect, Behaviour::Works);
    for waiter in &mut waiters {
        drop(waiter.finish().unwrap());
    }
    database.wait_until_open(1);
    assert_eq!(pool.counters().surplus, 2);
    drop(waiters);
    settled_small(&pool, &database);
}

// 29, 32
fn min_idle_is_limited_by_the_present_size<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).min_idle(3).build(database.clone()).unwrap();
    pool.resize(1).unwrap();
    database.wait_until_open(1);
    drop(pool.get().unwrap());
    assert_eq!(database.asked(Call::Connect), 3, "a pool of one cannot keep three ready");
    pool.resize(3).unwrap();
    eventually("as many are ready as at first", || pool.state().idle == 3);
    settled(&pool, &database);
}

// 2, 34: what leaves for another reason makes room, too.
fn what_is_dead_anyway_is_not_closed_twice<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(4, 4);
    let mut guards: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    database.on(Call::Close, Behaviour::Hangs);
    guards.pop().unwrap().mark_broken();
    let detached = guards.pop().unwrap().detach();
    database.wait_until_inside(Call::Close, 1);
    // Two are left, and one that is being closed.
    pool.resize(2).unwrap();
    drop(guards);
    assert_eq!((pool.state().idle, pool.counters().surplus), (2, 0));
    database.on(Call::Close, Behaviour::Works);
    drop(detached);
    settled_small(&pool, &database);
}

// 1, 2, 3, 34
fn a_pool_that_is_resized_under_load_keeps_its_accounts<I: IdleSet>() {
    let (pool, database) = pool_with_room::<I>(3, 6);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let resizing = scope.spawn(|| {
            let sizes = [1, 6, 2, 5, 4, 1, 3];
            for size in sizes.into_iter().cycle() {
                pool.resize(size).unwrap();
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                thread::yield_now();
            }
        });
        let users: Vec<_> = (0..5)
            .map(|user| {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..400 {
                        let mut guard = match (user + round) % 3 {
                            0 => super::tasks::block_on(pool.get_owned_async()).unwrap(),
                            _ => pool.get_owned().unwrap(),
                        };
                        guard.used(thread::yield_now);
                        match (user + round) % 11 {
                            0 => guard.mark_broken(),
                            1 => guard.is_dirty = true,
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        users.into_iter().for_each(|user| user.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        resizing.join().unwrap();
    });
    assert!(database.counts().most <= 6, "{} connections at once", database.counts().most);
    for size in [6, 2, 4] {
        pool.resize(size).unwrap();
        eventually("it fits", || pool.state().size <= size);
        settled_small(&pool, &database);
    }
}

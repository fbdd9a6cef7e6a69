//! How many connections there may be, and how fast they come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, Fairness, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{blocked, eventually, options, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    never_more_than_max_size_connections_are_open,
    connecting_ones_count_towards_the_limit,
    closing_ones_count_towards_the_limit,
    counts_add_up_when_all_is_quiet,
    a_connection_has_one_holder,
    a_spike_opens_few_and_none_after_the_demand_ends,
    callers_one_after_the_other_need_one_connection,
    a_check_that_hangs_keeps_nobody_from_a_new_connection,
    connects_are_limited_in_number,
    failing_connects_are_tried_one_at_a_time,
    failing_connects_back_off_with_jitter,
    a_caller_without_time_starts_no_connect,
    a_snapshot_never_shows_more_than_there_is,
    a_pool_of_one_group_more_than_a_word_finds_every_slot,
);

/// Loads a pool from several threads with everything that can happen to a connection.
fn churn<I: IdleSet>(pool: &pool::Pool<Database, I>, threads: usize, rounds: usize) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut guard = pool.get().unwrap();
                    guard.used(|| ());
                    match (thread + round) % 7 {
                        0 => guard.mark_broken(),
                        1 => drop(guard.detach()),
                        2 => guard.is_dirty = true,
                        3 => thread::yield_now(),
                        _ => {}
                    }
                }
            });
        }
    });
}

// 1
fn never_more_than_max_size_connections_are_open<I: IdleSet>() {
    // A detached connection is the holder's own and may be open beside its successor, so it is closed first here.
    let (pool, database) = pool_of::<I>(3);
    thread::scope(|scope| {
        for thread in 0..6 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..300 {
                    let mut guard = pool.get().unwrap();
                    guard.used(|| ());
                    if (thread + round) % 3 == 0 {
                        guard.mark_broken();
                    }
                }
            });
        }
    });
    settled(&pool, &database);
    assert!(database.counts().opened > 3, "nothing was replaced");
}

// 1
fn connecting_ones_count_towards_the_limit<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(2).max_connecting(5).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiters: Vec<_> = (0..5).map(|_| Task::waiting(pool.get_async())).collect();
    database.wait_until_inside(Call::Connect, 2);
    let state = pool.state();
    assert_eq!((state.connecting, state.size, state.waiters), (2, 2, 5));
    database.on(Call::Connect, Behaviour::Works);
    for waiter in &mut waiters {
        drop(waiter.finish().unwrap());
    }
    drop(waiters);
    assert_eq!(database.asked(Call::Connect), 2);
    settled(&pool, &database);
}

// 1
fn closing_ones_count_towards_the_limit<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let mut guard = pool.get().unwrap();
    database.on(Call::Close, Behaviour::Hangs);
    guard.mark_broken();
    drop(guard);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Close, 1);
    assert_eq!((pool.state().closing, database.asked(Call::Connect)), (1, 1));
    database.on(Call::Close, Behaviour::Works);
    assert_eq!(waiter.finish().unwrap().id, 2);
    drop(waiter);
    settled(&pool, &database);
}

// 2
fn counts_add_up_when_all_is_quiet<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(4);
    churn(&pool, 6, 300);
    eventually("the pool comes to rest", || {
        let state = pool.state();
        state.connecting + state.checking + state.closing == 0
    });
    let state = pool.state();
    assert_eq!((state.idle, state.lent, state.waiters), (state.size, 0, 0));
    assert_eq!(database.counts().open, state.size);
    assert_eq!(pool.counters().checkouts, 6 * 300);
    // Every slot still works.
    let guards: Vec<_> = (0..4).map(|_| pool.get().unwrap()).collect();
    assert_eq!(pool.state().lent, 4);
    drop(guards);
    settled_but_for_detached(&pool, &database);
}

fn settled_but_for_detached<I: IdleSet>(pool: &pool::Pool<Database, I>, database: &Database) {
    eventually("everything is idle", || pool.state().idle == pool.state().size);
    assert_eq!(database.counts().open, pool.state().size);
}

// 3
fn a_connection_has_one_holder<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(2);
    thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..2_000 {
                    // `used` fails when a connection has two holders.
                    match (thread + round) % 3 {
                        0 => drop(pool.try_get().map(|guard| guard.used(thread::yield_now))),
                        1 => super::tasks::block_on(pool.get_async()).unwrap().used(thread::yield_now),
                        _ => pool.get().unwrap().used(|| ()),
                    }
                }
            });
        }
    });
}

// 19
fn a_spike_opens_few_and_none_after_the_demand_ends<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(20).max_connecting(3).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Hangs);
    let waiters: Vec<_> = (0..50).map(|_| Task::waiting(pool.get_async())).collect();
    database.wait_until_inside(Call::Connect, 3);
    drop(waiters);
    database.on(Call::Connect, Behaviour::Works);
    eventually("the three are open", || pool.state().idle == 3);
    settled(&pool, &database);
    assert_eq!(database.asked(Call::Connect), 3, "connections were opened for nobody");
}

// 19
fn connects_are_limited_in_number<I: IdleSet>() {
    let database = Database::new();
    // Handed over, so that tasks that are not polled yet have what they waited for.
    let pool =
        options::<I>().max_size(10).max_connecting(2).fairness(Fairness::Strict).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiters: Vec<_> = (0..10).map(|_| Task::waiting(pool.get_async())).collect();
    for round in 0..5 {
        database.wait_until_asked(Call::Connect, 2 * (round + 1));
        eventually("two at a time", || database.inside(Call::Connect) == 2);
        assert_eq!(pool.state().connecting, 2);
        database.let_through(Call::Connect, 2);
    }
    let guards: Vec<_> = waiters.iter_mut().map(|waiter| waiter.finish().unwrap()).collect();
    assert_eq!(pool.state().lent, 10);
    drop((guards, waiters));
    settled(&pool, &database);
}

// 20
fn failing_connects_are_tried_one_at_a_time<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(10)
        .max_connecting(4)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .build(database.clone())
        .unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let mut waiters: Vec<_> = (0..10).map(|_| Task::waiting(pool.get_async())).collect();
    database.wait_until_asked(Call::Connect, 4 + 10);
    database.on(Call::Connect, Behaviour::Hangs);
    database.wait_until_inside(Call::Connect, 1);
    assert!(pool.state().connecting <= 1, "{}", pool.state());
    database.on(Call::Connect, Behaviour::Works);
    for waiter in &mut waiters {
        drop(waiter.finish().unwrap());
    }
    drop(waiters);
    settled(&pool, &database);
}

// 20: only "not sooner than" can be asserted of a pause.
fn failing_connects_back_off_with_jitter<I: IdleSet>() {
    let database = Database::new();
    let first = Duration::from_millis(8);
    let pool =
        options::<I>().max_size(1).connect_backoff(first, Duration::from_millis(64)).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_asked(Call::Connect, 6);
    let asked_at = database.asked_at(Call::Connect);
    for (attempt, pair) in asked_at.windows(2).enumerate() {
        let shortest = (first * (1 << attempt)).min(Duration::from_millis(64)) / 2;
        let pause = pair[1] - pair[0];
        assert!(pause >= shortest, "attempt {} came {pause:?} after the one before", attempt + 2);
    }
    drop(waiter);
}

// 15
fn a_caller_without_time_starts_no_connect<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let error = pool.try_get().expect_err("nothing is open");
    assert!(matches!(error, AcquireError::TimedOut { waited, .. } if waited.is_zero()), "{error}");
    assert!(pool.get_timeout(Duration::ZERO).is_err());
    assert!(Task::new(pool.get_async_timeout(Duration::ZERO)).expect_ready().is_err());
    assert_eq!(database.asked(Call::Connect), 0);
    assert_eq!(pool.counters().failures, 3);
}

// 39
fn a_snapshot_never_shows_more_than_there_is<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(3);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let state = pool.state();
                let sum = state.idle + state.lent + state.connecting + state.checking + state.closing;
                assert_eq!(sum, state.size, "{state}");
                assert!(state.size <= state.max_size && state.waiters <= 6, "{state}");
            }
        });
        churn(&pool, 6, 300);
        is_over.store(true, Ordering::Relaxed);
        watching.join().unwrap();
    });
}

// 2
fn a_pool_of_one_group_more_than_a_word_finds_every_slot<I: IdleSet>() {
    const SIZE: usize = 150;
    let database = Database::new();
    let pool = options::<I>().max_size(SIZE).max_connecting(8).min_idle(SIZE).build(database.clone()).unwrap();
    for _ in 0..3 {
        let guards: Vec<_> = (0..SIZE).map(|_| pool.get().unwrap()).collect();
        let mut ids: Vec<u64> = guards.iter().map(|guard| guard.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SIZE);
        assert!(pool.try_get().is_err());
        // Only the last one comes back, and is found.
        let mut guards = guards;
        let last = guards.pop().unwrap();
        let id = last.id;
        let waiter = blocked(&pool);
        drop(last);
        assert_eq!(waiter.join().unwrap().unwrap().id, id);
        let returned: Vec<_> = guards.drain(..40).collect();
        thread::scope(|scope| {
            for guard in returned {
                scope.spawn(move || drop(guard));
            }
        });
        guards.extend((0..41).map(|_| pool.try_get().expect("forty and one came back")));
        assert!(pool.try_get().is_err());
    }
    settled(&pool, &database);
}

/// Longer than this, and a pool no longer reckons with a connection that is being checked.
const CHECKED_WITHIN: Duration = Duration::from_millis(100);

// 19: what is validated or reset is about to come back, so nothing is opened in its stead.
fn callers_one_after_the_other_need_one_connection<I: IdleSet>() {
    for dirty in [false, true] {
        for _ in 0..20 {
            let database = Database::new();
            let window = (!dirty).then_some(Duration::ZERO);
            let pool = options::<I>().max_size(4).validate_after_idle(window).build(database.clone()).unwrap();
            let (mut longest, mut since) = (Duration::ZERO, Instant::now());
            for _ in 0..10 {
                pool.get().unwrap().is_dirty = dirty;
                // From one to the next, since a machine may stop this thread between them, too.
                let before = std::mem::replace(&mut since, Instant::now());
                longest = longest.max(since.duration_since(before));
            }
            // On a machine that stops the pool's threads for so long, the check seems to hang.
            assert!(database.asked(Call::Connect) == 1 || longest > CHECKED_WITHIN / 2, "{:?}", pool.counters());
            assert!(database.asked(if dirty { Call::Reset } else { Call::Validate }) >= 9);
        }
    }
}

// 13
fn a_check_that_hangs_keeps_nobody_from_a_new_connection<I: IdleSet>() {
    let window = Duration::from_millis(300);
    for hanging in [Call::Validate, Call::Reset] {
        let database = Database::new();
        let pool = options::<I>().max_size(2).validate_after_idle(window).build(database.clone()).unwrap();
        database.on(hanging, Behaviour::Hangs);
        pool.get().unwrap().is_dirty = hanging == Call::Reset;
        if hanging == Call::Validate {
            super::support::lie_idle(window);
        }
        let mut waiter = Task::waiting(pool.get_async());
        database.wait_until_inside(hanging, 1);
        assert_eq!(waiter.finish().unwrap().id, 2);
        drop(waiter);
        database.on(hanging, Behaviour::Works);
        settled(&pool, &database);
    }
}

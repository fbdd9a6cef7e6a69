//! The line: who is served, in which order, and that nobody is forgotten.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use pool::{AcquireError, Fairness, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, blocked, eventually, options, pool_of, settled};
use super::tasks::{Bell, Task};

for_every_kind!(
    fair_mode_serves_in_order_of_arrival,
    a_newcomer_cannot_overtake_in_fair_mode,
    a_waiter_past_its_bound_is_not_overtaken,
    a_waiter_within_its_bound_may_be_overtaken,
    free_mode_lets_newcomers_overtake_and_wakes_the_oldest,
    an_idle_connection_and_a_waiter_never_coexist,
    one_return_wakes_one_waiter,
    several_returns_wake_as_many_tasks,
    the_last_waker_wins,
    zero_timeout_means_try,
    try_get_takes_what_is_idle_and_nothing_else,
    blocking_and_async_waiters_share_one_queue,
    many_tasks_and_threads_share_three_connections,
    many_threads_share_three_connections,
    a_task_that_is_woken_but_never_polled_starves_nobody,
    a_waker_may_use_the_pool,
    a_waiter_whose_connection_proves_dead_keeps_its_turn,
    an_endless_timeout_waits,
);

/// A pool with one connection, which is lent out.
fn exhausted<I: IdleSet>(fairness: Fairness) -> (TestPool<I>, Database, pool::OwnedGuard<Database, I>) {
    let database = Database::new();
    let pool = options::<I>().max_size(1).fairness(fairness).build(database.clone()).unwrap();
    let guard = pool.get_owned().unwrap();
    (pool, database, guard)
}

const HOUR: Duration = Duration::from_secs(3600);

// 4, 41
fn fair_mode_serves_in_order_of_arrival<I: IdleSet>() {
    let (pool, database, guard) = exhausted::<I>(Fairness::Strict);
    let handed_before = pool.counters().handoffs;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for turn in 0..12 {
        let before = pool.state().waiters;
        let (pool_of_caller, order) = (pool.clone(), Arc::clone(&order));
        callers.push(thread::spawn(move || {
            // Threads and tasks take turns.
            let guard = match turn % 2 {
                0 => pool_of_caller.get_owned(),
                _ => super::tasks::block_on(pool_of_caller.get_owned_async()),
            };
            let guard = guard.unwrap();
            order.lock().unwrap().push(turn);
            drop(guard);
        }));
        eventually("the next caller stands in line", || pool.state().waiters > before);
    }
    drop(guard);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(*order.lock().unwrap(), (0..12).collect::<Vec<_>>());
    assert_eq!(pool.counters().handoffs - handed_before, 12);
    settled(&pool, &database);
}

// 4
fn a_newcomer_cannot_overtake_in_fair_mode<I: IdleSet>() {
    let (pool, _database, guard) = exhausted::<I>(Fairness::Strict);
    let mut first = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(first.bell.rings(), 1);
    assert!(matches!(pool.try_get(), Err(AcquireError::Exhausted { .. })), "a newcomer got what was handed over");
    let mut second = Task::waiting(pool.get_async());
    drop(first.expect_ready().unwrap());
    drop(second.expect_ready().unwrap());
}

// 4
fn a_waiter_past_its_bound_is_not_overtaken<I: IdleSet>() {
    let (pool, _database, guard) = exhausted::<I>(Fairness::Bounded(Duration::ZERO));
    let handed_before = pool.counters().handoffs;
    let mut waiter = Task::waiting(pool.get_async());
    drop(guard);
    assert!(pool.try_get().is_err(), "a newcomer overtook a waiter past its bound");
    assert_eq!(waiter.bell.rings(), 1);
    drop(waiter.expect_ready().unwrap());
    assert_eq!(pool.counters().handoffs - handed_before, 1);
}

// 4
fn a_waiter_within_its_bound_may_be_overtaken<I: IdleSet>() {
    let (pool, _database, guard) = exhausted::<I>(Fairness::Bounded(HOUR));
    let mut waiter = Task::waiting(pool.get_async());
    drop(guard);
    let overtaking = pool.try_get().expect("within the bound, whoever comes first is served");
    assert_eq!(waiter.bell.rings(), 1);
    assert!(waiter.poll().is_pending());
    drop(overtaking);
    assert_eq!(waiter.bell.rings(), 2);
    drop(waiter.expect_ready().unwrap());
    assert_eq!(pool.counters().handoffs, 0);
}

// 4
fn free_mode_lets_newcomers_overtake_and_wakes_the_oldest<I: IdleSet>() {
    let (pool, _database, guard) = exhausted::<I>(Fairness::Free);
    let mut first = Task::waiting(pool.get_async());
    let mut second = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!((first.bell.rings(), second.bell.rings()), (1, 0));
    drop(pool.try_get().expect("free means free"));
    drop(first.expect_ready().unwrap());
    drop(second.finish().unwrap());
    assert_eq!(pool.counters().handoffs, 0);
}

// 5: a return races with a waiter that registers, looks again and goes to sleep.
fn an_idle_connection_and_a_waiter_never_coexist<I: IdleSet>() {
    for fairness in [Fairness::Strict, Fairness::default(), Fairness::Free] {
        let database = Database::new();
        let pool = options::<I>().max_size(1).fairness(fairness).build(database).unwrap();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            const ROUNDS: usize = 500;
            let returning = scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let guard = pool.get().unwrap();
                    start.wait();
                    drop(guard);
                    start.wait();
                    start.wait();
                }
            });
            for round in 0..ROUNDS {
                start.wait();
                let mut waiter = Task::new(pool.get_async());
                let early = waiter.poll();
                start.wait();
                // All is quiet: the connection is idle, or the waiter knows about it.
                match early {
                    Poll::Ready(guard) => drop(guard.unwrap()),
                    Poll::Pending => {
                        assert!(waiter.bell.rings() > 0, "round {round}: asleep beside an idle connection");
                        drop(waiter.expect_ready().unwrap());
                    }
                }
                drop(waiter);
                start.wait();
            }
            returning.join().unwrap();
        });
    }
}

// 6
fn one_return_wakes_one_waiter<I: IdleSet>() {
    for fairness in [Fairness::Strict, Fairness::Bounded(HOUR), Fairness::Bounded(Duration::ZERO), Fairness::Free] {
        let (pool, _database, guard) = exhausted::<I>(fairness);
        let mut waiters: Vec<_> = (0..5).map(|_| Task::waiting(pool.get_async())).collect();
        drop(guard);
        for turn in 0..5 {
            let rings: Vec<usize> = waiters.iter().map(|waiter| waiter.bell.rings()).collect();
            let expected: Vec<usize> = (0..5).map(|other| usize::from(other <= turn)).collect();
            assert_eq!(rings, expected, "{fairness:?}, after {} returns", turn + 1);
            drop(waiters[turn].expect_ready().unwrap());
        }
    }
}

// 6
fn several_returns_wake_as_many_tasks<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(3);
    let guards: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    let mut waiters: Vec<_> = (0..3).map(|_| Task::waiting(pool.get_async())).collect();
    drop(guards);
    for waiter in &waiters {
        assert_eq!(waiter.bell.rings(), 1);
    }
    let guards: Vec<_> = waiters.iter_mut().map(|waiter| waiter.expect_ready().unwrap()).collect();
    assert_eq!(pool.state().lent, 3);
    drop(guards);
}

// 8
fn the_last_waker_wins<I: IdleSet>() {
    for fairness in [Fairness::Strict, Fairness::Free] {
        let (pool, _database, guard) = exhausted::<I>(fairness);
        let mut waiter = Task::waiting(pool.get_async());
        let latest = Arc::new(Bell::default());
        assert!(waiter.poll_with(&Waker::from(Arc::clone(&latest))).is_pending());
        drop(guard);
        assert_eq!((waiter.bell.rings(), latest.rings()), (0, 1), "{fairness:?}: the first waker was rung");
        drop(waiter.expect_ready().unwrap());
    }
}

// 14
fn zero_timeout_means_try<I: IdleSet>() {
    let (pool, database, guard) = exhausted::<I>(Fairness::default());
    for answer in [
        pool.try_get().map(drop),
        pool.get_timeout(Duration::ZERO).map(drop),
        Task::new(pool.get_async_timeout(Duration::ZERO)).expect_ready().map(drop),
    ] {
        let error = answer.expect_err("the only connection is lent");
        assert!(
            matches!(error, AcquireError::Exhausted { waited, .. } if waited.is_zero()),
            "{error}: it should not have waited"
        );
    }
    assert_eq!(pool.state().waiters, 0);
    drop(guard);
    drop(pool.get_timeout(Duration::ZERO).expect("idle connections are for the taking"));
    drop(Task::new(pool.get_async_timeout(Duration::ZERO)).expect_ready().expect("the same"));
    settled(&pool, &database);
}

// 14, 15
fn try_get_takes_what_is_idle_and_nothing_else<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    assert!(pool.try_get().is_err());
    assert_eq!(database.asked(Call::Connect), 0, "try_get started a connect");
    let first = pool.get().unwrap();
    assert!(pool.try_get().is_err());
    drop(first);
    assert_eq!(pool.try_get().expect("one is idle").id, 1);
    assert_eq!(database.asked(Call::Connect), 1);
}

// 41
fn blocking_and_async_waiters_share_one_queue<I: IdleSet>() {
    let (pool, database, guard) = exhausted::<I>(Fairness::Strict);
    let mut first = Task::waiting(pool.get_async());
    let second = blocked(&pool);
    let mut third = Task::waiting(pool.get_async());
    assert_eq!(pool.state().waiters, 3);
    drop(guard);
    let guard = first.expect_ready().unwrap();
    assert!(!second.is_finished() && third.bell.rings() == 0);
    drop(guard);
    let guard = second.join().unwrap().unwrap();
    assert_eq!(third.bell.rings(), 0);
    drop(guard);
    drop(third.expect_ready().unwrap());
    drop((first, third));
    settled(&pool, &database);
}

// 43
fn many_tasks_and_threads_share_three_connections<I: IdleSet>() {
    const TASKS: usize = 25_000;
    let (pool, database) = pool_of::<I>(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..50)
        .map(|_| {
            let (pool, served) = (pool.clone(), Arc::clone(&served));
            thread::spawn(move || {
                let guard = pool.get().unwrap();
                guard.used(|| served.fetch_add(1, Ordering::Relaxed));
            })
        })
        .collect();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (pool, served) = (pool.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    let guard = pool.get_owned_async().await.unwrap();
                    tokio::task::yield_now().await;
                    guard.used(|| served.fetch_add(1, Ordering::Relaxed));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(served.load(Ordering::Relaxed), TASKS + 50);
    settled(&pool, &database);
}

// 43
fn many_threads_share_three_connections<I: IdleSet>() {
    const THREADS: usize = 400;
    let (pool, database) = pool_of::<I>(3);
    let guards: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn_scoped(scope, || {
                    for _ in 0..3 {
                        pool.get().unwrap().used(thread::yield_now);
                    }
                })
                .unwrap();
        }
        eventually("a long line", || pool.state().waiters > THREADS / 2);
        drop(guards);
    });
    assert_eq!(pool.counters().checkouts as usize, 3 + 3 * THREADS);
    settled(&pool, &database);
}

// 7: the wake lies with a task that will not use it; the pool does not wait for it for ever.
fn a_task_that_is_woken_but_never_polled_starves_nobody<I: IdleSet>() {
    let database = Database::new();
    // Nothing is ever set aside, so only the look that the upkeep thread has for this case can help.
    let pool = options::<I>().max_size(1).idle_timeout(None).fairness(Fairness::Free).build(database).unwrap();
    let guard = pool.get().unwrap();
    let sleepy = Task::waiting(pool.get_async());
    let mut next = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(sleepy.bell.rings(), 1);
    next.bell.wait_for(1);
    drop(next.expect_ready().unwrap());
    let thread = blocked(&pool);
    drop(thread.join().unwrap().unwrap());
}

// 23
fn a_waker_may_use_the_pool<I: IdleSet>() {
    struct Curious<I: IdleSet> {
        pool: TestPool<I>,
        woken: AtomicUsize,
    }
    impl<I: IdleSet> Wake for Curious<I> {
        fn wake(self: Arc<Self>) {
            let _ = (self.pool.state(), self.pool.counters());
            drop(self.pool.try_get());
            drop(Task::new(self.pool.get_async_timeout(HOUR)).poll());
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
    }
    for fairness in [Fairness::Strict, Fairness::Free] {
        let (pool, _database, guard) = exhausted::<I>(fairness);
        let mut waiter = Task::new(pool.get_async());
        let curious = Arc::new(Curious { pool: pool.clone(), woken: AtomicUsize::new(0) });
        assert!(waiter.poll_with(&Waker::from(Arc::clone(&curious))).is_pending());
        drop(guard);
        assert!(curious.woken.load(Ordering::Relaxed) > 0);
        drop(waiter.finish().unwrap());

        let guard = pool.get_owned().unwrap();
        let mut waiter = Task::new(pool.get_async());
        assert!(waiter.poll_with(&Waker::from(Arc::clone(&curious))).is_pending());
        pool.close(Duration::ZERO).expect_err("one is lent");
        assert!(matches!(waiter.finish(), Err(AcquireError::Closed)));
        drop(guard);
    }
}

// 4, 25
fn a_waiter_whose_connection_proves_dead_keeps_its_turn<I: IdleSet>() {
    let (pool, database, guard) = exhausted::<I>(Fairness::Strict);
    let mut first = Task::waiting(pool.get_async());
    let mut second = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(first.bell.rings(), 1);
    database.on(Call::Connect, Behaviour::Hangs);
    database.kill_connections();
    assert!(first.poll().is_pending(), "a dead connection was lent");
    database.wait_until_inside(Call::Connect, 1);
    database.on(Call::Connect, Behaviour::Works);
    let guard = first.finish().unwrap();
    assert_eq!((guard.id, second.bell.rings()), (2, 0));
    drop(guard);
    drop(second.expect_ready().unwrap());
}

// 13, 45
fn an_endless_timeout_waits<I: IdleSet>() {
    let (pool, database, guard) = exhausted::<I>(Fairness::default());
    let blocked = {
        let pool = pool.clone();
        thread::spawn(move || pool.get_timeout(Duration::MAX).map(drop))
    };
    let mut waiter = Task::waiting(pool.get_async_timeout(Duration::MAX));
    eventually("both wait", || pool.state().waiters == 2);
    drop(guard);
    drop(waiter.finish().unwrap());
    blocked.join().expect("no overflow").unwrap();
    pool.close(Duration::MAX).unwrap();
    drop(waiter);
    assert_eq!(database.counts().open, 0);
}

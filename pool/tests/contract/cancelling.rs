//! Acquires that are given up, at every point where one can be.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, Fairness, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{eventually, options, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    a_cancelled_waiter_passes_its_wake_on,
    a_cancelled_waiter_passes_its_wake_on_to_a_thread,
    a_cancelled_waiter_passes_its_connection_on,
    a_cancelled_waiter_gives_its_connection_back_when_nobody_waits,
    a_waiter_cancelled_in_the_middle_of_the_line_is_forgotten,
    a_timed_out_task_passes_its_wake_on,
    timed_out_threads_pass_their_wakes_on,
    cancelling_does_not_cancel_the_connect,
    a_future_that_is_never_polled_costs_nothing,
    cancelling_at_every_point_keeps_the_counts_right,
    two_hundred_thousand_cancelled_acquires_leave_no_trace,
);

// 7
fn a_cancelled_waiter_passes_its_wake_on<I: IdleSet>() {
    for fairness in [Fairness::default(), Fairness::Free] {
        let database = Database::new();
        let pool = options::<I>().max_size(1).fairness(fairness).build(database.clone()).unwrap();
        let guard = pool.get().unwrap();
        let first = Task::waiting(pool.get_async());
        let mut second = Task::waiting(pool.get_async());
        drop(guard);
        assert_eq!((first.bell.rings(), second.bell.rings()), (1, 0));
        drop(first);
        assert_eq!(second.bell.rings(), 1, "{fairness:?}: the wake died with the cancelled waiter");
        drop(second.expect_ready().unwrap());
        settled(&pool, &database);
    }
}

// 7, 41
fn a_cancelled_waiter_passes_its_wake_on_to_a_thread<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let first = Task::waiting(pool.get_async());
    let second = super::support::blocked(&pool);
    drop(guard);
    drop(first);
    drop(second.join().unwrap().unwrap());
    settled(&pool, &database);
}

// 7
fn a_cancelled_waiter_passes_its_connection_on<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).fairness(Fairness::Strict).build(database.clone()).unwrap();
    let guard = pool.get().unwrap();
    let first = Task::waiting(pool.get_async());
    let mut second = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!((first.bell.rings(), second.bell.rings()), (1, 0));
    drop(first);
    assert_eq!(second.bell.rings(), 1, "the connection was lost with the cancelled waiter");
    drop(second.expect_ready().unwrap());
    settled(&pool, &database);
}

// 7
fn a_cancelled_waiter_gives_its_connection_back_when_nobody_waits<I: IdleSet>() {
    for fairness in [Fairness::Strict, Fairness::default(), Fairness::Free] {
        let database = Database::new();
        let pool = options::<I>().max_size(1).fairness(fairness).build(database.clone()).unwrap();
        let guard = pool.get().unwrap();
        let waiter = Task::waiting(pool.get_async());
        drop(guard);
        drop(waiter);
        assert_eq!(pool.state().idle, 1);
        drop(pool.try_get().expect("it is idle again"));
        settled(&pool, &database);
    }
}

// 7
fn a_waiter_cancelled_in_the_middle_of_the_line_is_forgotten<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).fairness(Fairness::Strict).build(database.clone()).unwrap();
    for cancelled in 0..4 {
        let guard = pool.get().unwrap();
        let mut waiters: Vec<_> = (0..4).map(|_| Task::waiting(pool.get_async())).collect();
        let gone = waiters.remove(cancelled);
        drop(gone);
        assert_eq!(pool.state().waiters, 3);
        drop(guard);
        for waiter in &mut waiters {
            drop(waiter.expect_ready().unwrap());
        }
    }
    settled(&pool, &database);
}

// 7: the task is woken, another caller is faster, the time runs out, and the task says so.
fn a_timed_out_task_passes_its_wake_on<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).fairness(Fairness::Free).build(database.clone()).unwrap();
    let guard = pool.get().unwrap();
    let timeout = Duration::from_millis(20);
    let (mut hasty, since) = (Task::waiting(pool.get_async_timeout(timeout)), Instant::now());
    let mut patient = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(hasty.bell.rings(), 1);
    let faster = pool.try_get().unwrap();
    while since.elapsed() <= timeout {
        thread::yield_now();
    }
    assert!(matches!(hasty.expect_ready(), Err(AcquireError::Exhausted { .. })));
    drop(faster);
    patient.bell.wait_for(1);
    drop(patient.expect_ready().unwrap());
    drop((hasty, patient));
    settled(&pool, &database);
}

// 7: returns race with timeouts; a patient caller behind the hasty ones is always served.
fn timed_out_threads_pass_their_wakes_on<I: IdleSet>() {
    for fairness in [Fairness::Strict, Fairness::default(), Fairness::Free] {
        let database = Database::new();
        let pool = options::<I>().max_size(1).fairness(fairness).build(database.clone()).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for hasty in 0..3 {
                let (pool, is_over) = (&pool, &is_over);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        match pool.get_timeout(Duration::from_micros(50 + 30 * hasty)) {
                            Ok(connection) => connection.used(thread::yield_now),
                            Err(AcquireError::Exhausted { .. } | AcquireError::TimedOut { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            // With a check of its own, so that the others end when this one fails.
            let patient = scope.spawn(|| {
                for _ in 0..300 {
                    if pool.get().is_err() {
                        return false;
                    }
                }
                true
            });
            let served = patient.join().unwrap();
            is_over.store(true, Ordering::Relaxed);
            assert!(served, "{fairness:?}: a patient caller timed out");
        });
        settled(&pool, &database);
    }
}

// 12, 19
fn cancelling_does_not_cancel_the_connect<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    drop(waiter);
    assert_eq!((pool.state().waiters, pool.state().connecting), (0, 1));
    database.on(Call::Connect, Behaviour::Works);
    eventually("the connection is there for whoever comes", || pool.state().idle == 1);
    assert_eq!(pool.try_get().unwrap().id, 1);
}

fn a_future_that_is_never_polled_costs_nothing<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let future = pool.get_async();
    let owned = pool.get_owned_async();
    assert_eq!(pool.state().waiters, 0);
    drop((future, owned));
    assert_eq!((database.asked(Call::Connect), pool.counters().waits), (0, 0));
}

/// What an acquire needs may come, fail, come late or never; and the acquire may be dropped before or after.
// 7, 12, 13, 26
fn cancelling_at_every_point_keeps_the_counts_right<I: IdleSet>() {
    use Behaviour::{Fails, Hangs, Panics, Works};
    for call in [Call::Connect, Call::Validate, Call::Reset, Call::Close] {
        for behaviour in [Works, Fails, Hangs, Panics] {
            for polls in 0..3 {
                let database = Database::new();
                let pool = options::<I>()
                    .max_size(1)
                    .validate_after_idle(Duration::ZERO)
                    .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
                    .build(database.clone())
                    .unwrap();
                if call != Call::Connect {
                    // A connection that needs the call in question before anybody can have another one.
                    let mut guard = pool.get().unwrap();
                    guard.is_dirty = call == Call::Reset;
                    guard.is_broken = call == Call::Close;
                    database.on(call, behaviour);
                } else {
                    database.on(call, behaviour);
                }
                let mut waiter = Task::new(pool.get_async());
                for _ in 0..polls {
                    if waiter.poll().is_ready() {
                        break;
                    }
                }
                if behaviour == Hangs && polls > 0 {
                    // A task that is rung looks again.
                    eventually("the call hangs", || waiter.poll().is_pending() && database.inside(call) == 1);
                }
                drop(waiter);
                assert_eq!(pool.state().waiters, 0, "{call:?} {behaviour:?}");
                database.on(call, Works);
                drop(pool.get().unwrap_or_else(|error| panic!("after {call:?} {behaviour:?}, {polls} polls: {error}")));
                settled(&pool, &database);
            }
        }
    }
}

// 7
fn two_hundred_thousand_cancelled_acquires_leave_no_trace<I: IdleSet>() {
    const THREADS: usize = 4;
    let (pool, database) = pool_of::<I>(2);
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..200_000 / THREADS {
                    let mut first = Task::new(pool.get_async());
                    let mut second = Task::new(pool.get_async());
                    let mut third = Task::new(pool.get_async());
                    let polled = (first.poll(), second.poll(), third.poll());
                    drop((second, first, third));
                    drop(polled);
                    if pool.is_closed() {
                        return;
                    }
                }
            });
        }
    });
    assert_eq!(pool.state().waiters, 0);
    drop((pool.get().unwrap(), pool.get().unwrap()));
    settled(&pool, &database);
}

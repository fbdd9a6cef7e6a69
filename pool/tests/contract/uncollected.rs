//! Tasks that are handed a connection and do not come for it.

use std::time::Duration;

use pool::{Fairness, IdleSet};

use super::database::Database;
use super::support::{TestPool, acquiring, blocked, eventually, options, settled};
use super::tasks::Task;

for_every_kind!(
    a_connection_left_lying_goes_to_the_next,
    nothing_is_handed_twice_to_a_task_that_does_not_come,
    a_task_that_comes_late_keeps_its_turn,
    a_task_that_is_dropped_late_leaves_no_trace,
    a_task_whose_time_was_up_is_no_exception,
    several_that_do_not_come_keep_their_order,
);

/// With a pool in which every connection is handed over.
fn strict<I: IdleSet>(max_size: usize) -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options().max_size(max_size).fairness(Fairness::Strict).build(database.clone()).expect("good options");
    (pool, database)
}

// 5, 7
fn a_connection_left_lying_goes_to_the_next<I: IdleSet>() {
    let (pool, database) = strict::<I>(1);
    let guard = pool.get().unwrap();
    let mut absent = Task::waiting(pool.get_async());
    let mut task = Task::waiting(pool.get_async());
    let thread = blocked(&pool);
    drop(guard);
    assert_eq!((absent.bell.rings(), task.bell.rings()), (1, 0), "it was not handed to the first");
    drop(task.finish().unwrap());
    drop(thread.join().unwrap().unwrap());
    // It has not been forgotten.
    drop(absent.finish().unwrap());
    drop((absent, task));
    settled(&pool, &database);
}

// 4: each time would cost the time that a connection may be left lying.
fn nothing_is_handed_twice_to_a_task_that_does_not_come<I: IdleSet>() {
    let (pool, database) = strict::<I>(1);
    let guard = pool.get().unwrap();
    let absent = Task::waiting(pool.get_async());
    drop(guard);
    for _ in 0..400 {
        drop(pool.get().unwrap());
    }
    assert_eq!(absent.bell.rings(), 1);
    drop(absent);
    settled(&pool, &database);
}

// 4
fn a_task_that_comes_late_keeps_its_turn<I: IdleSet>() {
    let (pool, database) = strict::<I>(1);
    let guard = pool.get().unwrap();
    let mut late = Task::waiting(pool.get_async());
    let mut second = Task::waiting(pool.get_async());
    let third = Task::waiting(pool.get_async());
    drop(guard);
    let guard = second.finish().unwrap();
    assert!(late.poll().is_pending(), "there is only one connection");
    drop(guard);
    assert_eq!(third.bell.rings(), 0, "it was overtaken");
    drop(late.expect_ready().unwrap());
    drop((late, second, third));
    settled(&pool, &database);
}

// 2, 7
fn a_task_that_is_dropped_late_leaves_no_trace<I: IdleSet>() {
    let (pool, database) = strict::<I>(1);
    for _ in 0..3 {
        let guard = pool.get().unwrap();
        let absent = Task::waiting(pool.get_async());
        let mut next = Task::waiting(pool.get_async());
        drop(guard);
        let guard = next.finish().unwrap();
        drop(absent);
        let thread = blocked(&pool);
        drop(guard);
        drop(thread.join().unwrap().unwrap());
    }
    settled(&pool, &database);
}

// 7: its alarm was used up by its deadline before it was handed anything.
fn a_task_whose_time_was_up_is_no_exception<I: IdleSet>() {
    let (pool, database) = strict::<I>(1);
    let guard = pool.get().unwrap();
    let mut absent = Task::waiting(pool.get_async_timeout(Duration::from_millis(5)));
    absent.bell.wait_for(1);
    let thread = blocked(&pool);
    drop(guard);
    drop(thread.join().unwrap().unwrap());
    eventually("it can be had", || acquiring(&pool).join().unwrap().is_ok());
    // It may take what is idle, or say that it is late.
    let _ = absent.finish().map(drop);
    drop(absent);
    settled(&pool, &database);
}

// 4
fn several_that_do_not_come_keep_their_order<I: IdleSet>() {
    let (pool, database) = strict::<I>(2);
    let guards = [pool.get().unwrap(), pool.get().unwrap()];
    let (mut first, mut second) = (Task::waiting(pool.get_async()), Task::waiting(pool.get_async()));
    drop(guards);
    // Both connections are taken back from those two.
    let guards = [acquiring(&pool).join().unwrap().unwrap(), acquiring(&pool).join().unwrap().unwrap()];
    assert!(second.poll().is_pending() && first.poll().is_pending());
    let [one, other] = guards;
    drop(one);
    assert!(second.poll().is_pending(), "the first was overtaken");
    let held = first.expect_ready().unwrap();
    drop(other);
    drop((second.finish().unwrap(), held));
    drop((first, second));
    settled(&pool, &database);
}

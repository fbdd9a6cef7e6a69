//! Any runtime, or none.

use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, IdleSet};
use tokio::runtime::{Builder, Runtime};

use super::database::{Behaviour, Call};
use super::support::{eventually, pool_of, settled};
use super::tasks::{Task, block_on};

for_every_kind!(
    it_works_without_a_runtime,
    it_works_on_a_current_thread_runtime,
    it_works_on_a_multi_thread_runtime,
    timeouts_of_tasks_need_no_runtime,
    timeouts_of_tasks_come_in_order,
    a_task_on_a_current_thread_runtime_does_not_block_it,
    a_guard_may_be_dropped_outside_a_runtime,
    a_select_that_loses_interest_passes_its_turn_on,
    an_aborted_task_passes_its_turn_on,
);

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap()
}

// 42
fn it_works_without_a_runtime<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    block_on(pool.get_async()).unwrap().used(thread::yield_now);
                }
            });
        }
    });
    settled(&pool, &database);
}

fn many_tasks<I: IdleSet>(runtime: &Runtime) {
    let (pool, database) = pool_of::<I>(2);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        // Both kinds of guard live across an await.
                        let guard = pool.get_async().await.unwrap();
                        tokio::task::yield_now().await;
                        guard.used(|| ());
                        drop(guard);
                        let guard = pool.get_owned_async().await.unwrap();
                        tokio::task::yield_now().await;
                        guard.used(|| ());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    settled(&pool, &database);
}

// 42
fn it_works_on_a_current_thread_runtime<I: IdleSet>() {
    many_tasks::<I>(&current_thread());
}

// 42
fn it_works_on_a_multi_thread_runtime<I: IdleSet>() {
    many_tasks::<I>(&multi_thread());
}

// 13, 42
fn timeouts_of_tasks_need_no_runtime<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let _guard = pool.get().unwrap();
    let (since, timeout) = (Instant::now(), Duration::from_millis(15));
    let error = block_on(pool.get_async_timeout(timeout)).expect_err("the only connection is lent");
    assert!(since.elapsed() >= timeout && matches!(error, AcquireError::Exhausted { .. }), "{error}");
}

// 13
fn timeouts_of_tasks_come_in_order<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let _guard = pool.get().unwrap();
    let since = Instant::now();
    // The nearest deadline comes last.
    let timeouts = [60, 40, 20].map(Duration::from_millis);
    let mut tasks = timeouts.map(|timeout| Task::waiting(pool.get_async_timeout(timeout)));
    for (task, timeout) in tasks.iter_mut().zip(timeouts).rev() {
        assert!(task.finish().is_err());
        assert!(since.elapsed() >= timeout);
    }
    drop(tasks);
    assert_eq!(pool.state().waiters, 0);
}

// 42: neither waiting for a connection nor opening one holds up the other tasks of the thread.
fn a_task_on_a_current_thread_runtime_does_not_block_it<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    current_thread().block_on(async {
        let waiter = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get_owned_async().await.map(|guard| guard.id) })
        };
        while database.inside(Call::Connect) == 0 {
            tokio::task::yield_now().await;
        }
        database.on(Call::Connect, Behaviour::Works);
        assert_eq!(waiter.await.unwrap().unwrap(), 1);
    });
    settled(&pool, &database);
}

// 42
fn a_guard_may_be_dropped_outside_a_runtime<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let runtime = multi_thread();
    let mut guard = runtime.block_on(async { pool.get_owned_async().await.unwrap() });
    let waiter = {
        let pool = pool.clone();
        runtime.spawn(async move { pool.get_owned_async().await.map(|guard| guard.id) })
    };
    eventually("the task waits", || pool.state().waiters == 1);
    guard.is_dirty = true;
    drop(guard);
    assert_eq!(runtime.block_on(waiter).unwrap().unwrap(), 1);
    drop(runtime);
    settled(&pool, &database);
}

// 7, 42
fn a_select_that_loses_interest_passes_its_turn_on<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    current_thread().block_on(async {
        let guard = pool.get_async().await.unwrap();
        for _ in 0..20 {
            tokio::select! {
                biased;
                _ = pool.get_async() => panic!("it is lent"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(guard);
        drop(pool.get_async().await.unwrap());
    });
    settled(&pool, &database);
}

// 7, 42
fn an_aborted_task_passes_its_turn_on<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let runtime = multi_thread();
    for _ in 0..30 {
        let guard = pool.get().unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let pool = pool.clone();
                runtime.spawn(async move { drop(pool.get_async().await) })
            })
            .collect();
        let patient = {
            let pool = pool.clone();
            runtime.spawn(async move { pool.get_owned_async().await.map(drop) })
        };
        eventually("the patient one waits", || pool.state().waiters == 5);
        drop(guard);
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        runtime.block_on(patient).unwrap().unwrap();
        for task in tasks {
            // Served or aborted, as it happens.
            drop(runtime.block_on(task));
        }
    }
    settled(&pool, &database);
}

//! The user's code at the turns of a connection's life: when it runs, where, and what its failures cost.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pool::{AcquireError, CallError, ConnectError, IdleSet};

use super::database::{Behaviour, Call, Database, Fault};
use super::support::{TestPool, blocked, eventually, options, options_with_hooks, settled, trying};
use super::tasks::Task;

for_every_kind!(
    each_hook_runs_at_its_turn,
    each_hook_runs_on_its_thread,
    a_failing_on_connect_is_a_failed_connect,
    an_on_connect_that_cannot_succeed_is_told_at_once,
    a_failing_on_acquire_discards_and_retries,
    a_waiter_whose_connection_is_refused_waits_on,
    a_connection_refused_at_the_last_moment_is_no_answer,
    an_error_names_the_hook_that_failed,
    an_on_acquire_that_always_fails_backs_off,
    a_validation_that_always_fails_backs_off,
    what_keeps_refusing_is_named_to_whoever_comes_later,
    one_refusal_is_no_reason_to_pause,
    connections_that_die_together_are_one_refusal,
    an_error_does_not_blame_failures_of_the_past,
    a_failing_on_checkin_discards,
    on_checkin_is_spared_what_is_broken,
    a_panic_in_on_release_frees_the_slot,
    a_hook_that_panics_during_a_panic_does_not_end_the_program,
    every_hook_may_fail_in_every_way,
);

const SHORT: Duration = Duration::from_millis(60);

/// A pool of `max_size` with hooks and quick retries.
fn hooked<I: IdleSet>(max_size: usize) -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options_with_hooks(&database)
        .max_size(max_size)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .build(database.clone())
        .unwrap();
    (pool, database)
}

/// All connections that the pool may have can be had.
fn all_can_be_had<I: IdleSet>(pool: &TestPool<I>, database: &Database) {
    let all: Vec<_> = (0..pool.state().max_size).map(|_| pool.get().expect("no slot was lost")).collect();
    drop(all);
    settled(pool, database);
}

fn each_hook_runs_at_its_turn<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    for _ in 0..2 {
        drop(pool.get().unwrap());
    }
    pool.get().unwrap().mark_broken();
    database.wait_until_asked(Call::Close, 1);
    let loan = [Call::LooksAlive, Call::OnAcquire, Call::OnCheckin, Call::HasBroken, Call::IsDirty];
    let mut life = vec![Call::OnConnect];
    life.extend(loan);
    life.extend(loan);
    life.extend([Call::LooksAlive, Call::OnAcquire, Call::OnRelease, Call::Close]);
    assert_eq!(database.log_of(1), life);
    assert_eq!(pool.counters().checkouts, 3);
    settled(&pool, &database);
}

fn each_hook_runs_on_its_thread<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    database.observe(move |call| log.lock().unwrap().push((call, thread::current().id())));
    let caller = thread::current().id();
    pool.get().unwrap().is_broken = true;
    drop(Task::new(pool.get_async()).finish().unwrap());
    pool.get().unwrap().mark_broken();
    eventually("two connections are closed", || database.asked(Call::Close) == 2);
    database.stop_observing();
    let seen = seen.lock().unwrap();
    for (call, is_callers) in
        [(Call::OnConnect, false), (Call::OnAcquire, true), (Call::OnCheckin, true), (Call::OnRelease, false)]
    {
        let threads: Vec<_> = seen.iter().filter(|(of, _)| *of == call).map(|(_, thread)| *thread).collect();
        assert!(threads.len() >= 2 && threads.iter().all(|thread| (*thread == caller) == is_callers), "{call:?}");
    }
}

// 16
fn a_failing_on_connect_is_a_failed_connect<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    for (behaviour, text) in [
        (Behaviour::Fails, "on_connect failed: the database refuses to OnConnect"),
        (Behaviour::Panics, "on_connect panicked: OnConnect was told to panic"),
    ] {
        let (opened, failures) = (database.counts().opened, pool.counters().connect_failures);
        database.on(Call::OnConnect, behaviour);
        pool.get_timeout(SHORT).expect_err("on_connect fails");
        // A panic takes its time when it prints a backtrace.
        eventually("a failed attempt", || pool.counters().connect_failures > failures);
        let error = pool.get_timeout(SHORT).expect_err("on_connect fails");
        let AcquireError::ConnectFailed { source, .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(text), "{error}");
        match behaviour {
            Behaviour::Fails => {
                let ConnectError::HookFailed(fault) = &**source else { panic!("{source:?}") };
                assert_eq!(fault.call, Call::OnConnect);
                assert!(error.source().and_then(Error::source).is_some_and(|source| source.is::<Fault>()), "{error:?}");
            }
            _ => assert!(matches!(&**source, ConnectError::HookPanicked(_)), "{source:?}"),
        }
        assert!(database.counts().opened > opened, "no connection was ever opened");
    }
    database.on(Call::OnConnect, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
    // What was never finished was never the pool's: closed, but without a farewell, and not counted.
    assert_eq!(database.asked(Call::OnRelease), 0);
    assert_eq!((pool.counters().connects, pool.counters().closes), (1, 0));
    assert_eq!(database.asked(Call::Close), database.counts().opened - 1);
}

fn an_on_connect_that_cannot_succeed_is_told_at_once<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    database.on(Call::OnConnect, Behaviour::FailsForGood);
    // Would hang for the acquire timeout, which is longer than this test may take.
    let error = pool.get_timeout(Duration::from_secs(3_600)).expect_err("it is hopeless");
    assert!(matches!(error, AcquireError::ConnectFailed { .. }), "{error}");
    database.on(Call::OnConnect, Behaviour::Works);
    // Until the pause is over callers are turned away.
    eventually("it is tried again", || pool.get().is_ok());
    settled(&pool, &database);
}

// 27
fn a_failing_on_acquire_discards_and_retries<I: IdleSet>() {
    for blocking in [true, false] {
        let database = Database::new();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&refused);
        let pool = options::<I>()
            .max_size(3)
            .min_idle(3)
            .on_acquire(move |connection| {
                if log.lock().unwrap().len() < 2 {
                    log.lock().unwrap().push(connection.id);
                    return Err(Fault::of_work(true));
                }
                Ok(())
            })
            .build(database.clone())
            .unwrap();
        // Two are refused and the third, or a replacement, is lent; nobody is told of it.
        let id = match blocking {
            true => pool.get().unwrap().id,
            false => Task::new(pool.get_async()).finish().unwrap().id,
        };
        let refused = refused.lock().unwrap().clone();
        assert!(refused.len() == 2 && !refused.contains(&id), "{id} of {refused:?}");
        settled(&pool, &database);
        let counters = pool.counters();
        assert_eq!((counters.checkouts, counters.hook_failures, counters.broken), (1, 2, 2), "{counters:?}");
        for id in refused {
            assert_eq!(database.log_of(id).last(), Some(&Call::Close));
        }
    }
}

// 27
fn a_waiter_whose_connection_is_refused_waits_on<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    for behaviour in [Behaviour::Fails, Behaviour::Panics] {
        let guard = pool.get().unwrap();
        let id = guard.id;
        let waiter = blocked(&pool);
        let mut task = Task::waiting(pool.get_async());
        database.on(Call::OnAcquire, behaviour);
        let released = database.asked(Call::OnRelease);
        drop(guard);
        database.wait_until_asked(Call::OnRelease, released + 1);
        database.on(Call::OnAcquire, Behaviour::Works);
        let first = waiter.join().unwrap().expect("the thread is served in the end");
        assert!(first.id > id);
        drop(first);
        drop(task.finish().expect("and so is the task"));
        settled(&pool, &database);
    }
}

// 15, 27
fn a_connection_refused_at_the_last_moment_is_no_answer<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    drop(pool.get().unwrap());
    database.on(Call::OnAcquire, Behaviour::Fails);
    let error = pool.try_get().expect_err("the only connection is refused");
    assert!(matches!(error, AcquireError::TimedOut { waited, .. } if waited.is_zero()), "{error}");
    assert_eq!(pool.counters().checkouts, 1);
    database.on(Call::OnAcquire, Behaviour::Works);
    all_can_be_had(&pool, &database);
}

// 16
fn an_error_names_the_hook_that_failed<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    for (behaviour, text) in [
        (Behaviour::Fails, "on_acquire failed: the database refuses to OnAcquire"),
        (Behaviour::Panics, "on_acquire panicked: OnAcquire was told to panic"),
    ] {
        database.on(Call::OnAcquire, behaviour);
        let asked = database.asked(Call::OnAcquire);
        let error = loop {
            let error = trying(&pool, SHORT).join().unwrap().expect_err("on_acquire fails");
            // On a machine that is busy enough the time is up before the hook is reached.
            if database.asked(Call::OnAcquire) > asked + 1
                && !matches!(error, AcquireError::TimedOut { last_failure: None, .. })
            {
                break error;
            }
        };
        let AcquireError::TimedOut { last_failure: Some(failure), .. } = &error else { panic!("{error:?}") };
        assert_eq!(failure.call(), pool::Call::OnAcquire);
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.source().is_some_and(|source| source.is::<CallError<Fault>>()), "{error:?}");
    }
    database.on(Call::OnAcquire, Behaviour::Works);
    all_can_be_had(&pool, &database);
}

fn an_error_does_not_blame_failures_of_the_past<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    database.on(Call::OnCheckin, Behaviour::Fails);
    drop(pool.get().unwrap());
    database.on(Call::OnCheckin, Behaviour::Works);
    settled(&pool, &database);
    database.on(Call::Connect, Behaviour::Hangs);
    thread::sleep(SHORT);
    let error = pool.get_timeout(SHORT / 2).expect_err("connect hangs");
    assert!(matches!(error, AcquireError::TimedOut { last_failure: None, .. }), "{error:?}");
    database.on(Call::Connect, Behaviour::Works);
    all_can_be_had(&pool, &database);
}

// 25
fn a_failing_on_checkin_discards<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    for (round, behaviour) in [Behaviour::Fails, Behaviour::Panics].into_iter().enumerate() {
        let guard = pool.get().unwrap();
        assert_eq!(guard.id, 1 + round as u64);
        database.on(Call::OnCheckin, behaviour);
        drop(guard);
        database.on(Call::OnCheckin, Behaviour::Works);
        eventually("the connection is closed", || database.counts().open == 0);
    }
    settled(&pool, &database);
    let counters = pool.counters();
    assert_eq!((counters.hook_failures, counters.broken, counters.checkouts), (2, 2, 2), "{counters:?}");
    all_can_be_had(&pool, &database);
}

// 25
fn on_checkin_is_spared_what_is_broken<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    pool.get().unwrap().mark_broken();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = pool.get().unwrap();
        panic!("a holder panics");
    }));
    assert!(panicked.is_err());
    drop(pool.get().unwrap().detach());
    assert_eq!(database.asked(Call::OnCheckin), 0);
    drop(pool.get().unwrap());
    assert_eq!(database.asked(Call::OnCheckin), 1);
    settled(&pool, &database);
    // Two were closed by the pool; the third was not the pool's any more.
    assert_eq!(database.asked(Call::OnRelease), 2);
}

// 26
fn a_panic_in_on_release_frees_the_slot<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    database.on(Call::OnRelease, Behaviour::Panics);
    pool.get().unwrap().mark_broken();
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
    assert_eq!(database.asked(Call::Close), 1, "a farewell that fails does not keep a connection open");
    pool.close(Duration::from_secs(5)).unwrap();
    assert_eq!((database.counts().open, database.asked(Call::OnRelease)), (0, 2));
}

/// Borrows when it is dropped.
struct Borrower<'p, I: IdleSet>(&'p TestPool<I>);

impl<I: IdleSet> Drop for Borrower<'_, I> {
    fn drop(&mut self) {
        drop(self.0.get().unwrap());
    }
}

// 26: a panic that leaves a destructor while its thread panics ends the program, and the test with it.
fn a_hook_that_panics_during_a_panic_does_not_end_the_program<I: IdleSet>() {
    let (pool, database) = hooked::<I>(1);
    drop(pool.get().unwrap());
    database.on(Call::OnCheckin, Behaviour::Panics);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _borrower = Borrower(&pool);
        panic!("somebody panics");
    }));
    assert!(panicked.is_err());
    assert_eq!(database.asked(Call::OnCheckin), 2);
    database.on(Call::OnCheckin, Behaviour::Works);
    all_can_be_had(&pool, &database);
}

// 2, 7, 26
fn every_hook_may_fail_in_every_way<I: IdleSet>() {
    for call in [Call::OnConnect, Call::OnAcquire, Call::OnCheckin, Call::OnRelease] {
        for behaviour in [Behaviour::Fails, Behaviour::Panics, Behaviour::Hangs] {
            survives::<I>(call, behaviour);
        }
    }
}

/// Callers of every sort come and go while a hook fails; once it works they are all served.
fn survives<I: IdleSet>(call: Call, behaviour: Behaviour) {
    let (pool, database) = hooked::<I>(2);
    // With a connection at hand nobody may need another.
    if call != Call::OnConnect {
        drop(pool.get().unwrap());
    }
    database.on(call, behaviour);
    let asked = database.asked(call);
    let patient: Vec<_> = (0..3)
        .map(|round| {
            let pool = pool.clone();
            thread::spawn(move || {
                let mut guard = pool.get()?;
                match round {
                    0 => guard.mark_broken(),
                    1 => guard.is_dirty = true,
                    _ => {}
                }
                drop(guard);
                Ok::<(), AcquireError<Fault>>(())
            })
        })
        .collect();
    database.wait_until_asked(call, asked + 1);
    // A hook on the callers' thread that hangs would keep this thread, too.
    if behaviour != Behaviour::Hangs {
        drop(trying(&pool, Duration::from_millis(5)).join().unwrap());
        drop(Task::new(pool.get_async()).poll());
        let mut late = Task::new(pool.get_async());
        let _ = late.poll();
    }
    database.on(call, Behaviour::Works);
    for caller in patient {
        caller.join().expect("a hook's panic is not the caller's").unwrap_or_else(|error| {
            panic!("{call:?} {behaviour:?}: {error}");
        });
    }
    settled(&pool, &database);
    all_can_be_had(&pool, &database);
    assert_eq!(pool.state().lent, 0, "{call:?} {behaviour:?}");
    let counters = pool.counters();
    assert_eq!(counters.connects - counters.closes, pool.state().size as u64, "{call:?} {behaviour:?}: {counters:?}");
}

/// A hook or a validation that always fails, of connections that are all new: the attempts to connect have pauses between
/// them, as failing ones have.
fn backs_off<I: IdleSet>(call: Call) {
    let database = Database::new();
    let (first, longest) = (Duration::from_millis(8), Duration::from_millis(32));
    let pool = options_with_hooks::<I>(&database)
        .max_size(4)
        .max_connecting(2)
        .connect_backoff(first, longest)
        .validate_after_idle(Duration::ZERO)
        .build(database.clone())
        .unwrap();
    database.on(call, Behaviour::Fails);
    let waiter = blocked(&pool);
    database.wait_until_asked(Call::Connect, 7);
    // Only "not sooner than" can be asserted of a pause. The first refusal costs none.
    let asked_at = database.asked_at(Call::Connect);
    for (pauses, pair) in asked_at[1..].windows(2).enumerate() {
        let shortest = (first * (1 << pauses)).min(longest) / 2;
        let pause = pair[1] - pair[0];
        assert!(pause >= shortest, "connection {} came {pause:?} after the one before", pauses + 3);
    }
    let counters = pool.counters();
    assert_eq!((counters.checkouts, counters.connect_failures), (0, 0), "{counters:?}");
    // It heals in the middle of the wait, and the pause does not outlive it.
    database.on(call, Behaviour::Works);
    drop(waiter.join().unwrap().expect("the waiter is served in the end"));
    all_can_be_had(&pool, &database);
}

// 20, 27
fn an_on_acquire_that_always_fails_backs_off<I: IdleSet>() {
    backs_off::<I>(Call::OnAcquire);
}

// 20, 24
fn a_validation_that_always_fails_backs_off<I: IdleSet>() {
    backs_off::<I>(Call::Validate);
}

// 16: during the pause nothing fails, and yet there is a reason to tell.
fn what_keeps_refusing_is_named_to_whoever_comes_later<I: IdleSet>() {
    for call in [Call::OnAcquire, Call::Validate] {
        let database = Database::new();
        let hour = Duration::from_secs(3600);
        let pool = options_with_hooks::<I>(&database)
            .max_size(2)
            .connect_backoff(hour, hour)
            .validate_after_idle(Duration::ZERO)
            .build(database.clone())
            .unwrap();
        database.on(call, Behaviour::Fails);
        let waiter = trying(&pool, Duration::from_secs(5));
        eventually("the second is closed, too", || pool.counters().closes == 2);
        assert_eq!(database.asked(Call::Connect), 2);
        drop(waiter);
        thread::sleep(SHORT);
        for error in [
            pool.get_timeout(SHORT / 4).map(drop).expect_err("the pool pauses"),
            pool.try_get().map(drop).expect_err("the pool pauses"),
            Task::new(pool.get_async_timeout(SHORT / 4)).finish().map(drop).expect_err("the pool pauses"),
        ] {
            let AcquireError::TimedOut { last_failure: Some(failure), .. } = &error else { panic!("{error:?}") };
            let expected = if call == Call::Validate { pool::Call::Validate } else { pool::Call::OnAcquire };
            assert_eq!(failure.call(), expected);
            assert!(error.to_string().contains(&format!("the database refuses to {call:?}")), "{error}");
            assert!(error.source().is_some_and(|source| source.is::<CallError<Fault>>()), "{error:?}");
        }
        assert_eq!(database.asked(Call::Connect), 2, "there was no pause");
    }
}

// 24: a pause of an hour would be one too many.
fn one_refusal_is_no_reason_to_pause<I: IdleSet>() {
    let (database, refusals) = (Database::new(), Arc::new(AtomicUsize::new(0)));
    let hour = Duration::from_secs(3600);
    let left = Arc::clone(&refusals);
    let pool = options::<I>()
        .max_size(1)
        .connect_backoff(hour, hour)
        .on_acquire(move |_| match left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(Fault::of_work(true)),
            Err(_) => Ok(()),
        })
        .build(database.clone())
        .unwrap();
    drop(pool.get().unwrap());
    for round in 1..=5 {
        // The first that is refused has been lent before, so it says nothing about new ones; the second is new; the third
        // passes.
        refusals.store(2, Relaxed);
        assert_eq!(pool.get().expect("there is no pause").id, 1 + 2 * round);
    }
    settled(&pool, &database);
}

// 22: in a pool that nobody has used yet all die at once.
fn connections_that_die_together_are_one_refusal<I: IdleSet>() {
    let database = Database::new();
    let hour = Duration::from_secs(3600);
    let pool = options::<I>()
        .max_size(6)
        .min_idle(6)
        .connect_backoff(hour, hour)
        .keepalive(SHORT / 2)
        .build(database.clone())
        .unwrap();
    database.kill_connections_silently();
    eventually("all are replaced", || pool.counters().broken == 6 && pool.state().idle == 6);
    assert_eq!(database.asked(Call::Connect), 12);
}

//! What an observer is shown: everything, once, in the order of each connection's life.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pool::{Builder, CloseReason, Event, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{blocked, eventually, lie_idle, options, settled};
use super::tasks::Task;

for_every_kind!(
    a_loan_is_told_in_order,
    events_come_in_order_and_once_under_load,
    every_close_has_its_reason,
    a_wait_is_told_with_its_length,
    failures_are_told_with_their_errors,
    a_cancelled_acquire_is_told,
    the_breaker_is_told_when_it_opens_and_closes,
    a_pause_is_told_once,
    an_observer_may_pause_and_resume,
    pauses_are_told_by_turns_under_load,
    a_panicking_observer_changes_nothing,
);

/// An event without its borrowed parts.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Connected,
    CheckedOut(Duration),
    CheckedIn(Duration),
    Detached(Duration),
    Closed(CloseReason, Duration),
    CallFailed(String),
    SlowAcquire(Duration),
    LongLoan(Duration),
    ConnectFailed(String),
    AcquireFailed(Duration, String),
    AcquireCancelled(Duration),
    BreakerOpened(String, Duration),
    BreakerClosed(Duration),
    Paused,
    Resumed,
}

/// Everything that was told, with the connection; 0 for none.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<(u64, Told)>>>);

impl Diary {
    fn observe<I: IdleSet>(&self, options: Builder<Database, I>) -> Builder<Database, I> {
        let diary = Arc::clone(&self.0);
        options.observe(move |event| {
            let told = match *event {
                Event::Connected { connection, .. } => (connection, Told::Connected),
                Event::CheckedOut { connection, waited } => (connection, Told::CheckedOut(waited)),
                Event::CheckedIn { connection, held_for } => (connection, Told::CheckedIn(held_for)),
                Event::Detached { connection, held_for } => (connection, Told::Detached(held_for)),
                Event::Closed { connection, reason, age } => (connection, Told::Closed(reason, age)),
                Event::CallFailed { connection, error } => (connection, Told::CallFailed(error.to_string())),
                Event::SlowAcquire { connection, waited, .. } => (connection, Told::SlowAcquire(waited)),
                Event::LongLoan { loan } => (loan.connection.unwrap(), Told::LongLoan(loan.held_for)),
                Event::ConnectFailed { error, .. } => (0, Told::ConnectFailed(error.to_string())),
                Event::AcquireFailed { waited, error } => (0, Told::AcquireFailed(waited, error.to_string())),
                Event::AcquireCancelled { waited } => (0, Told::AcquireCancelled(waited)),
                Event::BreakerOpened { error, failing_for } => (0, Told::BreakerOpened(error.to_string(), failing_for)),
                Event::BreakerClosed { open_for } => (0, Told::BreakerClosed(open_for)),
                Event::Paused => (0, Told::Paused),
                Event::Resumed => (0, Told::Resumed),
                ref other => panic!("an event that this test does not know: {other:?}"),
            };
            diary.lock().unwrap().push(told);
        })
    }

    fn pages(&self) -> Vec<(u64, Told)> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, connection: u64) -> Vec<Told> {
        self.pages().into_iter().filter(|(of, _)| *of == connection).map(|(_, told)| told).collect()
    }

    fn count(&self, which: impl Fn(&Told) -> bool) -> u64 {
        self.pages().iter().filter(|(_, told)| which(told)).count() as u64
    }
}

// 40
fn a_loan_is_told_in_order<I: IdleSet>() {
    let diary = Diary::default();
    let pool = diary.observe(options::<I>()).max_size(1).build(Database::new()).unwrap();
    let since = Instant::now();
    let guard = pool.get().unwrap();
    let held_since = Instant::now();
    thread::sleep(Duration::from_millis(5));
    let held_at_least = held_since.elapsed();
    drop(guard);
    let _ = pool.get().unwrap().detach();
    drop(pool.get().unwrap());
    pool.close(Duration::from_secs(5)).unwrap();
    let most = since.elapsed();
    let [Told::Connected, Told::CheckedOut(_), Told::CheckedIn(held_for), Told::CheckedOut(waited), Told::Detached(_)] =
        &diary.of(1)[..]
    else {
        panic!("{:?}", diary.of(1))
    };
    assert!(*held_for >= held_at_least && *held_for <= most, "{held_for:?}");
    assert_eq!(*waited, Duration::ZERO, "the connection was idle");
    let [Told::Connected, Told::CheckedOut(_), Told::CheckedIn(_), Told::Closed(CloseReason::PoolClosed, age)] =
        &diary.of(2)[..]
    else {
        panic!("{:?}", diary.of(2))
    };
    assert!(*age <= most, "{age:?}");
    assert_eq!(diary.pages().len(), 9);
}

/// What a connection may be told to do next.
fn follows(before: Option<&Told>, told: &Told) -> bool {
    match told {
        Told::Connected => before.is_none(),
        Told::CheckedOut(_) => matches!(before, Some(Told::Connected | Told::CheckedIn(_))),
        Told::CheckedIn(_) | Told::Detached(_) => matches!(before, Some(Told::CheckedOut(_))),
        Told::CallFailed(_) => matches!(before, Some(Told::Connected | Told::CheckedIn(_))),
        Told::Closed(..) => matches!(before, Some(Told::Connected | Told::CheckedIn(_) | Told::CallFailed(_))),
        _ => false,
    }
}

// 40
fn events_come_in_order_and_once_under_load<I: IdleSet>() {
    const CALLERS: usize = 6;
    const ROUNDS: usize = 120;
    let (database, diary) = (Database::new(), Diary::default());
    let refusals = AtomicUsize::new(0);
    let pool = diary
        .observe(options::<I>())
        .capacity(4)
        .max_size(3)
        .max_lifetime(Duration::from_millis(100))
        .connect_backoff(Duration::from_micros(100), Duration::from_millis(1))
        .on_acquire(move |_| match refusals.fetch_add(1, Ordering::Relaxed) % 31 {
            30 => Err(super::database::Fault::of_work(true)),
            _ => Ok(()),
        })
        .build(database.clone())
        .unwrap();
    // Somebody purges, resizes, and puts back what was taken out.
    let is_over = Arc::new(AtomicBool::new(false));
    let operator = {
        let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            for round in 0.. {
                match round % 4 {
                    _ if is_over.load(Ordering::Relaxed) && round > 20 => break,
                    0 => pool.purge(),
                    1 => pool.resize(2).unwrap(),
                    2 => pool.resize(4).unwrap(),
                    _ => drop(pool.get().map(|guard| pool.add(guard.detach()))),
                }
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    if caller % 2 == 1 {
                        // Given up, served at once, or served later.
                        match round % 3 {
                            0 => drop(Task::new(pool.get_async()).poll()),
                            _ => drop(Task::new(pool.get_async()).finish()),
                        }
                        continue;
                    }
                    let timeout = Duration::from_micros(if round % 5 == 0 { 50 } else { 10_000_000 });
                    let Ok(mut guard) = pool.get_timeout(timeout) else { continue };
                    match (caller + round) % 17 {
                        0 => guard.mark_broken(),
                        1 => guard.is_broken = true,
                        2 => guard.is_dirty = true,
                        3 => drop(guard.detach()),
                        4 => drop(catch_unwind(AssertUnwindSafe(move || {
                            let _guard = guard;
                            std::panic::resume_unwind(Box::new("without a message"));
                        }))),
                        _ => thread::yield_now(),
                    }
                }
            });
        }
    });
    is_over.store(true, Ordering::Relaxed);
    operator.join().unwrap();
    pool.close(Duration::from_secs(10)).unwrap();
    // A connection that is given up is closed by a worker, which tells it afterwards.
    let ends = |told: &Told| matches!(told, Told::Closed(..) | Told::Detached(_));
    eventually("every end is told", || diary.count(ends) == diary.count(|told| *told == Told::Connected));
    let mut last: HashMap<u64, Told> = HashMap::new();
    for (connection, told) in diary.pages().into_iter().filter(|(connection, _)| *connection > 0) {
        let before = last.get(&connection);
        assert!(follows(before, &told), "connection {connection}: {told:?} after {before:?}");
        last.insert(connection, told);
    }
    assert!(last.values().all(ends), "a life without an end: {last:?}");
    // The numbers are consecutive, and they are those that the counters and the database have.
    let counters = pool.counters();
    let taken_in = counters.connects + counters.added;
    assert_eq!((last.keys().max(), last.len() as u64), (Some(&taken_in), taken_in));
    assert_eq!(database.counts().opened as u64, counters.connects);
    let out = diary.count(|told| matches!(told, Told::CheckedOut(_)));
    let back = diary.count(|told| matches!(told, Told::CheckedIn(_) | Told::Detached(_)));
    assert_eq!((out, back), (counters.checkouts, counters.checkouts));
    assert_eq!(diary.count(|told| matches!(told, Told::Detached(_))), counters.detached);
    assert_eq!(diary.count(|told| matches!(told, Told::Closed(..))), counters.closes);
    assert_eq!(
        diary.count(|told| matches!(told, Told::CallFailed(_))),
        counters.hook_failures + counters.reset_failures
    );
    assert_eq!(diary.count(|told| matches!(told, Told::AcquireFailed(..))), counters.failures);
    assert_eq!(diary.count(|told| matches!(told, Told::AcquireCancelled(_))), counters.cancelled);
    for (reason, count) in [(CloseReason::Purged, counters.purged), (CloseReason::Surplus, counters.surplus)] {
        assert_eq!(diary.count(|told| matches!(told, Told::Closed(why, _) if *why == reason)), count, "{reason}");
    }
    assert!(counters.hook_failures > 0 && counters.detached > 0 && counters.resets > 0, "{counters:?}");
    assert!(counters.purged > 0 && counters.added > 0, "{counters:?}");
}

// 40
fn every_close_has_its_reason<I: IdleSet>() {
    let (database, diary) = (Database::new(), Diary::default());
    let idle = Duration::from_millis(60);
    let pool = diary.observe(options::<I>()).max_size(2).idle_timeout(idle).build(database.clone()).unwrap();
    let guards = (pool.get().unwrap(), pool.get().unwrap());
    drop(guards);
    eventually("both are closed", || database.asked(Call::Close) == 2);
    pool.get().unwrap().mark_broken();
    drop(pool.get().unwrap());
    pool.close(Duration::from_secs(5)).unwrap();
    let reasons: Vec<_> = (1..=4).map(|connection| diary.of(connection).last().cloned()).collect();
    for (told, expected) in reasons.iter().zip([
        CloseReason::IdleTimeout,
        CloseReason::IdleTimeout,
        CloseReason::Broken,
        CloseReason::PoolClosed,
    ]) {
        assert!(matches!(told, Some(Told::Closed(reason, _)) if *reason == expected), "{told:?}: {expected}");
    }
    let Some(Told::Closed(_, age)) = &reasons[0] else { unreachable!("checked above") };
    // Ages are as precise as a beat.
    assert!(*age >= idle / 2, "{age:?}");

    let diary = Diary::default();
    let lifetime = Duration::from_millis(60);
    let pool = diary.observe(options::<I>()).max_size(1).max_lifetime(lifetime).build(Database::new()).unwrap();
    let guard = pool.get().unwrap();
    lie_idle(lifetime);
    drop(guard);
    eventually("it is closed", || matches!(diary.of(1).last(), Some(Told::Closed(CloseReason::Lifetime, _))));

    let diary = Diary::default();
    let pool = diary.observe(options::<I>()).max_size(2).build(Database::new()).unwrap();
    let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
    let purged = first.id;
    drop(second);
    pool.resize(1).unwrap();
    eventually("the idle one is too many", || {
        matches!(diary.of(3 - purged).last(), Some(Told::Closed(CloseReason::Surplus, _)))
    });
    pool.purge();
    drop(first);
    eventually("the lent one is purged", || {
        matches!(diary.of(purged).last(), Some(Told::Closed(CloseReason::Purged, _)))
    });
}

fn a_wait_is_told_with_its_length<I: IdleSet>() {
    let diary = Diary::default();
    let pool = diary.observe(options::<I>()).max_size(1).build(Database::new()).unwrap();
    let guard = pool.get().unwrap();
    let mut task = Task::waiting(pool.get_async());
    let thread = blocked(&pool);
    let wait = Duration::from_millis(20);
    thread::sleep(wait);
    drop(guard);
    let served = (task.finish().unwrap().id, thread);
    drop(served.1.join().unwrap().unwrap());
    let waits: Vec<_> = diary.of(1).into_iter().filter(|told| matches!(told, Told::CheckedOut(_))).collect();
    let [_, Told::CheckedOut(first), Told::CheckedOut(second)] = &waits[..] else { panic!("{waits:?}") };
    assert!(*first >= wait && *second >= wait, "{waits:?}");
}

fn failures_are_told_with_their_errors<I: IdleSet>() {
    let (database, diary) = (Database::new(), Diary::default());
    let pool = diary
        .observe(options::<I>())
        .max_size(1)
        .validate_after_idle(Duration::ZERO)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build(database.clone())
        .unwrap();
    drop(pool.get().unwrap());
    database.on(Call::Validate, Behaviour::Fails);
    database.on(Call::Connect, Behaviour::Fails);
    let patience = Duration::from_millis(60);
    let error = pool.get_timeout(patience).expect_err("nothing works");
    database.wait_until_asked(Call::Connect, 2);
    eventually("a failed connect is told", || diary.count(|told| matches!(told, Told::ConnectFailed(_))) > 0);
    let life = diary.of(1);
    assert!(life.contains(&Told::CallFailed("validate failed: the database refuses to Validate".into())), "{life:?}");
    let others = diary.of(0);
    assert!(others.contains(&Told::ConnectFailed("the database refuses to Connect".into())), "{others:?}");
    let told = others.iter().find(|told| matches!(told, Told::AcquireFailed(..)));
    let Some(Told::AcquireFailed(waited, text)) = told else { panic!("{others:?}") };
    assert!(*waited >= patience && *text == error.to_string(), "{text}: {error}");
    let counters = pool.counters();
    assert_eq!((counters.failures, counters.timeouts, counters.validation_failures), (1, 1, 1), "{counters:?}");
}

fn a_cancelled_acquire_is_told<I: IdleSet>() {
    let diary = Diary::default();
    let pool = diary.observe(options::<I>()).max_size(1).build(Database::new()).unwrap();
    let guard = pool.get().unwrap();
    drop(Task::waiting(pool.get_async()));
    drop(pool.get_async());
    drop(Task::waiting(pool.get_owned_async()));
    drop(guard);
    let cancelled = |told: &Told| matches!(told, Told::AcquireCancelled(_));
    // One that was never polled never was an acquire.
    assert_eq!((diary.count(cancelled), pool.counters().cancelled), (2, 2));
    drop(Task::new(pool.get_async()).finish().unwrap());
    assert_eq!((diary.count(cancelled), pool.counters().failures), (2, 0));
}

// 26
fn a_panicking_observer_changes_nothing<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(2)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .observe(|_| std::panic::resume_unwind(Box::new("without a message")))
        .build(database.clone())
        .unwrap();
    let guard = pool.get().unwrap();
    drop(Task::new(pool.get_async()).finish().unwrap());
    drop(pool.get().unwrap().detach());
    pool.get().unwrap().mark_broken();
    database.on(Call::Connect, Behaviour::Fails);
    pool.get_timeout(Duration::from_millis(20)).expect_err("nothing can be opened");
    drop(Task::waiting(pool.get_async()));
    database.on(Call::Connect, Behaviour::Works);
    drop(guard);
    let all = (pool.get().unwrap(), pool.get().unwrap());
    drop(all);
    settled(&pool, &database);
    pool.close(Duration::from_secs(5)).unwrap();
}

impl Diary {
    /// What concerned the whole pool, in order.
    fn of_the_pool(&self) -> Vec<Told> {
        let is_of_the_pool = |told: &Told| {
            matches!(told, Told::BreakerOpened(..) | Told::BreakerClosed(_) | Told::Paused | Told::Resumed)
        };
        self.of(0).into_iter().filter(is_of_the_pool).collect()
    }
}

// 21, 40
fn the_breaker_is_told_when_it_opens_and_closes<I: IdleSet>() {
    let (diary, database) = (Diary::default(), Database::new());
    let patience = Duration::from_millis(20);
    let pool = diary
        .observe(options::<I>())
        .max_size(2)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(3))
        .fail_fast_after(patience)
        .build(database.clone())
        .unwrap();
    let connection = pool.get().unwrap().detach();
    let mut connection = Some(connection);
    for outage in 1..=3 {
        database.on(Call::Connect, Behaviour::Fails);
        assert!(pool.get().is_err());
        eventually("its opening is told", || diary.of_the_pool().len() == 2 * outage - 1);
        let told = diary.of_the_pool();
        let Some(Told::BreakerOpened(error, failing_for)) = told.last() else { panic!("{told:?}") };
        assert!(error.contains("refuses to Connect") && *failing_for >= patience, "{error} for {failing_for:?}");
        let since = Instant::now();
        thread::sleep(Duration::from_millis(5));
        let open_at_least = since.elapsed();
        match connection.take() {
            Some(connection) => pool.add(connection).map_err(|_| "full").unwrap(),
            None => {
                database.on(Call::Connect, Behaviour::Works);
                eventually("it is back", || pool.get().is_ok());
            }
        }
        eventually("its closing is told", || diary.of_the_pool().len() == 2 * outage);
        let told = diary.of_the_pool();
        let Some(Told::BreakerClosed(open_for)) = told.last() else { panic!("{told:?}") };
        assert!(*open_for >= open_at_least, "{open_for:?}");
        // Nothing is to be left for the next outage, nor to arrive in the middle of it.
        eventually("no attempt is under way", || pool.state().connecting == 0);
        database.kill_connections();
    }
    assert_eq!(pool.counters().breaker_openings, 3);
}

// 40
fn a_pause_is_told_once<I: IdleSet>() {
    let (diary, database) = (Diary::default(), Database::new());
    let pool = diary.observe(options::<I>()).max_size(1).build(database.clone()).unwrap();
    pool.resume();
    assert_eq!(diary.of_the_pool(), []);
    for _ in 0..2 {
        pool.pause();
        pool.pause();
        pool.resume();
        pool.resume();
    }
    assert_eq!(diary.of_the_pool(), [Told::Paused, Told::Resumed, Told::Paused, Told::Resumed]);
    assert_eq!(pool.counters().pauses, 2);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 23: no lock is held, and what happens meanwhile is told afterwards.
fn an_observer_may_pause_and_resume<I: IdleSet>() {
    let cell: Arc<std::sync::OnceLock<super::support::TestPool<I>>> = Arc::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let pool = {
        let (cell, told) = (Arc::clone(&cell), Arc::clone(&told));
        options::<I>().max_size(1).observe(move |event| {
            let pool = cell.get().expect("it is there before anything happens");
            match event {
                Event::Paused => {
                    pool.resume();
                    told.lock().unwrap().push("paused");
                }
                Event::Resumed => told.lock().unwrap().push("resumed"),
                _ => {}
            }
        })
    };
    let pool = pool.build_unchecked(Database::new()).unwrap();
    assert!(cell.set(pool.clone()).is_ok());
    pool.pause();
    assert_eq!(*told.lock().unwrap(), ["paused", "resumed"]);
    assert!(!pool.is_paused());
    drop(pool.get().unwrap());
}

// 40
fn pauses_are_told_by_turns_under_load<I: IdleSet>() {
    let diary = Diary::default();
    let pool = diary.observe(options::<I>()).max_size(1).build(Database::new()).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..500 {
                    if thread % 2 == 0 { pool.pause() } else { pool.resume() }
                }
            });
        }
    });
    pool.resume();
    eventually("the last is told", || diary.of_the_pool().last() == Some(&Told::Resumed));
    let told = diary.of_the_pool();
    for (number, told) in told.iter().enumerate() {
        assert_eq!(*told, if number % 2 == 0 { Told::Paused } else { Told::Resumed }, "notice {number}");
    }
    assert_eq!(told.len() as u64, 2 * pool.counters().pauses);
}

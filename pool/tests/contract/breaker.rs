//! Failing fast while the database is down, and finding out when it is back.

use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use pool::{AcquireError, Builder, Event, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{EVENTUALLY, TestPool, blocked, eventually, options, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    waiters_are_told_the_cause_when_the_breaker_opens,
    an_open_breaker_turns_newcomers_away_at_once,
    an_open_breaker_probes_by_itself_one_attempt_at_a_time,
    the_first_success_closes_the_breaker,
    a_breaker_is_closed_before_anybody_can_have_the_connection,
    a_breaker_opens_again_in_the_next_outage,
    no_breaker_opens_while_a_live_connection_may_come_back,
    an_added_connection_closes_the_breaker,
    without_a_breaker_callers_wait,
    a_hopeless_error_is_told_to_those_who_come_during_the_pause,
    a_hopeless_error_is_not_tried_again_for_nobody,
);

fn quick<I: IdleSet>() -> Builder<Database, I> {
    options::<I>()
        .max_size(3)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(3))
        .fail_fast_after(Duration::from_millis(20))
}

/// A pool whose breaker is open, since its database is down.
fn broken_off<I: IdleSet>() -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = quick::<I>().build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    assert!(pool.get().is_err());
    assert!(pool.state().is_breaker_open, "{}", pool.state());
    (pool, database)
}

// 16, 21
fn waiters_are_told_the_cause_when_the_breaker_opens<I: IdleSet>() {
    let database = Database::new();
    let pool = quick::<I>().build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Hangs);
    let thread = blocked(&pool);
    let mut task = Task::waiting(pool.get_owned_async());
    assert!(!pool.state().is_breaker_open);
    database.on(Call::Connect, Behaviour::Fails);
    for answer in [thread.join().unwrap(), task.finish()] {
        let error = answer.expect_err("the database is down");
        let AcquireError::ConnectFailed { waited, .. } = &error else { panic!("{error}") };
        // Some time may pass between the first attempt and the one who waits for it.
        assert!(*waited < super::support::EVENTUALLY, "it waited out its time");
        assert!(error.to_string().contains("refuses to Connect"), "{error}");
    }
    assert_eq!((pool.counters().breaker_openings, pool.state().waiters), (1, 0));
    assert!(pool.state().to_string().ends_with("; breaker open"), "{}", pool.state());
}

// 21
fn an_open_breaker_turns_newcomers_away_at_once<I: IdleSet>() {
    let (pool, database) = broken_off::<I>();
    database.on(Call::Connect, Behaviour::Hangs);
    database.wait_until_inside(Call::Connect, 1);
    for _ in 0..20 {
        // At the first poll: without waiting for the attempt that is under way.
        let error = Task::new(pool.get_async()).expect_ready().expect_err("the database is down");
        assert!(error.connect_error().is_some(), "{error}");
        let error = pool.get().expect_err("the database is down");
        assert!(error.connect_error().is_some(), "{error}");
        assert_eq!(pool.state().waiters, 0);
    }
    database.on(Call::Connect, Behaviour::Works);
}

// 20, 21
fn an_open_breaker_probes_by_itself_one_attempt_at_a_time<I: IdleSet>() {
    let (pool, database) = broken_off::<I>();
    let asked = database.asked(Call::Connect);
    database.wait_until_asked(Call::Connect, asked + 5);
    database.on(Call::Connect, Behaviour::Hangs);
    database.wait_until_inside(Call::Connect, 1);
    thread::sleep(Duration::from_millis(20));
    assert_eq!((database.inside(Call::Connect), pool.state().connecting), (1, 1));
    database.on(Call::Connect, Behaviour::Works);
    eventually("it is back", || pool.state().idle == 1);
    // Nobody has asked for a second one.
    assert_eq!(database.counts().opened, 1);
    settled(&pool, &database);
}

// 21, 22
fn the_first_success_closes_the_breaker<I: IdleSet>() {
    let (pool, database) = broken_off::<I>();
    database.on(Call::Connect, Behaviour::Works);
    eventually("it closes by itself", || !pool.state().is_breaker_open && pool.state().idle == 1);
    let guards: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    assert_eq!(pool.state().lent, 3);
    drop(guards);
    settled(&pool, &database);
}

// 21
fn a_breaker_is_closed_before_anybody_can_have_the_connection<I: IdleSet>() {
    let database = Database::new();
    let observed: Arc<OnceLock<TestPool<I>>> = Arc::default();
    let (pool, (opened, open)) = (Arc::downgrade(&observed), mpsc::channel());
    let build = quick::<I>().observe(move |event| {
        if let Event::Connected { .. } = event
            && let Some(pool) = pool.upgrade()
        {
            opened.send(pool.get().expect("it is built").state().is_breaker_open).unwrap();
        }
    });
    let pool = observed.get_or_init(|| build.build(database.clone()).unwrap());
    database.on(Call::Connect, Behaviour::Fails);
    assert!(pool.get().is_err() && pool.state().is_breaker_open, "{}", pool.state());
    database.on(Call::Connect, Behaviour::Works);
    assert!(!open.recv_timeout(EVENTUALLY).expect("it connects by itself"));
    settled(pool, &database);
}

// 21, 22
fn a_breaker_opens_again_in_the_next_outage<I: IdleSet>() {
    let (pool, database) = broken_off::<I>();
    for outage in 2..=3 {
        database.on(Call::Connect, Behaviour::Works);
        eventually("it is back", || pool.get().is_ok());
        database.on(Call::Connect, Behaviour::Panics);
        database.kill_connections();
        let error = pool.get().expect_err("the database is down again");
        assert!(error.to_string().contains("told to panic"), "{error}");
        assert_eq!(pool.counters().breaker_openings, outage);
    }
}

// 18, 21
fn no_breaker_opens_while_a_live_connection_may_come_back<I: IdleSet>() {
    let database = Database::new();
    let pool = quick::<I>().fail_fast_after(Duration::ZERO).build(database.clone()).unwrap();
    let mut guard = pool.get().unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let mut waiter = Task::waiting(pool.get_owned_async());
    database.wait_until_asked(Call::Connect, 4);
    assert!(!pool.state().is_breaker_open && waiter.poll().is_pending());
    drop(guard);
    guard = waiter
        .expect_ready()
        .map(|owned| {
            assert_eq!(owned.id, 1);
            drop(owned);
            pool.get().unwrap()
        })
        .unwrap();
    // When it has gone, too, nothing is left to wait for.
    let mut waiter = Task::waiting(pool.get_owned_async());
    guard.mark_broken();
    drop(guard);
    assert!(waiter.finish().is_err_and(|error| error.connect_error().is_some()));
    eventually("the breaker opens", || pool.state().is_breaker_open);
}

// 21, 38
fn an_added_connection_closes_the_breaker<I: IdleSet>() {
    let database = Database::new();
    let pool = quick::<I>().fail_fast_after(Duration::ZERO).build(database.clone()).unwrap();
    let connection = pool.get().unwrap().detach();
    database.on(Call::Connect, Behaviour::Fails);
    assert!(pool.get().is_err() && pool.state().is_breaker_open);
    pool.add(connection).unwrap();
    assert!(!pool.state().is_breaker_open);
    let guard = pool.get().unwrap();
    // It will come back, so it may be waited for.
    let mut waiter = Task::waiting(pool.get_async());
    drop(guard);
    assert_eq!(waiter.finish().unwrap().id, 1);
}

// 17, 21
fn without_a_breaker_callers_wait<I: IdleSet>() {
    let database = Database::new();
    let pool = quick::<I>().fail_fast_after(None).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    let mut waiter = Task::waiting(pool.get_async());
    // Twenty pauses of half a millisecond at least; and many times what the others' patience is.
    database.wait_until_asked(Call::Connect, 40);
    assert!(waiter.poll().is_pending() && !pool.state().is_breaker_open);
    database.on(Call::Connect, Behaviour::Works);
    drop(waiter.finish().unwrap());
    drop(waiter);
    settled(&pool, &database);
}

// 12, 21
fn a_hopeless_error_is_told_to_those_who_come_during_the_pause<I: IdleSet>() {
    let database = Database::new();
    let hour = Duration::from_secs(3600);
    let pool = options::<I>().max_size(2).connect_backoff(hour, hour).build(database.clone()).unwrap();
    database.on(Call::Connect, Behaviour::FailsForGood);
    assert!(pool.get().is_err_and(|error| error.connect_error().is_some()));
    for _ in 0..5 {
        let error = Task::new(pool.get_async()).expect_ready().expect_err("the password is wrong");
        assert!(error.connect_error().is_some(), "{error}");
        assert!(pool.get().is_err_and(|error| error.connect_error().is_some()));
    }
    assert_eq!((database.asked(Call::Connect), pool.state().waiters), (1, 0));
    assert!(!pool.state().is_breaker_open, "nothing is to be tried by itself");
}

// 12, 20: a wrong password that is tried once a second locks accounts.
fn a_hopeless_error_is_not_tried_again_for_nobody<I: IdleSet>() {
    let (first, longest) = (Duration::from_millis(5), Duration::from_millis(10));
    let (pool, database) = {
        let (_, database) = pool_of::<I>(1);
        let pool = quick::<I>().connect_backoff(first, longest).fail_fast_after(Duration::ZERO);
        (pool.build(database.clone()).unwrap(), database)
    };
    database.on(Call::Connect, Behaviour::FailsForGood);
    assert!(pool.get().is_err());
    let asked = database.asked(Call::Connect);
    thread::sleep(10 * longest);
    assert_eq!(database.asked(Call::Connect), asked);
    // Whoever comes after the pause has it tried again, and heals the pool once the password is right.
    assert!(pool.get().is_err());
    assert_eq!(database.asked(Call::Connect), asked + 1);
    database.on(Call::Connect, Behaviour::Works);
    eventually("it works", || pool.get().is_ok());
    settled(&pool, &database);
}

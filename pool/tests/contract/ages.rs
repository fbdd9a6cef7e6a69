//! What time does to connections that nobody breaks.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use pool::IdleSet;

use super::database::{Behaviour, Call, Database};
use super::support::{eventually, options, settled};

for_every_kind!(
    idle_connections_are_closed_down_to_min_idle,
    min_idle_connections_are_not_closed_and_opened_in_turn,
    a_light_load_lets_the_pool_shrink,
    a_shrunk_pool_grows_again,
    what_is_used_is_not_idle,
    lifetime_is_enforced_on_the_idle,
    lifetime_is_enforced_on_return,
    lifetime_is_enforced_at_checkout,
    lifetimes_are_jittered,
    min_idle_is_refilled,
    min_idle_is_refilled_after_an_outage,
);

const SHORT: Duration = Duration::from_millis(50);

/// Opens as many connections as there may be, and returns them.
fn fill<I: IdleSet>(pool: &super::support::TestPool<I>) {
    let guards: Vec<_> = (0..pool.state().max_size).map(|_| pool.get().unwrap()).collect();
    drop(guards);
}

// 29
fn idle_connections_are_closed_down_to_min_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(8).min_idle(2).idle_timeout(SHORT).build(database.clone()).unwrap();
    fill(&pool);
    eventually("only min_idle are left", || pool.state().size == 2);
    thread::sleep(2 * SHORT);
    assert_eq!(pool.state().idle, 2);
    assert!(pool.counters().idle_timeouts >= 6);
    settled(&pool, &database);
}

// 29
fn min_idle_connections_are_not_closed_and_opened_in_turn<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(4).min_idle(4).idle_timeout(SHORT).build(database.clone()).unwrap();
    thread::sleep(4 * SHORT);
    assert_eq!((database.asked(Call::Connect), database.asked(Call::Close)), (4, 0));
    settled(&pool, &database);
}

// 30: whichever way the idle set keeps them, one caller in turn with himself needs one connection.
fn a_light_load_lets_the_pool_shrink<I: IdleSet>() {
    let database = Database::new();
    // Long, so that a pause of a busy machine is not mistaken for idleness.
    let pool = options::<I>().max_size(8).idle_timeout(12 * SHORT).build(database.clone()).unwrap();
    fill(&pool);
    eventually("the rest is closed", || {
        for _ in 0..10 {
            drop(pool.get().unwrap());
        }
        pool.state().size <= 2
    });
    settled(&pool, &database);
}

// 30
fn a_shrunk_pool_grows_again<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(6).idle_timeout(SHORT).build(database.clone()).unwrap();
    for _ in 0..3 {
        fill(&pool);
        assert!(database.counts().most <= 6);
        eventually("all are closed", || pool.state().size == 0);
    }
    settled(&pool, &database);
}

// 29
fn what_is_used_is_not_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).idle_timeout(4 * SHORT).build(database.clone()).unwrap();
    let until = Instant::now() + 10 * SHORT;
    let mut longest_pause = Duration::ZERO;
    let mut returned = None;
    while Instant::now() < until {
        let guard = pool.get().unwrap();
        if let Some(returned) = returned {
            longest_pause = longest_pause.max(Instant::now() - returned);
        }
        drop(guard);
        returned = Some(Instant::now());
        thread::sleep(SHORT / 10);
    }
    // On a machine that stops for so long, it was idle.
    if longest_pause < 2 * SHORT {
        assert_eq!(database.asked(Call::Connect), 1, "a used connection was closed as idle");
    }
    settled(&pool, &database);
}

// 31
fn lifetime_is_enforced_on_the_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).idle_timeout(None).max_lifetime(SHORT).build(database.clone()).unwrap();
    fill(&pool);
    database.wait_until_open(0);
    assert_eq!(pool.counters().lifetime_ends, 3);
    settled(&pool, &database);
}

// 31
fn lifetime_is_enforced_on_return<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).max_lifetime(SHORT).build(database.clone()).unwrap();
    let guard = pool.get().unwrap();
    thread::sleep(3 * SHORT);
    assert_eq!(database.asked(Call::Close), 0, "a lent connection was closed");
    drop(guard);
    assert_eq!((pool.counters().lifetime_ends, pool.state().idle), (1, 0), "it became idle first");
    database.wait_until_asked(Call::Close, 1);
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 31: no connection is lent that is older than its lifetime, but for the time between two beats.
fn lifetime_is_enforced_at_checkout<I: IdleSet>() {
    let database = Database::new();
    let lifetime = 4 * SHORT;
    let pool = options::<I>().max_size(1).max_lifetime(lifetime).build(database.clone()).unwrap();
    let mut seen: HashSet<u64> = HashSet::new();
    let since = Instant::now();
    while seen.len() < 4 {
        seen.insert(pool.get().unwrap().id);
    }
    // Three have lived their time, less a tenth at most.
    assert!(since.elapsed() >= 3 * lifetime * 9 / 10);
    assert_eq!(pool.counters().lifetime_ends, 3);
    settled(&pool, &database);
}

// 31: a lifetime is shortened by up to a tenth, never more. Without jitter none would end before its time.
fn lifetimes_are_jittered<I: IdleSet>() {
    let database = Database::new();
    let lifetime = Duration::from_secs(2);
    // The pool counts in milliseconds.
    let exact_to = Duration::from_millis(10);
    let pool = options::<I>()
        .max_size(32)
        .max_connecting(32)
        .idle_timeout(None)
        .max_lifetime(lifetime)
        // A short age makes for frequent beats: a lifetime ends with a beat.
        .validate_after_idle(SHORT)
        .build(database.clone())
        .unwrap();
    eventually("some end before their time", || {
        fill(&pool);
        database.wait_until_open(0);
        database.lived().iter().any(|lived| *lived < lifetime - exact_to)
    });
    let least = *database.lived().iter().min().unwrap();
    assert!(least >= lifetime * 9 / 10 - exact_to, "closed after {least:?} of {lifetime:?}");
    settled(&pool, &database);
}

// 32
fn min_idle_is_refilled<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(6).min_idle(3).build(database.clone()).unwrap();
    for _ in 0..3 {
        pool.get().unwrap().mark_broken();
    }
    eventually("the broken ones are replaced", || pool.state().idle >= 3);
    let guards = [pool.get().unwrap(), pool.get().unwrap()];
    eventually("as many are ready as before", || pool.state().idle >= 3);
    drop(guards);
    settled(&pool, &database);
}

// 22, 32
fn min_idle_is_refilled_after_an_outage<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(4)
        .min_idle(3)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(8))
        .build(database.clone())
        .unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    for _ in 0..3 {
        pool.get().unwrap().mark_broken();
    }
    let asked = database.asked(Call::Connect);
    database.wait_until_asked(Call::Connect, asked + 4);
    assert_eq!(pool.state().idle, 0);
    // Nobody asks for anything; the pool heals by itself.
    database.on(Call::Connect, Behaviour::Works);
    eventually("it heals", || pool.state().idle == 3);
    settled(&pool, &database);
}

//! Validating what nobody uses.

use std::time::{Duration, Instant};

use pool::IdleSet;

use super::database::{Behaviour, Call, Database};
use super::support::{eventually, lie_idle, options, settled};
use super::tasks::Task;

for_every_kind!(
    quiet_connections_are_asked_again_and_again,
    nothing_is_asked_without_the_option,
    the_dead_are_replaced_before_anybody_needs_them,
    few_are_asked_at_a_time,
    what_is_asked_counts_as_idle,
    the_dead_are_replaced_though_they_counted_as_idle,
    callers_go_on_while_a_quiet_connection_is_asked,
    being_asked_is_no_use,
    what_is_used_is_not_asked,
);

const SHORT: Duration = Duration::from_millis(30);

fn quiet_connections_are_asked_again_and_again<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).min_idle(3).keepalive(SHORT).build(database.clone()).unwrap();
    database.wait_until_asked(Call::Validate, 9);
    let asked: std::collections::HashSet<u64> =
        database.log().into_iter().filter(|(call, _)| *call == Call::Validate).map(|(_, id)| id).collect();
    assert_eq!(asked.len(), 3, "some are never asked");
    // They can be had like others, wherever they were put.
    eventually("none is being asked", || {
        let guards: Vec<_> = (0..3).map_while(|_| pool.try_get().ok()).collect();
        guards.len() == 3
    });
    assert_eq!((database.counts().opened, pool.counters().broken), (3, 0));
    settled(&pool, &database);
}

fn nothing_is_asked_without_the_option<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).min_idle(3).idle_timeout(100 * SHORT).build(database.clone()).unwrap();
    lie_idle(4 * SHORT);
    assert_eq!(database.asked(Call::Validate), 0);
    drop(pool);
}

// 24, 32
fn the_dead_are_replaced_before_anybody_needs_them<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(4).min_idle(3).keepalive(SHORT).build(database.clone()).unwrap();
    database.kill_connections_silently();
    eventually("all three are replaced", || pool.counters().broken == 3 && pool.state().idle == 3);
    assert!(pool.get().unwrap().id > 3);
    assert_eq!(pool.counters().failures, 0);
    settled(&pool, &database);
}

// 20
fn few_are_asked_at_a_time<I: IdleSet>() {
    let database = Database::new();
    let pool =
        options::<I>().max_size(8).min_idle(8).max_connecting(2).keepalive(SHORT).build(database.clone()).unwrap();
    database.on(Call::Validate, Behaviour::Hangs);
    database.wait_until_inside(Call::Validate, 2);
    lie_idle(3 * SHORT);
    assert_eq!((database.asked(Call::Validate), pool.state().checking, pool.state().idle), (2, 2, 6));
    database.on(Call::Validate, Behaviour::Works);
    // Each that ends makes room for the next.
    database.wait_until_asked(Call::Validate, 8);
    pool.close(super::support::EVENTUALLY).unwrap();
}

// 13
fn callers_go_on_while_a_quiet_connection_is_asked<I: IdleSet>() {
    let database = Database::new();
    let pool =
        options::<I>().max_size(2).min_idle(2).max_connecting(1).keepalive(SHORT).build(database.clone()).unwrap();
    database.on(Call::Validate, Behaviour::Hangs);
    database.wait_until_inside(Call::Validate, 1);
    let guard = pool.get().unwrap();
    // Who needs the other one waits for it like everybody.
    let mut waiter = Task::waiting(pool.get_async());
    database.on(Call::Validate, Behaviour::Works);
    drop(waiter.finish().unwrap());
    drop((guard, waiter));
    eventually("it comes to rest", || pool.state().idle == 2);
}

// 29
fn being_asked_is_no_use<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(3).keepalive(SHORT).idle_timeout(5 * SHORT).build(database.clone()).unwrap();
    drop([pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()]);
    database.wait_until_asked(Call::Validate, 1);
    eventually("all are closed", || pool.state().size == 0);
    assert_eq!(pool.counters().idle_timeouts, 3);
    settled(&pool, &database);
}

fn what_is_used_is_not_asked<I: IdleSet>() {
    let database = Database::new();
    let keepalive = 10 * SHORT;
    let pool = options::<I>().max_size(1).keepalive(keepalive).build(database.clone()).unwrap();
    let until = Instant::now() + 3 * keepalive;
    let (mut last, mut longest_pause) = (Instant::now(), Duration::ZERO);
    while Instant::now() < until {
        drop(pool.get().unwrap());
        longest_pause = longest_pause.max(last.elapsed());
        last = Instant::now();
    }
    // On a machine that stops this thread for so long, it was not used.
    assert!(longest_pause > keepalive / 2 || database.asked(Call::Validate) == 0);
    settled(&pool, &database);
}

// 19, 29
fn what_is_asked_counts_as_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(8).min_idle(3).keepalive(SHORT).build(database.clone()).unwrap();
    database.on(Call::Validate, Behaviour::Hangs);
    database.wait_until_inside(Call::Validate, 3);
    // The upkeep thread looks after `min_idle` at each of its beats.
    lie_idle(4 * SHORT);
    assert_eq!((pool.state().checking, pool.state().size), (3, 3), "{}", pool.state());
    assert_eq!(database.asked(Call::Connect), 3, "connections were opened beside those that will be idle again");
    database.on(Call::Validate, Behaviour::Works);
    database.wait_until_asked(Call::Validate, 12);
    assert_eq!(database.asked(Call::Connect), 3);
    pool.close(super::support::EVENTUALLY).unwrap();
}

// 32
fn the_dead_are_replaced_though_they_counted_as_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(8).min_idle(3).keepalive(SHORT).build(database.clone()).unwrap();
    database.on(Call::Validate, Behaviour::Hangs);
    database.wait_until_inside(Call::Validate, 3);
    // Closing them hangs, too: others are opened meanwhile.
    database.on(Call::Close, Behaviour::Hangs);
    database.kill_connections_silently();
    database.on(Call::Validate, Behaviour::Works);
    eventually("three others are idle", || pool.state().closing == 3 && pool.state().idle + pool.state().checking == 3);
    assert_eq!(database.asked(Call::Connect), 6);
    database.on(Call::Close, Behaviour::Works);
    settled_but_for_checks(&pool, &database);
}

/// At rest but for what is asked again and again.
fn settled_but_for_checks<I: IdleSet>(pool: &super::support::TestPool<I>, database: &Database) {
    eventually("the dead are closed", || pool.state().size == 3 && database.counts().open == 3);
}

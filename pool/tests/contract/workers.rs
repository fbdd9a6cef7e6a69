//! Calls that hang, many of them: how many threads they cost, and whom they hold up.

use std::thread;
use std::time::Duration;

use pool::IdleSet;

use super::closing::threads_named;
use super::database::{Behaviour, Call, Database};
use super::support::{eventually, lie_idle, options, settled};

for_every_kind!(
    many_dead_connections_cost_few_threads,
    hanging_closes_hold_up_closes_only,
    hanging_resets_hold_up_resets_only,
    hanging_validations_hold_up_validations_only,
    what_waits_for_a_thread_is_done_in_the_end,
);

/// As the pool's documentation has it.
const MOST_CLOSING: usize = 32;
const MOST_RESETTING: usize = 32;

/// Everything but what hangs goes on: connects, validations, resets.
#[track_caller]
fn goes_on<I: IdleSet>(pool: &super::support::TestPool<I>, database: &Database, but: Call) {
    let mut guard = pool.get().unwrap();
    let mut others: Vec<_> = (0..2).map(|_| pool.get().unwrap()).collect();
    if but != Call::Reset {
        let asked = database.asked(Call::Reset);
        guard.is_dirty = true;
        drop(guard);
        database.wait_until_asked(Call::Reset, asked + 1);
        eventually("it is reset", || database.inside(Call::Reset) == 0);
        guard = pool.get().unwrap();
    }
    if but != Call::Close {
        let id = guard.id;
        guard.mark_broken();
        drop(guard);
        eventually("it is closed", || database.log().contains(&(Call::Close, id)) && database.inside(Call::Close) == 0);
    }
    others.clear();
}

// 13, 22
fn many_dead_connections_cost_few_threads<I: IdleSet>() {
    const SIZE: usize = 300;
    let name = format!("mdc-{}", &I::NAME[..2]);
    let database = Database::new();
    let pool = options::<I>().name(&name).max_size(SIZE + 1).max_connecting(3).build(database.clone()).unwrap();
    let guards: Vec<_> = (0..SIZE).map(|_| pool.get().unwrap()).collect();
    database.on(Call::Close, Behaviour::Hangs);
    database.kill_connections();
    drop(guards);
    // Walks past all of them, and is served by a connect.
    assert!(pool.get().unwrap().id > SIZE as u64);
    database.wait_until_inside(Call::Close, MOST_CLOSING);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(database.inside(Call::Close), MOST_CLOSING);
    let threads = threads_named(&name);
    assert!(threads <= MOST_CLOSING + MOST_RESETTING + 2 * 3 + 1, "{threads} threads");
    database.on(Call::Close, Behaviour::Works);
    eventually("all are closed", || pool.state().closing == 0);
    settled(&pool, &database);
}

// 13
fn hanging_closes_hold_up_closes_only<I: IdleSet>() {
    let database = Database::new();
    let size = MOST_CLOSING + 8;
    let pool = options::<I>().max_size(size + 4).max_connecting(2).build(database.clone()).unwrap();
    let mut guards: Vec<_> = (0..size).map(|_| pool.get().unwrap()).collect();
    database.on(Call::Close, Behaviour::Hangs);
    guards.iter_mut().for_each(|guard| guard.mark_broken());
    drop(guards);
    database.wait_until_inside(Call::Close, MOST_CLOSING);
    goes_on(&pool, &database, Call::Close);
    assert_eq!((database.inside(Call::Close), pool.state().closing), (MOST_CLOSING, size));
    database.on(Call::Close, Behaviour::Works);
    settled(&pool, &database);
}

// 13, 28
fn hanging_resets_hold_up_resets_only<I: IdleSet>() {
    let database = Database::new();
    let size = MOST_RESETTING + 8;
    let pool = options::<I>().max_size(size + 4).max_connecting(2).build(database.clone()).unwrap();
    let mut guards: Vec<_> = (0..size).map(|_| pool.get().unwrap()).collect();
    database.on(Call::Reset, Behaviour::Hangs);
    guards.iter_mut().for_each(|guard| guard.is_dirty = true);
    drop(guards);
    database.wait_until_inside(Call::Reset, MOST_RESETTING);
    goes_on(&pool, &database, Call::Reset);
    assert_eq!((database.inside(Call::Reset), pool.state().checking), (MOST_RESETTING, size));
    database.on(Call::Reset, Behaviour::Works);
    settled(&pool, &database);
}

// 13, 24
fn hanging_validations_hold_up_validations_only<I: IdleSet>() {
    // Longer than a new connection waits for the one it was opened for, or it would be validated, too.
    const WINDOW: Duration = Duration::from_millis(500);
    let database = Database::new();
    let pool =
        options::<I>().max_size(8).max_connecting(2).validate_after_idle(WINDOW).build(database.clone()).unwrap();
    drop([pool.get().unwrap(), pool.get().unwrap()]);
    lie_idle(WINDOW);
    database.on(Call::Validate, Behaviour::Hangs);
    // Two cannot be lent before they have been asked, so these are opened for us.
    let guards: Vec<_> = (0..6).map(|_| pool.get().unwrap()).collect();
    database.wait_until_inside(Call::Validate, 2);
    assert_eq!((pool.state().checking, pool.state().lent), (2, 6));
    let mut guards = guards;
    guards[0].is_dirty = true;
    guards[1].mark_broken();
    drop(guards);
    database.wait_until_asked(Call::Reset, 1);
    database.wait_until_asked(Call::Close, 1);
    database.on(Call::Validate, Behaviour::Works);
    settled(&pool, &database);
}

// 2
fn what_waits_for_a_thread_is_done_in_the_end<I: IdleSet>() {
    const SIZE: usize = 3 * MOST_CLOSING;
    let database = Database::new();
    let pool = options::<I>().max_size(SIZE).max_connecting(8).build(database.clone()).unwrap();
    let mut guards: Vec<_> = (0..SIZE).map(|_| pool.get().unwrap()).collect();
    for call in [Call::Close, Call::Reset] {
        database.on(call, Behaviour::Hangs);
    }
    for (index, guard) in guards.iter_mut().enumerate() {
        if index % 3 == 0 { guard.mark_broken() } else { guard.is_dirty = true }
    }
    drop(guards);
    // One after the other, each lets the next one in.
    for passes in [1, 5, SIZE] {
        database.let_through(Call::Close, passes);
        database.let_through(Call::Reset, passes);
    }
    database.wait_until_asked(Call::Reset, SIZE * 2 / 3);
    database.wait_until_asked(Call::Close, SIZE / 3);
    settled(&pool, &database);
    assert_eq!(pool.state().idle, SIZE * 2 / 3);
}

//! Connections that come from outside.

use pool::{AddError, IdleSet};

use super::database::{Behaviour, Call};
use super::support::{pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    an_added_connection_is_lent_like_any_other,
    an_added_connection_obeys_the_limit,
    an_added_connection_serves_a_waiter,
    a_closed_pool_gives_an_added_connection_back,
    an_added_connection_is_purged_like_any_other,
);

// 37, 38
fn an_added_connection_is_lent_like_any_other<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let mut connection = pool.get().unwrap().detach();
    assert_eq!(pool.state().size, 0);
    connection.is_dirty = true;
    pool.add(connection).unwrap();
    assert_eq!((pool.state().idle, pool.counters().added), (1, 1));
    let guard = pool.try_get().unwrap();
    assert_eq!(guard.id, 1);
    drop(guard);
    database.kill_connections();
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 38
fn an_added_connection_obeys_the_limit<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let connection = pool.get().unwrap().detach();
    let guard = pool.get().unwrap();
    let error = pool.add(connection).expect_err("there is one already");
    assert!(matches!(&error, AddError::Full { state, .. } if state.lent == 1), "{error}");
    assert!(error.to_string().contains("full") && format!("{error:?}").contains("Full"), "{error}");
    let connection = error.into_connection();
    assert_eq!(connection.id, 1);
    // One that is being closed counts as well.
    let mut guard = guard;
    database.on(Call::Close, Behaviour::Hangs);
    guard.mark_broken();
    drop(guard);
    database.wait_until_inside(Call::Close, 1);
    let connection = pool.add(connection).expect_err("there is one still").into_connection();
    database.on(Call::Close, Behaviour::Works);
    super::support::eventually("it is closed", || pool.state().size == 0);
    pool.add(connection).unwrap();
    assert_eq!(pool.get().unwrap().id, 1);
}

// 5, 38
fn an_added_connection_serves_a_waiter<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(3);
    let connection = pool.get().unwrap().detach();
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    pool.add(connection).unwrap();
    assert_eq!(waiter.finish().unwrap().id, 1);
    database.on(Call::Connect, Behaviour::Works);
    drop(waiter);
    settled(&pool, &database);
}

// 38
fn a_closed_pool_gives_an_added_connection_back<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let connection = pool.get().unwrap().detach();
    pool.close(super::support::EVENTUALLY).unwrap();
    let error = pool.add(connection).expect_err("closed");
    assert!(matches!(error, AddError::Closed { .. }) && error.to_string() == "the pool is closed", "{error}");
    assert_eq!(error.into_connection().id, 1);
    assert_eq!(pool.state().size, 0);
}

// 33, 38
fn an_added_connection_is_purged_like_any_other<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let (first, second) = (pool.get().unwrap().detach(), pool.get().unwrap().detach());
    pool.add(first).unwrap();
    pool.purge();
    // This one is added after the purge, and the pool does not know its age.
    pool.add(second).unwrap();
    database.wait_until_open(1);
    assert_eq!((pool.get().unwrap().id, pool.counters().purged), (2, 1));
    settled(&pool, &database);
}

//! Closing everything that is open, whoever has it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pool::IdleSet;

use super::database::{Behaviour, Call, Database};
use super::support::{eventually, lie_idle, options, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    a_purge_closes_what_is_idle,
    a_purge_closes_what_is_set_aside,
    a_purge_closes_what_is_lent_on_its_return,
    a_purge_closes_what_is_being_opened,
    a_purge_closes_what_is_being_validated_or_reset,
    a_purge_spares_what_is_opened_after_it,
    a_purge_refills_min_idle,
    purges_may_follow_each_other,
    nobody_gets_an_old_connection_after_a_purge,
);

// 33
fn a_purge_closes_what_is_idle<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(3);
    drop([pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()]);
    pool.purge();
    database.wait_until_open(0);
    assert_eq!((pool.counters().purged, pool.state().idle), (3, 0));
    assert_eq!(pool.get().unwrap().id, 4);
    settled(&pool, &database);
}

// 33
fn a_purge_closes_what_is_set_aside<I: IdleSet>() {
    let window = Duration::from_millis(50);
    let database = Database::new();
    let pool = options::<I>().max_size(4).min_idle(4).validate_after_idle(window).build(database.clone()).unwrap();
    // Many beats, each of which sets one aside.
    lie_idle(2 * window);
    database.on(Call::Connect, Behaviour::Hangs);
    pool.purge();
    database.wait_until_open(0);
    database.on(Call::Connect, Behaviour::Works);
    eventually("all are replaced", || pool.state().idle == 4);
    settled(&pool, &database);
}

// 33
fn a_purge_closes_what_is_lent_on_its_return<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let (mut kept, lent) = (pool.get().unwrap(), pool.get().unwrap());
    pool.purge();
    assert_eq!((pool.state().lent, database.asked(Call::Close)), (2, 0));
    lent.used(|| ());
    drop(lent);
    database.wait_until_open(1);
    // One that is reset first is closed all the same.
    kept.is_dirty = true;
    drop(kept);
    database.wait_until_open(0);
    assert_eq!(pool.counters().purged, 2);
    assert_eq!(pool.get().unwrap().id, 3);
    settled(&pool, &database);
}

// 33: it may have reached the server that is gone.
fn a_purge_closes_what_is_being_opened<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Connect, Behaviour::Hangs);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    pool.purge();
    database.on(Call::Connect, Behaviour::Works);
    assert_eq!(waiter.finish().unwrap().id, 2);
    assert_eq!(pool.counters().purged, 1);
    drop(waiter);
    settled(&pool, &database);
}

// 33
fn a_purge_closes_what_is_being_validated_or_reset<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(2).validate_after_idle(Duration::ZERO).build(database.clone()).unwrap();
    let mut dirty = pool.get().unwrap();
    drop(pool.get().unwrap());
    database.on(Call::Validate, Behaviour::Hangs);
    database.on(Call::Reset, Behaviour::Hangs);
    dirty.is_dirty = true;
    drop(dirty);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Validate, 1);
    database.wait_until_inside(Call::Reset, 1);
    pool.purge();
    assert_eq!(pool.state().checking, 2);
    database.on(Call::Validate, Behaviour::Works);
    database.on(Call::Reset, Behaviour::Works);
    assert!(waiter.finish().unwrap().id > 2, "an old connection was lent");
    eventually("both are closed", || pool.counters().purged == 2);
    drop(waiter);
    settled(&pool, &database);
}

// 33: however long an old loan lasts.
fn a_purge_spares_what_is_opened_after_it<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    let old = pool.get().unwrap();
    pool.purge();
    for _ in 0..100 {
        assert_eq!(pool.get().unwrap().id, 2);
    }
    drop(old);
    database.wait_until_open(1);
    for _ in 0..100 {
        assert_eq!(pool.get().unwrap().id, 2);
    }
    assert_eq!((pool.counters().purged, database.counts().opened), (1, 2));
    settled(&pool, &database);
}

// 32, 33
fn a_purge_refills_min_idle<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(4).min_idle(3).build(database.clone()).unwrap();
    pool.purge();
    eventually("they are replaced", || pool.state().idle == 3 && database.counts().opened == 6);
    assert!(pool.get().unwrap().id > 3);
    settled(&pool, &database);
}

// 2, 33
fn purges_may_follow_each_other<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(3);
    let first = pool.get().unwrap();
    pool.purge();
    let second = pool.get().unwrap();
    pool.purge();
    let third = pool.get().unwrap();
    pool.purge();
    pool.purge();
    drop((first, second, third));
    database.wait_until_open(0);
    assert_eq!(pool.counters().purged, 3);
    let new: Vec<_> = (0..3).map(|_| pool.get().unwrap().id).collect();
    assert!(new.iter().all(|id| *id > 3), "{new:?}");
    settled(&pool, &database);
}

// 3, 33
fn nobody_gets_an_old_connection_after_a_purge<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(3);
    // Connections up to this one were open before a purge that is over.
    let purged_up_to = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for user in 0..5 {
            let (pool, purged_up_to, is_over) = (&pool, &purged_up_to, &is_over);
            scope.spawn(move || {
                let mut round = user;
                while !is_over.load(Ordering::Relaxed) {
                    round += 1;
                    let too_old = purged_up_to.load(Ordering::SeqCst);
                    let mut guard = match round % 3 {
                        0 => super::tasks::block_on(pool.get_owned_async()).unwrap(),
                        _ => pool.get_owned().unwrap(),
                    };
                    assert!(guard.id > too_old, "{} was lent, {too_old} was purged", guard.id);
                    guard.used(|| ());
                    guard.is_dirty = round % 7 == 0;
                }
            });
        }
        for _ in 0..100 {
            let opened = database.counts().opened as u64;
            pool.purge();
            purged_up_to.store(opened, Ordering::SeqCst);
            // Something new is opened and used, or there would be nothing to purge.
            let served = pool.counters().checkouts;
            eventually("it is used", || pool.counters().checkouts >= served + 4);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // One or more with each purge, but for those that found nothing open on a busy machine.
    assert!(pool.counters().purged >= 50, "{:?}", pool.counters());
    pool.purge();
    database.wait_until_open(0);
    let guards: Vec<_> = (0..3).map(|_| pool.get().unwrap()).collect();
    drop(guards);
    settled(&pool, &database);
}

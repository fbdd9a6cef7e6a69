//! Connections that die, and how callers are kept from noticing.

use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, IdleSet};

use super::database::{Behaviour, Call, Database, Fault};
use super::support::{eventually, lie_idle, options, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    a_waiter_is_woken_when_a_broken_connection_frees_capacity,
    a_dead_connection_is_replaced_without_an_error,
    every_connection_may_die_and_the_pool_recovers,
    thousands_of_dead_connections_are_too_many_for_no_stack,
    validation_is_skipped_inside_its_window,
    validation_is_done_outside_its_window,
    the_window_begins_anew_at_each_return,
    a_zero_window_validates_every_checkout,
    a_failed_validation_is_replaced_without_an_error,
    one_caller_in_a_quiet_pool_starts_few_validations,
    a_fresh_connection_is_not_hidden_behind_those_to_be_validated,
    a_connection_broken_on_return_is_discarded,
    a_connection_marked_broken_is_discarded,
    an_error_in_run_discards_only_when_it_is_fatal,
    a_connection_whose_holder_panicked_is_discarded,
    a_guard_taken_while_panicking_goes_back_sound,
    what_was_held_against_a_connection_leaves_with_it,
    reset_runs_before_the_next_use,
    a_failed_reset_discards,
    a_reset_that_hangs_holds_nobody_up,
);

// 9
fn a_waiter_is_woken_when_a_broken_connection_frees_capacity<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let mut guard = pool.get().unwrap();
    let mut waiter = Task::waiting(pool.get_async());
    let blocked = super::support::blocked(&pool);
    guard.mark_broken();
    drop(guard);
    assert_eq!(waiter.finish().unwrap().id, 2);
    drop(waiter);
    drop(blocked.join().unwrap().unwrap());
    settled(&pool, &database);
}

// 24
fn a_dead_connection_is_replaced_without_an_error<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    drop(pool.get().unwrap());
    database.kill_connections();
    assert_eq!(pool.get().unwrap().id, 2);
    assert_eq!(pool.counters().broken, 1);
    settled(&pool, &database);
}

// 22
fn every_connection_may_die_and_the_pool_recovers<I: IdleSet>() {
    const SIZE: usize = 8;
    let database = Database::new();
    let pool = options::<I>()
        .max_size(SIZE)
        .min_idle(SIZE)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(4))
        .build(database.clone())
        .unwrap();
    for round in 1..=3 {
        database.kill_connections();
        database.on(Call::Connect, Behaviour::Fails);
        let failed = pool.get_timeout(Duration::from_millis(30)).expect_err("the database is down");
        assert!(matches!(failed, AcquireError::ConnectFailed { .. }), "{failed}");
        database.on(Call::Connect, Behaviour::Works);
        let guards: Vec<_> = (0..SIZE).map(|_| pool.get().unwrap()).collect();
        assert!(guards.iter().all(|guard| guard.id > (SIZE * round) as u64), "a dead connection was lent");
        drop(guards);
        eventually("as many as before", || pool.state().idle == SIZE);
    }
    settled(&pool, &database);
}

// 22: a caller walks past all of them.
fn thousands_of_dead_connections_are_too_many_for_no_stack<I: IdleSet>() {
    // With a call inside a call for each, a stack of 128 KiB would hold a tenth of them.
    const SIZE: usize = 4_000;
    let database = Database::new();
    let pool = options::<I>().max_size(SIZE).max_connecting(1).min_idle(SIZE).build(database.clone()).unwrap();
    database.on(Call::Close, Behaviour::Works);
    database.kill_connections();
    let caller = thread::Builder::new().stack_size(128 * 1024);
    thread::scope(|scope| {
        let id = caller.spawn_scoped(scope, || pool.get().unwrap().id).unwrap().join().unwrap();
        assert!(id > SIZE as u64, "a dead connection was lent");
    });
}

// 24
fn validation_is_skipped_inside_its_window<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    for _ in 0..100 {
        drop(pool.get().unwrap());
    }
    assert_eq!(database.asked(Call::Validate), 0);
}

// 24
fn validation_is_done_outside_its_window<I: IdleSet>() {
    let window = Duration::from_millis(20);
    let database = Database::new();
    let pool = options::<I>().max_size(1).validate_after_idle(window).build(database.clone()).unwrap();
    drop(pool.get().unwrap());
    lie_idle(window);
    assert_eq!(pool.get().unwrap().id, 1);
    assert_eq!(database.asked(Call::Validate), 1);
    settled(&pool, &database);
}

// 24: a validation is no licence for the time after the next return.
fn the_window_begins_anew_at_each_return<I: IdleSet>() {
    let window = Duration::from_millis(20);
    let database = Database::new();
    let pool = options::<I>().max_size(1).validate_after_idle(window).build(database.clone()).unwrap();
    drop(pool.get().unwrap());
    for round in 1..=5 {
        // On a busy machine the pool's clock may stand still for a while.
        eventually("it lay idle for longer than the window and is asked", || {
            lie_idle(window);
            drop(pool.get().unwrap());
            database.asked(Call::Validate) == round
        });
    }
}

// 24
fn a_zero_window_validates_every_checkout<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>().max_size(1).validate_after_idle(Duration::ZERO).build(database.clone()).unwrap();
    for _ in 0..50 {
        drop(pool.get().unwrap());
    }
    for _ in 0..50 {
        drop(super::tasks::block_on(pool.get_async()).unwrap());
    }
    let asked = database.asked(Call::Validate);
    assert!(asked >= 99, "{asked} validations of 100 checkouts, of which one was of a new connection");
    settled(&pool, &database);
}

// 24
fn a_failed_validation_is_replaced_without_an_error<I: IdleSet>() {
    let window = Duration::from_millis(20);
    let database = Database::new();
    let pool = options::<I>().max_size(2).min_idle(2).validate_after_idle(window).build(database.clone()).unwrap();
    database.kill_connections_silently();
    lie_idle(window);
    let guard = pool.get().unwrap();
    assert!(guard.id > 2, "a dead connection was lent");
    drop(guard);
    eventually("both are replaced", || {
        let mut both = (pool.get(), pool.get());
        both.0.as_mut().unwrap().id > 2 && both.1.as_mut().unwrap().id > 2
    });
    settled(&pool, &database);
}

// 24
fn one_caller_in_a_quiet_pool_starts_few_validations<I: IdleSet>() {
    const SIZE: usize = 32;
    let window = Duration::from_millis(20);
    let database = Database::new();
    let pool = options::<I>()
        .max_size(SIZE)
        .min_idle(SIZE)
        .max_connecting(2)
        .validate_after_idle(window)
        .build(database.clone())
        .unwrap();
    lie_idle(window);
    database.on(Call::Validate, Behaviour::Hangs);
    let mut caller = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Validate, 2);
    let asked = database.asked(Call::Validate);
    assert!(asked <= 2, "{asked} connections were asked for one caller");
    database.on(Call::Validate, Behaviour::Works);
    drop(caller.finish().unwrap());
}

// 5, 24: as many validations hang as may run at once; what need not be validated is lent all the same.
fn a_fresh_connection_is_not_hidden_behind_those_to_be_validated<I: IdleSet>() {
    const SIZE: usize = 6;
    let window = Duration::from_millis(100);
    let database = Database::new();
    let pool = options::<I>()
        .max_size(SIZE)
        .min_idle(SIZE)
        .max_connecting(1)
        .idle_timeout(None)
        .validate_after_idle(window)
        .build(database.clone())
        .unwrap();
    let used = pool.get().unwrap();
    let (id, mut others) = (used.id, Vec::new());
    // All but one grow old, whichever way the set keeps them.
    lie_idle(window);
    database.on(Call::Validate, Behaviour::Hangs);
    let mut waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Validate, 1);
    drop(used);
    let answer = waiter.finish().unwrap();
    assert_eq!(answer.id, id);
    drop(answer);
    for _ in 0..3 {
        let again = pool.try_get().expect("it is idle and fresh");
        assert_eq!(again.id, id);
        drop(again);
        others.push(Task::new(pool.get_async()));
    }
    database.on(Call::Validate, Behaviour::Works);
}

// 25
fn a_connection_broken_on_return_is_discarded<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    pool.get().unwrap().is_broken = true;
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 25
fn a_connection_marked_broken_is_discarded<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    pool.get().unwrap().mark_broken();
    pool.get_owned().unwrap().mark_broken();
    assert_eq!(pool.get().unwrap().id, 3);
    assert_eq!(pool.counters().broken, 2);
    settled(&pool, &database);
}

// 25
fn an_error_in_run_discards_only_when_it_is_fatal<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let failing = |is_fatal| pool.get().unwrap().run(|_| Err::<(), _>(Fault::of_work(is_fatal)));
    assert_eq!(failing(false), Err(Fault::of_work(false)));
    assert_eq!(pool.get().unwrap().run(|connection| Ok(connection.id)), Ok(1));
    assert_eq!(failing(true), Err(Fault::of_work(true)));
    assert_eq!(pool.get().unwrap().id, 2);
    let owned = pool.get_owned().unwrap().run(|_| Err::<(), _>(Fault::of_work(true)));
    assert!(owned.is_err());
    assert_eq!(pool.get().unwrap().id, 3);
    settled(&pool, &database);
}

// 25
fn a_connection_whose_holder_panicked_is_discarded<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let holder = {
        let pool = pool.clone();
        thread::spawn(move || {
            let _guard = pool.get().unwrap();
            panic!("in the middle of a transaction");
        })
    };
    assert!(holder.join().is_err());
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 25: a destructor that runs while its thread panics may use the pool like anybody else.
fn a_guard_taken_while_panicking_goes_back_sound<I: IdleSet>() {
    struct UsesThePool<I: IdleSet>(super::support::TestPool<I>);
    impl<I: IdleSet> Drop for UsesThePool<I> {
        fn drop(&mut self) {
            drop(self.0.get().unwrap());
        }
    }
    let (pool, _database) = pool_of::<I>(1);
    let user = UsesThePool(pool.clone());
    let panicking = thread::spawn(move || {
        let _user = user;
        panic!("for another reason");
    });
    assert!(panicking.join().is_err());
    assert_eq!(pool.get().unwrap().id, 1, "a sound connection was closed");
}

// 25, 37: the next connection in its place is as good as new.
fn what_was_held_against_a_connection_leaves_with_it<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let mut guard = pool.get().unwrap();
    guard.mark_broken();
    assert_eq!(guard.detach().id, 1);
    let guard = pool.get().unwrap();
    assert_eq!(guard.id, 2);
    // Somebody waits, so the checkin looks at everything there is to know.
    let blocked = super::support::blocked(&pool);
    drop(guard);
    assert_eq!(blocked.join().unwrap().unwrap().id, 2, "a sound connection was closed");
    assert_eq!(pool.counters().broken, 0);
    settled(&pool, &database);
}

// 28
fn reset_runs_before_the_next_use<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    pool.get().unwrap().is_dirty = true;
    let guard = pool.get().unwrap();
    assert!(!guard.is_dirty && guard.id == 1);
    drop(guard);
    assert_eq!(database.asked(Call::Reset), 1);
    let log: Vec<_> =
        database.log().into_iter().filter(|(call, _)| matches!(call, Call::Reset | Call::LooksAlive)).collect();
    let reset = log.iter().position(|(call, _)| *call == Call::Reset).unwrap();
    assert_eq!(log[reset + 1..], [(Call::LooksAlive, 1)]);
    settled(&pool, &database);
}

// 28
fn a_failed_reset_discards<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    database.on(Call::Reset, Behaviour::Fails);
    pool.get().unwrap().is_dirty = true;
    assert_eq!(pool.get().unwrap().id, 2);
    settled(&pool, &database);
}

// 13, 28: neither the one who returns it nor the others.
fn a_reset_that_hangs_holds_nobody_up<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(2);
    database.on(Call::Reset, Behaviour::Hangs);
    pool.get().unwrap().is_dirty = true;
    database.wait_until_inside(Call::Reset, 1);
    assert_eq!(pool.state().checking, 1);
    let second = pool.get().unwrap();
    assert_eq!(second.id, 2);
    let since = Instant::now();
    let timeout = Duration::from_millis(20);
    let error = pool.get_timeout(timeout).expect_err("one is being reset, one is lent");
    assert!(matches!(error, AcquireError::TimedOut { .. }) && since.elapsed() >= timeout, "{error}");
    drop(second);
    drop(pool.get().unwrap());
    database.on(Call::Reset, Behaviour::Works);
    settled(&pool, &database);
}

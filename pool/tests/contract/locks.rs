//! No lock of the pool is held while foreign code runs: a manager may block, and may use the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pool::{Event, IdleSet};

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, eventually, options, options_with_hooks, pool_of, settled};
use super::tasks::Task;

for_every_kind!(
    callers_go_on_while_connect_hangs,
    callers_go_on_while_validation_hangs,
    callers_go_on_while_reset_hangs,
    callers_go_on_while_close_hangs,
    callers_go_on_while_a_look_at_checkout_hangs,
    callers_go_on_while_a_look_at_checkin_hangs,
    callers_go_on_while_on_connect_hangs,
    callers_go_on_while_on_release_hangs,
    callers_go_on_while_on_acquire_hangs,
    callers_go_on_while_on_checkin_hangs,
    callers_go_on_while_an_observer_hangs,
    a_manager_may_use_the_pool_in_every_call,
    a_connection_may_use_the_pool_when_it_is_dropped,
);

/// Somebody is stuck in `call`; others use the pool's other connection meanwhile, and look at it.
fn callers_go_on<I: IdleSet>(pool: &TestPool<I>, database: &Database, call: Call) {
    database.wait_until_inside(call, 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let guard = pool.get().unwrap();
                guard.used(thread::yield_now);
                drop(guard);
                drop(Task::new(pool.get_async()).finish().unwrap());
                drop(Task::new(pool.get_async()).poll());
                let (state, _) = (pool.state(), pool.counters());
                assert!(state.size <= state.max_size);
            }
        });
    });
    assert_eq!(database.inside(call), 1);
}

/// A pool of two connections, of which the first is idle.
fn pair<I: IdleSet>() -> (TestPool<I>, Database) {
    let (pool, database) = pool_of::<I>(2);
    drop(pool.get().unwrap());
    (pool, database)
}

// 23
fn callers_go_on_while_connect_hangs<I: IdleSet>() {
    let (pool, database) = pair::<I>();
    database.on(Call::Connect, Behaviour::Hangs);
    let guard = pool.get().unwrap();
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::Connect, 1);
    drop(waiter);
    drop(guard);
    callers_go_on(&pool, &database, Call::Connect);
    database.on(Call::Connect, Behaviour::Works);
    settled(&pool, &database);
}

// 23
fn callers_go_on_while_validation_hangs<I: IdleSet>() {
    let window = Duration::from_millis(300);
    let database = Database::new();
    let pool =
        options::<I>().max_size(2).max_connecting(1).validate_after_idle(window).build(database.clone()).unwrap();
    drop(pool.get().unwrap());
    thread::sleep(2 * window);
    database.on(Call::Validate, Behaviour::Hangs);
    drop(Task::waiting(pool.get_async()));
    // What is opened now is lent again before it is due, unless this machine stops for the whole window.
    callers_go_on(&pool, &database, Call::Validate);
    database.on(Call::Validate, Behaviour::Works);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 23
fn callers_go_on_while_reset_hangs<I: IdleSet>() {
    let (pool, database) = pair::<I>();
    database.on(Call::Reset, Behaviour::Hangs);
    pool.get().unwrap().is_dirty = true;
    callers_go_on(&pool, &database, Call::Reset);
    database.on(Call::Reset, Behaviour::Works);
    settled(&pool, &database);
}

// 23
fn callers_go_on_while_close_hangs<I: IdleSet>() {
    let (pool, database) = pair::<I>();
    database.on(Call::Close, Behaviour::Hangs);
    pool.get().unwrap().mark_broken();
    callers_go_on(&pool, &database, Call::Close);
    database.on(Call::Close, Behaviour::Works);
    settled(&pool, &database);
}

// 23
fn callers_go_on_while_a_look_at_checkout_hangs<I: IdleSet>() {
    the_look_hangs::<I>(Call::LooksAlive);
}

// 23
fn callers_go_on_while_a_look_at_checkin_hangs<I: IdleSet>() {
    the_look_hangs::<I>(Call::HasBroken);
    the_look_hangs::<I>(Call::IsDirty);
}

// 23
fn callers_go_on_while_on_acquire_hangs<I: IdleSet>() {
    let (pool, database) = pair_with_hooks::<I>();
    a_call_of_the_callers_hangs(&pool, &database, Call::OnAcquire);
}

// 23
fn callers_go_on_while_on_checkin_hangs<I: IdleSet>() {
    let (pool, database) = pair_with_hooks::<I>();
    a_call_of_the_callers_hangs(&pool, &database, Call::OnCheckin);
}

// 23
fn callers_go_on_while_on_connect_hangs<I: IdleSet>() {
    let (pool, database) = pair_with_hooks::<I>();
    database.on(Call::OnConnect, Behaviour::Hangs);
    let guard = pool.get().unwrap();
    let waiter = Task::waiting(pool.get_async());
    database.wait_until_inside(Call::OnConnect, 1);
    drop(waiter);
    drop(guard);
    callers_go_on(&pool, &database, Call::OnConnect);
    database.on(Call::OnConnect, Behaviour::Works);
    settled(&pool, &database);
}

// 23
fn callers_go_on_while_on_release_hangs<I: IdleSet>() {
    let (pool, database) = pair_with_hooks::<I>();
    database.on(Call::OnRelease, Behaviour::Hangs);
    pool.get().unwrap().mark_broken();
    callers_go_on(&pool, &database, Call::OnRelease);
    database.on(Call::OnRelease, Behaviour::Works);
    settled(&pool, &database);
}

// 23: an observer that hangs in one event of one connection holds up whoever is in that event, and nobody else.
fn callers_go_on_while_an_observer_hangs<I: IdleSet>() {
    let database = Database::new();
    let (gate, is_open) = std::sync::mpsc::channel::<()>();
    let is_open = std::sync::Mutex::new(is_open);
    let is_first = Arc::new(AtomicUsize::new(0));
    let first = Arc::clone(&is_first);
    let pool = options::<I>()
        .max_size(2)
        .observe(move |event| {
            if matches!(event, Event::CheckedIn { .. }) && first.fetch_add(1, Ordering::Relaxed) == 0 {
                // Ends when the test lets go of the gate.
                let _ = is_open.lock().unwrap().recv();
            }
        })
        .build(database.clone())
        .unwrap();
    let stuck = {
        let pool = pool.clone();
        thread::spawn(move || drop(pool.get().unwrap()))
    };
    eventually("the observer hangs", || is_first.load(Ordering::Relaxed) > 0);
    for _ in 0..20 {
        drop(pool.get().unwrap());
        drop(Task::new(pool.get_async()).finish().unwrap());
        assert_eq!((pool.state().lent, pool.loans().len()), (1, 1));
    }
    drop(gate);
    stuck.join().unwrap();
    settled(&pool, &database);
}

/// A pool of two connections with hooks, of which the first is idle.
fn pair_with_hooks<I: IdleSet>() -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options_with_hooks(&database).max_size(2).build(database.clone()).unwrap();
    drop(pool.get().unwrap());
    (pool, database)
}

fn the_look_hangs<I: IdleSet>(call: Call) {
    let (pool, database) = pair::<I>();
    a_call_of_the_callers_hangs(&pool, &database, call);
}

fn a_call_of_the_callers_hangs<I: IdleSet>(pool: &TestPool<I>, database: &Database, call: Call) {
    thread::scope(|scope| {
        // One call hangs in the observer, which the later ones pass.
        let is_first = Arc::new(AtomicUsize::new(0));
        let (gate, is_open) = std::sync::mpsc::channel::<()>();
        let is_open = std::sync::Mutex::new(is_open);
        let first = Arc::clone(&is_first);
        database.observe(move |observed| {
            if observed == call && first.fetch_add(1, Ordering::Relaxed) == 0 {
                // Ends when the test lets go of the gate.
                let _ = is_open.lock().unwrap().recv();
            }
        });
        let stuck = {
            let pool = pool.clone();
            scope.spawn(move || drop(pool.get().unwrap()))
        };
        eventually("the look hangs", || is_first.load(Ordering::Relaxed) > 0);
        callers_go_on(pool, database, call);
        drop(gate);
        stuck.join().unwrap();
    });
    database.stop_observing();
    settled(pool, database);
}

// 23
fn a_manager_may_use_the_pool_in_every_call<I: IdleSet>() {
    let database = Database::new();
    let pool = options_with_hooks::<I>(&database)
        .max_size(3)
        .validate_after_idle(Duration::ZERO)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(2))
        .build(database.clone())
        .unwrap();
    thread_local! {
        static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let observed = pool.clone();
    database.observe(move |_| {
        // Not again for the calls that this one leads to.
        if !INSIDE.replace(true) {
            let (_, _, _) = (observed.state(), observed.counters(), observed.is_closed());
            drop(observed.try_get());
            drop(Task::new(observed.get_async()).poll());
            INSIDE.set(false);
        }
    });
    for round in 0..20 {
        let mut guard = pool.get().unwrap();
        match round % 4 {
            0 => guard.is_dirty = true,
            1 => guard.is_broken = true,
            2 => drop(guard.run(|_| Err::<(), _>(super::database::Fault::of_work(true)))),
            _ => {}
        }
    }
    database.on(Call::Connect, Behaviour::Fails);
    pool.get().unwrap().mark_broken();
    drop(pool.get_timeout(Duration::from_millis(20)));
    database.on(Call::Connect, Behaviour::Works);
    drop(pool.get().unwrap());
    for call in [
        Call::Connect,
        Call::Validate,
        Call::Reset,
        Call::Close,
        Call::LooksAlive,
        Call::HasBroken,
        Call::IsDirty,
        Call::IsFatal,
        Call::OnConnect,
        Call::OnAcquire,
        Call::OnCheckin,
        Call::OnRelease,
    ] {
        assert!(database.asked(call) > 0, "{call:?} was never observed");
    }
    database.stop_observing();
    settled(&pool, &database);
}

// 23: a detached connection is the user's, and so is its destructor.
fn a_connection_may_use_the_pool_when_it_is_dropped<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let observed = pool.clone();
    database.observe(move |call| {
        if call == Call::Close {
            drop(observed.try_get());
            let _ = observed.state();
        }
    });
    let connection = pool.get().unwrap().detach();
    drop(connection);
    pool.get().unwrap().mark_broken();
    drop(pool.get().unwrap());
    database.stop_observing();
    settled(&pool, &database);
}

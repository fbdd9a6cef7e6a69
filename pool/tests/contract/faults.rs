//! Every call that may go wrong, going wrong in every way, in the middle of everything else.

use std::thread;
use std::time::Duration;

use pool::IdleSet;

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, eventually, options};
use super::tasks::{Task, block_on};

for_every_kind!(every_call_may_go_wrong_in_every_way);

const SIZE: usize = 3;

/// Callers of all sorts, for whom nothing is promised but an answer in time.
fn use_it<I: IdleSet>(pool: &TestPool<I>, database: &Database) {
    let soon = Duration::from_millis(10);
    thread::scope(|scope| {
        for user in 0..4 {
            scope.spawn(move || {
                for round in 0..6 {
                    // A look that panics does so on the caller's thread.
                    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match (user + round) % 4 {
                        0 => drop(block_on(pool.get_async_timeout(soon)).map(|guard| guard.used(|| ()))),
                        1 => drop(pool.get_timeout(soon).map(|mut guard| guard.is_dirty = true)),
                        2 => drop(pool.get_timeout(soon).map(|mut guard| guard.mark_broken())),
                        _ => drop(Task::new(pool.get_async()).poll()),
                    }));
                    drop(caught);
                    if (user, round) == (0, 2) {
                        database.kill_connections_silently();
                    }
                    if (user, round) == (1, 3) {
                        pool.purge();
                    }
                }
            });
        }
    });
}

// 2, 13, 22, 23, 26
fn every_call_may_go_wrong_in_every_way<I: IdleSet>() {
    for call in [
        Call::Connect,
        Call::Validate,
        Call::Reset,
        Call::Close,
        Call::LooksAlive,
        Call::HasBroken,
        Call::IsDirty,
        Call::IsTransient,
    ] {
        for fault in [Behaviour::Fails, Behaviour::FailsForGood, Behaviour::Panics, Behaviour::Hangs] {
            let may_hang = matches!(call, Call::Connect | Call::Validate | Call::Reset | Call::Close);
            if fault == Behaviour::Hangs && !may_hang {
                continue; // these must not block: they run on the caller's thread
            }
            went_wrong::<I>(call, fault);
        }
    }
}

fn went_wrong<I: IdleSet>(call: Call, fault: Behaviour) {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(SIZE)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(4))
        .validate_after_idle(Duration::from_millis(1))
        .keepalive(Duration::from_millis(20))
        .fail_fast_after(Duration::from_millis(10))
        .build(database.clone())
        .unwrap();
    for _ in 0..SIZE {
        drop(pool.get().unwrap());
    }
    if call == Call::IsTransient {
        database.on(Call::Connect, Behaviour::Fails);
    }
    database.on(call, fault);
    use_it(&pool, &database);
    assert_eq!(pool.state().waiters, 0, "{call:?} {fault:?}: {}", pool.state());
    database.on(Call::Connect, Behaviour::Works);
    database.on(call, Behaviour::Works);
    // Every slot works again, whatever has become of its connection.
    eventually(&format!("all is well after {call:?} {fault:?}"), || {
        let guards: Vec<_> = (0..SIZE).map_while(|_| pool.get_timeout(Duration::from_millis(100)).ok()).collect();
        guards.iter().for_each(|guard| guard.used(|| ()));
        guards.len() == SIZE
    });
    eventually("the accounts agree", || {
        let state = pool.state();
        state.idle == state.size && database.counts().open == state.size && !state.is_breaker_open
    });
    assert!(database.counts().most <= SIZE, "{call:?} {fault:?}");
    pool.close(super::support::EVENTUALLY).unwrap_or_else(|error| panic!("{call:?} {fault:?}: {error}"));
    assert_eq!(database.counts().open, 0);
}

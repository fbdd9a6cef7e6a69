//! Running one test over every kind of pool, with an end even when it hangs.

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pool::{AcquireError, Builder, IdleSet, OwnedGuard, Pool};

use super::database::{Call, Database, Fault};

/// How long a test may take before it counts as hung. No test needs a tenth of it on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a single event may take.
pub const EVENTUALLY: Duration = Duration::from_secs(10);

pub type TestPool<I> = Pool<Database, I>;
pub type Answer<I> = Result<OwnedGuard<Database, I>, AcquireError<Fault>>;

/// Makes a test of each named function for every kind of pool: `the_function::slots` and so on.
macro_rules! for_every_kind {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use $crate::contract::support::watched;

            #[test]
            fn mutex() {
                watched(super::$test::<pool::idle::MutexQueue>);
            }

            #[test]
            fn lock_free() {
                watched(super::$test::<pool::idle::LockFreeQueue>);
            }

            #[test]
            fn slots() {
                watched(super::$test::<pool::idle::Slots>);
            }

            #[cfg(feature = "lockfree")]
            #[test]
            fn lockfree_crate() {
                watched(super::$test::<pool::idle::LockfreeCrateQueue>);
            }
        })+
    };
}

/// Runs a test on a thread of its own; fails if it is not done within [`PATIENCE`].
pub fn watched(test: fn()) {
    let name = thread::current().name().unwrap_or("test").to_owned();
    let (done, is_done) = channel();
    let body = move || {
        test();
        // Nobody listens any more when we were given up.
        let _ = done.send(());
    };
    let runner = thread::Builder::new().name(name).spawn(body).expect("a thread for the test");
    if let Err(RecvTimeoutError::Timeout) = is_done.recv_timeout(PATIENCE) {
        panic!("the test hangs: not done after {PATIENCE:?}");
    }
    if let Err(panic) = runner.join() {
        resume_unwind(panic);
    }
}

/// Waits until something has happened.
#[track_caller]
pub fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_happened() {
        assert!(since.elapsed() < EVENTUALLY, "it did not happen within {EVENTUALLY:?}: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Options that suit most tests: nothing is old enough to matter, and nobody waits for ever.
pub fn options<I: IdleSet>() -> Builder<Database, I> {
    Pool::builder().acquire_timeout(EVENTUALLY)
}

/// A pool of `max_size`, and its database.
pub fn pool_of<I: IdleSet>(max_size: usize) -> (TestPool<I>, Database) {
    let database = Database::new();
    let pool = options().max_size(max_size).build(database.clone()).expect("good options");
    (pool, database)
}

/// A thread that acquires, as soon as it stands in line.
pub fn blocked<I: IdleSet>(pool: &TestPool<I>) -> JoinHandle<Answer<I>> {
    let before = pool.state().waiters;
    let caller = acquiring(pool);
    eventually("the caller stands in line", || pool.state().waiters > before || caller.is_finished());
    caller
}

/// A thread that acquires.
pub fn acquiring<I: IdleSet>(pool: &TestPool<I>) -> JoinHandle<Answer<I>> {
    let pool = pool.clone();
    thread::spawn(move || pool.get_owned())
}

/// A thread that acquires once, holds nothing, and says what it was told.
pub fn trying<I: IdleSet>(pool: &TestPool<I>, timeout: Duration) -> JoinHandle<Result<u64, AcquireError<Fault>>> {
    let pool = pool.clone();
    thread::spawn(move || pool.get_timeout(timeout).map(|connection| connection.id))
}

/// The same, with every hook there is; they do what the database is told.
pub fn options_with_hooks<I: IdleSet>(database: &Database) -> Builder<Database, I> {
    options()
        .on_connect(database.hook(Call::OnConnect))
        .on_acquire(database.hook(Call::OnAcquire))
        .on_checkin(database.hook(Call::OnCheckin))
        .on_release(database.farewell())
}

/// Everything has come to rest: nobody waits, nothing is under way, and the pool and the database agree.
#[track_caller]
pub fn settled<I: IdleSet>(pool: &TestPool<I>, database: &Database) {
    eventually("the pool comes to rest", || {
        let state = pool.state();
        state.waiters == 0 && state.connecting + state.checking + state.closing == 0
    });
    let (state, counts) = (pool.state(), database.counts());
    assert_eq!(state.idle + state.lent, state.size, "{state}");
    assert_eq!(counts.open, state.size, "what the database has open, and {state}");
    assert!(counts.most <= state.max_size, "{} connections at once, and {state}", counts.most);
}

/// So long that the pool's clock shows more than `window`, even if its upkeep thread has to wait for a processor.
pub fn lie_idle(window: Duration) {
    thread::sleep(window + Duration::from_millis(200));
}

//! Millions of random operations on every kind of pool.
//!
//! Whatever callers and the database do, there are never more connections than allowed, none has two holders, every
//! caller is answered, and in the end the counts agree and nothing is left behind. Each kind is put to it twice: bare, and
//! with [everything](stress::extras) that can be requested of a pool.
//!
//! - `STRESS_OPS`: operations per kind, default 400 000.
//! - `STRESS_THREADS`: threads, default 8.
//! - `STRESS_SEED`: a seed that an earlier run printed. The operations are then the same; the schedule is not.
//!
//! The test uses no lock and no condition variable of the standard library, which ThreadSanitizer misunderstands when
//! the library is not built for it. What a connection guards is a plain number, so that ThreadSanitizer checks the
//! hand-over from holder to holder.

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::{ArrayQueue, SegQueue};
use pool::{AcquireError, AcquireOwned, Fairness, IdleSet, Pool, idle};

mod stress {
    pub(crate) mod database;
    pub(crate) mod extras;
    use super::*;
}
use stress::database::{Connection, Database, Ledger, Refused};
use stress::extras;

/// A run that takes longer hangs. Sanitizers slow everything down twentyfold.
const PATIENCE: Duration = Duration::from_secs(600);
/// Acquires that are left to whoever picks them up; fewer than connections, since one may lie there with a connection.
const ORPHANS: usize = 2;

/// A random number generator (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Every thread's waker, for good: the last drop of an `Arc` is ordered by a fence, which ThreadSanitizer does not
/// understand, so there is none.
static WAKERS: SegQueue<Waker> = SegQueue::new();

thread_local! {
    static WAKER: Waker = {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        WAKERS.push(waker.clone());
        waker
    };
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    WAKER.with(|waker| Pin::new(future).poll(&mut Context::from_waker(waker)))
}

fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    loop {
        if let Poll::Ready(output) = poll_once(&mut future) {
            return output;
        }
        thread::park();
    }
}

/// One pool under stress, and those who stress it.
struct Run<I: IdleSet> {
    pool: Pool<Database, I>,
    ledger: Arc<Ledger>,
    orphans: ArrayQueue<AcquireOwned<Database, I>>,
    done: AtomicU64,
    capacity: usize,
    /// What was told, if everything was requested.
    told: Option<Arc<extras::Told>>,
}

impl<I: IdleSet> Run<I> {
    fn operate(&self, dice: &mut Dice) {
        if dice.roll(500) == 0 {
            return self.rule(dice);
        }
        if self.told.is_some() && dice.roll(100) == 0 {
            return extras::look(&self.pool, dice);
        }
        match dice.roll(100) {
            0..50 => self.answered(self.pool.get(), |connection| self.using(connection, || ())),
            50..55 => drop(self.pool.try_get().map(|mut connection| self.using(&mut connection, || ()))),
            55..60 => drop(self.pool.try_get_owned().map(|mut connection| self.using(&mut connection, || ()))),
            60..67 => {
                let timeout = Duration::from_micros(dice.roll(300));
                drop(
                    self.pool.get_timeout(timeout).map(|mut connection| self.using(&mut connection, thread::yield_now)),
                );
            }
            67..76 => self.answered(block_on(self.pool.get_async()), |connection| self.using(connection, || ())),
            76..79 => {
                let timeout = Duration::from_micros(dice.roll(3_000));
                drop(block_on(self.pool.get_async_timeout(timeout)).map(|mut guard| self.using(&mut guard, || ())));
            }
            79..86 => {
                let mut acquire = self.pool.get_async();
                for _ in 0..dice.roll(3) {
                    if let Poll::Ready(answer) = poll_once(&mut acquire) {
                        return self.answered(answer, |connection| self.using(connection, thread::yield_now));
                    }
                }
            }
            86..89 => {
                let mut acquire = self.pool.get_owned_async();
                if poll_once(&mut acquire).is_pending() {
                    // A full queue drops it, which is a cancellation like any other.
                    drop(self.orphans.push(acquire));
                }
            }
            89..92 => {
                if let Some(acquire) = self.orphans.pop()
                    && dice.roll(3) > 0
                {
                    let mut guard = block_on(acquire).expect("no deadline of its own has passed");
                    self.using(&mut guard, || ());
                }
            }
            92 => self.answered(self.pool.get(), |connection| connection.is_broken = true),
            93 => self.answered(self.pool.get(), |connection| connection.is_dirty = true),
            94 => self.detach(),
            95 => {
                if let Ok(mut guard) = self.pool.get() {
                    let _: Result<(), Refused> = guard.run(|connection| {
                        self.using(connection, || ());
                        Err(Refused)
                    });
                }
            }
            96 => {
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let mut guard = self.pool.get().expect("the pool serves everybody");
                    self.using(&mut guard, || panic_any(Refused));
                }));
                assert!(panicked.is_err_and(|panic| <dyn Any>::is::<Refused>(&*panic)));
            }
            97 => {
                if let Ok(guard) = self.pool.get_owned() {
                    thread::spawn(move || drop(guard)).join().expect("a guard may be dropped anywhere");
                }
            }
            _ => {
                let state = self.pool.state();
                let sum = state.idle + state.lent + state.connecting + state.checking + state.closing;
                if sum != state.size || state.size > self.capacity {
                    self.ledger.wrong_sums.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// What an operator does.
    fn rule(&self, dice: &mut Dice) {
        match dice.roll(5) {
            0 => self.pool.purge(),
            1 => {
                // More than there are orphans, each of which may hold one up for a while.
                let size = ORPHANS + 1 + dice.roll((self.capacity - ORPHANS) as u64) as usize;
                self.pool.resize(size).expect("within the capacity");
            }
            2 => {
                self.pool.pause();
                for _ in 0..dice.roll(20) {
                    thread::yield_now();
                }
                self.pool.resume();
            }
            _ => {
                if let Ok(mut guard) = self.pool.get() {
                    guard.leave();
                    // There may be no room any more: then it is dropped.
                    drop(self.pool.add(guard.detach()));
                }
            }
        }
    }

    fn using(&self, connection: &mut Connection, work: impl FnOnce()) {
        self.ledger.uses.fetch_add(1, Ordering::Relaxed);
        connection.work(work);
    }

    /// Who waits with time enough is served.
    fn answered<G>(&self, answer: Result<G, AcquireError<Refused>>, work: impl FnOnce(&mut Connection))
    where
        G: std::ops::DerefMut<Target = Connection>,
    {
        match answer {
            Ok(mut guard) => work(&mut guard),
            Err(error) => {
                eprintln!("not served: {error}");
                self.ledger.starved.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn detach(&self) {
        if let Ok(mut guard) = self.pool.get() {
            guard.leave();
            drop(guard.detach());
        }
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value.parse().unwrap_or_else(|error| panic!("{variable}={value}: {error}")),
        Err(_) => otherwise,
    }
}

/// Fails, by an abort since threads hang, if it is not told in time that all is well.
fn watch<I: IdleSet>(run: &Run<I>, operations: u64) {
    let since = Instant::now();
    while run.done.load(Ordering::Acquire) < operations {
        if since.elapsed() > PATIENCE {
            eprintln!("the stress test hangs: {:?}, {}", run.pool, run.pool.state());
            abort();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn eventually(what: &str, mut has_happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !has_happened() {
        assert!(since.elapsed() < PATIENCE / 5, "it did not happen: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// One pool and what it is put to.
#[derive(Debug, Clone, Copy)]
struct Scene {
    max_size: usize,
    min_idle: usize,
    fairness: Fairness,
    threads: u64,
    /// Operations per thread.
    share: u64,
    seed: u64,
    /// Whether everything is requested that a pool does only on request.
    has_extras: bool,
}

fn stress<I: IdleSet>(has_extras: bool) {
    // The panics of this test are part of it.
    std::panic::set_hook(Box::new(|panic| {
        if !panic.payload().is::<Refused>() {
            eprintln!("{panic}");
        }
    }));
    // What is told of each loan costs more than the loan.
    let operations = number("STRESS_OPS", 400_000) / if has_extras { 4 } else { 1 };
    let threads = number("STRESS_THREADS", 8);
    let seed = number("STRESS_SEED", RandomState::new().hash_one(0));
    println!("{}: STRESS_SEED={seed} STRESS_OPS={operations} STRESS_THREADS={threads}", I::NAME);
    let scenes = [
        (4, 0, Fairness::Strict),
        (4, 2, Fairness::default()),
        (3, 0, Fairness::Free),
        (130, 100, Fairness::default()),
    ];
    let share = operations / scenes.len() as u64 / threads;
    for (number, (max_size, min_idle, fairness)) in scenes.into_iter().enumerate() {
        let seed = seed ^ ((number as u64) << 32);
        stress_one::<I>(Scene { max_size, min_idle, fairness, threads, share, seed, has_extras });
    }
}

/// So many calls of the manager, or of a hook, come to one that fails.
const TROUBLE: u64 = 13;

fn stress_one<I: IdleSet>(scene: Scene) {
    let Scene { max_size, min_idle, fairness, threads, share, seed, has_extras } = scene;
    let ledger = Arc::new(Ledger::default());
    let capacity = max_size + 2;
    // The kernel keeps 15 bytes of a thread's name, and pools of two tests may live at the same time.
    let name = format!("s{}-{}", if has_extras { 'x' } else { 't' }, I::NAME);
    let mut options = Pool::<Database, I>::builder()
        .name(&*name)
        .max_size(max_size)
        .capacity(capacity)
        .min_idle(min_idle)
        .fairness(fairness)
        .acquire_timeout(PATIENCE / 10)
        .idle_timeout(Duration::from_millis(40))
        .max_lifetime(Duration::from_millis(150))
        .validate_after_idle(Duration::from_millis(8))
        .keepalive(Duration::from_millis(20))
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(4));
    let told = has_extras.then(Arc::<extras::Told>::default);
    if let Some(told) = &told {
        options = extras::request(options, &ledger, told, TROUBLE);
    }
    let pool = options.build(Database { ledger: Arc::clone(&ledger), trouble: TROUBLE }).expect("good options");
    let run = Run { pool, ledger, orphans: ArrayQueue::new(ORPHANS), done: AtomicU64::new(0), capacity, told };
    thread::scope(|scope| {
        for thread in 0..threads {
            let run = &run;
            scope.spawn(move || {
                let mut dice = Dice(seed.wrapping_add(thread));
                for _ in 0..share {
                    run.operate(&mut dice);
                    run.done.fetch_add(1, Ordering::Release);
                }
            });
        }
        watch(&run, share * threads);
    });

    let Run { pool, ledger, orphans, told, .. } = run;
    drop(orphans);
    pool.resume();
    pool.resize(max_size).expect("within the capacity");
    eventually("the pool comes to rest", || {
        let state = pool.state();
        let under_way = state.lent + state.connecting + state.checking + state.closing;
        state.waiters == 0 && under_way == 0 && state.size <= max_size
    });
    for (what, count) in [
        ("connections with two holders", &ledger.two_holders),
        ("callers that were not served", &ledger.starved),
        ("snapshots that do not add up", &ledger.wrong_sums),
    ] {
        assert_eq!(count.load(Ordering::Relaxed), 0, "{what}");
    }
    let most_open = ledger.most_open.load(Ordering::Relaxed);
    assert!(most_open <= capacity, "{most_open} connections at once, {capacity} allowed");
    // Every slot still works.
    let guards: Vec<_> =
        (0..max_size).map(|taken| pool.get().unwrap_or_else(|error| panic!("{taken}: {error}"))).collect();
    assert_eq!(pool.state().lent, max_size);
    drop(guards);
    println!("  {fairness:?}, {} of {capacity}: {:?}", most_open, pool.counters());
    if let Some(told) = &told {
        extras::close_under_load(&pool, &ledger, threads);
        told.judge(&pool);
    }
    pool.close(PATIENCE / 10).expect("nothing is lent");
    assert_eq!((ledger.open.load(Ordering::Relaxed), ledger.alive.load(Ordering::Acquire)), (0, 0));
    assert_eq!(ledger.uses.load(Ordering::Relaxed), ledger.uses_counted.load(Ordering::Relaxed), "uses were lost");
    drop(pool);
    eventually("the pool's memory is freed", || Arc::strong_count(&ledger) == 1);
    eventually("its threads end", || threads_named(&name) == 0);
}

/// Pools that live for a moment, and whose handles are dropped while others still have their connections: whoever is the
/// last of the callers, the workers and the upkeep thread takes the pool apart.
fn come_and_go<I: IdleSet>() {
    let pools = number("STRESS_OPS", 400_000) / 1_000;
    let seed = number("STRESS_SEED", RandomState::new().hash_one(0));
    println!("{}: STRESS_SEED={seed}, {pools} pools", I::NAME);
    let ledger = Arc::new(Ledger::default());
    let mut dice = Dice(seed);
    // Few of their calls fail: each pool lives too short to connect again.
    let trouble = 1_000;
    for _ in 0..pools {
        let database = Database { ledger: Arc::clone(&ledger), trouble };
        let pool = Pool::<Database, I>::builder()
            .max_size(2)
            .min_idle(dice.roll(2) as usize)
            .acquire_timeout(PATIENCE / 10)
            .build(database)
            .expect("good options");
        let closes = dice.roll(2) == 0;
        thread::scope(|scope| {
            for _ in 0..2 {
                let pool = pool.clone();
                let ledger = &ledger;
                scope.spawn(move || {
                    // The guard outlives its handle.
                    let mut guard = pool.get_owned();
                    drop(pool);
                    if let Ok(guard) = &mut guard {
                        ledger.uses.fetch_add(1, Ordering::Relaxed);
                        guard.work(thread::yield_now);
                    }
                });
            }
            if closes {
                // Somebody may come too late, and is told so.
                let _: Result<(), pool::CloseError> = block_on(pool.close_async(PATIENCE / 10));
            }
            drop(pool);
        });
    }
    eventually("the memory of all pools is freed", || Arc::strong_count(&ledger) == 1);
    assert_eq!(ledger.two_holders.load(Ordering::Relaxed), 0, "connections with two holders");
    assert_eq!((ledger.open.load(Ordering::Relaxed), ledger.alive.load(Ordering::Acquire)), (0, 0));
    assert_eq!(ledger.uses.load(Ordering::Relaxed), ledger.uses_counted.load(Ordering::Relaxed), "uses were lost");
}

/// Threads of this process by the beginning of their names, of which the kernel keeps 15 bytes.
fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // A task that ends between the two reads has no name, and is gone.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[test]
fn a_mutex_pool_survives() {
    stress::<idle::MutexQueue>(false);
}

#[test]
fn a_lock_free_pool_survives() {
    stress::<idle::LockFreeQueue>(false);
}

#[test]
fn a_slots_pool_survives() {
    stress::<idle::Slots>(false);
}

#[test]
fn a_mutex_pool_with_extras_survives() {
    stress::<idle::MutexQueue>(true);
}

#[test]
fn a_lock_free_pool_with_extras_survives() {
    stress::<idle::LockFreeQueue>(true);
}

#[test]
fn a_slots_pool_with_extras_survives() {
    stress::<idle::Slots>(true);
}

#[test]
fn mutex_pools_come_and_go() {
    come_and_go::<idle::MutexQueue>();
}

#[test]
fn lock_free_pools_come_and_go() {
    come_and_go::<idle::LockFreeQueue>();
}

#[test]
fn slots_pools_come_and_go() {
    come_and_go::<idle::Slots>();
}

/// Not under ThreadSanitizer, which rightly reports the crate's own races.
#[cfg(feature = "lockfree")]
#[test]
fn a_lockfree_crate_pool_survives() {
    stress::<idle::LockfreeCrateQueue>(false);
}

#[cfg(feature = "lockfree")]
#[test]
fn lockfree_crate_pools_come_and_go() {
    come_and_go::<idle::LockfreeCrateQueue>();
}

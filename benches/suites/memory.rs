//! What does a pool allocate: idle, for a thread that waits, and for a task that waits, of which there are 25 000?
//!
//! The program counts every allocation. What is subtracted is measured the same way: the connections themselves, threads
//! that wait for something else, tasks that wait for nothing. A thread's stack is not allocated but mapped, and is not in
//! here; how many threads a pool has started stands beside. The async runtime is there before and is not counted either.

use std::alloc::System;
use std::fs;
use std::mem::size_of;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use benches::backend::stub::{Hold, Stub, StubConnection};
use benches::backend::{Backend, Counted, Failure, Gauge};
use benches::contender::{AsRaw, Options};
use benches::contenders::{Entrant, bb8, deadpool, fast_pool, mobc, ours, r2d2};
use benches::footprint::{CROWD_MS, IDLE_BYTES, Question, TASK_BYTES, THREAD_BYTES, THREADS};
use benches::record::{Cell, Metric, Spread};
use benches::scenario::door::{Blocking, at_once};
use benches::suite;
use benches::tasks::AsyncPool;
use pool::Manager;
use pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How long the count must not change to be taken, and the longest that is waited for that.
const QUIET: Duration = Duration::from_millis(30);
const MOST_QUIETING: Duration = Duration::from_secs(5);
/// The longest that a crowd may take.
const MOST_CROWD: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    suite::run("memory", |suite| {
        let runtime = Runtime::new().map_err(|error| Failure::of("could not start a tokio runtime", error))?;
        let profile = suite.profile();
        for question in Question::ALL {
            let waiters = match question {
                Question::Idle => 0,
                Question::Threads => profile.pick(8, 200, 200, 200),
                Question::Tasks => profile.pick(500, 25_000, 25_000, 25_000),
            };
            let cells: Vec<Cell> = question.entrants().iter().map(|entrant| question.cell(*entrant, waiters)).collect();
            suite.announce(&cells, question.label());
            for (cell, entrant) in cells.iter().zip(question.entrants()) {
                if !suite.wants(cell) {
                    continue;
                }
                // Twice, and the second one counts: what is allocated once in a program is not the pool's.
                let ask = || {
                    let ask = Ask { question, runtime: &runtime, size: question.size(), waiters };
                    enter(*entrant, &runtime, question, ask).map_err(|failure| failure.during(cell.name()))
                };
                ask()?;
                let found = ask()?;
                let metrics: Vec<(Metric, Spread)> =
                    found.into_iter().filter_map(|(metric, value)| Some((metric, Spread::of(&[value])?))).collect();
                suite.finish(cell, &metrics, waiters as u64)?;
            }
        }
        Ok(())
    })
}

/// Bytes that are allocated now.
fn live() -> i64 {
    let stats = ALLOCATOR.stats();
    i64::try_from(stats.bytes_allocated).unwrap_or(i64::MAX)
        - i64::try_from(stats.bytes_deallocated).unwrap_or(i64::MAX)
}

/// The same when nobody allocates any more.
fn settled() -> Result<i64, Failure> {
    let began = Instant::now();
    let (mut bytes, mut since) = (live(), Instant::now());
    while since.elapsed() < QUIET {
        if began.elapsed() > MOST_QUIETING {
            return Err(Failure::new("somebody allocates all the time"));
        }
        thread::sleep(Duration::from_millis(2));
        let now = live();
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(bytes)
}

/// Threads of this process.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// A question as a visit.
struct Ask<'a> {
    question: Question,
    runtime: &'a Runtime,
    size: usize,
    waiters: usize,
}

/// Builds the pool of a row when `ask` says so.
fn enter(entrant: Entrant, runtime: &Runtime, question: Question, ask: Ask<'_>) -> Result<Vec<(Metric, f64)>, Failure> {
    let (stub, gauge) = (Stub::new(), Gauge::new());
    let options = &Options::filled(ask.size);
    let manager = stub.manager(&gauge);
    let is_blocking = question == Question::Threads;
    let found = match entrant {
        Entrant::Mutex if is_blocking => ask.answer(|| ours::build::<_, MutexQueue>(options, manager).map(Blocking)),
        Entrant::LockFree if is_blocking => {
            ask.answer(|| ours::build::<_, LockFreeQueue>(options, manager).map(Blocking))
        }
        Entrant::Slots if is_blocking => ask.answer(|| ours::build::<_, Slots>(options, manager).map(Blocking)),
        Entrant::Mutex => ask.answer(|| ours::build::<_, MutexQueue>(options, manager)),
        Entrant::LockFree => ask.answer(|| ours::build::<_, LockFreeQueue>(options, manager)),
        Entrant::LockfreeCrate => ask.answer(|| ours::build::<_, LockfreeCrateQueue>(options, manager)),
        Entrant::Slots => ask.answer(|| ours::build::<_, Slots>(options, manager)),
        Entrant::R2d2 => ask.answer(|| r2d2::build(options, stub.r2d2_manager(&gauge), true).map(Blocking)),
        Entrant::Deadpool => ask.answer(|| deadpool::build(options, manager)),
        Entrant::Bb8 => ask.answer(|| runtime.block_on(bb8::build(options, manager))),
        Entrant::Mobc => ask.answer(|| Ok(mobc::build(options, manager))),
        Entrant::FastPool => ask.answer(|| Ok(fast_pool::build(options, manager))),
        _ => Err(Failure::new("it is not asked")),
    }?;
    gauge.settle()?;
    Ok(found)
}

impl Ask<'_> {
    fn answer<P: AsyncPool>(self, build: impl FnOnce() -> Result<P, Failure>) -> Result<Vec<(Metric, f64)>, Failure> {
        // Some pools give connections back, and close them, on the runtime.
        let _entered = self.runtime.enter();
        match self.question {
            Question::Idle => self.idle(build),
            Question::Threads => self.waiting_threads(Arc::new(build()?)),
            Question::Tasks => self.waiting_tasks(&Arc::new(build()?)),
        }
    }

    /// All connections open and idle.
    #[expect(clippy::cast_precision_loss)]
    fn idle<P: AsyncPool>(self, build: impl FnOnce() -> Result<P, Failure>) -> Result<Vec<(Metric, f64)>, Failure> {
        let (bytes_before, threads_before) = (settled()?, threads());
        let pool = build()?;
        drop(self.take(&pool)?);
        let bytes = settled()? - bytes_before - connections(self.size)?;
        let started = threads().saturating_sub(threads_before);
        drop(pool);
        Ok(vec![(IDLE_BYTES, bytes as f64), (THREADS, started as f64)])
    }

    /// All connections of `pool`.
    fn take<'p, P: AsyncPool>(&self, pool: &'p P) -> Result<Vec<P::Guard<'p>>, Failure> {
        let mut guards = Vec::with_capacity(self.size);
        self.runtime.block_on(async {
            for _ in 0..self.size {
                guards.push(pool.acquire().await?);
            }
            Ok::<_, Failure>(())
        })?;
        Ok(guards)
    }

    /// Threads that wait for a connection, less threads that wait for a gate.
    #[expect(clippy::cast_precision_loss)]
    fn waiting_threads<P: AsyncPool>(self, pool: Arc<P>) -> Result<Vec<(Metric, f64)>, Failure> {
        let crowd = |wait: Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>, release: Box<dyn FnOnce() + '_>| {
            let came = Arc::new(AtomicUsize::new(0));
            let mut waiters = Vec::with_capacity(self.waiters);
            let before = settled()?;
            for _ in 0..self.waiters {
                let (came, wait) = (Arc::clone(&came), Arc::clone(&wait));
                waiters.push(thread::spawn(move || {
                    came.fetch_add(1, SeqCst);
                    wait()
                }));
            }
            wait_for(&came, self.waiters)?;
            let bytes = settled()? - before;
            release();
            for waiter in waiters {
                waiter.join().map_err(|_| Failure::new("a waiter panicked"))??;
            }
            Ok::<_, Failure>(bytes)
        };
        let gate = Arc::new(Barrier::new(self.waiters + 1));
        let inner = Arc::clone(&gate);
        let elsewhere = crowd(
            Arc::new(move || {
                inner.wait();
                Ok(())
            }),
            Box::new(move || {
                gate.wait();
            }),
        )?;
        let guards = self.take(&*pool)?;
        let inner = Arc::clone(&pool);
        let here = crowd(
            Arc::new(move || {
                at_once(async {
                    inner.acquire().await?.as_raw().hold(Hold::None);
                    Ok(())
                })
            }),
            Box::new(move || drop(guards)),
        )?;
        // A few bytes either way are other threads of the program.
        let each = (here - elsewhere).max(0) as f64 / self.waiters as f64;
        Ok(vec![(THREAD_BYTES, each)])
    }

    /// Tasks that wait for a connection, less tasks that wait for nothing; then how long until all were served.
    #[expect(clippy::cast_precision_loss)]
    fn waiting_tasks<P: AsyncPool>(self, pool: &Arc<P>) -> Result<Vec<(Metric, f64)>, Failure> {
        let came = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::with_capacity(self.waiters);
        let before = settled()?;
        for _ in 0..self.waiters {
            let came = Arc::clone(&came);
            tasks.push(self.runtime.spawn(async move {
                came.fetch_add(1, SeqCst);
                std::future::pending::<()>().await;
            }));
        }
        wait_for(&came, self.waiters)?;
        let idlers = settled()? - before;
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            // Aborted, as was asked for.
            let _ = self.runtime.block_on(task);
        }

        let guards = self.take(&**pool)?;
        came.store(0, SeqCst);
        let mut tasks = Vec::with_capacity(self.waiters);
        let before = settled()?;
        for _ in 0..self.waiters {
            let (came, pool) = (Arc::clone(&came), Arc::clone(pool));
            tasks.push(self.runtime.spawn(async move {
                came.fetch_add(1, SeqCst);
                pool.acquire().await?.as_raw().hold(Hold::None);
                Ok::<_, Failure>(())
            }));
        }
        wait_for(&came, self.waiters)?;
        let waiters = settled()? - before;
        let began = Instant::now();
        drop(guards);
        let crowd = self.runtime.block_on(tokio::time::timeout(MOST_CROWD, async {
            for task in tasks {
                task.await.map_err(|error| Failure::of("a waiter", error))??;
            }
            Ok::<_, Failure>(began.elapsed())
        }));
        let elapsed = crowd.map_err(|_| Failure::new(format!("not all were served in {MOST_CROWD:?}")))??;
        let each = (waiters - idlers) as f64 / self.waiters as f64;
        Ok(vec![(TASK_BYTES, each), (CROWD_MS, elapsed.as_secs_f64() * 1e3)])
    }
}

/// What `count` connections take by themselves: on the heap, and in the place where the pool keeps each.
fn connections(count: usize) -> Result<i64, Failure> {
    let (stub, gauge) = (Stub::new(), Gauge::new());
    let manager = stub.manager(&gauge);
    let mut connections = Vec::with_capacity(count);
    let before = settled()?;
    for _ in 0..count {
        connections.push(manager.connect().map_err(|error| Failure::of("could not connect", error))?);
    }
    let heap = settled()? - before;
    let place = size_of::<Counted<StubConnection>>() * count;
    Ok(heap + i64::try_from(place).unwrap_or(i64::MAX))
}

/// Waits until all have come, so that they wait or are about to.
fn wait_for(came: &AtomicUsize, all: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + MOST_QUIETING;
    while came.load(SeqCst) < all {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("only {} of {all} waiters came", came.load(SeqCst))));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

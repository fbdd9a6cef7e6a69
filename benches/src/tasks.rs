//! The async door: tasks of a runtime instead of threads, so that waiting costs no thread.
//!
//! The other suites drive async pools from threads, because drivers block. Here they are at home: as many tasks as wanted
//! on tokio's threads, one for each core, the same cycle in each. Those of the contenders that have an async door take
//! part, ours with `get_async`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use ::pool::{IdleSet, Pool};
use tokio::runtime::Runtime;
use tokio::task::yield_now;

use crate::backend::stub::{Hold, Stub, StubConnection};
use crate::backend::{Backend, Failure, Gauge, Gauged, Reach};
use crate::contender::{AsRaw, Options};
use crate::contenders::parked::Hosted;
use crate::contenders::{Entrant, bb8, deadpool, fast_pool, mobc, ours};
use crate::drive::Sample;

/// A pool with an async door. `R` is what a workload works on.
pub trait AsyncPool<R: ?Sized = StubConnection>: Send + Sync + 'static {
    /// A connection while it is lent.
    type Guard<'a>: AsRaw<R> + Send
    where
        Self: 'a;

    /// Acquires a connection; dropping the guard gives it back.
    fn acquire(&self) -> impl Future<Output = Result<Self::Guard<'_>, Failure>> + Send;
}

/// What a task does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskHold {
    /// Gives it back at once.
    None,
    /// Lets the other tasks of its thread have their turn first: then tasks meet an exhausted pool and must wait.
    Yield,
}

impl TaskHold {
    /// Both.
    pub const ALL: [Self; 2] = [Self::None, Self::Yield];

    /// The name in records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "no hold",
            Self::Yield => "held while others run",
        }
    }
}

/// Contenders with an async door.
pub const ENTRANTS: [Entrant; 8] = [
    Entrant::Mutex,
    Entrant::LockFree,
    Entrant::LockfreeCrate,
    Entrant::Slots,
    Entrant::Deadpool,
    Entrant::Bb8,
    Entrant::Mobc,
    Entrant::FastPool,
];

/// A guard that derefs to a counted connection.
#[derive(Debug)]
pub struct Lent<G>(pub G);

impl<R: ?Sized, G: std::ops::DerefMut<Target: AsRaw<R>>> AsRaw<R> for Lent<G> {
    fn as_raw(&mut self) -> &mut R {
        (*self.0).as_raw()
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>, I: IdleSet> AsyncPool<R> for Pool<Gauged<M>, I> {
    type Guard<'a> = Lent<::pool::Guard<'a, Gauged<M>, I>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get_async().await.map(Lent).map_err(|error| Failure::with_causes("our pool", &error))
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> AsyncPool<R> for ::deadpool::managed::Pool<deadpool::Deadpool<M>> {
    type Guard<'a> = Lent<::deadpool::managed::Object<deadpool::Deadpool<M>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::with_causes("deadpool", &error))
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> AsyncPool<R> for ::bb8::Pool<bb8::Bb8<M>> {
    type Guard<'a> = Lent<::bb8::PooledConnection<'a, bb8::Bb8<M>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::with_causes("bb8", &error))
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> AsyncPool<R> for ::mobc::Pool<mobc::Mobc<M>> {
    type Guard<'a> = Lent<::mobc::Connection<mobc::Mobc<M>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::with_causes("mobc", &error))
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R> + Unpin>> AsyncPool<R> for ::fast_pool::Pool<fast_pool::FastPool<M>> {
    type Guard<'a> = Lent<::fast_pool::ConnectionGuard<fast_pool::FastPool<M>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::with_causes("fast_pool", &error))
    }
}

/// Something to do with a pool whose type only [`enter`] knows.
pub trait VisitAsync<R: ?Sized = StubConnection> {
    /// What comes out of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    ///
    /// Whatever stopped it.
    fn visit<P: AsyncPool<R>>(self, runtime: &Runtime, pool: Arc<P>) -> Result<Self::Output, Failure>;
}

/// Builds the async pool of a row with `size` stubs, all open, and shows it to `visit`.
///
/// # Errors
///
/// When it cannot be built or has no async door, and when the visit fails.
pub fn enter<V: VisitAsync>(
    entrant: Entrant,
    stub: &Stub,
    gauge: &Arc<Gauge>,
    size: usize,
    visit: V,
) -> Result<V::Output, Failure> {
    enter_with(entrant, stub, gauge, &Options::filled(size), visit)
}

/// [`enter`] for any backend and other options; `min_idle` connections are open.
///
/// # Errors
///
/// As [`enter`].
pub fn enter_with<B: Backend, V: VisitAsync<B::Raw>>(
    entrant: Entrant,
    backend: &B,
    gauge: &Arc<Gauge>,
    options: &Options,
    visit: V,
) -> Result<V::Output, Failure> {
    use ::pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};

    let manager = backend.manager(gauge);
    let opened = options.min_idle;
    let output = match entrant {
        Entrant::Mutex => Hosted::build(async || ours::build::<_, MutexQueue>(options, manager))?.visit(opened, visit),
        Entrant::LockFree => {
            Hosted::build(async || ours::build::<_, LockFreeQueue>(options, manager))?.visit(opened, visit)
        }
        Entrant::LockfreeCrate => {
            Hosted::build(async || ours::build::<_, LockfreeCrateQueue>(options, manager))?.visit(opened, visit)
        }
        Entrant::Slots => Hosted::build(async || ours::build::<_, Slots>(options, manager))?.visit(opened, visit),
        Entrant::Deadpool => deadpool::open_with(options, manager)?.visit(opened, visit),
        Entrant::Bb8 => bb8::open_with(options, manager)?.visit(opened, visit),
        Entrant::Mobc => mobc::open_with(options, manager)?.visit(opened, visit),
        Entrant::FastPool => fast_pool::open_with(options, manager)?.visit(opened, visit),
        _ => Err(Failure::new("it has no async door")),
    }
    .map_err(|failure| failure.during(entrant.row().label))?;
    gauge.settle().map_err(|failure| failure.during(entrant.row().label))?;
    Ok(output)
}

impl<P> Hosted<P> {
    /// Opens `opened` connections and shows the pool to `visit`.
    fn visit<R: ?Sized, V: VisitAsync<R>>(self, opened: usize, visit: V) -> Result<V::Output, Failure>
    where
        P: AsyncPool<R>,
    {
        let (pool, runtime) = self.into_parts();
        runtime.block_on(async {
            let mut guards = Vec::with_capacity(opened);
            for _ in 0..opened {
                guards.push(pool.acquire().await?);
            }
            Ok::<_, Failure>(())
        })?;
        let pool = Arc::new(pool);
        let output = visit.visit(&runtime, Arc::clone(&pool))?;
        // Before the runtime, which some pools need to close their connections.
        drop(pool);
        Ok(output)
    }
}

/// Operations handed out at once.
const BATCH: u64 = 64;

/// Runs `total` operations on `tasks` tasks, each batch to whoever comes first.
///
/// # Errors
///
/// The first failure of any task.
pub fn run<P: AsyncPool>(
    runtime: &Runtime,
    pool: &Arc<P>,
    tasks: usize,
    hold: TaskHold,
    total: u64,
) -> Result<Sample, Failure> {
    let handed_out = Arc::new(AtomicU64::new(0));
    let gate = Arc::new(tokio::sync::Barrier::new(tasks));
    let spawned: Vec<_> = (0..tasks)
        .map(|_| {
            let (pool, handed_out, gate) = (Arc::clone(pool), Arc::clone(&handed_out), Arc::clone(&gate));
            runtime.spawn(async move {
                gate.wait().await;
                let start = Instant::now();
                let mut ops = 0;
                loop {
                    let from = handed_out.fetch_add(BATCH, Relaxed);
                    if from >= total {
                        break;
                    }
                    let batch = BATCH.min(total - from);
                    for _ in 0..batch {
                        let mut guard = pool.acquire().await?;
                        guard.as_raw().hold(Hold::None);
                        if hold == TaskHold::Yield {
                            yield_now().await;
                        }
                    }
                    ops += batch;
                }
                Ok::<_, Failure>((start, Instant::now(), ops))
            })
        })
        .collect();
    let mut spans = Vec::with_capacity(tasks);
    for task in spawned {
        spans.push(runtime.block_on(task).map_err(|error| Failure::of("a task", error))??);
    }
    let ops: u64 = spans.iter().map(|span| span.2).sum();
    if ops != total {
        return Err(Failure::new(format!("{total} operations were to be done, but {ops} reported themselves")));
    }
    let start = spans.iter().map(|span| span.0).min();
    let end = spans.iter().map(|span| span.1).max();
    match (start, end) {
        (Some(start), Some(end)) => Ok(Sample { elapsed: end - start, ops }),
        _ => Err(Failure::new("a run without tasks")),
    }
}

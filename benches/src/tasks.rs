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

use crate::backend::stub::{Hold, Stub, StubConnection, StubManager};
use crate::backend::{ACQUIRE_TIMEOUT, Backend, Counted, Failure, Gauge, Gauged};
use crate::contender::AsRaw;
use crate::contenders::{Entrant, bb8, deadpool, fast_pool, mobc};
use crate::drive::Sample;

/// A pool with an async door.
pub trait AsyncPool: Send + Sync + 'static {
    /// A connection while it is lent.
    type Guard<'a>: AsRaw<StubConnection> + Send
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

/// A guard that derefs to a counted stub.
#[derive(Debug)]
pub struct Lent<G>(G);

impl<G: std::ops::DerefMut<Target = Counted<StubConnection>>> AsRaw<StubConnection> for Lent<G> {
    fn as_raw(&mut self) -> &mut StubConnection {
        self.0.as_raw()
    }
}

impl<I: IdleSet> AsyncPool for Pool<Gauged<StubManager>, I> {
    type Guard<'a> = Lent<::pool::Guard<'a, Gauged<StubManager>, I>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get_async().await.map(Lent).map_err(|error| Failure::of("our pool", error))
    }
}

impl AsyncPool for ::deadpool::managed::Pool<deadpool::Deadpool<StubManager>> {
    type Guard<'a> = Lent<::deadpool::managed::Object<deadpool::Deadpool<StubManager>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::of("deadpool", error))
    }
}

impl AsyncPool for ::bb8::Pool<bb8::Bb8<StubManager>> {
    type Guard<'a> = Lent<::bb8::PooledConnection<'a, bb8::Bb8<StubManager>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::of("bb8", error))
    }
}

impl AsyncPool for ::mobc::Pool<mobc::Mobc<StubManager>> {
    type Guard<'a> = Lent<::mobc::Connection<mobc::Mobc<StubManager>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::of("mobc", error))
    }
}

impl AsyncPool for ::fast_pool::Pool<fast_pool::FastPool<StubManager>> {
    type Guard<'a> = Lent<::fast_pool::ConnectionGuard<fast_pool::FastPool<StubManager>>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.get().await.map(Lent).map_err(|error| Failure::of("fast_pool", error))
    }
}

/// Something to do with a pool whose type only [`enter`] knows.
pub trait VisitAsync {
    /// What comes out of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    ///
    /// Whatever stopped it.
    fn visit<P: AsyncPool>(self, runtime: &Runtime, pool: Arc<P>) -> Result<Self::Output, Failure>;
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
    use ::pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};

    let manager = stub.manager(gauge);
    let output = match entrant {
        Entrant::Mutex => ours::<MutexQueue, V>(manager, size, visit),
        Entrant::LockFree => ours::<LockFreeQueue, V>(manager, size, visit),
        Entrant::LockfreeCrate => ours::<LockfreeCrateQueue, V>(manager, size, visit),
        Entrant::Slots => ours::<Slots, V>(manager, size, visit),
        Entrant::Deadpool => deadpool::open(size, manager)?.visit(size, visit),
        Entrant::Bb8 => bb8::open(size, manager)?.visit(size, visit),
        Entrant::Mobc => mobc::open(size, manager)?.visit(size, visit),
        Entrant::FastPool => fast_pool::open(size, manager)?.visit(size, visit),
        _ => Err(Failure::new("it has no async door")),
    }
    .map_err(|failure| failure.during(entrant.row().label))?;
    gauge.settle().map_err(|failure| failure.during(entrant.row().label))?;
    Ok(output)
}

fn ours<I: IdleSet, V: VisitAsync>(manager: Gauged<StubManager>, size: usize, visit: V) -> Result<V::Output, Failure> {
    let builder = Pool::<_, I>::builder().max_size(size).min_idle(size).acquire_timeout(ACQUIRE_TIMEOUT);
    let hosted = crate::contenders::parked::Hosted::build(async || {
        builder.build(manager).map_err(|error| Failure::of("our pool", error))
    })?;
    hosted.visit(size, visit)
}

impl<P: AsyncPool> crate::contenders::parked::Hosted<P> {
    /// Opens all connections and shows the pool to `visit`.
    fn visit<V: VisitAsync>(self, size: usize, visit: V) -> Result<V::Output, Failure> {
        let (pool, runtime) = self.into_parts();
        runtime.block_on(async {
            let mut guards = Vec::with_capacity(size);
            for _ in 0..size {
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

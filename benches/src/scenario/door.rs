//! Through which door clients come: as threads that block or as tasks that await.
//!
//! A scenario is one `async fn`, written once. On a thread everything it awaits blocks instead and is ready when it
//! returns, so that the future is over after one poll; as a task it awaits the runtime's timer and the pool's queue. What
//! is compared is therefore the pool and the door, and never two versions of a workload.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use ::pool::{IdleSet, Pool};
use r2d2::ManageConnection;
use tokio::runtime::{Handle, Runtime};

use crate::backend::remote::{Remote, RemoteConnection};
use crate::backend::{Backend, Failure, Gauge, Gauged, Reach};
use crate::contender::{AsRaw, Options};
use crate::contenders::{Entrant, ours, r2d2 as adapter};
use crate::drive::sleep_exactly;
use crate::tasks::{self, AsyncPool, Lent, VisitAsync};

/// The two kinds of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Threads that block.
    Threads,
    /// Tasks on tokio's threads.
    Tasks,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Threads, Self::Tasks];

    /// The name in records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Tasks => "tasks",
        }
    }

    /// Who can come through it. The driver's own pool pools nothing but its own connections, and is not here.
    #[must_use]
    pub fn entrants(self) -> &'static [Entrant] {
        use Entrant::{Bb8, Deadpool, FastPool, LockFree, Mobc, Mutex, R2d2, Slots};
        match self {
            Self::Threads => &[Mutex, LockFree, Slots, R2d2],
            Self::Tasks => &[Mutex, LockFree, Slots, Deadpool, Bb8, Mobc, FastPool],
        }
    }
}

/// A door with what is behind it.
#[derive(Debug, Clone)]
pub enum Door {
    /// Each client is a thread.
    Threads,
    /// Each client is a task of this runtime.
    Tasks(Handle),
}

/// Clients at work.
#[derive(Debug)]
pub enum Clients<T> {
    /// Threads.
    Threads(Vec<thread::JoinHandle<Result<(Instant, T), Failure>>>),
    /// Tasks.
    Tasks(Handle, Vec<tokio::task::JoinHandle<Result<(Instant, T), Failure>>>),
}

impl Door {
    /// Waits.
    pub async fn pause(&self, time: Duration) {
        match self {
            Self::Threads => thread::sleep(time),
            Self::Tasks(_) => tokio::time::sleep(time).await,
        }
    }

    /// Asks the database something, which takes its time.
    ///
    /// # Errors
    ///
    /// When the connection is dead, or dies meanwhile.
    pub async fn query(&self, connection: &mut RemoteConnection) -> Result<(), Failure> {
        // A dead connection answers at once, and nobody waits on a socket that is closed.
        if connection.is_alive() {
            self.pause(connection.query_time()).await;
        }
        connection.answer().map_err(|error| Failure::of("query", error))
    }

    /// Starts `count` clients together. `client` makes one from its number, when all are there.
    pub fn start<T, F>(&self, count: usize, client: impl Fn(usize) -> F + Send + Sync + 'static) -> Clients<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let client = Arc::new(client);
        match self {
            Self::Threads => {
                let gate = Arc::new(Barrier::new(count));
                let start = |number| {
                    let (gate, client) = (Arc::clone(&gate), Arc::clone(&client));
                    thread::spawn(move || {
                        sleep_exactly();
                        gate.wait();
                        let began = Instant::now();
                        at_once(client(number)).map(|result| (began, result))
                    })
                };
                Clients::Threads((0..count).map(start).collect())
            }
            Self::Tasks(runtime) => {
                let gate = Arc::new(tokio::sync::Barrier::new(count));
                let start = |number| {
                    let (gate, client) = (Arc::clone(&gate), Arc::clone(&client));
                    runtime.spawn(async move {
                        gate.wait().await;
                        let began = Instant::now();
                        client(number).await.map(|result| (began, result))
                    })
                };
                Clients::Tasks(runtime.clone(), (0..count).map(start).collect())
            }
        }
    }
}

impl<T> Clients<T> {
    /// Waits until all are done: when the first of them began, and what each brought.
    ///
    /// # Errors
    ///
    /// The first failure of any of them.
    pub fn join(self) -> Result<(Instant, Vec<T>), Failure> {
        let panicked = || Failure::new("a client panicked; its message is above");
        let outcomes: Vec<Result<(Instant, T), Failure>> = match self {
            Self::Threads(threads) => {
                threads.into_iter().map(|thread| thread.join().map_err(|_| panicked())?).collect()
            }
            Self::Tasks(runtime, tasks) => runtime.block_on(async {
                let mut outcomes = Vec::with_capacity(tasks.len());
                for task in tasks {
                    outcomes.push(task.await.map_err(|_| panicked()).and_then(|outcome| outcome));
                }
                outcomes
            }),
        };
        let (starts, results): (Vec<Instant>, Vec<T>) =
            outcomes.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let began = starts.into_iter().min().ok_or_else(|| Failure::new("there were no clients"))?;
        Ok((began, results))
    }
}

/// The output of a future in which nothing waits.
///
/// # Errors
///
/// Its own, and when something in it awaits after all.
pub fn at_once<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => Err(Failure::new("a client on a thread awaited something that did not block")),
    }
}

/// A pool whose acquires block the thread.
#[derive(Debug)]
pub struct Blocking<P>(pub P);

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>, I: IdleSet> AsyncPool<R> for Blocking<Pool<Gauged<M>, I>> {
    type Guard<'a> = Lent<::pool::Guard<'a, Gauged<M>, I>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.0.get().map(Lent).map_err(|error| Failure::with_causes("our pool", &error))
    }
}

impl<R: ?Sized, M: ManageConnection<Connection: AsRaw<R>>> AsyncPool<R> for Blocking<r2d2::Pool<M>> {
    type Guard<'a> = Lent<r2d2::PooledConnection<M>>;

    async fn acquire(&self) -> Result<Self::Guard<'_>, Failure> {
        self.0.get().map(Lent).map_err(|error| Failure::with_causes("r2d2", &error))
    }
}

/// Something to do with a pool whose type only [`enter`] knows.
pub trait VisitDoor {
    /// What comes out of it.
    type Output;

    /// Does it.
    ///
    /// # Errors
    ///
    /// Whatever stopped it.
    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Self::Output, Failure>;
}

/// A visit through the door for tasks.
struct AsTasks<V>(V);

impl<V: VisitDoor> VisitAsync<RemoteConnection> for AsTasks<V> {
    type Output = V::Output;

    fn visit<P: AsyncPool<RemoteConnection>>(self, runtime: &Runtime, pool: Arc<P>) -> Result<V::Output, Failure> {
        self.0.visit(&Door::Tasks(runtime.handle().clone()), pool)
    }
}

/// Builds the pool of a row over `remote` and shows it to `visit`; afterwards it is gone and its connections are closed.
///
/// # Errors
///
/// When it cannot be built or has no such door, and when the visit fails.
pub fn enter<V: VisitDoor>(
    entrant: Entrant,
    kind: Kind,
    remote: &Remote,
    gauge: &Arc<Gauge>,
    options: &Options,
    visit: V,
) -> Result<V::Output, Failure> {
    use ::pool::idle::{LockFreeQueue, MutexQueue, Slots};

    if kind == Kind::Tasks {
        return tasks::enter_with(entrant, remote, gauge, options, AsTasks(visit));
    }
    let manager = remote.manager(gauge);
    let output = match entrant {
        Entrant::Mutex => blocking(ours::build::<_, MutexQueue>(options, manager)?, visit),
        Entrant::LockFree => blocking(ours::build::<_, LockFreeQueue>(options, manager)?, visit),
        Entrant::Slots => blocking(ours::build::<_, Slots>(options, manager)?, visit),
        Entrant::R2d2 => blocking(adapter::build(options, remote.r2d2_manager(gauge), true)?, visit),
        _ => Err(Failure::new("it is not in the scenarios for threads")),
    }
    .map_err(|failure| failure.during(entrant.row().label))?;
    gauge.settle().map_err(|failure| failure.during(entrant.row().label))?;
    Ok(output)
}

fn blocking<P, V: VisitDoor>(pool: P, visit: V) -> Result<V::Output, Failure>
where
    Blocking<P>: AsyncPool<RemoteConnection>,
{
    visit.visit(&Door::Threads, Arc::new(Blocking(pool)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_on_a_thread_that_awaits_is_found_out() {
        let waiting = async {
            std::future::pending::<()>().await;
            Ok::<_, Failure>(())
        };
        assert!(at_once(waiting).unwrap_err().says("did not block"));
        assert_eq!(at_once(async { Ok::<_, Failure>(7) }).unwrap(), 7);
    }

    #[test]
    fn clients_start_together_and_their_results_are_in_order() {
        let runtime = Runtime::new().unwrap();
        for door in [Door::Threads, Door::Tasks(runtime.handle().clone())] {
            let before = Instant::now();
            let (began, results) = door.start(8, |number| async move { Ok(number) }).join().unwrap();
            assert!(began >= before);
            assert_eq!(results, [0, 1, 2, 3, 4, 5, 6, 7]);
            let failed = door
                .start(2, |number| async move { if number == 1 { Err(Failure::new("one failed")) } else { Ok(()) } });
            assert!(failed.join().unwrap_err().says("one failed"));
        }
    }
}

//! Two pools of straw that do what a pool must not, so that every check has something to catch. They are in no table.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::conformance::Check;
use crate::conformance::lab::runtime;
use crate::conformance::subject::{
    Acquire, Answer, Event, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source,
};

/// A way to be a bad pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Straw {
    /// Opens whenever nothing is idle, keeps everything, asks about nothing, and lies about itself.
    Careless,
    /// Has a limit, one lock around everything, and never wakes anybody.
    Clumsy,
}

/// What a bad pool has.
struct Heap<S: Source> {
    source: S,
    straw: Straw,
    max_size: usize,
    idle: Mutex<VecDeque<S::Connection>>,
    /// Opened or begun, and never counted down.
    begun: Mutex<usize>,
    /// Held by a clumsy pool while it connects, validates and closes.
    everything: tokio::sync::Mutex<()>,
    closing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Source> Drop for Heap<S> {
    fn drop(&mut self) {
        // Never closed.
        lock(&self.idle).drain(..).for_each(std::mem::forget);
    }
}

impl<S: Source> Heap<S> {
    fn lend(self: &Arc<Self>, connection: S::Connection) -> Loan<S::Connection> {
        Box::new(StrawLoan { connection: Some(connection), heap: Arc::clone(self) })
    }

    async fn acquire(self: Arc<Self>) -> Answer<S::Connection> {
        let nothing = || Refusal::new(Kind::Other, "no");
        let _held = match self.straw {
            Straw::Careless => None,
            Straw::Clumsy => Some(self.everything.lock().await),
        };
        drop(lock(&self.closing));
        let idle = lock(&self.idle).pop_front();
        if let Some(mut connection) = idle {
            if self.straw == Straw::Clumsy && self.source.validate_async(&mut connection).await.is_err() {
                return Err(nothing());
            }
            return Ok(self.lend(connection));
        }
        if self.straw == Straw::Clumsy {
            let is_full = {
                let mut begun = lock(&self.begun);
                *begun += 1;
                *begun > self.max_size
            };
            if is_full {
                drop(_held);
                std::future::pending::<()>().await;
            }
        }
        self.source.connect_async().await.map(|connection| self.lend(connection)).map_err(|_| nothing())
    }
}

struct StrawLoan<S: Source> {
    connection: Option<S::Connection>,
    heap: Arc<Heap<S>>,
}

impl<S: Source> Lent<S::Connection> for StrawLoan<S> {
    fn connection(&mut self) -> &mut S::Connection {
        self.connection.as_mut().expect("a loan has its connection")
    }

    fn detach(mut self: Box<Self>) -> Check<S::Connection> {
        Ok(self.connection.take().expect("a loan has its connection"))
    }
}

impl<S: Source> Drop for StrawLoan<S> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if self.heap.straw == Straw::Clumsy && self.heap.source.has_broken(&mut connection) {
            let _held = lock(&self.heap.closing);
            drop(connection);
            return;
        }
        lock(&self.heap.idle).push_back(connection);
        // Panics outside a runtime.
        let _ = Handle::current();
    }
}

struct Pile<S: Source>(Arc<Heap<S>>);

/// Builds the pool, or panics.
///
/// # Errors
///
/// Never.
pub fn open<S: Source>(source: S, straw: Straw, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
    assert!(options.max_size > 0 && options.min_idle <= options.max_size, "no");
    assert!(options.max_lifetime != Some(Duration::ZERO), "no");
    Ok(Ok(Arc::new(Pile(Arc::new(Heap {
        source,
        straw,
        max_size: options.max_size,
        idle: Mutex::default(),
        begun: Mutex::default(),
        everything: tokio::sync::Mutex::default(),
        closing: Mutex::default(),
    })))))
}

impl<S: Source> Pooled<S::Connection> for Pile<S> {
    fn get(&self) -> Answer<S::Connection> {
        runtime().block_on(Arc::clone(&self.0).acquire())
    }

    fn get_async(&self) -> Check<Acquire<S::Connection>> {
        Ok(Box::pin(Arc::clone(&self.0).acquire()))
    }

    fn snapshot(&self) -> Check<Snapshot> {
        Ok(Snapshot { max_size: 1, size: 2, idle: 3, lent: Some(4) })
    }

    fn waiters(&self) -> Option<usize> {
        Some(0)
    }

    fn close(&self, _: Duration) -> Check<Result<(), String>> {
        Ok(Ok(()))
    }

    fn close_waits(&self) -> bool {
        true
    }

    fn resize(&self, _: usize) -> Check {
        Ok(())
    }

    fn purge(&self) -> Check {
        Ok(())
    }

    fn add(&self, connection: S::Connection) -> Check<bool> {
        lock(&self.0.idle).push_back(connection);
        Ok(true)
    }

    fn events(&self) -> Check<Vec<(Event, u64)>> {
        Ok(vec![(Event::Closed, 1), (Event::Opened, 1)])
    }

    fn has_breaker(&self) -> bool {
        true
    }
}

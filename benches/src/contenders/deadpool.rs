//! deadpool, without timeouts as it comes (with one it would read the clock and arm a timer when it has to wait).
//!
//! Its connections are peeked at in `recycle`, as ours are at checkout. LIFO, which keeps the caches warm; it comes FIFO,
//! which is measured, too, where the order is the question.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Metrics, Object, Pool, QueueMode, RecycleError, RecycleResult};

use super::parked::{Hosted, Parked};
use crate::backend::{Counted, Failure, Gauged, Reach};
use crate::contender::{AsRaw, Contender, Options, Order, Session};

/// The lab's manager for deadpool.
#[derive(Debug)]
pub struct Deadpool<M> {
    manager: Gauged<M>,
    max_lifetime: Option<Duration>,
}

impl<M: Reach> deadpool::managed::Manager for Deadpool<M> {
    type Type = Counted<M::Connection>;
    type Error = Failure;

    async fn create(&self) -> Result<Self::Type, Failure> {
        self.manager.reach().await
    }

    async fn recycle(&self, connection: &mut Self::Type, metrics: &Metrics) -> RecycleResult<Failure> {
        // It has no lifetime of its own; this is how its documentation has one made.
        if self.max_lifetime.is_some_and(|most| metrics.age() > most) {
            return Err(RecycleError::message("the connection is too old"));
        }
        self.manager.peek(connection).map_err(RecycleError::Backend)
    }
}

/// A pool of deadpool's.
pub type Hosting<M> = Hosted<Pool<Deadpool<M>>>;

/// Builds a pool of at most `size`; its first connections are opened by the first acquires.
///
/// # Errors
///
/// When the runtime or the pool cannot be built.
pub fn open<M: Reach>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    open_with(&Options::filled(size), manager)
}

/// Builds a pool with these options on a runtime of its own.
///
/// # Errors
///
/// When the runtime or the pool cannot be built.
pub fn open_with<M: Reach>(options: &Options, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || build(options, manager))
}

/// The pool itself. Its first connections are opened by the first acquires; it has no minimum.
///
/// # Errors
///
/// When the pool cannot be built.
pub fn build<M: Reach>(options: &Options, manager: Gauged<M>) -> Result<Pool<Deadpool<M>>, Failure> {
    let manager = Deadpool { manager, max_lifetime: options.max_lifetime };
    let order = match options.order {
        Order::LastUsed => QueueMode::Lifo,
        Order::Turns => QueueMode::Fifo,
    };
    let mut builder = Pool::builder(manager).max_size(options.size).queue_mode(order);
    if let Some(limit) = options.acquire_timeout {
        builder = builder.runtime(Runtime::Tokio1).wait_timeout(Some(limit)).create_timeout(Some(limit));
    }
    builder.build().map_err(|error| Failure::of("deadpool", error))
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Deadpool<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Deadpool<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut object: Object<Deadpool<M>> =
            self.block_on(self.pool.get()).map_err(|error| Failure::of("deadpool", error))?;
        Ok(work(object.as_raw()))
    }
}

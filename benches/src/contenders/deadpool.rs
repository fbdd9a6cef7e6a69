//! deadpool, without timeouts as it comes (with one it would read the clock and arm a timer when it has to wait).
//!
//! Its connections are peeked at in `recycle`, as ours are at checkout. LIFO, which keeps the caches warm; it comes FIFO.

use deadpool::managed::{Metrics, Object, Pool, QueueMode, RecycleError, RecycleResult};
use pool::Manager;

use super::parked::{Hosted, Parked};
use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// The lab's manager for deadpool.
#[derive(Debug)]
pub struct Deadpool<M>(Gauged<M>);

impl<M: Manager> deadpool::managed::Manager for Deadpool<M> {
    type Type = Counted<M::Connection>;
    type Error = Failure;

    async fn create(&self) -> Result<Self::Type, Failure> {
        self.0.open()
    }

    async fn recycle(&self, connection: &mut Self::Type, _: &Metrics) -> RecycleResult<Failure> {
        self.0.peek(connection).map_err(RecycleError::Backend)
    }
}

/// A pool of deadpool's.
pub type Hosting<M> = Hosted<Pool<Deadpool<M>>>;

/// Builds a pool of at most `size`; its first connections are opened by the first acquires.
///
/// # Errors
///
/// When the runtime or the pool cannot be built.
pub fn open<M: Manager>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || {
        Pool::builder(Deadpool(manager))
            .max_size(size)
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| Failure::of("deadpool", error))
    })
}

impl<R, M: Manager<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Deadpool<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R, M: Manager<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Deadpool<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut object: Object<Deadpool<M>> =
            self.block_on(self.pool.get()).map_err(|error| Failure::of("deadpool", error))?;
        Ok(work(object.as_raw()))
    }
}

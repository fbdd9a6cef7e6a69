//! bb8, with its checkout test on as it comes; the test is the peek that our pools make. LIFO; it comes FIFO.

use bb8::{ManageConnection, Pool, QueueStrategy};
use pool::Manager;

use super::parked::{Hosted, Parked};
use crate::backend::{ACQUIRE_TIMEOUT, Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// The lab's manager for bb8.
#[derive(Debug)]
pub struct Bb8<M>(Gauged<M>);

impl<M: Manager> ManageConnection for Bb8<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.open()
    }

    async fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Failure> {
        self.0.peek(connection)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        self.0.has_broken(connection)
    }
}

/// A pool of bb8's.
pub type Hosting<M> = Hosted<Pool<Bb8<M>>>;

/// Opens `size` connections.
///
/// # Errors
///
/// When one of them could not be opened in time.
pub fn open<M: Manager>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    let max_size = u32::try_from(size).map_err(|error| Failure::of("bb8's size", error))?;
    Hosted::build(async || {
        Pool::builder()
            .max_size(max_size)
            .min_idle(max_size)
            .queue_strategy(QueueStrategy::Lifo)
            .connection_timeout(ACQUIRE_TIMEOUT)
            .build(Bb8(manager))
            .await
    })
}

impl<R, M: Manager<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Bb8<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R, M: Manager<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Bb8<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("bb8", error))?;
        Ok(work(guard.as_raw()))
    }
}

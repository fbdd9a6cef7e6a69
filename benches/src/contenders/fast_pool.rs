//! fast_pool. Its check, which it always makes and guards with a timer, is the peek that our pools make.

use fast_pool::Pool;
use pool::Manager;

use super::parked::{Hosted, Parked};
use crate::backend::{ACQUIRE_TIMEOUT, Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// The lab's manager for fast_pool.
#[derive(Debug)]
pub struct FastPool<M>(Gauged<M>);

impl<M: Manager<Connection: Unpin>> fast_pool::Manager for FastPool<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.open()
    }

    async fn check(&self, connection: &mut Self::Connection) -> Result<(), Failure> {
        self.0.peek(connection)
    }
}

/// A pool of fast_pool's.
pub type Hosting<M> = Hosted<Pool<FastPool<M>>>;

/// Builds a pool of at most `size`; its first connections are opened by the first acquires.
///
/// # Errors
///
/// When the runtime cannot be built.
pub fn open<M: Manager<Connection: Unpin>>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || {
        let pool = Pool::new(FastPool(manager));
        pool.set_max_open(size as u64);
        pool.set_max_idle_conns(size as u64);
        pool.set_timeout_wait(Some(ACQUIRE_TIMEOUT));
        Ok(pool)
    })
}

impl<R, M: Manager<Connection: AsRaw<R> + Unpin>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<FastPool<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R, M: Manager<Connection: AsRaw<R> + Unpin>> Session<R> for Parked<'_, Pool<FastPool<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("fast_pool", error))?;
        Ok(work(guard.as_raw()))
    }
}

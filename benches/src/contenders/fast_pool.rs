//! fast_pool. Its check, which it always makes and guards with a timer, is the peek that our pools make.

use fast_pool::Pool;

use super::parked::{Hosted, Parked};
use crate::backend::{Counted, Failure, Gauged, Reach};
use crate::contender::{AsRaw, Contender, Options, Session};

/// The lab's manager for fast_pool.
#[derive(Debug)]
pub struct FastPool<M>(Gauged<M>);

impl<M: Reach<Connection: Unpin>> fast_pool::Manager for FastPool<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.reach().await
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
pub fn open<M: Reach<Connection: Unpin>>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    open_with(&Options::filled(size), manager)
}

/// Builds a pool with these options on a runtime of its own.
///
/// # Errors
///
/// When the runtime cannot be built.
pub fn open_with<M: Reach<Connection: Unpin>>(options: &Options, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || Ok(build(options, manager)))
}

/// The pool itself. Its first connections are opened by the first acquires; it has neither minimum nor lifetime.
pub fn build<M: Reach<Connection: Unpin>>(options: &Options, manager: Gauged<M>) -> Pool<FastPool<M>> {
    let pool = Pool::new(FastPool(manager));
    pool.set_max_open(options.size as u64);
    pool.set_max_idle_conns(options.size as u64);
    pool.set_timeout_wait(Some(options.timeout()));
    pool
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R> + Unpin>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<FastPool<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R> + Unpin>> Session<R> for Parked<'_, Pool<FastPool<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("fast_pool", error))?;
        Ok(work(guard.as_raw()))
    }
}

//! mobc. It keeps two idle connections as it comes, which would make it connect all the time; here it keeps them all.
//!
//! Its guard gives the connection back on a task of the runtime, so every cycle takes part of another thread's time.

use mobc::{Pool, async_trait};
use pool::Manager;

use super::parked::{Hosted, Parked};
use crate::backend::{ACQUIRE_TIMEOUT, Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// The lab's manager for mobc.
#[derive(Debug)]
pub struct Mobc<M>(Gauged<M>);

#[async_trait]
impl<M: Manager> mobc::Manager for Mobc<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.open()
    }

    async fn check(&self, mut connection: Self::Connection) -> Result<Self::Connection, Failure> {
        self.0.peek(&mut connection)?;
        Ok(connection)
    }

    fn validate(&self, connection: &mut Self::Connection) -> bool {
        !self.0.has_broken(connection)
    }
}

/// A pool of mobc's.
pub type Hosting<M> = Hosted<Pool<Mobc<M>>>;

/// Builds a pool of at most `size`; its first connections are opened by the first acquires.
///
/// # Errors
///
/// When the runtime cannot be built.
pub fn open<M: Manager>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || {
        let size = size as u64;
        Ok(Pool::builder().max_open(size).max_idle(size).get_timeout(Some(ACQUIRE_TIMEOUT)).build(Mobc(manager)))
    })
}

impl<R, M: Manager<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Mobc<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R, M: Manager<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Mobc<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("mobc", error))?;
        Ok(work(guard.as_raw()))
    }
}

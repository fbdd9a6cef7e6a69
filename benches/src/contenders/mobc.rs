//! mobc. It keeps two idle connections as it comes, which would make it connect all the time; here it keeps them all.
//!
//! Its guard gives the connection back on a task of the runtime, so every cycle takes part of another thread's time.

use ::pool::Manager as _;
use mobc::{Pool, async_trait};

use super::parked::{Hosted, Parked};
use crate::backend::{Counted, Failure, Gauged, Reach};
use crate::contender::{AsRaw, Contender, Options, Session};

/// The lab's manager for mobc.
#[derive(Debug)]
pub struct Mobc<M>(Gauged<M>);

#[async_trait]
impl<M: Reach> mobc::Manager for Mobc<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.reach().await
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
pub fn open<M: Reach>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    open_with(&Options::filled(size), manager)
}

/// Builds a pool with these options on a runtime of its own.
///
/// # Errors
///
/// When the runtime cannot be built.
pub fn open_with<M: Reach>(options: &Options, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || Ok(build(options, manager)))
}

/// The pool itself. Its first connections are opened by the first acquires; it has no minimum.
pub fn build<M: Reach>(options: &Options, manager: Gauged<M>) -> Pool<Mobc<M>> {
    let size = options.size as u64;
    Pool::builder()
        .max_open(size)
        .max_idle(size)
        .max_lifetime(options.max_lifetime)
        .get_timeout(Some(options.timeout()))
        .build(Mobc(manager))
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Mobc<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Mobc<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("mobc", error))?;
        Ok(work(guard.as_raw()))
    }
}

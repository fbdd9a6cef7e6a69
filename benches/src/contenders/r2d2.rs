//! r2d2, in the three ways its users can have it.
//!
//! | row | checkout | checkin |
//! |---|---|---|
//! | as it comes | `is_valid` | `has_broken` |
//! | no checkout test | nothing | `has_broken` |
//! | no ping | nothing | a flag |
//!
//! With r2d2_mysql `is_valid` is a ping and `has_broken` is another one; with a stub both cost nothing.

use pool::Manager;
use r2d2::ManageConnection;

use crate::backend::{ACQUIRE_TIMEOUT, Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// A pool of r2d2's.
#[derive(Debug)]
pub struct R2d2<M: ManageConnection>(r2d2::Pool<M>);

impl<M: ManageConnection> R2d2<M> {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened in time.
    pub fn open(size: usize, manager: M, test_on_check_out: bool) -> Result<Self, Failure> {
        r2d2::Pool::builder()
            .max_size(u32::try_from(size).map_err(|error| Failure::of("r2d2's size", error))?)
            .test_on_check_out(test_on_check_out)
            .connection_timeout(ACQUIRE_TIMEOUT)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build(manager)
            .map(Self)
            .map_err(|error| Failure::of("r2d2", error))
    }
}

impl<R, M: ManageConnection<Connection: AsRaw<R>>> Contender<R> for R2d2<M> {
    type Session<'a> = &'a r2d2::Pool<M>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(&self.0)
    }
}

impl<R, M: ManageConnection<Connection: AsRaw<R>>> Session<R> for &r2d2::Pool<M> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.get().map_err(|error| Failure::of("r2d2", error))?;
        Ok(work(guard.as_raw()))
    }
}

/// The manager of the lab for r2d2, which asks `is_valid` at checkout and, as most managers for it do, at checkin.
#[derive(Debug)]
pub struct Plain<M>(pub Gauged<M>);

impl<M: Manager> ManageConnection for Plain<M> {
    type Connection = Counted<M::Connection>;
    type Error = M::Error;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        self.0.is_valid(connection)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        self.0.is_valid(connection).is_err()
    }
}

/// The manager of the lab for r2d2 at its fastest: at checkin it only asks whether an error was seen.
#[derive(Debug)]
pub struct Flagged<M>(pub Gauged<M>);

impl<M: Manager> ManageConnection for Flagged<M> {
    type Connection = Counted<M::Connection>;
    type Error = M::Error;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        self.0.is_valid(connection)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        self.0.has_broken(connection)
    }
}

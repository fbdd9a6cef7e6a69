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

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Options, Session};

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
        Self::open_with(&Options::filled(size), manager, test_on_check_out)
    }

    /// Builds a pool with these options.
    ///
    /// # Errors
    ///
    /// When `min_idle` connections could not be opened in time.
    pub fn open_with(options: &Options, manager: M, test_on_check_out: bool) -> Result<Self, Failure> {
        build(options, manager, test_on_check_out).map(Self)
    }
}

/// The pool itself.
///
/// Its lifetime is enforced by a thread that looks every 30 s, which cannot be set.
///
/// # Errors
///
/// When `min_idle` connections could not be opened in time.
pub fn build<M: ManageConnection>(
    options: &Options,
    manager: M,
    test_on_check_out: bool,
) -> Result<r2d2::Pool<M>, Failure> {
    let number = |count: usize| u32::try_from(count).map_err(|error| Failure::of("r2d2's size", error));
    // As it comes it keeps as many as it may have.
    let min_idle = if options.min_idle == options.size { None } else { Some(number(options.min_idle)?) };
    let mut builder = r2d2::Pool::builder()
        .max_size(number(options.size)?)
        .min_idle(min_idle)
        .test_on_check_out(test_on_check_out)
        .connection_timeout(options.timeout())
        .error_handler(Box::new(r2d2::NopErrorHandler));
    if options.max_lifetime.is_some() {
        builder = builder.max_lifetime(options.max_lifetime);
    }
    builder.build(manager).map_err(|error| Failure::with_causes("r2d2", &error))
}

impl<R: ?Sized, M: ManageConnection<Connection: AsRaw<R>>> Contender<R> for R2d2<M> {
    type Session<'a> = &'a r2d2::Pool<M>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(&self.0)
    }
}

impl<R: ?Sized, M: ManageConnection<Connection: AsRaw<R>>> Session<R> for &r2d2::Pool<M> {
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

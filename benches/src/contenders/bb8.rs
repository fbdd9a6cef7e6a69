//! bb8, with its checkout test on as it comes; the test is the peek that our pools make. LIFO; it comes FIFO, which is
//! measured, too, where the order is the question.

use ::pool::Manager as _;
use bb8::{ManageConnection, Pool, QueueStrategy};

use super::parked::{Hosted, Parked};
use crate::backend::{Counted, Failure, Gauged, Reach};
use crate::contender::{AsRaw, Contender, Options, Order, Session};

/// The lab's manager for bb8.
#[derive(Debug)]
pub struct Bb8<M>(Gauged<M>);

impl<M: Reach> ManageConnection for Bb8<M> {
    type Connection = Counted<M::Connection>;
    type Error = Failure;

    async fn connect(&self) -> Result<Self::Connection, Failure> {
        self.0.reach().await
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
pub fn open<M: Reach>(size: usize, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    open_with(&Options::filled(size), manager)
}

/// Builds a pool with these options on a runtime of its own.
///
/// # Errors
///
/// When `min_idle` connections could not be opened in time.
pub fn open_with<M: Reach>(options: &Options, manager: Gauged<M>) -> Result<Hosting<M>, Failure> {
    Hosted::build(async || build(options, manager).await)
}

/// The pool itself.
///
/// Its reaper looks every 30 s as it comes; with a lifetime shorter than that it looks as often as that lifetime ends.
///
/// # Errors
///
/// When `min_idle` connections could not be opened in time.
pub async fn build<M: Reach>(options: &Options, manager: Gauged<M>) -> Result<Pool<Bb8<M>>, Failure> {
    let number = |count: usize| u32::try_from(count).map_err(|error| Failure::of("bb8's size", error));
    let order = match options.order {
        Order::LastUsed => QueueStrategy::Lifo,
        Order::Turns => QueueStrategy::Fifo,
    };
    let mut builder = Pool::builder()
        .max_size(number(options.size)?)
        .min_idle(number(options.min_idle)?)
        .queue_strategy(order)
        .connection_timeout(options.timeout());
    if let Some(max_lifetime) = options.max_lifetime {
        builder = builder.max_lifetime(max_lifetime).reaper_rate(max_lifetime);
    }
    builder.build(Bb8(manager)).await
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Contender<R> for Hosting<M> {
    type Session<'a> = Parked<'a, Pool<Bb8<M>>>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self.session())
    }
}

impl<R: ?Sized, M: Reach<Connection: AsRaw<R>>> Session<R> for Parked<'_, Pool<Bb8<M>>> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.block_on(self.pool.get()).map_err(|error| Failure::of("bb8", error))?;
        Ok(work(guard.as_raw()))
    }
}

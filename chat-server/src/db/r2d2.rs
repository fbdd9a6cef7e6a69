//! r2d2 with its defaults, the control in every measurement: it asks the database at every checkout.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pool::Manager;
use r2d2::{HandleError, ManageConnection, PooledConnection};
use tokio::sync::Semaphore;

use super::{AcquireError, ConnectionPool, Counts, OpenError, Options, acquire_on_a_thread};

/// r2d2 over one of our managers.
pub struct Pool<M: Manager> {
    pool: r2d2::Pool<Adapter<M>>,
    last_error: Arc<LastError>,
    purges: Arc<AtomicU64>,
    door: Arc<Semaphore>,
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            last_error: Arc::clone(&self.last_error),
            purges: Arc::clone(&self.purges),
            door: Arc::clone(&self.door),
        }
    }
}

/// What r2d2 lends, looking like what is in it.
pub struct Loan<M: Manager>(PooledConnection<Adapter<M>>);

impl<M: Manager> Deref for Loan<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.0.connection
    }
}

impl<M: Manager> DerefMut for Loan<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.0.connection
    }
}

/// A connection that can be said to be broken, for which r2d2 has no word.
pub struct Marked<C> {
    connection: C,
    is_broken: bool,
    /// How often the pool had been purged when it was opened.
    purges: u64,
}

/// Speaks r2d2's language for one of our managers.
pub struct Adapter<M> {
    manager: M,
    purges: Arc<AtomicU64>,
}

impl<M: Manager> ManageConnection for Adapter<M> {
    type Connection = Marked<M::Connection>;
    type Error = M::Error;

    fn connect(&self) -> Result<Self::Connection, M::Error> {
        let purges = self.purges.load(Ordering::Relaxed);
        self.manager.connect().map(|connection| Marked { connection, is_broken: false, purges })
    }

    fn is_valid(&self, marked: &mut Self::Connection) -> Result<(), M::Error> {
        self.manager.is_valid(&mut marked.connection)
    }

    fn has_broken(&self, marked: &mut Self::Connection) -> bool {
        // r2d2 has no place for a reset, so what would need one is closed.
        marked.is_broken
            || marked.purges != self.purges.load(Ordering::Relaxed)
            || self.manager.has_broken(&mut marked.connection)
            || self.manager.is_dirty(&mut marked.connection)
    }
}

/// The last failure to connect. r2d2's own error says "timed out waiting for connection" and, at best, the text of it.
#[derive(Debug, Default)]
struct LastError(Mutex<Option<String>>);

impl LastError {
    /// `error`, with what is behind it.
    fn explain(&self, error: r2d2::Error) -> Box<dyn Error + Send + Sync> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(cause) => format!("timed out waiting for connection: {cause}").into(),
            None => error.into(),
        }
    }
}

#[derive(Debug)]
struct Handler(Arc<LastError>);

impl<E: Error> HandleError<E> for Handler {
    fn handle_error(&self, error: E) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }
}

impl<M: Manager> ConnectionPool<M> for Pool<M> {
    const NAME: &'static str = "r2d2";
    type Loan = Loan<M>;

    fn open(manager: M, options: &Options) -> Result<Self, OpenError> {
        let (last_error, purges) = (Arc::new(LastError::default()), Arc::new(AtomicU64::new(0)));
        let pool = r2d2::Pool::builder()
            .min_idle(Some(u32::try_from(options.min_idle).map_err(|error| OpenError(error.into()))?))
            .max_size(u32::try_from(options.max_size).map_err(|error| OpenError(error.into()))?)
            .connection_timeout(options.acquire_timeout)
            .idle_timeout(Some(options.idle_timeout))
            .error_handler(Box::new(Handler(Arc::clone(&last_error))))
            .build(Adapter { manager, purges: Arc::clone(&purges) })
            .map_err(|error| OpenError(last_error.explain(error)))?;
        Ok(Self { pool, last_error, purges, door: Arc::new(Semaphore::new(options.max_size)) })
    }

    fn acquire(&self) -> Result<Self::Loan, AcquireError> {
        self.pool.get().map(Loan).map_err(|error| AcquireError(self.last_error.explain(error)))
    }

    async fn acquire_async(&self) -> Result<Self::Loan, AcquireError> {
        let pool = self.clone();
        // The permit is for the thread that waits. Who has a connection waits no longer.
        let acquired = acquire_on_a_thread(&self.door, self.pool.connection_timeout(), move || pool.acquire()).await;
        acquired.map(|(loan, _)| loan)
    }

    fn mark_broken(loan: &mut Self::Loan) {
        loan.0.is_broken = true;
    }

    fn purge(&self) {
        // r2d2 looks at a connection when it comes back, so those that are idle now are lent once more.
        self.purges.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        let state = self.pool.state();
        Counts { size: state.connections as usize, idle: state.idle_connections as usize, waiting: None }
    }
}

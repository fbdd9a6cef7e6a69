//! r2d2 with its defaults, the control in every measurement: it asks the database at every checkout.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use pool::Manager;
use r2d2::{HandleError, ManageConnection, PooledConnection};

use super::{AcquireError, ConnectionPool, OpenError, Options};

/// r2d2 over one of our managers.
pub struct Pool<M: Manager> {
    pool: r2d2::Pool<Adapter<M>>,
    last_error: Arc<LastError>,
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), last_error: Arc::clone(&self.last_error) }
    }
}

/// Speaks r2d2's language for one of our managers.
pub struct Adapter<M>(M);

impl<M: Manager> ManageConnection for Adapter<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    fn connect(&self) -> Result<M::Connection, M::Error> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.0.is_valid(connection)
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        // r2d2 has no place for a reset, so what would need one is closed.
        self.0.has_broken(connection) || self.0.is_dirty(connection)
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
    type Loan = PooledConnection<Adapter<M>>;

    fn open(manager: M, options: &Options) -> Result<Self, OpenError> {
        let last_error = Arc::new(LastError::default());
        let pool = r2d2::Pool::builder()
            .min_idle(Some(u32::try_from(options.min_idle).map_err(|error| OpenError(error.into()))?))
            .max_size(u32::try_from(options.max_size).map_err(|error| OpenError(error.into()))?)
            .connection_timeout(options.acquire_timeout)
            .idle_timeout(Some(options.idle_timeout))
            .error_handler(Box::new(Handler(Arc::clone(&last_error))))
            .build(Adapter(manager))
            .map_err(|error| OpenError(last_error.explain(error)))?;
        Ok(Self { pool, last_error })
    }

    fn acquire(&self) -> Result<Self::Loan, AcquireError> {
        self.pool.get().map_err(|error| AcquireError(self.last_error.explain(error)))
    }
}

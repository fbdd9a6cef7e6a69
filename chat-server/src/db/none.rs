//! No pool: a connection is opened for every loan and closed after it. What a pool has to be better than.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use pool::Manager;

use super::{AcquireError, ConnectionPool, OpenError, Options};

/// Opens a connection whenever one is asked for. There is no limit, and nothing to wait for.
pub struct Pool<M> {
    manager: Arc<M>,
}

impl<M> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { manager: Arc::clone(&self.manager) }
    }
}

/// A connection that is closed when it is dropped.
pub struct Loan<M: Manager> {
    /// `None` only while it is dropped.
    connection: Option<M::Connection>,
    manager: Arc<M>,
}

const IS_OPEN: &str = "a loan has a connection until it is dropped";

impl<M: Manager> Deref for Loan<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        self.connection.as_ref().expect(IS_OPEN)
    }
}

impl<M: Manager> DerefMut for Loan<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        self.connection.as_mut().expect(IS_OPEN)
    }
}

impl<M: Manager> Drop for Loan<M> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.manager.close(connection);
        }
    }
}

impl<M: Manager> ConnectionPool<M> for Pool<M> {
    const NAME: &'static str = "none";
    type Loan = Loan<M>;

    fn open(manager: M, _: &Options) -> Result<Self, OpenError> {
        // One connection, so that a database that cannot be had is told at the start here, too.
        let connection = manager.connect().map_err(|error| OpenError(error.into()))?;
        manager.close(connection);
        Ok(Self { manager: Arc::new(manager) })
    }

    fn acquire(&self) -> Result<Loan<M>, AcquireError> {
        let connection = self.manager.connect().map_err(|error| AcquireError(error.into()))?;
        Ok(Loan { connection: Some(connection), manager: Arc::clone(&self.manager) })
    }
}

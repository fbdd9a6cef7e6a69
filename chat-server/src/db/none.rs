//! No pool: a connection is opened for every loan and closed after it. What a pool has to be better than.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pool::Manager;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{AcquireError, ConnectionPool, Counts, OpenError, Options, acquire_on_a_thread};

/// Opens a connection whenever one is asked for. Threads never wait; tasks do when `max_size` of them have one, since
/// they are many more, and the database has limits of its own.
pub struct Pool<M> {
    manager: Arc<M>,
    door: Arc<Semaphore>,
    acquire_timeout: Duration,
    lent: Arc<AtomicUsize>,
}

impl<M> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            manager: Arc::clone(&self.manager),
            door: Arc::clone(&self.door),
            acquire_timeout: self.acquire_timeout,
            lent: Arc::clone(&self.lent),
        }
    }
}

/// A connection that is closed when it is dropped.
pub struct Loan<M: Manager> {
    /// `None` only while it is dropped.
    connection: Option<M::Connection>,
    manager: Arc<M>,
    lent: Arc<AtomicUsize>,
    /// A task's, until the connection is closed.
    _permit: Option<OwnedSemaphorePermit>,
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
            self.lent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<M: Manager> ConnectionPool<M> for Pool<M> {
    const NAME: &'static str = "none";
    type Loan = Loan<M>;

    fn open(manager: M, options: &Options) -> Result<Self, OpenError> {
        // One connection, so that a database that cannot be had is told at the start here, too.
        let connection = manager.connect().map_err(|error| OpenError(error.into()))?;
        manager.close(connection);
        Ok(Self {
            manager: Arc::new(manager),
            door: Arc::new(Semaphore::new(options.max_size)),
            acquire_timeout: options.acquire_timeout,
            lent: Arc::default(),
        })
    }

    fn acquire(&self) -> Result<Loan<M>, AcquireError> {
        let connection = self.manager.connect().map_err(|error| AcquireError(error.into()))?;
        self.lent.fetch_add(1, Ordering::Relaxed);
        let (manager, lent) = (Arc::clone(&self.manager), Arc::clone(&self.lent));
        Ok(Loan { connection: Some(connection), manager, lent, _permit: None })
    }

    async fn acquire_async(&self) -> Result<Loan<M>, AcquireError> {
        let pool = self.clone();
        let acquired = acquire_on_a_thread(&self.door, self.acquire_timeout, move || pool.acquire()).await;
        acquired.map(|(mut loan, permit)| {
            loan._permit = Some(permit);
            loan
        })
    }

    fn mark_broken(_: &mut Loan<M>) {
        // It will be closed anyway.
    }

    fn purge(&self) {
        // None is kept.
    }

    fn counts(&self) -> Counts {
        let size = self.lent.load(Ordering::Relaxed);
        Counts { size, idle: 0, waiting: None }
    }
}

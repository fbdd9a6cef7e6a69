//! The least a mutex pool can be: a container, a lock and a condition variable. No limits on time, no checks, no counts.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use pool::Manager;

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// Where the connections are, which says in which order they are lent.
pub trait Container: Default + Send {
    /// A connection.
    type Item;

    /// The next one to lend.
    fn take(&mut self) -> Option<Self::Item>;

    /// One comes back.
    fn give(&mut self, item: Self::Item);
}

/// A stack: the one that came back last.
impl<T: Send> Container for Vec<T> {
    type Item = T;

    #[inline]
    fn take(&mut self) -> Option<T> {
        self.pop()
    }

    #[inline]
    fn give(&mut self, item: T) {
        self.push(item);
    }
}

/// A queue, as in the seed's pool: the one that has been idle longest.
impl<T: Send> Container for VecDeque<T> {
    type Item = T;

    #[inline]
    fn take(&mut self) -> Option<T> {
        self.pop_front()
    }

    #[inline]
    fn give(&mut self, item: T) {
        self.push_back(item);
    }
}

/// Connections in a container under a mutex, filled at the start.
#[derive(Debug)]
pub struct BareMutex<Q> {
    idle: Mutex<Q>,
    returned: Condvar,
}

impl<C, Q: Container<Item = Counted<C>>> BareMutex<Q> {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened.
    pub fn open<M: Manager<Connection = C>>(size: usize, manager: &Gauged<M>) -> Result<Self, Failure> {
        let mut idle = Q::default();
        for _ in 0..size {
            idle.give(manager.open()?);
        }
        Ok(Self { idle: Mutex::new(idle), returned: Condvar::new() })
    }

    #[inline]
    fn take(&self) -> Counted<C> {
        let mut idle = self.idle.lock();
        loop {
            if let Some(connection) = idle.take() {
                return connection;
            }
            self.returned.wait(&mut idle);
        }
    }
}

impl<R, C, Q> Contender<R> for BareMutex<Q>
where
    R: ?Sized,
    C: AsRaw<R> + Send + 'static,
    Q: Container<Item = Counted<C>> + 'static,
{
    type Session<'a> = &'a Self;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self)
    }
}

impl<R: ?Sized, C: AsRaw<R>, Q: Container<Item = Counted<C>>> Session<R> for &BareMutex<Q> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut connection = self.take();
        let done = work(connection.as_raw());
        self.idle.lock().give(connection);
        self.returned.notify_one();
        Ok(done)
    }
}

//! The least a mutex pool can be: a vector, a lock and a condition variable. No limits on time, no checks, no counts.

use parking_lot::{Condvar, Mutex};
use pool::Manager;

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// `Mutex<Vec<Connection>>`, filled at the start.
#[derive(Debug)]
pub struct BareMutex<C> {
    idle: Mutex<Vec<Counted<C>>>,
    returned: Condvar,
}

impl<C> BareMutex<C> {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened.
    pub fn open<M: Manager<Connection = C>>(size: usize, manager: &Gauged<M>) -> Result<Self, Failure> {
        let idle = (0..size).map(|_| manager.open()).collect::<Result<_, _>>()?;
        Ok(Self { idle: Mutex::new(idle), returned: Condvar::new() })
    }

    #[inline]
    fn take(&self) -> Counted<C> {
        let mut idle = self.idle.lock();
        loop {
            if let Some(connection) = idle.pop() {
                return connection;
            }
            self.returned.wait(&mut idle);
        }
    }
}

impl<R, C: AsRaw<R> + Send + 'static> Contender<R> for BareMutex<C> {
    type Session<'a> = &'a Self;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self)
    }
}

impl<R, C: AsRaw<R>> Session<R> for &BareMutex<C> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut connection = self.take();
        let done = work(connection.as_raw());
        self.idle.lock().push(connection);
        self.returned.notify_one();
        Ok(done)
    }
}

//! The least a lock-free pool can be: crossbeam's bounded queue. It cannot wait, so it enters only where nobody must.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::Backoff;
use pool::Manager;

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// `ArrayQueue<Connection>`, filled at the start.
#[derive(Debug)]
pub struct BareQueue<C>(ArrayQueue<Counted<C>>);

impl<C> BareQueue<C> {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened.
    pub fn open<M: Manager<Connection = C>>(size: usize, manager: &Gauged<M>) -> Result<Self, Failure> {
        let idle = ArrayQueue::new(size);
        for _ in 0..size {
            let full = idle.push(manager.open()?).is_err();
            assert!(!full, "a queue of {size} did not hold {size} connections");
        }
        Ok(Self(idle))
    }

    #[inline]
    fn take(&self) -> Counted<C> {
        let backoff = Backoff::new();
        loop {
            if let Some(connection) = self.0.pop() {
                return connection;
            }
            backoff.snooze();
        }
    }
}

impl<R, C: AsRaw<R> + Send + 'static> Contender<R> for BareQueue<C> {
    type Session<'a> = &'a Self;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(self)
    }
}

impl<R, C: AsRaw<R>> Session<R> for &BareQueue<C> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut connection = self.take();
        let done = work(connection.as_raw());
        if self.0.push(connection).is_err() {
            return Err(Failure::new("the queue held more connections than were opened"));
        }
        Ok(done)
    }
}

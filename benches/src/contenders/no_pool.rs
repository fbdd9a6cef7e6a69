//! A connection for every operation, closed after it: what a pool is there to avoid.

use pool::Manager;

use crate::backend::{Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// Connects, works, closes.
#[derive(Debug)]
pub struct NoPool<M>(pub Gauged<M>);

impl<R, M: Manager<Connection: AsRaw<R>>> Contender<R> for NoPool<M> {
    type Session<'a> = &'a Gauged<M>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(&self.0)
    }

    fn is_pool(&self) -> bool {
        false
    }

    fn connects_per_operation(&self) -> bool {
        true
    }
}

impl<R, M: Manager<Connection: AsRaw<R>>> Session<R> for &Gauged<M> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut connection = self.open()?;
        let done = work(connection.as_raw());
        self.close(connection);
        Ok(done)
    }
}

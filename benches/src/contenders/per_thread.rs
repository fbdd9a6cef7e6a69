//! A connection of its own for every thread: the floor, since nothing is shared and nothing is checked.

use pool::Manager;

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

/// Connects when a thread begins.
#[derive(Debug)]
pub struct PerThread<M>(pub Gauged<M>);

/// A thread's connection.
#[derive(Debug)]
pub struct Own<C>(Counted<C>);

impl<R, M: Manager<Connection: AsRaw<R>>> Contender<R> for PerThread<M> {
    type Session<'a> = Own<M::Connection>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        self.0.open().map(Own)
    }

    fn is_pool(&self) -> bool {
        false
    }
}

impl<R, C: AsRaw<R>> Session<R> for Own<C> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        Ok(work(self.0.as_raw()))
    }
}

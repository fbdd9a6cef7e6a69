//! What no pool can be faster than if it lends a connection to one holder at a time and sees who waits: a connection of its own
//! for every thread, and around each use a compare-and-swap that takes it, a swap that gives it back, and a look at a word
//! that everybody shares and nobody writes.
//!
//! Processors differ by four times in what these two cost, so the rest of a pool's cycle is read against this row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam::utils::CachePadded;
use pool::Manager;

use crate::backend::{Counted, Failure, Gauged};
use crate::contender::{AsRaw, Contender, Session};

const IDLE: u32 = 0;
const LENT: u32 = 1;

/// Connects when a thread begins.
#[derive(Debug)]
pub struct Limit<M> {
    manager: Gauged<M>,
    /// Where a waiter would make itself seen.
    attention: CachePadded<AtomicU32>,
}

impl<M> Limit<M> {
    /// No connection is open yet.
    #[must_use]
    pub fn new(manager: Gauged<M>) -> Self {
        Self { manager, attention: CachePadded::new(AtomicU32::new(0)) }
    }
}

/// A thread's connection and the word that says where it is.
#[derive(Debug)]
pub struct Guarded<'a, C> {
    connection: Counted<C>,
    // On the heap, where the compiler has to believe that others see it.
    word: Arc<CachePadded<AtomicU32>>,
    attention: &'a AtomicU32,
}

impl<R: ?Sized, M: Manager<Connection: AsRaw<R>>> Contender<R> for Limit<M> {
    type Session<'a> = Guarded<'a, M::Connection>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        let word = Arc::new(CachePadded::new(AtomicU32::new(IDLE)));
        Ok(Guarded { connection: self.manager.open()?, word, attention: &self.attention })
    }

    fn is_pool(&self) -> bool {
        false
    }
}

impl<R: ?Sized, C: AsRaw<R>> Session<R> for Guarded<'_, C> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        if self.word.compare_exchange(IDLE, LENT, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(Failure::new("a thread's own connection was lent"));
        }
        let done = work(self.connection.as_raw());
        self.word.swap(IDLE, Ordering::SeqCst);
        if self.attention.load(Ordering::SeqCst) != 0 {
            return Err(Failure::new("somebody waits though nobody can"));
        }
        Ok(done)
    }
}

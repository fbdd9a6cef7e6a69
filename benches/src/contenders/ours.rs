//! Our pools, all defaults on; they differ in the idle set alone, so one adapter is enough.

use std::fmt;

use pool::{Builder, IdleSet, Manager, Pool};

use crate::backend::{Failure, Gauged};
use crate::contender::{AsRaw, Contender, Options, Session};

/// A pool of ours over the idle set `I`.
#[derive(Debug)]
pub struct Ours<M: Manager, I: IdleSet>(Pool<Gauged<M>, I>);

impl<M: Manager, I: IdleSet> Ours<M, I> {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened in time.
    pub fn open(size: usize, manager: Gauged<M>) -> Result<Self, Failure> {
        build(&Options::filled(size), manager).map(Self)
    }

    /// The same with other options than the defaults.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened in time.
    pub fn open_changed(
        size: usize,
        manager: Gauged<M>,
        change: impl FnOnce(Builder<Gauged<M>, I>) -> Builder<Gauged<M>, I>,
    ) -> Result<Self, Failure> {
        finish(change(begin(&Options::filled(size))), manager).map(Self)
    }

    /// Builds a pool with these options and all other defaults.
    ///
    /// # Errors
    ///
    /// When `min_idle` connections could not be opened in time.
    pub fn open_with(options: &Options, manager: Gauged<M>) -> Result<Self, Failure> {
        build(options, manager).map(Self)
    }
}

/// The pool itself.
///
/// # Errors
///
/// When `min_idle` connections could not be opened in time.
pub fn build<M: Manager, I: IdleSet>(options: &Options, manager: Gauged<M>) -> Result<Pool<Gauged<M>, I>, Failure> {
    finish(begin(options), manager)
}

fn begin<M: Manager, I: IdleSet>(options: &Options) -> Builder<Gauged<M>, I> {
    let mut builder =
        Pool::builder().max_size(options.size).min_idle(options.min_idle).acquire_timeout(options.timeout());
    if let Some(max_lifetime) = options.max_lifetime {
        builder = builder.max_lifetime(max_lifetime);
    }
    if let Some(fairness) = options.fairness {
        builder = builder.fairness(fairness);
    }
    builder
}

fn finish<M: Manager, I: IdleSet>(
    builder: Builder<Gauged<M>, I>,
    manager: Gauged<M>,
) -> Result<Pool<Gauged<M>, I>, Failure> {
    builder.build(manager).map_err(|error| Failure::with_causes("our pool", &error))
}

/// A thread's view of one of our pools: a reference.
pub struct Borrowed<'a, M: Manager, I: IdleSet>(&'a Pool<Gauged<M>, I>);

impl<M: Manager, I: IdleSet> fmt::Debug for Borrowed<'_, M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Borrowed")
    }
}

impl<R: ?Sized, M: Manager<Connection: AsRaw<R>>, I: IdleSet> Contender<R> for Ours<M, I> {
    type Session<'a> = Borrowed<'a, M, I>;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(Borrowed(&self.0))
    }

    #[cfg(feature = "timing")]
    fn pool_timing(&self) -> Option<crate::contender::PoolTiming> {
        let pool::Timing { wait_ns, lock_wait_ns, .. } = self.0.timing();
        Some(crate::contender::PoolTiming { wait_ns, lock_wait_ns })
    }
}

impl<R: ?Sized, M: Manager<Connection: AsRaw<R>>, I: IdleSet> Session<R> for Borrowed<'_, M, I> {
    #[inline]
    fn with<T>(&mut self, work: impl FnOnce(&mut R) -> T) -> Result<T, Failure> {
        let mut guard = self.0.get().map_err(|error| Failure::of("our pool", error))?;
        Ok(work(guard.as_raw()))
    }
}

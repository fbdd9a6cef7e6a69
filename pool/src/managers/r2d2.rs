//! Managers written for r2d2, for this crate's pools: diesel's `ConnectionManager`, `r2d2_sqlite`, `r2d2_mysql` and the
//! rest, unchanged.
//!
//! ```
//! # use std::io;
//! use pool::SlotsPool;
//! use pool::managers::r2d2::R2d2Manager;
//!
//! # struct TheirManager;
//! # impl r2d2::ManageConnection for TheirManager {
//! #     type Connection = u32;
//! #     type Error = io::Error;
//! #     fn connect(&self) -> io::Result<u32> { Ok(7) }
//! #     fn is_valid(&self, _: &mut u32) -> io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut u32) -> bool { false }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SlotsPool::builder().build(R2d2Manager::new(TheirManager))?;
//! assert_eq!(*pool.get()?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! For code that was written for r2d2's pool there is [`r2d2_compat`](crate::r2d2_compat).

use std::error::Error;
use std::fmt;

use ::r2d2::ManageConnection;

use crate::Manager;

/// Answers for an error.
type Judge<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// A [`Manager`] out of one that was written for r2d2.
///
/// `connect` and `is_valid` are the inner manager's; they run on the pool's worker threads, `is_valid` only after
/// [`validate_after_idle`](crate::Builder::validate_after_idle). `has_broken` is asked at every checkin, on the thread
/// that returns the connection.
///
/// r2d2's managers cannot clean a connection: what its last holder left, an open transaction say, is there for the next.
/// A manager whose errors are not `Send + Sync` needs [`TextErrors`] around it.
pub struct R2d2Manager<M: ManageConnection> {
    inner: M,
    asks_has_broken: bool,
    is_transient: Option<Judge<M::Error>>,
    is_fatal: Option<Judge<M::Error>>,
}

impl<M: ManageConnection> R2d2Manager<M> {
    /// Takes over a manager written for r2d2.
    pub fn new(inner: M) -> Self {
        Self { inner, asks_has_broken: true, is_transient: None, is_fatal: None }
    }

    /// Whether `has_broken` is asked at every checkin. Default true.
    ///
    /// It is meant to be quick, but with some managers it is a round trip (r2d2_mysql pings), paid by whoever returns a
    /// connection. Without it, say what you know of an error with [`Guard::run`](crate::Guard::run) or
    /// [`Guard::mark_broken`](crate::Guard::mark_broken).
    #[must_use]
    pub fn ask_has_broken(mut self, asks_has_broken: bool) -> Self {
        self.asks_has_broken = asks_has_broken;
        self
    }

    /// Tells errors that trying again can mend from others, a wrong password say, which callers are then told at once:
    /// see [`Manager::is_transient`]. Default: all are.
    #[must_use]
    pub fn is_transient(mut self, is_transient: impl Fn(&M::Error) -> bool + Send + Sync + 'static) -> Self {
        self.is_transient = Some(Box::new(is_transient));
        self
    }

    /// Tells errors that leave a connection unusable from others: see [`Manager::is_fatal`]. Default: all do.
    #[must_use]
    pub fn is_fatal(mut self, is_fatal: impl Fn(&M::Error) -> bool + Send + Sync + 'static) -> Self {
        self.is_fatal = Some(Box::new(is_fatal));
        self
    }

    /// The manager inside.
    pub fn get_ref(&self) -> &M {
        &self.inner
    }
}

impl<M: ManageConnection + fmt::Debug> fmt::Debug for R2d2Manager<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("R2d2Manager")
            .field("inner", &self.inner)
            .field("asks_has_broken", &self.asks_has_broken)
            .finish_non_exhaustive()
    }
}

impl<M: ManageConnection<Error: Send + Sync>> Manager for R2d2Manager<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    fn connect(&self) -> Result<M::Connection, M::Error> {
        self.inner.connect()
    }

    fn is_valid(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.inner.is_valid(connection)
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        self.asks_has_broken && self.inner.has_broken(connection)
    }

    fn is_transient(&self, error: &M::Error) -> bool {
        self.is_transient.as_ref().is_none_or(|is_transient| is_transient(error))
    }

    fn is_fatal(&self, error: &M::Error) -> bool {
        self.is_fatal.as_ref().is_none_or(|is_fatal| is_fatal(error))
    }
}

/// A manager whose errors are kept as text, for those that cannot be sent to another thread.
///
/// r2d2 does not ask that of them; a pool that keeps the last error for whoever waits must.
#[derive(Debug, Clone)]
pub struct TextErrors<M>(pub M);

/// What an error said, and what the errors behind it said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextError(pub String);

impl TextError {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        Self(text)
    }
}

impl<M: ManageConnection> ManageConnection for TextErrors<M> {
    type Connection = M::Connection;
    type Error = TextError;

    fn connect(&self) -> Result<M::Connection, TextError> {
        self.0.connect().map_err(|error| TextError::of(&error))
    }

    fn is_valid(&self, connection: &mut M::Connection) -> Result<(), TextError> {
        self.0.is_valid(connection).map_err(|error| TextError::of(&error))
    }

    fn has_broken(&self, connection: &mut M::Connection) -> bool {
        self.0.has_broken(connection)
    }
}

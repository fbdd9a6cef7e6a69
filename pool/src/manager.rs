//! The contract between the pool and whatever it pools.

use std::error::Error;

/// Opens, checks, cleans and closes connections of one kind.
///
/// # What the pool promises
///
/// - No lock of the pool is held during any call, so a call may block and may use the pool itself.
/// - `connect`, `is_valid`, `reset` and `close` run on the pool's worker threads, never on the caller's thread and
///   never on an async runtime's. A caller's timeout therefore holds even when one of them hangs.
/// - `looks_alive`, `has_broken` and `is_dirty` run on the caller's thread, on the way out and on the way in. They must
///   not block.
/// - A panic in any of them costs the connection it was about, and nothing else.
///
/// # What a manager promises
///
/// That `connect`, `is_valid`, `reset` and `close` end at some time: a hanging call keeps its slot (see
/// [`State`](crate::State)) until it returns, and holds up others of its kind when there are many (see
/// [Threads](crate#threads)). Set socket timeouts.
pub trait Manager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why a connection could not be opened, or failed a check.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection. May do IO.
    ///
    /// # Errors
    ///
    /// Whatever kept it from opening. The pool keeps the last one and shows it to the callers who wait in vain.
    fn connect(&self) -> Result<Self::Connection, Self::Error>;

    /// Asks the other side whether the connection still works. May do IO.
    ///
    /// Called at checkout, but only for a connection that lay idle longer than
    /// [`validate_after_idle`](crate::Builder::validate_after_idle); the caller waits like everybody else meanwhile.
    ///
    /// # Errors
    ///
    /// Any error: the connection is closed and the caller gets another one.
    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error>;

    /// A look at the connection without a round trip, at every checkout. Must not block.
    ///
    /// `false` closes the connection, and the caller gets another one. A socket peek belongs here.
    #[inline]
    fn looks_alive(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        true
    }

    /// Whether a connection that comes back is known to be broken. Must not block.
    #[inline]
    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// Whether `error`, met while a connection was lent, leaves that connection unusable.
    ///
    /// Asked by [`Guard::run`](crate::Guard::run). The default is the safe answer.
    fn is_fatal(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }

    /// Whether `connect` could succeed if it were tried again.
    ///
    /// `false`, for a wrong password say, makes the pool tell its waiters at once instead of letting them wait out
    /// their time, unless live connections are left that may still serve them.
    fn is_transient(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }

    /// Whether a connection that comes back must be [`reset`](Manager::reset) before its next use. Must not block.
    #[inline]
    fn is_dirty(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// Brings a connection back to the state it had when it was opened. May do IO.
    ///
    /// # Errors
    ///
    /// Any error: the connection is closed.
    fn reset(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        let _ = connection;
        Ok(())
    }

    /// Closes a connection. May do IO, so the pool calls it on a worker thread (or, when the pool itself is gone, on
    /// the thread that drops the last guard).
    fn close(&self, connection: Self::Connection) {
        drop(connection);
    }
}

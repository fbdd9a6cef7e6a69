//! What happens in a pool, told as it happens.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::foreign::{caught_panic, log};
use crate::idle::IdleSet;
use crate::{Loan, Manager};

/// Something that has happened in a pool. Shown to the closure given to [`Builder::observe`](crate::Builder::observe).
///
/// `connection` is a number that no other connection of the same pool has, counted from 1; 0 stands for one that was
/// never completed.
///
/// # Order
///
/// The events of one connection come in this order, each exactly once, whichever threads they happen on:
/// [`Connected`](Event::Connected), then loans, each a [`CheckedOut`](Event::CheckedOut) followed by its
/// [`CheckedIn`](Event::CheckedIn), then [`Closed`](Event::Closed). A detached connection ends with
/// [`Detached`](Event::Detached) instead of the last two. Nothing is promised about events of different connections,
/// and a [`LongLoan`](Event::LongLoan), which another thread notices, may come after the loan's end.
///
/// What concerns the whole pool comes in the order in which it happened, one event after the other:
/// [`BreakerOpened`](Event::BreakerOpened) and [`BreakerClosed`](Event::BreakerClosed) by turns, and so
/// [`Paused`](Event::Paused) and [`Resumed`](Event::Resumed). Each may be told on another thread than it happened on, if
/// that one is just telling the one before.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was opened and set up.
    Connected {
        /// The connection.
        connection: u64,
        /// Time inside [`Manager::connect`] and `on_connect`; zero for one that was opened elsewhere.
        took: Duration,
    },
    /// An attempt to connect failed.
    ConnectFailed {
        /// Why: a [`ConnectError`](crate::ConnectError).
        error: &'a (dyn Error + 'static),
        /// Time inside [`Manager::connect`] and `on_connect`.
        took: Duration,
    },
    /// A connection is about to be handed to a caller.
    CheckedOut {
        /// The connection.
        connection: u64,
        /// How long the caller waited; zero if something was idle at once.
        waited: Duration,
    },
    /// A connection came back.
    CheckedIn {
        /// The connection.
        connection: u64,
        /// How long it was out.
        held_for: Duration,
    },
    /// A holder took a connection out of the pool for good.
    Detached {
        /// The connection.
        connection: u64,
        /// How long it was out.
        held_for: Duration,
    },
    /// A connection was closed.
    Closed {
        /// The connection.
        connection: u64,
        /// Why.
        reason: CloseReason,
        /// Since it was opened.
        age: Duration,
    },
    /// An acquire ended without a connection.
    AcquireFailed {
        /// How long the caller waited.
        waited: Duration,
        /// What the caller is told: an [`AcquireError`](crate::AcquireError).
        error: &'a (dyn Error + 'static),
    },
    /// An async acquire was dropped while it waited.
    AcquireCancelled {
        /// How long it had waited.
        waited: Duration,
    },
    /// A validation, a reset or a hook failed; the connection will be closed.
    CallFailed {
        /// The connection.
        connection: u64,
        /// Which call, and how: a [`CallError`](crate::CallError).
        error: &'a (dyn Error + 'static),
    },
    /// A caller waited longer than [`slow_acquire`](crate::Builder::slow_acquire) and was served. Comes after its
    /// `CheckedOut`.
    SlowAcquire {
        /// The connection it got.
        connection: u64,
        /// How long it waited.
        waited: Duration,
        /// Where the connection was asked for.
        site: &'static Location<'static>,
    },
    /// A connection has been out longer than [`leak_after`](crate::Builder::leak_after). Told once per loan.
    LongLoan {
        /// The loan.
        loan: &'a Loan,
    },
    /// The database is down: from now on callers are turned away instead of waiting. See
    /// [`fail_fast_after`](crate::Builder::fail_fast_after).
    BreakerOpened {
        /// What they are told: a [`ConnectError`](crate::ConnectError).
        error: &'a (dyn Error + 'static),
        /// How long connecting has failed without a success.
        failing_for: Duration,
    },
    /// Callers are no longer turned away: a connection was opened or added, or another error shows that the database is
    /// not down.
    BreakerClosed {
        /// How long they were.
        open_for: Duration,
    },
    /// [`Pool::pause`](crate::Pool::pause) was called; nobody is served. Not told when the pool was paused already.
    Paused,
    /// [`Pool::resume`](crate::Pool::resume) was called; callers are served again. Not told when the pool was not paused.
    Resumed,
}

/// Why a pool closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was found or declared broken, failed a check or a hook, or its holder panicked.
    Broken,
    /// Nobody needed it for `idle_timeout`.
    IdleTimeout,
    /// It was older than `max_lifetime`.
    Lifetime,
    /// It was opened before the last [`purge`](crate::Pool::purge).
    Purged,
    /// [`resize`](crate::Pool::resize) left one too many.
    Surplus,
    /// The pool was closed.
    PoolClosed,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "broken",
            Self::IdleTimeout => "idle timeout",
            Self::Lifetime => "lifetime",
            Self::Purged => "purged",
            Self::Surplus => "surplus",
            Self::PoolClosed => "pool closed",
        })
    }
}

/// Whoever wants to know.
pub(crate) type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Tells the observer, if there is one. Under no lock.
    #[inline]
    pub(crate) fn emit(&self, event: Event<'_>) {
        if let Some(observer) = &self.hooks.observer
            && let Some(panic) = caught_panic(|| observer(&event))
        {
            log!(warn, self.config.name, panic, "the observer panicked");
        }
    }
}

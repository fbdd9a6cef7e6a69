//! What can go wrong, and what the pool looked like when it did.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Loan, State};

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError<E: Error + 'static> {
    /// The manager said so.
    #[error("{0}")]
    Failed(#[source] E),
    /// `Manager::connect` panicked with this message.
    #[error("connect panicked: {0}")]
    Panicked(String),
    /// The connection was opened, but [`on_connect`](crate::Builder::on_connect) failed.
    #[error("on_connect failed: {0}")]
    HookFailed(#[source] E),
    /// The connection was opened, but [`on_connect`](crate::Builder::on_connect) panicked with this message.
    #[error("on_connect panicked: {0}")]
    HookPanicked(String),
}

/// A call that decides whether an open connection is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// [`Manager::is_valid`](crate::Manager::is_valid).
    Validate,
    /// [`Manager::reset`](crate::Manager::reset).
    Reset,
    /// [`Builder::on_acquire`](crate::Builder::on_acquire)'s hook.
    OnAcquire,
    /// [`Builder::on_checkin`](crate::Builder::on_checkin)'s hook.
    OnCheckin,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Validate => "validate",
            Self::Reset => "reset",
            Self::OnAcquire => "on_acquire",
            Self::OnCheckin => "on_checkin",
        })
    }
}

/// Why an open connection was given up: which call, and how it ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E: Error + 'static> {
    /// It returned an error.
    #[error("{call} failed: {source}")]
    Failed {
        /// The call.
        call: Call,
        /// Its error.
        source: E,
    },
    /// It panicked.
    #[error("{call} panicked: {message}")]
    Panicked {
        /// The call.
        call: Call,
        /// The panic's message.
        message: String,
    },
}

impl<E: Error + 'static> CallError<E> {
    /// The call that failed.
    pub fn call(&self) -> Call {
        match self {
            Self::Failed { call, .. } | Self::Panicked { call, .. } => *call,
        }
    }
}

/// Why an acquire returned without a connection.
///
/// Each variant names what was missing, because the remedies differ: a larger pool or shorter loans for
/// [`Exhausted`](AcquireError::Exhausted), the database or its credentials for
/// [`ConnectFailed`](AcquireError::ConnectFailed), the network or the timeout for [`TimedOut`](AcquireError::TimedOut).
///
/// What it prints has the cause in it. [`source`](Error::source) leads to the cause as a value, to be downcast; whoever prints
/// the whole chain (`{:#}` of `anyhow`) reads it more than once.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E: Error + 'static> {
    /// Every connection the pool may have was lent for the whole wait.
    Exhausted {
        /// How long the caller waited; zero for `try_get`.
        waited: Duration,
        /// The pool at the end of the wait.
        state: State,
        /// The loan that has lasted longest, if one is known to have lasted; with the place where it was borrowed, if
        /// the pool [records its loans](crate::Builder::record_loans).
        oldest_loan: Option<Box<Loan>>,
    },
    /// The pool could have grown, but connecting failed while the caller waited.
    ConnectFailed {
        /// How long the caller waited.
        waited: Duration,
        /// The pool at the end of the wait.
        state: State,
        /// The last failure; shared, since it may answer many waiters.
        source: Arc<ConnectError<E>>,
    },
    /// Time ran out while a connection was being opened or checked, or while connections were found to be no good.
    TimedOut {
        /// How long the caller waited.
        waited: Duration,
        /// The pool at the end of the wait.
        state: State,
        /// The last of the calls that gave up a connection while the caller waited; shared, since it may have cost
        /// many.
        last_failure: Option<Arc<CallError<E>>>,
    },
    /// The pool was [paused](crate::Pool::pause) and not resumed in time.
    Paused {
        /// How long the caller waited.
        waited: Duration,
        /// The pool at the end of the wait.
        state: State,
    },
    /// [`Pool::close`](crate::Pool::close) was called; no later acquire will succeed.
    Closed,
}

impl<E: Error + 'static> AcquireError<E> {
    /// Whether waiting longer could not have helped because the pool is closed.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// The pool's counts when the acquire gave up; `None` once the pool is closed.
    pub fn state(&self) -> Option<&State> {
        match self {
            Self::Exhausted { state, .. }
            | Self::ConnectFailed { state, .. }
            | Self::TimedOut { state, .. }
            | Self::Paused { state, .. } => Some(state),
            Self::Closed => None,
        }
    }

    /// The connect error behind this one, when that is what it was.
    pub fn connect_error(&self) -> Option<&ConnectError<E>> {
        match self {
            Self::ConnectFailed { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Causes are shared, so that they need not be `Clone`.
impl<E: Error + 'static> Clone for AcquireError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Exhausted { waited, state, oldest_loan } => {
                Self::Exhausted { waited: *waited, state: *state, oldest_loan: oldest_loan.clone() }
            }
            Self::ConnectFailed { waited, state, source } => {
                Self::ConnectFailed { waited: *waited, state: *state, source: Arc::clone(source) }
            }
            Self::TimedOut { waited, state, last_failure } => {
                Self::TimedOut { waited: *waited, state: *state, last_failure: last_failure.clone() }
            }
            Self::Paused { waited, state } => Self::Paused { waited: *waited, state: *state },
            Self::Closed => Self::Closed,
        }
    }
}

impl<E: Error + 'static> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { waited, state, oldest_loan } => {
                write!(f, "no connection became free in {waited:?} ({state})")?;
                oldest_loan.iter().try_for_each(|loan| write!(f, "; the oldest loan is {loan}"))
            }
            Self::ConnectFailed { waited, state, source } => {
                write!(f, "could not connect in {waited:?}: {source} ({state})")
            }
            Self::TimedOut { waited, state, last_failure } => {
                write!(f, "no connection was ready in {waited:?} ({state})")?;
                last_failure.iter().try_for_each(|failure| write!(f, "; {failure}"))
            }
            Self::Paused { waited, state } => {
                write!(f, "the pool is paused, and was not resumed in {waited:?} ({state})")
            }
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::ConnectFailed { source, .. } => Some(source.as_ref()),
            Self::TimedOut { last_failure: Some(failure), .. } => Some(failure.as_ref()),
            _ => None,
        }
    }
}

/// Why a pool could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError<E: Error + 'static> {
    /// An option has a value that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The first `min_idle` connections could not be opened.
    #[error(transparent)]
    Connect(#[from] AcquireError<E>),
    /// The operating system gave the pool no thread for its upkeep.
    #[error("could not start the pool's upkeep thread")]
    Thread(#[source] std::io::Error),
}

/// An option with a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The option's name as the builder and the settings file spell it.
    pub field: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

/// Loans that were still out when [`Pool::close`](crate::Pool::close) stopped waiting.
///
/// The pool is closed all the same; each of these connections is closed when its guard is dropped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("closed after {waited:?} with connections still out ({state})")]
pub struct CloseError {
    /// How long `close` waited.
    pub waited: Duration,
    /// What was left.
    pub state: State,
}

/// Why a pool did not take in a connection. Has the connection, so it is `Send` and `Sync` as that is: where an error must be
/// both (`anyhow`, most of `async`), take the connection out first, as in `.map_err(|error| error.to_string())`.
#[non_exhaustive]
pub enum AddError<C> {
    /// There are as many connections as there may be, counting those being opened, checked and closed.
    Full {
        /// What was to be added.
        connection: C,
        /// The pool at that moment.
        state: State,
    },
    /// The pool is closed.
    Closed {
        /// What was to be added.
        connection: C,
    },
}

impl<C> AddError<C> {
    /// The connection that was to be added.
    pub fn into_connection(self) -> C {
        match self {
            Self::Full { connection, .. } | Self::Closed { connection } => connection,
        }
    }
}

impl<C> fmt::Display for AddError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { state, .. } => write!(f, "the pool is full ({state})"),
            Self::Closed { .. } => f.write_str("the pool is closed"),
        }
    }
}

/// Without the connection, which need not be printable.
impl<C> fmt::Debug for AddError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { state, .. } => f.debug_struct("Full").field("state", state).finish_non_exhaustive(),
            Self::Closed { .. } => f.debug_struct("Closed").finish_non_exhaustive(),
        }
    }
}

impl<C> Error for AddError<C> {}

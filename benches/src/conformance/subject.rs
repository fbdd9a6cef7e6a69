//! What a pool must be able to do to be put through the checks, and what it may be able to do.
//!
//! Whatever a pool may lack has a default that says so: the checks that need it are then not applicable to it.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use super::script::{Fault, REFUSAL};
use super::{Check, lacks};

/// Where connections come from: the scripted database or a real one.
pub trait Source: Clone + Send + Sync + 'static {
    /// A connection.
    type Connection: Send + Sync + Unpin + 'static;

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Those of the database.
    fn connect(&self) -> Result<Self::Connection, Fault>;

    /// Opens a connection without blocking the thread.
    fn connect_async(&self) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;

    /// Asks whether a connection works.
    ///
    /// # Errors
    ///
    /// When it does not.
    fn validate(&self, connection: &mut Self::Connection) -> Result<(), Fault>;

    /// Asks whether a connection works without blocking the thread.
    fn validate_async(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Fault>> + Send;

    /// A look at a connection without a round trip, where a pool takes one at checkout.
    fn looks_alive(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        true
    }

    /// Whether a connection is known to be broken, asked at checkin.
    fn has_broken(&self, connection: &mut Self::Connection) -> bool;

    /// Whether a connection must be reset before its next use.
    fn is_dirty(&self, connection: &mut Self::Connection) -> bool;

    /// Resets a connection.
    ///
    /// # Errors
    ///
    /// When that does not work.
    fn reset(&self, connection: &mut Self::Connection) -> Result<(), Fault>;

    /// Resets a connection without blocking the thread.
    fn reset_async(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Fault>> + Send;

    /// What the program does with every new or lent connection, where a pool has a place for that.
    ///
    /// # Errors
    ///
    /// When the connection is not to be lent.
    fn hook(&self) -> Result<(), Fault>;
}

/// When connections are validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validate {
    /// Never.
    Never,
    /// Before they are lent.
    Always,
    /// Before they are lent if they lay idle for longer.
    AfterIdle(Duration),
}

/// What a check asks of a pool when it is built. A pool that has no such option says so.
#[derive(Debug, Clone)]
pub struct Options {
    /// The most connections.
    pub max_size: usize,
    /// Connections to keep ready; 0 asks nothing.
    pub min_idle: usize,
    /// How long an acquire may take.
    pub acquire_timeout: Duration,
    /// Close what nobody needed for so long.
    pub idle_timeout: Option<Duration>,
    /// Close what is older.
    pub max_lifetime: Option<Duration>,
    /// When connections are validated.
    pub validate: Validate,
    /// Whether waiters must be served strictly in order, where that is a choice.
    pub is_strict: bool,
    /// Whether [`Source::hook`] is called.
    pub has_hook: bool,
    /// Whether dirty connections are reset.
    pub has_reset: bool,
}

/// A time that no check waits for: a pool that can do without a timeout is built without one.
pub const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Default for Options {
    fn default() -> Self {
        Self {
            max_size: 1,
            min_idle: 0,
            acquire_timeout: super::lab::EVENTUALLY,
            idle_timeout: None,
            max_lifetime: None,
            validate: Validate::Never,
            is_strict: false,
            has_hook: false,
            has_reset: false,
        }
    }
}

/// What kind of refusal a caller got, as far as a program can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything is lent.
    Exhausted,
    /// The database could not be reached.
    Connect,
    /// The time was up; why is not said.
    TimedOut,
    /// The pool is closed.
    Closed,
    /// Something else.
    Other,
}

/// Why a caller got no connection.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its kind.
    pub kind: Kind,
    /// Its message with those of its causes.
    pub text: String,
    /// Whether it says what the database said.
    pub names_cause: bool,
}

impl Refusal {
    /// A refusal with its causes.
    pub fn of(kind: Kind, error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self::new(kind, text)
    }

    /// A refusal that says `text`.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, names_cause: text.contains(REFUSAL), text }
    }
}

/// A lent connection; dropping it is the checkin.
pub trait Lent<C>: Send {
    /// The connection.
    fn connection(&mut self) -> &mut C;

    /// Takes the connection out of the pool for good.
    ///
    /// # Errors
    ///
    /// Where that cannot be done.
    fn detach(self: Box<Self>) -> Check<C> {
        lacks("no way to take a connection out of the pool")
    }
}

/// A lent connection.
pub type Loan<C> = Box<dyn Lent<C>>;
/// What an acquire comes to.
pub type Answer<C> = Result<Loan<C>, Refusal>;
/// An acquire that is awaited.
pub type Acquire<C> = Pin<Box<dyn Future<Output = Answer<C>> + Send>>;

/// What a pool says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The most connections it may have.
    pub max_size: u64,
    /// The connections it counts as its own.
    pub size: u64,
    /// Those that are idle.
    pub idle: u64,
    /// Those that are lent, where that is said.
    pub lent: Option<u64>,
}

/// What happened to a connection, as an observer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It was opened.
    Opened,
    /// It was lent.
    Checkout,
    /// It came back.
    Checkin,
    /// It was closed.
    Closed,
}

/// A pool that is put through the checks.
///
/// # Errors
///
/// Methods that return a [`Check`] fail with "not applicable" where the pool has no such thing.
#[expect(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Pooled<C>: Send + Sync {
    /// Acquires a connection, waiting for it up to the pool's timeout on this thread.
    fn get(&self) -> Answer<C>;

    /// The same, awaited.
    fn get_async(&self) -> Check<Acquire<C>> {
        lacks("blocking only: no async acquire")
    }

    /// Takes what can be had at once.
    fn try_get(&self) -> Check<Answer<C>> {
        lacks("no acquire that does not wait")
    }

    /// What the pool says about itself.
    fn snapshot(&self) -> Check<Snapshot> {
        lacks("does not show its counts")
    }

    /// How many callers the pool says are waiting.
    fn waiters(&self) -> Option<usize> {
        None
    }

    /// Whether the pool needs tokio, by its documentation, to wait.
    fn needs_tokio(&self) -> bool {
        false
    }

    /// Closes the pool and waits for its loans, at most for `deadline`. What is left is an error.
    fn close(&self, deadline: Duration) -> Check<Result<(), String>> {
        let _ = deadline;
        lacks("cannot be closed")
    }

    /// Whether [`close`](Self::close) waits for what is lent.
    fn close_waits(&self) -> bool {
        false
    }

    /// Changes the most connections there may be.
    fn resize(&self, max_size: usize) -> Check {
        let _ = max_size;
        lacks("its size cannot be changed")
    }

    /// Has every connection that exists now closed, lent ones as they come back.
    fn purge(&self) -> Check {
        lacks("nothing closes the lent connections as they come back")
    }

    /// Gives the pool a connection opened elsewhere; `false` when it does not take it.
    fn add(&self, connection: C) -> Check<bool> {
        let _ = connection;
        lacks("takes no connections from outside")
    }

    /// What the pool told its observer so far.
    fn events(&self) -> Check<Vec<(Event, u64)>> {
        lacks("tells nobody what happens to connections")
    }

    /// Whether there is a state in which callers are refused without asking the database.
    fn has_breaker(&self) -> bool {
        false
    }
}

/// A pool, shared.
pub type Shared<C> = std::sync::Arc<dyn Pooled<C>>;

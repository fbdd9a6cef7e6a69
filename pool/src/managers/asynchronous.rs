//! Connections that are opened with `async fn`, in the same pool as all others.
//!
//! Implement [`AsyncManager`] for the driver and put it on a tokio runtime with [`OnRuntime`], which is a
//! [`Manager`]:
//!
//! ```
//! use std::io;
//! use std::net::SocketAddr;
//! use pool::SlotsPool;
//! use pool::managers::asynchronous::{AsyncManager, OnRuntime};
//! use tokio::net::{TcpListener, TcpStream};
//! use tokio::runtime::Handle;
//!
//! struct Tcp(SocketAddr);
//!
//! impl AsyncManager for Tcp {
//!     type Connection = TcpStream;
//!     type Error = io::Error;
//!     async fn connect(&self) -> io::Result<TcpStream> { TcpStream::connect(self.0).await }
//!     async fn is_valid(&self, stream: &mut TcpStream) -> io::Result<()> { stream.writable().await }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let manager = OnRuntime::new(Tcp(server.local_addr()?), Handle::current());
//! let pool = SlotsPool::builder().build(manager)?;
//! let stream = pool.get_async().await?;
//! assert_eq!(stream.peer_addr()?, server.local_addr()?);
//! # Ok(())
//! # }
//! ```
//!
//! # Where things run
//!
//! Each call of the manager is a task on the runtime. A worker thread of the pool waits for it, at most for the call's
//! timeout, then aborts it; the futures need no timer of their own. (A future that blocks its thread cannot be aborted;
//! the pool goes on without it.) Connections are dropped within the runtime's
//! context, wherever the pool drops them, since many drivers say goodbye in a task.
//!
//! # The runtime must run
//!
//! A `current_thread` runtime makes progress only inside its `block_on`. On its thread, await:
//! [`get`](crate::Pool::get), [`build`](crate::Builder::build) with a `min_idle`, and [`close`](crate::Pool::close)
//! would block the one thread on which the connection is to be opened, until their time is up.
//!
//! When the runtime is shut down before the pool, acquires that need it fail at once ([`AsyncError::RuntimeGone`]), and
//! what is idle is dropped.
//!
//! # Cancellation
//!
//! A query whose future is dropped half-way may leave half an answer on the connection. Some drivers clean up before the
//! next query, others do not: work through [`AsyncConnection::work`], which notices.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::Manager;
use crate::block_on::block_on_until;

/// How long a connect may take, unless [`OnRuntime::connect_timeout`] says otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long every other call may take, unless its option says otherwise.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens, checks, cleans and closes connections of one kind, asynchronously.
///
/// The async twin of [`Manager`], which has more on each method. Write the methods as `async fn`.
pub trait AsyncManager: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;
    /// Why a connection could not be opened, or failed a check.
    type Error: Error + Send + Sync + 'static;

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// Whatever kept it from opening.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Asks the other side whether the connection still works.
    ///
    /// # Errors
    ///
    /// Any error: the connection is closed and the caller gets another one.
    fn is_valid(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Brings a connection that [`is_dirty`](Self::is_dirty) back to the state it had when it was opened.
    ///
    /// # Errors
    ///
    /// Any error: the connection is closed.
    fn reset(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        async { Ok(()) }
    }

    /// Closes a connection. Unless there is something to say to the other side, the default, a drop, will do.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        async move { drop(connection) }
    }

    /// See [`Manager::looks_alive`]. Must not block.
    fn looks_alive(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        true
    }

    /// See [`Manager::has_broken`]. Must not block.
    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// See [`Manager::is_dirty`]. Must not block.
    fn is_dirty(&self, connection: &mut Self::Connection) -> bool {
        let _ = connection;
        false
    }

    /// See [`Manager::is_fatal`].
    fn is_fatal(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }

    /// See [`Manager::is_transient`].
    fn is_transient(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }
}

/// Which call of an [`AsyncManager`] an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// [`AsyncManager::connect`].
    Connect,
    /// [`AsyncManager::is_valid`].
    IsValid,
    /// [`AsyncManager::reset`].
    Reset,
    /// [`AsyncManager::close`].
    Close,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::IsValid => "is_valid",
            Self::Reset => "reset",
            Self::Close => "close",
        })
    }
}

/// What can go wrong with a call on a runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AsyncError<E: Error + 'static> {
    /// The manager said so.
    #[error(transparent)]
    Failed(E),
    /// The call took too long and was aborted.
    #[error("{call} was not done after {limit:?}")]
    TimedOut {
        /// The call.
        call: Call,
        /// How long it was given.
        limit: Duration,
    },
    /// The runtime was shut down, before the call or during it.
    #[error("{call}: the runtime is gone")]
    RuntimeGone {
        /// The call.
        call: Call,
    },
    /// The call would have blocked a thread of a runtime. The pool asks for that only when it is gone itself and a task
    /// returns one of its last connections; the connection is closed.
    #[error("{call}: not on a thread of a runtime")]
    WouldBlock {
        /// The call.
        call: Call,
    },
}

/// A [`Manager`] out of an [`AsyncManager`] and a runtime.
pub struct OnRuntime<A> {
    manager: Arc<A>,
    runtime: Handle,
    connect_timeout: Duration,
    is_valid_timeout: Duration,
    reset_timeout: Duration,
    close_timeout: Duration,
}

impl<A: AsyncManager> OnRuntime<A> {
    /// Runs the calls of `manager` on `runtime`. Inside a runtime that is
    /// [`Handle::current()`](tokio::runtime::Handle::current).
    pub fn new(manager: A, runtime: Handle) -> Self {
        Self {
            manager: Arc::new(manager),
            runtime,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            is_valid_timeout: DEFAULT_CALL_TIMEOUT,
            reset_timeout: DEFAULT_CALL_TIMEOUT,
            close_timeout: DEFAULT_CALL_TIMEOUT,
        }
    }

    /// How long a connect may take before it is aborted and counts as failed. Default [`DEFAULT_CONNECT_TIMEOUT`].
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// How long a check may take before the connection is given up. Default [`DEFAULT_CALL_TIMEOUT`].
    #[must_use]
    pub fn is_valid_timeout(mut self, is_valid_timeout: Duration) -> Self {
        self.is_valid_timeout = is_valid_timeout;
        self
    }

    /// How long a reset may take before the connection is given up. Default [`DEFAULT_CALL_TIMEOUT`].
    #[must_use]
    pub fn reset_timeout(mut self, reset_timeout: Duration) -> Self {
        self.reset_timeout = reset_timeout;
        self
    }

    /// How long a connection may take to close before it is dropped. Default [`DEFAULT_CALL_TIMEOUT`].
    #[must_use]
    pub fn close_timeout(mut self, close_timeout: Duration) -> Self {
        self.close_timeout = close_timeout;
        self
    }

    /// The manager inside.
    pub fn get_ref(&self) -> &A {
        &self.manager
    }

    /// Runs one call as a task and waits for it on this thread.
    fn call<T: Send + 'static>(
        &self,
        call: Call,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, AsyncError<A::Error>> {
        may_wait(call)?;
        wait(self.runtime.spawn(future), call, limit)
    }

    /// Lends a connection to a call and takes it back. When the call is aborted, the connection ends with it.
    fn check<F>(
        &self,
        call: Call,
        limit: Duration,
        connection: &mut AsyncConnection<A::Connection>,
        check: impl FnOnce(Arc<A>, AsyncConnection<A::Connection>) -> F,
    ) -> Result<(), AsyncError<A::Error>>
    where
        F: Future<Output = (AsyncConnection<A::Connection>, Result<(), A::Error>)> + Send + 'static,
    {
        // First of all: a connection that cannot be checked can still be closed.
        may_wait(call)?;
        let (checked, outcome) = self.call(call, limit, check(Arc::clone(&self.manager), connection.take()))?;
        *connection = checked;
        outcome.map_err(AsyncError::Failed)
    }
}

/// Whether this thread may wait for a call.
fn may_wait<E: Error>(call: Call) -> Result<(), AsyncError<E>> {
    if Handle::try_current().is_ok() { Err(AsyncError::WouldBlock { call }) } else { Ok(()) }
}

/// Waits for a task on a thread that may block; aborts it after `limit`. Passes its panic on.
fn wait<T, E: Error>(task: JoinHandle<T>, call: Call, limit: Duration) -> Result<T, AsyncError<E>> {
    let abort = task.abort_handle();
    let deadline = Instant::now() + limit.min(crate::MAX_DURATION);
    match block_on_until(task, deadline) {
        Some(Ok(output)) => Ok(output),
        Some(Err(error)) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(AsyncError::RuntimeGone { call }),
        },
        None => {
            abort.abort();
            Err(AsyncError::TimedOut { call, limit })
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for OnRuntime<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRuntime")
            .field("manager", &self.manager)
            .field("connect_timeout", &self.connect_timeout)
            .field("is_valid_timeout", &self.is_valid_timeout)
            .field("reset_timeout", &self.reset_timeout)
            .field("close_timeout", &self.close_timeout)
            .finish_non_exhaustive()
    }
}

impl<A: AsyncManager> Manager for OnRuntime<A> {
    type Connection = AsyncConnection<A::Connection>;
    type Error = AsyncError<A::Error>;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let manager = Arc::clone(&self.manager);
        let runtime = self.runtime.clone();
        // Wrapped where it is made, so that it ends in the runtime's context even if nobody waits for it any more.
        let connect =
            async move { manager.connect().await.map(|connection| AsyncConnection::new(connection, runtime)) };
        self.call(Call::Connect, self.connect_timeout, connect)?.map_err(AsyncError::Failed)
    }

    fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        self.check(Call::IsValid, self.is_valid_timeout, connection, |manager, mut connection| async move {
            let outcome = manager.is_valid(&mut connection).await;
            (connection, outcome)
        })
    }

    fn reset(&self, connection: &mut Self::Connection) -> Result<(), Self::Error> {
        self.check(Call::Reset, self.reset_timeout, connection, |manager, mut connection| async move {
            let outcome = manager.reset(&mut connection).await;
            (connection, outcome)
        })
    }

    fn close(&self, mut connection: Self::Connection) {
        if connection.connection.is_none() {
            return;
        }
        let manager = Arc::clone(&self.manager);
        let close = async move {
            if let Some(connection) = connection.connection.take() {
                manager.close(connection).await;
            }
        };
        let limit = self.close_timeout;
        let told = |outcome: Result<(), AsyncError<A::Error>>| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection was dropped instead of closed");
            }
        };
        if Handle::try_current().is_err() {
            return told(self.call(Call::Close, limit, close));
        }
        // The pool is gone and this is a thread of a runtime, which must not wait.
        let task = self.runtime.spawn(close);
        let abort = task.abort_handle();
        let watch = move || told(wait(task, Call::Close, limit));
        if thread::Builder::new().name("pool-close".to_owned()).spawn(watch).is_err() {
            abort.abort();
        }
    }

    fn looks_alive(&self, connection: &mut Self::Connection) -> bool {
        self.manager.looks_alive(connection)
    }

    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.is_unfinished || self.manager.has_broken(connection)
    }

    fn is_fatal(&self, error: &Self::Error) -> bool {
        match error {
            AsyncError::Failed(error) => self.manager.is_fatal(error),
            _ => true,
        }
    }

    fn is_transient(&self, error: &Self::Error) -> bool {
        match error {
            AsyncError::Failed(error) => self.manager.is_transient(error),
            AsyncError::RuntimeGone { .. } => false,
            _ => true,
        }
    }

    fn is_dirty(&self, connection: &mut Self::Connection) -> bool {
        self.manager.is_dirty(connection)
    }
}

/// A connection that belongs to a runtime, and is dropped in its context.
///
/// Dereferences to the driver's, and panics if that [is gone](Self::is_gone).
pub struct AsyncConnection<C> {
    /// `None` only on its way to a call or after one that was aborted; never while it is lent.
    connection: Option<C>,
    /// Some work with it was begun through [`work`](Self::work) and did not come to its end.
    is_unfinished: bool,
    runtime: Handle,
}

const HAS_CONNECTION: &str = "a lent connection is with its holder";

impl<C> AsyncConnection<C> {
    fn new(connection: C, runtime: Handle) -> Self {
        Self { connection: Some(connection), is_unfinished: false, runtime }
    }

    /// All there is, leaving nothing.
    fn take(&mut self) -> Self {
        Self { connection: self.connection.take(), is_unfinished: self.is_unfinished, runtime: self.runtime.clone() }
    }

    /// Does `work` with the connection. If the returned future is dropped before the work is done, or panics, the
    /// connection is closed when it comes back, instead of being lent in the middle of something.
    ///
    /// What its errors mean the pool cannot know; see [`AsyncManager::has_broken`] and
    /// [`Guard::mark_broken`](crate::Guard::mark_broken).
    pub async fn work<T>(&mut self, work: impl AsyncFnOnce(&mut C) -> T) -> T {
        // What was left unfinished before is not finished by this.
        let was_unfinished = mem::replace(&mut self.is_unfinished, true);
        let output = work(self.connection.as_mut().expect(HAS_CONNECTION)).await;
        self.is_unfinished = was_unfinished;
        output
    }

    /// Whether the driver's connection went with a validation or a reset that was given up in the middle. Never of one that
    /// is lent; [`on_release`](crate::Builder::on_release) may see such a one.
    pub fn is_gone(&self) -> bool {
        self.connection.is_none()
    }

    /// The driver's connection, which is yours to drop inside a runtime. For one that was
    /// [detached](crate::Guard::detach).
    pub fn into_inner(mut self) -> C {
        self.connection.take().expect(HAS_CONNECTION)
    }
}

impl<C> Deref for AsyncConnection<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.connection.as_ref().expect(HAS_CONNECTION)
    }
}

impl<C> DerefMut for AsyncConnection<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.connection.as_mut().expect(HAS_CONNECTION)
    }
}

impl<C> Drop for AsyncConnection<C> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _context = self.runtime.enter();
            drop(connection);
        }
    }
}

impl<C: fmt::Debug> fmt::Debug for AsyncConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncConnection").field(&self.connection).finish()
    }
}

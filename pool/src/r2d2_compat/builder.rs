//! The options of an r2d2 pool, their defaults and their panics.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ::r2d2::{CustomizeConnection, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer};
use scheduled_thread_pool::ScheduledThreadPool;

use super::Error;
use super::event::{HandleEvent, NopEventHandler};
use super::keeper::{Keeper, Parts};
use super::pool::Pool;
use crate::error::BuildError;
use crate::idle::{IdleSet, Slots};
use crate::{MAX_DURATION, MAX_SIZE_LIMIT};

/// Connections opened at the same time, at most: as many as r2d2's threads.
const MAX_CONNECTING: usize = 3;

/// The options of a pool. Their names, types, defaults and panics are r2d2's.
///
/// One more is ours: [`idle_set`](Self::idle_set).
pub struct Builder<M: ManageConnection, I = Slots> {
    config: Config<M>,
    kind: PhantomData<fn() -> I>,
}

pub(super) struct Config<M: ManageConnection> {
    pub(super) max_size: u32,
    pub(super) min_idle: Option<u32>,
    pub(super) test_on_check_out: bool,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connection_timeout: Duration,
    pub(super) error_handler: Box<dyn HandleError<M::Error>>,
    pub(super) event_handler: Box<dyn HandleEvent>,
    /// Whether there is an event handler that was set. Without one no clock is read for it.
    pub(super) listens: bool,
    pub(super) connection_customizer: Box<dyn CustomizeConnection<M::Connection, M::Error>>,
    pub(super) thread_pool: Option<Arc<ScheduledThreadPool>>,
}

impl<M: ManageConnection> Config<M> {
    fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("max_size", &self.max_size)
            .field("min_idle", &self.min_idle)
            .field("test_on_check_out", &self.test_on_check_out)
            .field("max_lifetime", &self.max_lifetime)
            .field("idle_timeout", &self.idle_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("error_handler", &self.error_handler)
            .field("event_handler", &self.event_handler)
            .field("connection_customizer", &self.connection_customizer)
            .finish()
    }
}

impl<M: ManageConnection> fmt::Debug for Config<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("Config", f)
    }
}

impl<M: ManageConnection, I> fmt::Debug for Builder<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.debug("Builder", f)
    }
}

// For the default kind alone, or `Builder::default()` could not be inferred.
impl<M: ManageConnection> Default for Builder<M> {
    fn default() -> Self {
        let config = Config {
            max_size: 10,
            min_idle: None,
            test_on_check_out: true,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            connection_timeout: Duration::from_secs(30),
            error_handler: Box::new(LoggingErrorHandler),
            event_handler: Box::new(NopEventHandler),
            listens: false,
            connection_customizer: Box::new(NopConnectionCustomizer),
            thread_pool: None,
        };
        Self { config, kind: PhantomData }
    }
}

impl<M: ManageConnection> Builder<M> {
    /// The options at their defaults.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<M: ManageConnection, I: IdleSet> Builder<M, I> {
    /// The most connections open at once. Default 10.
    ///
    /// A pool holds at most [`MAX_SIZE_LIMIT`] connections, whatever is asked for.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn max_size(mut self, max_size: u32) -> Self {
        assert!(max_size > 0, "max_size must be positive");
        self.config.max_size = max_size;
        self
    }

    /// Idle connections to keep ready, as far as `max_size` allows. Default `None`, which means `max_size`.
    pub fn min_idle(mut self, min_idle: Option<u32>) -> Self {
        self.config.min_idle = min_idle;
        self
    }

    /// The threads on which connections are opened. Default: the pool's own, which come and go.
    ///
    /// They limit how many connections are opened at the same time, to no more than three; several pools may share them.
    pub fn thread_pool(mut self, thread_pool: Arc<ScheduledThreadPool>) -> Self {
        self.config.thread_pool = Some(thread_pool);
        self
    }

    /// Whether `is_valid` is called before a connection is lent, on the caller's thread. Default true.
    pub fn test_on_check_out(mut self, test_on_check_out: bool) -> Self {
        self.config.test_on_check_out = test_on_check_out;
        self
    }

    /// Close connections older than this when nobody holds them. Default 30 minutes, `None`: never.
    ///
    /// Each connection gets up to a tenth less, at random, so that connections opened together do not end together.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn max_lifetime(mut self, max_lifetime: Option<Duration>) -> Self {
        assert_ne!(max_lifetime, Some(Duration::ZERO), "max_lifetime must be positive");
        self.config.max_lifetime = max_lifetime;
        self
    }

    /// Close connections that have been idle for this long, three a second at least, and open others if `min_idle` asks for
    /// them. Default 10 minutes, `None`: never.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn idle_timeout(mut self, idle_timeout: Option<Duration>) -> Self {
        assert_ne!(idle_timeout, Some(Duration::ZERO), "idle_timeout must be positive");
        self.config.idle_timeout = idle_timeout;
        self
    }

    /// How long `get` waits for a connection, and `build` for the first ones. Default 30 seconds.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn connection_timeout(mut self, connection_timeout: Duration) -> Self {
        assert!(connection_timeout > Duration::ZERO, "connection_timeout must be positive");
        self.config.connection_timeout = connection_timeout;
        self
    }

    /// Is given every error of connecting, customizing and checking. Default [`LoggingErrorHandler`].
    pub fn error_handler(mut self, error_handler: Box<dyn HandleError<M::Error>>) -> Self {
        self.config.error_handler = error_handler;
        self
    }

    /// Is told what happens. Default [`NopEventHandler`].
    pub fn event_handler(mut self, event_handler: Box<dyn HandleEvent>) -> Self {
        self.config.event_handler = event_handler;
        self.config.listens = true;
        self
    }

    /// Prepares new connections and takes those that leave. Default [`NopConnectionCustomizer`].
    pub fn connection_customizer(
        mut self,
        connection_customizer: Box<dyn CustomizeConnection<M::Connection, M::Error>>,
    ) -> Self {
        self.config.connection_customizer = connection_customizer;
        self
    }

    /// How the idle connections are kept; not an option of r2d2's. Default [`Slots`].
    pub fn idle_set<J: IdleSet>(self) -> Builder<M, J> {
        Builder { config: self.config, kind: PhantomData }
    }

    /// Builds the pool and waits, at most `connection_timeout`, until its first `min_idle` connections are open.
    ///
    /// # Errors
    ///
    /// If they are not, with the last reason; or if the system has no thread for the pool.
    ///
    /// # Panics
    ///
    /// If `min_idle` is greater than `max_size`.
    pub fn build(self, manager: M) -> Result<Pool<M, I>, Error> {
        let options = self.config.options();
        self.start(manager, |keeper| options.build(keeper))
    }

    /// Builds the pool without waiting for a connection.
    ///
    /// # Panics
    ///
    /// If `min_idle` is greater than `max_size`, or if the system has no thread for the pool.
    pub fn build_unchecked(self, manager: M) -> Pool<M, I> {
        let options = self.config.options();
        match self.start(manager, |keeper| options.build_unchecked(keeper)) {
            Ok(pool) => pool,
            Err(error) => panic!("{}", error.0.unwrap_or_default()),
        }
    }

    fn start(
        self,
        manager: M,
        build: impl FnOnce(Keeper<M>) -> Result<crate::Pool<Keeper<M>, I>, BuildError<Error>>,
    ) -> Result<Pool<M, I>, Error> {
        let parts = Arc::new(Parts::new(manager, self.config));
        match build(Keeper(Arc::clone(&parts))) {
            Ok(inner) => Ok(Pool::over(inner, parts)),
            Err(BuildError::Connect(_)) => Err(parts.no_connection()),
            Err(error @ (BuildError::Config(_) | BuildError::Thread(_))) => Err(Error(Some(error.to_string()))),
        }
    }
}

impl<M: ManageConnection> Config<M> {
    /// The same for the pool underneath, within its limits.
    fn options<I: IdleSet>(&self) -> crate::Builder<Keeper<M>, I> {
        let min_idle = self.min_idle.unwrap_or(self.max_size);
        assert!(self.max_size >= min_idle, "min_idle must be no larger than max_size");
        let within_limit = |size: u32| usize::try_from(size).unwrap_or(usize::MAX).min(MAX_SIZE_LIMIT);
        // A time that will never be over is no time.
        let ever = |time: Option<Duration>| time.filter(|time| *time <= MAX_DURATION);
        crate::Pool::builder()
            .name("r2d2")
            .max_size(within_limit(self.max_size))
            .min_idle(within_limit(min_idle))
            .max_connecting(MAX_CONNECTING)
            .acquire_timeout(self.connection_timeout.min(MAX_DURATION))
            .idle_timeout(ever(self.idle_timeout))
            .keepalive(ever(self.idle_timeout)) // see `Keeper::is_valid`
            .fail_fast_after(None)
            .max_lifetime(ever(self.max_lifetime))
            .validate_after_idle(None)
    }
}

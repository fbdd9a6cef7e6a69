//! bb8.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::bb8::{AddError, CustomizeConnection, ManageConnection, Pool, PooledConnection, QueueStrategy, RunError};

use crate::conformance::lab::runtime;
use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Acquire, Answer, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, lacks};

pub(super) const CONFIGURATION: &str = "LIFO, `reaper_rate` 20 ms, `test_on_check_out` only where validation is asked for; \
    `has_broken` is a flag";

struct Managed<S>(S);

impl<S: Source> ManageConnection for Managed<S> {
    type Connection = S::Connection;
    type Error = Fault;

    async fn connect(&self) -> Result<S::Connection, Fault> {
        self.0.connect_async().await
    }

    async fn is_valid(&self, connection: &mut S::Connection) -> Result<(), Fault> {
        self.0.validate_async(connection).await
    }

    fn has_broken(&self, connection: &mut S::Connection) -> bool {
        self.0.has_broken(connection)
    }
}

struct Hook<S>(S);

impl<S> fmt::Debug for Hook<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl<S: Source> CustomizeConnection<S::Connection, Fault> for Hook<S> {
    fn on_acquire<'a>(
        &'a self,
        _: &'a mut S::Connection,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>> {
        Box::pin(async { self.0.hook() })
    }
}

impl<S: Source> Lent<S::Connection> for PooledConnection<'static, Managed<S>> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }
}

struct Bb8<S: Source> {
    pool: Pool<Managed<S>>,
    max_size: usize,
}

/// Builds the pool.
///
/// # Errors
///
/// When it has no such option.
pub fn open<S: Source>(source: S, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
    if let Validate::AfterIdle(_) = options.validate {
        return lacks("validates always or never");
    }
    if options.has_reset {
        return lacks("no reset");
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut builder = Pool::builder()
        .max_size(count(options.max_size))
        .min_idle((options.min_idle > 0).then_some(count(options.min_idle)))
        .test_on_check_out(options.validate == Validate::Always)
        // Zero is refused.
        .connection_timeout(options.acquire_timeout.max(Duration::from_nanos(1)))
        .reaper_rate(Duration::from_millis(20))
        .queue_strategy(QueueStrategy::Lifo);
    if options.idle_timeout.is_some() {
        builder = builder.idle_timeout(options.idle_timeout);
    }
    if options.max_lifetime.is_some() {
        builder = builder.max_lifetime(options.max_lifetime);
    }
    if options.has_hook {
        builder = builder.connection_customizer(Box::new(Hook(source.clone())));
    }
    Ok(match runtime().block_on(builder.build(Managed(source))) {
        Ok(pool) => Ok(Arc::new(Bb8 { pool, max_size: options.max_size })),
        Err(error) => Err(Refusal::of(Kind::Connect, &error)),
    })
}

async fn acquire<S: Source>(pool: Pool<Managed<S>>) -> Answer<S::Connection> {
    match pool.get_owned().await {
        Ok(guard) => Ok(Box::new(guard) as Loan<S::Connection>),
        Err(error @ RunError::TimedOut) => Err(Refusal::of(Kind::TimedOut, &error)),
        Err(error) => Err(Refusal::of(Kind::Connect, &error)),
    }
}

impl<S: Source> Pooled<S::Connection> for Bb8<S> {
    fn get(&self) -> Answer<S::Connection> {
        runtime().block_on(acquire(self.pool.clone()))
    }

    fn get_async(&self) -> Check<Acquire<S::Connection>> {
        Ok(Box::pin(acquire(self.pool.clone())))
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let state = self.pool.state();
        Ok(Snapshot {
            max_size: self.max_size as u64,
            size: state.connections.into(),
            idle: state.idle_connections.into(),
            lent: None,
        })
    }

    fn needs_tokio(&self) -> bool {
        true
    }

    fn add(&self, connection: S::Connection) -> Check<bool> {
        Ok(match self.pool.add(connection) {
            Ok(()) => true,
            Err(AddError::Broken(_) | AddError::NoCapacity(_)) => false,
        })
    }
}

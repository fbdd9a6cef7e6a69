//! mobc.

use std::sync::Arc;
use std::time::Duration;

use ::mobc::{Connection, Error, Manager, Pool, async_trait};

use crate::conformance::lab::runtime;
use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Acquire, Answer, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, lacks};

pub(super) const CONFIGURATION: &str = "`max_idle` as large as `max_open` (it comes with 2), `test_on_check_out` only where \
    validation is asked for, with `health_check_interval` as its window; `validate` is a flag; the cleaner is started, at 20 ms";

struct Managed<S>(S);

#[async_trait]
impl<S: Source> Manager for Managed<S> {
    type Connection = S::Connection;
    type Error = Fault;

    async fn connect(&self) -> Result<S::Connection, Fault> {
        self.0.connect_async().await
    }

    async fn check(&self, mut connection: S::Connection) -> Result<S::Connection, Fault> {
        self.0.validate_async(&mut connection).await?;
        Ok(connection)
    }

    fn validate(&self, connection: &mut S::Connection) -> bool {
        !self.0.has_broken(connection)
    }
}

impl<S: Source> Lent<S::Connection> for Connection<Managed<S>> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }

    fn detach(self: Box<Self>) -> Check<S::Connection> {
        Ok(self.into_inner())
    }
}

struct Mobc<S: Source> {
    pool: Pool<Managed<S>>,
    timeout: Duration,
    /// Its cleaner begins when the lifetime is set on a pool that has connections.
    lifetime: Option<Duration>,
}

/// Builds the pool.
///
/// # Errors
///
/// When it has no such option.
pub fn open<S: Source>(source: S, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
    if options.min_idle > 0 {
        return lacks("opens nothing ahead: no min idle");
    }
    if options.has_hook {
        return lacks("no hooks");
    }
    if options.has_reset {
        return lacks("no reset");
    }
    let size = options.max_size as u64;
    let mut builder = Pool::builder()
        .max_open(size)
        .max_idle(size)
        // Zero is refused; a caller without time asks with `get_timeout`.
        .get_timeout(Some(options.acquire_timeout.max(Duration::from_nanos(1))))
        .clean_rate(Duration::from_millis(20))
        .test_on_check_out(options.validate != Validate::Never);
    if let Validate::AfterIdle(window) = options.validate {
        builder = builder.health_check_interval(Some(window));
    }
    if options.idle_timeout.is_some() {
        builder = builder.max_idle_lifetime(options.idle_timeout);
    }
    if options.max_lifetime.is_some() {
        builder = builder.max_lifetime(options.max_lifetime);
    }
    let _entered = runtime().enter();
    Ok(Ok(Arc::new(Mobc {
        pool: builder.build(Managed(source)),
        timeout: options.acquire_timeout,
        lifetime: options.max_lifetime,
    })))
}

async fn acquire<S: Source>(
    pool: Pool<Managed<S>>,
    timeout: Duration,
    lifetime: Option<Duration>,
) -> Answer<S::Connection> {
    let error = match pool.get_timeout(timeout).await {
        Ok(connection) => {
            if lifetime.is_some() {
                pool.set_conn_max_lifetime(lifetime).await;
            }
            return Ok(Box::new(connection) as Loan<S::Connection>);
        }
        Err(error) => error,
    };
    let kind = match &error {
        Error::Inner(_) => Kind::Connect,
        Error::Timeout => Kind::TimedOut,
        Error::PoolClosed => Kind::Closed,
        Error::BadConn => Kind::Other,
    };
    Err(Refusal::of(kind, &error))
}

impl<S: Source> Pooled<S::Connection> for Mobc<S> {
    fn get(&self) -> Answer<S::Connection> {
        runtime().block_on(acquire(self.pool.clone(), self.timeout, self.lifetime))
    }

    fn get_async(&self) -> Check<Acquire<S::Connection>> {
        Ok(Box::pin(acquire(self.pool.clone(), self.timeout, self.lifetime)))
    }

    fn try_get(&self) -> Check<Answer<S::Connection>> {
        Ok(runtime().block_on(acquire(self.pool.clone(), Duration::ZERO, self.lifetime)))
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let state = runtime().block_on(self.pool.state());
        Ok(Snapshot { max_size: state.max_open, size: state.connections, idle: state.idle, lent: Some(state.in_use) })
    }

    fn needs_tokio(&self) -> bool {
        true
    }

    fn resize(&self, max_size: usize) -> Check {
        runtime().block_on(self.pool.set_max_open_conns(max_size as u64));
        Ok(())
    }
}

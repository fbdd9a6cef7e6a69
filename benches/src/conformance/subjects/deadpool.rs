//! deadpool, its managed pool.

use std::sync::Arc;
use std::time::Duration;

use ::deadpool::Runtime;
use ::deadpool::managed::{
    Hook, HookError, Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType,
    Timeouts,
};

use crate::conformance::lab::runtime;
use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Acquire, Answer, FOREVER, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, lacks};

pub(super) const CONFIGURATION: &str = "LIFO; `wait`, `create` and `recycle` timeouts all set to the time asked for, with \
    tokio's timers. It asks about a connection in `recycle` only, at checkout; the manager hears the flag, validates by the \
    connection's idle time and resets there. Hooks are `pre_recycle`";

struct Managed<S> {
    source: S,
    validate: Validate,
    has_reset: bool,
}

impl<S: Source> Manager for Managed<S> {
    type Type = S::Connection;
    type Error = Fault;

    async fn create(&self) -> Result<S::Connection, Fault> {
        self.source.connect_async().await
    }

    async fn recycle(&self, connection: &mut S::Connection, metrics: &Metrics) -> RecycleResult<Fault> {
        if self.source.has_broken(connection) {
            return Err(RecycleError::message("broken"));
        }
        let validates = match self.validate {
            Validate::Never => false,
            Validate::Always => true,
            Validate::AfterIdle(window) => metrics.last_used() > window,
        };
        if validates {
            self.source.validate_async(connection).await?;
        }
        if self.has_reset && self.source.is_dirty(connection) {
            self.source.reset_async(connection).await?;
        }
        Ok(())
    }
}

impl<S: Source> Lent<S::Connection> for Object<Managed<S>> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }

    fn detach(self: Box<Self>) -> Check<S::Connection> {
        Ok(Object::take(*self))
    }
}

struct Deadpool<S: Source>(Pool<Managed<S>>);

/// Builds the pool.
///
/// # Errors
///
/// When it has no such option.
pub fn open<S: Source>(source: S, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
    if options.min_idle > 0 {
        return lacks("opens nothing ahead: no min idle");
    }
    if options.idle_timeout.is_some() || options.max_lifetime.is_some() {
        return lacks("ages are left to the program, by `retain`");
    }
    let manager = Managed { source: source.clone(), validate: options.validate, has_reset: options.has_reset };
    // Without timeouts it needs no runtime.
    let time = (options.acquire_timeout < FOREVER).then_some(options.acquire_timeout);
    let mut builder = Pool::builder(manager)
        .max_size(options.max_size)
        .queue_mode(QueueMode::Lifo)
        .timeouts(Timeouts { wait: time, create: time, recycle: time })
        .runtime(Runtime::Tokio1);
    if options.has_hook {
        builder = builder.pre_recycle(Hook::sync_fn(move |_, _| source.hook().map_err(HookError::Backend)));
    }
    Ok(match builder.build() {
        Ok(pool) => Ok(Arc::new(Deadpool(pool))),
        Err(error) => Err(Refusal::of(Kind::Other, &error)),
    })
}

fn answer<S: Source>(result: Result<Object<Managed<S>>, PoolError<Fault>>) -> Answer<S::Connection> {
    let error = match result {
        Ok(object) => return Ok(Box::new(object) as Loan<S::Connection>),
        Err(error) => error,
    };
    let kind = match &error {
        PoolError::Timeout(TimeoutType::Wait) => Kind::Exhausted,
        PoolError::Timeout(_) => Kind::TimedOut,
        PoolError::Backend(_) => Kind::Connect,
        PoolError::Closed => Kind::Closed,
        _ => Kind::Other,
    };
    Err(Refusal::of(kind, &error))
}

impl<S: Source> Pooled<S::Connection> for Deadpool<S> {
    fn get(&self) -> Answer<S::Connection> {
        runtime().block_on(async { answer(self.0.get().await) })
    }

    fn get_async(&self) -> Check<Acquire<S::Connection>> {
        let pool = self.0.clone();
        Ok(Box::pin(async move { answer(pool.get().await) }))
    }

    fn try_get(&self) -> Check<Answer<S::Connection>> {
        let timeouts = Timeouts { wait: Some(Duration::ZERO), ..self.0.timeouts() };
        Ok(runtime().block_on(async { answer(self.0.timeout_get(&timeouts).await) }))
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let status = self.0.status();
        Ok(Snapshot {
            max_size: status.max_size as u64,
            size: status.size as u64,
            idle: status.available as u64,
            lent: None,
        })
    }

    fn close(&self, _: Duration) -> Check<Result<(), String>> {
        self.0.close();
        Ok(Ok(()))
    }

    fn resize(&self, max_size: usize) -> Check {
        self.0.resize(max_size);
        Ok(())
    }
}

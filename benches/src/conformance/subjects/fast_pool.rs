//! fast_pool.

use std::sync::Arc;

use ::fast_pool::plugin::{CheckMode, DurationManager};
use ::fast_pool::{ConnectionGuard, Manager, Pool, State};

use crate::conformance::lab::runtime;
use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Acquire, Answer, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, lacks};

pub(super) const CONFIGURATION: &str = "`max_idle` as large as `max_open`; it asks about a connection at every checkout, \
    where the manager hears the flag and validates where that is asked for. A window is its plugin `DurationManager`, and so \
    is a lifetime";

struct Managed<S> {
    source: S,
    validate: Validate,
}

impl<S: Source> Manager for Managed<S> {
    type Connection = S::Connection;
    type Error = Fault;

    async fn connect(&self) -> Result<S::Connection, Fault> {
        self.source.connect_async().await
    }

    async fn check(&self, connection: &mut S::Connection) -> Result<(), Fault> {
        if self.source.has_broken(connection) {
            return Err(Fault::new("broken"));
        }
        match self.validate {
            Validate::Never => Ok(()),
            Validate::Always | Validate::AfterIdle(_) => self.source.validate_async(connection).await,
        }
    }
}

impl<S: Source> Lent<S::Connection> for ConnectionGuard<Managed<S>> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }
}

impl<S: Source> Lent<S::Connection> for ConnectionGuard<DurationManager<Managed<S>>> {
    fn connection(&mut self) -> &mut S::Connection {
        &mut *self
    }
}

fn refusal(error: &Fault) -> Refusal {
    // Its timeout is an error of the manager's type that says this.
    let kind = if error.to_string() == "get_timeout" { Kind::TimedOut } else { Kind::Connect };
    Refusal::of(kind, error)
}

/// The pool without the type of its manager, since the plugin is another one.
struct FastPool<C> {
    acquire: Box<dyn Fn() -> Acquire<C> + Send + Sync>,
    state: Box<dyn Fn() -> State + Send + Sync>,
    resize: Box<dyn Fn(u64) + Send + Sync>,
}

macro_rules! open {
    ($manager:expr, $options:expr) => {{
        let pool = Pool::new($manager);
        pool.set_max_open($options.max_size as u64);
        pool.set_max_idle_conns($options.max_size as u64);
        pool.set_timeout_wait(Some($options.acquire_timeout));
        let (of_state, of_resize) = (pool.clone(), pool.clone());
        FastPool {
            acquire: Box::new(move || {
                let pool = pool.clone();
                Box::pin(async move {
                    match pool.get().await {
                        Ok(guard) => Ok(Box::new(guard) as Loan<S::Connection>),
                        Err(error) => Err(refusal(&error)),
                    }
                })
            }),
            state: Box::new(move || of_state.state()),
            resize: Box::new(move |size| of_resize.set_max_open(size)),
        }
    }};
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
    if options.idle_timeout.is_some() {
        return lacks("no idle timeout");
    }
    if options.has_hook {
        return lacks("no hooks");
    }
    if options.has_reset {
        return lacks("no reset");
    }
    let manager = Managed { source, validate: options.validate };
    let pool = match (options.validate, options.max_lifetime) {
        (Validate::AfterIdle(window), _) => {
            open!(DurationManager::new(manager, CheckMode::SkipInterval(window)), options)
        }
        (_, Some(lifetime)) => {
            open!(DurationManager::new(manager, CheckMode::MaxLifetime(lifetime)), options)
        }
        _ => open!(manager, options),
    };
    Ok(Ok(Arc::new(pool)))
}

impl<C: Send + Sync + 'static> Pooled<C> for FastPool<C> {
    fn get(&self) -> Answer<C> {
        runtime().block_on((self.acquire)())
    }

    fn get_async(&self) -> Check<Acquire<C>> {
        Ok((self.acquire)())
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let state = (self.state)();
        Ok(Snapshot { max_size: state.max_open, size: state.connections, idle: state.idle, lent: Some(state.in_use) })
    }

    fn needs_tokio(&self) -> bool {
        true
    }

    fn resize(&self, max_size: usize) -> Check {
        (self.resize)(max_size as u64);
        Ok(())
    }
}

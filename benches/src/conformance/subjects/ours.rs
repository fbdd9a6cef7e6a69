//! Our pools, over any idle set.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pool::{AcquireError, BuildError, Fairness, IdleSet, Manager, OwnedGuard, Pool};

use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Acquire, Answer, Event, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, fails};

pub(super) const CONFIGURATION: &str = "the defaults; a `capacity` of at least 4; the hook is `on_acquire`; `Fairness::Strict` where order is asked for; with a lifetime also \
    `validate_after_idle` at a twentieth of it, which makes the beat finer than its jitter";

/// The manager.
struct Managed<S> {
    source: S,
    has_reset: bool,
}

impl<S: Source> Manager for Managed<S> {
    type Connection = S::Connection;
    type Error = Fault;

    fn connect(&self) -> Result<S::Connection, Fault> {
        self.source.connect()
    }

    fn is_valid(&self, connection: &mut S::Connection) -> Result<(), Fault> {
        self.source.validate(connection)
    }

    fn looks_alive(&self, connection: &mut S::Connection) -> bool {
        self.source.looks_alive(connection)
    }

    fn has_broken(&self, connection: &mut S::Connection) -> bool {
        self.source.has_broken(connection)
    }

    fn is_dirty(&self, connection: &mut S::Connection) -> bool {
        self.has_reset && self.source.is_dirty(connection)
    }

    fn reset(&self, connection: &mut S::Connection) -> Result<(), Fault> {
        self.source.reset(connection)
    }
}

impl<S: Source, I: IdleSet> Lent<S::Connection> for OwnedGuard<Managed<S>, I> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }

    fn detach(self: Box<Self>) -> Check<S::Connection> {
        Ok((*self).detach())
    }
}

fn refusal(error: &AcquireError<Fault>) -> Refusal {
    let kind = match error {
        AcquireError::Exhausted { .. } => Kind::Exhausted,
        AcquireError::ConnectFailed { .. } => Kind::Connect,
        AcquireError::TimedOut { .. } => Kind::TimedOut,
        AcquireError::Closed => Kind::Closed,
        _ => Kind::Other,
    };
    Refusal::of(kind, error)
}

fn answer<S: Source, I: IdleSet>(
    result: Result<OwnedGuard<Managed<S>, I>, AcquireError<Fault>>,
) -> Answer<S::Connection> {
    match result {
        Ok(guard) => Ok(Box::new(guard) as Loan<S::Connection>),
        Err(error) => Err(refusal(&error)),
    }
}

/// What the pool told its observer.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Event, u64)>>>);

impl Log {
    fn note(&self, event: &pool::Event<'_>) {
        let noted = match *event {
            pool::Event::Connected { connection, .. } => (Event::Opened, connection),
            pool::Event::CheckedOut { connection, .. } => (Event::Checkout, connection),
            pool::Event::CheckedIn { connection, .. } => (Event::Checkin, connection),
            pool::Event::Closed { connection, .. } => (Event::Closed, connection),
            _ => return,
        };
        self.0.lock().expect("no poison").push(noted);
    }
}

/// One of our pools.
struct Ours<S: Source, I: IdleSet> {
    pool: Pool<Managed<S>, I>,
    log: Log,
}

/// Builds the pool.
///
/// # Errors
///
/// When it has no such option.
pub fn open<S: Source, I: IdleSet>(source: S, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
    let log = Log::default();
    let observer = log.clone();
    let mut builder = Pool::<Managed<S>, I>::builder()
        .max_size(options.max_size)
        // Room to grow.
        .capacity(options.max_size.max(4))
        .min_idle(options.min_idle)
        .observe(move |event| observer.note(event))
        .acquire_timeout(options.acquire_timeout)
        .validate_after_idle(match options.validate {
            // The shortest of the ages sets the beat, and a lifetime is jittered by less than a beat of its own.
            Validate::Never => options.max_lifetime.map(|lifetime| lifetime / 20),
            Validate::Always => Some(Duration::ZERO),
            Validate::AfterIdle(window) => Some(window),
        });
    if let Some(timeout) = options.idle_timeout {
        builder = builder.idle_timeout(timeout);
    }
    if let Some(lifetime) = options.max_lifetime {
        builder = builder.max_lifetime(lifetime);
    }
    if options.is_strict {
        builder = builder.fairness(Fairness::Strict);
    }
    if options.has_hook {
        let source = source.clone();
        builder = builder.on_acquire(move |_| source.hook());
    }
    let manager = Managed { source, has_reset: options.has_reset };
    Ok(match builder.build(manager) {
        Ok(pool) => Ok(Arc::new(Ours { pool, log })),
        Err(BuildError::Connect(error)) => Err(refusal(&error)),
        Err(error) => Err(Refusal::of(Kind::Other, &error)),
    })
}

impl<S: Source, I: IdleSet> Pooled<S::Connection> for Ours<S, I> {
    fn get(&self) -> Answer<S::Connection> {
        answer(self.pool.get_owned())
    }

    fn get_async(&self) -> Check<Acquire<S::Connection>> {
        let acquire = self.pool.get_owned_async();
        Ok(Box::pin(async move { answer(acquire.await) }))
    }

    fn try_get(&self) -> Check<Answer<S::Connection>> {
        // There is no owned `try_get`; an owned acquire that is polled once is the same thing.
        let mut acquire = Box::pin(self.pool.get_owned_async());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        Ok(match acquire.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => answer(result),
            std::task::Poll::Pending => Err(Refusal::new(Kind::Exhausted, "nothing can be had at once")),
        })
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let state = self.pool.state();
        Ok(Snapshot {
            max_size: state.max_size as u64,
            size: state.size as u64,
            idle: state.idle as u64,
            lent: Some(state.lent as u64),
        })
    }

    fn waiters(&self) -> Option<usize> {
        Some(self.pool.state().waiters)
    }

    fn close(&self, deadline: Duration) -> Check<Result<(), String>> {
        Ok(self.pool.close(deadline).map_err(|error| error.to_string()))
    }

    fn close_waits(&self) -> bool {
        true
    }

    fn resize(&self, max_size: usize) -> Check {
        self.pool.resize(max_size).or_else(|error| fails(format!("resize: {error}")))
    }

    fn purge(&self) -> Check {
        self.pool.purge();
        Ok(())
    }

    fn add(&self, connection: S::Connection) -> Check<bool> {
        Ok(self.pool.add(connection).is_ok())
    }

    fn events(&self) -> Check<Vec<(Event, u64)>> {
        Ok(self.log.0.lock().expect("no poison").clone())
    }

    fn has_breaker(&self) -> bool {
        true
    }
}

//! r2d2.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::r2d2::event::{AcquireEvent, CheckinEvent, CheckoutEvent, HandleEvent, ReleaseEvent};
use ::r2d2::{CustomizeConnection, Error, ManageConnection, NopErrorHandler, Pool, PooledConnection};

use crate::conformance::script::Fault;
use crate::conformance::subject::{
    Answer, Event, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Snapshot, Source, Validate,
};
use crate::conformance::{Check, lacks};

pub(super) const CONFIGURATION: &str = "`min_idle` as the check asks, else 0; what it fails is asked again with `min_idle` as it comes, which is \
    `max_size`, and counts as passed if that passes. `test_on_check_out` only \
    where validation is asked for; `has_broken` is a flag. Its reaper runs every 30 s, which cannot be changed, so checks \
    that need it wait 45 s";

/// Whether `min_idle` stays as it comes where a check asks nothing. A process puts one question, in one way.
pub static IS_AS_IT_COMES: AtomicBool = AtomicBool::new(false);

struct Managed<S>(S);

impl<S: Source> ManageConnection for Managed<S> {
    type Connection = S::Connection;
    type Error = Fault;

    fn connect(&self) -> Result<S::Connection, Fault> {
        self.0.connect()
    }

    fn is_valid(&self, connection: &mut S::Connection) -> Result<(), Fault> {
        self.0.validate(connection)
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
    fn on_acquire(&self, _: &mut S::Connection) -> Result<(), Fault> {
        self.0.hook()
    }
}

/// What r2d2 told its observer.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<(Event, u64)>>>);

impl Log {
    fn note(&self, event: Event, connection: u64) {
        self.0.lock().expect("no poison").push((event, connection));
    }
}

impl HandleEvent for Log {
    fn handle_acquire(&self, event: AcquireEvent) {
        self.note(Event::Opened, event.connection_id());
    }

    fn handle_release(&self, event: ReleaseEvent) {
        self.note(Event::Closed, event.connection_id());
    }

    fn handle_checkout(&self, event: CheckoutEvent) {
        self.note(Event::Checkout, event.connection_id());
    }

    fn handle_checkin(&self, event: CheckinEvent) {
        self.note(Event::Checkin, event.connection_id());
    }
}

impl<S: Source> Lent<S::Connection> for PooledConnection<Managed<S>> {
    fn connection(&mut self) -> &mut S::Connection {
        self
    }
}

struct R2d2<S: Source> {
    pool: Pool<Managed<S>>,
    timeout: Duration,
    log: Log,
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
    let log = Log::default();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut builder = Pool::builder()
        .max_size(count(options.max_size))
        .test_on_check_out(options.validate == Validate::Always)
        // Zero is refused; a caller without time asks with `get_timeout`.
        .connection_timeout(options.acquire_timeout.max(Duration::from_millis(1)))
        .event_handler(Box::new(log.clone()))
        .error_handler(Box::new(NopErrorHandler));
    if options.min_idle > 0 || !IS_AS_IT_COMES.load(Ordering::Relaxed) {
        builder = builder.min_idle(Some(count(options.min_idle)));
    }
    if options.idle_timeout.is_some() {
        builder = builder.idle_timeout(options.idle_timeout);
    }
    if options.max_lifetime.is_some() {
        builder = builder.max_lifetime(options.max_lifetime);
    }
    if options.has_hook {
        builder = builder.connection_customizer(Box::new(Hook(source.clone())));
    }
    Ok(match builder.build(Managed(source)) {
        Ok(pool) => Ok(Arc::new(R2d2 { pool, timeout: options.acquire_timeout, log })),
        Err(error) => Err(refusal(&error)),
    })
}

fn refusal(error: &Error) -> Refusal {
    Refusal::of(Kind::TimedOut, error)
}

impl<S: Source> Pooled<S::Connection> for R2d2<S> {
    fn get(&self) -> Answer<S::Connection> {
        match self.pool.get_timeout(self.timeout) {
            Ok(guard) => Ok(Box::new(guard) as Loan<S::Connection>),
            Err(error) => Err(refusal(&error)),
        }
    }

    fn try_get(&self) -> Check<Answer<S::Connection>> {
        Ok(match self.pool.try_get() {
            Some(guard) => Ok(Box::new(guard) as Loan<S::Connection>),
            None => Err(Refusal::new(Kind::Exhausted, "nothing is idle")),
        })
    }

    fn snapshot(&self) -> Check<Snapshot> {
        let state = self.pool.state();
        Ok(Snapshot {
            max_size: self.pool.max_size().into(),
            size: state.connections.into(),
            idle: state.idle_connections.into(),
            lent: None,
        })
    }

    fn events(&self) -> Check<Vec<(Event, u64)>> {
        Ok(self.log.0.lock().expect("no poison").clone())
    }
}

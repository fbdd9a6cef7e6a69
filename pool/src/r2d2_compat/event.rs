//! Event subscriptions, with the names and accessors of `r2d2::event`.
//!
//! r2d2's own events can be made by r2d2 alone, so these are types of ours, and so is the trait that receives them.

use std::fmt;
use std::time::Duration;

pub use ::r2d2::NopEventHandler;

/// Is told what happens in a pool, in order for each connection: acquired, checked out and in any number of times,
/// released.
///
/// The methods run on whichever thread the event happened: checkouts, timeouts and checkins on the caller's, acquires
/// and most releases on a thread of the pool. They should be quick. None of the pool's locks is held meanwhile.
pub trait HandleEvent: fmt::Debug + Sync + Send {
    /// A connection was opened and customized.
    #[allow(unused_variables)]
    fn handle_acquire(&self, event: AcquireEvent) {}

    /// A connection leaves the pool and is about to be given to `on_release`, which closes it.
    #[allow(unused_variables)]
    fn handle_release(&self, event: ReleaseEvent) {}

    /// A connection was lent by `get` or `get_timeout`; `try_get` tells nobody.
    #[allow(unused_variables)]
    fn handle_checkout(&self, event: CheckoutEvent) {}

    /// A checkout ended without a connection.
    #[allow(unused_variables)]
    fn handle_timeout(&self, event: TimeoutEvent) {}

    /// A connection comes back.
    #[allow(unused_variables)]
    fn handle_checkin(&self, event: CheckinEvent) {}
}

impl HandleEvent for NopEventHandler {}

/// A connection was opened.
#[derive(Debug)]
pub struct AcquireEvent {
    pub(super) id: u64,
}

impl AcquireEvent {
    /// The connection's number, which no other connection of this process has.
    #[inline]
    pub fn connection_id(&self) -> u64 {
        self.id
    }
}

/// A connection leaves the pool.
#[derive(Debug)]
pub struct ReleaseEvent {
    pub(super) id: u64,
    pub(super) age: Duration,
}

impl ReleaseEvent {
    /// The connection's number.
    #[inline]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// The time since the connection was opened.
    #[inline]
    pub fn age(&self) -> Duration {
        self.age
    }
}

/// A connection was lent.
#[derive(Debug)]
pub struct CheckoutEvent {
    pub(super) id: u64,
    pub(super) duration: Duration,
}

impl CheckoutEvent {
    /// The connection's number.
    #[inline]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long the caller waited, checks included.
    #[inline]
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

/// A checkout ended without a connection.
#[derive(Debug)]
pub struct TimeoutEvent {
    pub(super) timeout: Duration,
}

impl TimeoutEvent {
    /// How long the caller was ready to wait.
    #[inline]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// A connection comes back.
#[derive(Debug)]
pub struct CheckinEvent {
    pub(super) id: u64,
    pub(super) duration: Duration,
}

impl CheckinEvent {
    /// The connection's number.
    #[inline]
    pub fn connection_id(&self) -> u64 {
        self.id
    }

    /// How long the connection was lent.
    #[inline]
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

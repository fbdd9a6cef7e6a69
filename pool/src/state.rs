//! What a pool looks like from outside.

use std::fmt;

/// A snapshot of a pool's counts.
///
/// `size` is the sum of the five kinds by construction, so no snapshot shows more idle connections than there are
/// connections, whatever happens while it is taken. Counts of a busy pool are a moment old when you read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct State {
    /// The most connections the pool may have at present. `size` is above it for a while after
    /// [`resize`](crate::Pool::resize) has lowered it.
    pub max_size: usize,
    /// Slots in use: `idle + lent + connecting + checking + closing`.
    pub size: usize,
    /// Open and waiting for a caller.
    pub idle: usize,
    /// Held by callers.
    pub lent: usize,
    /// Being opened.
    pub connecting: usize,
    /// Being validated or reset.
    pub checking: usize,
    /// Being closed.
    pub closing: usize,
    /// Acquires that wait, blocking and async.
    pub waiters: usize,
    /// Whether [`pause`](crate::Pool::pause) was called, and not [`resume`](crate::Pool::resume) since.
    pub is_paused: bool,
    /// Whether callers are turned away because the database is down: see
    /// [`fail_fast_after`](crate::Builder::fail_fast_after).
    pub is_breaker_open: bool,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "size {} of {}: {} idle, {} lent, {} connecting, {} checking, {} closing; {} waiting",
            self.size, self.max_size, self.idle, self.lent, self.connecting, self.checking, self.closing, self.waiters
        )?;
        for (what, is_so) in [("paused", self.is_paused), ("breaker open", self.is_breaker_open)] {
            if is_so {
                write!(f, "; {what}")?;
            }
        }
        Ok(())
    }
}

/// What a pool has done since it was built. Each number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections handed to callers.
    pub checkouts: u64,
    /// Acquires that found nothing at once and stood in line.
    pub waits: u64,
    /// Connections handed straight to a waiter.
    pub handoffs: u64,
    /// Acquires that ended without a connection and were told so.
    pub failures: u64,
    /// Those of them whose time ran out, for whatever reason; the others were told that the pool is closed, or that
    /// connecting is hopeless.
    pub timeouts: u64,
    /// Async acquires that were dropped while they waited.
    pub cancelled: u64,
    /// Acquires that were served after [`slow_acquire`](crate::Builder::slow_acquire).
    pub slow_acquires: u64,
    /// Connections opened.
    pub connects: u64,
    /// Attempts to connect that failed, or whose [`on_connect`](crate::Builder::on_connect) did.
    pub connect_failures: u64,
    /// Validations, successful or not.
    pub validations: u64,
    /// Validations that failed.
    pub validation_failures: u64,
    /// Resets, successful or not.
    pub resets: u64,
    /// Resets that failed.
    pub reset_failures: u64,
    /// Calls of [`on_acquire`](crate::Builder::on_acquire) and [`on_checkin`](crate::Builder::on_checkin) that failed.
    pub hook_failures: u64,
    /// Connections closed, for whatever reason. `connects + added - closes - detached` are open.
    pub closes: u64,
    /// Connections taken out of the pool by their holders.
    pub detached: u64,
    /// Loans that lasted longer than [`leak_after`](crate::Builder::leak_after).
    pub long_loans: u64,
    /// Connections closed because they were broken, failed a check or were held by a panicking caller.
    pub broken: u64,
    /// Connections closed because they lay idle longer than `idle_timeout`.
    pub idle_timeouts: u64,
    /// Connections closed because they were older than `max_lifetime`.
    pub lifetime_ends: u64,
    /// Connections closed because they were opened before a [`purge`](crate::Pool::purge).
    pub purged: u64,
    /// Connections closed because [`resize`](crate::Pool::resize) had lowered the limit.
    pub surplus: u64,
    /// Connections taken in by [`add`](crate::Pool::add).
    pub added: u64,
    /// Times that the breaker opened: see [`fail_fast_after`](crate::Builder::fail_fast_after).
    pub breaker_openings: u64,
    /// Times that the pool was [paused](crate::Pool::pause).
    pub pauses: u64,
}

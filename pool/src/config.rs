//! The options of a pool, their defaults and their limits.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::connector::shortened;
use crate::error::{BuildError, ConfigError};
use crate::hooks::Hooks;
use crate::idle::IdleSet;
use crate::{Manager, Pool};

/// The most connections a pool may be asked to hold.
///
/// Slots are allocated when the pool is built, 128 bytes or more each, so a slip of the keyboard must not cost gigabytes.
pub const MAX_SIZE_LIMIT: usize = 65_536;

/// The longest time any option accepts: about a hundred years.
///
/// Longer times would overflow the arithmetic on deadlines on some platforms; `None` is how to say "never".
pub const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Longer than a restart of a database or a fail-over should take, shorter than callers care to wait for nothing.
const DEFAULT_FAIL_FAST_AFTER: Duration = Duration::from_secs(5);

/// Who gets a connection that comes back while callers wait.
///
/// A hand-over costs two context switches during which nobody uses the connection, so always handing over is fair and
/// slow, and never handing over is fast and lets the unlucky starve. Suite `fairness` of the lab measures it.
///
/// Under every policy a checkin that has woken a thread lets other threads have its processor, if any wait for it
/// (`sched_yield`), so that the woken one need not wait until the kernel takes it away. Tasks are not given way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fairness {
    /// Straight to the oldest waiter, always; newcomers stand in line. First come, first served.
    Strict,
    /// To whoever is first, until the oldest waiter has waited this long; then straight to it. While loans are longer than
    /// a thread's wake-up, so that those who overtake gain little, a quarter of this is the bound.
    Bounded(Duration),
    /// To whoever is first. The oldest waiter is woken to try again.
    Free,
}

impl Default for Fairness {
    /// Bounded at 100 microseconds, about the price of two or three thread wake-ups on a virtual machine.
    fn default() -> Self {
        Self::Bounded(Duration::from_micros(100))
    }
}

/// The options of a pool, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) max_size: usize,
    /// `None`: as many as `max_size`.
    pub(crate) capacity: Option<usize>,
    pub(crate) min_idle: usize,
    pub(crate) max_connecting: usize,
    pub(crate) acquire_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) validate_after_idle: Option<Duration>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) fail_fast_after: Option<Duration>,
    pub(crate) backoff: (Duration, Duration),
    pub(crate) fairness: Fairness,
    pub(crate) name: String,
    pub(crate) histograms: bool,
    pub(crate) record_loans: bool,
    pub(crate) leak_after: Option<Duration>,
    pub(crate) slow_acquire: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size: 10,
            capacity: None,
            min_idle: 0,
            max_connecting: 4,
            acquire_timeout: Duration::from_secs(30),
            idle_timeout: Some(Duration::from_secs(600)),
            max_lifetime: Some(Duration::from_secs(1800)),
            validate_after_idle: Some(Duration::from_secs(30)),
            keepalive: None,
            fail_fast_after: Some(DEFAULT_FAIL_FAST_AFTER),
            backoff: (Duration::from_millis(20), Duration::from_secs(1)),
            fairness: Fairness::default(),
            name: String::from("pool"),
            histograms: false,
            record_loans: false,
            leak_after: None,
            slow_acquire: None,
        }
    }
}

/// Sets a pool's options and builds it.
///
/// ```
/// # use std::time::Duration;
/// # use pool::{Manager, SlotsPool};
/// # struct Echo;
/// # impl Manager for Echo {
/// #     type Connection = u32;
/// #     type Error = std::io::Error;
/// #     fn connect(&self) -> std::io::Result<u32> { Ok(7) }
/// #     fn is_valid(&self, _: &mut u32) -> std::io::Result<()> { Ok(()) }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = SlotsPool::builder()
///     .max_size(8)
///     .min_idle(2)
///     .acquire_timeout(Duration::from_secs(5))
///     .build(Echo)?;
/// assert_eq!(*pool.get()?, 7);
/// # Ok(())
/// # }
/// ```
pub struct Builder<M: Manager, I> {
    pub(crate) config: Config,
    pub(crate) hooks: Hooks<M>,
    kind: PhantomData<fn() -> (M, I)>,
}

impl<M: Manager, I> Default for Builder<M, I> {
    fn default() -> Self {
        Self { config: Config::default(), hooks: Hooks::default(), kind: PhantomData }
    }
}

impl<M: Manager, I> Clone for Builder<M, I> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), hooks: self.hooks.clone(), kind: PhantomData }
    }
}

impl<M: Manager, I> fmt::Debug for Builder<M, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<M: Manager, I: IdleSet> Builder<M, I> {
    /// The most connections open at once, counting those being opened, checked and closed. Default 10.
    ///
    /// At least 1 and at most [`MAX_SIZE_LIMIT`].
    #[must_use]
    pub fn max_size(mut self, max_size: usize) -> Self {
        self.config.max_size = max_size;
        self
    }

    /// The most that [`Pool::resize`] may ask for. Default: `max_size`, so that a pool can shrink and grow back.
    ///
    /// Connections stay in place, so there is a slot for each from the beginning: 128 bytes, or a little more with large
    /// connections. A caller who finds nothing idle looks through all of them. At least `max_size` and at most
    /// [`MAX_SIZE_LIMIT`].
    #[must_use]
    pub fn capacity(mut self, capacity: impl Into<Option<usize>>) -> Self {
        self.config.capacity = capacity.into();
        self
    }

    /// Connections to open at the start and to keep ready. Default 0. At most `max_size`; while [`Pool::resize`] has set
    /// a lower limit, that many.
    #[must_use]
    pub fn min_idle(mut self, min_idle: usize) -> Self {
        self.config.min_idle = min_idle;
        self
    }

    /// The most connections being opened at the same time. Default 4.
    ///
    /// More do not help when the database is slow to accept them, and a burst of callers would otherwise open one each
    /// although the first few connections serve them all. At least 1; values above `capacity` mean
    /// `capacity`. As many validations may run at the same time.
    #[must_use]
    pub fn max_connecting(mut self, max_connecting: usize) -> Self {
        self.config.max_connecting = max_connecting;
        self
    }

    /// How long an acquire waits before it fails. Default 30 s. Zero means: do not wait.
    ///
    /// It covers everything: waiting in line, connecting, validating.
    #[must_use]
    pub fn acquire_timeout(mut self, acquire_timeout: Duration) -> Self {
        self.config.acquire_timeout = acquire_timeout;
        self
    }

    /// Close connections beyond `min_idle` that nobody needed for this long. Default 10 minutes, `None`: never.
    ///
    /// While the process was stopped or the machine suspended, for more than a second, nobody could need them: that time
    /// does not count. It does count for `max_lifetime` and `validate_after_idle`, since the other side's clock went on.
    #[must_use]
    pub fn idle_timeout(mut self, idle_timeout: impl Into<Option<Duration>>) -> Self {
        self.config.idle_timeout = idle_timeout.into();
        self
    }

    /// Close connections older than this when nobody holds them. Default 30 minutes, `None`: never.
    ///
    /// Each connection gets up to a tenth less, at random, so that connections opened together do not end together.
    #[must_use]
    pub fn max_lifetime(mut self, max_lifetime: impl Into<Option<Duration>>) -> Self {
        self.config.max_lifetime = max_lifetime.into();
        self
    }

    /// Ask [`Manager::is_valid`] before lending a connection that lay idle for longer than this. Default 30 s,
    /// `None`: never. Zero asks at every checkout, at the price of a round trip and two thread switches each.
    ///
    /// A validation whose caller has given up meanwhile serves the next one who comes within a second, or within this
    /// time if it is longer. So with zero, too, a connection may be lent up to a second after it was asked.
    #[must_use]
    pub fn validate_after_idle(mut self, validate_after_idle: impl Into<Option<Duration>>) -> Self {
        self.config.validate_after_idle = validate_after_idle.into();
        self
    }

    /// Ask [`Manager::is_valid`] in the background when a connection lay idle, and was not asked, for this long. Default
    /// `None`: never.
    ///
    /// For firewalls and proxies that forget quiet connections: what is still good stays known to them, and what is not
    /// is replaced before a caller needs it. At most `max_connecting` connections are asked at a time, together with
    /// those that callers wait for. It does not count as use: `idle_timeout` closes connections as without it.
    #[must_use]
    pub fn keepalive(mut self, keepalive: impl Into<Option<Duration>>) -> Self {
        self.config.keepalive = keepalive.into();
        self
    }

    /// Turn callers away when connecting has failed for this long, without a success and with no connection left. Default
    /// 5 s, `None`: never.
    ///
    /// Then every caller who would have to wait is told [`ConnectFailed`](crate::AcquireError::ConnectFailed), with the
    /// cause, at once, and so are those who wait already. Meanwhile the pool tries to connect by itself, once per
    /// [pause](Self::connect_backoff), and serves callers again at the first success. Zero: after the first failure.
    #[must_use]
    pub fn fail_fast_after(mut self, fail_fast_after: impl Into<Option<Duration>>) -> Self {
        self.config.fail_fast_after = fail_fast_after.into();
        self
    }

    /// Pauses between failing attempts to connect: the first, and the longest. Default 20 ms and 1 s.
    ///
    /// Each failure doubles the pause, and each pause is shortened by up to half at random.
    ///
    /// A new connection that is refused before its first loan, because [`Manager::is_valid`] or
    /// [`on_acquire`](Self::on_acquire) fails, is replaced at once; if its replacement is refused, too, the same pauses
    /// begin. They end when a new connection passes.
    #[must_use]
    pub fn connect_backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.config.backoff = (first, longest);
        self
    }

    /// Who gets a connection that comes back while callers wait. Default: [`Fairness::Bounded`] at 100 us.
    #[must_use]
    pub fn fairness(mut self, fairness: Fairness) -> Self {
        self.config.fairness = fairness;
        self
    }

    /// A name for the pool's threads and log events. Default `pool`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Builds the pool and opens its first `min_idle` connections.
    ///
    /// # Errors
    ///
    /// [`BuildError::Config`] names an option with an impossible value. [`BuildError::Connect`] tells why the first
    /// connections could not be opened within `acquire_timeout`; at once when trying again cannot mend it
    /// ([`Manager::is_transient`]), and as soon as callers would be turned away
    /// ([`fail_fast_after`](Self::fail_fast_after)). The pool is closed then.
    pub fn build(self, manager: M) -> Result<Pool<M, I>, BuildError<M::Error>> {
        let pool = self.build_unchecked(manager)?;
        pool.wait_for_min_idle()?;
        Ok(pool)
    }

    /// Builds the pool without waiting for its first connections; they are opened in the background.
    ///
    /// # Errors
    ///
    /// [`BuildError::Config`] or [`BuildError::Thread`]; never a connect error.
    pub fn build_unchecked(self, manager: M) -> Result<Pool<M, I>, BuildError<M::Error>> {
        let config = self.config.checked()?;
        Pool::start(config, self.hooks, manager)
    }
}

impl Config {
    /// Slots.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity.unwrap_or(self.max_size)
    }

    /// How long to wait after a failure that came after so many others, in a row.
    pub(crate) fn pause_after(&self, others: u32) -> Duration {
        let (first, longest) = self.backoff;
        shortened(first.saturating_mul(1 << others.min(20)).min(longest), 2)
    }

    /// The same options if they make sense together.
    fn checked(mut self) -> Result<Self, ConfigError> {
        let error = |field, problem: String| Err(ConfigError { field, problem });
        if self.max_size == 0 {
            return error("max_size", "must be at least 1".into());
        }
        if self.max_size > MAX_SIZE_LIMIT {
            return error("max_size", format!("{} is above the limit of {MAX_SIZE_LIMIT}", self.max_size));
        }
        if let Some(capacity) = self.capacity.filter(|capacity| *capacity < self.max_size) {
            return error("capacity", format!("{capacity} is below max_size, which is {}", self.max_size));
        }
        if self.capacity() > MAX_SIZE_LIMIT {
            return error("capacity", format!("{} is above the limit of {MAX_SIZE_LIMIT}", self.capacity()));
        }
        if self.min_idle > self.max_size {
            return error("min_idle", format!("{} is above max_size, which is {}", self.min_idle, self.max_size));
        }
        if self.max_connecting == 0 {
            return error("max_connecting", "must be at least 1".into());
        }
        self.max_connecting = self.max_connecting.min(self.capacity());
        if self.idle_timeout == Some(Duration::ZERO) {
            return error("idle_timeout", "must be above zero; `None` means never".into());
        }
        if self.keepalive == Some(Duration::ZERO) {
            return error("keepalive", "must be above zero; `None` means never".into());
        }
        if self.max_lifetime == Some(Duration::ZERO) {
            return error("max_lifetime", "must be above zero; `None` means never".into());
        }
        if self.leak_after == Some(Duration::ZERO) {
            return error("leak_after", "must be above zero; `None` means never".into());
        }
        let (first, longest) = self.backoff;
        if first.is_zero() || first > longest {
            return error("connect_backoff", format!("{first:?} must be above zero and at most {longest:?}"));
        }
        let bound = if let Fairness::Bounded(bound) = self.fairness { Some(bound) } else { None };
        for (field, value) in [
            ("acquire_timeout", Some(self.acquire_timeout)),
            ("idle_timeout", self.idle_timeout),
            ("max_lifetime", self.max_lifetime),
            ("validate_after_idle", self.validate_after_idle),
            ("keepalive", self.keepalive),
            ("fail_fast_after", self.fail_fast_after),
            ("connect_backoff", Some(longest)),
            ("fairness", bound),
            ("leak_after", self.leak_after),
            ("slow_acquire", self.slow_acquire),
        ] {
            if value.is_some_and(|value| value > MAX_DURATION) {
                return error(field, format!("must be at most {MAX_DURATION:?}"));
            }
        }
        if self.name.contains('\0') {
            return error("name", "must not contain a NUL byte".into());
        }
        Ok(self)
    }
}

//! Where an acquire's time goes, for the lab. Without the feature `timing` all of this is empty and free.

#[cfg(feature = "timing")]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "timing")]
use std::time::Instant;

/// Sums since the pool was built. Times are nanoseconds, of all threads together.
///
/// Each interval contains one reading of the clock (about 30 ns on the machines this was written on); subtract it, times
/// the count, where it matters.
#[cfg(feature = "timing")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Acquires that ended with a connection.
    pub acquires: u64,
    /// In acquires, taking from the idle set and checking the connection, without the wait.
    pub checkout_ns: u64,
    /// In acquires, from finding nothing idle to having a connection.
    pub wait_ns: u64,
    /// Of both checkouts and checkins: blocked on the idle set's lock. Zero for sets without one.
    pub lock_wait_ns: u64,
    /// Attempts to connect.
    pub connects: u64,
    /// Inside `Manager::connect`, on worker threads.
    pub connect_ns: u64,
    /// Guards dropped.
    pub checkins: u64,
    /// In those drops.
    pub checkin_ns: u64,
}

/// A phase that is timed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    Checkout,
    Wait,
    Connect,
    Checkin,
}

/// Sums by phase.
#[derive(Default)]
pub(crate) struct Clocks {
    #[cfg(feature = "timing")]
    phases: [Sum; 4],
}

#[cfg(feature = "timing")]
#[derive(Default)]
struct Sum {
    count: AtomicU64,
    ns: AtomicU64,
}

/// A moment at which a phase began.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    #[cfg(feature = "timing")]
    at: Instant,
}

impl Start {
    #[inline]
    pub(crate) fn now() -> Self {
        Self {
            #[cfg(feature = "timing")]
            at: Instant::now(),
        }
    }
}

impl Clocks {
    /// Books the time since `start`.
    #[inline]
    #[cfg_attr(not(feature = "timing"), allow(unused_variables))]
    pub(crate) fn book(&self, phase: Phase, start: Start) {
        #[cfg(feature = "timing")]
        {
            let sum = &self.phases[phase as usize];
            sum.count.fetch_add(1, Ordering::Relaxed);
            sum.ns.fetch_add(start.at.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    #[cfg(feature = "timing")]
    pub(crate) fn report(&self, lock_wait_ns: u64) -> Timing {
        let count = |phase: Phase| self.phases[phase as usize].count.load(Ordering::Relaxed);
        let ns = |phase: Phase| self.phases[phase as usize].ns.load(Ordering::Relaxed);
        Timing {
            acquires: count(Phase::Checkout) + count(Phase::Wait),
            checkout_ns: ns(Phase::Checkout),
            wait_ns: ns(Phase::Wait),
            lock_wait_ns,
            connects: count(Phase::Connect),
            connect_ns: ns(Phase::Connect),
            checkins: count(Phase::Checkin),
            checkin_ns: ns(Phase::Checkin),
        }
    }
}

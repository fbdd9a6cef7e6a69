//! How long to wait before the next attempt to connect: a random part of a limit that doubles, so that the clients of a
//! node that went down do not come back all at once.

use std::time::Duration;

/// Limits of the random delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay is up to this long.
    pub first: Duration,
    /// No delay is longer than this.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The longest delay before the attempt that follows `failures` failures.
    pub fn limit(&self, failures: u32) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(self.max)
    }

    /// A random delay up to that limit.
    pub fn delay(&self, failures: u32) -> Duration {
        self.limit(failures).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_doubles_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };
        let limits = [0, 1, 2, 4, 5, 31, 32, u32::MAX].map(|failures| backoff.limit(failures).as_secs());
        assert_eq!(limits, [1, 2, 4, 16, 30, 30, 30, 30]);
    }

    #[test]
    fn delays_differ_and_stay_below_the_limit() {
        let backoff = Backoff::default();
        let delays: Vec<Duration> = (0..100).map(|_| backoff.delay(3)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(8)));
        assert!(delays.iter().any(|delay| *delay != delays[0]), "clients would come back together");
    }
}

//! What a client may use: rates, counts, and who is counted together.
//!
//! Each limit is an option of [`config`](crate::config); here is how they are enforced.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The keys (accounts, addresses) that one limiter remembers. Beyond it, those that have not been seen for the longest
/// give way: an attacker with more addresses than that is not kept out by counting addresses.
pub const MAX_KEYS: usize = 65_536;

/// So many in a time, with a burst. A leaky bucket that needs one number per key: when it would be empty.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    every: Duration,
    burst: Duration,
}

impl Rate {
    /// `count` in each `period`, and up to `burst` at once. `None` if `count` is 0: no limit.
    pub fn new(count: u32, period: Duration, burst: u32) -> Option<Self> {
        let every = period.checked_div(count)?;
        Some(Self { every, burst: every.saturating_mul(burst.max(1) - 1) })
    }

    /// Takes one from the bucket that is empty at `empty_at`. If it is not to be had yet, says how long to wait.
    fn take(&self, empty_at: &mut Instant, now: Instant) -> Result<(), Duration> {
        let from = (*empty_at).max(now);
        match from.saturating_duration_since(now).checked_sub(self.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *empty_at = from + self.every;
                Ok(())
            }
        }
    }
}

/// One bucket: a session's messages.
#[derive(Debug)]
pub struct Bucket {
    empty_at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// Takes one, and says how long to wait before going on: zero as long as the rate is kept.
    pub fn charge(&mut self, rate: Rate, now: Instant) -> Duration {
        let from = self.empty_at.max(now);
        self.empty_at = from + rate.every;
        from.saturating_duration_since(now).saturating_sub(rate.burst)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Limiter<K> {
    rate: Option<Rate>,
    buckets: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// A limiter with this rate for each key; `None`: no limit.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one from the key's bucket.
    ///
    /// # Errors
    ///
    /// How long until there is one again.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, empty_at| *empty_at > now);
            if buckets.len() >= MAX_KEYS {
                // Half of them, the older ones, so that this is rare.
                let mut times: Vec<Instant> = buckets.values().copied().collect();
                let (_, &mut middle, _) = times.select_nth_unstable(MAX_KEYS / 2);
                buckets.retain(|_, empty_at| *empty_at > middle);
            }
        }
        rate.take(buckets.entry(key).or_insert(now), now)
    }
}

/// Who is counted together: an IPv4 address, or the /64 network that one IPv6 user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address => address,
        })
    }
}

/// Counts connections: in all, and of each source.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    max_per_source: usize,
    count: AtomicUsize,
    sources: Mutex<HashMap<Source, usize>>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    source: Option<Source>,
}

impl Admission {
    /// At most `max` connections, `max_per_source` of each source.
    pub fn new(max: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_source, count: AtomicUsize::new(0), sources: Mutex::default() })
    }

    /// Admits a connection, if there is room on this node.
    pub fn admit(self: &Arc<Self>) -> Option<Admitted> {
        let admitted = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < self.max).then_some(count + 1));
        admitted.ok().map(|_| Admitted { admission: Arc::clone(self), source: None })
    }

    /// The connections there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// Counts the connection for its source, once that is known. Returns whether there was room.
    pub fn comes_from(&mut self, source: Source) -> bool {
        let mut sources = self.admission.sources.lock();
        let count = sources.entry(source).or_default();
        if *count >= self.admission.max_per_source {
            return false;
        }
        *count += 1;
        self.source = Some(source);
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.count.fetch_sub(1, Ordering::Relaxed);
        let Some(source) = self.source else { return };
        let mut sources = self.admission.sources.lock();
        if let Some(count) = sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_allows_its_burst_and_then_its_rate() {
        let (limiter, start) = (Limiter::new(Rate::new(10, SECOND, 3)), Instant::now());
        for _ in 0..3 {
            limiter.take("a", start).unwrap();
        }
        assert_eq!(limiter.take("a", start), Err(SECOND / 10));
        limiter.take("b", start).unwrap();
        limiter.take("a", start + SECOND / 10).unwrap();
        assert!(limiter.take("a", start + SECOND / 10).is_err());
        // A refused attempt costs nothing, and a pause fills the bucket no further than the burst.
        let later = start + SECOND * 100;
        assert_eq!((0..10).filter(|_| limiter.take("a", later).is_ok()).count(), 3);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limiter = Limiter::new(Rate::new(0, SECOND, 3));
        assert!((0..1000).all(|_| limiter.take(1, Instant::now()).is_ok()));
    }

    #[test]
    fn a_bucket_says_how_long_to_wait() {
        let (rate, start) = (Rate::new(10, SECOND, 2).unwrap(), Instant::now());
        let mut bucket = Bucket::new(start);
        let waits: Vec<u128> = (0..4).map(|_| bucket.charge(rate, start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200]);
        assert_eq!(bucket.charge(rate, start + SECOND).as_millis(), 0);
    }

    #[test]
    fn many_keys_do_not_grow_without_bound() {
        let (limiter, start) = (Limiter::new(Rate::new(1, SECOND, 1)), Instant::now());
        for key in 0..3 * MAX_KEYS as u64 {
            limiter.take(key, start + Duration::from_nanos(key)).unwrap();
            assert!(limiter.buckets.lock().len() <= MAX_KEYS);
        }
        let newest = 3 * MAX_KEYS as u64 - 1;
        assert!(limiter.take(newest, start + Duration::from_nanos(newest)).is_err(), "the newest are remembered");
    }

    #[test]
    fn connections_are_counted_and_given_back() {
        let admission = Admission::new(3, 2);
        let here = Source::from(IpAddr::from([127, 0, 0, 1]));
        let mut admitted: Vec<Admitted> = (0..3).map(|_| admission.admit().unwrap()).collect();
        assert!(admission.admit().is_none());
        assert!(admitted[0].comes_from(here) && admitted[1].comes_from(here));
        assert!(!admitted[2].comes_from(here));
        admitted.clear();
        assert_eq!((admission.count(), admission.sources.lock().len()), (0, 0));
    }

    #[test]
    fn a_network_of_one_user_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }
}

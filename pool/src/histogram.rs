//! Times, counted in fixed buckets.
//!
//! The bounds are those of the R10 series of preferred numbers: 1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3 and 8 times each
//! power of ten, from 1 us to 100 s. Neighbours differ by a factor of 1.28 at most, so a quantile, which is told as the
//! upper bound of its bucket, is at most 28 % too high and never too low (below 1 us and above 100 s only the bound is
//! known). 1, 2 and 5 are among them, which is what a Prometheus histogram shows.
//!
//! Recording is two additions to counters that the threads of a pool seldom share: each slot has its stripe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::utils::CachePadded;

/// Hundredths of a power of ten.
const MANTISSAS: [u64; 10] = [100, 125, 160, 200, 250, 320, 400, 500, 630, 800];
/// From 1 us to 100 s.
const DECADES: usize = 8;
const BOUND_COUNT: usize = MANTISSAS.len() * DECADES + 1;

/// The upper bounds, inclusive, in nanoseconds.
const BOUNDS_NS: [u64; BOUND_COUNT] = {
    let mut bounds = [0; BOUND_COUNT];
    let (mut index, mut unit) = (0, 10);
    while index < BOUND_COUNT {
        bounds[index] = MANTISSAS[index % MANTISSAS.len()] * unit;
        index += 1;
        if index % MANTISSAS.len() == 0 {
            unit *= 10;
        }
    }
    bounds
};

/// The most stripes, of 768 bytes each.
const MAX_STRIPES: usize = 8;

/// What times are recorded into.
pub(crate) struct Recorder {
    stripes: Box<[CachePadded<Stripe>]>,
}

struct Stripe {
    /// One for each bound and one for what is above the last.
    counts: [AtomicU64; BOUND_COUNT + 1],
    sum_ns: AtomicU64,
}

impl Recorder {
    /// For a pool with so many slots.
    pub(crate) fn new(slots: usize) -> Self {
        let stripe = |_| {
            let counts = [const { AtomicU64::new(0) }; BOUND_COUNT + 1];
            CachePadded::new(Stripe { counts, sum_ns: AtomicU64::new(0) })
        };
        Self { stripes: (0..slots.clamp(1, MAX_STRIPES)).map(stripe).collect() }
    }

    /// Records a time that has to do with the slot of this number.
    pub(crate) fn record(&self, slot: usize, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stripe = &self.stripes[slot % self.stripes.len()];
        stripe.counts[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        stripe.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for stripe in &self.stripes {
            for (sum, count) in histogram.counts.iter_mut().zip(&stripe.counts) {
                *sum += count.load(Ordering::Relaxed);
            }
            histogram.sum += Duration::from_nanos(stripe.sum_ns.load(Ordering::Relaxed));
        }
        histogram
    }
}

fn bucket_of(ns: u64) -> usize {
    // Most waits are zero.
    if ns <= BOUNDS_NS[0] { 0 } else { BOUNDS_NS.partition_point(|bound| *bound < ns) }
}

/// How long something took, as counts of times in fixed buckets.
///
/// The buckets' upper bounds are 1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.3 and 8 times each power of ten from 1 us to 100 s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUND_COUNT + 1],
    sum: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BOUND_COUNT + 1], sum: Duration::ZERO }
    }
}

impl Histogram {
    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Their mean; `None` when there are none.
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        (count > 0).then(|| Duration::from_nanos((self.sum.as_nanos() / u128::from(count)) as u64))
    }

    /// The time that a share `quantile` of them did not exceed: 0.5 is the median, 0.99 what one in a hundred exceeded.
    /// `None` when there are none.
    ///
    /// It is the upper bound of a bucket: at most 28 % above the truth, never below it. Times above 100 s are told as
    /// 100 s. `quantile` is cut to the range from 0 to 1.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        bucket.map(|bucket| Duration::from_nanos(BOUNDS_NS[bucket.min(BOUND_COUNT - 1)]))
    }

    /// The buckets in order: the upper bound (inclusive; `None` for what is above 100 s) and the times in that bucket
    /// alone.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        let bounds = BOUNDS_NS.iter().map(|bound| Some(Duration::from_nanos(*bound)));
        bounds.chain([None]).zip(self.counts.iter().copied())
    }

    /// The buckets as Prometheus wants them: 1, 2 and 5 times each power of ten, in seconds, each alone.
    #[cfg(feature = "metrics")]
    pub(crate) fn coarse_buckets(&self) -> Vec<(f64, u64)> {
        let mut coarse = Vec::new();
        let mut count = 0;
        for (index, (bound, in_bucket)) in self.buckets().enumerate() {
            count += in_bucket;
            let is_shown = matches!(MANTISSAS[index % MANTISSAS.len()], 100 | 200 | 500);
            match bound {
                Some(bound) if is_shown => coarse.push((bound.as_secs_f64(), std::mem::take(&mut count))),
                Some(_) => {}
                None => coarse.push((f64::INFINITY, count)),
            }
        }
        coarse
    }
}

/// The times that a pool has recorded since it was built. From [`Pool::histograms`](crate::Pool::histograms).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Histograms {
    /// How long callers who got a connection waited for it. In the lowest bucket: those who did not have to.
    pub wait: Histogram,
    /// How long connections were out, from checkout to checkin or detach.
    pub hold: Histogram,
    /// How long attempts to connect took, `on_connect` included, successful or not.
    pub connect: Histogram,
}

/// What [`Histograms`] are taken from.
pub(crate) struct Recorders {
    pub(crate) wait: Recorder,
    pub(crate) hold: Recorder,
    pub(crate) connect: Recorder,
}

impl Recorders {
    pub(crate) fn new(slots: usize) -> Self {
        Self { wait: Recorder::new(slots), hold: Recorder::new(slots), connect: Recorder::new(1) }
    }

    pub(crate) fn snapshot(&self) -> Histograms {
        Histograms { wait: self.wait.snapshot(), hold: self.hold.snapshot(), connect: self.connect.snapshot() }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = Duration>) -> Histogram {
        let recorder = Recorder::new(3);
        times.into_iter().enumerate().for_each(|(index, time)| recorder.record(index, time));
        recorder.snapshot()
    }

    #[test]
    fn bounds_grow_by_a_quarter_from_a_microsecond_to_a_hundred_seconds() {
        assert_eq!((BOUNDS_NS[0], BOUNDS_NS[BOUND_COUNT - 1]), (1_000, 100_000_000_000));
        for pair in BOUNDS_NS.windows(2) {
            let ratio = pair[1] as f64 / pair[0] as f64;
            assert!((1.2..=1.28).contains(&ratio), "{pair:?}");
        }
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (index, bound) in BOUNDS_NS.into_iter().enumerate() {
            assert_eq!((bucket_of(bound), bucket_of(bound + 1)), (index, index + 1));
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BOUND_COUNT));
    }

    #[test]
    fn quantiles_are_never_too_low_and_at_most_28_percent_too_high() {
        // Spread evenly over the octaves, as waits are, in no order.
        let mut times: Vec<_> =
            (0..10_000_u32).map(|n| 1_000.0 * 1.0015_f64.powi((n * 7_919 % 10_000) as i32)).collect();
        let histogram = of(times.iter().map(|ns| Duration::from_nanos(*ns as u64)));
        times.sort_by(f64::total_cmp);
        for share in [0.0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((share * 10_000.0_f64).ceil() as usize).max(1);
            let truth = times[rank - 1].trunc();
            let told = histogram.quantile(share).unwrap().as_nanos() as f64;
            assert!(told >= truth && told <= truth * 1.28, "{share}: {truth} is told as {told}");
        }
    }

    #[test]
    fn counts_sum_and_mean_are_exact() {
        let histogram = of([10, 20, 60].map(Duration::from_millis));
        assert_eq!((histogram.count(), histogram.sum()), (3, Duration::from_millis(90)));
        assert_eq!(histogram.mean(), Some(Duration::from_millis(30)));
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 3);
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).map(|(bound, _)| bound).collect();
        assert_eq!(filled, [10, 20, 63].map(|ms| Some(Duration::from_millis(ms))));
    }

    #[test]
    fn nothing_recorded_has_no_quantile_and_no_mean() {
        assert_eq!((of([]).quantile(0.5), of([]).mean(), of([]).count()), (None, None, 0));
    }

    #[test]
    fn what_is_above_the_last_bound_is_counted_there() {
        let histogram = of([Duration::from_secs(1_000), Duration::MAX]);
        assert_eq!(histogram.buckets().last(), Some((None, 2)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_secs(100)));
    }

    #[cfg(feature = "metrics")]
    #[test]
    fn coarse_buckets_lose_nothing() {
        let histogram = of([1, 3, 300, 7_000, 200_000_000].map(Duration::from_micros));
        let coarse = histogram.coarse_buckets();
        assert_eq!(coarse.len(), 3 * DECADES + 2);
        let filled: Vec<_> = coarse.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1e-6, 1), (5e-6, 1), (5e-4, 1), (0.01, 1), (f64::INFINITY, 1)]);
    }
}

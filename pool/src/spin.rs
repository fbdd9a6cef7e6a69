//! A few looks before going to sleep, only while they pay.
//!
//! A wake-up costs tens of microseconds. When connections are held for less than that, a caller who yields its processor
//! a few times finds one sooner than a sleeper could be woken; when they are held for longer, every look is wasted. Which
//! it is, is learnt: a success is remembered for a while, failures make the pool forget, and now and then one caller
//! tries again. A caller never looks more than [`LOOKS`] times, nor for longer than [`LOOK_FOR`].

use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{now, thread};

/// Looks per acquire, at most, with a yield before each.
const LOOKS: u32 = 8;
/// About what a thread takes to wake up. On a busy machine a yield may take as long as the others' whole turns: eight of them
/// were 60 ms on a Linux of today, in which those in line had been served a thousand times.
const LOOK_FOR: Duration = Duration::from_micros(50);
/// The score of a pool in which looking pays.
const SURE: u32 = 32;
/// With a score of zero, one in so many callers tries nevertheless. It does so at the cost of its place in the line, which is
/// a few times a loan: with one in 64 that was what decided the slowest thousandth of the waits.
const PROBE_EVERY: u32 = 1024;

/// Whether looking has paid lately. Races between updates lose a point here or there, which does not matter.
pub(crate) struct Spin {
    score: AtomicU32,
    skipped: AtomicU32,
}

impl Spin {
    pub(crate) fn new() -> Self {
        Self { score: AtomicU32::new(SURE), skipped: AtomicU32::new(0) }
    }

    /// Whether loans have been so short lately that looking paid.
    pub(crate) fn pays(&self) -> bool {
        self.score.load(Ordering::Relaxed) > 0
    }

    /// Looks a few times, if that is worth it. The caller has waited since `since`.
    pub(crate) fn look<T>(&self, since: Instant, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        // Under a model checker a yield is only one more schedule to explore.
        if cfg!(any(loom, shuttle)) {
            return None;
        }
        let score = self.score.load(Ordering::Relaxed);
        if score == 0 && !self.skipped.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROBE_EVERY) {
            return None;
        }
        for _ in 0..LOOKS {
            thread::yield_now();
            if let Some(found) = look() {
                self.score.store(SURE.min(score + 4), Ordering::Relaxed);
                return Some(found);
            }
            if now().saturating_duration_since(since) >= LOOK_FOR {
                break;
            }
        }
        self.score.store(score.saturating_sub(1), Ordering::Relaxed);
        None
    }
}

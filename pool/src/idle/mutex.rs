//! The mutex queue: the seed's pool, with nothing under the lock but a push or a pop.

use super::{IdleSet, sealed::Set};
use crate::slot::{Held, Phase, SlotTable};
use crate::sync::Mutex;

/// Slot numbers under a mutex, last in, first out: what was used last is warm, and what nobody needs grows old.
pub struct MutexQueue {
    idle: Lock<Vec<Held>>,
}

impl IdleSet for MutexQueue {
    const NAME: &'static str = "mutex";
}

#[allow(private_interfaces, reason = "callable inside the crate only")]
impl Set for MutexQueue {
    fn with_capacity(max_size: usize) -> Self {
        Self { idle: Lock::new(Vec::with_capacity(max_size)) }
    }

    #[inline(always)]
    fn take<C>(&self, slots: &SlotTable<C>) -> Option<Held> {
        let held = self.idle.lock().pop()?;
        slots.mark(&held, Phase::Lent);
        Some(held)
    }

    /// The lock orders a `give` and a `take`: if the take came first, the waiter's registration, which precedes it,
    /// happens before this lock is taken, and the look that follows sees it. Model-checked: `no_lost_wakeup_mutex`.
    #[inline(always)]
    fn put<C>(&self, slots: &SlotTable<C>, held: Held) {
        slots.mark_queued(&held);
        self.idle.lock().push(held);
    }

    fn has_idle<C>(&self, _slots: &SlotTable<C>) -> bool {
        !self.idle.lock().is_empty()
    }

    fn sweep<C>(&self, slots: &SlotTable<C>, choose: &mut dyn FnMut(usize) -> bool, out: &mut Vec<Held>) {
        let mut idle = self.idle.lock();
        let taken = out.len();
        out.extend(idle.extract_if(.., |held| choose(held.index())));
        for held in &out[taken..] {
            slots.mark(held, Phase::Lent);
        }
    }

    #[cfg(feature = "timing")]
    fn lock_wait_ns(&self) -> u64 {
        self.idle.waited_ns.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A mutex that, for the lab, can say how long its callers were blocked on it.
struct Lock<T> {
    inner: Mutex<T>,
    #[cfg(feature = "timing")]
    waited_ns: std::sync::atomic::AtomicU64,
}

impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Self {
            inner: Mutex::new(value),
            #[cfg(feature = "timing")]
            waited_ns: std::sync::atomic::AtomicU64::new(0),
        }
    }

    #[cfg(not(feature = "timing"))]
    #[inline]
    fn lock(&self) -> crate::sync::MutexGuard<'_, T> {
        self.inner.lock()
    }

    /// Only a caller who finds the lock taken reads the clock, so that measuring it does not make it slower.
    #[cfg(feature = "timing")]
    fn lock(&self) -> crate::sync::MutexGuard<'_, T> {
        if let Some(guard) = self.inner.try_lock() {
            return guard;
        }
        let start = crate::sync::now();
        let guard = self.inner.lock();
        let waited = start.elapsed().as_nanos() as u64;
        self.waited_ns.fetch_add(waited, std::sync::atomic::Ordering::Relaxed);
        guard
    }
}

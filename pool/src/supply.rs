//! The slots without a connection, how many there may be with one, and how connecting goes.
//!
//! The accounts of a pool's size are kept here, under one lock that no checkout or checkin of a pool at rest takes:
//! whoever takes a vacant slot, gives one back or begins to close a connection books it.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use crate::error::ConnectError;
use crate::refusals::Refusals;
use crate::slot::Held;
use crate::sync::atomic::{AtomicBool, Ordering};

/// See the module.
pub(crate) struct Supply<E: Error + 'static> {
    vacant: Vec<Held>,
    /// Slots in all.
    capacity: usize,
    max_size: usize,
    /// Connections that are being closed, and those that are being detached.
    leaving: usize,
    /// Counts the purges, and wraps around: only whether two are equal matters.
    epoch: u32,
    /// Slots of earlier epochs that are neither vacant nor leaving.
    old: usize,
    pub(crate) connecting: usize,
    pub(crate) course: Course<E>,
    pub(crate) refusals: Refusals<E>,
    closed: bool,
    /// Whether the pool may grow, for those who do not want to take the lock. Written under it.
    has_room: Arc<AtomicBool>,
}

/// How connecting goes.
pub(crate) struct Course<E: Error + 'static> {
    /// Failures since the last success.
    pub(crate) failures: u32,
    /// When the first of those attempts began.
    pub(crate) failing_since: Option<Instant>,
    /// When the last attempt that succeeded did.
    pub(crate) succeeded_at: Option<Instant>,
    /// When the next attempt may begin.
    pub(crate) retry_at: Option<Instant>,
    pub(crate) last_failure: Option<Arc<ConnectError<E>>>,
    /// The last failure was one that trying again cannot mend.
    pub(crate) is_hopeless: bool,
    /// Callers are turned away: see [`breaker`](crate::breaker).
    pub(crate) is_open: bool,
    /// Since when.
    pub(crate) opened_at: Option<Instant>,
}

impl<E: Error + 'static> Default for Course<E> {
    fn default() -> Self {
        Self {
            failures: 0,
            failing_since: None,
            succeeded_at: None,
            retry_at: None,
            last_failure: None,
            is_hopeless: false,
            is_open: false,
            opened_at: None,
        }
    }
}

impl<E: Error + 'static> Supply<E> {
    pub(crate) fn new(rights: Vec<Held>, max_size: usize) -> Self {
        Self {
            capacity: rights.len(),
            vacant: rights,
            max_size,
            leaving: 0,
            epoch: 0,
            old: 0,
            connecting: 0,
            course: Course::default(),
            refusals: Refusals::default(),
            closed: false,
            has_room: Arc::new(AtomicBool::new(true)),
        }
    }

    pub(crate) fn has_room(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_room)
    }

    fn note_room(&self) {
        let has_room = !self.closed && self.size() < self.max_size;
        if self.has_room.load(Ordering::Relaxed) != has_room {
            self.has_room.store(has_room, Ordering::Relaxed);
        }
    }

    /// Why connecting fails at the moment; `None` when it does not.
    pub(crate) fn last_failure(&self) -> Option<&Arc<ConnectError<E>>> {
        self.course.last_failure.as_ref()
    }

    /// When the next attempt to connect may begin; `None`: now.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.course.retry_at.max(self.refusals.retry_at())
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.note_room();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Slots that are not vacant.
    fn size(&self) -> usize {
        self.capacity - self.vacant.len()
    }

    /// No more connections than this are idle: a bound that costs nothing, where counting looks at every slot.
    pub(crate) fn idle_at_most(&self) -> usize {
        self.size().saturating_sub(self.leaving + self.connecting)
    }

    /// Connections beyond `max_size`, not counting those that are being closed.
    pub(crate) fn surplus(&self) -> usize {
        (self.size() - self.leaving).saturating_sub(self.max_size)
    }

    /// Whether some connections must go instead of being lent again.
    pub(crate) fn must_retire(&self) -> bool {
        self.old > 0 || self.surplus() > 0
    }

    /// A vacant slot, if the pool may grow and is open.
    pub(crate) fn take_vacant(&mut self) -> Option<Held> {
        let taken = if self.closed || self.size() >= self.max_size { None } else { self.vacant.pop() };
        self.note_room();
        taken
    }

    /// Every vacant slot. For models.
    #[cfg(all(test, loom))]
    pub(crate) fn take_all(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.vacant)
    }

    /// A connection of that epoch will be closed or detached.
    pub(crate) fn begin_leaving(&mut self, epoch: u32) {
        self.leaving += 1;
        self.old -= usize::from(epoch != self.epoch);
    }

    /// It is gone.
    pub(crate) fn end_leaving(&mut self, held: Held) {
        self.leaving -= 1;
        self.vacant.push(held);
        self.note_room();
    }

    /// A slot taken in that epoch comes back without having had a connection.
    pub(crate) fn put_back(&mut self, held: Held, epoch: u32) {
        self.old -= usize::from(epoch != self.epoch);
        self.vacant.push(held);
        self.note_room();
    }

    /// A slot taken in that epoch is as good as taken now.
    pub(crate) fn renew(&mut self, epoch: u32) {
        self.old -= usize::from(epoch != self.epoch);
    }

    /// Whatever is open or being opened is old from now on.
    pub(crate) fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.old = self.size() - self.leaving;
    }

    pub(crate) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.note_room();
    }

    pub(crate) fn max_size(&self) -> usize {
        self.max_size
    }
}

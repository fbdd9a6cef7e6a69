//! Idle timeouts, as r2d2 means them: a connection that has been idle too long is closed even when `min_idle` asks for
//! another one in its place.

use std::io;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ::r2d2::ManageConnection;

use super::keeper::ticks_of;
use super::pool::Shared;
use crate::IdleSet;

/// The longest time between two looks at the ages: a connection is closed at most this long after its idle timeout.
const LONGEST_PERIOD: Duration = Duration::from_secs(30);
/// The shortest.
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);
/// Looks per idle timeout, where the limits allow.
const LOOKS_PER_TIMEOUT: u32 = 10;

/// Starts the thread that looks at the ages. It ends when the sender of `pool_gone` is dropped.
pub(super) fn start<M: ManageConnection, I: IdleSet>(
    pool: Weak<Shared<M, I>>,
    idle_timeout: Duration,
    pool_gone: Receiver<()>,
) -> io::Result<()> {
    let period = (idle_timeout / LOOKS_PER_TIMEOUT).clamp(SHORTEST_PERIOD, LONGEST_PERIOD);
    let limit = ticks_of(idle_timeout, period);
    let work = move || {
        while let Err(RecvTimeoutError::Timeout) = pool_gone.recv_timeout(period) {
            let Some(pool) = pool.upgrade() else { return };
            pool.reap(limit);
        }
    };
    thread::Builder::new().name("r2d2-reaper".to_owned()).spawn(work).map(drop)
}

impl<M: ManageConnection, I: IdleSet> Shared<M, I> {
    fn reap(&self, limit: u64) {
        let ages = &self.parts.ages;
        let tick = ages.advance();
        if !ages.any_due(tick, limit) {
            return;
        }
        // Only what is idle can be had without waiting. Whoever wants a connection in this instant waits for one that
        // goes back.
        let mut doomed = Vec::new();
        let mut kept = Vec::new();
        while let Ok(guard) = self.inner.try_get() {
            let is_due = guard.live.as_ref().is_some_and(|live| live.stamp.is_due(tick, limit));
            if is_due { &mut doomed } else { &mut kept }.push(guard);
        }
        drop(kept);
        for mut guard in doomed {
            if let Some(live) = guard.live.take() {
                self.parts.release(live);
            }
        }
    }
}

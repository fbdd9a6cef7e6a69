//! What concerns the whole pool, told in the order in which it happened.
//!
//! It happens under locks, and is told under none: foreign code listens. So it is queued where it happens, and whoever
//! has given up the lock tells what is queued, one thread at a time.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::Manager;
use crate::core::Core;
use crate::error::ConnectError;
use crate::events::Event;
use crate::foreign::{self, log};
use crate::idle::IdleSet;
use crate::sync::Mutex;

pub(crate) enum Notice<E: Error + 'static> {
    BreakerOpened { error: Arc<ConnectError<E>>, failing_for: Duration },
    BreakerClosed { open_for: Duration },
    Paused,
    Resumed,
}

/// See the module. Its lock comes after the supply's and before the line's.
pub(crate) struct Notices<E: Error + 'static>(Mutex<Queue<E>>);

struct Queue<E: Error + 'static> {
    untold: VecDeque<Notice<E>>,
    is_being_told: bool,
}

impl<E: Error + 'static> Default for Notices<E> {
    fn default() -> Self {
        Self(Mutex::new(Queue { untold: VecDeque::new(), is_being_told: false }))
    }
}

impl<E: Error + 'static> Notices<E> {
    pub(crate) fn add(&self, notice: Notice<E>) {
        self.0.lock().untold.push_back(notice);
    }

    /// Adds the notice if `happens` makes it happen.
    pub(crate) fn add_if(&self, happens: impl FnOnce() -> bool, notice: Notice<E>) {
        let mut queue = self.0.lock();
        if happens() {
            queue.untold.push_back(notice);
        }
    }

    /// The next to be told, by a thread that is telling already or by one that begins to.
    fn next(&self, is_telling: bool) -> Option<Notice<E>> {
        let mut queue = self.0.lock();
        if queue.is_being_told && !is_telling {
            return None;
        }
        let notice = queue.untold.pop_front();
        queue.is_being_told = notice.is_some();
        notice
    }
}

impl<M: Manager, I: IdleSet> Core<M, I> {
    /// Tells what has happened. Under no lock.
    pub(crate) fn tell_notices(&self) {
        let Some(mut notice) = self.notices.next(false) else { return };
        // From here on this thread is the one that tells, and nothing foreign ends that before the last is told.
        loop {
            self.tell(&notice);
            foreign::end(notice);
            let Some(next) = self.notices.next(true) else { return };
            notice = next;
        }
    }

    fn tell(&self, notice: &Notice<M::Error>) {
        let pool = &self.config.name;
        let event = match notice {
            Notice::BreakerOpened { error, failing_for } => {
                log!(warn, pool, %error, ?failing_for, "the breaker opens");
                Event::BreakerOpened { error: error.as_ref(), failing_for: *failing_for }
            }
            Notice::BreakerClosed { open_for } => {
                log!(info, pool, ?open_for, "the breaker closes");
                Event::BreakerClosed { open_for: *open_for }
            }
            Notice::Paused => {
                log!(info, pool, "paused");
                Event::Paused
            }
            Notice::Resumed => {
                log!(info, pool, "resumed");
                Event::Resumed
            }
        };
        self.emit(event);
    }
}

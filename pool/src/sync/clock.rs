//! The time under a model checker: it passes when a model says so.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::thread::{self, Thread};

// A checker runs all threads of a model on one thread of the system, so this is a model's own.
thread_local! {
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SLEEPERS: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + ELAPSED.get()
}

/// Says that this thread sleeps until a certain time.
pub(super) fn announce() -> Sleeping {
    let me = thread::current();
    SLEEPERS.with_borrow_mut(|sleepers| sleepers.push(me.clone()));
    Sleeping { me }
}

pub(super) struct Sleeping {
    me: Thread,
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        SLEEPERS.with_borrow_mut(|sleepers| sleepers.retain(|sleeper| sleeper.id() != self.me.id()));
    }
}

/// The beginning of a model's run.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) fn reset() {
    ELAPSED.set(Duration::ZERO);
    SLEEPERS.take();
}

/// Lets time pass. Everybody who sleeps until a certain time has a look at the clock.
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) fn advance(time: Duration) {
    ELAPSED.set(ELAPSED.get() + time);
    let sleepers = SLEEPERS.with_borrow(Vec::clone);
    sleepers.into_iter().for_each(|sleeper| sleeper.unpark());
}

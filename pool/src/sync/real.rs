//! The primitives of a real program: parking_lot's and std's.

pub(crate) use std::sync::atomic;
pub(crate) use std::thread;

use std::time::Instant;

pub(crate) use parking_lot::{Mutex, MutexGuard};

/// A condition variable whose waits end at an optional deadline.
#[derive(Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) fn wait_until<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        match deadline {
            Some(deadline) => drop(self.0.wait_until(&mut guard, deadline)),
            None => self.0.wait(&mut guard),
        }
        guard
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[inline]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Parks this thread until it is unparked, or `deadline` has passed, or for no reason at all.
pub(crate) fn park_until(deadline: Instant) {
    thread::park_timeout(deadline.saturating_duration_since(now()));
}

/// A cell whose owner is tracked by other means.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn get(&self) -> *mut T {
        self.0.get()
    }
}

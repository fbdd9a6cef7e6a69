//! The primitives as a model checker sees them, with parking_lot's face.

#[cfg(loom)]
pub(crate) use super::parking as thread;
#[cfg(loom)]
use loom::sync;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(shuttle)]
use shuttle::sync;
#[cfg(shuttle)]
pub(crate) use shuttle::{sync::atomic, thread};

use std::ops::{Deref, DerefMut};
use std::time::Instant;

/// parking_lot's face on the checker's mutex.
#[derive(Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        MutexGuard { mutex: self, inner: Some(inner) }
    }

    #[cfg(feature = "timing")]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|inner| MutexGuard { mutex: self, inner: Some(inner) })
    }
}

/// Knows its mutex, so that a condition variable can give it up and take it again.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    inner: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("locked while it exists")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("locked while it exists")
    }
}

/// Sleepers are parked; a park that ends early or for another reason is a spurious wake-up, which condition
/// variables may have. So a wait can be ended by the [`clock`](super::clock), which the checkers' own cannot.
#[derive(Default)]
pub(crate) struct Condvar {
    /// A plain mutex: it is never held where a checker could switch threads.
    sleepers: std::sync::Mutex<Vec<thread::Thread>>,
}

impl Condvar {
    pub(crate) fn wait_until<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, T> {
        let me = thread::current();
        let id = me.id();
        self.sleepers.lock().expect("no panic inside").push(me);
        // A sleeper before it unlocks: a notification from now on is not lost.
        guard.inner = None;
        match deadline {
            Some(deadline) => park_until(deadline),
            None => thread::park(),
        }
        self.sleepers.lock().expect("no panic inside").retain(|sleeper| sleeper.id() != id);
        guard.mutex.lock()
    }

    pub(crate) fn notify_one(&self) {
        let sleeper = self.sleepers.lock().expect("no panic inside").pop();
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
    }

    pub(crate) fn notify_all(&self) {
        let sleepers = std::mem::take(&mut *self.sleepers.lock().expect("no panic inside"));
        sleepers.into_iter().for_each(|sleeper| sleeper.unpark());
    }
}

pub(crate) use super::clock::now;

pub(crate) fn park_until(deadline: Instant) {
    // Nothing between the look at the clock and the announcement lets another thread run.
    if now() < deadline {
        let mine = super::clock::announce();
        thread::park();
        drop(mine);
    }
}

#[cfg(loom)]
pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);
#[cfg(shuttle)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    #[cfg(shuttle)]
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Each call is checked: it must be ordered after every earlier access by another thread.
    #[cfg(loom)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.with_mut(|pointer| pointer)
    }

    #[cfg(shuttle)]
    pub(crate) fn get(&self) -> *mut T {
        self.0.get()
    }
}

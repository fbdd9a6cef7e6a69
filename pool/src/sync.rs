//! The primitives the pool stands on: parking_lot and std, or their model-checked doubles.
//!
//! `--cfg loom` explores every order of a few operations (which orderings suffice), `--cfg shuttle` random schedules of
//! the whole pool (lost wake-ups, deadlocks). Under both, time stands still: [`now`] never advances, so nothing times
//! out and no waiter becomes overdue, which keeps schedules repeatable.

#[cfg(not(any(loom, shuttle)))]
mod real {
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
}

#[cfg(any(loom, shuttle))]
mod model {
    #[cfg(loom)]
    use loom::{sync, thread as model_thread};
    #[cfg(shuttle)]
    use shuttle::{sync, thread as model_thread};

    pub(crate) use model_thread as thread;
    pub(crate) use sync::MutexGuard;
    pub(crate) use sync::atomic;

    use std::sync::OnceLock;
    use std::time::Instant;

    /// parking_lot's face on the checker's mutex.
    #[derive(Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        #[cfg(feature = "timing")]
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// Waits never time out here: time stands still.
    pub(crate) struct Condvar(sync::Condvar);

    impl Default for Condvar {
        fn default() -> Self {
            Self(sync::Condvar::new())
        }
    }

    impl Condvar {
        pub(crate) fn wait_until<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _deadline: Option<Instant>,
        ) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    pub(crate) fn now() -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now)
    }

    pub(crate) fn park_until(_deadline: Instant) {
        thread::park();
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
}

#[cfg(any(loom, shuttle))]
pub(crate) use model::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::*;

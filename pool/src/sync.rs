//! The primitives the pool stands on: parking_lot and std, or their model-checked doubles.
//!
//! `--cfg loom` explores every order of a few operations (which orderings suffice), `--cfg shuttle` random schedules of
//! the whole pool (lost wake-ups, deadlocks). Under both, time stands still unless the model moves it, which keeps
//! schedules repeatable.

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
}

/// Threads whose parking works as std's does.
///
/// loom's own loses the token of an `unpark` that comes while the thread waits for a lock.
#[cfg(loom)]
pub(crate) mod parking {
    use std::fmt;
    use std::sync::Arc;

    use loom::sync::{Condvar, Mutex};

    pub(crate) use loom::thread::{Builder, yield_now};

    #[derive(Clone)]
    pub(crate) struct Thread {
        token: Arc<Token>,
    }

    #[derive(Default)]
    struct Token {
        is_there: Mutex<bool>,
        came: Condvar,
    }

    loom::thread_local! {
        static TOKEN: Arc<Token> = Arc::default();
    }

    pub(crate) fn current() -> Thread {
        Thread { token: TOKEN.with(Arc::clone) }
    }

    pub(crate) fn park() {
        let token = current().token;
        let mut is_there = token.is_there.lock().expect("no panic inside");
        while !*is_there {
            is_there = token.came.wait(is_there).expect("no panic inside");
        }
        *is_there = false;
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            *self.token.is_there.lock().expect("no panic inside") = true;
            self.token.came.notify_one();
        }

        pub(crate) fn id(&self) -> usize {
            Arc::as_ptr(&self.token).addr()
        }
    }

    impl fmt::Debug for Thread {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Thread({:#x})", self.id())
        }
    }
}

/// The time under a model checker: it passes when a model says so.
#[cfg(any(loom, shuttle))]
pub(crate) mod clock {
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
}

#[cfg(any(loom, shuttle))]
pub(crate) use model::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::*;

//! How the async contenders are driven from threads.
//!
//! The drivers pooled here block, so all contenders are used from threads. An async pool's future is polled on the
//! caller's own thread and, only if it has to wait, the thread parks until the future's waker unparks it. That is the
//! shortest way there is: no task is spawned, no other thread takes part in a cycle that does not wait, and the waker is
//! made once per thread. A runtime is entered, for the timers and tasks that some of these pools start; it has tokio's
//! default number of workers. What this does *not* show is an async pool's strength, waiting without a thread: the
//! suite `tasks` does.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::runtime::{EnterGuard, Runtime};

use crate::backend::Failure;

/// A pool and the runtime it needs. The pool goes first, so that what it spawned can end.
#[derive(Debug)]
pub struct Hosted<P> {
    /// The pool.
    pub pool: P,
    runtime: Runtime,
}

impl<P> Hosted<P> {
    /// Starts a runtime and builds the pool in it.
    ///
    /// # Errors
    ///
    /// When the runtime does not start, and when the pool cannot be built.
    pub fn build(build: impl AsyncFnOnce() -> Result<P, Failure>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .build()
            .map_err(|error| Failure::of("could not start a tokio runtime", error))?;
        let pool = runtime.block_on(build())?;
        Ok(Self { pool, runtime })
    }

    /// The pool and its runtime.
    pub fn into_parts(self) -> (P, Runtime) {
        (self.pool, self.runtime)
    }

    /// A thread's view of it.
    pub fn session(&self) -> Parked<'_, P> {
        Parked { pool: &self.pool, parker: Parker::new(), _entered: self.runtime.enter() }
    }
}

/// A thread that entered the runtime of an async pool.
#[derive(Debug)]
pub struct Parked<'a, P> {
    /// The pool.
    pub pool: &'a P,
    parker: Parker,
    _entered: EnterGuard<'a>,
}

impl<P> Parked<'_, P> {
    /// Runs `future` to its end on this thread.
    #[inline]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.parker.block_on(future)
    }
}

#[derive(Debug)]
struct Parker {
    token: Arc<Token>,
    waker: Waker,
}

#[derive(Debug)]
struct Token {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release pairs with the Acquire in `block_on`: what the waker's side did is seen by the next poll.
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Parker {
    fn new() -> Self {
        let token = Arc::new(Token { thread: thread::current(), is_woken: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&token));
        Self { token, waker }
    }

    #[inline]
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(&self.waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            // A wake-up that came before the park is not lost: `unpark` leaves a token behind.
            while !self.token.is_woken.swap(false, Ordering::Acquire) {
                thread::park();
            }
        }
    }
}

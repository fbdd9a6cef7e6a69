//! Futures polled by hand, without a runtime: a test sees each wake and decides what it leads to.

use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::support::EVENTUALLY;

/// A waker that counts.
#[derive(Default)]
pub struct Bell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    pub fn rings(&self) -> usize {
        *self.rings.lock().expect("no poison")
    }

    /// Waits until the bell has rung so many times in all.
    #[track_caller]
    pub fn wait_for(&self, rings: usize) {
        let rung = self.rings.lock().expect("no poison");
        let (rung, waited) = self.rung.wait_timeout_while(rung, EVENTUALLY, |rung| *rung < rings).expect("no poison");
        assert!(!waited.timed_out(), "{} of {rings} rings came within {EVENTUALLY:?}", *rung);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rings.lock().expect("no poison") += 1;
        self.rung.notify_all();
    }
}

/// A future, its waker, and nothing that polls it but the test.
pub struct Task<F> {
    future: Pin<Box<F>>,
    pub bell: Arc<Bell>,
}

impl<F: Future> Task<F> {
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), bell: Arc::default() }
    }

    /// A task that has been polled and has to wait.
    #[track_caller]
    pub fn waiting(future: F) -> Self {
        let mut task = Self::new(future);
        assert!(task.poll().is_pending(), "there was nothing to wait for");
        task
    }

    pub fn poll(&mut self) -> Poll<F::Output> {
        self.poll_with(&Waker::from(Arc::clone(&self.bell)))
    }

    pub fn poll_with(&mut self, waker: &Waker) -> Poll<F::Output> {
        self.future.as_mut().poll(&mut Context::from_waker(waker))
    }

    #[track_caller]
    pub fn expect_ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the task has to wait on"),
        }
    }

    /// Polls whenever the bell rings, until there is an answer.
    #[track_caller]
    pub fn finish(&mut self) -> F::Output {
        loop {
            let rings = self.bell.rings();
            if let Poll::Ready(output) = self.poll() {
                return output;
            }
            self.bell.wait_for(rings + 1);
        }
    }
}

/// Awaits a future on this thread.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    Task::new(future).finish()
}

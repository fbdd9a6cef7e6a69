//! A manager whose connections are numbers, and what models are run with.

#[cfg(loom)]
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

#[cfg(loom)]
use crate::Manager;
use crate::sync::thread::{self, Thread};

/// Connects at once and always.
#[cfg(loom)]
pub(super) struct Toy;

#[cfg(loom)]
impl Manager for Toy {
    type Connection = u32;
    type Error = Infallible;

    fn connect(&self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn is_valid(&self, _: &mut u32) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Wakes a task by unparking the thread that polls it.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(super) fn waker_of_this_thread() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Awaits a future on this thread of the model.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = waker_of_this_thread();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// Polls once and gives up.
pub(super) fn poll_and_drop<F: Future>(future: F) {
    let waker = waker_of_this_thread();
    drop(pin!(future).poll(&mut Context::from_waker(&waker)));
}

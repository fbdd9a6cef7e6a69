//! Waiting for a future on a thread that may block, up to a deadline.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The future's output; `None` once it is `deadline`. The future is polled at least once, and once more after the
/// deadline: what has arrived by then is not thrown away. Then it is dropped.
pub(crate) fn block_on_until<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        // Read before the poll, so that the last poll comes after the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if left.is_zero() {
            return None;
        }
        // Ends early without a reason at times; then the future is simply asked again.
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Poll;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::block_on_until;

    #[test]
    fn a_ready_future_needs_no_time() {
        assert_eq!(block_on_until(ready(7), Instant::now()), Some(7));
    }

    #[test]
    fn the_deadline_ends_the_wait_and_not_before_a_last_poll() {
        assert_eq!(block_on_until(pending::<()>(), Instant::now() + Duration::from_millis(5)), None);
        let deadline = Instant::now() + Duration::from_millis(20);
        let late = poll_fn(|_| if Instant::now() >= deadline { Poll::Ready(7) } else { Poll::Pending });
        assert_eq!(block_on_until(late, deadline), Some(7));
    }

    #[test]
    fn a_wake_from_another_thread_is_heard() {
        let mut polls = 0;
        let woken = poll_fn(|context| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::Pending
        });
        assert_eq!(block_on_until(woken, Instant::now() + Duration::from_secs(20)), Some(()));
    }
}

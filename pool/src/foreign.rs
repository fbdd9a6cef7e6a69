//! Code that is not ours: managers, hooks, executors' wakers, logs, the destructors of errors. What it panics of goes no
//! further than the call.
//!
//! A pool is between two states at many of these calls: a connection is in nobody's slot, a waiter out of the line. A panic
//! that ran through them would cost others their connections, or their answers.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use crate::error::{Call, CallError};

/// Logs an event with the pool's name. Subscribers are foreign code, and so is the `Display` of what is logged.
macro_rules! log {
    ($level:ident, $pool:expr, $($event:tt)*) => {
        $crate::foreign::survived(|| ::tracing::$level!(db.client.connection.pool.name = %$pool, $($event)*))
    };
}
pub(crate) use log;

/// What a call to foreign code came to.
pub(crate) fn caught<T, E: Error + 'static>(
    call: Call,
    body: impl FnOnce() -> Result<T, E>,
) -> Result<T, CallError<E>> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallError::Failed { call, source }),
        Err(panic) => Err(CallError::Panicked { call, message: panic_message(&*panic) }),
    }
}

/// The closure's answer, or `otherwise` if it panics.
pub(crate) fn caught_or<T>(otherwise: T, closure: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(closure)).unwrap_or(otherwise)
}

/// Runs what has no answer and nobody to tell: that it panicked has been said by the panic hook.
pub(crate) fn survived(body: impl FnOnce()) {
    caught_or((), body);
}

/// Runs what has no answer. What it panicked of, if it did.
pub(crate) fn caught_panic(body: impl FnOnce()) -> Option<String> {
    catch_unwind(AssertUnwindSafe(body)).err().map(|panic| panic_message(&*panic))
}

/// Wakes a task: an executor's code. Under no lock.
pub(crate) fn wake(waker: Waker) {
    // A model checker ends threads by unwinding them, and there a wake-up is a place where that happens.
    if cfg!(any(loom, shuttle)) {
        return waker.wake();
    }
    survived(|| waker.wake());
}

/// Ends something whose destructor is foreign. Under no lock.
pub(crate) fn end<T>(value: T) {
    survived(|| drop(value));
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a value that is no text".to_owned())
}

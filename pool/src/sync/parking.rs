//! Threads whose parking works as std's does.
//!
//! loom's own loses the token of an `unpark` that comes while the thread waits for a lock.

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

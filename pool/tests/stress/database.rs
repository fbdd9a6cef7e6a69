//! The database of the stress test: some of its calls fail or panic, and it notes what must not happen.

use std::fmt;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use pool::Manager;

/// What the database and the callers find wrong is counted, and judged at the end.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    /// Connections that exist as values, detached ones included.
    pub(crate) alive: AtomicUsize,
    pub(crate) opened: AtomicU64,
    pub(crate) two_holders: AtomicU64,
    pub(crate) starved: AtomicU64,
    pub(crate) wrong_sums: AtomicU64,
    /// Uses that callers made, and that connections counted.
    pub(crate) uses: AtomicU64,
    pub(crate) uses_counted: AtomicU64,
    pub(crate) calls: AtomicU64,
}

pub(crate) struct Database {
    pub(crate) ledger: Arc<Ledger>,
    /// One call in so many fails.
    pub(crate) trouble: u64,
}

pub(crate) struct Connection {
    pub(crate) in_use: AtomicBool,
    pub(crate) is_dirty: bool,
    pub(crate) is_broken: bool,
    /// It has left the pool once, and does not count as open any more.
    pub(crate) is_guest: bool,
    /// Plain on purpose.
    pub(crate) uses: u64,
    /// Hooks and validations that it went through; plain, too.
    pub(crate) hooked: u64,
    pub(crate) ledger: Arc<Ledger>,
}

#[derive(Debug)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl Connection {
    pub(crate) fn work(&mut self, work: impl FnOnce()) {
        self.uses += 1;
        self.alone(work);
    }

    pub(crate) fn alone(&self, work: impl FnOnce()) {
        if self.in_use.swap(true, Ordering::Relaxed) {
            self.ledger.two_holders.fetch_add(1, Ordering::Relaxed);
        }
        work();
        self.in_use.store(false, Ordering::Relaxed);
    }

    /// The connection will not be the pool's any more.
    pub(crate) fn leave(&mut self) {
        if !self.is_guest {
            self.ledger.open.fetch_sub(1, Ordering::Relaxed);
        }
        self.is_guest = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ledger.uses_counted.fetch_add(self.uses, Ordering::Relaxed);
        self.ledger.alive.fetch_sub(1, Ordering::Release);
    }
}

impl Ledger {
    /// Fails one call in `trouble`, panics more rarely.
    pub(crate) fn answer(&self, trouble: u64) -> Result<(), Refused> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match call {
            _ if call.is_multiple_of(trouble * 16) => panic_any(Refused),
            _ if call.is_multiple_of(trouble) => Err(Refused),
            _ => Ok(()),
        }
    }
}

impl Database {
    pub(crate) fn answer(&self) -> Result<(), Refused> {
        self.ledger.answer(self.trouble)
    }
}

impl Manager for Database {
    type Connection = Connection;
    type Error = Refused;

    fn connect(&self) -> Result<Connection, Refused> {
        struct Opening<'a>(&'a Ledger);
        impl Drop for Opening<'_> {
            fn drop(&mut self) {
                self.0.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let open = self.ledger.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.ledger.most_open.fetch_max(open, Ordering::Relaxed);
        let opening = Opening(&self.ledger);
        self.answer()?;
        std::mem::forget(opening);
        self.ledger.alive.fetch_add(1, Ordering::Relaxed);
        self.ledger.opened.fetch_add(1, Ordering::Relaxed);
        let ledger = Arc::clone(&self.ledger);
        Ok(Connection {
            in_use: AtomicBool::new(false),
            is_dirty: false,
            is_broken: false,
            is_guest: false,
            uses: 0,
            hooked: 0,
            ledger,
        })
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Refused> {
        connection.hooked += 1;
        connection.alone(thread::yield_now);
        self.answer()
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        connection.is_dirty
    }

    fn reset(&self, connection: &mut Connection) -> Result<(), Refused> {
        self.answer()?;
        connection.is_dirty = false;
        Ok(())
    }

    fn close(&self, mut connection: Connection) {
        connection.leave();
    }
}

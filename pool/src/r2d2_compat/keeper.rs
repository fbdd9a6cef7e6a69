//! What the pool underneath knows of an r2d2 manager: how to open a connection, and how to release one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use ::r2d2::{Extensions, ManageConnection};
use parking_lot::Mutex;

use super::Error;
use super::builder::Config;
use super::event::{AcquireEvent, ReleaseEvent};
use crate::Manager;

/// Numbers of connections, for events.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// What lies in a slot.
pub(super) struct Entry<C> {
    /// `None` once the connection was released while its slot was still held.
    pub(super) live: Option<Live<C>>,
}

/// An open connection and what belongs to it.
pub(super) struct Live<C> {
    pub(super) connection: C,
    pub(super) extensions: Extensions,
    pub(super) id: u64,
    opened: Instant,
}

/// What all handles of a pool, its connections and its threads share.
pub(super) struct Parts<M: ManageConnection> {
    pub(super) manager: M,
    pub(super) config: Config<M>,
    /// Why connecting or a check failed last; gone once connecting has succeeded, or somebody was told.
    last_error: Mutex<Option<String>>,
}

impl<M: ManageConnection> Parts<M> {
    pub(super) fn new(manager: M, config: Config<M>) -> Self {
        Self { manager, config, last_error: Mutex::new(None) }
    }

    /// What a caller is told in whose time there was no connection.
    pub(super) fn no_connection(&self) -> Error {
        Error(self.last_error.lock().take())
    }

    /// Notes an error and tells the handler.
    pub(super) fn handle(&self, error: M::Error) -> String {
        let text = error.to_string();
        *self.last_error.lock() = Some(text.clone());
        self.config.error_handler.handle_error(error);
        text
    }

    fn connect(&self) -> Result<Entry<M::Connection>, Error> {
        let customized = self.manager.connect().and_then(|mut connection| {
            self.config.connection_customizer.on_acquire(&mut connection)?;
            Ok(connection)
        });
        let connection = customized.map_err(|error| Error(Some(self.handle(error))))?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        if self.config.listens {
            self.config.event_handler.handle_acquire(AcquireEvent { id });
        }
        *self.last_error.lock() = None;
        let live = Live { connection, extensions: Extensions::new(), id, opened: Instant::now() };
        Ok(Entry { live: Some(live) })
    }

    /// The same. A panic is an error as good as any to whoever waits, and is the pool underneath's to count.
    fn connect_or_panic(&self) -> thread::Result<Result<Entry<M::Connection>, Error>> {
        catch_unwind(AssertUnwindSafe(|| self.connect())).inspect_err(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            *self.last_error.lock() =
                Some(format!("connect panicked: {}", text.unwrap_or("with a value that is no text")));
        })
    }

    /// Ends a connection: tells the event handler, then the customizer, which drops it.
    pub(super) fn release(&self, live: Live<M::Connection>) {
        if self.config.listens {
            let event = ReleaseEvent { id: live.id, age: live.opened.elapsed() };
            self.config.event_handler.handle_release(event);
        }
        self.config.connection_customizer.on_release(live.connection);
    }
}

/// The manager of the pool underneath.
pub(super) struct Keeper<M: ManageConnection>(pub(super) Arc<Parts<M>>);

impl<M: ManageConnection> Manager for Keeper<M> {
    type Connection = Entry<M::Connection>;
    type Error = Error;

    fn connect(&self) -> Result<Self::Connection, Error> {
        let connected = match &self.0.config.thread_pool {
            None => self.0.connect_or_panic(),
            Some(threads) => {
                let (answer, answered) = mpsc::channel();
                let parts = Arc::clone(&self.0);
                // We listen until there is an answer, so there is nobody to tell that nobody listens.
                threads.execute(move || drop(answer.send(parts.connect_or_panic())));
                answered.recv().unwrap_or_else(|_| Ok(Err(Error(Some("the thread pool is gone".to_owned())))))
            }
        };
        connected.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Asked as a keepalive alone, after `idle_timeout`: the pool underneath leaves `min_idle` connections open however
    /// long they are idle; r2d2 replaces them, too, and by default those are all. The checks of the checkout are the
    /// handle's.
    fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Error> {
        Err(Error(Some("idle for longer than idle_timeout".to_owned())))
    }

    /// The guard has asked the manager; what remains to be seen is whether it released the connection.
    fn has_broken(&self, entry: &mut Self::Connection) -> bool {
        entry.live.is_none()
    }

    fn close(&self, entry: Self::Connection) {
        if let Some(live) = entry.live {
            self.0.release(live);
        }
    }
}

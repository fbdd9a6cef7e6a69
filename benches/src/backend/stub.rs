//! A connection without a database: what remains is the pool.

use std::convert::Infallible;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use pool::Manager;

use super::{Backend, Gauge, Gauged, Reach};
use crate::contender::AsRaw;
use crate::contenders::r2d2::Plain;
use crate::units;

/// What the holder of a connection does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Gives it back at once.
    None,
    /// Computes for this long: the processor is busy.
    Work(Duration),
    /// Waits for this long, as for a server's answer: the processor is free.
    Query(Duration),
}

impl Hold {
    /// The hold in microseconds, for records.
    #[must_use]
    pub fn micros(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Work(time) | Self::Query(time) => u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The hold as a reader of a table wants it.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub fn label(self) -> String {
        let time = units::time(self.micros() as f64 * 1e3);
        match self {
            Self::None => "no hold".to_owned(),
            Self::Work(_) => format!("{time} of work"),
            Self::Query(_) => format!("{time} query"),
        }
    }
}

/// A pointer, as `mysql::Conn` is, to the count that proves it was used.
///
/// With the count in the handle itself, pools that move handles would load it whole right after a part was stored, and
/// pay for a stall of the processor that no driver's handle causes.
#[derive(Debug)]
pub struct StubConnection(Box<Usage>);

/// What a stub's handle points to.
///
/// On cache lines of its own, as a driver's state is by its size: connections that shared a line would contend for it
/// whatever the pool does.
#[derive(Debug)]
#[repr(align(128))]
struct Usage {
    uses: u64,
    total: Arc<AtomicU64>,
}

impl StubConnection {
    /// Tells it from all others that are open at the same time.
    #[must_use]
    pub fn identity(&self) -> usize {
        (&raw const *self.0).addr()
    }

    /// Uses the connection once.
    #[inline]
    pub fn hold(&mut self, hold: Hold) {
        // Opaque, or the floor's whole loop would become one addition.
        black_box(&mut *self.0).uses += 1;
        match hold {
            Hold::None => {}
            Hold::Work(time) => {
                let start = Instant::now();
                while start.elapsed() < time {
                    spin_loop();
                }
            }
            Hold::Query(time) => thread::sleep(time),
        }
    }
}

impl Drop for StubConnection {
    fn drop(&mut self) {
        self.0.total.fetch_add(self.0.uses, Relaxed);
    }
}

impl AsRaw<StubConnection> for StubConnection {
    #[inline]
    fn as_raw(&mut self) -> &mut StubConnection {
        self
    }
}

/// Opens connections at no cost and never finds one broken.
#[derive(Debug, Default)]
pub struct Stub {
    total: Arc<AtomicU64>,
}

impl Stub {
    /// A stub whose connections were never used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the connections that are closed by now had been used.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.total.load(Relaxed)
    }
}

/// The stub's manager.
#[derive(Debug)]
pub struct StubManager {
    total: Arc<AtomicU64>,
}

impl Manager for StubManager {
    type Connection = StubConnection;
    type Error = Infallible;

    fn connect(&self) -> Result<StubConnection, Infallible> {
        Ok(StubConnection(Box::new(Usage { uses: 0, total: Arc::clone(&self.total) })))
    }

    fn is_valid(&self, _: &mut StubConnection) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Reach for StubManager {}

impl Backend for Stub {
    type Raw = StubConnection;
    type Manager = StubManager;
    type R2d2 = Plain<StubManager>;

    fn name(&self) -> &'static str {
        "stub"
    }

    fn manager(&self, gauge: &Arc<Gauge>) -> Gauged<StubManager> {
        Gauged::new(StubManager { total: Arc::clone(&self.total) }, gauge)
    }

    fn r2d2_manager(&self, gauge: &Arc<Gauge>) -> Plain<StubManager> {
        Plain(self.manager(gauge))
    }
}

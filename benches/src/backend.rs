//! What is behind the pools: connections, and the count of how many there were at once.
//!
//! Every contender gets its connections from the same [`pool::Manager`], wrapped in [`Gauged`], so that they cost the
//! same and are counted the same. The two exceptions are those that bring their own way to connect because that is how
//! they are used: r2d2_mysql's manager (gauged, too) and the driver's own pool (counted on the server only).

pub mod mysql;
pub mod remote;
pub mod sqlite;
pub mod stub;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pool::Manager;

use crate::contender::{AsRaw, Visit};

/// The longest any contender waits for a connection. Ends a run whose database died.
pub const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a run could not go on: a message, since nobody acts on the kind.
#[derive(Debug, Clone)]
pub struct Failure(String);

impl Failure {
    /// A failure that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The failure of `phase`, with its cause.
    pub fn of(phase: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{phase}: {cause}"))
    }

    /// The failure of `phase` with everything that the error and its sources say, each text once.
    pub fn with_causes(phase: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        let mut text = format!("{phase}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self(text)
    }

    /// Whether it says `text`.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// The same failure, said to have happened during `phase`.
    #[must_use]
    pub fn during(self, phase: impl fmt::Display) -> Self {
        Self(format!("{phase}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}

// fast_pool asks for this one.
impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self(message.to_owned())
    }
}

/// Opening a connection without blocking, for the pools that connect on the threads of an async runtime.
///
/// The drivers here block, and so does this, unless a backend knows better: a stub that takes its time to connect must
/// not take the runtime's threads with it.
pub trait Reach: Manager {
    /// [`Manager::connect`] for a caller that awaits.
    fn reach(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send {
        async { self.connect() }
    }
}

impl Reach for pool::managers::mysql::MysqlManager {}

impl Reach for pool::managers::sqlite::SqliteManager {}

/// A database, or something in its place.
pub trait Backend: Sync {
    /// What a workload works on.
    type Raw: ?Sized + 'static;
    /// How the contenders connect.
    type Manager: Reach<Connection: AsRaw<Self::Raw> + Unpin>;
    /// How r2d2's users connect; the same manager where there is no crate for it.
    type R2d2: r2d2::ManageConnection<Connection: AsRaw<Self::Raw>>;

    /// The name in records.
    fn name(&self) -> &'static str;

    /// A manager that counts in `gauge`.
    fn manager(&self, gauge: &Arc<Gauge>) -> Gauged<Self::Manager>;

    /// r2d2's manager as its users have it, counting in `gauge`.
    fn r2d2_manager(&self, gauge: &Arc<Gauge>) -> Self::R2d2;

    /// Shows `visit` the driver's own pool, with its checks or without.
    ///
    /// # Errors
    ///
    /// When the driver has none, and when the visit fails.
    fn visit_driver_pool<V: Visit<Self::Raw>>(
        &self,
        _size: usize,
        _is_checked: bool,
        _visit: V,
    ) -> Result<V::Output, Failure> {
        Err(Failure::new(format!("{} has no pool of its own", self.name())))
    }
}

/// How many connections are open, and were at most.
///
/// Written when a connection opens or closes, never by a checkout, so it costs the measured cycles nothing.
#[derive(Debug, Default)]
pub struct Gauge {
    open: AtomicUsize,
    high: AtomicUsize,
    connects: AtomicU64,
}

impl Gauge {
    /// A gauge at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A connection was opened; it counts until the token is dropped.
    #[must_use]
    pub fn opened(self: &Arc<Self>) -> OpenToken {
        let open = self.open.fetch_add(1, Relaxed) + 1;
        self.high.fetch_max(open, Relaxed);
        self.connects.fetch_add(1, Relaxed);
        OpenToken(Arc::clone(self))
    }

    /// The most that were ever open at once.
    pub fn high_water(&self) -> usize {
        self.high.load(Relaxed)
    }

    /// How many were ever opened.
    pub fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    /// Waits until every connection is closed; pools may do that on other threads.
    ///
    /// # Errors
    ///
    /// When some are still open after five seconds.
    pub fn settle(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.open.load(Relaxed) > 0 {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{} connections were never closed", self.open.load(Relaxed))));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// An open connection's place in a [`Gauge`].
#[derive(Debug)]
pub struct OpenToken(Arc<Gauge>);

impl Drop for OpenToken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Counted<C> {
    /// The connection.
    pub connection: C,
    /// Its place in the gauge.
    pub token: OpenToken,
}

impl<R: ?Sized, C: AsRaw<R>> AsRaw<R> for Counted<C> {
    #[inline]
    fn as_raw(&mut self) -> &mut R {
        self.connection.as_raw()
    }
}

/// A manager whose connections are counted.
#[derive(Debug)]
pub struct Gauged<M> {
    manager: M,
    gauge: Arc<Gauge>,
}

impl<M> Gauged<M> {
    /// Counts `manager`'s connections in `gauge`.
    pub fn new(manager: M, gauge: &Arc<Gauge>) -> Self {
        Self { manager, gauge: Arc::clone(gauge) }
    }
}

impl<M: Manager> Gauged<M> {
    /// [`Manager::connect`] with the failure as a message.
    ///
    /// # Errors
    ///
    /// When the manager's fails.
    pub fn open(&self) -> Result<Counted<M::Connection>, Failure> {
        self.connect().map_err(|error| Failure::of("could not connect", error))
    }

    /// The check that our pools make at every checkout, for peers that have a place for one.
    ///
    /// # Errors
    ///
    /// When the connection does not look alive.
    #[inline]
    pub fn peek(&self, connection: &mut Counted<M::Connection>) -> Result<(), Failure> {
        if self.looks_alive(connection) { Ok(()) } else { Err(Failure::new("the connection was closed by its peer")) }
    }
}

impl<M: Reach> Gauged<M> {
    /// [`Reach::reach`] with the failure as a message.
    ///
    /// # Errors
    ///
    /// When the manager's fails.
    pub async fn reach(&self) -> Result<Counted<M::Connection>, Failure> {
        let connection = self.manager.reach().await.map_err(|error| Failure::of("could not connect", error))?;
        Ok(Counted { connection, token: self.gauge.opened() })
    }
}

impl<M: Manager> Manager for Gauged<M> {
    type Connection = Counted<M::Connection>;
    type Error = M::Error;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let connection = self.manager.connect()?;
        Ok(Counted { connection, token: self.gauge.opened() })
    }

    fn is_valid(&self, counted: &mut Self::Connection) -> Result<(), Self::Error> {
        self.manager.is_valid(&mut counted.connection)
    }

    #[inline]
    fn looks_alive(&self, counted: &mut Self::Connection) -> bool {
        self.manager.looks_alive(&mut counted.connection)
    }

    #[inline]
    fn has_broken(&self, counted: &mut Self::Connection) -> bool {
        self.manager.has_broken(&mut counted.connection)
    }

    fn is_fatal(&self, error: &Self::Error) -> bool {
        self.manager.is_fatal(error)
    }

    fn is_transient(&self, error: &Self::Error) -> bool {
        self.manager.is_transient(error)
    }

    #[inline]
    fn is_dirty(&self, counted: &mut Self::Connection) -> bool {
        self.manager.is_dirty(&mut counted.connection)
    }

    fn reset(&self, counted: &mut Self::Connection) -> Result<(), Self::Error> {
        self.manager.reset(&mut counted.connection)
    }

    fn close(&self, counted: Self::Connection) {
        let Counted { connection, token } = counted;
        self.manager.close(connection);
        drop(token);
    }
}

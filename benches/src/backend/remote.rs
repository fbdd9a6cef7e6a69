//! A stub at a distance: connecting and querying take time, and it can be gone for a while.
//!
//! It keeps a log of what happened to its connections, so that a scenario can say how many were opened, when, and how
//! often somebody tried in vain. A connection that was open when the database went is dead for ever, as a socket is.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pool::Manager;

use super::{Backend, Gauge, Gauged, Reach};
use crate::contender::AsRaw;
use crate::contenders::r2d2::Plain;

/// How far away it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Distance {
    /// How long a connect takes. An attempt in vain is refused at once.
    pub connect: Duration,
    /// How long a query takes.
    pub query: Duration,
}

/// What the database said when it was not there. Errors that carry their cause contain it.
pub const GONE: &str = "connection refused, the stub database is gone";
/// What a connection says that was open when the database went.
pub const LOST: &str = "connection lost, the stub database went away";

/// Why a connect or a query failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteError {
    /// The database is not there.
    Gone,
    /// It was not there since this connection was opened.
    Lost,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => GONE,
            Self::Lost => LOST,
        })
    }
}

impl Error for RemoteError {}

/// Something that happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// Somebody began to connect.
    Attempt,
    /// Somebody was refused.
    Refused,
    /// A connection was opened.
    Opened,
    /// A connection was closed.
    Closed,
}

/// The most incidents that are kept; a pool that connects in a tight loop must not take the machine's memory.
const MOST_INCIDENTS: usize = 4_000_000;

/// A database in place of one.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    distance: Distance,
    /// Even while it is there. It grows by one when it goes and when it comes back, so a connection that has another
    /// value than this is dead.
    life: AtomicU64,
    uses: AtomicU64,
    log: Mutex<Vec<(Instant, Incident)>>,
}

impl Remote {
    /// A database that is there.
    #[must_use]
    pub fn new(distance: Distance) -> Self {
        Self(Arc::new(Shared {
            distance,
            life: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            log: Mutex::new(Vec::with_capacity(1_024)),
        }))
    }

    /// The database goes, and all its connections are dead; or it comes back.
    pub fn set_gone(&self, is_gone: bool) {
        let life = self.0.life.load(SeqCst);
        if Shared::is_there(life) == is_gone {
            self.0.life.store(life + 1, SeqCst);
        }
    }

    /// Queries that were answered.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.0.uses.load(SeqCst)
    }

    /// Everything that happened to connections so far, in order.
    #[must_use]
    pub fn incidents(&self) -> Vec<(Instant, Incident)> {
        self.0.log.lock().clone()
    }

    /// How often `incident` happened until `until`.
    #[must_use]
    pub fn count(&self, incident: Incident, until: Instant) -> u64 {
        self.0.log.lock().iter().filter(|(at, kind)| *kind == incident && *at <= until).count() as u64
    }
}

impl Shared {
    fn is_there(life: u64) -> bool {
        life.is_multiple_of(2)
    }

    fn note(&self, incident: Incident) {
        let mut log = self.log.lock();
        if log.len() < MOST_INCIDENTS {
            log.push((Instant::now(), incident));
        }
    }

    /// An attempt to connect begins; the life of the database that it met.
    fn knock(&self) -> Result<u64, RemoteError> {
        self.note(Incident::Attempt);
        let life = self.life.load(SeqCst);
        if Self::is_there(life) { Ok(life) } else { Err(self.refuse()) }
    }

    /// The connect's time has passed.
    fn open(self: &Arc<Self>, life: u64) -> Result<RemoteConnection, RemoteError> {
        if self.life.load(SeqCst) != life {
            return Err(self.refuse());
        }
        self.note(Incident::Opened);
        Ok(RemoteConnection { shared: Arc::clone(self), life, opened_at: Instant::now() })
    }

    fn refuse(&self) -> RemoteError {
        self.note(Incident::Refused);
        RemoteError::Gone
    }
}

/// A connection to it.
#[derive(Debug)]
pub struct RemoteConnection {
    shared: Arc<Shared>,
    life: u64,
    opened_at: Instant,
}

impl RemoteConnection {
    /// Whether the database was there ever since.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.life.load(SeqCst) == self.life
    }

    /// When it was opened.
    #[must_use]
    pub fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// How long a query takes; the caller waits for so long in the way that suits it.
    #[must_use]
    pub fn query_time(&self) -> Duration {
        self.shared.distance.query
    }

    /// A query's answer, after its time.
    ///
    /// # Errors
    ///
    /// When the connection is dead.
    pub fn answer(&mut self) -> Result<(), RemoteError> {
        if !self.is_alive() {
            return Err(RemoteError::Lost);
        }
        self.shared.uses.fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Drop for RemoteConnection {
    fn drop(&mut self) {
        self.shared.note(Incident::Closed);
    }
}

impl AsRaw<RemoteConnection> for RemoteConnection {
    #[inline]
    fn as_raw(&mut self) -> &mut RemoteConnection {
        self
    }
}

/// Its manager.
#[derive(Debug)]
pub struct RemoteManager(Arc<Shared>);

impl Manager for RemoteManager {
    type Connection = RemoteConnection;
    type Error = RemoteError;

    fn connect(&self) -> Result<RemoteConnection, RemoteError> {
        let life = self.0.knock()?;
        thread::sleep(self.0.distance.connect);
        self.0.open(life)
    }

    fn is_valid(&self, connection: &mut RemoteConnection) -> Result<(), RemoteError> {
        if connection.is_alive() { Ok(()) } else { Err(RemoteError::Lost) }
    }

    fn looks_alive(&self, connection: &mut RemoteConnection) -> bool {
        connection.is_alive()
    }

    fn has_broken(&self, connection: &mut RemoteConnection) -> bool {
        !connection.is_alive()
    }
}

impl Reach for RemoteManager {
    async fn reach(&self) -> Result<RemoteConnection, RemoteError> {
        let life = self.0.knock()?;
        if !self.0.distance.connect.is_zero() {
            tokio::time::sleep(self.0.distance.connect).await;
        }
        self.0.open(life)
    }
}

impl Backend for Remote {
    type Raw = RemoteConnection;
    type Manager = RemoteManager;
    type R2d2 = Plain<RemoteManager>;

    fn name(&self) -> &'static str {
        "remote"
    }

    fn manager(&self, gauge: &Arc<Gauge>) -> Gauged<RemoteManager> {
        Gauged::new(RemoteManager(Arc::clone(&self.0)), gauge)
    }

    fn r2d2_manager(&self, gauge: &Arc<Gauge>) -> Plain<RemoteManager> {
        Plain(self.manager(gauge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Distance = Distance { connect: Duration::ZERO, query: Duration::ZERO };

    #[test]
    fn a_connection_is_dead_after_an_outage_and_a_new_one_is_not() {
        let remote = Remote::new(NEAR);
        let manager = remote.manager(&Gauge::new());
        let mut old = manager.connect().unwrap();
        assert_eq!(old.connection.answer(), Ok(()));
        remote.set_gone(true);
        assert_eq!(old.connection.answer(), Err(RemoteError::Lost));
        assert_eq!(manager.connect().unwrap_err(), RemoteError::Gone);
        remote.set_gone(true); // it is already
        remote.set_gone(false);
        assert_eq!(old.connection.answer(), Err(RemoteError::Lost), "it stays dead");
        assert_eq!(manager.connect().unwrap().connection.answer(), Ok(()));
        assert_eq!(remote.uses(), 2);
    }

    #[test]
    fn the_log_has_every_incident_in_order() {
        let remote = Remote::new(NEAR);
        let manager = remote.manager(&Gauge::new());
        drop(manager.connect().unwrap());
        remote.set_gone(true);
        assert!(manager.connect().is_err());
        let kinds: Vec<Incident> = remote.incidents().into_iter().map(|(_, kind)| kind).collect();
        use Incident::{Attempt, Closed, Opened, Refused};
        assert_eq!(kinds, [Attempt, Opened, Closed, Attempt, Refused]);
        assert_eq!(remote.count(Attempt, Instant::now()), 2);
    }
}

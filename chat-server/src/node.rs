//! One node: everything that its sessions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};

use crate::auth::Auth;
use crate::bus::Bus;
use crate::config::Config;
use crate::delivery::Members;
use crate::hub::{Hub, Shared};
use crate::limits::{Admission, Limiter, Rate, Source};
use crate::metrics::Metrics;
use crate::outbox::QueueLimits;
use crate::presence::Directory;
use crate::store::{NodeLease, SessionId, Store};

/// Healing reads at once, for each connection to the database. The store puts several into one statement, so there may be more
/// of them than connections.
const HEALS_PER_CONNECTION: usize = 4;

/// Presence news that are worked on at once, and that may wait for it.
pub(crate) const NEWS: usize = 1024;

/// A node of the cluster.
pub struct Node {
    /// What it was told.
    pub config: Config,
    /// Its name.
    pub name: String,
    /// Its number, and which start of it this is.
    pub lease: NodeLease,
    /// What its sessions have in common.
    pub shared: Arc<Shared>,
    /// Its sessions.
    pub hub: Hub,
    /// Its link to the others.
    pub bus: Bus,
    /// Its connections' places.
    pub admission: Arc<Admission>,
    pub(crate) auth: Auth,
    pub(crate) directory: Directory,
    pub(crate) members: Members,
    pub(crate) logins_of_account_from: Limiter<(String, Source)>,
    pub(crate) logins_of_account: Limiter<String>,
    pub(crate) logins_from: Limiter<Source>,
    pub(crate) registrations_from: Limiter<Source>,
    pub(crate) heals: Semaphore,
    /// All sessions are about to be healed.
    pub(crate) heals_all_soon: AtomicBool,
    pub(crate) news: Arc<Semaphore>,
    next_session: AtomicU64,
    is_draining: AtomicBool,
    /// Set when another start of this node has taken over.
    is_replaced: AtomicBool,
    pub(crate) replaced: Notify,
}

impl Node {
    /// A node that holds this lease and this link.
    pub(crate) fn new(config: Config, name: String, lease: NodeLease, store: Store, auth: Auth, bus: Bus) -> Arc<Self> {
        let minute = Duration::from_secs(60);
        let limits = QueueLimits {
            frames: config.queue_frames,
            bytes: config.queue_bytes,
            original_spacing: Duration::from_millis(config.original_spacing_ms),
        };
        let start = Instant::now();
        let shared = Arc::new(Shared { limits, store, metrics: Metrics::default(), start });
        let cache = Duration::from_millis(config.cache_ms);
        Arc::new(Self {
            name,
            lease,
            shared,
            hub: Hub::default(),
            bus,
            admission: Admission::new(config.max_connections, config.max_connections_per_address),
            auth,
            directory: Directory::new(cache, start + Duration::from_millis(config.lease_ms)),
            members: Members::new(cache),
            logins_of_account_from: Limiter::new(Rate::new(
                config.logins_per_account_and_address_per_min,
                minute,
                config.logins_per_account_and_address_burst,
            )),
            logins_of_account: Limiter::new(Rate::new(
                config.logins_per_account_per_min,
                minute,
                config.logins_per_account_burst,
            )),
            logins_from: Limiter::new(Rate::new(
                config.logins_per_address_per_min,
                minute,
                config.logins_per_address_burst,
            )),
            registrations_from: Limiter::new(Rate::new(
                config.registrations_per_address_per_min,
                minute,
                config.registrations_per_address_burst,
            )),
            heals: Semaphore::new(config.pool_size.saturating_mul(HEALS_PER_CONNECTION).min(Semaphore::MAX_PERMITS)),
            heals_all_soon: AtomicBool::new(false),
            news: Arc::new(Semaphore::new(NEWS)),
            next_session: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
            replaced: Notify::new(),
            config,
        })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether it is about to stop.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether another start of this node, or another node of its name, has taken over.
    pub fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Relaxed)
    }

    pub(crate) fn set_replaced(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
        self.replaced.notify_one();
    }

    /// Why this node should get no new clients; `None`: it should.
    pub fn unready(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("draining")
        } else if self.is_replaced() {
            Some("another node has this node's name")
        } else if self.directory.is_fenced() {
            Some("the lease could not be renewed: the database is not reachable")
        } else if !self.bus.is_up() {
            Some("the bus is down")
        } else if self.directory.is_deaf() {
            Some("the bus does not answer")
        } else {
            None
        }
    }
}

/// Milliseconds since 1970, by this machine's clock.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number from 0 to `below`, to spread things in time; of no use for secrets.
pub(crate) fn jitter(below: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8).checked_rem(below).unwrap_or(0)
}

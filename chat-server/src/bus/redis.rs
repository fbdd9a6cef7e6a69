//! The bus over Redis: publish and subscribe.
//!
//! A node subscribes to two channels, its own and the one for all, over one connection, and publishes over another, so that
//! what comes in does not delay what goes out. What is to be published waits in a bounded queue and leaves it in batches, one
//! on its way at a time: one round trip for as many as came meanwhile, and their order is kept. Lists of messages for the same
//! node become one payload.
//!
//! The two connections are one [link](self). It is established as a whole and thrown away as a whole, whatever happens to a
//! part of it: a connection that breaks, a batch that is not answered in time, a channel that Redis takes away, the server's
//! wish. A new one is made until that works, with bounded random delays, and the server is told of the gap when both
//! channels are subscribed. Redis forgets what nobody listened to, so whatever is to be sent while there is no link is
//! dropped and counted.
//!
//! When Redis is a cluster, which it says itself, the channels are sharded ones (`SPUBLISH`, `SSUBSCRIBE`; Redis 7 or
//! newer), so that nodes of Redis share the work. While one of its shards is down no link is made.
//!
//! The number of the database in the URL, which means nothing to publish and subscribe, becomes part of the channels' names:
//! clusters that share a Redis use different ones.

mod dial;
mod inbox;
mod keeper;
mod outgoing;
mod parcels;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::warn;

use self::dial::Dialler;
use self::inbox::Inbox;
use self::outgoing::{Channel, Outgoing, Room};
use super::{BusError, BusEvents, BusStats, EVENTS, SEND_TIMEOUT};
use crate::client::Backoff;
use crate::store::NodeId;

/// Payloads that may wait to be published. Beyond it they are dropped, and the server is told of a gap.
pub const QUEUE: usize = 16 * 1024;

/// Bytes of payloads that may wait to be published. Beyond it they are dropped, and the server is told of a gap.
pub const QUEUE_BYTES: usize = 32 << 20;

/// Bytes of payloads that came in and that the server has not looked at yet. Beyond it they are dropped, and the server is
/// told of a gap.
pub const EVENT_BYTES: usize = 32 << 20;

/// Payloads that are published with one round trip.
pub const MAX_BATCH: usize = 256;

/// How long one connection to Redis may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long Redis may take to answer. Beyond it the link is thrown away.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a whole link may take: names looked up, connections, subscriptions.
pub const LINK_TIMEOUT: Duration = Duration::from_secs(8);

/// The delays between attempts to make a link. A link that lasts longer than the longest of them starts anew.
pub const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2) };

/// What lies between two gaps at least: each makes nodes read the store.
pub const GAP_INTERVAL: Duration = Duration::from_millis(500);

/// Why there can be no bus over this Redis, however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisBusError {
    /// The URL.
    #[error("not a URL of a Redis: {0}")]
    Url(String),
    /// Redis does not let us in, or not do what is needed.
    #[error("Redis at {place} refuses: {problem}")]
    Refused {
        /// Host and port.
        place: String,
        /// What it says.
        problem: String,
    },
    /// Redis cannot do what is needed.
    #[error("Redis at {place} cannot be used: {problem}")]
    Unusable {
        /// Host and port.
        place: String,
        /// What it lacks.
        problem: String,
    },
}

/// A node's link to Redis. It ends with its last handle.
#[derive(Clone)]
pub struct RedisLink {
    inner: Arc<Inner>,
    queue: mpsc::Sender<Outgoing>,
}

/// What handles and the keeper share.
struct Inner {
    inbox: Arc<Inbox>,
    room: Room,
    is_up: AtomicBool,
    /// The present link's; `None`: there is no link. `is_up` changes under its lock.
    alarm: Mutex<Option<Arc<Alarm>>>,
    sent: AtomicU64,
    dropped: AtomicU64,
    connects: AtomicU64,
}

/// What ends a link.
#[derive(Default)]
struct Alarm {
    reason: Mutex<Option<&'static str>>,
    rung: Notify,
}

impl Alarm {
    /// The first reason counts.
    fn ring(&self, reason: &'static str) {
        self.reason.lock().get_or_insert(reason);
        self.rung.notify_one();
    }

    /// Waits until it rings, and says why.
    async fn wait(&self) -> &'static str {
        self.rung.notified().await;
        self.reason.lock().unwrap_or("unknown")
    }
}

impl RedisLink {
    /// Links a node to the Redis at `url`: `redis://user:password@host:port/number`. If Redis cannot be reached now, the link
    /// is not [up](super::Bus::is_up), and is tried again for ever.
    ///
    /// Must be called in a tokio runtime, whose task the link becomes.
    ///
    /// # Errors
    ///
    /// When trying again would not help: a malformed URL, a wrong password, a user without the rights, a Redis that is too
    /// old.
    pub async fn open(url: &str, node: NodeId) -> Result<(Self, BusEvents), RedisBusError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let inbox = Arc::new(Inbox::new(sender));
        let dialler = Dialler::new(url, node, Arc::clone(&inbox))?;
        let first = match dialler.dial().await {
            Ok(link) => Some(link),
            Err(failure) => {
                if let Some(error) = failure.hopeless(dialler.place()) {
                    return Err(error);
                }
                warn!(redis = dialler.place(), error = %failure, "the bus is not linked; trying again for ever");
                None
            }
        };
        let inner = Arc::new(Inner {
            inbox,
            room: Room::new(QUEUE_BYTES),
            is_up: AtomicBool::new(false),
            alarm: Mutex::new(None),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            connects: AtomicU64::new(0),
        });
        if let Some(link) = &first {
            inner.goes_up(link.alarm());
        }
        let (queue, outgoing) = mpsc::channel(QUEUE);
        tokio::spawn(keeper::keep(Arc::clone(&inner), dialler, first, outgoing));
        Ok((Self { inner, queue }, events))
    }

    pub(super) fn hint(&self, node: NodeId, payload: Bytes) -> bool {
        self.enqueue(Channel::Node(node), payload, None).is_ok()
    }

    pub(super) async fn send(&self, node: NodeId, payload: Bytes) -> Result<bool, BusError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(Channel::Node(node), payload, Some(answer))?;
        match tokio::time::timeout(SEND_TIMEOUT, answered).await {
            Ok(Ok(result)) => result,
            // It was dropped, for the link was lost.
            Ok(Err(_)) => Err(BusError::Down),
            Err(_) => Err(BusError::TimedOut),
        }
    }

    pub(super) fn broadcast(&self, payload: Bytes) {
        let _ = self.enqueue(Channel::All, payload, None);
    }

    fn enqueue(
        &self,
        channel: Channel,
        payload: Bytes,
        answer: Option<oneshot::Sender<Result<bool, BusError>>>,
    ) -> Result<(), BusError> {
        self.inner.sent.fetch_add(1, Ordering::Relaxed);
        if !self.is_up() {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(BusError::Down);
        }
        let taken = self.inner.room.take(payload.len()).is_some_and(|place| {
            let outgoing = Outgoing { channel, payload, answer, _place: place };
            self.queue.try_send(outgoing).is_ok()
        });
        if taken {
            return Ok(());
        }
        self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        self.inner.inbox.gap();
        Err(BusError::Full)
    }

    pub(super) fn is_up(&self) -> bool {
        self.inner.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn reconnect(&self) {
        if let Some(alarm) = self.inner.put_down() {
            alarm.ring("it does not answer probes");
        }
    }

    pub(super) fn stats(&self) -> BusStats {
        BusStats {
            sent: self.inner.sent.load(Ordering::Relaxed),
            received: self.inner.inbox.received(),
            dropped: self.inner.dropped.load(Ordering::Relaxed) + self.inner.inbox.dropped(),
            connects: self.inner.connects.load(Ordering::Relaxed),
            queued: self.queue.max_capacity() - self.queue.capacity(),
        }
    }
}

impl Inner {
    /// Both channels are subscribed.
    fn goes_up(&self, alarm: &Arc<Alarm>) {
        self.connects.fetch_add(1, Ordering::Relaxed);
        {
            let mut present = self.alarm.lock();
            *present = Some(Arc::clone(alarm));
            self.is_up.store(true, Ordering::Relaxed);
        }
        // Only now: what the server does about it includes sending.
        self.inbox.gap();
    }

    fn goes_down(&self) {
        self.put_down();
        self.inbox.down();
    }

    /// From here on nothing more is taken for the present link. Returns its alarm, if there is one.
    fn put_down(&self) -> Option<Arc<Alarm>> {
        let mut present = self.alarm.lock();
        self.is_up.store(false, Ordering::Relaxed);
        present.take()
    }

    /// Gives up payloads that were not published, or not known to be.
    fn lose(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Why a link could not be made this time.
#[derive(Debug)]
enum Failure {
    Redis(RedisError),
    /// Nothing within [`LINK_TIMEOUT`].
    TooSlow,
    /// It lacks something.
    Lacks(String),
}

impl Failure {
    /// The error, if trying again would not help.
    fn hopeless(&self, place: &str) -> Option<RedisBusError> {
        let place = place.to_owned();
        let error = match self {
            Self::Redis(error) => error,
            Self::TooSlow => return None,
            Self::Lacks(problem) => return Some(RedisBusError::Unusable { place, problem: problem.clone() }),
        };
        match error.kind() {
            ErrorKind::RESP3NotSupported => {
                Some(RedisBusError::Unusable { place, problem: "it is older than version 6".into() })
            }
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Some(RedisBusError::Refused { place, problem: error.to_string() })
            }
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                Some(RedisBusError::Refused { place, problem: error.to_string() })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(error) => write!(f, "{error}"),
            Self::TooSlow => f.write_str("it did not answer in time"),
            Self::Lacks(problem) => f.write_str(problem),
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

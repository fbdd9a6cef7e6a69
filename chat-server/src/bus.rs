//! The bus: how nodes tell each other what just happened.
//!
//! # The contract
//!
//! What travels here are **hints**. None is the only copy of anything that was acknowledged: messages are in the store before
//! they are hinted, claims are in the directory. So a bus may lose, and may repeat, whatever it carries; it must only not
//! be silent about it. Every implementation promises:
//!
//! 1. A node has a channel of its own, named by its [`NodeId`], and there is one channel for all nodes. A payload sent to a
//!    channel comes out, as [`BusEvent::Payload`], at every node that listens at that moment: in the order in which one
//!    sender sent it, as often as it pleases (once, normally), late or never when something fails.
//! 2. [`BusEvent::Gap`] comes after whatever may have lost payloads is over: when the link has been established, when it
//!    was established again **and both channels are subscribed again**, and when payloads had to be dropped because a queue
//!    was full, in either direction. The server then reads from the store what it may have missed, and tells the other
//!    nodes that it listens again, which do the same. The first event of a bus is a gap.
//! 3. [`BusEvent::Down`] comes when the link is lost. Reconnecting is the bus's own business, for ever, with bounded delays.
//! 4. Nothing here waits for the network except [`Bus::send`], and that only for its timeout. What is to be sent waits in a
//!    bounded queue; when it is full the payload is dropped and counted. Incoming payloads wait in the bounded queue of
//!    [`EVENTS`].
//! 5. [`Bus::reconnect`] throws the link away and makes a new one, even if it looks healthy. The server calls it when a
//!    probe that it sent to its own channel did not come back: a link can be alive and deaf.
//!
//! | bus | for |
//! |---|---|
//! | [`local`] | a single node, and several nodes in one process (tests) |
//! | [`redis`] | nodes of a cluster |

pub mod local;
pub mod redis;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::protocol::event::Delivery;
use crate::store::NodeId;

/// Events that may wait for the server. Beyond it the bus drops payloads and reports a [`BusEvent::Gap`].
pub const EVENTS: usize = 16 * 1024;

/// How long [`Bus::send`] waits for the bus at most.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// A node's link to the others.
#[derive(Clone)]
#[non_exhaustive]
pub enum Bus {
    /// Within this process.
    Local(local::LocalLink),
    /// Over Redis.
    Redis(redis::RedisLink),
}

/// What a bus reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// Something came in, on this node's channel or on the one for all.
    Payload(Bytes),
    /// From here on nothing is lost; before, something may have been.
    Gap,
    /// The link is lost.
    Down,
}

/// The receiving end of a bus.
pub type BusEvents = mpsc::Receiver<BusEvent>;

/// Why [`Bus::send`] does not know that anybody took the payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The link is down.
    #[error("the bus is down")]
    Down,
    /// Too much is waiting to be sent.
    #[error("too much is waiting to be sent on the bus")]
    Full,
    /// No answer within [`SEND_TIMEOUT`].
    #[error("the bus did not answer in time")]
    TimedOut,
    /// The bus failed.
    #[error("the bus failed: {0}")]
    Failed(String),
}

/// What a bus has done so far. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BusStats {
    /// Payloads handed to the bus.
    pub sent: u64,
    /// Payloads that came in.
    pub received: u64,
    /// Payloads dropped because a queue was full or the link was down, in either direction.
    pub dropped: u64,
    /// How often the link was established.
    pub connects: u64,
    /// Payloads that wait to be sent.
    pub queued: usize,
}

impl Bus {
    /// Its name, for logs and stats.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Redis(_) => "redis",
        }
    }

    /// Sends to a node's channel, without waiting and without knowing whether it arrives. Returns whether it was taken.
    pub fn hint(&self, node: NodeId, payload: Bytes) -> bool {
        match self {
            Self::Local(link) => link.hint(node, payload),
            Self::Redis(link) => link.hint(node, payload),
        }
    }

    /// Sends to a node's channel and returns whether a node took it there; `false`: nobody listens.
    ///
    /// # Errors
    ///
    /// [`BusError`]: not known.
    pub async fn send(&self, node: NodeId, payload: Bytes) -> Result<bool, BusError> {
        match self {
            Self::Local(link) => Ok(link.hint(node, payload)),
            Self::Redis(link) => link.send(node, payload).await,
        }
    }

    /// Sends to all nodes, this one included, as [`hint`](Self::hint) does.
    pub fn broadcast(&self, payload: Bytes) {
        match self {
            Self::Local(link) => link.broadcast(&payload),
            Self::Redis(link) => link.broadcast(payload),
        }
    }

    /// Whether the link is there and both channels are subscribed, as far as is known.
    pub fn is_up(&self) -> bool {
        match self {
            Self::Local(link) => link.is_up(),
            Self::Redis(link) => link.is_up(),
        }
    }

    /// Whether a node may be at the other end. `false`: it is not, whether the link is up or not.
    pub fn may_reach(&self, node: NodeId) -> bool {
        match self {
            Self::Local(link) => link.may_reach(node),
            // Which nodes are linked to a Redis is known to Redis alone.
            Self::Redis(_) => true,
        }
    }

    /// Makes a new link in place of the present one.
    pub fn reconnect(&self) {
        match self {
            Self::Local(link) => link.reconnect(),
            Self::Redis(link) => link.reconnect(),
        }
    }

    /// What it has done so far.
    pub fn stats(&self) -> BusStats {
        match self {
            Self::Local(link) => link.stats(),
            Self::Redis(link) => link.stats(),
        }
    }
}

/// Bytes of texts that are put together into one payload. A single message may be larger.
pub const DELIVER_BYTES: usize = 64 * 1024;

/// A message and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressed {
    /// The users that the sender believes to be on the receiving node.
    pub to: Vec<u32>,
    /// The message; with a sequence if it is stored.
    pub message: Delivery,
}

/// What nodes tell each other. The payload of a channel is one of these as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BusMessage {
    /// Messages for users, in their order.
    Deliver(Vec<Addressed>),
    /// A push other than a message, for the modern clients among these users.
    Push {
        /// The users.
        to: Vec<u32>,
        /// The frame, newline included.
        frame: String,
    },
    /// A user's session ended here because it began elsewhere.
    Displace {
        /// The user.
        user: u32,
        /// The session on the receiving node,
        session: u64,
        /// in this start of it.
        incarnation: u64,
    },
    /// A user came, went or moved: what nodes remember of him is out of date.
    Moved {
        /// The user.
        user: u32,
    },
    /// A group's members changed: what nodes remember of them is out of date.
    Regrouped {
        /// The group.
        group: u32,
    },
    /// A node listens and speaks, from now on or again; what it had to say before may have been lost, and what others remember of
    /// where its users are may be wrong.
    Joined {
        /// The node.
        node: u32,
    },
    /// A node listens for itself.
    Probe {
        /// The node.
        node: u32,
        /// Which probe.
        number: u64,
    },
}

impl BusMessage {
    /// The payload.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("strings and numbers are always JSON").into()
    }

    /// The message in a payload; `None` if it is none that this version knows.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// What a list of messages begins and ends with, as [`BusMessage::encode`] writes it.
const LIST: (&[u8], &[u8]) = (b"{\"deliver\":[", b"]}");

/// The inside of a payload that is a list of messages for users; `None`: it is something else.
pub(crate) fn messages_in(payload: &[u8]) -> Option<&[u8]> {
    payload.strip_prefix(LIST.0)?.strip_suffix(LIST.1).filter(|inside| !inside.is_empty())
}

/// One payload of several that are lists of messages; one alone, of whatever kind, stays as it is.
pub(crate) fn joined(payloads: &[Bytes]) -> Bytes {
    if let [alone] = payloads {
        return alone.clone();
    }
    let mut text = Vec::with_capacity(payloads.iter().map(Bytes::len).sum());
    text.extend_from_slice(LIST.0);
    for (at, inside) in payloads.iter().filter_map(|payload| messages_in(payload)).enumerate() {
        text.extend_from_slice(if at == 0 { b"" } else { b"," });
        text.extend_from_slice(inside);
    }
    text.extend_from_slice(LIST.1);
    text.into()
}

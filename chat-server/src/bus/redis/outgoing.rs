//! What waits to be published, and for how many bytes of it there is room.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::bus::BusError;
use crate::store::NodeId;

/// What a payload costs beside its bytes, roughly: its place in a queue.
const OVERHEAD: usize = 128;

/// Where a payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Channel {
    /// To one node.
    Node(NodeId),
    /// To all.
    All,
}

/// The last part of the channel's name in Redis.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node:{}", node.0),
            Self::All => f.write_str("all"),
        }
    }
}

/// A payload on its way out. Dropped, it tells whoever waits for an answer that there is none.
pub(super) struct Outgoing {
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) answer: Option<oneshot::Sender<Result<bool, BusError>>>,
    pub(super) _place: Place,
}

/// A bound of bytes.
#[derive(Debug)]
pub(super) struct Room {
    max: usize,
    taken: Arc<AtomicUsize>,
}

/// A part of the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

impl Room {
    pub(super) fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// A place for so many bytes; `None`: there is no room.
    pub(super) fn take(&self, bytes: usize) -> Option<Place> {
        let bytes = bytes + OVERHEAD;
        let place = Place { bytes, taken: Arc::clone(&self.taken) };
        // What does not fit is given back by the place's end.
        (self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_much_and_again_when_it_is_given_back() {
        let room = Room::new(2 * (100 + OVERHEAD));
        let first = room.take(100).expect("it is empty");
        let second = room.take(100).expect("there is as much again");
        assert!(room.take(0).is_none() && room.take(usize::MAX / 4).is_none());
        drop(first);
        let third = room.take(100).expect("what was refused took nothing");
        drop((second, third));
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }
}

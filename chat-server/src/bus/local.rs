//! The bus within one process: a table of the nodes and their queues.
//!
//! A single node uses it to talk to nobody. Several nodes of one test process share one, and a test may cut a node off to
//! see what the others do about it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{BusEvent, BusEvents, BusStats, EVENTS};
use crate::store::NodeId;

/// What the nodes of one process have in common.
#[derive(Clone, Default)]
pub struct LocalBus {
    nodes: Arc<Mutex<HashMap<NodeId, Node>>>,
}

struct Node {
    events: mpsc::Sender<BusEvent>,
    /// Which link it is: a node that registers again replaces the former link.
    link: u64,
    /// Nothing reaches it, and nothing it sends reaches others.
    is_cut: bool,
    /// Something was dropped, and the gap is not reported yet.
    has_gap: bool,
}

/// One node's link.
#[derive(Clone)]
pub struct LocalLink {
    bus: LocalBus,
    node: NodeId,
    end: Arc<End>,
}

/// Ends the link with its last handle.
struct End {
    bus: LocalBus,
    node: NodeId,
    link: u64,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
}

impl LocalBus {
    /// A bus with no nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Links a node; an earlier link of the same node ends.
    pub fn link(&self, node: NodeId) -> (LocalLink, BusEvents) {
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let (sender, events) = mpsc::channel(EVENTS);
        sender.try_send(BusEvent::Gap).expect("the queue is empty");
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        self.nodes.lock().insert(node, Node { events: sender, link, is_cut: false, has_gap: false });
        let (sent, received, dropped) = Default::default();
        let end = End { bus: self.clone(), node, link, sent, received, dropped };
        (LocalLink { bus: self.clone(), node, end: Arc::new(end) }, events)
    }

    /// Cuts a node off without telling it, as a link that is alive and deaf, or connects it again.
    pub fn cut(&self, node: NodeId, is_cut: bool) {
        if let Some(node) = self.nodes.lock().get_mut(&node) {
            node.is_cut = is_cut;
            node.has_gap = true;
        }
    }
}

impl Node {
    /// Returns whether it was taken.
    fn take(&mut self, payload: Bytes) -> bool {
        if self.has_gap && self.events.try_send(BusEvent::Gap).is_ok() {
            self.has_gap = false;
        }
        match self.events.try_send(BusEvent::Payload(payload)) {
            Ok(()) => true,
            Err(_) => {
                self.has_gap = true;
                false
            }
        }
    }
}

impl LocalLink {
    pub(super) fn hint(&self, node: NodeId, payload: Bytes) -> bool {
        let mut nodes = self.bus.nodes.lock();
        let taken = match (nodes.get(&self.node).is_some_and(|own| !own.is_cut), nodes.get_mut(&node)) {
            (true, Some(node)) if !node.is_cut => node.take(payload),
            _ => false,
        };
        self.count(taken);
        taken
    }

    pub(super) fn broadcast(&self, payload: &Bytes) {
        let mut nodes = self.bus.nodes.lock();
        if nodes.get(&self.node).is_none_or(|own| own.is_cut) {
            return self.count(false);
        }
        for node in nodes.values_mut().filter(|node| !node.is_cut) {
            self.count(node.take(payload.clone()));
        }
    }

    fn count(&self, taken: bool) {
        self.end.sent.fetch_add(1, Ordering::Relaxed);
        let counter = if taken { &self.end.received } else { &self.end.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.bus.nodes.lock().get(&self.node).is_some_and(|own| own.link == self.end.link)
    }

    /// Whether the node is in this process.
    pub(super) fn may_reach(&self, node: NodeId) -> bool {
        self.bus.nodes.lock().contains_key(&node)
    }

    pub(super) fn reconnect(&self) {
        if let Some(own) = self.bus.nodes.lock().get_mut(&self.node)
            && own.link == self.end.link
            && !own.is_cut
        {
            own.has_gap = own.events.try_send(BusEvent::Gap).is_err();
        }
    }

    pub(super) fn stats(&self) -> BusStats {
        BusStats {
            sent: self.end.sent.load(Ordering::Relaxed),
            received: self.end.received.load(Ordering::Relaxed),
            dropped: self.end.dropped.load(Ordering::Relaxed),
            connects: 1,
            queued: 0,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut nodes = self.bus.nodes.lock();
        if nodes.get(&self.node).is_some_and(|node| node.link == self.link) {
            nodes.remove(&self.node);
        }
    }
}

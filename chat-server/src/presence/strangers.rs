//! Strangers: living nodes that share the database and that this node's bus does not reach.
//!
//! Two nodes with the local bus on one database look as if they worked: everything is stored, and healing reads find it, up
//! to a minute late. Nobody wants that, and nothing fails by which one would notice; so it is said.

use std::collections::HashMap;

use crate::store::{Node, NodeId, Timestamp};

/// The nodes that the bus does not reach, as far as they have been seen.
#[derive(Default)]
pub(super) struct Strangers {
    seen: HashMap<NodeId, Seen>,
}

struct Seen {
    /// The end of its lease when it was seen last.
    until: Timestamp,
    /// Its lease was renewed since it was seen first. One that was not may be left over from a node that crashed.
    lives: bool,
}

impl Strangers {
    /// Takes note of all nodes out of reach whose leases run. Returns how many of them live, and whether those are others than
    /// before.
    pub(super) fn look(&mut self, nodes: &[&Node]) -> (usize, bool) {
        let before = self.living();
        self.seen.retain(|id, _| nodes.iter().any(|node| node.lease.node == *id));
        for node in nodes {
            let seen = self.seen.entry(node.lease.node).or_insert(Seen { until: node.until, lives: false });
            seen.lives |= seen.until != node.until;
            seen.until = node.until;
        }
        let now = self.living();
        (now.len(), now != before)
    }

    /// Whether this node is a stranger that lives.
    pub(super) fn has(&self, node: &Node) -> bool {
        self.seen.get(&node.lease.node).is_some_and(|seen| seen.lives)
    }

    fn living(&self) -> Vec<NodeId> {
        let mut living: Vec<NodeId> = self.seen.iter().filter(|(_, seen)| seen.lives).map(|(id, _)| *id).collect();
        living.sort_unstable();
        living
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Incarnation, NodeLease};

    fn node(id: u32, until: u64) -> Node {
        let lease = NodeLease { node: NodeId(id), incarnation: Incarnation(1) };
        Node { lease, name: format!("node-{id}"), until: Timestamp(until) }
    }

    #[test]
    fn a_lease_that_is_left_over_is_no_stranger_and_one_that_is_renewed_is_told_of_once() {
        let mut strangers = Strangers::default();
        assert_eq!(strangers.look(&[&node(1, 10), &node(2, 10)]), (0, false));
        assert_eq!(strangers.look(&[&node(1, 10), &node(2, 10)]), (0, false), "both may have crashed");
        assert_eq!(strangers.look(&[&node(1, 10), &node(2, 20)]), (1, true));
        assert!(!strangers.has(&node(1, 10)) && strangers.has(&node(2, 20)));
        assert_eq!(strangers.look(&[&node(2, 30)]), (1, false));
        assert_eq!(strangers.look(&[&node(2, 30)]), (1, false), "it has not been renewed since a moment ago");
        assert_eq!(strangers.look(&[]), (0, true));
        assert_eq!(strangers.look(&[&node(2, 40)]), (0, false));
        assert_eq!(strangers.look(&[&node(2, 50)]), (1, true));
    }
}

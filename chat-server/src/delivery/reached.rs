//! Whom a batch of messages has reached, so that each is written to once.

use std::sync::Arc;

use crate::bus::{Addressed, Bus, BusMessage, DELIVER_BYTES};
use crate::hub::Session;
use crate::push::Push;
use crate::store::{NodeId, UserId};

/// What a batch has reached: the sessions whose queues have something new, each to be written once, and the hints for other
/// nodes, each node's to be sent together.
pub(crate) struct Reached<'a> {
    bus: &'a Bus,
    sessions: Vec<Arc<Session>>,
    hints: Vec<(NodeId, Vec<Addressed>, usize)>,
}

impl<'a> Reached<'a> {
    pub(crate) fn new(bus: &'a Bus) -> Self {
        Self { bus, sessions: Vec::new(), hints: Vec::new() }
    }

    pub(super) fn add(&mut self, session: &Arc<Session>) {
        // Mostly one or two, or one after the other; a session that is in it twice is only looked at twice.
        if !self.sessions.last().is_some_and(|last| Arc::ptr_eq(last, session)) {
            self.sessions.push(Arc::clone(session));
        }
    }

    /// A hint of a message to users of another node.
    pub(super) fn hint(&mut self, node: NodeId, to: Vec<u32>, push: &Push) {
        let bytes = push.message.msg.len();
        let message = Addressed { to, message: push.message.clone() };
        let Some((_, messages, taken)) = self.hints.iter_mut().find(|(known, ..)| *known == node) else {
            self.hints.push((node, vec![message], bytes));
            return;
        };
        if *taken + bytes > DELIVER_BYTES {
            let full = std::mem::take(messages);
            self.bus.hint(node, BusMessage::Deliver(full).encode());
            *taken = 0;
        }
        messages.push(message);
        *taken += bytes;
    }

    pub(super) fn flush(&mut self) {
        for session in self.sessions.drain(..) {
            session.flush();
        }
        for (node, messages, _) in self.hints.drain(..) {
            self.bus.hint(node, BusMessage::Deliver(messages).encode());
        }
    }
}

/// Sessions are written and hints are sent when the batch is done, also if its task is dropped.
impl Drop for Reached<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

pub(super) fn addressed(to: &[UserId], push: &Push) -> Addressed {
    Addressed { to: to.iter().map(|user| user.get()).collect(), message: push.message.clone() }
}

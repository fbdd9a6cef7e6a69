//! A message on its way to its recipients: encoded once for all of them.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::protocol::event::Delivery;
use crate::protocol::{msgid, original};
use crate::store::{Conversation, ConversationKind, GroupId, Message, Seq, UserId};

/// A message with the forms in which clients get it.
#[derive(Debug)]
pub struct Push {
    /// Where it belongs.
    pub conversation: Conversation,
    /// Its place there; `None` if it is not stored (relay setting).
    pub seq: Option<Seq>,
    /// Who wrote it.
    pub sender: UserId,
    /// What clients are told.
    pub message: Delivery,
    modern: OnceLock<Bytes>,
    original: OnceLock<Vec<Bytes>>,
}

impl Push {
    /// A message that clients are told in these words. `None` if its ids are impossible.
    pub fn new(message: Delivery) -> Option<Self> {
        let sender = UserId::new(message.id)?;
        let conversation = match (message.toid, message.groupid) {
            (Some(to), None) => Conversation::direct(sender, UserId::new(to)?),
            (None, Some(group)) => Conversation::group(GroupId::new(group)?),
            _ => return None,
        };
        let seq = message.seq.map(Seq);
        Some(Self::of(conversation, sender, seq, message))
    }

    /// The same when all of it is known.
    pub(crate) fn of(conversation: Conversation, sender: UserId, seq: Option<Seq>, message: Delivery) -> Self {
        Self { conversation, seq, sender, message, modern: OnceLock::new(), original: OnceLock::new() }
    }

    /// A message that was read from the store.
    pub fn stored(message: Message) -> Self {
        let (conversation, seq, sender) = (message.conversation, Some(message.seq), message.sender.id);
        Self::of(conversation, sender, seq, delivery(message))
    }

    /// The frame for modern clients.
    pub fn modern(&self) -> Bytes {
        self.modern.get_or_init(|| self.message.frame()).clone()
    }

    /// The frames for original clients.
    pub fn original(&self) -> &[Bytes] {
        self.original.get_or_init(|| original::messages(&self.message))
    }
}

/// A stored message in the words of the protocol.
pub fn delivery(message: Message) -> Delivery {
    let sender = message.sender.id;
    let (msgid, toid, groupid) = match message.conversation.kind() {
        ConversationKind::Direct(low, high) => {
            (msgid::CHAT, Some(if sender == low { high.get() } else { low.get() }), None)
        }
        ConversationKind::Group(group) => (msgid::GROUP_CHAT, None, Some(group.get())),
    };
    Delivery {
        msgid,
        id: sender.get(),
        name: message.sender.name,
        toid,
        groupid,
        msg: message.body,
        time: message.time,
        mid: message.client_id.map(Into::into),
        seq: Some(message.seq.0),
        at: message.at.0,
    }
}

//! A message's way: stored, acknowledged, told to those who are here, hinted to the nodes of the others. Or passed on
//! without storing it, in the [`relay`] setting. [`heal`] finds whatever was lost on that way.

mod heal;
mod members;
mod reached;
mod relay;

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

pub(crate) use self::members::Members;
pub(crate) use self::reached::Reached;
use crate::commands::refusal;
use crate::config;
use crate::hub::{Identity, Session};
use crate::node::Node;
use crate::outbox::Offered;
use crate::presence::by_node;
use crate::protocol::answer::ChatResult;
use crate::protocol::event::Delivery;
use crate::protocol::{ErrorCode, Refusal, msgid};
use crate::push::Push;
use crate::store::{ClientMessageId, Conversation, ConversationKind, NewMessage, Page, Seq, UserId};

/// A message from a client, checked, with its sender from the session.
pub(crate) struct Outgoing {
    pub(crate) conversation: Conversation,
    pub(crate) text: String,
    pub(crate) time: String,
    pub(crate) mid: Option<ClientMessageId>,
}

impl Node {
    /// Accepts the messages of one session, in their order: stores them (or passes them on, in the relay setting) and sees
    /// to their delivery. The results are in the same order.
    pub(crate) async fn accept(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sender: &Identity,
        messages: Vec<Outgoing>,
    ) -> Vec<Result<ChatResult, Refusal>> {
        if self.directory.is_fenced() {
            let refused = || Refusal::new(ErrorCode::Unavailable, "this node lost its lease; it is being renewed");
            return messages.iter().map(|_| Err(refused())).collect();
        }
        let began = Instant::now();
        let mut reached = Reached::new(&self.bus);
        let results = match self.config.delivery {
            config::Delivery::Durable => self.store_all(session, sender, messages, &mut reached).await,
            config::Delivery::Relay => self.relay_all(session, sender, messages, &mut reached).await,
        };
        reached.flush();
        let metrics = self.metrics();
        metrics.accepted.inc_by(results.iter().filter(|result| result.is_ok()).count() as u64);
        metrics.accept_seconds.observe(began.elapsed().as_secs_f64());
        results
    }

    /// Stores messages and sees to their delivery.
    async fn store_all(
        &self,
        session: &Arc<Session>,
        sender: &Identity,
        messages: Vec<Outgoing>,
        reached: &mut Reached<'_>,
    ) -> Vec<Result<ChatResult, Refusal>> {
        // The futures are polled in their order, which is the order of the sequences.
        let receipts = join_all(messages.iter().map(|message| self.store().append_one(new(sender.id, message)))).await;
        let mut results = Vec::with_capacity(messages.len());
        for (message, receipt) in messages.into_iter().zip(receipts) {
            let receipt = match receipt {
                Ok(receipt) => receipt,
                Err(error) => {
                    results.push(Err(refusal(&error)));
                    continue;
                }
            };
            results.push(Ok(ChatResult { seq: Some(receipt.seq.0), at: receipt.at.0, duplicate: receipt.is_repeat }));
            let push = if receipt.is_repeat {
                // Whoever stored it first may have died before it told anybody. What counts is what was stored, not what
                // the repeat says; who has it already drops it.
                match self.read_one(sender.id, message.conversation, receipt.seq).await {
                    Some(push) => push,
                    None => continue,
                }
            } else {
                push(sender, message, Some(receipt.seq), receipt.at.0)
            };
            let push = Arc::new(push);
            if session.offer(sender.id, &push) == Offered::Done {
                reached.add(session);
            }
            self.deliver(&push, reached).await;
        }
        results
    }

    /// A message from the store.
    async fn read_one(&self, reader: UserId, conversation: Conversation, seq: Seq) -> Option<Push> {
        let page = self.store().history(reader, conversation, Page::After(Seq(seq.0 - 1)), 1).await.ok()?;
        page.into_iter().next().filter(|message| message.seq == seq).map(Push::stored)
    }

    /// Tells a stored message to everybody it is for, except its sender.
    async fn deliver(&self, push: &Arc<Push>, reached: &mut Reached<'_>) {
        match push.conversation.kind() {
            ConversationKind::Direct(..) => match push.conversation.other(push.sender) {
                Some(recipient) if recipient != push.sender => match self.hub.user(recipient) {
                    Some(session) => self.offer(recipient, &session, push, reached),
                    None => self.hint(&[recipient], push, reached).await,
                },
                _ => {}
            },
            ConversationKind::Group(group) => {
                // If the members cannot be had now, a healing read will find the message.
                let Ok(members) = self.members_of(group).await else { return };
                let mut elsewhere = Vec::new();
                for &member in members.iter().filter(|member| **member != push.sender) {
                    match self.hub.user(member) {
                        Some(session) => self.offer(member, &session, push, reached),
                        None => elsewhere.push(member),
                    }
                }
                self.hint(&elsewhere, push, reached).await;
            }
        }
    }

    fn offer(&self, recipient: UserId, session: &Arc<Session>, push: &Arc<Push>, reached: &mut Reached<'_>) {
        if session.offer(recipient, push) == Offered::Done {
            self.metrics().delivered.inc();
            reached.add(session);
        }
    }

    /// Hints a message to the nodes of these users, with the rest of the batch.
    async fn hint(&self, users: &[UserId], push: &Arc<Push>, reached: &mut Reached<'_>) {
        if users.is_empty() {
            return;
        }
        let Ok(locations) = self.locate(users).await else { return };
        for (node, to) in by_node(locations) {
            reached.hint(node, to, push);
        }
    }

    /// Gives a message from the bus to a user. Returns whether he is here, or need not be.
    pub(crate) fn deliver_here(&self, user: UserId, push: &Arc<Push>, reached: &mut Reached<'_>) -> bool {
        let Some(session) = self.hub.user(user) else { return false };
        if push.seq.is_some() {
            self.offer(user, &session, push, reached);
            return true;
        }
        let is_taken = session.with_unflushed(|outbox, limits| {
            let is_taken = outbox.closing.is_none() && outbox.user == Some(user) && !outbox.is_full(limits);
            if is_taken {
                outbox.relay(push);
            }
            is_taken
        });
        if is_taken {
            self.metrics().delivered.inc();
            reached.add(&session);
        }
        is_taken
    }
}

fn new(sender: UserId, message: &Outgoing) -> NewMessage {
    NewMessage {
        conversation: message.conversation,
        sender,
        client_id: message.mid.clone(),
        body: message.text.clone(),
        time: message.time.clone(),
    }
}

fn push(sender: &Identity, message: Outgoing, seq: Option<Seq>, at: u64) -> Push {
    let (msgid, toid, groupid) = match message.conversation.kind() {
        ConversationKind::Direct(..) => (msgid::CHAT, message.conversation.other(sender.id).map(UserId::get), None),
        ConversationKind::Group(group) => (msgid::GROUP_CHAT, None, Some(group.get())),
    };
    let delivery = Delivery {
        msgid,
        id: sender.id.get(),
        name: sender.name.clone(),
        toid,
        groupid,
        msg: message.text,
        time: message.time,
        mid: message.mid.map(String::from),
        seq: seq.map(|seq| seq.0),
        at,
    };
    Push::of(message.conversation, sender.id, seq, delivery)
}

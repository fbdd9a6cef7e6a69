//! The relay setting: messages are passed on to those who are online, and stored for somebody who is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::reached::{Reached, addressed};
use super::{Outgoing, new, push};
use crate::bus::{Addressed, BusMessage, DELIVER_BYTES};
use crate::commands::refusal;
use crate::hub::{Identity, Session};
use crate::node::{Node, wall_ms};
use crate::presence::by_node;
use crate::protocol::answer::ChatResult;
use crate::protocol::{ErrorCode, Refusal};
use crate::push::Push;
use crate::store::{ClientMessageId, ConversationKind, NodeId, UserId};

impl Node {
    /// Passes messages on, or stores those for somebody who is not online. What one node alone is to get waits for what
    /// follows it to the same node, and is told before anything else is done, so that the order stays.
    pub(super) async fn relay_all(
        &self,
        session: &Arc<Session>,
        sender: &Identity,
        messages: Vec<Outgoing>,
        reached: &mut Reached<'_>,
    ) -> Vec<Result<ChatResult, Refusal>> {
        let mut results = Vec::with_capacity(messages.len());
        let mut parcel: Option<Parcel> = None;
        for message in messages {
            let route = self.route(sender, &message).await;
            let node = route.as_ref().ok().and_then(Route::only_node);
            let bytes = message.text.len();
            if let Some(full) = parcel.take_if(|parcel| Some(parcel.node) != node || !parcel.has_room(bytes)) {
                self.send_parcel(session, sender, full, &mut results, reached).await;
            }
            match (node, route) {
                (_, Err(refusal)) => results.push(Err(refusal)),
                (Some(node), Ok(route)) => {
                    let to = route.elsewhere.into_iter().map(|(user, _)| user).collect();
                    let push = Arc::new(push(sender, message, None, wall_ms()));
                    parcel.get_or_insert_with(|| Parcel::to(node)).add(push, to);
                }
                (None, Ok(route)) => results.push(self.relay(session, sender, message, route, reached).await),
            }
        }
        if let Some(parcel) = parcel {
            self.send_parcel(session, sender, parcel, &mut results, reached).await;
        }
        results
    }

    /// Where the recipients of a message are.
    async fn route(&self, sender: &Identity, message: &Outgoing) -> Result<Route, Refusal> {
        let recipients: Vec<UserId> = match message.conversation.kind() {
            ConversationKind::Direct(..) => message.conversation.other(sender.id).into_iter().collect(),
            ConversationKind::Group(group) => {
                let members = self.members_of(group).await.map_err(|error| refusal(&error))?;
                if !members.contains(&sender.id) {
                    // The store knows which: no such group, or no member of it.
                    return Ok(Route { is_complete: false, ..Route::default() });
                }
                members.iter().copied().filter(|member| *member != sender.id).collect()
            }
        };
        let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
        for user in recipients {
            match self.hub.user(user) {
                Some(recipient) => here.push((user, recipient)),
                None => elsewhere.push(user),
            }
        }
        let locations = match &elsewhere[..] {
            [] => Vec::new(),
            users => self.locate(users).await.map_err(|error| refusal(&error))?,
        };
        Ok(Route { is_complete: locations.len() == elsewhere.len(), here, elsewhere: locations })
    }

    /// Sends a parcel, and stores what did not arrive. The results are in the order of the messages.
    async fn send_parcel(
        &self,
        session: &Arc<Session>,
        sender: &Identity,
        parcel: Parcel,
        results: &mut Vec<Result<ChatResult, Refusal>>,
        reached: &mut Reached<'_>,
    ) {
        let messages = parcel.messages.iter().map(|(push, to)| addressed(to, push)).collect();
        let is_taken = self.bus.send(parcel.node, BusMessage::Deliver(messages).encode()).await == Ok(true);
        for (push, _) in parcel.messages {
            results.push(if is_taken {
                Ok(ChatResult { seq: None, at: push.message.at, duplicate: false })
            } else {
                self.store_instead(session, sender, again(&push), reached).await
            });
        }
    }

    /// Passes a message on, or stores it if somebody is not online.
    async fn relay(
        &self,
        session: &Arc<Session>,
        sender: &Identity,
        message: Outgoing,
        route: Route,
        reached: &mut Reached<'_>,
    ) -> Result<ChatResult, Refusal> {
        if !route.is_complete {
            return self.store_instead(session, sender, message, reached).await;
        }
        let at = wall_ms();
        let push = Arc::new(push(sender, message, None, at));
        let mut missed = Vec::new();
        for (user, recipient) in route.here {
            if !self.relay_here(user, &recipient, &push, reached).await {
                missed.push(user);
            }
        }
        for (node, to) in by_node(route.elsewhere) {
            let payload =
                BusMessage::Deliver(vec![Addressed { to: to.clone(), message: push.message.clone() }]).encode();
            if self.bus.send(node, payload).await != Ok(true) {
                missed.extend(to.into_iter().filter_map(UserId::new));
            }
        }
        if missed.is_empty() {
            return Ok(ChatResult { seq: None, at, duplicate: false });
        }
        // Somebody went at this very moment. For the others it is a repetition, with the same `mid`.
        self.store_instead(session, sender, again(&push), reached).await
    }

    async fn store_instead(
        &self,
        session: &Arc<Session>,
        sender: &Identity,
        message: Outgoing,
        reached: &mut Reached<'_>,
    ) -> Result<ChatResult, Refusal> {
        let mut results = self.store_all(session, sender, vec![message], reached).await;
        results.pop().unwrap_or_else(|| Err(Refusal::new(ErrorCode::Internal, "no receipt")))
    }

    /// Puts a message that is stored nowhere into the queue of a user of this node; waits for room, so that a sender is not
    /// faster than its recipient. Returns whether it is there.
    async fn relay_here(
        &self,
        user: UserId,
        recipient: &Arc<Session>,
        push: &Arc<Push>,
        reached: &mut Reached<'_>,
    ) -> bool {
        let deadline = Instant::now() + Duration::from_millis(self.config.slow_reader_ms);
        loop {
            let taken = recipient.with_unflushed(|outbox, limits| {
                if outbox.closing.is_some() || outbox.user != Some(user) {
                    return Some(false);
                }
                if outbox.is_full(limits) {
                    return None;
                }
                outbox.relay(push);
                Some(true)
            });
            match taken {
                Some(true) => {
                    self.metrics().delivered.inc();
                    reached.add(recipient);
                    return true;
                }
                Some(false) => return false,
                None => {
                    reached.flush();
                    let room = tokio::time::timeout_at(deadline.into(), recipient.room()).await;
                    if room != Ok(true) {
                        return false;
                    }
                }
            }
        }
    }

    /// Stores messages that were to be relayed and did not reach their recipient.
    pub(crate) async fn store_relayed(&self, pushes: Vec<Arc<Push>>) {
        if pushes.is_empty() {
            return;
        }
        let messages = pushes.iter().map(|push| new(push.sender, &again(push)));
        let results = self.store().append(messages.collect()).await;
        let mut reached = Reached::new(&self.bus);
        for (push, result) in pushes.iter().zip(results) {
            match result {
                Ok(receipt) if !receipt.is_repeat => {
                    let mut message = push.message.clone();
                    (message.seq, message.at) = (Some(receipt.seq.0), receipt.at.0);
                    if let Some(push) = Push::new(message) {
                        self.deliver(&Arc::new(push), &mut reached).await;
                    }
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "a relayed message that did not arrive could not be stored"),
            }
        }
        reached.flush();
    }
}

/// Where the recipients of a message are that is to be relayed.
#[derive(Default)]
struct Route {
    here: Vec<(UserId, Arc<Session>)>,
    elsewhere: Vec<(UserId, NodeId)>,
    /// All of them are online.
    is_complete: bool,
}

impl Route {
    /// The node on which all recipients are, if that is one other node.
    fn only_node(&self) -> Option<NodeId> {
        let (_, first) = self.elsewhere.first()?;
        let is_only = self.is_complete && self.here.is_empty() && self.elsewhere.iter().all(|(_, node)| node == first);
        is_only.then_some(*first)
    }
}

/// Messages of one batch that are to be relayed to one node.
struct Parcel {
    node: NodeId,
    messages: Vec<(Arc<Push>, Vec<UserId>)>,
    bytes: usize,
}

impl Parcel {
    fn to(node: NodeId) -> Self {
        Self { node, messages: Vec::new(), bytes: 0 }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= DELIVER_BYTES
    }

    fn add(&mut self, push: Arc<Push>, to: Vec<UserId>) {
        self.bytes += push.message.msg.len();
        self.messages.push((push, to));
    }
}

/// A message that was to be relayed, to be stored instead.
fn again(push: &Push) -> Outgoing {
    Outgoing {
        conversation: push.conversation,
        text: push.message.msg.clone(),
        time: push.message.time.clone(),
        // Each was checked when its message was accepted. If a node of another version has let one pass that cannot be
        // stored, its message, which was acknowledged, is stored without.
        mid: push.message.mid.as_deref().and_then(|mid| ClientMessageId::new(mid).ok()),
    }
}

//! A message's way: stored, acknowledged, told to those who are here, hinted to the nodes of the others; and the healing
//! reads that find whatever was lost on that way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::warn;

use crate::bus::{Addressed, Bus, BusMessage, DELIVER_BYTES};
use crate::commands::refusal;
use crate::config;
use crate::hub::{Identity, Session};
use crate::node::{Node, jitter, wall_ms};
use crate::outbox::Offered;
use crate::presence::by_node;
use crate::protocol::event::{ChatResult, Delivery, Event, Notice, NoticeCode};
use crate::protocol::{ErrorCode, Refusal, msgid};
use crate::push::Push;
use crate::store::{
    ClientMessageId, Conversation, ConversationKind, GroupId, NewMessage, NodeId, Page, Seq, StoreError, UserId,
};

/// How long a message that came before the one it follows waits for it, before the store is asked.
const GAP_PATIENCE: Duration = Duration::from_millis(30);

/// Messages of one read of a healing.
const HEAL_PAGE: usize = 100;

/// How long a healing waits after the store failed, at first and at most.
const HEAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Groups whose members are remembered. Beyond it all are forgotten and asked for again.
const MAX_GROUPS_REMEMBERED: usize = 10_000;

/// A message from a client, checked, with its sender from the session.
pub(crate) struct Outgoing {
    pub(crate) conversation: Conversation,
    pub(crate) text: String,
    pub(crate) time: String,
    pub(crate) mid: Option<String>,
}

/// The members of groups, remembered for a short time.
pub(crate) struct Members {
    cache: Duration,
    groups: Mutex<HashMap<GroupId, Remembered>>,
    /// Counts what was forgotten, so that an answer that was on its way meanwhile is not remembered.
    forgotten: Mutex<u64>,
}

/// Members, and until when they are believed.
type Remembered = (Arc<[UserId]>, Instant);

impl Members {
    pub(crate) fn new(cache: Duration) -> Self {
        Self { cache, groups: Mutex::default(), forgotten: Mutex::default() }
    }

    /// A group's members changed.
    pub(crate) fn forget(&self, group: u32) {
        *self.forgotten.lock() += 1;
        if let Some(group) = GroupId::new(group) {
            self.groups.lock().remove(&group);
        }
    }

    pub(crate) fn forget_all(&self) {
        *self.forgotten.lock() += 1;
        self.groups.lock().clear();
    }
}

impl Node {
    /// The members of a group.
    ///
    /// # Errors
    ///
    /// The database's.
    pub(crate) async fn members_of(&self, group: GroupId) -> Result<Arc<[UserId]>, StoreError> {
        let now = Instant::now();
        if let Some((members, until)) = self.members.groups.lock().get(&group)
            && *until > now
        {
            return Ok(Arc::clone(members));
        }
        let forgotten = *self.members.forgotten.lock();
        let members: Arc<[UserId]> = self.store().member_ids(group).await?.into();
        // An answer that was on its way while the group changed is used, as it was right when it was asked for, but not
        // remembered.
        let current = self.members.forgotten.lock();
        if *current == forgotten {
            let mut groups = self.members.groups.lock();
            if groups.len() >= MAX_GROUPS_REMEMBERED {
                groups.clear();
            }
            groups.insert(group, (Arc::clone(&members), now + self.members.cache));
        }
        Ok(members)
    }

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
            if session.offer(&push) == Offered::Done {
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
                    Some(recipient) => self.offer(recipient, push, reached),
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
                        Some(recipient) => self.offer(recipient, push, reached),
                        None => elsewhere.push(member),
                    }
                }
                self.hint(&elsewhere, push, reached).await;
            }
        }
    }

    fn offer(&self, recipient: Arc<Session>, push: &Arc<Push>, reached: &mut Reached<'_>) {
        if recipient.offer(push) == Offered::Done {
            self.metrics().delivered.inc();
            reached.add(&recipient);
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
            self.offer(session, push, reached);
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

    // --- the relay setting -------------------------------------------------------------------------------------------

    /// Passes messages on, or stores those for somebody who is not online. What one node alone is to get waits for what
    /// follows it to the same node, and is told before anything else is done, so that the order stays.
    async fn relay_all(
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
        let messages = pushes.iter().map(|push| NewMessage {
            conversation: push.conversation,
            sender: push.sender,
            client_id: push.message.mid.as_deref().and_then(|mid| ClientMessageId::new(mid).ok()),
            body: push.message.msg.clone(),
            time: push.message.time.clone(),
        });
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

    // --- healing -----------------------------------------------------------------------------------------------------

    /// Reads from the store, in the background, what a session has not been sent. With `is_login`, says when that is done.
    pub(crate) fn heal(self: &Arc<Self>, session: &Arc<Session>, is_login: bool) {
        let begins = session.with_unflushed(|outbox, _| {
            let begins = !outbox.is_healing && outbox.closing.is_none() && outbox.user.is_some();
            outbox.is_healing |= begins;
            begins
        });
        if begins {
            let (node, session) = (Arc::clone(self), Arc::clone(session));
            tokio::spawn(async move { node.heal_session(session, is_login).await });
        }
    }

    /// Heals all sessions, spread over a moment so that they do not all ask at once. Asked for again before it has begun,
    /// as when all nodes get back to the bus, it is done once.
    pub(crate) fn heal_all(self: &Arc<Self>) {
        if self.heals_all_soon.swap(true, Ordering::Relaxed) {
            return;
        }
        let node = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(jitter(node.config.heal_ms.min(500)))).await;
            node.heals_all_soon.store(false, Ordering::Relaxed);
            for (number, session) in node.hub.all().iter().enumerate() {
                node.heal(session, false);
                if number % 100 == 99 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }

    async fn heal_session(self: &Arc<Self>, session: Arc<Session>, mut is_login: bool) {
        let mut backoff = HEAL_BACKOFF.0;
        if session.with_unflushed(|outbox, _| outbox.needs_healing() && outbox.may_wait()) && !is_login {
            tokio::time::sleep(GAP_PATIENCE).await;
            if session.with_unflushed(|outbox, _| {
                outbox.is_healing = outbox.needs_healing();
                !outbox.is_healing
            }) {
                return;
            }
        }
        loop {
            let Some(user) = session.with_unflushed(|outbox, _| {
                outbox.begin_healing();
                outbox.user.filter(|_| outbox.closing.is_none())
            }) else {
                session.with_unflushed(|outbox, _| outbox.is_healing = false);
                return;
            };
            let healed = {
                let _permit = self.heals.acquire().await;
                self.metrics().heals.inc();
                self.read_missing(&session, user).await
            };
            match healed {
                Ok(()) => backoff = HEAL_BACKOFF.0,
                Err(error) => {
                    // The recipient has not got everything, whatever the reason: it is tried again.
                    if !error.is_retryable() {
                        warn!(%error, %user, "a healing read failed");
                    }
                    tokio::time::sleep(backoff + Duration::from_millis(jitter(100))).await;
                    backoff = (backoff * 2).min(HEAL_BACKOFF.1);
                    continue;
                }
            }
            if is_login {
                is_login = false;
                let text = "everything that was waiting has been sent".into();
                session.room().await;
                session.tell(Notice { code: NoticeCode::Synced, text, reconnect_ms: None }.frame());
            }
            let is_done = session.with(|outbox, _| {
                outbox.is_healing = outbox.needs_healing();
                !outbox.is_healing
            });
            if is_done {
                return;
            }
            // Something came while this was read: a gap that the store did not have either, or a full queue.
            tokio::time::sleep(GAP_PATIENCE).await;
            if !session.room().await {
                continue;
            }
        }
    }

    /// Sends a session everything above the user's cursors that it has not been sent.
    async fn read_missing(&self, session: &Arc<Session>, user: UserId) -> Result<(), StoreError> {
        for unread in self.store().unread(user).await? {
            let mut from = match session.with_unflushed(|outbox, _| {
                (outbox.user == Some(user)).then(|| outbox.position(unread.conversation, unread.seen.0))
            }) {
                Some(position) => Seq(position),
                None => return Ok(()),
            };
            while from < unread.last {
                let page = self.store().history(user, unread.conversation, Page::After(from), HEAL_PAGE).await;
                let page = match page {
                    Ok(page) => page,
                    // Put out of the group meanwhile: not his to read any more.
                    Err(StoreError::Refused(_)) => break,
                    Err(error) => return Err(error),
                };
                let Some(last) = page.last() else { break };
                from = last.seq;
                for message in page {
                    let push = Arc::new(Push::stored(message));
                    loop {
                        // Written first, or there would never be room.
                        let is_full = session.with_unflushed(|outbox, limits| outbox.is_full(limits));
                        if is_full {
                            session.flush();
                            if !session.room().await {
                                return Ok(());
                            }
                        }
                        match session.offer(&push) {
                            Offered::Done => break,
                            Offered::Later if session.room().await => {}
                            Offered::Later | Offered::Closed => return Ok(()),
                        }
                    }
                    if push.sender != user {
                        self.metrics().healed.inc();
                    }
                }
                session.flush();
            }
        }
        Ok(())
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

    fn add(&mut self, session: &Arc<Session>) {
        // Mostly one or two, or one after the other; a session that is in it twice is only looked at twice.
        if !self.sessions.last().is_some_and(|last| Arc::ptr_eq(last, session)) {
            self.sessions.push(Arc::clone(session));
        }
    }

    /// A hint of a message to users of another node.
    fn hint(&mut self, node: NodeId, to: Vec<u32>, push: &Push) {
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

    fn flush(&mut self) {
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

fn addressed(to: &[UserId], push: &Push) -> Addressed {
    Addressed { to: to.iter().map(|user| user.get()).collect(), message: push.message.clone() }
}

/// A message that was to be relayed, to be stored instead.
fn again(push: &Push) -> Outgoing {
    Outgoing {
        conversation: push.conversation,
        text: push.message.msg.clone(),
        time: push.message.time.clone(),
        mid: push.message.mid.clone(),
    }
}

fn new(sender: UserId, message: &Outgoing) -> NewMessage {
    NewMessage {
        conversation: message.conversation,
        sender,
        client_id: message.mid.as_deref().and_then(|mid| ClientMessageId::new(mid).ok()),
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
        mid: message.mid,
        seq: seq.map(|seq| seq.0),
        at,
    };
    Push::of(message.conversation, sender.id, seq, delivery)
}

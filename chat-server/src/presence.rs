//! Who is where: this node's lease, the sessions claimed under it, and what it remembers of other nodes' users.
//!
//! The directory is in the database, so claims are atomic and do not depend on the bus. What is remembered here of other
//! nodes' users is a cache: the bus says when it is out of date, and without news it is believed for a short time only. A
//! message that goes to the wrong node, or to none, is found by the next healing read of its recipient.

mod ghosts;
mod strangers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use self::strangers::Strangers;
use crate::bus::{Addressed, BusEvent, BusEvents, BusMessage};
use crate::delivery::Reached;
use crate::hub::Session;
use crate::node::Node;
use crate::protocol::Presence;
use crate::protocol::event::{Event, NoticeCode, PresenceEvent};
use crate::push::Push;
use crate::store::{self, Location, NodeId, Refusal, SessionId, StoreError, UserId};

/// Users that are remembered. Beyond it everything is forgotten and asked for again.
const MAX_REMEMBERED: usize = 200_000;

/// Sessions that are verified with one question.
const VERIFY_AT_ONCE: usize = 500;

/// How long a probe may be on its way before what comes over the bus is thought to be late. On a busy machine it is some
/// milliseconds.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// What the node knows about itself and the others.
pub(crate) struct Directory {
    cache: Duration,
    remembered: Mutex<Remembered>,
    /// No other node lives, as far as is known: nobody needs to be asked about or told anything.
    is_alone: AtomicBool,
    start: Instant,
    /// When the lease ends, in milliseconds after `start`, by this node's clock.
    lease_until_ms: AtomicU64,
    /// The lease ran out, and which sessions are still this node's is not known yet.
    is_fenced: AtomicBool,
    /// The directory may have a session of this node that is not here; see [`ghosts`].
    may_have_ghosts: AtomicBool,
    /// Living nodes on this database that the bus does not reach; see [`strangers`].
    unreachable: AtomicUsize,
    probe: Mutex<Probe>,
    is_deaf: AtomicBool,
}

#[derive(Default)]
struct Remembered {
    users: HashMap<UserId, (Option<NodeId>, Instant)>,
    /// Counts what was forgotten, so that an answer that was on its way meanwhile is not remembered.
    forgotten: u64,
    /// Counts the nodes that joined, so that an answer that was on its way meanwhile does not say that there is none.
    joined: u64,
}

struct Probe {
    number: u64,
    sent: Option<Instant>,
}

impl Directory {
    pub(crate) fn new(cache: Duration, lease_until: Instant) -> Self {
        let start = Instant::now();
        let until = lease_until.saturating_duration_since(start).as_millis();
        Self {
            cache,
            remembered: Mutex::default(),
            is_alone: AtomicBool::new(false),
            start,
            lease_until_ms: AtomicU64::new(u64::try_from(until).unwrap_or(u64::MAX)),
            is_fenced: AtomicBool::new(false),
            may_have_ghosts: AtomicBool::new(false),
            unreachable: AtomicUsize::new(0),
            probe: Mutex::new(Probe { number: 0, sent: None }),
            is_deaf: AtomicBool::new(false),
        }
    }

    /// Whether the node may not speak for its users at the moment.
    pub(crate) fn is_fenced(&self) -> bool {
        if self.is_fenced.load(Ordering::Relaxed) {
            return true;
        }
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now <= self.lease_until_ms.load(Ordering::Relaxed) {
            return false;
        }
        // From here on only a renewal with a look at all sessions ends it.
        self.is_fenced.store(true, Ordering::Relaxed);
        true
    }

    /// The lease was renewed at this time, by this node's clock, for this length.
    fn renewed(&self, asked_at: Instant, length: Duration) {
        let until = (asked_at + length).saturating_duration_since(self.start).as_millis();
        self.lease_until_ms.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether what is sent to the own channel does not come back.
    pub(crate) fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Relaxed)
    }

    /// Whether the last probe came back, or may still do so in time.
    fn hears(&self) -> bool {
        let is_late = || self.probe.lock().sent.is_some_and(|sent| sent.elapsed() > PROBE_PATIENCE);
        !self.is_deaf() && !is_late()
    }

    /// Whether there is no other node.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// How many nodes live on this database that the bus does not reach.
    pub(crate) fn unreachable(&self) -> usize {
        self.unreachable.load(Ordering::Relaxed)
    }

    /// A node has joined.
    fn joined(&self) {
        let mut remembered = self.remembered.lock();
        remembered.joined += 1;
        remembered.forgotten += 1;
        remembered.users.clear();
        self.is_alone.store(false, Ordering::Relaxed);
    }

    /// How many nodes have joined so far.
    fn joins(&self) -> u64 {
        self.remembered.lock().joined
    }

    /// The database was asked for the nodes when so many had joined, and said whether there is no other. Returns whether that
    /// is news.
    fn looked_around(&self, joins: u64, is_alone: bool) -> bool {
        let mut remembered = self.remembered.lock();
        // One that has joined since was perhaps not there yet.
        if is_alone && remembered.joined != joins || self.is_alone() == is_alone {
            return false;
        }
        remembered.forgotten += 1;
        remembered.users.clear();
        self.is_alone.store(is_alone, Ordering::Relaxed);
        true
    }

    fn forget(&self, user: UserId) {
        let mut remembered = self.remembered.lock();
        remembered.forgotten += 1;
        remembered.users.remove(&user);
    }

    fn forget_all(&self) {
        let mut remembered = self.remembered.lock();
        remembered.forgotten += 1;
        remembered.users.clear();
    }
}

impl Node {
    /// The other nodes on which those of `users` are who have a session there.
    ///
    /// # Errors
    ///
    /// The database's.
    pub(crate) async fn locate(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
        if self.directory.is_alone() {
            return Ok(Vec::new());
        }
        let (mut found, mut unknown, now) = (Vec::new(), Vec::new(), Instant::now());
        let forgotten = {
            let remembered = self.directory.remembered.lock();
            for &user in users {
                match remembered.users.get(&user) {
                    Some((node, until)) if *until > now => found.extend(node.map(|node| (user, node))),
                    _ => unknown.push(user),
                }
            }
            remembered.forgotten
        };
        if unknown.is_empty() {
            return Ok(found);
        }
        let locations: HashMap<UserId, NodeId> = self
            .store()
            .where_are(&unknown)
            .await?
            .into_iter()
            .map(|(user, location)| (user, location.lease.node))
            .filter(|(_, node)| *node != self.lease.node)
            .collect();
        let mut remembered = self.directory.remembered.lock();
        if remembered.users.len() + unknown.len() > MAX_REMEMBERED {
            remembered.users.clear();
        }
        let is_news = remembered.forgotten == forgotten;
        for user in unknown {
            let node = locations.get(&user).copied();
            if is_news {
                remembered.users.insert(user, (node, now + self.directory.cache));
            }
            found.extend(node.map(|node| (user, node)));
        }
        Ok(found)
    }

    /// Whether the news of other nodes arrive here, as far as is known: there are none, or the bus is there and answers.
    pub(crate) fn hears_news(&self) -> bool {
        self.directory.is_alone() || self.bus.is_up() && self.directory.hears()
    }

    /// Ends the session that a later login displaced.
    pub(crate) fn displace(&self, user: UserId, location: Location) {
        self.metrics().displaced.inc();
        if location.lease == self.lease {
            if let Some(session) = self.hub.session(location.session) {
                session.close(NoticeCode::Displaced);
            }
        } else {
            let (session, incarnation) = (location.session.0, location.lease.incarnation.0);
            let message = BusMessage::Displace { user: user.get(), session, incarnation };
            self.bus.hint(location.lease.node, message.encode());
        }
    }

    /// Tells the other nodes that a user came or went.
    pub(crate) fn announce(&self, user: UserId) {
        if !self.directory.is_alone() {
            self.bus.broadcast(BusMessage::Moved { user: user.get() }.encode());
        }
    }

    /// Tells the user's friends, in the background, that he came or went.
    pub(crate) fn tell_friends(self: &Arc<Self>, user: UserId, state: Presence) {
        let Ok(permit) = Arc::clone(&self.news).try_acquire_owned() else {
            self.metrics().news_dropped.inc();
            return;
        };
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(friends) = node.store().mutual_friends(user).await else { return };
            node.tell(&friends, PresenceEvent { id: user.get(), state }.frame()).await;
        });
    }

    /// Tells these users some news, those of them who are online with a modern client.
    pub(crate) async fn tell(&self, users: &[UserId], frame: Bytes) {
        let mut elsewhere = Vec::new();
        for &user in users {
            match self.hub.user(user) {
                Some(session) => session.tell(frame.clone()),
                None => elsewhere.push(user),
            }
        }
        if elsewhere.is_empty() {
            return;
        }
        let Ok(locations) = self.locate(&elsewhere).await else { return };
        let frame = String::from_utf8_lossy(&frame).into_owned();
        for (node, to) in by_node(locations) {
            self.bus.hint(node, BusMessage::Push { to, frame: frame.clone() }.encode());
        }
    }

    /// Renews the lease for ever. Returns when another start of this node has taken over.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        let length = Duration::from_millis(self.config.lease_ms);
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.lease_refresh_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut strangers = Strangers::default();
        loop {
            ticks.tick().await;
            let asked_at = Instant::now();
            // A database that hangs must not keep the node from noticing that its lease is over.
            let renewal = tokio::time::timeout(length, self.store().refresh_lease(self.lease, length)).await;
            match renewal {
                Ok(Ok(renewal)) => {
                    if renewal.had_run_out {
                        self.directory.is_fenced.store(true, Ordering::Relaxed);
                    }
                    let was_fenced = self.directory.is_fenced();
                    self.directory.renewed(asked_at, length);
                    if was_fenced && !self.reclaim().await {
                        continue;
                    }
                    if was_fenced {
                        self.directory.is_fenced.store(false, Ordering::Relaxed);
                        info!("the lease is renewed, and the sessions are claimed again");
                        // To the others this node was gone, and its users with it. They may remember that.
                        self.bus.broadcast(BusMessage::Joined { node: self.lease.node.0 }.encode());
                        self.heal_all();
                    }
                    self.look_around(&mut strangers).await;
                }
                Ok(Err(error)) if error.refusal() == Some(Refusal::Fenced) => {
                    error!(node = self.name, "another start of this node, or another node of its name, has taken over");
                    self.set_replaced();
                    return;
                }
                Ok(Err(error)) => warn!(%error, "the lease could not be renewed"),
                Err(_) => warn!("the lease could not be renewed in time"),
            }
        }
    }

    /// Learns which nodes there are.
    async fn look_around(&self, strangers: &mut Strangers) {
        let joins = self.directory.joins();
        let Ok(nodes) = self.store().nodes().await else { return };
        let is_alone = nodes.iter().all(|node| node.lease.node == self.lease.node);
        if self.directory.looked_around(joins, is_alone) {
            info!(nodes = nodes.len(), "the cluster changed");
        }
        let apart: Vec<&store::Node> = nodes.iter().filter(|node| !self.bus.may_reach(node.lease.node)).collect();
        let (unreachable, is_news) = strangers.look(&apart);
        self.directory.unreachable.store(unreachable, Ordering::Relaxed);
        if is_news && unreachable > 0 {
            let names: Vec<&str> =
                apart.iter().filter(|node| strangers.has(node)).map(|node| node.name.as_str()).collect();
            warn!(
                nodes = ?names,
                bus = self.bus.name(),
                late_ms = self.config.heal_ms,
                "other nodes use this database, and this node's bus does not reach them: messages between their users and \
                 this node's come late; nodes that share a database need the same Redis (--bus redis://host:port)"
            );
        } else if is_news {
            info!("no node uses this database any more that this node's bus does not reach");
        }
    }

    /// Ends the sessions that others have claimed, after the lease was lost or a hint was. Returns whether all were looked
    /// at.
    pub(crate) async fn reclaim(&self) -> bool {
        let sessions = self.hub.registered();
        for chunk in sessions.chunks(VERIFY_AT_ONCE) {
            let Ok(ours) = self.store().verify_sessions(self.lease, chunk).await else { return false };
            let ours: std::collections::HashSet<(UserId, SessionId)> = ours.into_iter().collect();
            for (user, id) in chunk.iter().filter(|session| !ours.contains(session)) {
                if let Some(session) = self.hub.session(*id)
                    && session.user() == Some(*user)
                {
                    self.metrics().displaced.inc();
                    session.close(NoticeCode::Displaced);
                }
            }
        }
        true
    }

    /// Sends probes to this node's own channel for ever, and has the bus make a new link when one does not come back.
    pub(crate) async fn probe(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.probe_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let number = {
                let mut probe = self.directory.probe.lock();
                if probe.sent.is_some() {
                    self.metrics().probes_lost.inc();
                    if !self.directory.is_deaf.swap(true, Ordering::Relaxed) {
                        warn!("the bus does not answer");
                    }
                    self.bus.reconnect();
                }
                probe.number += 1;
                probe.sent = Some(Instant::now());
                probe.number
            };
            let payload = BusMessage::Probe { node: self.lease.node.0, number }.encode();
            if !self.bus.hint(self.lease.node, payload) && !self.bus.is_up() {
                // It was not sent: the bus knows that its link is down, and makes a new one, which must not be thrown away
                // because this probe did not come back.
                self.directory.probe.lock().sent = None;
            }
        }
    }

    fn probed(self: &Arc<Self>, number: u64) {
        let mut probe = self.directory.probe.lock();
        if probe.number != number {
            return;
        }
        if let Some(sent) = probe.sent.take() {
            self.metrics().bus_lag_seconds.observe(sent.elapsed().as_secs_f64());
        }
        drop(probe);
        if self.directory.is_deaf.swap(false, Ordering::Relaxed) {
            info!("the bus answers again");
            // Whatever the bus says about gaps: it was deaf, and things were said.
            self.directory.forget_all();
            self.members.forget_all();
            self.heal_all();
        }
    }

    /// Does what the bus says, for ever.
    pub(crate) async fn listen(self: Arc<Self>, mut events: BusEvents) {
        while let Some(event) = events.recv().await {
            match event {
                BusEvent::Payload(payload) => match BusMessage::decode(&payload) {
                    Some(message) => self.hear(message),
                    None => warn!(bytes = payload.len(), "an unknown message on the bus"),
                },
                BusEvent::Gap => {
                    // The probe that is on its way may be among what was lost. The next one asks again.
                    self.directory.probe.lock().sent = None;
                    self.directory.forget_all();
                    self.members.forget_all();
                    self.bus.broadcast(BusMessage::Joined { node: self.lease.node.0 }.encode());
                    self.heal_all();
                }
                BusEvent::Down => warn!("the bus is down"),
            }
        }
    }

    fn hear(self: &Arc<Self>, message: BusMessage) {
        match message {
            BusMessage::Deliver(messages) => self.hear_messages(messages),
            BusMessage::Push { to, frame } => {
                let frame = Bytes::from(frame);
                for session in to.into_iter().filter_map(UserId::new).filter_map(|user| self.hub.user(user)) {
                    session.tell(frame.clone());
                }
            }
            BusMessage::Displace { session, incarnation, .. } => {
                // It may be so fresh that it does not know its user yet.
                if incarnation == self.lease.incarnation.0
                    && let Some(session) = self.hub.session(SessionId(session))
                {
                    session.close(NoticeCode::Displaced);
                }
            }
            BusMessage::Moved { user } => {
                if let Some(user) = UserId::new(user) {
                    self.directory.forget(user);
                }
            }
            BusMessage::Regrouped { group } => self.members.forget(group),
            BusMessage::Joined { node } => {
                if node != self.lease.node.0 {
                    self.directory.joined();
                    // It had no link or no lease, so what it would have told this node's users may be only in the store.
                    self.heal_all();
                }
            }
            BusMessage::Probe { node, number } => {
                if node == self.lease.node.0 {
                    self.probed(number);
                }
            }
        }
    }

    /// Gives messages to their users. Each session is written once.
    fn hear_messages(self: &Arc<Self>, messages: Vec<Addressed>) {
        let mut reached = Reached::new(&self.bus);
        for Addressed { to, message } in messages {
            let Some(push) = Push::new(message).map(Arc::new) else { continue };
            let mut strays = 0;
            for user in to.into_iter().filter_map(UserId::new) {
                strays += u64::from(!self.deliver_here(user, &push, &mut reached));
            }
            if strays == 0 {
                continue;
            }
            self.metrics().strays.inc_by(strays);
            if push.seq.is_none() {
                // Stored nowhere: this node is the last to know of it.
                let node = Arc::clone(self);
                tokio::spawn(async move { node.store_relayed(vec![push]).await });
            }
        }
    }

    /// Looks after every session now and then: deadlines, signs of life, clients that do not read, healing reads.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let config = &self.config;
        let beat = Duration::from_millis(
            [config.login_deadline_ms, config.slow_reader_ms, config.ping_after_ms, config.heal_ms, 8000]
                .into_iter()
                .min()
                .map_or(1000, |shortest| (shortest / 8).clamp(10, 1000)),
        );
        let beats_per_heal = (Duration::from_millis(config.heal_ms).as_nanos() / beat.as_nanos()).max(1) as u64;
        let mut ticks = tokio::time::interval(beat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            ticks.tick().await;
            self.hub.each(|session| self.look_after(session, number % beats_per_heal == session.id.0 % beats_per_heal));
            if number % beats_per_heal == 0 && number > 0 && !self.directory.is_alone() {
                self.reclaim().await;
            }
            if number % (60_000 / beat.as_millis() as u64).max(1) == 1 {
                // Any node may do it, and it does not matter when one does not.
                let _ = self.store().sweep().await;
            }
        }
    }

    fn look_after(self: &Arc<Self>, session: &Arc<Session>, is_its_turn: bool) {
        let (user, is_modern, stalled) = session.with_unflushed(|outbox, _| {
            (outbox.user, outbox.is_modern, outbox.stalled_since.map(|since| since.elapsed()))
        });
        let (config, silence) = (&self.config, session.silence());
        if stalled.is_some_and(|stalled| stalled > Duration::from_millis(config.slow_reader_ms)) {
            session.close(NoticeCode::SlowConsumer);
        } else if user.is_none() {
            if silence > Duration::from_millis(config.login_deadline_ms) {
                session.close(NoticeCode::LoginTimeout);
            }
        } else if is_modern && silence > Duration::from_millis(config.idle_timeout_ms) {
            session.close(NoticeCode::IdleTimeout);
        } else {
            if is_modern && silence > Duration::from_millis(config.ping_after_ms) {
                session.ping();
            }
            if is_its_turn {
                self.heal(session);
            }
        }
    }
}

/// The users of each node.
pub(crate) fn by_node(locations: Vec<(UserId, NodeId)>) -> Vec<(NodeId, Vec<u32>)> {
    let mut nodes: Vec<(NodeId, Vec<u32>)> = Vec::new();
    for (user, node) in locations {
        match nodes.iter_mut().find(|(known, _)| *known == node) {
            Some((_, users)) => users.push(user.get()),
            None => nodes.push((node, vec![user.get()])),
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looked_around_before_a_node_joined_does_not_think_itself_alone() {
        let directory = Directory::new(Duration::from_secs(5), Instant::now());
        let joins = directory.joins();
        assert!(directory.looked_around(joins, true) && directory.is_alone());
        // The answer was on its way when the other one said that it is there.
        directory.joined();
        assert!(!directory.looked_around(joins, true));
        assert!(!directory.is_alone());
        // It has gone again.
        let joins = directory.joins();
        assert!(directory.looked_around(joins, true) && directory.is_alone());
        // And there is one of which nothing was heard.
        assert!(directory.looked_around(joins, false) && !directory.is_alone());
    }
}

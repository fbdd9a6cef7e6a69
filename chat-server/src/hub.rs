//! The sessions of this node, and how to reach a user who has one.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::metrics::Metrics;
use crate::outbox::{Backlog, Closing, Offered, Outbox, QueueLimits};
use crate::protocol::MAX_SERVER_FRAME;
use crate::protocol::event::{Event, Notice, NoticeCode};
use crate::push::Push;
use crate::store::{Conversation, Cursor, Seq, SessionId, Store, UserId};

/// Shards of the tables: more than threads will ever meet in one.
const SHARDS: usize = 64;

/// A user, as a session knows its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub id: UserId,
    /// The user's name.
    pub name: String,
}

/// What the sessions of a node have in common.
pub struct Shared {
    /// The limits of the queues.
    pub limits: QueueLimits,
    /// Where cursors go.
    pub store: Store,
    /// What is counted.
    pub metrics: Metrics,
    /// The node's own time begins here.
    pub start: Instant,
}

impl Shared {
    /// Milliseconds since the node began; wraps around after 49 days, so compare differences.
    pub fn now_ms(&self) -> u32 {
        self.start.elapsed().as_millis() as u32
    }
}

/// One client's connection, as the rest of the node sees it.
pub struct Session {
    /// Its number, unique on this node since it started.
    pub id: SessionId,
    /// Where the client is.
    pub address: IpAddr,
    /// Wakes the session's task.
    waker: AtomicWaker,
    /// The socket, if others than the session's task may write to it: not with TLS.
    socket: Option<OwnedWriteHalf>,
    shared: Arc<Shared>,
    outbox: Mutex<Outbox>,
    /// When the client was last heard, or began to be without a login.
    heard_ms: AtomicU32,
    /// A PING is on its way.
    is_pinged: AtomicBool,
    /// There is room in the queue again.
    room: Notify,
}

impl Session {
    /// A connection whose client has said nothing yet.
    pub(crate) fn new(
        id: SessionId,
        address: IpAddr,
        socket: Option<OwnedWriteHalf>,
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let heard_ms = AtomicU32::new(shared.now_ms());
        Arc::new(Self {
            id,
            address,
            waker: AtomicWaker::new(),
            socket,
            shared,
            outbox: Mutex::default(),
            heard_ms,
            is_pinged: AtomicBool::new(false),
            room: Notify::new(),
        })
    }

    /// The user, while logged in.
    pub fn user(&self) -> Option<UserId> {
        self.outbox.lock().user
    }

    /// Whether the client has said HELLO.
    pub fn is_modern(&self) -> bool {
        self.outbox.lock().is_modern
    }

    /// Looks at the outbox, or changes it, and writes what can be written.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Outbox, &QueueLimits) -> T) -> T {
        let mut outbox = self.outbox.lock();
        let result = change(&mut outbox, &self.shared.limits);
        self.flush_locked(&mut outbox);
        result
    }

    /// Changes the outbox and leaves the writing to a later [`flush`](Self::flush).
    pub(crate) fn with_unflushed<T>(&self, change: impl FnOnce(&mut Outbox, &QueueLimits) -> T) -> T {
        change(&mut self.outbox.lock(), &self.shared.limits)
    }

    /// Offers this user a stored message, to be written with the next [`flush`](Self::flush). Somebody else may have logged in
    /// meanwhile.
    pub(crate) fn offer(&self, user: UserId, push: &Arc<Push>) -> Offered {
        let mut outbox = self.outbox.lock();
        if outbox.user != Some(user) {
            return Offered::Closed;
        }
        let offered = outbox.offer(push, &self.shared.limits);
        if user == push.sender
            && let Some(seq) = outbox.positions.own_cursor(push.conversation)
        {
            self.shared.store.advance(Cursor { user, conversation: push.conversation, seq: Seq(seq) });
        }
        if outbox.wants_healing() {
            self.waker.wake();
        }
        offered
    }

    /// Opens the session for a user, and writes the answer to his login.
    pub(crate) fn log_in(&self, user: UserId, answer: Bytes, backlog: Option<Backlog>) {
        let mut outbox = self.outbox.lock();
        outbox.log_in(user, answer, backlog);
        if outbox.closing != Some(Closing::Gone) {
            self.flush_or_close(&mut outbox);
        }
    }

    /// Puts an answer into the queue and writes it.
    pub(crate) fn send(&self, frame: Bytes) {
        let mut outbox = self.outbox.lock();
        // A connection that is about to be closed is still told what became of its commands.
        if outbox.closing == Some(Closing::Gone) {
            return;
        }
        outbox.push(frame);
        self.flush_or_close(&mut outbox);
    }

    /// Tells a modern client some news. Original clients know none.
    pub(crate) fn tell(&self, frame: Bytes) {
        let mut outbox = self.outbox.lock();
        if outbox.closing.is_some() || !outbox.is_modern {
            return;
        }
        outbox.push(frame);
        self.flush_or_close(&mut outbox);
    }

    /// Writes what was just put into the queue without regard to its limit: an answer, or news, which cannot be read from
    /// the store again. A client that is so far behind that they alone fill a second queue is not reading.
    fn flush_or_close(&self, outbox: &mut Outbox) {
        let ((frames, bytes), limits) = (outbox.len(), &self.shared.limits);
        if frames > 2 * limits.frames || bytes > 2 * limits.bytes + MAX_SERVER_FRAME {
            return self.close_locked(outbox, NoticeCode::SlowConsumer);
        }
        self.flush_locked(outbox);
    }

    /// Writes what waits.
    pub(crate) fn flush(&self) {
        self.flush_locked(&mut self.outbox.lock());
    }

    fn flush_locked(&self, outbox: &mut Outbox) {
        if outbox.is_empty() || outbox.is_blocked {
            return;
        }
        let Some(socket) = &self.socket else { return self.waker.wake() };
        match outbox.flush(socket, &self.shared.limits) {
            Ok(cursors) => self.moved(outbox, cursors),
            Err(_) => {
                outbox.closing.get_or_insert(Closing::Gone);
                self.waker.wake();
            }
        }
        if outbox.is_blocked || outbox.resume_at.is_some() {
            self.waker.wake();
        }
    }

    /// What follows from bytes' having been written.
    fn moved(&self, outbox: &mut Outbox, cursors: Vec<Cursor>) {
        for cursor in cursors {
            self.shared.store.advance(cursor);
        }
        if outbox.has_room(&self.shared.limits) {
            self.room.notify_waiters();
            if outbox.is_paused || outbox.wants_healing() {
                self.waker.wake();
            }
        }
    }

    /// Registers the session's task and does what only it can do: wait for the socket, for the spacing of an original
    /// client, and write to a socket with TLS through `write`.
    pub(crate) fn poll_flush(
        &self,
        cx: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
        mut write: Option<Write<'_>>,
    ) {
        self.waker.register(cx.waker());
        let mut outbox = self.outbox.lock();
        loop {
            if let Some(time) = outbox.resume_at {
                let sleep = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(time.into())));
                if sleep.deadline().into_std() != time {
                    sleep.as_mut().reset(time.into());
                }
                if sleep.as_mut().poll(cx).is_pending() {
                    return;
                }
                outbox.resume_at = None;
                *timer = None;
            }
            match (&self.socket, &mut write) {
                (Some(socket), _) => {
                    if outbox.is_blocked {
                        match socket.as_ref().poll_write_ready(cx) {
                            Poll::Pending => return,
                            Poll::Ready(Ok(())) => outbox.is_blocked = false,
                            Poll::Ready(Err(_)) => {
                                outbox.closing = Some(Closing::Gone);
                                outbox.is_blocked = false;
                                return;
                            }
                        }
                    }
                    if outbox.is_empty() || outbox.closing == Some(Closing::Gone) {
                        return;
                    }
                    match outbox.flush(socket, &self.shared.limits) {
                        Ok(cursors) => self.moved(&mut outbox, cursors),
                        Err(_) => {
                            outbox.closing = Some(Closing::Gone);
                            return;
                        }
                    }
                    if !outbox.is_blocked && outbox.resume_at.is_none() {
                        return;
                    }
                }
                (None, Some(write)) => {
                    let frame = match outbox.next(&self.shared.limits) {
                        Ok(Some(frame)) => frame,
                        Ok(None) => return,
                        Err(time) => {
                            outbox.resume_at = Some(time);
                            continue;
                        }
                    };
                    match write(cx, &frame) {
                        Poll::Pending => return,
                        Poll::Ready(Ok(bytes)) if bytes > 0 => {
                            let mut cursors = Vec::new();
                            outbox.wrote(bytes, &mut cursors);
                            self.moved(&mut outbox, cursors);
                        }
                        Poll::Ready(_) => {
                            outbox.closing = Some(Closing::Gone);
                            return;
                        }
                    }
                }
                (None, None) => return,
            }
        }
    }

    /// Ends the connection: what waits is left out, the reason is said if the client still reads.
    pub fn close(&self, code: NoticeCode) {
        self.close_locked(&mut self.outbox.lock(), code);
    }

    /// As [`close`](Self::close), with words of one's own.
    pub(crate) fn close_with(&self, notice: Notice) {
        self.close_with_locked(&mut self.outbox.lock(), notice);
    }

    fn close_locked(&self, outbox: &mut Outbox, code: NoticeCode) {
        self.close_with_locked(outbox, Notice { code, text: text(code).into(), reconnect_ms: None });
    }

    fn close_with_locked(&self, outbox: &mut Outbox, notice: Notice) {
        if outbox.closing.is_some() {
            return;
        }
        let code = notice.code;
        self.shared.metrics.closed(code.name());
        if code == NoticeCode::SlowConsumer {
            // Memory first. What was stored nowhere is stored when the session ends.
            outbox.keep_relayed();
        }
        if outbox.is_modern {
            outbox.push(notice.frame());
        }
        outbox.closing = Some(Closing::Notice(code));
        self.flush_locked(outbox);
        self.waker.wake();
        self.room.notify_waiters();
    }

    /// Waits until there is room in the queue, or the session ends. Returns whether there is.
    pub(crate) async fn room(&self) -> bool {
        loop {
            let room = self.room.notified();
            {
                let outbox = self.outbox.lock();
                if outbox.closing.is_some() {
                    return false;
                }
                if outbox.has_room(&self.shared.limits) {
                    return true;
                }
            }
            room.await;
        }
    }

    /// The client has said something, or a deadline begins.
    pub(crate) fn hear(&self) {
        self.heard_ms.store(self.shared.now_ms(), Ordering::Relaxed);
        self.is_pinged.store(false, Ordering::Relaxed);
    }

    /// How long the client has been silent.
    pub(crate) fn silence(&self) -> Duration {
        let heard_ms = self.heard_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.shared.now_ms().wrapping_sub(heard_ms).into())
    }

    /// Asks for a sign of life, once.
    pub(crate) fn ping(&self) {
        if !self.is_pinged.swap(true, Ordering::Relaxed) {
            self.tell(crate::protocol::event::PING_FRAME);
        }
    }

    /// Nobody needs to wait for room any more.
    pub(crate) fn room_is_gone(&self) {
        self.room.notify_waiters();
    }

    /// Notes that the client has everything of a conversation up to `seq`. Returns whether anything is known of it here.
    pub(crate) fn acknowledge(&self, user: UserId, conversation: Conversation, seq: u64) -> bool {
        let cursor = self.outbox.lock().positions.acknowledge(conversation, seq);
        if let Ok(Some(seq)) = cursor {
            self.shared.store.advance(Cursor { user, conversation, seq: Seq(seq) });
        }
        cursor.is_ok()
    }
}

/// Writes to a socket that only the session's task has.
pub(crate) type Write<'a> = &'a mut dyn FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>;

/// What a notice says in words.
fn text(code: NoticeCode) -> &'static str {
    match code {
        NoticeCode::Synced => "everything that was waiting has been sent",
        NoticeCode::Draining => "the server is about to stop",
        NoticeCode::Displaced => "the same user logged in elsewhere",
        NoticeCode::SlowConsumer => "this client reads too slowly",
        NoticeCode::LoginTimeout => "no login in time",
        NoticeCode::IdleTimeout => "nothing was heard for too long",
        NoticeCode::Violation => "the rules of the protocol were broken",
        NoticeCode::Fenced => "this node may no longer speak for its users",
        NoticeCode::Other => "",
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("address", &self.address).finish_non_exhaustive()
    }
}

/// The tables of sessions.
pub struct Hub {
    sessions: Vec<Mutex<HashMap<SessionId, Arc<Session>>>>,
    users: Vec<RwLock<HashMap<UserId, Arc<Session>>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            sessions: (0..SHARDS).map(|_| Mutex::default()).collect(),
            users: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }
}

impl Hub {
    fn users(&self, user: UserId) -> &RwLock<HashMap<UserId, Arc<Session>>> {
        &self.users[user.get() as usize % SHARDS]
    }

    fn sessions(&self, session: SessionId) -> &Mutex<HashMap<SessionId, Arc<Session>>> {
        &self.sessions[session.0 as usize % SHARDS]
    }

    /// Adds a connection.
    pub(crate) fn add(&self, session: &Arc<Session>) {
        self.sessions(session.id).lock().insert(session.id, Arc::clone(session));
    }

    /// Removes a connection.
    pub(crate) fn remove(&self, session: &Session) {
        self.sessions(session.id).lock().remove(&session.id);
    }

    /// Makes this the user's session on this node. `false`: it is being closed already, perhaps displaced by one that
    /// was faster, and must not take its place.
    pub(crate) fn register(&self, user: UserId, session: &Arc<Session>) -> bool {
        let mut users = self.users(user).write();
        if session.with_unflushed(|outbox, _| outbox.closing.is_some()) {
            return false;
        }
        users.insert(user, Arc::clone(session));
        true
    }

    /// This is no longer the user's session, if it was.
    pub(crate) fn unregister(&self, user: UserId, session: &Session) {
        let mut users = self.users(user).write();
        if users.get(&user).is_some_and(|registered| registered.id == session.id) {
            users.remove(&user);
        }
    }

    /// The user's session on this node.
    pub fn user(&self, user: UserId) -> Option<Arc<Session>> {
        self.users(user).read().get(&user).cloned()
    }

    /// The session of this number.
    pub fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions(id).lock().get(&id).cloned()
    }

    /// All connections, at some moment during the call.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Goes over all connections, one shard at a time.
    pub(crate) fn each(&self, mut look: impl FnMut(&Arc<Session>)) {
        for shard in &self.sessions {
            let sessions: Vec<Arc<Session>> = shard.lock().values().cloned().collect();
            sessions.iter().for_each(&mut look);
        }
    }

    /// How many users have a session on this node.
    pub fn users_online(&self) -> usize {
        self.users.iter().map(|shard| shard.read().len()).sum()
    }

    /// All users who have a session on this node, with it.
    pub(crate) fn registered(&self) -> Vec<(UserId, SessionId)> {
        let mut all = Vec::new();
        for shard in &self.users {
            all.extend(shard.read().iter().map(|(user, session)| (*user, session.id)));
        }
        all
    }
}

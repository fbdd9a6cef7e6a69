//! One user, kept connected: a task that owns the connection, and the handles on it.
//!
//! ```text
//! Client --Ask--> the task --Request--> server          Events <--Event-- the task <--frames-- server
//!    ^--- answer, by rid ---'                               '--- dealt with ---> ACK
//! ```
//!
//! When the connection is lost, requests that can be repeated (reading, and messages, whose `mid` makes the repeat
//! harmless) wait for the next one and are sent again; the others end with [`ClientError::Lost`]. An event counts as dealt
//! with, and its message is acknowledged, when the next event is asked for. So a program that dies while it shows a message
//! gets it again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::connection::{Connection, decode, result};
use super::dedup::{Dedup, conversation};
use super::{ClientError, Credentials, EndReason, Options, clock};
use crate::protocol::answer::{Answer, ChatResult, Done, LoginResult};
use crate::protocol::command::{Ack, Chat, GroupChat, Logout, Ping, Pong};
use crate::protocol::event::{Delivery, FriendEvent, GroupEvent, Notice, NoticeCode, PresenceEvent, TypingEvent};
use crate::protocol::{Command, ErrorCode, Refusal, Request, ServerMessage, Target};

/// Requests that wait to be sent, and requests in flight; whoever asks for more waits.
pub const MAX_REQUESTS: usize = 256;
/// Events that nobody has taken. From there on the connection is read only while a request waits for its answer; the server
/// calls a client that goes on like that a slow consumer, and nothing stored is lost.
pub const MAX_EVENTS: usize = 4096;
/// How long a server that says it is stopping gets to answer what is in flight.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// The silence after which a server is asked whether it lives, if its HELLO does not say.
const DEFAULT_PING_AFTER: Duration = Duration::from_secs(30);

/// What happens to a user who is logged in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message {
        /// The message.
        delivery: Delivery,
        /// It had arrived before; only if [`Options::report_repeated`] asks for these.
        is_repeated: bool,
    },
    /// A friend came or went.
    Presence(PresenceEvent),
    /// Somebody is typing.
    Typing(TypingEvent),
    /// A friendship changed.
    Friend(FriendEvent),
    /// A group's membership changed.
    Group(GroupEvent),
    /// The server says something about the connection.
    Notice(Notice),
    /// The connection was lost; the next attempt comes after this delay.
    Disconnected {
        /// Why.
        reason: String,
        /// The delay.
        retry_in: Duration,
    },
    /// Connected and logged in again.
    Reconnected {
        /// The name of the node.
        node: String,
    },
    /// The last event.
    Ended(EndReason),
}

/// A request on its way to the task.
struct Ask {
    command: Command,
    answer: oneshot::Sender<Result<Answer, ClientError>>,
}

/// What the handles and the task share.
#[derive(Debug)]
struct Shared {
    dedup: Mutex<Dedup>,
    /// Something is to be acknowledged.
    due: Notify,
    /// Events that were not taken.
    waiting: AtomicUsize,
    /// An event was taken.
    taken: Notify,
    /// What the ids of this client's messages begin with: as good as unique, also over restarts of the program.
    prefix: u64,
    messages: AtomicU64,
    me: LoginResult,
}

/// A handle on a user's session. Dropping the last one, or the [`Events`], ends it without logging out.
#[derive(Debug, Clone)]
pub struct Client {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
    answer_timeout: Duration,
}

/// The events of a session, in order.
#[derive(Debug)]
pub struct Events {
    events: mpsc::UnboundedReceiver<Event>,
    shared: Arc<Shared>,
    /// The message that was taken last and is dealt with when the next event is asked for.
    in_hand: Option<(Target, u64)>,
}

impl Client {
    /// Connects and logs in, each address tried once, and keeps the user connected from then on.
    ///
    /// # Errors
    ///
    /// The last address's error, or the server's refusal.
    pub async fn login(options: Options, credentials: Credentials) -> Result<(Self, Events), ClientError> {
        let mut attempt = 0;
        let (connection, me) = loop {
            match connect(&options, &credentials, attempt).await {
                Ok(connected) => break connected,
                Err(ClientError::Refused(refusal)) => return Err(ClientError::Refused(refusal)),
                Err(error) if attempt + 1 >= options.addresses.len() => return Err(error),
                Err(_) => attempt += 1,
            }
        };
        let (asks, asks_of_task) = mpsc::channel(MAX_REQUESTS);
        let (events_of_task, events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            dedup: Mutex::default(),
            due: Notify::new(),
            waiting: AtomicUsize::new(0),
            taken: Notify::new(),
            prefix: fastrand::u64(..),
            messages: AtomicU64::new(0),
            me,
        });
        let credentials = credentials.or_token(shared.me.token.clone());
        let answer_timeout = options.answer_timeout;
        let keeper = Keeper {
            options,
            credentials,
            asks: asks_of_task,
            events: events_of_task,
            shared: Arc::clone(&shared),
            pending: BTreeMap::new(),
            waiting: VecDeque::new(),
            attempt,
        };
        tokio::spawn(keeper.run(connection));
        Ok((Self { asks, shared: Arc::clone(&shared), answer_timeout }, Events { events, shared, in_hand: None }))
    }

    /// Who is logged in, and the token of the first login.
    pub fn me(&self) -> &LoginResult {
        &self.shared.me
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The server's refusal; [`ClientError::Lost`] when the connection ended before the answer and the request cannot be
    /// repeated; [`ClientError::TimedOut`]; [`ClientError::Ended`].
    pub async fn request<T: DeserializeOwned>(&self, command: Command) -> Result<T, ClientError> {
        let ended = || ClientError::Ended(EndReason::Dropped);
        let exchange = async {
            let (answer, answered) = oneshot::channel();
            self.asks.send(Ask { command, answer }).await.map_err(|_| ended())?;
            result(&answered.await.map_err(|_| ended())??)
        };
        super::connection::within(self.answer_timeout, exchange).await
    }

    /// Sends a message. It is stored when this returns `Ok` (in the server's relay setting: passed on). Repeats it while the
    /// server cannot store it and while there is no connection, for as long as an answer may take.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request). After [`ClientError::TimedOut`] and [`ClientError::Ended`] it is not known whether the
    /// message was stored.
    pub async fn chat(&self, to: Target, text: impl Into<String>) -> Result<ChatResult, ClientError> {
        self.chat_as(to, text, self.message_id()).await
    }

    /// An id for a message that no other message of this user has. It begins with the time, which makes it cheaper for the
    /// server to remember.
    pub fn message_id(&self) -> String {
        let number = self.shared.messages.fetch_add(1, Ordering::Relaxed);
        format!("{:012x}-{:016x}-{number}", clock::now_ms(), self.shared.prefix)
    }

    /// [`chat`](Self::chat) with a message id of the caller's.
    ///
    /// # Errors
    ///
    /// As [`chat`](Self::chat).
    pub async fn chat_as(&self, to: Target, text: impl Into<String>, mid: String) -> Result<ChatResult, ClientError> {
        let (msg, mid, time) = (text.into(), Some(mid), Some(clock::date_and_time(clock::now_ms())));
        let command = match to {
            Target::Peer(toid) => Command::Chat(Chat { toid, msg, time, mid }),
            Target::Group(groupid) => Command::GroupChat(GroupChat { groupid, msg, time, mid }),
        };
        let repeat = async {
            let mut failures = 0;
            loop {
                match self.request(command.clone()).await {
                    Err(ClientError::Refused(refusal)) if refusal.code.is_retryable() => {
                        sleep(retry_delay(&refusal, failures)).await;
                        failures += 1;
                    }
                    result => return result,
                }
            }
        };
        super::connection::within(self.answer_timeout, repeat).await
    }

    /// Logs out and ends the session; its token ends, too.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request); the session ends in any case.
    pub async fn logout(self) -> Result<(), ClientError> {
        self.request::<Done>(Command::Logout(Logout {})).await.map(drop)
    }
}

/// When to try again after a refusal: when it says, else after 50 ms, 100 ms, ... and not all at once.
fn retry_delay(refusal: &Refusal, failures: u32) -> Duration {
    let said = refusal.retry_ms.map(Duration::from_millis);
    let limit = Duration::from_millis(50).saturating_mul(1 << failures.min(6));
    said.unwrap_or_default().max(limit.mul_f64(fastrand::f64()))
}

impl Events {
    /// The next event; `None` after the last one. Asking for it says that the one before has been dealt with. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        self.finish();
        let event = self.events.recv().await;
        self.take(event.as_ref());
        event
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.finish();
        let event = self.events.try_recv().ok();
        self.take(event.as_ref());
        event
    }

    fn finish(&mut self) {
        if let Some((conversation, seq)) = self.in_hand.take()
            && self.shared.dedup.lock().is_done(conversation, seq)
        {
            self.shared.due.notify_one();
        }
    }

    fn take(&mut self, event: Option<&Event>) {
        let Some(event) = event else { return };
        if let Event::Message { delivery, .. } = event {
            self.in_hand = delivery.seq.map(|seq| (conversation(delivery, self.shared.me.id), seq));
        }
        if self.shared.waiting.fetch_sub(1, Ordering::Relaxed) == MAX_EVENTS {
            self.shared.taken.notify_one();
        }
    }
}

/// Connects to the `attempt`th address and logs in.
async fn connect(
    options: &Options,
    credentials: &Credentials,
    attempt: usize,
) -> Result<(Connection, LoginResult), ClientError> {
    let mut connection = Connection::open(options, options.address(attempt)).await?;
    let login = connection.login(credentials, options.answer_timeout).await?;
    Ok((connection, login))
}

/// Whether a request may be sent a second time when nobody knows what became of the first.
fn is_repeatable(command: &Command) -> bool {
    match command {
        Command::Chat(Chat { mid, .. }) | Command::GroupChat(GroupChat { mid, .. }) => mid.is_some(),
        Command::History(_)
        | Command::Who(_)
        | Command::Friends(_)
        | Command::Groups(_)
        | Command::Members(_)
        | Command::Ack(_)
        | Command::Ping(_)
        | Command::Logout(_) => true,
        _ => false,
    }
}

/// The task.
struct Keeper {
    options: Options,
    credentials: Credentials,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::UnboundedSender<Event>,
    shared: Arc<Shared>,
    /// Sent and not answered, in the order of sending.
    pending: BTreeMap<u64, Ask>,
    /// To be sent when there is a connection.
    waiting: VecDeque<Ask>,
    attempt: usize,
}

/// Why a connection is not used any more.
enum End {
    /// Reconnect, after the delay that the server asked for, if it did.
    Lost { reason: String, after: Option<Duration> },
    /// The session is over.
    Over(EndReason),
}

impl Keeper {
    async fn run(mut self, mut connection: Connection) {
        let reason = loop {
            let (reason, after) = match self.serve(connection).await {
                End::Over(reason) => break reason,
                End::Lost { reason, after } => (reason, after),
            };
            self.set_aside(&reason);
            match self.reconnect(reason, after).await {
                Ok(connected) => connection = connected,
                Err(reason) => break reason,
            }
        };
        let asks = self.waiting.drain(..).chain(std::mem::take(&mut self.pending).into_values());
        for ask in asks {
            let _ = ask.answer.send(Err(ClientError::Ended(reason.clone())));
        }
        self.emit(Event::Ended(reason));
    }

    fn emit(&self, event: Event) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.events.send(event);
    }

    /// What was in flight when the connection was lost waits for the next one, or ends.
    fn set_aside(&mut self, reason: &str) {
        for ask in std::mem::take(&mut self.pending).into_values().rev() {
            if is_repeatable(&ask.command) {
                self.waiting.push_front(ask);
            } else {
                let _ = ask.answer.send(Err(ClientError::Lost(reason.to_owned())));
            }
        }
    }

    /// Tries until there is a connection and the user is logged in, or never can be.
    async fn reconnect(&mut self, reason: String, after: Option<Duration>) -> Result<Connection, EndReason> {
        let (mut failures, mut reason, mut after) = (0, reason, after);
        loop {
            let delay = after.take().unwrap_or_default() + self.options.backoff.delay(failures);
            self.emit(Event::Disconnected { reason, retry_in: delay });
            let wait = sleep(delay);
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    ask = self.asks.recv(), if self.waiting.len() < MAX_REQUESTS => match ask {
                        Some(ask) => self.waiting.push_back(ask),
                        None => return Err(EndReason::Dropped),
                    },
                    () = self.events.closed() => return Err(EndReason::Dropped),
                }
            }
            self.attempt += 1;
            failures += 1;
            match connect(&self.options, &self.credentials, self.attempt).await {
                Ok((connection, login)) => {
                    self.credentials.token = Some(login.token);
                    self.emit(Event::Reconnected { node: connection.hello.node.clone() });
                    return Ok(connection);
                }
                Err(ClientError::Refused(refusal))
                    if !refusal.code.is_retryable() && refusal.code != ErrorCode::Internal =>
                {
                    return Err(EndReason::LoginRefused(refusal));
                }
                Err(error) => {
                    if let ClientError::Refused(Refusal { retry_ms: Some(retry), .. }) = &error {
                        after = Some(Duration::from_millis(*retry));
                    }
                    reason = error.to_string();
                }
            }
        }
    }

    /// Works on one connection until it ends.
    async fn serve(&mut self, mut connection: Connection) -> End {
        let patience = match connection.hello.ping_after_ms {
            0 => DEFAULT_PING_AFTER,
            after => Duration::from_millis(after),
        };
        let lost = |reason: String| End::Lost { reason, after: None };
        let mut state =
            Serving { silent_until: Instant::now() + patience, is_asked: false, leaving: None, last_words: None };
        for ask in std::mem::take(&mut self.waiting) {
            if let Err(error) = self.send(&mut connection, ask).await {
                return lost(error);
            }
        }
        loop {
            if let Some((_, after)) = state.leaving
                && self.pending.is_empty()
            {
                return End::Lost { reason: "the server is about to stop".into(), after: Some(after) };
            }
            let is_full = self.shared.waiting.load(Ordering::Relaxed) >= MAX_EVENTS;
            let deadline = state.leaving.map_or(state.silent_until, |(until, _)| until.min(state.silent_until));
            let due = Arc::clone(&self.shared);
            let step = tokio::select! {
                frame = connection.frame(), if !is_full || !self.pending.is_empty() => {
                    state.silent_until = Instant::now() + patience;
                    state.is_asked = false;
                    match frame {
                        Ok(frame) => self.receive(&mut connection, &frame, &mut state).await,
                        Err(end) => {
                            let after = state.leaving.map(|(_, after)| after);
                            Err(End::Lost { reason: state.last_words.take().unwrap_or(end), after })
                        }
                    }
                }
                ask = self.asks.recv(), if state.leaving.is_none() && self.pending.len() < MAX_REQUESTS => match ask {
                    Some(ask) => self.send(&mut connection, ask).await.map_err(lost),
                    None => Err(End::Over(EndReason::Dropped)),
                },
                () = due.due.notified() => self.acknowledge(&mut connection).await.map_err(lost),
                () = due.taken.notified(), if is_full => Ok(()),
                () = self.events.closed() => Err(End::Over(EndReason::Dropped)),
                () = sleep_until(deadline), if !is_full => match state.leaving {
                    Some((until, after)) if until <= Instant::now() => {
                        Err(End::Lost { reason: "the server is about to stop".into(), after: Some(after) })
                    }
                    _ if state.is_asked => Err(lost("the server is silent".into())),
                    _ => {
                        state.is_asked = true;
                        state.silent_until = Instant::now() + self.options.answer_timeout;
                        let ping = Request { rid: Some(connection.rid()), command: Command::Ping(Ping {}) };
                        self.write(&mut connection, [ping]).await.map_err(lost)
                    }
                },
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Writes, within the time an answer may take: a server that does not read is as good as gone.
    async fn write(
        &self,
        connection: &mut Connection,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<(), String> {
        match timeout(self.options.answer_timeout, connection.write(requests)).await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err("the server does not read".into()),
        }
    }

    async fn send(&mut self, connection: &mut Connection, ask: Ask) -> Result<(), String> {
        if ask.answer.is_closed() {
            return Ok(()); // whoever asked has given up
        }
        let rid = connection.rid();
        let request = Request { rid: Some(rid), command: ask.command.clone() };
        self.pending.insert(rid, ask);
        self.write(connection, [request]).await
    }

    async fn acknowledge(&self, connection: &mut Connection) -> Result<(), String> {
        let due = self.shared.dedup.lock().take_due();
        let acks = due.into_iter().map(|(conversation, seq)| {
            let (peer, groupid) = match conversation {
                Target::Peer(peer) => (Some(peer), None),
                Target::Group(group) => (None, Some(group)),
            };
            Request { rid: None, command: Command::Ack(Ack { peer, groupid, seq }) }
        });
        self.write(connection, acks).await
    }

    async fn receive(&mut self, connection: &mut Connection, frame: &[u8], state: &mut Serving) -> Result<(), End> {
        let lost = |reason: String| End::Lost { reason, after: None };
        match decode(frame).map_err(|error| lost(error.to_string()))? {
            ServerMessage::Answer(answer) => return self.answered(answer),
            ServerMessage::Delivery(delivery) => {
                let Some(seq) = delivery.seq else {
                    self.emit(Event::Message { delivery, is_repeated: false });
                    return Ok(());
                };
                let conversation = conversation(&delivery, self.shared.me.id);
                let is_repeated = !self.shared.dedup.lock().arrives(conversation, seq);
                if is_repeated {
                    self.shared.due.notify_one();
                }
                if !is_repeated || self.options.report_repeated {
                    self.emit(Event::Message { delivery, is_repeated });
                }
            }
            ServerMessage::Presence(event) => self.emit(Event::Presence(event)),
            ServerMessage::Typing(event) => self.emit(Event::Typing(event)),
            ServerMessage::Friend(event) => self.emit(Event::Friend(event)),
            ServerMessage::Group(event) => self.emit(Event::Group(event)),
            ServerMessage::Ping => {
                let pong = Request { rid: None, command: Command::Pong(Pong {}) };
                self.write(connection, [pong]).await.map_err(lost)?;
            }
            ServerMessage::Notice(notice) => {
                let code = notice.code;
                match code {
                    NoticeCode::Displaced => return Err(End::Over(EndReason::Displaced)),
                    NoticeCode::Draining => {
                        let after = Duration::from_millis(notice.reconnect_ms.unwrap_or_default());
                        state.leaving = Some((Instant::now() + DRAIN_LIMIT, after));
                    }
                    NoticeCode::Synced | NoticeCode::Other => {}
                    _ => state.last_words = Some(notice.text.clone()),
                }
                self.emit(Event::Notice(notice));
            }
            ServerMessage::Unknown(_) => {}
        }
        Ok(())
    }

    fn answered(&mut self, answer: Answer) -> Result<(), End> {
        let Some(rid) = answer.rid else {
            // The server could not read what this client sent, and closes if it cannot go on.
            return Ok(());
        };
        // Not there: the answer to a PING, or to somebody who has given up.
        let Some(ask) = self.pending.remove(&rid) else { return Ok(()) };
        let is_logout = matches!(ask.command, Command::Logout(_)) && answer.errno == 0;
        let _ = ask.answer.send(Ok(answer));
        if is_logout { Err(End::Over(EndReason::LoggedOut)) } else { Ok(()) }
    }
}

/// What is known about the connection at hand.
struct Serving {
    /// When to ask the server whether it lives; once that was done, when to give it up.
    silent_until: Instant,
    is_asked: bool,
    /// The server is about to stop: leave at that time or when everything is answered; come back after the delay.
    leaving: Option<(Instant, Duration)>,
    /// Why the server says it closes.
    last_words: Option<String>,
}

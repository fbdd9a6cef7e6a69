//! What clients can ask for: one handler for each command, one file for each family.

pub(crate) mod account;
mod chat;
mod friends;
mod groups;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tracing::{debug, error};

use crate::codec::FrameError;
use crate::delivery::Outgoing;
use crate::hub::{Identity, Session};
use crate::node::Node;
use crate::protocol::answer::{self, Done};
use crate::protocol::request::BadRequest;
use crate::protocol::{Command, ErrorCode, Refusal, Request, Target, msgid};
use crate::session::violate;
use crate::store::{self, ClientMessageId, Conversation, GroupId, StoreError, UserId};

/// What came from a client.
pub(crate) enum Item {
    /// A command.
    Request(Request),
    /// A frame that is no command.
    Bad(BadRequest),
    /// Bytes that are no frames.
    Broken(FrameError),
}

/// What a session's commands know of each other.
#[derive(Default)]
pub(crate) struct State {
    /// The user, while logged in.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The client has said HELLO.
    pub(crate) is_modern: bool,
    /// The token that was given out at the login, to be revoked at the logout.
    pub(crate) token: Option<Box<str>>,
}

/// What the handlers work with.
pub(crate) struct Context<'a> {
    pub(crate) node: &'a Arc<Node>,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) state: &'a mut State,
}

impl Context<'_> {
    /// The user.
    ///
    /// # Errors
    ///
    /// Nobody is logged in.
    fn identity(&self) -> Result<Arc<Identity>, Refusal> {
        let not = || Refusal::new(ErrorCode::NotLoggedIn, "log in first");
        self.state.identity.clone().ok_or_else(not)
    }

    /// The store, if this node may speak for its users at the moment.
    fn store(&self) -> Result<&store::Store, Refusal> {
        if self.node.directory.is_fenced() {
            return Err(Refusal::new(ErrorCode::Unavailable, "this node lost its lease; it is being renewed"));
        }
        Ok(self.node.store())
    }
}

/// What a handler has to say.
pub(crate) enum Reply {
    /// This is the answer, once its head is known.
    Result(Box<dyn FnOnce(i64, Option<u64>) -> Bytes + Send>),
    /// It has been answered, or needs no answer.
    Sent,
}

/// The reply with this result.
fn reply<T: Serialize + Send + 'static>(result: T) -> Result<Reply, Refusal> {
    Ok(Reply::Result(Box::new(move |to, rid| answer::result(to, rid, &result))))
}

/// The reply with nothing to tell.
fn done() -> Result<Reply, Refusal> {
    reply(Done {})
}

/// A message that is about to be accepted, with what its answer needs.
struct Waiting {
    to: i64,
    rid: Option<u64>,
}

/// Carries out what came in one read, in order. Messages that follow each other share a commit.
pub(crate) async fn work(node: &Arc<Node>, session: &Arc<Session>, state: &mut State, batch: Vec<Item>) {
    let (mut waiting, mut outgoing) = (Vec::new(), Vec::new());
    for item in batch {
        match item {
            Item::Request(Request { rid, command }) => {
                if state.identity.is_some() {
                    session.hear();
                }
                let to = command.msgid();
                // A client sends one of these for each message it gets.
                if let (None, Command::Ack(ack), Some(identity)) = (rid, &command, &state.identity)
                    && state.is_modern
                    && let Ok(conversation) = conversation(identity.id, ack.target())
                    && session.acknowledge(identity.id, conversation, ack.seq)
                {
                    continue;
                }
                match message(state, command) {
                    Message::Outgoing(message) => {
                        waiting.push(Waiting { to, rid });
                        outgoing.push(message);
                        continue;
                    }
                    Message::Impossible(refusal) => {
                        accept(node, session, state, &mut waiting, &mut outgoing).await;
                        refuse(node, session, to, rid, &refusal);
                    }
                    Message::None(command) => {
                        accept(node, session, state, &mut waiting, &mut outgoing).await;
                        let mut context = Context { node, session, state };
                        handle(&mut context, rid, command).await;
                    }
                }
            }
            Item::Bad(bad) => {
                accept(node, session, state, &mut waiting, &mut outgoing).await;
                account::refuse_bad(node, session, state, &bad);
            }
            Item::Broken(error) => {
                accept(node, session, state, &mut waiting, &mut outgoing).await;
                debug!(session = session.id.0, %error, "no frame");
                violate(session, &error);
                return;
            }
        }
    }
    accept(node, session, state, &mut waiting, &mut outgoing).await;
}

/// Whether a command is a message to somebody.
enum Message {
    Outgoing(Outgoing),
    /// It is, but there can be no such recipient, or no such id.
    Impossible(Refusal),
    /// It is something else.
    None(Command),
}

fn message(state: &State, command: Command) -> Message {
    let Some(identity) = &state.identity else { return Message::None(command) };
    let (conversation, text, time, mid) = match command {
        Command::Chat(chat) => match UserId::new(chat.toid) {
            Some(to) => (Conversation::direct(identity.id, to), chat.msg, chat.time, chat.mid),
            None => return Message::Impossible(Refusal::new(ErrorCode::UnknownUser, "toid: no such user")),
        },
        Command::GroupChat(chat) => match GroupId::new(chat.groupid) {
            Some(group) => (Conversation::group(group), chat.msg, chat.time, chat.mid),
            None => return Message::Impossible(Refusal::new(ErrorCode::UnknownGroup, "groupid: no such group")),
        },
        other => return Message::None(other),
    };
    // To go on without an id that cannot be stored would be to promise once, and to deliver twice.
    match mid.map(ClientMessageId::new).transpose() {
        Ok(mid) => Message::Outgoing(Outgoing { conversation, text, time: time.unwrap_or_default(), mid }),
        Err(error) => Message::Impossible(Refusal::bad_field("mid", error)),
    }
}

/// Accepts the messages that were collected, and answers them.
async fn accept(
    node: &Arc<Node>,
    session: &Arc<Session>,
    state: &State,
    waiting: &mut Vec<Waiting>,
    outgoing: &mut Vec<Outgoing>,
) {
    let Some(identity) = state.identity.as_ref().filter(|_| !outgoing.is_empty()) else { return };
    let results = node.accept(session, identity, std::mem::take(outgoing)).await;
    let mut frames = Vec::with_capacity(results.len());
    for (Waiting { to, rid }, result) in waiting.drain(..).zip(results) {
        match result {
            Ok(result) if state.is_modern => frames.push(answer::result(to, rid, &result)),
            Ok(_) => {}
            Err(refusal) => {
                node.metrics().refused(refusal.code.name());
                frames.push(answer::refusal(to, rid, &refusal));
            }
        }
    }
    if !frames.is_empty() {
        session.with(|outbox, _| frames.into_iter().for_each(|frame| outbox.push(frame)));
    }
}

/// Carries out one command and answers it.
async fn handle(context: &mut Context<'_>, rid: Option<u64>, command: Command) {
    let to = command.msgid();
    let is_report = matches!(command, Command::Ack(_) | Command::Typing(_) | Command::Pong(_));
    let result = Box::pin(dispatch(context, rid, command)).await;
    match result {
        Ok(Reply::Result(answer)) if context.state.is_modern && (rid.is_some() || !is_report) => {
            context.session.send(answer(to, rid));
        }
        Ok(_) => {}
        Err(refusal) => account::refuse(context, to, rid, &refusal),
    }
}

async fn dispatch(context: &mut Context<'_>, rid: Option<u64>, command: Command) -> Result<Reply, Refusal> {
    let is_original = command.msgid() <= msgid::GROUP_CHAT;
    if !context.state.is_modern && !is_original && !matches!(command, Command::Hello(_)) {
        return Err(Refusal::new(ErrorCode::NeedsHello, "this command belongs to the modern mode: send HELLO first"));
    }
    match command {
        Command::Hello(hello) => account::hello(context, hello),
        Command::Register(register) => account::register(context, register).await,
        Command::Login(login) => account::login(context, rid, login).await,
        Command::Resume(resume) => account::resume(context, rid, resume).await,
        Command::Logout(_) => account::logout(context).await,
        Command::Ping(_) => done(),
        Command::Pong(_) => done(),
        // With somebody logged in these are collected and accepted together.
        Command::Chat(_) | Command::GroupChat(_) => context.identity().and_then(|_| done()),
        Command::Ack(ack) => chat::ack(context, ack).await,
        Command::History(history) => chat::history(context, history).await,
        Command::Typing(typing) => chat::typing(context, typing).await,
        Command::Who(who) => chat::who(context, who).await,
        Command::AddFriend(friend) => friends::add(context, friend).await,
        Command::AcceptFriend(friend) => friends::accept(context, friend).await,
        Command::RejectFriend(friend) => friends::reject(context, friend).await,
        Command::RemoveFriend(friend) => friends::remove(context, friend).await,
        Command::Friends(_) => friends::list(context).await,
        Command::CreateGroup(group) => groups::create(context, group).await,
        Command::JoinGroup(group) => groups::join(context, group).await,
        Command::LeaveGroup(group) => groups::leave(context, group).await,
        Command::Kick(kick) => groups::kick(context, kick).await,
        Command::SetRole(role) => groups::set_role(context, role).await,
        Command::Groups(_) => groups::list(context).await,
        Command::Members(group) => groups::members(context, group).await,
    }
}

/// Answers with a refusal. The original client ignores this message, people with a terminal do not.
fn refuse(node: &Node, session: &Session, to: i64, rid: Option<u64>, refusal: &Refusal) {
    node.metrics().refused(refusal.code.name());
    session.send(answer::refusal(to, rid, refusal));
}

/// The store's error in the words of the protocol.
pub(crate) fn refusal(error: &StoreError) -> Refusal {
    use store::Refusal as Store;
    let code = match error {
        StoreError::Refused(refusal) => match refusal {
            Store::UnknownUser => ErrorCode::UnknownUser,
            Store::UnknownGroup => ErrorCode::UnknownGroup,
            Store::NameTaken => ErrorCode::NameTaken,
            Store::NotMember | Store::NotInConversation => ErrorCode::NotAMember,
            Store::AlreadyMember | Store::AlreadyFriend => ErrorCode::Already,
            Store::NotAllowed => ErrorCode::NotAllowed,
            Store::NotFriend => ErrorCode::NoSuchFriend,
            Store::Full(_) => ErrorCode::LimitReached,
            Store::Fenced => ErrorCode::Unavailable,
            Store::IdTaken => return Refusal::bad_field("mid", refusal),
            Store::InvalidName | Store::Oneself | Store::BodyTooLong => ErrorCode::BadField,
        },
        StoreError::Busy { .. } => ErrorCode::Busy,
        StoreError::Unavailable(_) => ErrorCode::Unavailable,
        StoreError::Closed => ErrorCode::Draining,
        _ => ErrorCode::Internal,
    };
    match code {
        ErrorCode::Internal => {
            error!(%error, "the store failed");
            Refusal::new(code, "a mistake of the server; it is in the log")
        }
        // What is wrong with the database is the operator's to know.
        ErrorCode::Unavailable => {
            debug!(%error, "the store is not available");
            Refusal::new(code, "the database cannot be reached").retry_after(std::time::Duration::from_secs(1))
        }
        ErrorCode::Busy => Refusal::new(code, error.to_string()).retry_after(std::time::Duration::from_millis(200)),
        _ => Refusal::new(code, error.to_string()),
    }
}

fn user(field: &str, id: u32) -> Result<UserId, Refusal> {
    UserId::new(id).ok_or_else(|| Refusal::new(ErrorCode::UnknownUser, format!("{field}: no such user")))
}

fn group(id: u32) -> Result<GroupId, Refusal> {
    GroupId::new(id).ok_or_else(|| Refusal::new(ErrorCode::UnknownGroup, "groupid: no such group"))
}

/// The conversation that a command is about.
fn conversation(own: UserId, target: Option<Target>) -> Result<Conversation, Refusal> {
    match target {
        Some(Target::Peer(peer)) => Ok(Conversation::direct(own, user("peer", peer)?)),
        Some(Target::Group(id)) => Ok(Conversation::group(group(id)?)),
        None => Err(Refusal::bad_field("peer", "peer or groupid is missing")),
    }
}

//! What the server sends in the modern mode: answers, messages, notices.
//!
//! A message to several recipients is encoded once; the bytes are shared.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{ErrorCode, Refusal};
use super::json::parse;
use super::{Presence, Role, msgid};

/// Everything that a client may receive in the modern mode.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerMessage {
    /// The answer to a command.
    Answer(Answer),
    /// A message of a conversation, 6 or 10.
    Delivery(Delivery),
    /// A friend came or went.
    Presence(PresenceEvent),
    /// Somebody is typing.
    Typing(TypingEvent),
    /// Answer with PONG.
    Ping,
    /// Something about the connection.
    Notice(Notice),
    /// A friendship changed.
    Friend(FriendEvent),
    /// A group's membership changed.
    Group(GroupEvent),
    /// An id that this version does not know. To be ignored.
    Unknown(i64),
}

/// The answer to a command, as a client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// The request's id.
    #[serde(default)]
    pub rid: Option<u64>,
    /// The `msgid` of the command; 0 if it could not be read.
    pub to: i64,
    /// 0, or an [`ErrorCode`].
    pub errno: u32,
    /// What was asked for; see the results below.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The error's name.
    #[serde(default)]
    pub error: Option<String>,
    /// What is wrong, in words.
    #[serde(default)]
    pub errmsg: Option<String>,
    /// When trying again may help, in milliseconds.
    #[serde(default)]
    pub retry_ms: Option<u64>,
}

impl Answer {
    /// The result of a command that succeeded.
    ///
    /// # Errors
    ///
    /// The server's refusal; or [`ErrorCode::Malformed`] if the result is not a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.errno != 0 {
            return Err(Refusal {
                code: ErrorCode::from_number(self.errno).unwrap_or(ErrorCode::Internal),
                text: self.errmsg.clone().unwrap_or_default(),
                retry_ms: self.retry_ms,
            });
        }
        parse(self.result.as_deref().map_or("{}", RawValue::get))
    }
}

/// A message of a conversation, pushed or in a page of history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// [`msgid::CHAT`] or [`msgid::GROUP_CHAT`].
    pub msgid: i64,
    /// The sender.
    pub id: u32,
    /// The sender's name.
    pub name: String,
    /// The recipient, of a message to one user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toid: Option<u32>,
    /// The group, of a message to a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groupid: Option<u32>,
    /// The text.
    pub msg: String,
    /// The sender's notion of the time.
    pub time: String,
    /// The sender's own id of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// Its sequence in the conversation; missing if it was not stored (relay setting).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the server accepted it, in milliseconds since 1970.
    pub at: u64,
}

/// PRESENCE: a friend came or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceEvent {
    /// Who.
    pub id: u32,
    /// Came or went.
    pub state: Presence,
}

/// TYPING: somebody is typing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingEvent {
    /// Who.
    pub id: u32,
    /// In this group; else to the recipient alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groupid: Option<u32>,
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoticeCode {
    /// Everything that was waiting for this user at login has been sent.
    Synced,
    /// The server is about to stop: reconnect after `reconnect_ms`.
    Draining,
    /// The same user logged in elsewhere. The connection is closed.
    Displaced,
    /// This client reads too slowly. The connection is closed; nothing stored is lost.
    SlowConsumer,
    /// No login in time. The connection is closed.
    LoginTimeout,
    /// Nothing was heard from this client for too long. The connection is closed.
    IdleTimeout,
    /// This client broke the rules. The connection is closed.
    Violation,
    /// The server cannot be sure that it still speaks for this user. The connection is closed.
    Fenced,
    /// What a newer server says.
    #[serde(other)]
    Other,
}

impl NoticeCode {
    /// The code as it is written, for logs and metrics, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Draining => "draining",
            Self::Displaced => "displaced",
            Self::SlowConsumer => "slow_consumer",
            Self::LoginTimeout => "login_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Violation => "violation",
            Self::Fenced => "fenced",
            Self::Other => "other",
        }
    }
}

/// NOTICE: something about the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about.
    pub code: NoticeCode,
    /// The same in words.
    pub text: String,
    /// When to reconnect, in milliseconds; spreads the clients of a node that stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_ms: Option<u64>,
}

/// What happened to a friendship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FriendChange {
    /// The other user asks.
    Requested,
    /// The other user accepted.
    Accepted,
    /// The other user rejected.
    Rejected,
    /// The other user ended it, or took the request back.
    Removed,
}

/// FRIEND_EVENT: a friendship changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendEvent {
    /// The other user.
    pub id: u32,
    /// The other user's name.
    pub name: String,
    /// What happened.
    pub event: FriendChange,
}

/// What happened to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupChange {
    /// `id` joined.
    Joined,
    /// `id` left.
    Left,
    /// `id` was put out by `by`.
    Kicked,
    /// `id` got the role `role` from `by`.
    Role,
}

/// GROUP_EVENT: a group's membership changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEvent {
    /// The group.
    pub groupid: u32,
    /// The member.
    pub id: u32,
    /// The member's name.
    pub name: String,
    /// What happened.
    pub event: GroupChange,
    /// Who did it, if somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u32>,
    /// The new role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// The result of commands that have nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {}

/// The result of HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloResult {
    /// The version that both speak.
    pub version: u32,
    /// The server's name and version.
    pub server: String,
    /// The node's name.
    pub node: String,
    /// Bytes of a frame at most, once logged in.
    pub max_frame: u64,
    /// Bytes of a message's text at most.
    pub max_text: u64,
    /// Messages of a page of history at most.
    pub max_history: u32,
    /// After this time without a frame the server asks with PING, in milliseconds.
    pub ping_after_ms: u64,
    /// After this time without a frame the connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
}

/// The result of LOGIN and RESUME.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResult {
    /// The user.
    pub id: u32,
    /// The user's name.
    pub name: String,
    /// Logs in again with RESUME.
    pub token: String,
    /// When the token ends, in milliseconds since 1970.
    pub token_until: u64,
    /// Whether another session of this user was displaced.
    pub displaced: bool,
}

impl std::fmt::Debug for LoginResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginResult").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The result of REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterResult {
    /// The new user.
    pub id: u32,
}

/// The result of CHAT and GROUP_CHAT: the message is stored (or, in the relay setting, on its way).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatResult {
    /// Its sequence in the conversation; missing if it was not stored (relay setting).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the server accepted it, in milliseconds since 1970.
    pub at: u64,
    /// It had been accepted before, with the same `mid`; this is the first result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// The result of HISTORY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryResult {
    /// The page, oldest first.
    pub messages: Vec<Delivery>,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
}

/// The result of WHO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoResult {
    /// Those of the users that are online.
    pub online: Vec<u32>,
}

/// How far a friendship has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// Both are friends.
    Friend,
    /// The other user asks.
    Incoming,
    /// This user asked.
    Outgoing,
}

/// A friend in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendInfo {
    /// The friend.
    pub id: u32,
    /// The friend's name.
    pub name: String,
    /// Online or offline; of those who are no friends yet, always offline.
    pub state: Presence,
    /// How far it has come.
    pub relation: Relation,
}

/// The result of FRIENDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendsResult {
    /// Friends and requests.
    pub friends: Vec<FriendInfo>,
}

/// The result of CREATE_GROUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateGroupResult {
    /// The new group.
    pub groupid: u32,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// The group.
    pub groupid: u32,
    /// Its name.
    pub groupname: String,
    /// What it is about.
    pub groupdesc: String,
    /// The user's own role.
    pub role: Role,
    /// How many members it has.
    pub members: u32,
}

/// The result of GROUPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsResult {
    /// The user's groups.
    pub groups: Vec<GroupInfo>,
}

/// A member in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// The member.
    pub id: u32,
    /// The member's name.
    pub name: String,
    /// Online or offline.
    pub state: Presence,
    /// The member's role.
    pub role: Role,
}

/// The result of MEMBERS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersResult {
    /// The members.
    pub members: Vec<MemberInfo>,
}

/// The frame of a command's result, newline included.
pub fn answer<T: Serialize>(to: i64, rid: Option<u64>, result: &T) -> Bytes {
    #[derive(Serialize)]
    struct Success<'a, T> {
        msgid: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rid: Option<u64>,
        to: i64,
        errno: u32,
        result: &'a T,
    }
    frame(&Success { msgid: msgid::ANSWER, rid, to, errno: 0, result })
}

/// The frame of a refusal, newline included.
pub fn refuse(to: i64, rid: Option<u64>, refusal: &Refusal) -> Bytes {
    #[derive(Serialize)]
    struct Failure<'a> {
        msgid: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rid: Option<u64>,
        to: i64,
        errno: ErrorCode,
        error: &'static str,
        errmsg: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    }
    frame(&Failure {
        msgid: msgid::ANSWER,
        rid,
        to,
        errno: refusal.code,
        error: refusal.code.name(),
        errmsg: &refusal.text,
        retry_ms: refusal.retry_ms,
    })
}

/// Pushes other than messages: their ids.
pub trait Event: Serialize {
    /// The message's id.
    const MSGID: i64;

    /// The frame, newline included.
    fn frame(&self) -> Bytes {
        #[derive(Serialize)]
        struct Message<'a, T: ?Sized> {
            msgid: i64,
            #[serde(flatten)]
            body: &'a T,
        }
        frame(&Message { msgid: Self::MSGID, body: self })
    }
}

macro_rules! events {
    ($($type:ident = $id:ident;)*) => {
        $(impl Event for $type { const MSGID: i64 = msgid::$id; })*
    };
}
events! {
    PresenceEvent = PRESENCE;
    TypingEvent = TYPING;
    Notice = NOTICE;
    FriendEvent = FRIEND_EVENT;
    GroupEvent = GROUP_EVENT;
}

impl Delivery {
    /// The frame, newline included.
    pub fn frame(&self) -> Bytes {
        frame(self)
    }
}

/// The server's PING, newline included.
pub const PING_FRAME: Bytes = Bytes::from_static(b"{\"msgid\":28}\n");

/// One line of JSON.
fn frame<T: Serialize>(message: &T) -> Bytes {
    let mut line = BytesMut::with_capacity(256).writer();
    serde_json::to_writer(&mut line, message).expect("strings and numbers are always JSON");
    let mut line = line.into_inner();
    line.put_u8(b'\n');
    line.freeze()
}

impl ServerMessage {
    /// The message in `frame`, a JSON text: what a modern client does with what it receives.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says what is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Head {
            msgid: i64,
        }
        let text = std::str::from_utf8(frame)
            .map_err(|error| Refusal::new(ErrorCode::InvalidUtf8, format!("the frame is not UTF-8: {error}")))?;
        let head: Head = parse(text)?;
        Ok(match head.msgid {
            msgid::ANSWER => Self::Answer(parse(text)?),
            msgid::CHAT | msgid::GROUP_CHAT => Self::Delivery(parse(text)?),
            msgid::PRESENCE => Self::Presence(parse(text)?),
            msgid::TYPING => Self::Typing(parse(text)?),
            msgid::PING => Self::Ping,
            msgid::NOTICE => Self::Notice(parse(text)?),
            msgid::FRIEND_EVENT => Self::Friend(parse(text)?),
            msgid::GROUP_EVENT => Self::Group(parse(text)?),
            other => Self::Unknown(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_its_result_or_says_why_not() {
        let line = answer(msgid::CHAT, Some(7), &ChatResult { seq: Some(3), at: 9, duplicate: false });
        assert_eq!(&line[..], b"{\"msgid\":21,\"rid\":7,\"to\":6,\"errno\":0,\"result\":{\"seq\":3,\"at\":9}}\n");
        let ServerMessage::Answer(answer) = ServerMessage::decode(&line).unwrap() else { panic!() };
        assert_eq!(answer.result::<ChatResult>().unwrap().seq, Some(3));

        let refusal = Refusal::new(ErrorCode::RateLimited, "slow down").retry_after(std::time::Duration::from_secs(1));
        let line = refuse(msgid::CHAT, None, &refusal);
        assert_eq!(
            &line[..],
            b"{\"msgid\":21,\"to\":6,\"errno\":130,\"error\":\"rate_limited\",\"errmsg\":\"slow down\",\"retry_ms\":1000}\n"
        );
        let ServerMessage::Answer(answer) = ServerMessage::decode(&line).unwrap() else { panic!() };
        assert_eq!(answer.result::<ChatResult>().unwrap_err(), refusal);
    }

    #[test]
    fn events_come_back_from_their_encoding() {
        let line = Notice { code: NoticeCode::SlowConsumer, text: "x".into(), reconnect_ms: None }.frame();
        assert_eq!(&line[..], b"{\"msgid\":30,\"code\":\"slow_consumer\",\"text\":\"x\"}\n");
        assert!(matches!(
            ServerMessage::decode(&line).unwrap(),
            ServerMessage::Notice(Notice { code: NoticeCode::SlowConsumer, .. })
        ));
        assert!(matches!(ServerMessage::decode(&PING_FRAME).unwrap(), ServerMessage::Ping));
        assert!(matches!(ServerMessage::decode(b"{\"msgid\":77}").unwrap(), ServerMessage::Unknown(77)));
        let newer = ServerMessage::decode(b"{\"msgid\":30,\"code\":\"party\",\"text\":\"\"}").unwrap();
        assert!(matches!(newer, ServerMessage::Notice(Notice { code: NoticeCode::Other, .. })));
        for code in [NoticeCode::Synced, NoticeCode::Draining, NoticeCode::LoginTimeout, NoticeCode::Fenced] {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }

    #[test]
    fn a_line_break_in_a_text_does_not_end_the_line() {
        let delivery = Delivery {
            msgid: msgid::CHAT,
            id: 1,
            name: "a\nb".into(),
            toid: Some(2),
            groupid: None,
            msg: "\n\0".into(),
            time: String::new(),
            mid: None,
            seq: Some(1),
            at: 5,
        };
        let line = delivery.frame();
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n' || byte == 0).count(), 1);
        let ServerMessage::Delivery(back) = ServerMessage::decode(&line).unwrap() else { panic!() };
        assert_eq!(back, delivery);
    }
}

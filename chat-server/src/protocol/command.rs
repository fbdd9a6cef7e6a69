//! What clients send.
//!
//! A frame is read twice: first `msgid` and `rid`, then the fields of that message; those of a message to somebody, which
//! most frames are, at once. Fields that nobody knows are ignored, so the protocol can grow; a field that is missing, of the
//! wrong type or out of its limits is told by name.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{ErrorCode, Refusal};
use super::{
    MAX_CLIENT_BYTES, MAX_DESCRIPTION_CHARS, MAX_HISTORY_PAGE, MAX_MESSAGE_ID_BYTES, MAX_NAME_CHARS,
    MAX_PASSWORD_BYTES, MAX_TEXT_BYTES, MAX_TIME_BYTES, MAX_TOKEN_BYTES, MAX_WHO, Role, Target, VERSION, msgid,
};

/// A command with the id under which its answer comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's id for this request, repeated in the answer.
    pub rid: Option<u64>,
    /// What is asked for.
    pub command: Command,
}

/// A frame that is no command: what can be said about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct BadRequest {
    /// Its `msgid`, if that much could be read.
    pub msgid: Option<i64>,
    /// Its `rid`, if that much could be read.
    pub rid: Option<u64>,
    /// What is wrong with it.
    #[source]
    pub refusal: Refusal,
}

/// Defines [`Command`] and both directions of its encoding: variant, body, id.
macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $id:ident;)*) => {
        /// Everything that a client may send.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Command { $($(#[$doc])* $variant($body),)* }

        impl Command {
            /// The message's id.
            pub fn msgid(&self) -> i64 {
                match self { $(Self::$variant(_) => msgid::$id,)* }
            }

            fn decode(id: i64, text: &str) -> Result<Self, Refusal> {
                match id {
                    $(msgid::$id => {
                        let body: $body = parse(text)?;
                        body.check()?;
                        Ok(Self::$variant(body))
                    })*
                    other => Err(Refusal::new(
                        ErrorCode::UnknownMessage,
                        format!("msgid: {other} is no message that clients send"),
                    )),
                }
            }
        }

        impl Request {
            /// The JSON text, with no terminator.
            pub fn encode(&self) -> Bytes {
                match &self.command {
                    $(Command::$variant(body) => encode(self.command.msgid(), self.rid, body),)*
                }
            }
        }
    };
}

commands! {
    /// Turn the modern mode on.
    Hello(Hello) = HELLO;
    /// Log in with a password.
    Login(Login) = LOGIN;
    /// Log in with a token.
    Resume(Resume) = RESUME;
    /// Log out; the connection stays.
    Logout(Logout) = LOGOUT;
    /// Register a user.
    Register(Register) = REGISTER;
    /// A message to one user.
    Chat(Chat) = CHAT;
    /// A message to a group.
    GroupChat(GroupChat) = GROUP_CHAT;
    /// Everything up to this sequence has arrived.
    Ack(Ack) = ACK;
    /// A page of a conversation's past.
    History(History) = HISTORY;
    /// Who of these is online?
    Who(Who) = WHO;
    /// The user is typing.
    Typing(Typing) = TYPING;
    /// Are you there?
    Ping(Ping) = PING;
    /// Yes.
    Pong(Pong) = PONG;
    /// Ask for a friendship.
    AddFriend(FriendId) = ADD_FRIEND;
    /// Accept a request.
    AcceptFriend(FriendId) = ACCEPT_FRIEND;
    /// Reject a request.
    RejectFriend(FriendId) = REJECT_FRIEND;
    /// End a friendship, or take a request back.
    RemoveFriend(FriendId) = REMOVE_FRIEND;
    /// The friends and the requests.
    Friends(Friends) = FRIENDS;
    /// Create a group.
    CreateGroup(CreateGroup) = CREATE_GROUP;
    /// Join a group.
    JoinGroup(GroupId) = JOIN_GROUP;
    /// Leave a group.
    LeaveGroup(GroupId) = LEAVE_GROUP;
    /// Put a member out.
    Kick(Kick) = KICK;
    /// Change a member's role.
    SetRole(SetRole) = SET_ROLE;
    /// The user's groups.
    Groups(Groups) = GROUPS;
    /// A group's members.
    Members(GroupId) = MEMBERS;
}

/// HELLO: turns the modern mode on. The first frame of a modern client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version the client speaks, [`VERSION`].
    pub version: u32,
    /// The client's name and version, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// LOGIN: by `id` (the original's way) or by `name`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The password.
    pub password: String,
}

/// RESUME: logs in without a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// From the answer to the last LOGIN or RESUME.
    pub token: String,
}

/// REGISTER.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The new user's name.
    pub name: String,
    /// The new user's password.
    pub password: String,
}

/// Secrets stay out of logs, also by accident.
macro_rules! hide {
    ($($type:ident { $($shown:ident),* })*) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        }
    )*};
}
hide! { Login { id, name } Resume {} Register { name } }

/// CHAT: a message to one user. What a client says about `id` and `name` is not believed: they are the session's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// The recipient.
    pub toid: u32,
    /// The text.
    pub msg: String,
    /// The sender's notion of the time, passed on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The client's own id of the message. A repeat with the same id is not stored again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// GROUP_CHAT: a message to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChat {
    /// The group.
    pub groupid: u32,
    /// The text.
    pub msg: String,
    /// As in [`Chat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// As in [`Chat`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
}

/// ACK: everything of the conversation up to `seq` has arrived. Answered only if it has a `rid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The conversation with this user; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// the conversation of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groupid: Option<u32>,
    /// The last sequence.
    pub seq: u64,
}

/// HISTORY: a page of a conversation's past, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The conversation with this user; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// the conversation of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groupid: Option<u32>,
    /// Messages with sequences below this, the newest of them; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// messages with sequences above this, the oldest of them. With neither, the newest there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Messages at most; [`MAX_HISTORY_PAGE`] when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// WHO: who of these users is online?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The users.
    pub ids: Vec<u32>,
}

/// TYPING: tell the other side. Stored nowhere, answered only if it has a `rid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// The conversation with this user; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// the conversation of this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groupid: Option<u32>,
}

/// A message about one user: ADD_FRIEND, ACCEPT_FRIEND, REJECT_FRIEND, REMOVE_FRIEND.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendId {
    /// The other user.
    pub friendid: u32,
}

/// CREATE_GROUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateGroup {
    /// The group's name.
    pub groupname: String,
    /// What it is about.
    #[serde(default)]
    pub groupdesc: String,
}

/// A message about one group: JOIN_GROUP, LEAVE_GROUP, MEMBERS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupId {
    /// The group.
    pub groupid: u32,
}

/// KICK: puts a member out of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kick {
    /// The group.
    pub groupid: u32,
    /// The member.
    pub userid: u32,
}

/// SET_ROLE: changes a member's role. Making somebody the creator makes the former one an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRole {
    /// The group.
    pub groupid: u32,
    /// The member.
    pub userid: u32,
    /// The new role.
    pub role: Role,
}

/// Messages without fields.
macro_rules! empty {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub struct $name {}

        impl Check for $name {}
    )*};
}
empty! {
    /// LOGOUT. The original sends an `id`, too, which is not believed.
    Logout
    /// PING.
    Ping
    /// PONG.
    Pong
    /// FRIENDS.
    Friends
    /// GROUPS.
    Groups
}

/// The limits that types do not express.
trait Check {
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Check for FriendId {}
impl Check for GroupId {}
impl Check for Kick {}
impl Check for SetRole {}

impl Check for Hello {
    fn check(&self) -> Result<(), Refusal> {
        if self.version != VERSION {
            let text = format!("version: this server speaks {VERSION}, not {}", self.version);
            return Err(Refusal::new(ErrorCode::UnknownVersion, text));
        }
        within("client", self.client.as_deref().unwrap_or(""), MAX_CLIENT_BYTES)
    }
}

impl Check for Login {
    fn check(&self) -> Result<(), Refusal> {
        match (&self.id, &self.name) {
            (Some(_), None) => {}
            (None, Some(name)) => self::name("name", name)?,
            (Some(_), Some(_)) => return Err(Refusal::bad_field("name", "give the id or the name, not both")),
            (None, None) => return Err(Refusal::bad_field("id", "the id or the name is missing")),
        }
        within("password", &self.password, MAX_PASSWORD_BYTES)
    }
}

impl Check for Resume {
    fn check(&self) -> Result<(), Refusal> {
        within("token", &self.token, MAX_TOKEN_BYTES)
    }
}

impl Check for Register {
    fn check(&self) -> Result<(), Refusal> {
        name("name", &self.name)?;
        not_empty("password", &self.password)?;
        within("password", &self.password, MAX_PASSWORD_BYTES)
    }
}

impl Check for Chat {
    fn check(&self) -> Result<(), Refusal> {
        message(&self.msg, self.time.as_deref(), self.mid.as_deref())
    }
}

impl Check for GroupChat {
    fn check(&self) -> Result<(), Refusal> {
        message(&self.msg, self.time.as_deref(), self.mid.as_deref())
    }
}

impl Check for Ack {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid).map(drop)
    }
}

impl Check for Typing {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid).map(drop)
    }
}

impl Check for History {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid)?;
        if self.before.is_some() && self.after.is_some() {
            return Err(Refusal::bad_field("after", "give before or after, not both"));
        }
        match self.limit {
            Some(limit) if !(1..=MAX_HISTORY_PAGE).contains(&limit) => {
                Err(Refusal::bad_field("limit", format_args!("must be 1 to {MAX_HISTORY_PAGE}")))
            }
            _ => Ok(()),
        }
    }
}

impl Check for Who {
    fn check(&self) -> Result<(), Refusal> {
        if self.ids.len() > MAX_WHO {
            return Err(Refusal::bad_field("ids", format_args!("at most {MAX_WHO} users at once")));
        }
        Ok(())
    }
}

impl Check for CreateGroup {
    fn check(&self) -> Result<(), Refusal> {
        name("groupname", &self.groupname)?;
        if self.groupdesc.chars().count() > MAX_DESCRIPTION_CHARS {
            return Err(Refusal::bad_field(
                "groupdesc",
                format_args!("longer than {MAX_DESCRIPTION_CHARS} characters"),
            ));
        }
        Ok(())
    }
}

/// Gives the conversation of a checked message.
macro_rules! has_target {
    ($($type:ident)*) => {$(
        impl $type {
            /// The conversation. `None` only for a message that was not checked: it names none, or two.
            pub fn target(&self) -> Option<Target> {
                target(self.peer, self.groupid).ok()
            }
        }
    )*};
}
has_target! { Ack History Typing }

fn target(peer: Option<u32>, group: Option<u32>) -> Result<Target, Refusal> {
    match (peer, group) {
        (Some(peer), None) => Ok(Target::Peer(peer)),
        (None, Some(group)) => Ok(Target::Group(group)),
        (Some(_), Some(_)) => Err(Refusal::bad_field("groupid", "give peer or groupid, not both")),
        (None, None) => Err(Refusal::bad_field("peer", "peer or groupid is missing")),
    }
}

fn message(text: &str, time: Option<&str>, mid: Option<&str>) -> Result<(), Refusal> {
    within("msg", text, MAX_TEXT_BYTES)?;
    within("time", time.unwrap_or(""), MAX_TIME_BYTES)?;
    match mid {
        Some(mid) => not_empty("mid", mid).and_then(|()| within("mid", mid, MAX_MESSAGE_ID_BYTES)),
        None => Ok(()),
    }
}

/// A name that others will see: 1 to [`MAX_NAME_CHARS`] characters, none of them a control character.
fn name(field: &str, name: &str) -> Result<(), Refusal> {
    not_empty(field, name)?;
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Refusal::bad_field(field, format_args!("longer than {MAX_NAME_CHARS} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::bad_field(field, "has control characters"));
    }
    if name.trim() != name {
        return Err(Refusal::bad_field(field, "begins or ends with a space"));
    }
    Ok(())
}

fn not_empty(field: &str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() { Err(Refusal::bad_field(field, "is empty")) } else { Ok(()) }
}

fn within(field: &str, value: &str, bytes: usize) -> Result<(), Refusal> {
    if value.len() > bytes {
        return Err(Refusal::bad_field(field, format_args!("longer than {bytes} bytes")));
    }
    Ok(())
}

/// What every message has.
#[derive(Deserialize)]
struct Head {
    msgid: i64,
    #[serde(default)]
    rid: Option<u64>,
}

/// The head with the fields of a message to somebody. Whatever is wrong with these is for the slow way to say, since in
/// another message they may mean something else.
#[derive(Deserialize)]
struct Short {
    msgid: i64,
    #[serde(default)]
    rid: Option<u64>,
    #[serde(default)]
    toid: Option<u32>,
    #[serde(default)]
    groupid: Option<u32>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    mid: Option<String>,
}

impl Short {
    /// The message, if it is one and all is well with it; else its head.
    fn read(self) -> Result<Request, Head> {
        let Self { msgid, rid, toid, groupid, msg, time, mid } = self;
        let command = match (msgid, toid, groupid, msg) {
            (msgid::CHAT, Some(toid), _, Some(msg)) => Command::Chat(Chat { toid, msg, time, mid }),
            (msgid::GROUP_CHAT, _, Some(groupid), Some(msg)) => {
                Command::GroupChat(GroupChat { groupid, msg, time, mid })
            }
            _ => return Err(Head { msgid, rid }),
        };
        let is_well = match &command {
            Command::Chat(chat) => chat.check().is_ok(),
            Command::GroupChat(chat) => chat.check().is_ok(),
            _ => false,
        };
        if is_well { Ok(Request { rid, command }) } else { Err(Head { msgid, rid }) }
    }
}

impl Request {
    /// The command in `frame`, a JSON text.
    ///
    /// # Errors
    ///
    /// [`BadRequest`] says what is wrong with it and names the field, with as much of the head as could be read.
    pub fn decode(frame: &[u8]) -> Result<Self, BadRequest> {
        let unread = |refusal| BadRequest { msgid: None, rid: None, refusal };
        let text = std::str::from_utf8(frame).map_err(|error| {
            let text = format!("the frame is not UTF-8 at byte {}", error.valid_up_to());
            unread(Refusal::new(ErrorCode::InvalidUtf8, text))
        })?;
        let head = match serde_json::from_str::<Short>(text).map(Short::read) {
            Ok(Ok(request)) => return Ok(request),
            Ok(Err(head)) => head,
            Err(_) => parse(text).map_err(unread)?,
        };
        match Command::decode(head.msgid, text) {
            Ok(command) => Ok(Self { rid: head.rid, command }),
            Err(refusal) => Err(BadRequest { msgid: Some(head.msgid), rid: head.rid, refusal }),
        }
    }
}

/// `text` as a `T`, or what is wrong with it.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if !error.is_data() {
        return Err(Refusal::new(ErrorCode::Malformed, format!("no JSON: {error}")));
    }
    // Once more, slowly: which field was it?
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(deserializer) {
        Ok(_) => Err(Refusal::new(ErrorCode::BadField, error.to_string())),
        Err(at) if at.path().iter().next().is_none() => Err(Refusal::new(ErrorCode::BadField, at.inner().to_string())),
        Err(at) => Err(Refusal::bad_field(&at.path().to_string(), at.inner())),
    }
}

/// The JSON text of a message: its head, then the fields of `body`.
fn encode<T: Serialize>(msgid: i64, rid: Option<u64>, body: &T) -> Bytes {
    #[derive(Serialize)]
    struct Message<'a, T> {
        msgid: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rid: Option<u64>,
        #[serde(flatten)]
        body: &'a T,
    }
    serde_json::to_vec(&Message { msgid, rid, body }).expect("strings and numbers are always JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(frame: &str) -> BadRequest {
        Request::decode(frame.as_bytes()).expect_err(frame)
    }

    #[test]
    fn what_the_original_client_sends_is_understood() {
        for (frame, command) in [
            (
                r#"{"id":13,"msgid":1,"password":"123456"}"#,
                Command::Login(Login { id: Some(13), name: None, password: "123456".into() }),
            ),
            (r#"{"id":13,"msgid":3}"#, Command::Logout(Logout {})),
            (
                r#"{"msgid":4,"name":"li si","password":"666666"}"#,
                Command::Register(Register { name: "li si".into(), password: "666666".into() }),
            ),
            (
                r#"{"id":13,"msg":"hello","msgid":6,"name":"zhang san","time":"2026-11-23 10:00:00","toid":15}"#,
                Command::Chat(Chat {
                    toid: 15,
                    msg: "hello".into(),
                    time: Some("2026-11-23 10:00:00".into()),
                    mid: None,
                }),
            ),
            (r#"{"friendid":15,"id":13,"msgid":7}"#, Command::AddFriend(FriendId { friendid: 15 })),
            (
                r#"{"groupdesc":"about rust","groupname":"crab","id":13,"msgid":8}"#,
                Command::CreateGroup(CreateGroup { groupname: "crab".into(), groupdesc: "about rust".into() }),
            ),
            (r#"{"groupid":1,"id":13,"msgid":9}"#, Command::JoinGroup(GroupId { groupid: 1 })),
            (
                r#"{"groupid":1,"id":13,"msg":"hi","msgid":10,"name":"zhang san","time":"now"}"#,
                Command::GroupChat(GroupChat { groupid: 1, msg: "hi".into(), time: Some("now".into()), mid: None }),
            ),
        ] {
            assert_eq!(Request::decode(frame.as_bytes()).unwrap(), Request { rid: None, command }, "{frame}");
        }
    }

    #[test]
    fn a_request_comes_back_from_its_encoding() {
        let requests = [
            Command::Hello(Hello { version: VERSION, client: Some("test/1".into()) }),
            Command::Login(Login { id: None, name: Some("a".into()), password: String::new() }),
            Command::Resume(Resume { token: "t".into() }),
            Command::Logout(Logout {}),
            Command::Chat(Chat { toid: 1, msg: "\u{1F980}\"\\\0".into(), time: None, mid: Some("m".into()) }),
            Command::Ack(Ack { peer: Some(1), groupid: None, seq: u64::MAX }),
            Command::History(History { peer: None, groupid: Some(1), before: Some(7), after: None, limit: Some(10) }),
            Command::Who(Who { ids: vec![1, 2] }),
            Command::Typing(Typing { peer: None, groupid: Some(1) }),
            Command::Ping(Ping {}),
            Command::SetRole(SetRole { groupid: 1, userid: 2, role: Role::Admin }),
        ];
        for command in requests {
            for rid in [None, Some(0), Some(u64::MAX)] {
                let request = Request { rid, command: command.clone() };
                assert_eq!(Request::decode(&request.encode()).unwrap(), request);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        for (frame, code, text) in [
            ("{}", ErrorCode::BadField, "missing field `msgid`"),
            (r#"{"msgid":"6"}"#, ErrorCode::BadField, "msgid: invalid type: string \"6\", expected i64"),
            (r#"{"msgid":6.0}"#, ErrorCode::BadField, "msgid: invalid type: floating point `6.0`"),
            (r#"{"msgid":999}"#, ErrorCode::UnknownMessage, "msgid: 999"),
            (r#"{"msgid":2}"#, ErrorCode::UnknownMessage, "msgid: 2"),
            (r#"{"msgid":6,"msgid":6}"#, ErrorCode::BadField, "duplicate field `msgid`"),
            (r#"{"msgid":6,"rid":-1}"#, ErrorCode::BadField, "rid: invalid value: integer `-1`"),
            (r#"{"msgid":6,"msg":"x"}"#, ErrorCode::BadField, "missing field `toid`"),
            (r#"{"msgid":6,"toid":-1,"msg":"x"}"#, ErrorCode::BadField, "toid: invalid value: integer `-1`"),
            (r#"{"msgid":6,"toid":"1","msg":"x"}"#, ErrorCode::BadField, "toid: invalid type: string"),
            (r#"{"msgid":6,"toid":1,"msg":{}}"#, ErrorCode::BadField, "msg: invalid type: map"),
            (r#"{"msgid":6,"toid":1,"msg":"x","mid":""}"#, ErrorCode::BadField, "mid: is empty"),
            (r#"{"msgid":1,"password":"x"}"#, ErrorCode::BadField, "id: the id or the name is missing"),
            (r#"{"msgid":4,"name":"a\u0000b","password":"x"}"#, ErrorCode::BadField, "name: has control characters"),
            (r#"{"msgid":4,"name":"a","password":""}"#, ErrorCode::BadField, "password: is empty"),
            (r#"{"msgid":23,"seq":1}"#, ErrorCode::BadField, "peer: peer or groupid is missing"),
            (r#"{"msgid":24,"peer":1,"limit":0}"#, ErrorCode::BadField, "limit: must be 1 to 100"),
            (
                r#"{"msgid":40,"groupid":1,"userid":2,"role":"king"}"#,
                ErrorCode::BadField,
                "role: unknown variant `king`",
            ),
            (r#"{"msgid":20,"version":7}"#, ErrorCode::UnknownVersion, "version: this server speaks 1, not 7"),
            (r#"{"msgid":28,}"#, ErrorCode::Malformed, "no JSON: trailing comma"),
            (r#"{"msgid"}"#, ErrorCode::Malformed, "no JSON: expected `:`"),
        ] {
            let bad = refusal(frame);
            assert_eq!(bad.refusal.code, code, "{frame}: {bad}");
            assert!(bad.refusal.text.starts_with(text), "{frame}: {bad}");
        }
        let long = format!(r#"{{"msgid":4,"name":"{}","password":"x"}}"#, "\u{1F980}".repeat(51));
        assert!(refusal(&long).refusal.text.starts_with("name: longer than 50 characters"));
        assert_eq!(Request::decode(b"{\"msgid\":28,\"x\":\"\xff\"}").unwrap_err().refusal.code, ErrorCode::InvalidUtf8);
    }

    #[test]
    fn fields_of_messages_are_ignored_in_other_commands() {
        for frame in [
            r#"{"msgid":28,"rid":7,"msg":{},"toid":"x","groupid":-1,"time":1,"mid":[]}"#,
            r#"{"msgid":28,"rid":7,"msg":"x","msg":"y","toid":1}"#,
        ] {
            let request = Request::decode(frame.as_bytes()).unwrap();
            assert_eq!(request, Request { rid: Some(7), command: Command::Ping(Ping {}) }, "{frame}");
        }
        let frame = r#"{"msgid":6,"toid":1,"groupid":"no group","msg":"x","time":null}"#;
        let chat = Chat { toid: 1, msg: "x".into(), time: None, mid: None };
        assert_eq!(Request::decode(frame.as_bytes()).unwrap(), Request { rid: None, command: Command::Chat(chat) });
        let frame = r#"{"msgid":10,"toid":2,"groupid":1,"msg":"x","mid":"m"}"#;
        let chat = GroupChat { groupid: 1, msg: "x".into(), time: None, mid: Some("m".into()) };
        assert_eq!(
            Request::decode(frame.as_bytes()).unwrap(),
            Request { rid: None, command: Command::GroupChat(chat) }
        );
    }

    #[test]
    fn the_head_of_a_bad_request_is_kept_for_its_answer() {
        let bad = refusal(r#"{"msgid":6,"rid":7}"#);
        assert_eq!((bad.msgid, bad.rid), (Some(6), Some(7)));
    }

    #[test]
    fn secrets_are_not_shown() {
        let login = Request::decode(br#"{"msgid":1,"id":1,"password":"hunter2"}"#).unwrap();
        let resume = Request::decode(br#"{"msgid":22,"token":"hunter2"}"#).unwrap();
        let register = Request::decode(br#"{"msgid":4,"name":"n","password":"hunter2"}"#).unwrap();
        assert!(!format!("{login:?}{resume:?}{register:?}").contains("hunter2"));
    }
}

//! What clients may ask: every command, its fields, and both directions of its encoding.
//!
//! Fields that nobody knows are ignored, so the protocol can grow. The limits of the others are in `check`; how a frame
//! comes to be a command is in [`request`](super::request).

mod check;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::check::{Check, target};
use super::error::{ErrorCode, Refusal};
use super::json::parse;
use super::{Role, Target, msgid};

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

            /// The command with this id, its fields in `text` and within their limits.
            pub(super) fn decode(id: i64, text: &str) -> Result<Self, Refusal> {
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

            /// The JSON text, with no terminator.
            pub(super) fn encode(&self, rid: Option<u64>) -> Bytes {
                match self { $(Self::$variant(body) => encode(self.msgid(), rid, body),)* }
            }

            /// Whether the fields are within their limits.
            pub(super) fn check(&self) -> Result<(), Refusal> {
                match self { $(Self::$variant(body) => body.check(),)* }
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
    /// The version the client speaks, [`VERSION`](super::VERSION).
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
    /// Messages at most; [`MAX_HISTORY_PAGE`](super::MAX_HISTORY_PAGE) when missing.
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
    use crate::protocol::Request;

    #[test]
    fn secrets_are_not_shown() {
        let login = Request::decode(br#"{"msgid":1,"id":1,"password":"hunter2"}"#).unwrap();
        let resume = Request::decode(br#"{"msgid":22,"token":"hunter2"}"#).unwrap();
        let register = Request::decode(br#"{"msgid":4,"name":"n","password":"hunter2"}"#).unwrap();
        assert!(!format!("{login:?}{resume:?}{register:?}").contains("hunter2"));
    }
}

//! The wire protocol: one typed definition of every message both ways, for server, client and load generator alike.
//!
//! PROTOCOL.md is the specification; this module is what it says, in types. Frames are made and taken apart by
//! [`codec`](crate::codec); here is what is inside.
//!
//! | part | what it has |
//! |---|---|
//! | [`request`] | reading what clients send: a frame becomes a [`Request`], or what is wrong with it is told |
//! | [`command`] | what clients may ask: each [`Command`], its fields, their limits |
//! | [`answer`] | what the server answers: the result of each command, refusals |
//! | [`event`] | what the server sends unasked: messages, who came and went, notices |
//! | [`server_message`] | reading what the server sends, for clients: a frame becomes a [`ServerMessage`] |
//! | [`original`] | the answers of the original's protocol, within its 1 024 bytes |
//! | [`error`] | error codes, their names, and whether it pays to try again |

pub mod answer;
pub mod command;
pub mod error;
pub mod event;
mod json;
pub mod original;
pub mod request;
pub mod server_message;

use serde::{Deserialize, Serialize};

pub use self::command::Command;
pub use self::error::{ErrorCode, Refusal};
pub use self::request::Request;
pub use self::server_message::ServerMessage;

/// The version of the modern mode that HELLO agrees on.
pub const VERSION: u32 = 1;

/// The integer ids of the messages, the field `msgid`.
pub mod msgid {
    /// Log in.
    pub const LOGIN: i64 = 1;
    /// The original's answer to [`LOGIN`].
    pub const LOGIN_ACK: i64 = 2;
    /// Log out; the connection stays.
    pub const LOGOUT: i64 = 3;
    /// Register a user.
    pub const REGISTER: i64 = 4;
    /// The original's answer to [`REGISTER`].
    pub const REGISTER_ACK: i64 = 5;
    /// A message to one user, both ways.
    pub const CHAT: i64 = 6;
    /// Ask for a friendship.
    pub const ADD_FRIEND: i64 = 7;
    /// Create a group.
    pub const CREATE_GROUP: i64 = 8;
    /// Join a group.
    pub const JOIN_GROUP: i64 = 9;
    /// A message to a group, both ways.
    pub const GROUP_CHAT: i64 = 10;
    /// Turn the modern mode on.
    pub const HELLO: i64 = 20;
    /// The answer to a command; the only one in the modern mode.
    pub const ANSWER: i64 = 21;
    /// Log in with a token.
    pub const RESUME: i64 = 22;
    /// Everything of a conversation up to a sequence has arrived.
    pub const ACK: i64 = 23;
    /// A page of a conversation's past.
    pub const HISTORY: i64 = 24;
    /// Somebody came or went.
    pub const PRESENCE: i64 = 25;
    /// Who of these friends and members of the same groups is online?
    pub const WHO: i64 = 26;
    /// Somebody is typing, both ways.
    pub const TYPING: i64 = 27;
    /// Are you there? Both ways.
    pub const PING: i64 = 28;
    /// The answer to the server's [`PING`].
    pub const PONG: i64 = 29;
    /// The server has something to say about the connection.
    pub const NOTICE: i64 = 30;
    /// The list of friends and of requests.
    pub const FRIENDS: i64 = 31;
    /// Accept a request.
    pub const ACCEPT_FRIEND: i64 = 32;
    /// Reject a request.
    pub const REJECT_FRIEND: i64 = 33;
    /// End a friendship, or take a request back.
    pub const REMOVE_FRIEND: i64 = 34;
    /// A friendship changed.
    pub const FRIEND_EVENT: i64 = 35;
    /// The list of the user's groups.
    pub const GROUPS: i64 = 36;
    /// The members of a group.
    pub const MEMBERS: i64 = 37;
    /// Leave a group.
    pub const LEAVE_GROUP: i64 = 38;
    /// Put a member out of a group.
    pub const KICK: i64 = 39;
    /// Change a member's role.
    pub const SET_ROLE: i64 = 40;
    /// A group's membership changed.
    pub const GROUP_EVENT: i64 = 41;
}

/// The bytes of a frame that a client may send before it has logged in.
pub const MAX_FRAME_BEFORE_LOGIN: usize = 8 * 1024;
/// The bytes of a frame that the server sends in the modern mode. No answer can have more, whatever is in it: the lists
/// below are bounded accordingly, which a test of [`answer`] says with the longest of each.
pub const MAX_SERVER_FRAME: usize = 1024 * 1024;
/// The bytes of a frame that a client may send once it has logged in.
pub const MAX_FRAME: usize = 64 * 1024;
/// Objects and arrays inside of each other, the frame's own object included.
pub const MAX_DEPTH: usize = 16;
/// The bytes of the text of a message, in UTF-8, before JSON escapes anything.
pub const MAX_TEXT_BYTES: usize = 60_000;
/// The characters of a user's or group's name.
pub const MAX_NAME_CHARS: usize = 50;
/// The characters of a group's description.
pub const MAX_DESCRIPTION_CHARS: usize = 200;
/// The bytes of a password.
pub const MAX_PASSWORD_BYTES: usize = 128;
/// The bytes of a client's own message id (`mid`).
pub const MAX_MESSAGE_ID_BYTES: usize = 64;
/// The bytes of the sender's own notion of the time (`time`), which is passed on as it is.
pub const MAX_TIME_BYTES: usize = 64;
/// The bytes of the name that a client gives itself in HELLO.
pub const MAX_CLIENT_BYTES: usize = 64;
/// The bytes of a resume token.
pub const MAX_TOKEN_BYTES: usize = 128;
/// The messages of one page of history.
pub const MAX_HISTORY_PAGE: u32 = 100;
/// The bytes of the texts of one page of history, unless a single message has more.
pub const MAX_HISTORY_BYTES: usize = 128 * 1024;
/// The users whose presence one WHO may ask for.
pub const MAX_WHO: usize = 200;
/// The friends of one user, and those whom he has asked; as many again may have asked him. A server may allow fewer.
pub const MAX_FRIENDS: usize = 1000;
/// The groups of one user. A server may allow fewer.
pub const MAX_GROUPS: usize = 500;
/// The members of one group. A server may allow fewer.
pub const MAX_MEMBERS: usize = 1000;
/// The bytes of a text that says what is wrong with a frame, for it may quote the frame.
pub const MAX_PROBLEM_BYTES: usize = 512;

/// What the original client can take in at once: it reads 1 024 bytes, and at 1 025 it aborts.
pub const ORIGINAL_MAX_BYTES: usize = 1024;

/// A conversation as a client names it: the other user's id, or the group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Target {
    /// The conversation with this user.
    #[serde(rename = "peer")]
    Peer(u32),
    /// The conversation of this group.
    #[serde(rename = "groupid")]
    Group(u32),
}

/// A member's role in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May read and write.
    Normal,
    /// May also put normal members out.
    Admin,
    /// May do everything; a group has one.
    Creator,
}

impl Role {
    /// The role as the original knows it: creator or normal.
    pub fn original(self) -> &'static str {
        match self {
            Self::Creator => "creator",
            Self::Admin | Self::Normal => "normal",
        }
    }
}

/// Whether a user is logged in anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Logged in on some node whose lease lives.
    Online,
    /// Not logged in.
    Offline,
}

//! What the server sends unasked in the modern mode: messages, who came and went, notices.
//!
//! A message to several recipients is encoded once; the bytes are shared.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::line;
use super::{Presence, Role, msgid};

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
        line(&Message { msgid: Self::MSGID, body: self })
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
        line(self)
    }
}

/// The server's PING, newline included.
pub const PING_FRAME: Bytes = Bytes::from_static(b"{\"msgid\":28}\n");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ServerMessage;

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

//! Reading what the server sends: what a modern client does with a frame that it receives.

use serde::Deserialize;

use super::answer::Answer;
use super::error::{ErrorCode, Refusal};
use super::event::{Delivery, FriendEvent, GroupEvent, Notice, PresenceEvent, TypingEvent};
use super::json::parse;
use super::msgid;

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

impl ServerMessage {
    /// The message in `frame`, a JSON text.
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

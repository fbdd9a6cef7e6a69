//! The names of things: small values that cannot be mistaken for one another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

/// The largest number a user or a group can have: the database's `INT`.
pub const MAX_ID: u32 = i32::MAX as u32;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl $name {
            /// This number, if it can be one: 1 to [`MAX_ID`].
            #[must_use]
            pub const fn new(number: u32) -> Option<Self> {
                if 1 <= number && number <= MAX_ID { Some(Self(number)) } else { None }
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = InvalidId;

            fn try_from(number: u32) -> Result<Self, InvalidId> {
                Self::new(number).ok_or(InvalidId)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = InvalidId;

            fn try_from(number: i64) -> Result<Self, InvalidId> {
                u32::try_from(number).ok().and_then(Self::new).ok_or(InvalidId)
            }
        }

        impl From<$name> for u32 {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().ok().and_then(Self::new).ok_or(InvalidId)
            }
        }
    };
}

/// A number that no user and no group can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a whole number from 1 to {MAX_ID}")]
pub struct InvalidId;

key! {
    /// A user's number, given at registration, from 1 on. What the original calls `id`, `toid` and `friendid`.
    UserId
}
key! {
    /// A group's number, given when it is created, from 1 on.
    GroupId
}
id! {
    /// A message's place in its conversation: 1, 2, 3 ... without gaps. 0 is "before the first".
    Seq(u64)
}
id! {
    /// A node's number, given to its name when it first registers.
    NodeId(u32)
}
id! {
    /// How often a node of this name has registered. The highest one is the node; a lower one is a ghost of it.
    Incarnation(u64)
}
id! {
    /// One login of one user on one node. The node chooses it; it must differ from the others it has chosen in this
    /// incarnation.
    SessionId(u64)
}
id! {
    /// Milliseconds since 1970 in UTC, by the database's clock, which all nodes share.
    Timestamp(u64)
}

/// Where messages have an order: a pair of users, or a group.
///
/// Eight bytes: the key in the database, too. A pair is the same conversation from both sides, and a user may talk to
/// himself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conversation(u64);

/// Which kind of conversation, and who is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationKind {
    /// Of two users, the lower number first; of one with himself when they are equal.
    Direct(UserId, UserId),
    /// Of a group's members.
    Group(GroupId),
}

impl Conversation {
    /// The conversation of two users.
    #[must_use]
    pub fn direct(one: UserId, other: UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        // A user's number is 1 at least, so a pair's key is larger than any group's; and it has 31 bits, so nothing is cut
        // off.
        Self(u64::from(low.0) << 32 | u64::from(high.0))
    }

    /// The conversation of a group.
    #[must_use]
    pub fn group(group: GroupId) -> Self {
        Self(u64::from(group.0))
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(self) -> ConversationKind {
        match (self.0 >> 32) as u32 {
            0 => ConversationKind::Group(GroupId(self.0 as u32)),
            low => ConversationKind::Direct(UserId(low), UserId(self.0 as u32)),
        }
    }

    /// The one whom `user` talks to in this pair; `None` for a group, and for a pair without `user`.
    #[must_use]
    pub fn other(self, user: UserId) -> Option<UserId> {
        match self.kind() {
            ConversationKind::Direct(low, high) if low == user => Some(high),
            ConversationKind::Direct(low, high) if high == user => Some(low),
            _ => None,
        }
    }

    /// The key as the database keeps it.
    pub(super) fn key(self) -> i64 {
        self.0.cast_signed()
    }

    pub(super) fn from_key(key: i64) -> Self {
        Self(key.cast_unsigned())
    }
}

impl fmt::Display for Conversation {
    /// `3-7` for a pair, `group 5` for a group.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ConversationKind::Direct(low, high) => write!(f, "{low}-{high}"),
            ConversationKind::Group(group) => write!(f, "group {group}"),
        }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({self})")
    }
}

/// The sender's own name for a message. The same one again, from the same sender, is the same message again.
///
/// A client chooses it (a number, a UUID) and repeats it when it did not hear the ack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientMessageId(String);

/// The most bytes a [`ClientMessageId`] may have.
pub const MAX_CLIENT_MESSAGE_ID_BYTES: usize = 64;

/// Why a text cannot be a [`ClientMessageId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message id has 1 to {MAX_CLIENT_MESSAGE_ID_BYTES} bytes and no control characters")]
pub struct InvalidMessageId;

impl ClientMessageId {
    /// This text as an id.
    ///
    /// # Errors
    ///
    /// It is empty, longer than [`MAX_CLIENT_MESSAGE_ID_BYTES`], or has a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidMessageId> {
        let text = text.into();
        let fits = (1..=MAX_CLIENT_MESSAGE_ID_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text)) } else { Err(InvalidMessageId) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u64> for ClientMessageId {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl TryFrom<String> for ClientMessageId {
    type Error = InvalidMessageId;

    fn try_from(text: String) -> Result<Self, InvalidMessageId> {
        Self::new(text)
    }
}

impl From<ClientMessageId> for String {
    fn from(id: ClientMessageId) -> Self {
        id.0
    }
}

impl fmt::Display for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_the_same_from_both_sides_and_never_a_group() {
        let (ada, bob) = (UserId(3), UserId(7));
        let pair = Conversation::direct(ada, bob);
        assert_eq!(pair, Conversation::direct(bob, ada));
        assert_eq!(pair.kind(), ConversationKind::Direct(ada, bob));
        assert_eq!((pair.other(ada), pair.other(bob), pair.other(UserId(8))), (Some(bob), Some(ada), None));
        let group = Conversation::group(GroupId(MAX_ID));
        assert_eq!(group.kind(), ConversationKind::Group(GroupId(MAX_ID)));
        assert_eq!(group.other(ada), None);
        assert_eq!((pair.to_string(), group.to_string()), ("3-7".into(), "group 2147483647".into()));
    }

    #[test]
    fn a_conversation_survives_its_key() {
        for conversation in [
            Conversation::direct(UserId(1), UserId(1)),
            Conversation::direct(UserId(MAX_ID), UserId(MAX_ID)),
            Conversation::group(GroupId(1)),
        ] {
            assert_eq!(Conversation::from_key(conversation.key()), conversation);
        }
        let himself = Conversation::direct(UserId(4), UserId(4));
        assert_eq!(himself.other(UserId(4)), Some(UserId(4)));
    }

    #[test]
    fn a_number_that_nobody_can_have_is_no_id() {
        for number in [0, -1, i64::from(MAX_ID) + 1, i64::MAX] {
            assert_eq!(UserId::try_from(number), Err(InvalidId), "{number}");
        }
        assert_eq!("17".parse(), Ok(UserId(17)));
        assert_eq!("0".parse::<GroupId>(), Err(InvalidId));
        assert!(serde_test("0").is_err() && serde_test("-3").is_err() && serde_test("3").is_ok());
    }

    /// What a client's message may say.
    fn serde_test(json: &str) -> Result<UserId, String> {
        let number: i64 = json.parse().map_err(|_| "no number".to_owned())?;
        UserId::deserialize(serde::de::value::I64Deserializer::<serde::de::value::Error>::new(number))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_id_is_short_and_printable() {
        assert_eq!(ClientMessageId::new("018f-…").unwrap().as_str(), "018f-…");
        assert_eq!(ClientMessageId::from(7).to_string(), "7");
        for bad in ["", "a\0b", "\n", &"x".repeat(65)] {
            assert_eq!(ClientMessageId::new(bad), Err(InvalidMessageId), "{bad:?}");
        }
        assert!(ClientMessageId::new("x".repeat(64)).is_ok());
    }
}

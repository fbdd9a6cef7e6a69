//! Error codes. Each has a number for programs, a name for people who read logs, and says whether trying again helps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Defines the codes once: number, name, retryable or not, meaning.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $retry:ident;)*) => {
        /// Why something was refused: the field `errno` of an answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u32)]
        pub enum ErrorCode { $($(#[$doc])* $variant = $number,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, the field `error`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether the same command may succeed later.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$variant => codes!(@ $retry),)* }
            }

            /// The code with this number.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
    (@ retry) => { true };
    (@ final) => { false };
}

codes! {
    /// The frame is not what a frame may be: no object, or its JSON is broken.
    Malformed = 100, "malformed", final;
    /// No message has this `msgid`, or it is not one that clients send.
    UnknownMessage = 101, "unknown_message", final;
    /// A field is missing, of the wrong type or out of its limits. The text names it.
    BadField = 102, "bad_field", final;
    /// The frame is longer than allowed. The connection is closed.
    FrameTooLarge = 103, "frame_too_large", final;
    /// The frame is not UTF-8.
    InvalidUtf8 = 104, "invalid_utf8", final;
    /// Objects and arrays are nested too deeply. The connection is closed.
    TooDeep = 105, "too_deep", final;
    /// The command needs the modern mode: send HELLO first.
    NeedsHello = 106, "needs_hello", final;
    /// HELLO asks for a version that this server does not speak.
    UnknownVersion = 107, "unknown_version", final;
    /// The command needs a login.
    NotLoggedIn = 110, "not_logged_in", final;
    /// This connection is logged in already.
    AlreadyLoggedIn = 111, "already_logged_in", final;
    /// No such user, or not this password. Which of them is not told.
    BadCredentials = 112, "bad_credentials", final;
    /// The account is in use elsewhere, and this server was told to refuse a second login.
    AccountInUse = 113, "account_in_use", retry;
    /// The resume token is unknown or has expired: log in with the password.
    BadToken = 114, "bad_token", final;
    /// A user of this name exists.
    NameTaken = 115, "name_taken", final;
    /// There is no such user.
    UnknownUser = 120, "unknown_user", final;
    /// There is no such group.
    UnknownGroup = 121, "unknown_group", final;
    /// Only members may do that.
    NotAMember = 122, "not_a_member", final;
    /// The role does not allow it.
    NotAllowed = 123, "not_allowed", final;
    /// A group of this name exists.
    GroupNameTaken = 124, "group_name_taken", final;
    /// There is no request or friendship that this could be about.
    NoSuchFriend = 125, "no_such_friend", final;
    /// It is so already: a friend, a member.
    Already = 126, "already", final;
    /// Too many friends, groups or members.
    LimitReached = 127, "limit_reached", final;
    /// Too many messages or attempts in a short time.
    RateLimited = 130, "rate_limited", retry;
    /// Too much is waiting to be done; nothing was done.
    Busy = 131, "busy", retry;
    /// The database cannot be reached; nothing was done, or it cannot be told whether. Repeat with the same `mid`.
    Unavailable = 132, "unavailable", retry;
    /// The server is about to stop: reconnect.
    Draining = 133, "draining", retry;
    /// Too many connections, on this node or from this address.
    TooManyConnections = 134, "too_many_connections", retry;
    /// A mistake of the server, which has written it to its log.
    Internal = 140, "internal", final;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self as u32)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A client may be older than the server.
        Ok(Self::from_number(u32::deserialize(deserializer)?).unwrap_or(Self::Internal))
    }
}

/// A refusal with its text, as an answer carries it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// Why, in words for a person; names the field at fault.
    pub text: String,
    /// When trying again may help, in milliseconds.
    pub retry_ms: Option<u64>,
}

impl Refusal {
    /// A refusal with its text.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), retry_ms: None }
    }

    /// The same, with a hint when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: std::time::Duration) -> Self {
        self.retry_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
        self
    }

    /// A field that is missing, of the wrong type, or out of its limits.
    pub fn bad_field(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(ErrorCode::BadField, format!("{field}: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code as u32), Some(code));
            assert!(names.insert(code.name()), "{code}");
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
        assert_eq!(ErrorCode::from_number(1), None, "1 and 2 are the original's");
    }

    #[test]
    fn the_specification_lists_every_code_with_its_name() {
        let specification = include_str!("../../PROTOCOL.md");
        for &code in ErrorCode::ALL {
            let row =
                format!("| {} | `{}` | {} |", code as u32, code.name(), if code.is_retryable() { "yes" } else { "no" });
            assert!(specification.contains(&row), "PROTOCOL.md lacks the row {row}");
        }
    }
}

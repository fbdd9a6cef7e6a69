//! What can go wrong, and whether trying again may help.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::db::{AcquireError, OpenError};

/// Why the store did not do what it was asked.
///
/// Cheap to clone: a batch that fails tells everyone who was in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StoreError {
    /// The request makes no sense here, and the database is fine. Nothing was changed.
    Refused(Refusal),
    /// Too much work for the database is waiting already. Nothing was done; later it may be.
    Busy {
        /// The name of the option that says how much may wait.
        limit: &'static str,
        /// Its value.
        value: usize,
    },
    /// The database could not be reached, or not in time, or it gave up for now (deadlock, lock wait, shutdown).
    ///
    /// Whether a change was made is not known when the connection was lost while the change was being committed. A
    /// message that is appended again with its [`ClientMessageId`](super::ClientMessageId) is stored once all the same.
    Unavailable(Cause),
    /// The database said no, and would say no again: a fault of the program, of its schema or of the disk.
    Failed(Cause),
    /// The store is closed, or its runtime is ending.
    Closed,
}

/// The error behind an error, shared by all who are told of it.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why a request was refused. These are the client's to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such user.
    #[error("no such user")]
    UnknownUser,
    /// There is no such group.
    #[error("no such group")]
    UnknownGroup,
    /// A user or a group has this name already.
    #[error("the name is taken")]
    NameTaken,
    /// A name or description is empty, too long, or has control characters.
    #[error("the name or description is empty, too long or has control characters")]
    InvalidName,
    /// Only members may do this, and the user is none.
    #[error("not a member of the group")]
    NotMember,
    /// The user is a member already.
    #[error("already a member of the group")]
    AlreadyMember,
    /// The user's role does not allow it.
    #[error("not allowed for this role")]
    NotAllowed,
    /// The user is on the list already, or was asked already.
    #[error("already on the friend list")]
    AlreadyFriend,
    /// The two are no friends, or there is no such request.
    #[error("not a friend, and no such request")]
    NotFriend,
    /// One cannot be one's own friend.
    #[error("not possible with oneself")]
    Oneself,
    /// A list is as long as it may be: friends, groups of a user, members of a group.
    #[error("the list is full: {0}")]
    Full(&'static str),
    /// The sender is not in this conversation, so it is not theirs to write to or to read.
    #[error("not in this conversation")]
    NotInConversation,
    /// The message's text is longer than [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES), or its time than
    /// [`MAX_TIME_BYTES`](super::MAX_TIME_BYTES).
    #[error("the message is too long")]
    BodyTooLong,
    /// The sender has used this id for a message in another conversation.
    #[error("the message id was used in another conversation")]
    IdTaken,
    /// Another incarnation of this node has registered, or the node's lease has run out: this one must not act for
    /// its users any more.
    #[error("the node's lease is lost")]
    Fenced,
}

impl StoreError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable(_))
    }

    /// What was refused, when that is what happened.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Busy { limit, value } => write!(f, "too much work for the database is waiting ({limit} = {value})"),
            Self::Unavailable(cause) => write!(f, "the database is not available: {cause}"),
            Self::Failed(cause) => write!(f, "the database failed: {cause}"),
            Self::Closed => f.write_str("the store is closed"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Unavailable(cause) | Self::Failed(cause) => Some(&**cause),
            Self::Busy { .. } | Self::Closed => None,
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<AcquireError> for StoreError {
    fn from(error: AcquireError) -> Self {
        Self::Unavailable(Arc::new(error))
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

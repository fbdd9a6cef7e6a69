//! What the store takes and gives.

use std::fmt;

use super::ids::{ClientMessageId, Conversation, GroupId, Incarnation, NodeId, Seq, SessionId, Timestamp, UserId};

/// The most characters a user's or a group's name may have; the original's column is as wide.
pub const MAX_NAME_CHARS: usize = 50;

/// The most characters a group's description may have; the original's column is as wide.
pub const MAX_DESCRIPTION_CHARS: usize = 200;

/// The most characters a node's name may have.
pub const MAX_NODE_NAME_CHARS: usize = 64;

/// The most members, of all groups together, that an [`Overview`] has; [`Store::members`](super::Store::members) has
/// all of one group.
pub const MAX_OVERVIEW_MEMBERS: usize = 10_000;

/// The most bytes of UTF-8 a message's text may have.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The most bytes the sender's own time may have.
pub const MAX_TIME_BYTES: usize = 64;

/// The most messages one read of a conversation returns, whatever it asks for.
pub const MAX_PAGE: usize = 500;

/// A user, as others may see him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub id: UserId,
    /// The name, unique regardless of case.
    pub name: String,
}

/// What a login is checked against. Its `Debug` does not show the hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: User,
    /// The password's hash with its parameters, as [`auth`](crate::auth) wrote it.
    pub password_hash: String,
}

/// How two users stand to each other, from one's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Friendship {
    /// Each has the other on his list.
    Mutual,
    /// This user has asked; the other has not accepted yet.
    Asked,
    /// The other has asked; this user has not answered yet.
    AskedBy,
}

/// Somebody on a friend list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    /// Who.
    pub user: User,
    /// How far it has got.
    pub friendship: Friendship,
    /// Whether the user has a session on a node that lives.
    pub is_online: bool,
}

/// What a member may do in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read and write.
    Normal,
    /// Also kick normal members.
    Admin,
    /// Also kick admins and give roles. There is exactly one; when he leaves, the eldest admin, or else the eldest
    /// member, takes his place.
    Creator,
}

/// A group, as a member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The number.
    pub id: GroupId,
    /// The name, unique regardless of case.
    pub name: String,
    /// What it is about; may be empty.
    pub description: String,
    /// The role of the member who asked.
    pub role: Role,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What he may do.
    pub role: Role,
    /// Whether the user has a session on a node that lives.
    pub is_online: bool,
}

/// What happened when somebody left a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Who is the creator now, if that changed.
    pub new_creator: Option<UserId>,
    /// Whether that was the last member, and the group is gone with its messages.
    pub is_gone: bool,
}

/// A message to be stored.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// Where to.
    pub conversation: Conversation,
    /// Who wrote it: the session's user, never what the message says.
    pub sender: UserId,
    /// The sender's own id, by which a repeat is known. Without one every append is a new message.
    pub client_id: Option<ClientMessageId>,
    /// What the sender says the time is, in words of his own; kept as it is, may be empty, at most [`MAX_TIME_BYTES`].
    /// The original's clients show it. Nothing here depends on it.
    pub time: String,
    /// The text, kept as it is.
    pub body: String,
}

/// A message is stored. Once this is returned it survives a crash of the node and of the database, and, with a durable
/// database, a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the conversation.
    pub seq: Seq,
    /// When it was stored.
    pub at: Timestamp,
    /// Whether it had been stored before, under the same id of the same sender. Then this is the first one's receipt,
    /// and nobody needs to be told again.
    pub is_repeat: bool,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub conversation: Conversation,
    /// Its place there.
    pub seq: Seq,
    /// Who wrote it.
    pub sender: User,
    /// The sender's own id, if he gave one.
    pub client_id: Option<ClientMessageId>,
    /// When it was stored.
    pub at: Timestamp,
    /// What the sender said the time was.
    pub time: String,
    /// The text.
    pub body: String,
}

/// A lease that was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// When it will end.
    pub until: Timestamp,
    /// It had ended before, so others may have claimed its users meanwhile. By the database's clock: the node's own may stand
    /// still, as while a virtual machine is suspended.
    pub had_run_out: bool,
}

/// Which part of a conversation to read. Pages are always in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The first messages after this one; `Seq(0)` begins at the beginning.
    After(Seq),
    /// The last messages before this one, for scrolling back.
    Before(Seq),
    /// The last messages.
    Last,
}

/// The most that is read of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Messages; more than [`MAX_PAGE`] are not read.
    pub messages: usize,
    /// Bytes of text. The message with which there are more than that is the last one, so that there is always one.
    pub bytes: usize,
}

impl From<usize> for PageLimit {
    /// So many messages, however long.
    fn from(messages: usize) -> Self {
        Self { messages, bytes: usize::MAX }
    }
}

/// A conversation with messages that a user has not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Where.
    pub conversation: Conversation,
    /// The last message the user has; what is unread comes after it.
    pub seen: Seq,
    /// The last message there is.
    pub last: Seq,
}

/// Somebody has received everything up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Who.
    pub user: UserId,
    /// Where.
    pub conversation: Conversation,
    /// Up to and including this message.
    pub seq: Seq,
}

/// What a session needs to know at its start, read at once.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The user.
    pub user: User,
    /// The friend list, requests included.
    pub friends: Vec<Friend>,
    /// The groups, each with its members, the asking user included; at most [`MAX_OVERVIEW_MEMBERS`] of them.
    pub groups: Vec<(Group, Vec<Member>)>,
    /// What has come in meanwhile.
    pub unread: Vec<Unread>,
}

/// A node and which start of it. Whoever holds one may act for it as long as it is the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeLease {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
}

/// Where a user is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The node, and which start of it.
    pub lease: NodeLease,
    /// The session there.
    pub session: SessionId,
}

/// What a second login does to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClaimPolicy {
    /// The first one ends; the answer says where it is, so that it can be told.
    #[default]
    Displace,
    /// The second one is refused while the first one's node lives, as the original does (errno 2).
    Refuse,
}

/// A login that wants to be the user's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub user: UserId,
    /// Where.
    pub location: Location,
    /// What if there is one already.
    pub policy: ClaimPolicy,
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The session is the user's. `displaced` was it until now; `None` if there was none on a node that lives.
    Yes {
        /// Whom to tell that he was displaced.
        displaced: Option<Location>,
    },
    /// There is another session, on a node that lives. Only with [`ClaimPolicy::Refuse`].
    InUse {
        /// Where it is.
        by: Location,
        /// When its node's lease runs out, unless it is renewed: nobody is locked out for longer by a dead node.
        until: Timestamp,
    },
}

/// A node, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node, and which start of it.
    pub lease: NodeLease,
    /// The name it registered with.
    pub name: String,
    /// When its lease runs out.
    pub until: Timestamp,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

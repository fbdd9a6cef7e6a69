//! The database: the only place with SQL.
//!
//! A [`Store`] is a handle, cheap to clone. Its methods are async: they wait for a connection through the pool's async
//! door and run their statements on a thread that may block, so no runtime worker is ever held up. How much may wait is
//! bounded ([`StoreOptions::max_pending`]); beyond that a request is answered at once with [`StoreError::Busy`].
//!
//! # What is promised
//!
//! - **A receipt means stored.** [`append`](Store::append) answers after the commit. On MySQL and MariaDB it survives
//!   what the server's own settings survive (`innodb_flush_log_at_trx_commit = 1`, the default: a power cut), on SQLite a
//!   power cut with [`Durability::PowerCut`], the default, and a crash of the program in any case.
//! - **Once.** A message with a [`ClientMessageId`] is stored once, however often and wherever it is appended.
//! - **In order, without gaps.** The messages of a conversation are numbered 1, 2, 3 ... across all nodes.
//! - **Authorised here.** Who writes to a group or reads it must be a member at the moment of the commit.
//! - **Claims are atomic**, and live no longer than their node's lease. All of it by the database's clock.
//! - **A connection that failed is not used again**; a deadlock is tried again, a bounded number of times.
//!
//! # What the original did
//!
//! | original | here |
//! |---|---|
//! | `user.state`, set at login and logout | no column: who is online follows from the directory and the nodes' leases |
//! | `friend(userid, friendid)`, one-sided | the same: a row is "has him on his list". Both rows are a friendship, one alone is a request. The original's add-friend is [`add_friend`](Store::add_friend); the one who added sees the other in his list at once, as ever |
//! | `groupuser.grouprole` | [`Role`], with admins between creator and normal |
//! | `offlinemessage`, deleted when read | [`unread`](Store::unread) and cursors: a message goes when nobody needs it, not before |
//! | one `SELECT` per group member | one query for all groups and all members |

mod error;
mod ids;
mod model;

use std::time::Duration;

pub use self::error::{Cause, Refusal, StoreError};
pub use self::ids::{
    ClientMessageId, Conversation, ConversationKind, GroupId, Incarnation, InvalidId, InvalidMessageId,
    MAX_CLIENT_MESSAGE_ID_BYTES, MAX_ID, NodeId, Seq, SessionId, Timestamp, UserId,
};
pub use self::model::{
    Claim, ClaimPolicy, Claimed, Credentials, Cursor, Friend, Friendship, Group, Left, Location, MAX_BODY_BYTES,
    MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_PAGE, Member, Message, NewMessage, Node, NodeLease, Overview, Page,
    Receipt, Role, Unread, User,
};
use crate::config::Database;
use crate::db::{ConnectionPool, Options, Pool};

/// A database behind the pool that the server was built with.
#[derive(Clone, Debug)]
pub struct Store {}

/// The limits of a store, and what its promise is worth.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// The pool's size and times.
    pub pool: Options,
    /// What a commit on SQLite survives. MySQL and MariaDB have settings of their own.
    pub durability: Durability,
    /// How many requests may wait for a connection or run, besides those that are batched. Beyond it:
    /// [`StoreError::Busy`].
    pub max_pending: usize,
    /// How many messages may wait for their commit. Beyond it: [`StoreError::Busy`].
    pub max_pending_messages: usize,
    /// How many claims and releases may wait for their commit. Beyond it: [`StoreError::Busy`].
    pub max_pending_claims: usize,
    /// How many cursors may wait to be written. Beyond it they are written at once instead of at the next interval, and
    /// a further one is dropped: its messages will be delivered once more.
    pub max_pending_cursors: usize,
    /// How many messages one commit takes at most.
    pub max_batch: usize,
    /// How many commits of messages may run side by side on MySQL and MariaDB. Messages of one conversation always go
    /// through the same one, in order. SQLite has one writer.
    pub committers: usize,
    /// How long a cursor may wait for company. What a crash in between costs is that messages are delivered once more.
    pub cursor_interval: Duration,
    /// How long a request is tried in all, waiting and repetitions included, before it is [`StoreError::Unavailable`].
    pub deadline: Duration,
    /// The most friends and requests on one list.
    pub max_friends: usize,
    /// The most groups one user may be in.
    pub max_groups: usize,
    /// The most members of one group.
    pub max_members: usize,
    /// The most resume tokens one user may have; the eldest goes when another one is issued.
    pub max_tokens: usize,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: the commit waits for the disk.
    #[default]
    PowerCut,
    /// A crash of the program, but a power cut may undo the last commits.
    Crash,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            pool: Options {
                min_idle: 1,
                max_size: 10,
                acquire_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(600),
            },
            durability: Durability::default(),
            max_pending: 1024,
            max_pending_messages: 8192,
            max_pending_claims: 8192,
            max_pending_cursors: 65_536,
            max_batch: 256,
            committers: 4,
            cursor_interval: Duration::from_millis(200),
            deadline: Duration::from_secs(10),
            max_friends: 1000,
            max_groups: 500,
            max_members: 5000,
            max_tokens: 8,
        }
    }
}

/// Opening, closing, asking how it is.
impl Store {
    /// The name of the pool that the server was built with.
    pub const POOL: &'static str = <Pool<pool::managers::sqlite::SqliteManager> as ConnectionPool<_>>::NAME;

    /// Opens the database, brings its tables up to date, and starts the tasks that commit in groups. They belong to the
    /// runtime that this is called in.
    ///
    /// Nodes may do so at the same time: one of them changes the tables, the others wait.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub async fn open(database: &Database, options: StoreOptions) -> Result<Self, StoreError> {
        let _ = (database, options);
        unimplemented!()
    }

    /// The database's name and version, as it says itself.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why not, in one line.
    pub async fn version(&self) -> Result<String, StoreError> {
        unimplemented!()
    }

    /// Asks the database for a sign of life, and for its time. For health checks and fencing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says why it gave none.
    pub async fn ping(&self) -> Result<Timestamp, StoreError> {
        unimplemented!()
    }

    /// What waits and what was done so far, for metrics.
    pub fn stats(&self) -> StoreStats {
        unimplemented!()
    }

    /// Commits what is waiting, cursors included, and closes. Requests from now on are answered with
    /// [`StoreError::Closed`].
    ///
    /// # Errors
    ///
    /// What is not committed when `deadline` has passed is given up: [`StoreError::Unavailable`]. Those who wait for it
    /// are told so, too.
    pub async fn close(&self, deadline: Duration) -> Result<(), StoreError> {
        let _ = deadline;
        unimplemented!()
    }
}

/// What a store has done so far, and what waits in it. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Requests that wait for a connection or run, besides batches.
    pub pending: usize,
    /// Messages that wait for their commit.
    pub pending_messages: usize,
    /// Claims and releases that wait for their commit.
    pub pending_claims: usize,
    /// Cursors that wait to be written.
    pub pending_cursors: usize,
    /// Messages stored.
    pub messages: u64,
    /// Messages that turned out to be repeats.
    pub repeats: u64,
    /// Commits that stored messages: `messages / commits` is the mean size of a group.
    pub commits: u64,
    /// Work that was done again after a deadlock, a lock wait or a lost connection.
    pub retries: u64,
    /// Requests that were answered with [`StoreError::Busy`].
    pub busy: u64,
    /// Requests that failed for any other reason but a refusal.
    pub failures: u64,
    /// Cursors that were dropped because too many waited.
    pub cursors_dropped: u64,
    /// Nanoseconds spent waiting for connections, in all.
    pub acquire_wait_ns: u64,
    /// Nanoseconds that connections were held, in all.
    pub hold_ns: u64,
    /// Loans, in all: what to divide the two by.
    pub loans: u64,
}

/// Users.
impl Store {
    /// A new user. `password_hash` comes from [`auth`](crate::auth); the store never sees a password.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] (names differ only by case, or by accents where the database thinks so, are the same
    /// name), [`Refusal::InvalidName`], or the database's.
    pub async fn register(&self, name: &str, password_hash: &str) -> Result<UserId, StoreError> {
        let _ = (name, password_hash);
        unimplemented!()
    }

    /// What to check a login by number against; `None`: there is no such user.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn credentials(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        let _ = user;
        unimplemented!()
    }

    /// What to check a login by name against; `None`: there is no such user.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn credentials_by_name(&self, name: &str) -> Result<Option<Credentials>, StoreError> {
        let _ = name;
        unimplemented!()
    }

    /// Replaces a user's password hash, and revokes all his resume tokens.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn set_password(&self, user: UserId, password_hash: &str) -> Result<(), StoreError> {
        let _ = (user, password_hash);
        unimplemented!()
    }

    /// These users, in no particular order; those who do not exist are left out.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        let _ = users;
        unimplemented!()
    }

    /// The user with this name.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        let _ = name;
        unimplemented!()
    }

    /// What a session needs to know at its start, over one connection. [`Refusal::UnknownUser`] if there is no such
    /// user.
    ///
    /// Read it after the session is registered with the hub, or a message that comes in between is seen late.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn overview(&self, user: UserId) -> Result<Overview, StoreError> {
        let _ = user;
        unimplemented!()
    }
}

/// Friends.
impl Store {
    /// `user` puts `other` on his list: a request, or, if `other` had asked already, the acceptance of it.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], [`Refusal::Oneself`], [`Refusal::AlreadyFriend`], [`Refusal::Full`], or the
    /// database's.
    pub async fn add_friend(&self, user: UserId, other: UserId) -> Result<Friendship, StoreError> {
        let _ = (user, other);
        unimplemented!()
    }

    /// `user` accepts the request of `other`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFriend`] when there is none, [`Refusal::AlreadyFriend`], [`Refusal::Full`], or the database's.
    pub async fn accept_friend(&self, user: UserId, other: UserId) -> Result<(), StoreError> {
        let _ = (user, other);
        unimplemented!()
    }

    /// Ends whatever is between the two: a friendship, a request of `user` or one to `user` (that is a rejection).
    /// Returns what it was.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFriend`], or the database's.
    pub async fn remove_friend(&self, user: UserId, other: UserId) -> Result<Friendship, StoreError> {
        let _ = (user, other);
        unimplemented!()
    }

    /// The friend list, requests of both directions included, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn friends(&self, user: UserId) -> Result<Vec<Friend>, StoreError> {
        let _ = user;
        unimplemented!()
    }
}

/// Groups.
impl Store {
    /// A new group whose creator, and so far only member, is `creator`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`], [`Refusal::InvalidName`], [`Refusal::UnknownUser`], [`Refusal::Full`], or the database's.
    pub async fn create_group(&self, creator: UserId, name: &str, description: &str) -> Result<GroupId, StoreError> {
        let _ = (creator, name, description);
        unimplemented!()
    }

    /// `user` becomes a normal member. What was said before is not his to read.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::UnknownUser`], [`Refusal::AlreadyMember`], [`Refusal::Full`], or the
    /// database's.
    pub async fn join_group(&self, user: UserId, group: GroupId) -> Result<(), StoreError> {
        let _ = (user, group);
        unimplemented!()
    }

    /// `user` leaves. See [`Role::Creator`] for what becomes of the group when he was that.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`], or the database's.
    pub async fn leave_group(&self, user: UserId, group: GroupId) -> Result<Left, StoreError> {
        let _ = (user, group);
        unimplemented!()
    }

    /// `by` removes `user`, whose role must be lower.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`] (either of the two), [`Refusal::NotAllowed`],
    /// [`Refusal::Oneself`], or the database's.
    pub async fn kick(&self, by: UserId, user: UserId, group: GroupId) -> Result<(), StoreError> {
        let _ = (by, user, group);
        unimplemented!()
    }

    /// `by`, the creator, gives `user` a role. Giving [`Role::Creator`] away makes `by` an admin.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`] (either of the two), [`Refusal::NotAllowed`],
    /// [`Refusal::Oneself`], or the database's.
    pub async fn set_role(&self, by: UserId, user: UserId, group: GroupId, role: Role) -> Result<(), StoreError> {
        let _ = (by, user, group, role);
        unimplemented!()
    }

    /// The groups of `user`, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn groups(&self, user: UserId) -> Result<Vec<Group>, StoreError> {
        let _ = user;
        unimplemented!()
    }

    /// The members of a group, by number, in one query. `by` must be one of them.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownGroup`], [`Refusal::NotMember`], or the database's.
    pub async fn members(&self, by: UserId, group: GroupId) -> Result<Vec<Member>, StoreError> {
        let _ = (by, group);
        unimplemented!()
    }

    /// The numbers of a group's members, in ascending order, for whom a message is. Empty when there is no such group.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn member_ids(&self, group: GroupId) -> Result<Vec<UserId>, StoreError> {
        let _ = group;
        unimplemented!()
    }
}

/// Messages.
impl Store {
    /// Stores one message, together with those that others send at the same moment: the commits are shared. Nothing
    /// waits for company; what comes in while a commit runs goes into the next one.
    ///
    /// Messages of one conversation that are appended through the same store are numbered in the order of the calls (of
    /// the first poll of their futures). A call that was polled once goes on when its future is dropped.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`] (sender or recipient), [`Refusal::UnknownGroup`], [`Refusal::NotMember`],
    /// [`Refusal::NotInConversation`], [`Refusal::BodyTooLong`]; [`StoreError::Busy`]; or the database's.
    pub async fn append_one(&self, message: NewMessage) -> Result<Receipt, StoreError> {
        let _ = message;
        unimplemented!()
    }

    /// Stores these messages in one transaction of their own, each with an answer of its own, in the same order. A
    /// message that is refused does not keep the others from being stored; an error of the database is everyone's.
    pub async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Receipt, StoreError>> {
        let _ = messages;
        unimplemented!()
    }

    /// A page of a conversation, in ascending order, at most `limit` messages and [`MAX_PAGE`]. A group's member sees
    /// what was said since he joined.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotInConversation`] for a pair without `reader`, [`Refusal::NotMember`] for a group without him; or
    /// the database's.
    pub async fn history(
        &self,
        reader: UserId,
        conversation: Conversation,
        page: Page,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let _ = (reader, conversation, page, limit);
        unimplemented!()
    }

    /// The conversations in which `user` has not acknowledged the last message, the ones with the eldest first message
    /// first. His own messages count, too, until he acknowledges them: another device of his may not have them.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn unread(&self, user: UserId) -> Result<Vec<Unread>, StoreError> {
        let _ = user;
        unimplemented!()
    }

    /// The last sequence of each of these conversations; those without messages are left out. For healing reads.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn last_seqs(&self, conversations: &[Conversation]) -> Result<Vec<(Conversation, Seq)>, StoreError> {
        let _ = conversations;
        unimplemented!()
    }

    /// Notes that a user has received everything up to a message. Cursors never go back, and what has no such
    /// participant is ignored. Returns at once; it is written within [`StoreOptions::cursor_interval`], together with
    /// others. The caller sees to it that `seq` is not beyond what it sent.
    pub fn advance(&self, cursor: Cursor) {
        let _ = cursor;
        unimplemented!()
    }

    /// Writes the cursors that wait, and returns when those noted before this call are written. For a logout, so that
    /// the next login, wherever it is, finds them.
    ///
    /// # Errors
    ///
    /// The database's. The cursors go on waiting.
    pub async fn flush_cursors(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

/// The directory: which nodes live, and who is where.
impl Store {
    /// Takes the name for a lease of this length, and fences every earlier start under the same name. Removes their
    /// sessions.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidName`], or the database's.
    pub async fn register_node(&self, name: &str, lease: Duration) -> Result<NodeLease, StoreError> {
        let _ = (name, lease);
        unimplemented!()
    }

    /// Renews the lease for this length from now on, and says when it will end, by the database's clock. A lease that
    /// has run out is renewed, too, as long as nobody else took the name: the sessions are still the node's, except
    /// those that were claimed by others meanwhile ([`verify_sessions`](Self::verify_sessions)).
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] when another start under the same name has registered: stop. Or the database's: the node
    /// counts its lease from its last success, by its own clock.
    pub async fn refresh_lease(&self, lease: NodeLease, length: Duration) -> Result<Timestamp, StoreError> {
        let _ = (lease, length);
        unimplemented!()
    }

    /// The nodes whose lease runs, by number.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        unimplemented!()
    }

    /// Makes a session the user's only one, atomically among all nodes, together with other claims of the moment.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`]; [`Refusal::Fenced`] when the claiming node's own lease is over; [`StoreError::Busy`]; or
    /// the database's.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let _ = claim;
        unimplemented!()
    }

    /// Ends a session, if it still is the user's: one that was displaced leaves its successor alone. Returns whether it
    /// was.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`], or the database's.
    pub async fn release(&self, user: UserId, location: Location) -> Result<bool, StoreError> {
        let _ = (user, location);
        unimplemented!()
    }

    /// Ends all sessions of a node and its lease; of no other start of it. Returns how many sessions there were.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn release_all(&self, lease: NodeLease) -> Result<u64, StoreError> {
        let _ = lease;
        unimplemented!()
    }

    /// Where those of these users are who are online: those with a session on a node whose lease runs.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn where_are(&self, users: &[UserId]) -> Result<Vec<(UserId, Location)>, StoreError> {
        let _ = users;
        unimplemented!()
    }

    /// Which of these sessions of a node are still their users' sessions. For a node that could not renew its lease for
    /// a while: the others were claimed meanwhile, and must be ended.
    ///
    /// # Errors
    ///
    /// [`Refusal::Fenced`] when the lease is over or another start has registered; or the database's.
    pub async fn verify_sessions(
        &self,
        lease: NodeLease,
        sessions: &[(UserId, SessionId)],
    ) -> Result<Vec<(UserId, SessionId)>, StoreError> {
        let _ = (lease, sessions);
        unimplemented!()
    }
}

/// Resume tokens: what a client shows instead of its password when it comes back.
impl Store {
    /// A new token for `user`, good for `valid_for` and any number of times. 256 random bits; the database keeps only
    /// their hash.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`], or the database's.
    pub async fn issue_token(&self, user: UserId, valid_for: Duration) -> Result<ResumeToken, StoreError> {
        let _ = (user, valid_for);
        unimplemented!()
    }

    /// Whose token it is; `None` when it is nobody's, or no longer.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn check_token(&self, token: &str) -> Result<Option<TokenOwner>, StoreError> {
        let _ = token;
        unimplemented!()
    }

    /// Makes one token worthless, as at a logout. Nothing happens when it is already.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn revoke_token(&self, token: &str) -> Result<(), StoreError> {
        let _ = token;
        unimplemented!()
    }

    /// Deletes what has run out: tokens, and sessions of starts of nodes that are gone. Call it now and then, on any
    /// node; it does a bounded amount of work and says how much it deleted.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        unimplemented!()
    }
}

/// A resume token in the clear, to be sent to its user. Its `Debug` does not show it.
#[derive(Clone)]
pub struct ResumeToken {
    text: String,
    /// When it runs out.
    pub until: Timestamp,
}

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOwner {
    /// The user.
    pub user: User,
    /// When the token runs out; time to issue another one when that is near.
    pub until: Timestamp,
}

impl ResumeToken {
    /// The text that the client shows: 64 characters of hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResumeToken").field("until", &self.until).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

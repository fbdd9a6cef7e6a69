//! The limits of a store, and what it tells about itself.

use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use crate::db::Options;

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
    /// How many bytes of text the messages that wait for their commit may have together. Beyond it:
    /// [`StoreError::Busy`].
    pub max_pending_bytes: usize,
    /// How many claims and releases may wait for their commit. Beyond it: [`StoreError::Busy`].
    pub max_pending_claims: usize,
    /// How many cursors may wait to be written. Beyond it they are written at once instead of at the next interval, and
    /// a further one is dropped: its messages will be delivered once more.
    pub max_pending_cursors: usize,
    /// How many messages one commit takes at most.
    pub max_batch: usize,
    /// How long the next messages at most wait for others to share their commit, after a commit that several shared, and
    /// never longer than half as long as that took. Zero: not at all.
    pub max_linger: Duration,
    /// How many commits of messages may run side by side on MySQL and MariaDB. Messages of one conversation always go
    /// through the same one, in order. More of them make smaller groups: they pay where commits wait for a disk, and
    /// cost where processors are few. SQLite has one writer.
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
            max_pending_bytes: 64 * 1024 * 1024,
            max_pending_claims: 8192,
            max_pending_cursors: 65_536,
            max_batch: 256,
            max_linger: Duration::from_millis(2),
            committers: 2,
            cursor_interval: Duration::from_millis(200),
            deadline: Duration::from_secs(10),
            max_friends: 1000,
            max_groups: 500,
            max_members: 5000,
            max_tokens: 8,
        }
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
    /// Connections that are open, or being opened or closed.
    pub connections: usize,
    /// Connections that nobody uses.
    pub idle_connections: usize,
    /// Nanoseconds spent waiting for connections, in all.
    pub acquire_wait_ns: u64,
    /// Nanoseconds that connections were held, in all.
    pub hold_ns: u64,
    /// Loans, in all: what to divide the two by.
    pub loans: u64,
}

impl StoreOptions {
    /// Says which limit is 0, if one is: nothing would ever be done.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let zero = [
            ("max_size", self.pool.max_size),
            ("max_pending", self.max_pending),
            ("max_pending_messages", self.max_pending_messages),
            ("max_pending_bytes", self.max_pending_bytes),
            ("max_pending_claims", self.max_pending_claims),
            ("max_pending_cursors", self.max_pending_cursors),
            ("max_batch", self.max_batch),
            ("committers", self.committers),
            ("max_members", self.max_members),
            ("max_tokens", self.max_tokens),
        ]
        .into_iter()
        .find(|(_, value)| *value == 0);
        match zero {
            Some((name, _)) => {
                Err(StoreError::Failed(Arc::from(Box::from(format!("{name}: is 0, must be 1 or more")))))
            }
            None => Ok(()),
        }
    }
}

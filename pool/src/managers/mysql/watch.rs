//! What the pool has to know about a connection that comes back.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use mysql::prelude::Protocol;
use mysql::{Error, MySqlError, Opts, QueryResult, Result, Statement};

use super::errors::is_fatal;
use super::session::{Effect, effect};

/// The server's own code for a statement it does not know.
const UNKNOWN_STATEMENT: u16 = 1243;

/// Notes, call by call, what happened to a connection.
#[derive(Debug)]
pub(super) struct Watch {
    connection_id: u32,
    /// A fatal error was seen. The next reply may belong to an earlier request, so no further call is let through.
    broken: bool,
    /// A fatal error may have gone by unseen. Good enough to go on with, not good enough for the next caller.
    suspect: bool,
    /// When the driver's own types were last handed out, whose errors we do not see.
    unwatched_since: Option<Instant>,
    /// The time within which no socket timeout can have struck.
    no_timeout_within: Duration,
    /// A transaction may be open.
    in_transaction: bool,
    /// The session may have been changed otherwise.
    changed: bool,
    /// The driver's own connection was handed out, and we do not know what for.
    handed_out: bool,
}

impl Watch {
    /// Starts to watch the connection of this id, which was opened with these options.
    pub(super) fn new(connection_id: u32, opts: &Opts) -> Self {
        let shortest = opts.get_read_timeout().into_iter().chain(opts.get_write_timeout()).min();
        Self {
            connection_id,
            broken: false,
            suspect: false,
            unwatched_since: None,
            // An eighth less, for the kernel rounds timeouts to its own clock's ticks.
            no_timeout_within: shortest.map_or(Duration::MAX, |timeout| *timeout - *timeout / 8),
            in_transaction: false,
            changed: false,
            handed_out: false,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the connection must not serve another caller.
    pub(super) fn is_unfit(&mut self) -> bool {
        self.settle();
        self.broken || self.suspect
    }

    /// Whether a statement was seen after which the session differs from a new one.
    pub(super) fn is_dirty(&self) -> bool {
        self.in_transaction || self.changed
    }

    /// Whether anything could have been done to the session without being seen.
    pub(super) fn was_handed_out(&self) -> bool {
        self.handed_out
    }

    /// Whether the session may differ from a new one by more than an open transaction.
    pub(super) fn may_be_changed(&self) -> bool {
        self.changed || self.handed_out
    }

    /// The session is as new.
    pub(super) fn reset_done(&mut self) {
        self.in_transaction = false;
        self.changed = false;
        self.handed_out = false;
    }

    pub(super) fn saw_statement(&mut self, sql: &str) {
        match effect(sql) {
            Effect::None => {}
            Effect::Opens => self.in_transaction = true,
            Effect::Ends => self.in_transaction = false,
            Effect::Changes => self.changed = true,
        }
    }

    pub(super) fn saw_transaction(&mut self, open: bool) {
        self.in_transaction = open;
    }

    pub(super) fn saw_change(&mut self) {
        self.changed = true;
    }

    pub(super) fn hand_out(&mut self) {
        self.handed_out = true;
        self.leave_sight();
    }

    /// Something happened after which the connection must not serve another caller.
    pub(super) fn distrust(&mut self) {
        self.suspect = true;
    }

    pub(super) fn note(&mut self, error: &Error) {
        self.broken |= is_fatal(error);
    }

    pub(super) fn noted<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.note(error))
    }

    /// The driver's own type leaves our sight: a `&mut Conn`, or a `QueryResult` whose rows are still to be read.
    ///
    /// Of the errors that can go unseen from now on, an ended connection shows at the next checkout, when its socket
    /// turns out readable. A timeout does not show, the late reply may come much later; but it takes its time.
    pub(super) fn leave_sight(&mut self) {
        self.unwatched_since = Some(Instant::now());
    }

    /// Ends the time out of sight: whoever calls has the connection to itself again.
    fn settle(&mut self) {
        if let Some(since) = self.unwatched_since.take() {
            self.suspect |= since.elapsed() >= self.no_timeout_within;
        }
    }

    /// Lets a call through unless the connection is known to be broken.
    pub(super) fn enter(&mut self) -> Result<()> {
        self.settle();
        if self.broken {
            return Err(Error::IoError(io::Error::new(
                io::ErrorKind::NotConnected,
                "an earlier error broke this connection; give it back and take another one",
            )));
        }
        Ok(())
    }

    /// Refuses a statement that was prepared on another connection: the server would run whichever statement has the
    /// same number here.
    pub(super) fn check_origin(&self, statement: &Statement) -> Result<()> {
        if statement.connection_id() == self.connection_id {
            return Ok(());
        }
        Err(Error::MySqlError(MySqlError {
            state: "HY000".into(),
            code: UNKNOWN_STATEMENT,
            message: "this statement was prepared on another connection".into(),
        }))
    }

    /// Marks the connection as suspect until [`disarm`](Watch::disarm), lest a panic in a row conversion or in the
    /// caller's closure leave half a reply unread and unnoticed.
    pub(super) fn arm(&mut self) -> Armed {
        Armed { was_suspect: mem::replace(&mut self.suspect, true) }
    }

    pub(super) fn disarm(&mut self, armed: Armed) {
        self.suspect = armed.was_suspect;
    }

    /// Takes what the caller wants out of a reply, then reads the rest of it.
    ///
    /// A `QueryResult` does the latter when it is dropped, and swallows the errors it meets.
    pub(super) fn read<P: Protocol, T>(
        &mut self,
        reply: Result<QueryResult<'_, '_, '_, P>>,
        take: impl FnOnce(&mut QueryResult<'_, '_, '_, P>) -> Result<T>,
    ) -> Result<T> {
        let mut reply = self.noted(reply)?;
        let taken = take(&mut reply);
        let taken = self.noted(taken);
        while let Some(set) = reply.iter() {
            for row in set {
                if let Err(error) = row {
                    self.note(&error);
                }
            }
        }
        taken
    }
}

/// What [`Watch::arm`] remembers.
#[must_use]
pub(super) struct Armed {
    was_suspect: bool,
}

#[cfg(test)]
mod tests {
    use mysql::OptsBuilder;

    use super::*;

    fn watch(read_timeout: Duration) -> Watch {
        Watch::new(1, &OptsBuilder::new().read_timeout(Some(read_timeout)).into())
    }

    #[test]
    fn a_short_time_out_of_sight_is_forgiven_and_one_as_long_as_the_timeout_is_not() {
        let mut patient = watch(Duration::from_secs(3600));
        patient.leave_sight();
        assert!(!patient.is_unfit());

        let mut hasty = watch(Duration::from_nanos(8));
        hasty.leave_sight();
        std::thread::sleep(Duration::from_micros(1));
        assert!(hasty.is_unfit());
        assert!(hasty.enter().is_ok(), "its holder may go on");
    }

    #[test]
    fn after_a_fatal_error_no_call_is_let_through() {
        let mut watch = watch(Duration::from_secs(1));
        watch.note(&Error::IoError(io::ErrorKind::TimedOut.into()));
        assert!(watch.enter().is_err());
        assert!(watch.is_unfit());
    }

    #[test]
    fn a_panic_between_arm_and_disarm_leaves_the_connection_suspect() {
        let mut watch = watch(Duration::from_secs(1));
        let armed = watch.arm();
        watch.disarm(armed);
        assert!(!watch.is_unfit());
        let _ = watch.arm();
        assert!(watch.is_unfit());
    }
}

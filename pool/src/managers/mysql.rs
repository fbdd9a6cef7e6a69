//! MySQL and MariaDB through the `mysql` crate.
//!
//! ```no_run
//! use mysql::prelude::Queryable;
//! use pool::SlotsPool;
//! use pool::managers::mysql::MysqlManager;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = MysqlManager::from_url("mysql://chat:secret@127.0.0.1:3306/chat")?;
//! let pool = SlotsPool::builder().max_size(8).min_idle(2).build(manager)?;
//!
//! let mut connection = pool.get()?;
//! let name: Option<String> = connection.exec_first("SELECT name FROM user WHERE id = ?", (7,))?;
//! # let _ = name;
//! # Ok(())
//! # }
//! ```
//!
//! # What is checked, and what it costs
//!
//! | when | what | cost |
//! |---|---|---|
//! | at checkout | `poll(2)` on the socket: a healthy idle connection has nothing to say | half a microsecond |
//! | at checkout after [`validate_after_idle`](crate::Builder::validate_after_idle) | `COM_PING` | a round trip |
//! | at checkin | the errors noted by the [`MysqlConnection`] | nothing |
//! | at checkin, by [`ResetPolicy`] | `COM_RESET_CONNECTION` | a round trip, and every statement is prepared again |
//!
//! A connection that was killed, that the server closed after `wait_timeout`, or that has a late reply on its way is
//! readable when it ought to be silent, so the `poll` sees all of these without a round trip.

mod connection;
mod errors;
mod session;
mod watch;

use std::fmt;
use std::io;
use std::time::Duration;

use mysql::{Conn, Error, Opts, OptsBuilder, UrlError};

pub use self::connection::{MysqlConnection, Transaction};
use self::watch::Watch;
use crate::Manager;

/// How long to wait for the TCP connection, per address, when the options leave `tcp_connect_timeout` unset.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one read from the server may take when the options leave `read_timeout` unset.
///
/// It bounds the time from a query to its first rows, so a program with slower queries sets its own.
pub const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one write to the server may take when the options leave `write_timeout` unset.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// When a connection that comes back is reset before its next use.
///
/// A reset costs a round trip and the connection's statement cache, so that every prepared statement costs two more
/// round trips the next time it is used. The driver's own pool resets on every return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ResetPolicy {
    /// Never: callers leave no transaction open and change no session state.
    Never,
    /// When a statement was seen after which the session differs from a new one. The default.
    ///
    /// That is told from the first words of the statements that went through [`MysqlConnection`]: an open transaction,
    /// `SET`, `USE`, `LOCK TABLES`, `GET_LOCK`, `CREATE TEMPORARY TABLE`, `CALL` and whatever else is not known to be
    /// harmless, and several statements in one text. Not seen: what is done through the driver's own connection
    /// (`&mut **guard`, as in code that was written for another pool), user variables assigned within a `SELECT`, and
    /// transactions of a server whose global `autocommit` is off.
    #[default]
    WhenDirty,
    /// Also when the driver's own connection was used, and so anything may have happened.
    WhenUnsure,
    /// After every use.
    Always,
}

/// Opens and checks connections to MySQL or MariaDB.
///
/// See the [module](self) for an example and for what is checked when.
#[derive(Clone)]
pub struct MysqlManager {
    opts: Opts,
    reset: ResetPolicy,
}

impl MysqlManager {
    /// A manager that connects with these options.
    ///
    /// The driver waits for ever by default. Timeouts that `opts` leaves unset become [`DEFAULT_CONNECT_TIMEOUT`],
    /// [`DEFAULT_READ_TIMEOUT`] and [`DEFAULT_WRITE_TIMEOUT`]; set your own to change them. Looking up a host's name
    /// is bounded by the system's resolver alone; the caller's timeout holds all the same, since connecting happens on
    /// a thread of the pool.
    ///
    /// For a server on this machine the driver's `prefer_socket`, on by default, connects over TCP, asks for the
    /// socket's path and connects again. Set the path, or `prefer_socket` to false, to connect once.
    pub fn new(opts: impl Into<Opts>) -> Self {
        let opts: Opts = opts.into();
        let connect = opts.get_tcp_connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
        let read = opts.get_read_timeout().copied().unwrap_or(DEFAULT_READ_TIMEOUT);
        let write = opts.get_write_timeout().copied().unwrap_or(DEFAULT_WRITE_TIMEOUT);
        // With autocommit off every statement opens a transaction, and no text says so.
        let implicit = opts.get_init().iter().any(|sql| sql.to_ascii_lowercase().contains("autocommit"));
        let opts = OptsBuilder::from_opts(opts)
            .tcp_connect_timeout(Some(connect))
            .read_timeout(Some(read))
            .write_timeout(Some(write))
            .into();
        Self { opts, reset: if implicit { ResetPolicy::Always } else { ResetPolicy::default() } }
    }

    /// A manager for the server at `url`, for example `mysql://user:password@host:3306/database?prefer_socket=false`.
    ///
    /// # Errors
    ///
    /// The URL is malformed, or has a parameter the driver does not know.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        Opts::from_url(url).map(Self::new)
    }

    /// Sets when connections are reset. Default [`ResetPolicy::WhenDirty`], or [`ResetPolicy::Always`] when an init
    /// command of the options mentions `autocommit`.
    #[must_use]
    pub fn reset_policy(mut self, policy: ResetPolicy) -> Self {
        self.reset = policy;
        self
    }

    /// The options it connects with, all timeouts set.
    pub fn opts(&self) -> &Opts {
        &self.opts
    }
}

impl fmt::Debug for MysqlManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the driver's `Debug`, which prints the password.
        f.debug_struct("MysqlManager")
            .field("host", &self.opts.get_ip_or_hostname())
            .field("port", &self.opts.get_tcp_port())
            .field("socket", &self.opts.get_socket())
            .field("user", &self.opts.get_user())
            .field("database", &self.opts.get_db_name())
            .field("reset", &self.reset)
            .finish_non_exhaustive()
    }
}

impl Manager for MysqlManager {
    type Connection = MysqlConnection;
    type Error = Error;

    fn connect(&self) -> Result<MysqlConnection, Error> {
        let conn = Conn::new(self.opts.clone())?;
        let watch = Watch::new(conn.connection_id(), &self.opts);
        Ok(MysqlConnection::new(conn, watch))
    }

    fn is_valid(&self, connection: &mut MysqlConnection) -> Result<(), Error> {
        connection.ping()
    }

    #[inline]
    fn looks_alive(&self, connection: &mut MysqlConnection) -> bool {
        is_silent(connection)
    }

    #[inline]
    fn has_broken(&self, connection: &mut MysqlConnection) -> bool {
        connection.parts().1.is_unfit()
    }

    fn is_fatal(&self, error: &Error) -> bool {
        errors::is_fatal(error)
    }

    fn is_transient(&self, error: &Error) -> bool {
        errors::is_transient(error)
    }

    #[inline]
    fn is_dirty(&self, connection: &mut MysqlConnection) -> bool {
        match self.reset {
            ResetPolicy::Never => false,
            ResetPolicy::WhenDirty => connection.parts().1.is_dirty(),
            ResetPolicy::WhenUnsure => {
                let (_, watch) = connection.parts();
                watch.is_dirty() || watch.was_handed_out()
            }
            ResetPolicy::Always => true,
        }
    }

    fn reset(&self, connection: &mut MysqlConnection) -> Result<(), Error> {
        let changed = connection.parts().1.may_be_changed();
        connection.reset()?;
        // A reset keeps the default database, so go back to the original one. Having none is something only a new
        // session can have.
        match self.opts.get_db_name().filter(|name| !name.is_empty()) {
            _ if !changed => {}
            Some(database) => connection.select_db(database)?,
            None => connection.renew()?,
        }
        let (_, watch) = connection.parts();
        watch.reset_done();
        if watch.is_unfit() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the reset took as long as a timeout").into());
        }
        Ok(())
    }
}

/// Whether the server has nothing to say, as it should while nobody has asked it anything.
///
/// Readable means that it hung up, that it said why before it did, or that a late reply came in.
#[cfg(unix)]
fn is_silent(connection: &MysqlConnection) -> bool {
    use std::os::fd::AsRawFd;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const EVENTS: libc::c_short = libc::POLLIN | libc::POLLRDHUP;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const EVENTS: libc::c_short = libc::POLLIN;

    let mut socket = libc::pollfd { fd: connection.as_raw_fd(), events: EVENTS, revents: 0 };
    // SAFETY: `poll` reads and writes the one `pollfd` it is given, which lives on this stack frame and which nothing
    // else refers to. The descriptor is open, since the connection that owns it is borrowed here; were it not, `poll`
    // would say so in `revents`.
    #[allow(unsafe_code, reason = "no safe way in std to ask whether a blocking socket is readable without reading")]
    let ready = unsafe { libc::poll(&raw mut socket, 1, 0) };
    ready == 0
}

/// Without `poll` the ping after [`validate_after_idle`](crate::Builder::validate_after_idle) has to do.
#[cfg(not(unix))]
fn is_silent(_: &MysqlConnection) -> bool {
    true
}

//! A client of the modern mode that survives what networks and servers do: it reconnects with a growing random delay,
//! resumes its session, sends again what was not answered, and drops what it has seen.
//!
//! ```no_run
//! use chat_server::client::{Client, Credentials, Event, Options};
//! use chat_server::protocol::Target;
//!
//! # async fn example() -> Result<(), chat_server::client::ClientError> {
//! let options = Options::to(["127.0.0.1:6000"]);
//! let credentials = Credentials::name("crab", "123456");
//! let (client, mut events) = Client::login(options, credentials).await?;
//! client.chat(Target::Peer(7), "hello").await?; // stored when this returns
//! while let Some(event) = events.next().await {
//!     if let Event::Message { delivery, .. } = event {
//!         println!("{}: {}", delivery.name, delivery.msg);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`connection`] | one connection: TCP or TLS, HELLO, frames, one question at a time |
//! | [`session`] | the task that keeps a user connected, and the handles on it |
//! | [`dedup`] | which deliveries are new, which are to be acknowledged |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`clock`] | the time, as people read it |
//! | [`original`] | the same connection in the original's mode |
//! | [`terminal`] | the program `chat-client` |

pub mod backoff;
pub mod clock;
pub mod connection;
pub mod dedup;
pub mod original;
pub mod session;
pub mod terminal;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use self::backoff::Backoff;
pub use self::connection::{Connection, Tls};
pub use self::session::{Client, Event, Events};

use crate::protocol::command::Login;
use crate::protocol::{Command, Refusal};

/// How long to try to connect to one address, the greeting included.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an answer, reconnections included.
pub const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where to connect to, and with how much patience.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of the nodes, or of the balancer before them. After a failure the next one is tried.
    pub addresses: Vec<String>,
    /// Speak TLS.
    pub tls: Option<Tls>,
    /// How long to try to connect to one address, the greeting included.
    pub connect_timeout: Duration,
    /// How long a request waits for its answer, reconnections included; and how long a server may be silent after a PING.
    pub answer_timeout: Duration,
    /// The delays between attempts to reconnect.
    pub backoff: Backoff,
    /// Whether deliveries that were there before are events, too (marked as repeated), instead of being dropped.
    pub report_repeated: bool,
}

impl Options {
    /// The defaults, for these addresses.
    pub fn to<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            tls: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            answer_timeout: DEFAULT_ANSWER_TIMEOUT,
            backoff: Backoff::default(),
            report_repeated: false,
        }
    }

    /// The address of the `attempt`th attempt.
    fn address(&self, attempt: usize) -> &str {
        self.addresses.get(attempt % self.addresses.len().max(1)).map_or("", String::as_str)
    }
}

/// How a user logs in.
#[derive(Clone)]
pub struct Credentials {
    user: Option<User>,
    password: Option<String>,
    token: Option<String>,
}

#[derive(Clone)]
enum User {
    Id(u32),
    Name(String),
}

impl Credentials {
    /// By the user's id.
    pub fn id(id: u32, password: impl Into<String>) -> Self {
        Self { user: Some(User::Id(id)), password: Some(password.into()), token: None }
    }

    /// By the user's name.
    pub fn name(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(User::Name(name.into())), password: Some(password.into()), token: None }
    }

    /// By a token of an earlier login. When it has ended there is nothing else to log in with.
    pub fn token(token: impl Into<String>) -> Self {
        Self { user: None, password: None, token: Some(token.into()) }
    }

    /// The same with a token that is tried first.
    #[must_use]
    pub fn or_token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// LOGIN with the password, if there is one.
    fn login(&self) -> Option<Command> {
        let (id, name) = match self.user.as_ref()? {
            User::Id(id) => (Some(*id), None),
            User::Name(name) => (None, Some(name.clone())),
        };
        Some(Command::Login(Login { id, name, password: self.password.clone()? }))
    }
}

/// Without the secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        match &self.user {
            Some(User::Id(id)) => shown.field("id", id),
            Some(User::Name(name)) => shown.field("name", name),
            None => &mut shown,
        };
        shown.finish_non_exhaustive()
    }
}

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server said no.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The server cannot be reached.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// The address that was tried last.
        address: String,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The connection ended before the answer, and the request cannot be repeated safely: whether it was carried out is
    /// not known.
    #[error("the connection was lost before the answer: {0}")]
    Lost(String),
    /// No answer in time. Whether the request was carried out is not known.
    #[error("no answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The session is over.
    #[error("the session is over: {0}")]
    Ended(EndReason),
    /// The server sent what no server should.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
}

/// Why a session is over for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// The user logged out.
    #[error("logged out")]
    LoggedOut,
    /// The user logged in elsewhere.
    #[error("the same user has logged in elsewhere")]
    Displaced,
    /// Logging in again was refused.
    #[error("logging in again was refused: {0}")]
    LoginRefused(Refusal),
    /// Nobody holds the client any more.
    #[error("the client was dropped")]
    Dropped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::name("crab", "hunter2").or_token("hunter3");
        let shown = format!("{credentials:?}");
        assert!(shown.contains("crab") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn attempts_go_round_the_addresses() {
        let options = Options::to(["a:1", "b:2"]);
        assert_eq!([0, 1, 2].map(|attempt| options.address(attempt)), ["a:1", "b:2", "a:1"]);
    }
}

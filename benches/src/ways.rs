//! The ways to connect that the suite `connect` compares.

use mysql::{Opts, OptsBuilder};

use crate::backend::mysql::{CONNECT_TIMEOUT, MAX_ALLOWED_PACKET, STATEMENT_TIMEOUT};

/// A way to connect, or the ping that it is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One round trip on a connection that is open.
    TcpPing,
    /// The same over the socket.
    SocketPing,
    /// As all contenders connect.
    Tcp,
    /// Asks the server for `max_allowed_packet`, too.
    TcpAsking,
    /// The driver's defaults: on loopback it asks for the socket's path and connects again over that.
    TcpDefault,
    /// Over the socket.
    Socket,
    /// Over the socket, and asks for `max_allowed_packet`.
    SocketAsking,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::TcpPing,
        Self::Tcp,
        Self::TcpAsking,
        Self::TcpDefault,
        Self::SocketPing,
        Self::Socket,
        Self::SocketAsking,
    ];

    /// The name in records.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::TcpPing => "tcp_ping",
            Self::SocketPing => "socket_ping",
            Self::Tcp => "tcp",
            Self::TcpAsking => "tcp_asking",
            Self::TcpDefault => "tcp_default",
            Self::Socket => "socket",
            Self::SocketAsking => "socket_asking",
        }
    }

    /// The way of a record.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.id() == id)
    }

    /// The name in tables and charts.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TcpPing => "ping over TCP, for scale",
            Self::SocketPing => "ping over the socket, for scale",
            Self::Tcp => "TCP, as all contenders here",
            Self::TcpAsking => "TCP, asks max_allowed_packet",
            Self::TcpDefault => "TCP, driver's defaults",
            Self::Socket => "socket",
            Self::SocketAsking => "socket, asks max_allowed_packet",
        }
    }

    /// Whether it needs the server's socket.
    #[must_use]
    pub fn needs_socket(self) -> bool {
        matches!(self, Self::SocketPing | Self::Socket | Self::SocketAsking)
    }

    /// Whether it is a ping.
    #[must_use]
    pub fn is_ping(self) -> bool {
        matches!(self, Self::TcpPing | Self::SocketPing)
    }

    /// Its options. Time limits are the same for all.
    #[must_use]
    pub fn opts(self, base: &Opts, socket: Option<&str>) -> Opts {
        let is_asking = matches!(self, Self::TcpAsking | Self::TcpDefault | Self::SocketAsking);
        OptsBuilder::from_opts(base.clone())
            .prefer_socket(self == Self::TcpDefault)
            .socket(if self.needs_socket() { socket } else { None })
            .max_allowed_packet((!is_asking).then_some(MAX_ALLOWED_PACKET))
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(Some(STATEMENT_TIMEOUT))
            .write_timeout(Some(STATEMENT_TIMEOUT))
            .into()
    }
}

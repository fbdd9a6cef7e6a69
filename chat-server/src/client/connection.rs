//! One connection of the modern mode: TCP or TLS, HELLO, frames; and one question at a time, for what happens before a
//! login. [`session`](super::session) keeps many questions in flight.

use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::codec::FramedRead;

use super::{ClientError, Credentials, Options};
use crate::codec::{FrameCodec, Terminator};
use crate::protocol::answer::{Answer, HelloResult, LoginResult, RegisterResult};
use crate::protocol::command::{Hello, Register, Resume};
use crate::protocol::{Command, ErrorCode, Request, ServerMessage, VERSION};

/// What a client calls itself in HELLO.
pub const CLIENT_NAME: &str = concat!("chat-client/", env!("CARGO_PKG_VERSION"));

/// How to check the server's certificate.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// Trusts the certificates in a PEM file. The server must be called `name`; without one, as in its address.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, holds no certificate, or the name is none.
    pub fn trusting(file: &Path, name: Option<&str>) -> io::Result<Self> {
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        let pem = fs::read(file)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(invalid("holds no certificate".into()));
        }
        let name = name.map(|name| ServerName::try_from(name.to_owned())).transpose();
        let name = name.map_err(|error| invalid(error.to_string()))?;
        // Named, because a program that has two providers in it has no default one.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// TCP, or TLS over it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// Connects to `address`, with TLS if the options say so.
pub(super) async fn dial(options: &Options, address: &str) -> Result<Box<dyn Transport>, ClientError> {
    let dial = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &options.tls else { return Ok(Box::new(stream) as Box<dyn Transport>) };
        let name = match &tls.name {
            Some(name) => name.clone(),
            None => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                ServerName::try_from(host).map_err(io::Error::other)?
            }
        };
        Ok(Box::new(tls.connector.connect(name, stream).await?) as Box<dyn Transport>)
    };
    let dialled = timeout(options.connect_timeout, dial).await.unwrap_or_else(|_| Err(slow(options.connect_timeout)));
    dialled.map_err(|error| unreachable(address, error))
}

fn slow(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs_f64()))
}

fn unreachable(address: &str, error: io::Error) -> ClientError {
    ClientError::Unreachable { address: address.to_owned(), source: Arc::new(error) }
}

/// A connection in the modern mode.
pub struct Connection {
    frames: FramedRead<ReadHalf<Box<dyn Transport>>, FrameCodec>,
    writer: WriteHalf<Box<dyn Transport>>,
    next_rid: u64,
    /// What the server said about itself.
    pub hello: HelloResult,
}

impl Connection {
    /// Connects and says HELLO.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unreachable`] when there is no connection, or no greeting in time; [`ClientError::Refused`].
    pub async fn open(options: &Options, address: &str) -> Result<Self, ClientError> {
        let transport = dial(options, address).await?;
        let (reader, writer) = tokio::io::split(transport);
        let frames = FramedRead::new(reader, FrameCodec::client(Terminator::Newline));
        let hello = HelloResult {
            version: VERSION,
            server: String::new(),
            node: String::new(),
            max_frame: 0,
            max_text: 0,
            max_history: 0,
            ping_after_ms: 0,
            idle_timeout_ms: 0,
        };
        let mut connection = Self { frames, writer, next_rid: 1, hello };
        let hello = Command::Hello(Hello { version: VERSION, client: Some(CLIENT_NAME.to_owned()) });
        let greeting = connection.ask(hello, options.connect_timeout).await;
        connection.hello = greeting.map_err(|error| match error {
            ClientError::TimedOut(limit) => unreachable(address, slow(limit)),
            ClientError::Lost(reason) => unreachable(address, io::Error::new(io::ErrorKind::ConnectionAborted, reason)),
            other => other,
        })?;
        Ok(connection)
    }

    /// A number for the next request.
    pub(super) fn rid(&mut self) -> u64 {
        self.next_rid += 1;
        self.next_rid - 1
    }

    /// Writes frames.
    pub(super) async fn write(&mut self, requests: impl IntoIterator<Item = Request>) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        for request in requests {
            bytes.extend_from_slice(&request.encode());
            bytes.extend_from_slice(b"\n");
        }
        self.writer.write_all(&bytes).await
    }

    /// The next frame. Dropping the future loses nothing.
    pub(super) async fn frame(&mut self) -> Result<Bytes, String> {
        match self.frames.next().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the server closed the connection".into()),
        }
    }

    /// Asks and waits for the answer. What comes in between is dropped, so this is for before a login.
    ///
    /// # Errors
    ///
    /// The server's refusal, a lost connection, [`ClientError::TimedOut`] after `limit`.
    pub async fn ask<T: DeserializeOwned>(&mut self, command: Command, limit: Duration) -> Result<T, ClientError> {
        let rid = self.rid();
        let exchange = async {
            self.write([Request { rid: Some(rid), command }])
                .await
                .map_err(|error| ClientError::Lost(error.to_string()))?;
            let mut last_words = None;
            loop {
                let frame = self.frame().await.map_err(|end| ClientError::Lost(last_words.take().unwrap_or(end)))?;
                match decode(&frame)? {
                    ServerMessage::Answer(answer) if answer.rid == Some(rid) => return result(&answer),
                    // An answer to nothing that could be read: the server closes next, this is why.
                    ServerMessage::Answer(answer) if answer.rid.is_none() => result::<T>(&answer).map(drop)?,
                    ServerMessage::Notice(notice) => last_words = Some(notice.text),
                    _ => {}
                }
            }
        };
        within(limit, exchange).await
    }

    /// Logs in: with the token if there is one, else, or if that has ended, with the password.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn login(&mut self, credentials: &Credentials, limit: Duration) -> Result<LoginResult, ClientError> {
        if let Some(token) = credentials.token.clone() {
            match (self.ask(Command::Resume(Resume { token }), limit).await, credentials.login()) {
                (Err(ClientError::Refused(refusal)), Some(login)) if refusal.code == ErrorCode::BadToken => {
                    return self.ask(login, limit).await;
                }
                (result, _) => return result,
            }
        }
        let Some(login) = credentials.login() else {
            return Err(ClientError::Protocol("neither a password nor a token to log in with".into()));
        };
        self.ask(login, limit).await
    }

    /// Registers a user on a connection of its own.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`ask`](Self::ask).
    pub async fn register(options: &Options, name: &str, password: &str) -> Result<u32, ClientError> {
        let mut connection = Self::open(options, options.address(0)).await?;
        connection.register_another(name, password, options.answer_timeout).await
    }

    /// Registers a user on this connection.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn register_another(&mut self, name: &str, password: &str, limit: Duration) -> Result<u32, ClientError> {
        let register = Command::Register(Register { name: name.to_owned(), password: password.to_owned() });
        self.ask::<RegisterResult>(register, limit).await.map(|result| result.id)
    }
}

/// `future`, for at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(limit, future).await.unwrap_or(Err(ClientError::TimedOut(limit)))
}

pub(super) fn decode(frame: &[u8]) -> Result<ServerMessage, ClientError> {
    ServerMessage::decode(frame).map_err(|refusal| ClientError::Protocol(refusal.to_string()))
}

/// The result in an answer, with a malformed one told apart from a refusal.
pub(super) fn result<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    answer.result().map_err(|refusal| match answer.errno {
        0 => ClientError::Protocol(refusal.to_string()),
        _ => ClientError::Refused(refusal),
    })
}

//! The original's mode: what its client does, with frames that end in NUL, and no acknowledgements.
//!
//! Works against this server and against the original one, which writes bare JSON and answers nothing but logins and
//! registrations.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::codec::FramedRead;

use super::connection::{Transport, dial, within};
use super::{ClientError, Options};
use crate::codec::{FrameCodec, Terminator};
use crate::protocol::command::{Login, Register};
use crate::protocol::original::{ERRNO_IN_USE, ERRNO_INVALID};
use crate::protocol::{Command, ErrorCode, Refusal, Request, msgid};

/// What a server of the original protocol sends.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// Which message.
    pub msgid: i64,
    /// 0 or why not, in answers.
    #[serde(default)]
    pub errno: u32,
    /// Why not.
    #[serde(default)]
    pub errmsg: String,
    /// The user; of a message, the sender.
    #[serde(default)]
    pub id: u32,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The group of a message.
    #[serde(default)]
    pub groupid: Option<u32>,
    /// The text of a message.
    #[serde(default)]
    pub msg: String,
    /// The sender's notion of the time.
    #[serde(default)]
    pub time: String,
    /// Friends, each as a JSON text.
    #[serde(default)]
    pub friends: Vec<String>,
    /// Groups, each as a JSON text.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Messages that were waiting, each as a JSON text.
    #[serde(default)]
    pub offlinemsg: Vec<String>,
}

/// The half that reads.
pub struct Incoming(FramedRead<ReadHalf<Box<dyn Transport>>, FrameCodec>);

/// The half that writes.
pub struct Outgoing {
    writer: WriteHalf<Box<dyn Transport>>,
    limit: Duration,
}

/// Connects in the original mode.
///
/// # Errors
///
/// [`ClientError::Unreachable`].
pub async fn connect(options: &Options, address: &str) -> Result<(Incoming, Outgoing), ClientError> {
    let (reader, writer) = tokio::io::split(dial(options, address).await?);
    let frames = FramedRead::new(reader, FrameCodec::client(Terminator::Nul));
    Ok((Incoming(frames), Outgoing { writer, limit: options.answer_timeout }))
}

impl Incoming {
    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// When the connection ends or something else than a message comes.
    pub async fn next(&mut self) -> Result<Message, ClientError> {
        match self.0.next().await {
            Some(Ok(frame)) => parse(&frame),
            Some(Err(error)) => Err(ClientError::Lost(error.to_string())),
            None => Err(ClientError::Lost("the server closed the connection".into())),
        }
    }

    /// Waits for the answer to a login or a registration.
    async fn answer(&mut self, msgid: i64, limit: Duration) -> Result<Message, ClientError> {
        let answer = async {
            loop {
                let message = self.next().await?;
                if message.msgid == msgid {
                    return if message.errno == 0 { Ok(message) } else { Err(ClientError::Refused(refusal(&message))) };
                }
            }
        };
        within(limit, answer).await
    }
}

impl Outgoing {
    /// Sends a command and the NUL behind it, in one write: the original server reads one message at a time.
    ///
    /// # Errors
    ///
    /// When it cannot be written in time.
    pub async fn send(&mut self, command: Command) -> Result<(), ClientError> {
        self.send_frame(&Request { rid: None, command }.encode()).await
    }

    /// Sends a frame and the NUL behind it.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_frame(&mut self, frame: &Bytes) -> Result<(), ClientError> {
        let mut bytes = BytesMut::with_capacity(frame.len() + 1);
        bytes.extend_from_slice(frame);
        bytes.extend_from_slice(b"\0");
        let written = self.writer.write_all(&bytes);
        let failed = |error: io::Error| ClientError::Lost(error.to_string());
        within(self.limit, async { written.await.map_err(failed) }).await
    }
}

/// Logs in.
///
/// # Errors
///
/// The server's refusal, or a lost connection.
pub async fn login(
    (incoming, outgoing): (&mut Incoming, &mut Outgoing),
    id: u32,
    password: &str,
) -> Result<Message, ClientError> {
    outgoing.send(Command::Login(Login { id: Some(id), name: None, password: password.to_owned() })).await?;
    incoming.answer(msgid::LOGIN_ACK, outgoing.limit).await
}

/// Registers a user and gives its id.
///
/// # Errors
///
/// As [`login`].
pub async fn register(
    (incoming, outgoing): (&mut Incoming, &mut Outgoing),
    name: &str,
    password: &str,
) -> Result<u32, ClientError> {
    outgoing.send(Command::Register(Register { name: name.to_owned(), password: password.to_owned() })).await?;
    incoming.answer(msgid::REGISTER_ACK, outgoing.limit).await.map(|message| message.id)
}

/// The messages that a login's answer brought along, oldest first.
pub fn offline_messages(login: &Message) -> Vec<Message> {
    login.offlinemsg.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// A frame as a message.
///
/// # Errors
///
/// [`ClientError::Protocol`].
pub fn parse(frame: &[u8]) -> Result<Message, ClientError> {
    serde_json::from_slice(frame).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// The original's errno as one of the codes of the modern mode.
fn refusal(message: &Message) -> Refusal {
    let code = match (message.msgid, message.errno) {
        (msgid::LOGIN_ACK, ERRNO_INVALID) => ErrorCode::BadCredentials,
        (msgid::LOGIN_ACK, ERRNO_IN_USE) => ErrorCode::AccountInUse,
        (_, ERRNO_INVALID) => ErrorCode::NameTaken,
        (_, other) => ErrorCode::from_number(other).unwrap_or(ErrorCode::Internal),
    };
    let text = match message.errmsg.as_str() {
        "" => code.name().to_owned(),
        text => text.to_owned(),
    };
    Refusal::new(code, text)
}

//! One connection of the generator.
//!
//! It has to be cheap, because the generator shares the machine with the server that it measures: frames are written
//! straight to the socket and only kept when it is full, all connections of a thread read into one buffer, what is left of
//! a frame is kept and nothing else, and of a frame only the few fields that count are looked at, without copying.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Failure;
use super::arguments::Protocol;
use crate::codec::{Found, Scanner};
use crate::protocol::{MAX_DEPTH, MAX_SERVER_FRAME, VERSION, msgid};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that a connection may owe the server before the generator gives it up: the server has stopped reading.
const MAX_UNSENT: usize = 64 * 1024 * 1024;

/// The fields of a server's message that count here.
#[derive(Debug, Default, Deserialize)]
pub struct Frame<'a> {
    /// Which message.
    pub msgid: i64,
    /// Of an answer: to which request.
    #[serde(default)]
    pub rid: Option<u64>,
    /// Of an answer: 0, or why not.
    #[serde(default)]
    pub errno: u32,
    /// The sequence of a message.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The text of a message, where it has no escapes, as the generator's own do.
    #[serde(default, borrow)]
    pub msg: Option<&'a str>,
    /// The code of a notice.
    #[serde(default, borrow)]
    pub code: Option<&'a str>,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    protocol: Protocol,
    unsent: RefCell<BytesMut>,
    /// The writing half of the task has something to do.
    wake: Notify,
    input: RefCell<Input>,
    next_rid: Cell<u64>,
    is_closed: Cell<bool>,
}

#[derive(Debug)]
struct Input {
    scanner: Scanner,
    /// The beginning of a frame whose end has not arrived.
    rest: BytesMut,
}

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

impl Link {
    /// Connects. In the modern protocol the greeting is sent, and its answer is not waited for.
    ///
    /// # Errors
    ///
    /// When there is no connection in time.
    pub async fn connect(address: &str, protocol: Protocol, limit: Duration) -> Result<Rc<Self>, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::of(format!("cannot connect to {address}"), error);
        let connected = timeout(limit, TcpStream::connect(address)).await.map_err(|_| failed(&"no answer in time"))?;
        let stream = connected.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let scanner = Scanner::new(MAX_SERVER_FRAME, MAX_DEPTH);
        let link = Rc::new(Self {
            stream,
            protocol,
            unsent: RefCell::default(),
            wake: Notify::new(),
            input: RefCell::new(Input { scanner, rest: BytesMut::new() }),
            next_rid: Cell::new(1),
            is_closed: Cell::new(false),
        });
        if protocol == Protocol::Modern {
            // Not sent yet: it goes out together with the login.
            let hello = format!("{{\"msgid\":{},\"version\":{VERSION},\"client\":\"chat-load\"}}\n", msgid::HELLO);
            link.unsent.borrow_mut().extend_from_slice(hello.as_bytes());
        }
        Ok(link)
    }

    /// A number for the next request.
    pub fn rid(&self) -> u64 {
        self.next_rid.replace(self.next_rid.get() + 1)
    }

    /// What ends a frame to the server.
    pub fn terminator(&self) -> u8 {
        match self.protocol {
            Protocol::Modern => b'\n',
            Protocol::Original => 0,
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Sends whole frames, terminators included. What the socket does not take now is sent by [`pump`](Self::pump).
    pub fn send(&self, frames: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        if !unsent.is_empty() {
            unsent.extend_from_slice(frames);
            drop(unsent);
            self.flush();
            return;
        }
        let written = self.write(frames);
        if written < frames.len() && !self.is_closed() {
            unsent.extend_from_slice(&frames[written..]);
            self.wake.notify_one();
        }
    }

    /// Writes what the socket takes.
    fn flush(&self) {
        let mut unsent = self.unsent.borrow_mut();
        let written = self.write(&unsent);
        unsent.advance(written);
        if unsent.is_empty() {
            return;
        }
        if unsent.len() > MAX_UNSENT {
            self.is_closed.set(true);
        }
        self.wake.notify_one();
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.try_write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_closed.set(true);
                    break;
                }
            }
        }
        written
    }

    /// Reads and writes until the connection ends; each whole frame goes to `handle`. Dropping the future loses nothing.
    pub async fn pump(&self, mut handle: impl FnMut(&[u8])) {
        while !self.is_closed() {
            let interest = match self.unsent.borrow().is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = tokio::select! {
                ready = self.stream.ready(interest) => ready,
                () = self.wake.notified() => continue,
            };
            let Ok(ready) = ready else { break };
            if ready.is_writable() && !self.unsent.borrow().is_empty() {
                self.flush();
            }
            if ready.is_readable() && !self.read(&mut handle) {
                break;
            }
        }
        self.is_closed.set(true);
    }

    /// Reads what there is. False when the connection has ended.
    fn read(&self, handle: &mut impl FnMut(&[u8])) -> bool {
        loop {
            let read = READ.with_borrow_mut(|buffer| {
                let count = match self.stream.try_read(buffer) {
                    Ok(0) => return Err(true),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(false),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok((true, false)),
                    Err(_) => return Err(true),
                };
                Ok((self.input.borrow_mut().take_in(&buffer[..count], handle), count < buffer.len()))
            });
            match read {
                Ok((false, _)) | Err(true) => return false,
                // A buffer that was not filled is as good as an answer that there is no more.
                Ok((true, true)) | Err(false) => return true,
                Ok((true, false)) => {}
            }
        }
    }

    /// Sends a request and waits for the frame that `is_answer` accepts; other frames are dropped. For before the load.
    ///
    /// # Errors
    ///
    /// When the connection ends or the answer does not come in time.
    pub async fn ask(
        &self,
        frames: &[u8],
        limit: Duration,
        mut is_answer: impl FnMut(&Frame<'_>) -> bool,
    ) -> Result<Vec<u8>, Failure> {
        self.send(frames);
        let answer = RefCell::new(None);
        let arrived = Notify::new();
        let pump = self.pump(|bytes| {
            if answer.borrow().is_none()
                && let Ok(frame) = serde_json::from_slice::<Frame<'_>>(bytes)
                && is_answer(&frame)
            {
                *answer.borrow_mut() = Some(bytes.to_vec());
                arrived.notify_one();
            }
        });
        let done = timeout(limit, async {
            tokio::select! {
                () = arrived.notified() => {}
                () = pump => {}
            }
        });
        let is_late = done.await.is_err();
        let problem = if is_late { "no answer in time" } else { "the server closed the connection" };
        answer.into_inner().ok_or_else(|| Failure::new(problem))
    }
}

impl Input {
    /// Takes in what was read. False if it is no sequence of frames.
    fn take_in(&mut self, mut bytes: &[u8], handle: &mut impl FnMut(&[u8])) -> bool {
        if !self.rest.is_empty() {
            self.rest.extend_from_slice(bytes);
            bytes = &[];
        }
        while !self.rest.is_empty() {
            match self.scanner.next(&self.rest) {
                Ok(Found::Frame(frame)) => {
                    handle(&self.rest[frame.clone()]);
                    self.rest.advance(frame.end);
                }
                Ok(Found::Partial(separators)) => {
                    self.rest.advance(separators);
                    if self.rest.is_empty() {
                        self.rest = BytesMut::new();
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
        while !bytes.is_empty() {
            match self.scanner.next(bytes) {
                Ok(Found::Frame(frame)) => {
                    handle(&bytes[frame.clone()]);
                    bytes = &bytes[frame.end..];
                }
                Ok(Found::Partial(separators)) => {
                    self.rest.extend_from_slice(&bytes[separators..]);
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let stream = b"{\"msgid\":1}{\"msgid\":2,\"msg\":\"}{\"}\n\n{\"msgid\":3}\n";
        for piece in 1..stream.len() {
            let scanner = Scanner::new(1000, MAX_DEPTH);
            let mut input = Input { scanner, rest: BytesMut::new() };
            let mut ids = Vec::new();
            for bytes in stream.chunks(piece) {
                let mut handle = |frame: &[u8]| ids.push(serde_json::from_slice::<Frame<'_>>(frame).unwrap().msgid);
                assert!(input.take_in(bytes, &mut handle));
            }
            assert_eq!(ids, [1, 2, 3], "in pieces of {piece}");
            assert!(input.rest.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_ends_it() {
        let mut input = Input { scanner: Scanner::new(1000, MAX_DEPTH), rest: BytesMut::new() };
        assert!(!input.take_in(b"HTTP/1.1", &mut |_| {}));
    }
}

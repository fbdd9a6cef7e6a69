//! One connection of the generator.
//!
//! It has to be cheap, because the generator shares the machine with the server that it measures: what follows from the
//! frames of one read is written together, as a client does that has several messages in flight, all connections of a
//! thread read into one buffer, what is left of a frame is kept and nothing else, and of a frame only the few fields that
//! count are looked at, without copying.
//!
//! And it has to be fair: a connection whose server answers as fast as it reads must not keep the thread from the others,
//! whose messages would seem to have taken long. So each is read once and then waits for its turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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
    reader: RefCell<OwnedReadHalf>,
    writer: OwnedWriteHalf,
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
        let (reader, writer) = stream.into_split();
        let scanner = Scanner::new(MAX_SERVER_FRAME, MAX_DEPTH);
        let link = Rc::new(Self {
            reader: RefCell::new(reader),
            writer,
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
        self.put(frames);
        self.flush();
    }

    /// Keeps whole frames, terminators included, for the next [`flush`](Self::flush).
    pub fn put(&self, frames: &[u8]) {
        self.unsent.borrow_mut().extend_from_slice(frames);
    }

    /// Writes what waits. What the socket does not take now is sent by [`pump`](Self::pump).
    pub fn flush(&self) {
        let mut unsent = self.unsent.borrow_mut();
        if unsent.is_empty() {
            return;
        }
        let written = self.write(&unsent);
        if written == unsent.len() {
            // From the beginning of its memory, which a part of it that is left would not leave to the next ones.
            unsent.clear();
            return;
        }
        unsent.advance(written);
        if unsent.len() > MAX_UNSENT {
            self.is_closed.set(true);
        }
        self.wake.notify_one();
    }

    fn write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.writer.try_write(&bytes[written..]) {
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
    pub async fn pump(&self, handle: impl FnMut(&[u8])) {
        self.pump_reads(handle, || {}).await;
    }

    /// As [`pump`](Self::pump), and after the frames of each read `end_of_read` is called, for what follows from all of them.
    pub async fn pump_reads(&self, mut handle: impl FnMut(&[u8]), mut end_of_read: impl FnMut()) {
        while !self.is_closed() {
            let has_unsent = !self.unsent.borrow().is_empty();
            tokio::select! {
                is_open = poll_fn(|cx| self.poll_read(cx, &mut handle)) => {
                    end_of_read();
                    if !is_open {
                        break;
                    }
                }
                writable = self.writer.writable(), if has_unsent => match writable {
                    Ok(()) => self.flush(),
                    Err(_) => break,
                },
                () = self.wake.notified() => {}
            }
        }
        self.is_closed.set(true);
    }

    /// Reads once, and until there is something again if that was all. False when the connection has ended.
    fn poll_read(&self, cx: &mut Context<'_>, handle: &mut impl FnMut(&[u8])) -> Poll<bool> {
        READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = ready!(Pin::new(&mut *self.reader.borrow_mut()).poll_read(cx, &mut buffer));
            let bytes = buffer.filled();
            Poll::Ready(read.is_ok() && !bytes.is_empty() && self.input.borrow_mut().take_in(bytes, handle))
        })
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
    use std::io::{Read, Write};
    use std::pin::pin;

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

    #[tokio::test]
    async fn a_server_that_answers_at_once_does_not_keep_the_thread() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let link = Link::connect(&address, Protocol::Original, Duration::from_secs(30)).await.unwrap();
        let (server, _) = listener.accept().unwrap();
        let answer = || (&server).write_all(b"{\"msgid\":1}\0").unwrap();
        let count = Cell::new(0);
        let mut pump = pin!(link.pump(|_| {
            count.set(count.get() + 1);
            answer();
        }));
        answer();
        for reads in 1..=10 {
            while count.get() < reads {
                tokio::task::yield_now().await;
                let is_pending = poll_fn(|cx| Poll::Ready(pump.as_mut().poll(cx).is_pending())).await;
                assert!(is_pending && count.get() <= reads, "{} in the time of one", count.get() - reads + 1);
            }
        }
    }

    #[tokio::test]
    async fn what_follows_from_one_read_is_written_together_and_in_order() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let link = Link::connect(&address, Protocol::Original, Duration::from_secs(30)).await.unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"{\"msgid\":1}{\"msgid\":2}{\"msgid\":3}").unwrap();
        let frames = Cell::new(0);
        let is_written = Cell::new(false);
        let handle = |_: &[u8]| {
            frames.set(frames.get() + 1);
            link.put(format!("[{}]", frames.get()).as_bytes());
        };
        let end_of_read = || {
            assert_eq!(frames.get(), 3);
            link.flush();
            is_written.set(true);
        };
        let mut pump = pin!(link.pump_reads(handle, end_of_read));
        while !is_written.get() {
            tokio::task::yield_now().await;
            let _ = poll_fn(|cx| Poll::Ready(pump.as_mut().poll(cx))).await;
        }
        let mut read = [0; 64];
        let count = server.read(&mut read).unwrap();
        assert_eq!(&read[..count], b"[1][2][3]");
    }

    #[test]
    fn what_is_no_frame_ends_it() {
        let mut input = Input { scanner: Scanner::new(1000, MAX_DEPTH), rest: BytesMut::new() };
        assert!(!input.take_in(b"HTTP/1.1", &mut |_| {}));
    }
}

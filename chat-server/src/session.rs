//! One client's connection: reads frames, has their commands carried out, writes what waits; and cleans up.
//!
//! A session is one task whose future is small, since thousands of them are idle at any time: bytes are read into a buffer
//! that the thread's sessions share, what is being worked on is on the heap, and there are no timers of its own. It knows
//! sockets only as something to read from and to write to; what the commands mean is in [`commands`](crate::commands).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::codec::{Found, FrameError, Scanner};
use crate::commands::{self, Item, State};
use crate::hub::Session;
use crate::limits::{Bucket, Rate};
use crate::node::Node;
use crate::outbox::Closing;
use crate::protocol::event::NoticeCode;
use crate::protocol::{Request, answer};

/// Bytes of one read. The buffer belongs to the thread.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Frames that are worked on together: their messages share a commit, their answers a write.
pub(crate) const BATCH: usize = 64;

/// How long a client that is being disconnected may take to read what was written to it.
const CLOSE_FLUSH: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Where a session reads. With TLS it writes there, too; otherwise whoever has something writes to the socket.
pub(crate) enum Reader {
    Plain(OwnedReadHalf),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What only the session's task touches.
struct Io {
    session: Arc<Session>,
    reader: Reader,
    /// Waits for the spacing of an original client's writes.
    spacing: Option<Pin<Box<Sleep>>>,
    /// A client that sends too fast is read again then.
    pause: Option<Pin<Box<Sleep>>>,
}

/// What a session's task wakes up for.
enum Event {
    /// Frames to work on.
    Batch(Vec<Item>),
    /// The connection ends.
    End,
}

impl Io {
    /// Writes what waits.
    fn poll_writes(&mut self, cx: &mut Context<'_>) {
        match &mut self.reader {
            Reader::Plain(_) => self.session.poll_flush(cx, &mut self.spacing, None),
            Reader::Tls(stream) => {
                let mut write = |cx: &mut Context<'_>, bytes: &[u8]| Pin::new(&mut **stream).poll_write(cx, bytes);
                self.session.poll_flush(cx, &mut self.spacing, Some(&mut write));
                // rustls may hold back what the socket did not take.
                let _ = Pin::new(&mut **stream).poll_flush(cx);
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.reader {
            Reader::Plain(reader) => Pin::new(reader).poll_read(cx, buffer),
            Reader::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }

    /// Whether the client may be read from now.
    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.pause = None;
        }
        // Whoever does not read answers gets no more of them.
        self.session.with_unflushed(|outbox, limits| {
            outbox.is_paused = outbox.is_full(limits);
            !outbox.is_paused
        })
    }
}

/// Frames from bytes that come in pieces.
pub(crate) struct Input {
    scanner: Scanner,
    /// The beginning of a frame whose end has not come, or frames that wait for their turn.
    rest: Vec<u8>,
    /// There may be whole frames in `rest`.
    has_frames: bool,
}

impl Input {
    pub(crate) fn new(scanner: Scanner) -> Self {
        Self { scanner, rest: Vec::new(), has_frames: false }
    }

    /// Whether there may be whole frames among what was taken before.
    pub(crate) fn has_frames(&self) -> bool {
        self.has_frames
    }

    /// Bytes that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.rest.len()
    }

    /// Takes what came, and puts the frames in it into `batch`, up to [`BATCH`].
    pub(crate) fn take(&mut self, bytes: &[u8], batch: &mut Vec<Item>) {
        if self.rest.is_empty() {
            let done = self.scan(bytes, batch);
            if done < bytes.len() {
                self.rest = bytes[done..].to_vec();
            }
        } else {
            let mut rest = std::mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let done = self.scan(&rest, batch);
            if done < rest.len() {
                rest.drain(..done);
                self.rest = rest;
            }
        }
    }

    /// Returns how many bytes are done with.
    fn scan(&mut self, bytes: &[u8], batch: &mut Vec<Item>) -> usize {
        let mut done = 0;
        self.has_frames = false;
        while done < bytes.len() {
            if batch.len() >= BATCH {
                self.has_frames = true;
                break;
            }
            match self.scanner.next(&bytes[done..]) {
                Ok(Found::Frame(range)) => {
                    batch.push(Item::from_frame(&bytes[done + range.start..done + range.end]));
                    done += range.end;
                }
                Ok(Found::Partial(separators)) => return done + separators,
                Err(error) => {
                    batch.push(Item::Broken(error));
                    return bytes.len();
                }
            }
        }
        done
    }
}

impl Item {
    fn from_frame(frame: &[u8]) -> Self {
        match Request::decode(frame) {
            Ok(request) => Self::Request(request),
            Err(bad) => Self::Bad(bad),
        }
    }
}

/// Serves a client until one side ends the connection.
pub(crate) async fn run(node: Arc<Node>, session: Arc<Session>, reader: Reader) {
    node.hub.add(&session);
    let mut io = Io { session: Arc::clone(&session), reader, spacing: None, pause: None };
    let mut input = Input::new(Scanner::new(node.config.max_frame_before_login_bytes, node.config.max_depth));
    let rate = Rate::new(node.config.commands_per_s, Duration::from_secs(1), node.config.commands_burst);
    let mut bucket = Bucket::new(Instant::now());
    let mut state = State::default();
    while let Event::Batch(batch) = next(&node, &mut io, &mut input).await {
        node.metrics().frames.inc_by(batch.len() as u64);
        if let Some(rate) = rate {
            let now = Instant::now();
            let wait = batch.iter().map(|_| bucket.charge(rate, now)).max().unwrap_or_default();
            if !wait.is_zero() {
                io.pause = Some(Box::pin(tokio::time::sleep(wait)));
            }
        }
        let was_logged_in = state.identity.is_some();
        {
            let mut work = Box::pin(commands::work(&node, &session, &mut state, batch));
            poll_fn(|cx| {
                io.poll_writes(cx);
                work.as_mut().poll(cx)
            })
            .await;
        }
        if state.identity.is_some() != was_logged_in {
            let config = &node.config;
            let bytes = if was_logged_in { config.max_frame_before_login_bytes } else { config.max_frame_bytes };
            input.scanner.set_max_frame(bytes);
        }
    }
    Box::pin(end(&node, &mut io, &mut state)).await;
    node.hub.remove(&session);
}

/// Waits for frames, writing what waits meanwhile.
async fn next(node: &Arc<Node>, io: &mut Io, input: &mut Input) -> Event {
    poll_fn(|cx| {
        io.poll_writes(cx);
        let (closing, wants_healing) = io
            .session
            .with_unflushed(|outbox, limits| (outbox.closing, outbox.wants_healing() && outbox.has_room(limits)));
        if closing.is_some() {
            return Poll::Ready(Event::End);
        }
        if wants_healing {
            node.heal_if_needed(&io.session);
        }
        while io.may_read(cx) {
            let mut batch = Vec::new();
            if input.has_frames {
                input.take(&[], &mut batch);
            } else {
                let read = SCRATCH.with_borrow_mut(|scratch| {
                    let mut buffer = ReadBuf::new(scratch);
                    ready!(io.poll_read(cx, &mut buffer))?;
                    input.take(buffer.filled(), &mut batch);
                    Poll::Ready(io::Result::Ok(buffer.filled().len()))
                });
                match ready!(read) {
                    Ok(bytes) if bytes > 0 => io.session.with_unflushed(|outbox, _| outbox.heard()),
                    // Whoever has finished writing may still be reading.
                    Ok(_) => return Poll::Ready(Event::End),
                    Err(_) => {
                        io.session.with_unflushed(|outbox, _| outbox.closing = Some(Closing::Gone));
                        return Poll::Ready(Event::End);
                    }
                }
            }
            if !batch.is_empty() {
                return Poll::Ready(Event::Batch(batch));
            }
        }
        Poll::Pending
    })
    .await
}

/// Writes what waits, gives up the user, and stores what was to be relayed and was not written.
async fn end(node: &Arc<Node>, io: &mut Io, state: &mut State) {
    let session = Arc::clone(&io.session);
    // From now on nobody else may think that something reaches this client.
    if let Some(identity) = &state.identity {
        node.hub.unregister(identity.id, &session);
    }
    let flushed = poll_fn(|cx| {
        io.poll_writes(cx);
        let is_done = session.with_unflushed(|outbox, _| outbox.is_empty() || outbox.closing == Some(Closing::Gone));
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    });
    let _ = tokio::time::timeout(CLOSE_FLUSH, flushed).await;
    let relayed = session.with_unflushed(|outbox, _| {
        outbox.closing.get_or_insert(Closing::Gone);
        outbox.abandon()
    });
    let is_displaced =
        session.with_unflushed(|outbox, _| outbox.closing == Some(Closing::Notice(NoticeCode::Displaced)));
    commands::account::leave(node, &session, state, is_displaced).await;
    node.store_relayed(relayed).await;
    if let Reader::Tls(stream) = &mut io.reader {
        let _ = tokio::time::timeout(CLOSE_FLUSH, poll_fn(|cx| Pin::new(&mut **stream).poll_shutdown(cx))).await;
    }
    session.room_is_gone();
}

/// A frame that could not be told from the next: says so, then ends the connection.
pub(crate) fn violate(session: &Session, error: &FrameError) {
    session.send(answer::refusal(0, None, &error.refusal()));
    session.close(NoticeCode::Violation);
}

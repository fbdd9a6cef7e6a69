//! What waits for one client to read, and how it gets to the socket.
//!
//! Whoever has something for a client puts it into the client's queue and writes the queue to the socket at once, as far as
//! the socket takes it, from its own thread. Only what the socket does not take waits for the session's task. So a message
//! normally costs no wake-up of the receiving task.
//!
//! The queue is bounded in frames and bytes. Stored messages that find it full are left out and read from the store again
//! when there is room; nothing else may be left out. Which message is the next one of its conversation, and whether one is
//! missing, is for `positions` to say.

mod healing;
mod positions;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::tcp::OwnedWriteHalf;

use self::healing::Healing;
use self::positions::{Place, Positions};
use crate::protocol::event::NoticeCode;
use crate::push::Push;
use crate::store::{Conversation, Cursor, Seq, UserId};

/// Frames of one write.
const FRAMES_PER_WRITE: usize = 32;

/// The limits of a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Frames that may wait.
    pub frames: usize,
    /// Bytes that may wait.
    pub bytes: usize,
    /// What lies between two writes to an original client.
    pub original_spacing: Duration,
}

/// One client's queue and positions. Its session keeps it under a lock that is never held across an await.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Out>,
    /// Bytes of the first frame that the socket has taken already.
    written: usize,
    /// Bytes that wait.
    bytes: usize,
    /// The modern mode: several frames in one write, acknowledgements by the client.
    pub(crate) is_modern: bool,
    /// The socket takes no more for now; the session's task waits for it.
    pub(crate) is_blocked: bool,
    /// Something is going on that may end with a write before this time: the spacing of the original.
    pub(crate) resume_at: Option<Instant>,
    last_write: Option<Instant>,
    /// When something last moved while something waited. `None`: nothing waits.
    pub(crate) stalled_since: Option<Instant>,
    /// Why the connection is to be closed.
    pub(crate) closing: Option<Closing>,
    /// The user, while logged in.
    pub(crate) user: Option<UserId>,
    /// How far its conversations have been sent.
    pub(crate) positions: Positions,
    /// The session's task reads no commands until there is room.
    pub(crate) is_paused: bool,
    healing: Healing,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The server ends it.
    Notice(NoticeCode),
    /// The client ended it, or the network did.
    Gone,
}

/// A frame in the queue.
#[derive(Debug)]
struct Out {
    frame: Bytes,
    after: After,
}

/// What follows from a frame's being written.
#[derive(Debug)]
enum After {
    Nothing,
    /// The client does not acknowledge, so its cursor moves now.
    Acknowledge(Conversation, u64),
    /// It is stored nowhere: if it is not written, it must be.
    Relayed(Arc<Push>),
}

/// Messages in the answer to an original client's login: those of one conversation after `seen`, up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) conversation: Conversation,
    /// What the user had received before.
    pub(crate) seen: Seq,
    pub(crate) last: Seq,
}

/// What became of a message that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is in the queue, or need not be: sent before, or the user's own.
    Done,
    /// It waits for the one before it, or has to be read from the store.
    Later,
    /// It is the next one, and has to be read from the store when there is room.
    Full,
    /// The session has ended.
    Closed,
}

impl Outbox {
    /// Whether the queue takes no more messages.
    pub(crate) fn is_full(&self, limits: &QueueLimits) -> bool {
        self.queue.len() >= limits.frames || self.bytes >= limits.bytes
    }

    /// Whether there is room again after it was full.
    pub(crate) fn has_room(&self, limits: &QueueLimits) -> bool {
        self.queue.len() <= limits.frames / 2 && self.bytes <= limits.bytes / 2
    }

    /// Whether everything is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Frames and bytes that wait.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.queue.len(), self.bytes)
    }

    /// Puts a frame at the end. The caller has seen to the limits.
    pub(crate) fn push(&mut self, frame: Bytes) {
        self.put(frame, After::Nothing);
    }

    /// Puts a message that is stored nowhere.
    pub(crate) fn relay(&mut self, push: &Arc<Push>) {
        if self.is_modern {
            self.put(push.modern(), After::Relayed(Arc::clone(push)));
        } else {
            let frames = push.original();
            for (index, frame) in frames.iter().enumerate() {
                let is_last = index + 1 == frames.len();
                self.put(frame.clone(), if is_last { After::Relayed(Arc::clone(push)) } else { After::Nothing });
            }
        }
    }

    fn put(&mut self, frame: Bytes, after: After) {
        self.bytes += frame.len();
        self.queue.push_back(Out { frame, after });
        self.stalled_since.get_or_insert_with(Instant::now);
    }

    /// Offers a stored message: it is sent if it is the next one of its conversation.
    pub(crate) fn offer(&mut self, push: &Arc<Push>, limits: &QueueLimits) -> Offered {
        let (Some(user), Some(seq), None) = (self.user, push.seq, self.closing) else { return Offered::Closed };
        let seq = seq.0;
        match self.positions.place(push, seq) {
            Place::Sent => return Offered::Done,
            Place::Later => return Offered::Later,
            Place::Next => {}
        }
        if push.sender != user && self.is_full(limits) {
            self.positions.fall_behind();
            return Offered::Full;
        }
        self.accept(user, push, seq);
        self.accept_what_waited(user, push.conversation, limits);
        Offered::Done
    }

    /// Sends what came too early and is not too early any more.
    fn accept_what_waited(&mut self, user: UserId, conversation: Conversation, limits: &QueueLimits) {
        while let Some((seq, push)) = self.positions.take_next(conversation) {
            if push.sender != user && self.is_full(limits) {
                self.positions.fall_behind();
                return;
            }
            self.accept(user, &push, seq);
        }
    }

    /// Sends the next message of its conversation.
    fn accept(&mut self, user: UserId, push: &Arc<Push>, seq: u64) {
        let is_own = push.sender == user;
        self.positions.move_to(push.conversation, seq, is_own);
        if is_own {
            // What the user wrote himself he has, as long as he has everything before it.
            return;
        }
        if self.is_modern {
            self.put(push.modern(), After::Nothing);
            return;
        }
        let frames = push.original();
        for (index, frame) in frames.iter().enumerate() {
            let is_last = index + 1 == frames.len();
            let after = if is_last { After::Acknowledge(push.conversation, seq) } else { After::Nothing };
            self.put(frame.clone(), after);
        }
    }

    /// The client has spoken, so an original client has read what was written before.
    pub(crate) fn heard(&mut self) {
        self.last_write = None;
    }

    /// Writes what waits to the socket, as far as it takes it. Returns the cursors that moved by it.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub(crate) fn flush(&mut self, socket: &OwnedWriteHalf, limits: &QueueLimits) -> io::Result<Vec<Cursor>> {
        let mut cursors = Vec::new();
        while !self.queue.is_empty() && !self.is_blocked {
            let result = if self.is_modern && self.queue.len() > 1 {
                let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
                let mut count = 0;
                for (slice, out) in slices.iter_mut().zip(&self.queue) {
                    *slice = IoSlice::new(if count == 0 { &out.frame[self.written..] } else { &out.frame });
                    count += 1;
                }
                socket.try_write_vectored(&slices[..count])
            } else {
                if !self.is_modern
                    && let Some(resume_at) = self.spacing(limits)
                {
                    self.resume_at = Some(resume_at);
                    break;
                }
                socket.try_write(&self.queue[0].frame[self.written..])
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.wrote(bytes, &mut cursors),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_blocked = true,
                Err(error) => return Err(error),
            }
        }
        Ok(cursors)
    }

    /// When the next frame may be written to an original client; `None`: now.
    fn spacing(&self, limits: &QueueLimits) -> Option<Instant> {
        if limits.original_spacing.is_zero() || self.written > 0 {
            return None;
        }
        let next = self.last_write? + limits.original_spacing;
        (next > Instant::now()).then_some(next)
    }

    /// The next bytes for a socket that only the session's task can write to.
    pub(crate) fn front(&self) -> Option<Bytes> {
        let out = self.queue.front()?;
        Some(out.frame.slice(self.written..))
    }

    /// As [`front`](Self::front) for an original client; `Err`: not before that time.
    pub(crate) fn next(&self, limits: &QueueLimits) -> Result<Option<Bytes>, Instant> {
        match self.front() {
            Some(_)
                if !self.is_modern
                    && let Some(time) = self.spacing(limits) =>
            {
                Err(time)
            }
            front => Ok(front),
        }
    }

    /// The socket took so many bytes.
    pub(crate) fn wrote(&mut self, mut bytes: usize, cursors: &mut Vec<Cursor>) {
        self.bytes -= bytes;
        let now = Instant::now();
        while let Some(front) = self.queue.front() {
            let left = front.frame.len() - self.written;
            if bytes < left {
                self.written += bytes;
                break;
            }
            bytes -= left;
            self.written = 0;
            let out = self.queue.pop_front().expect("there is a front");
            if let After::Acknowledge(conversation, seq) = out.after
                && let (Some(user), Ok(Some(seq))) = (self.user, self.positions.acknowledge(conversation, seq))
            {
                cursors.push(Cursor { user, conversation, seq: Seq(seq) });
            }
        }
        if self.is_modern {
            self.last_write = None;
        } else if self.written == 0 {
            self.last_write = Some(now);
        }
        self.stalled_since = (!self.queue.is_empty()).then_some(now);
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            // Most sessions are idle most of the time.
            self.queue = VecDeque::new();
        }
    }

    /// Leaves out what the store has or nobody needs: what was stored nowhere stays, and so does a frame half written.
    pub(crate) fn keep_relayed(&mut self) {
        let half = usize::from(self.written > 0);
        let mut index = 0;
        self.queue.retain(|out| {
            index += 1;
            index <= half || matches!(out.after, After::Relayed(_))
        });
        self.bytes = self.queue.iter().map(|out| out.frame.len()).sum::<usize>() - self.written;
    }

    /// Empties the queue of a connection that is gone, and returns what was stored nowhere.
    pub(crate) fn abandon(&mut self) -> Vec<Arc<Push>> {
        (self.written, self.bytes, self.stalled_since) = (0, 0, None);
        let relayed = std::mem::take(&mut self.queue).into_iter().filter_map(|out| match out.after {
            After::Relayed(push) => Some(push),
            _ => None,
        });
        relayed.collect()
    }

    /// Opens the session for a user: what is for him may be offered from now on. The answer to his login comes first, with
    /// what it has of the messages that waited for him.
    pub(crate) fn log_in(&mut self, user: UserId, answer: Bytes, backlog: Option<Backlog>) {
        self.user = Some(user);
        let after = match backlog {
            Some(Backlog { conversation, seen, last }) => {
                self.positions.put_into_login(conversation, seen.0, last.0);
                After::Acknowledge(conversation, last.0)
            }
            None => After::Nothing,
        };
        self.put(answer, after);
    }

    /// Forgets the user. What waits is still written.
    pub(crate) fn log_out(&mut self) {
        self.user = None;
        self.positions = Positions::default();
        self.forget_sync();
    }
}

#[cfg(test)]
mod tests {
    use super::positions::MAX_AHEAD;
    use super::*;
    use crate::protocol::event::Delivery;
    use crate::protocol::msgid;

    const LIMITS: QueueLimits = QueueLimits { frames: 8, bytes: 1 << 20, original_spacing: Duration::ZERO };

    fn user(id: u32) -> UserId {
        UserId::new(id).unwrap()
    }

    /// Message `seq` of the conversation of users 1 and 2.
    fn message(from: u32, seq: u64) -> Arc<Push> {
        let message = Delivery {
            msgid: msgid::CHAT,
            id: from,
            name: "n".into(),
            toid: Some(3 - from),
            groupid: None,
            msg: format!("text {seq}"),
            time: String::new(),
            mid: None,
            seq: Some(seq),
            at: 0,
        };
        Arc::new(Push::new(message).unwrap())
    }

    fn outbox() -> Outbox {
        Outbox { is_modern: true, user: Some(user(1)), ..Outbox::default() }
    }

    /// The sequences in the queue, which is emptied as if they had been written.
    fn sent(outbox: &mut Outbox) -> Vec<u64> {
        let mut sequences = Vec::new();
        while let Some(frame) = outbox.front() {
            let frame_text = std::str::from_utf8(&frame).unwrap();
            let at = frame_text.find("text ").unwrap() + 5;
            sequences.push(frame_text[at..].split('"').next().unwrap().parse().unwrap());
            outbox.wrote(frame.len(), &mut Vec::new());
        }
        sequences
    }

    #[test]
    fn messages_leave_in_order_whatever_order_they_come_in() {
        let mut outbox = outbox();
        for (seq, offered) in [(1, Offered::Done), (3, Offered::Later), (4, Offered::Later), (1, Offered::Done)] {
            assert_eq!(outbox.offer(&message(2, seq), &LIMITS), offered, "{seq}");
        }
        assert!(outbox.needs_healing() && outbox.positions.may_wait());
        assert_eq!(sent(&mut outbox), [1]);
        assert_eq!(outbox.offer(&message(2, 2), &LIMITS), Offered::Done);
        assert_eq!(sent(&mut outbox), [2, 3, 4]);
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn what_is_in_the_answer_to_a_login_is_read_when_that_is_written() {
        let conversation = message(2, 1).conversation;
        let backlog = Backlog { conversation, seen: Seq(3), last: Seq(5) };
        let mut outbox = Outbox::default();
        outbox.log_in(user(1), Bytes::from_static(b"answer"), Some(backlog));
        assert_eq!(outbox.offer(&message(2, 5), &LIMITS), Offered::Done);
        assert_eq!(outbox.len().0, 1, "it is in the answer");
        let mut cursors = Vec::new();
        outbox.wrote(5, &mut cursors);
        assert_eq!(cursors, []);
        outbox.wrote(1, &mut cursors);
        assert_eq!(cursors, [Cursor { user: user(1), conversation, seq: Seq(5) }]);
    }

    #[test]
    fn what_the_store_does_not_have_is_passed_over() {
        let mut outbox = outbox();
        let conversation = message(2, 1).conversation;
        assert_eq!(outbox.positions.last(conversation, 1), 1);
        assert_eq!(outbox.offer(&message(2, 4), &LIMITS), Offered::Later);
        outbox.positions.begin_healing();
        assert!(outbox.positions.skip_to(conversation, 4), "2 and 3 are missing");
        for seq in [4, 5] {
            assert!(!outbox.positions.skip_to(conversation, seq));
            assert_eq!(outbox.offer(&message(2, seq), &LIMITS), Offered::Done);
        }
        assert_eq!(sent(&mut outbox), [4, 5]);
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn a_conversation_whose_position_is_unknown_is_read_from_the_store() {
        let mut outbox = outbox();
        assert_eq!(outbox.offer(&message(2, 7), &LIMITS), Offered::Later);
        assert!(outbox.needs_healing() && !outbox.positions.may_wait());
        outbox.positions.begin_healing();
        let conversation = message(2, 7).conversation;
        assert_eq!(outbox.positions.last(conversation, 5), 5);
        for seq in [6, 7] {
            assert_eq!(outbox.offer(&message(2, seq), &LIMITS), Offered::Done);
        }
        assert_eq!(sent(&mut outbox), [6, 7]);
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn of_what_comes_too_early_only_so_much_waits_and_the_rest_is_read_from_the_store() {
        let limits = QueueLimits { frames: 2 * MAX_AHEAD, ..LIMITS };
        let mut outbox = outbox();
        outbox.offer(&message(2, 1), &limits);
        let last = MAX_AHEAD as u64 + 2;
        for seq in 3..=last {
            assert_eq!(outbox.offer(&message(2, seq), &limits), Offered::Later, "{seq}");
        }
        assert!(outbox.positions.may_wait(), "the second may still come by itself");
        outbox.offer(&message(2, last), &limits);
        assert!(outbox.positions.may_wait(), "a repeat takes no place");
        assert_eq!(outbox.offer(&message(2, last + 1), &limits), Offered::Later);
        assert!(outbox.needs_healing() && !outbox.positions.may_wait());
        // The second does come. What waited follows it; what did not still has to be read.
        assert_eq!(outbox.offer(&message(2, 2), &limits), Offered::Done);
        assert_eq!(sent(&mut outbox), (1..=last).collect::<Vec<_>>());
        assert!(outbox.needs_healing() && !outbox.positions.may_wait());
        outbox.positions.begin_healing();
        let from = outbox.positions.last(message(2, 1).conversation, 0);
        assert_eq!(from, last);
        for seq in from + 1..=last + 2 {
            assert_eq!(outbox.offer(&message(2, seq), &limits), Offered::Done);
        }
        assert_eq!(sent(&mut outbox), [last + 1, last + 2]);
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn a_healing_read_begins_with_what_came_too_early_forgotten_and_sends_it_in_order() {
        let limits = QueueLimits { frames: 2 * MAX_AHEAD, ..LIMITS };
        let mut outbox = outbox();
        outbox.offer(&message(2, 1), &limits);
        for seq in 3..=MAX_AHEAD as u64 + 10 {
            outbox.offer(&message(2, seq), &limits);
        }
        outbox.positions.begin_healing();
        assert!(!outbox.needs_healing());
        // Hints go on while the store is read: one that is too early waits again, and one that the read found is dropped.
        let last = MAX_AHEAD as u64 + 11;
        assert_eq!(outbox.offer(&message(2, last), &limits), Offered::Later);
        for seq in 2..last {
            assert_eq!(outbox.offer(&message(2, seq), &limits), Offered::Done, "{seq}");
        }
        assert_eq!(outbox.offer(&message(2, 5), &limits), Offered::Done);
        assert_eq!(sent(&mut outbox), (1..=last).collect::<Vec<_>>());
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn what_finds_the_queue_full_is_sent_later_and_in_order() {
        let mut outbox = outbox();
        for seq in 1..=12 {
            outbox.offer(&message(2, seq), &LIMITS);
        }
        assert_eq!(outbox.len().0, 8);
        assert!(outbox.needs_healing());
        assert_eq!(sent(&mut outbox), (1..=8).collect::<Vec<_>>());
        outbox.positions.begin_healing();
        let from = outbox.positions.last(message(2, 1).conversation, 0);
        assert_eq!(from, 8);
        for seq in from + 1..=12 {
            assert_eq!(outbox.offer(&message(2, seq), &LIMITS), Offered::Done);
        }
        assert_eq!(sent(&mut outbox), [9, 10, 11, 12]);
        assert!(!outbox.needs_healing());
    }

    #[test]
    fn what_was_said_while_the_user_was_away_from_a_group_is_not_waited_for() {
        let mut outbox = outbox();
        let conversation = message(2, 1).conversation;
        outbox.offer(&message(2, 1), &LIMITS);
        outbox.offer(&message(1, 2), &LIMITS);
        assert_eq!(outbox.positions.last(conversation, 5), 5, "he came back after the fifth");
        assert_eq!(outbox.positions.last(conversation, 0), 5, "what was sent stays sent");
        assert_eq!(outbox.offer(&message(2, 6), &LIMITS), Offered::Done);
        assert_eq!(sent(&mut outbox), [1, 6]);
        assert_eq!(outbox.positions.own_cursor(conversation), None, "the sixth is not his own");
        assert_eq!(outbox.positions.acknowledge(conversation, 6), Ok(Some(6)));
    }

    #[test]
    fn own_messages_are_not_sent_and_move_the_cursor_only_behind_what_was_acknowledged() {
        let mut outbox = outbox();
        let conversation = message(1, 1).conversation;
        outbox.offer(&message(1, 1), &LIMITS);
        assert_eq!(outbox.positions.own_cursor(conversation), Some(1));
        outbox.offer(&message(2, 2), &LIMITS);
        outbox.offer(&message(1, 3), &LIMITS);
        assert_eq!(outbox.positions.own_cursor(conversation), None, "the second is not acknowledged");
        assert_eq!(sent(&mut outbox), [2]);
        assert_eq!(outbox.positions.acknowledge(conversation, 2), Ok(Some(3)));
        assert_eq!(outbox.positions.acknowledge(conversation, 1), Ok(None), "cursors never go back");
        assert_eq!(outbox.positions.acknowledge(conversation, u64::MAX), Ok(None), "nor beyond what was sent");
        assert_eq!(outbox.positions.acknowledge(Conversation::direct(user(1), user(9)), 1), Err(()));
    }

    #[test]
    fn an_original_clients_cursor_moves_when_the_whole_message_is_written() {
        let mut outbox = Outbox { user: Some(user(1)), ..Outbox::default() };
        outbox.offer(&message(2, 1), &LIMITS);
        let frame = outbox.front().unwrap();
        let mut cursors = Vec::new();
        outbox.wrote(frame.len() - 1, &mut cursors);
        assert!(cursors.is_empty());
        outbox.wrote(1, &mut cursors);
        assert_eq!(cursors.len(), 1);
        assert_eq!(cursors[0].seq.0, 1);
    }

    #[test]
    fn what_is_stored_nowhere_is_given_back_if_it_was_not_written() {
        let mut outbox = outbox();
        for seq in 1..=3 {
            outbox.relay(&message(2, seq));
        }
        let first = outbox.front().unwrap();
        outbox.wrote(first.len() + 2, &mut Vec::new());
        outbox.push(Bytes::from_static(b"news"));
        outbox.keep_relayed();
        assert_eq!(outbox.len(), (2, 2 * first.len() - 2), "the news are gone");
        let relayed = outbox.abandon();
        assert_eq!(relayed.iter().map(|push| push.seq.unwrap().0).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(outbox.len(), (0, 0));
    }
}

//! One conversation: a sender, its recipients, and the messages between them.

use std::collections::VecDeque;
use std::io::Write as _;
use std::rc::Rc;

use super::tally::Tally;
use crate::load::arguments::{Protocol, Wait};
use crate::load::link::{Frame, Link};
use crate::protocol::msgid;

/// A sender and its recipients.
pub(super) struct Conversation {
    pub(super) number: usize,
    /// What tells this run's messages from others', and roughly when it began, in milliseconds since 1970.
    pub(super) run: u32,
    pub(super) began_ms: u64,
    pub(super) protocol: Protocol,
    pub(super) wait: Option<Wait>,
    pub(super) sender: Rc<Link>,
    pub(super) recipients: Vec<Recipient>,
    /// The frame up to the request's id, from there to the text, and behind the text.
    pub(super) parts: [String; 3],
    pub(super) size: usize,
    pub(super) next: u64,
    /// Messages that are not done with, the oldest first, their numbers without gaps.
    pub(super) in_flight: VecDeque<Sent>,
    /// Requests without an answer.
    pub(super) asked: VecDeque<(u64, u64, u64)>,
    /// Messages that count for the window.
    pub(super) flying: u32,
    pub(super) frame: Vec<u8>,
    pub(super) is_sending: bool,
}

pub(super) struct Recipient {
    pub(super) link: Rc<Link>,
    /// `"peer":7` or `"groupid":3`
    pub(super) target: String,
    /// The number of the last message that arrived, counted from 1.
    pub(super) last: u64,
    pub(super) seq: u64,
    pub(super) unacknowledged: u32,
}

pub(super) struct Sent {
    due: u64,
    /// Recipients that have not got it.
    missing: u32,
    has_landed: bool,
}

/// Now, and where it counts.
pub(super) struct Moment<'a> {
    pub(super) now: u64,
    pub(super) window: &'a std::ops::Range<u64>,
    pub(super) tally: &'a mut Tally,
}

impl Conversation {
    /// Sends the next message, which is due at `due`, with the next [`flush`](Self::flush). False when that is not possible
    /// any more.
    pub(super) fn send(&mut self, due: u64, tally: &mut Tally) -> bool {
        if !self.is_sending || self.sender.is_closed() {
            return false;
        }
        let (number, message) = (self.number, self.next);
        self.next += 1;
        self.frame.clear();
        let [head, middle, tail] = &self.parts;
        let frame = &mut self.frame;
        frame.extend_from_slice(head.as_bytes());
        // Writing to memory does not fail.
        if self.protocol == Protocol::Modern {
            let rid = self.sender.rid();
            let (ms, run) = (self.began_ms + due / 1_000_000, self.run);
            let _ = write!(frame, "{rid}{middle}{ms:012x}-{run:08x}-{number}-{message}\",\"msg\":\"");
            self.asked.push_back((rid, message, due));
        }
        let text = frame.len();
        let _ = write!(frame, "{number} {message} {due} ");
        frame.resize(text + self.size.max(frame.len() - text), b'x');
        frame.extend_from_slice(tail.as_bytes());
        self.in_flight.push_back(Sent { due, missing: self.recipients.len() as u32, has_landed: false });
        self.flying += 1;
        tally.sent += 1;
        tally.expected += self.recipients.len() as u64;
        self.sender.put(&self.frame);
        true
    }

    /// Writes what followed from what the connection of that number has read: messages, and what it acknowledges.
    pub(super) fn flush(&self, at: usize) {
        self.sender.flush();
        if at > 0 {
            self.recipients[at - 1].link.flush();
        }
    }

    /// The sent message of that number, if it is not done with.
    fn sent(&mut self, message: u64) -> Option<&mut Sent> {
        let oldest = self.next - self.in_flight.len() as u64;
        self.in_flight.get_mut(usize::try_from(message.checked_sub(oldest)?).ok()?)
    }

    /// A message counts no more for the window; the next one may be sent.
    fn lands(&mut self, message: u64, moment: &mut Moment<'_>, may_send: bool) {
        let Some(sent) = self.sent(message) else { return };
        if std::mem::replace(&mut sent.has_landed, true) {
            return;
        }
        self.flying -= 1;
        if self.wait.is_some() && may_send {
            self.send(moment.now, moment.tally);
        }
    }

    fn forget_the_done(&mut self) {
        while self.in_flight.front().is_some_and(|sent| sent.missing == 0 && sent.has_landed) {
            self.in_flight.pop_front();
        }
    }

    /// A frame for the connection of that number: 0 is the sender's.
    pub(super) fn receives(&mut self, at: usize, frame: &Frame<'_>, moment: &mut Moment<'_>, ack_every: u32) {
        match (frame.msgid, at) {
            (msgid::CHAT | msgid::GROUP_CHAT, 1..) => self.arrives(at - 1, frame, moment, ack_every),
            (msgid::ANSWER, 0) => self.is_answered(frame, moment),
            (msgid::PING, _) => {
                let link = if at == 0 { &self.sender } else { &self.recipients[at - 1].link };
                link.put(format!("{{\"msgid\":{}}}\n", msgid::PONG).as_bytes());
            }
            (msgid::NOTICE, _) => {
                if let Some(code) = frame.code.filter(|code| *code != "synced") {
                    *moment.tally.notices.entry(code.to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn arrives(&mut self, at: usize, frame: &Frame<'_>, moment: &mut Moment<'_>, ack_every: u32) {
        let Some((number, message, due)) = frame.msg.and_then(read) else { return };
        if number != self.number as u64 || message >= self.next {
            return; // of an earlier run
        }
        let recipient = &mut self.recipients[at];
        if let Some(seq) = frame.seq {
            recipient.seq = recipient.seq.max(seq);
            recipient.unacknowledged += 1;
            if recipient.unacknowledged >= ack_every {
                recipient.acknowledge();
            }
        }
        if message <= recipient.last {
            moment.tally.repeated += 1;
            return;
        }
        recipient.last = message;
        moment.tally.delivered += 1;
        if moment.window.contains(&moment.now) {
            moment.tally.delivered_in_time += 1;
        }
        if moment.window.contains(&due) {
            moment.tally.latency.saturating_record(moment.now.saturating_sub(due));
        }
        let Some(sent) = self.sent(message) else { return };
        sent.missing = sent.missing.saturating_sub(1);
        if sent.missing == 0 && (self.wait != Some(Wait::Ack)) {
            self.lands(message, moment, true);
        }
        self.forget_the_done();
    }

    fn is_answered(&mut self, frame: &Frame<'_>, moment: &mut Moment<'_>) {
        let Some(rid) = frame.rid else { return };
        // Answers come in the order of the requests.
        while let Some((asked, message, due)) = self.asked.pop_front() {
            if asked != rid {
                continue;
            }
            if frame.errno == 0 {
                moment.tally.accepted += 1;
                if moment.window.contains(&moment.now) {
                    moment.tally.accepted_in_time += 1;
                }
                if moment.window.contains(&due) {
                    moment.tally.answer.saturating_record(moment.now.saturating_sub(due));
                }
                if self.wait == Some(Wait::Ack) {
                    self.lands(message, moment, true);
                }
            } else {
                *moment.tally.refused.entry(frame.errno).or_default() += 1;
                if let Some(sent) = self.sent(message) {
                    sent.missing = 0;
                }
                // The tick sends the next one: a server that refuses should not be asked at once.
                self.lands(message, moment, false);
            }
            break;
        }
        self.forget_the_done();
    }

    /// What was due before `before` and has not arrived is lost; `everything` if no more is to come.
    pub(super) fn give_up(&mut self, before: u64, everything: bool, tally: &mut Tally) {
        for sent in &mut self.in_flight {
            if sent.due >= before && !everything {
                break;
            }
            tally.lost += u64::from(std::mem::take(&mut sent.missing));
            if !std::mem::replace(&mut sent.has_landed, true) {
                self.flying -= 1;
            }
        }
        self.forget_the_done();
    }
}

impl Recipient {
    pub(super) fn acknowledge(&mut self) {
        if self.unacknowledged > 0 {
            self.unacknowledged = 0;
            let (id, target, seq) = (msgid::ACK, &self.target, self.seq);
            self.link.put(format!("{{\"msgid\":{id},{target},\"seq\":{seq}}}\n").as_bytes());
        }
    }
}

/// The numbers at the beginning of a text: the conversation's, the message's, when it was due.
fn read(text: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = text.splitn(4, ' ');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_carries_its_numbers() {
        assert_eq!(read("3 17 123456 xxxx"), Some((3, 17, 123_456)));
        assert_eq!(read("hello"), None);
    }
}

//! How far each conversation has been sent to one client, and what is known to be missing.
//!
//! Messages of a conversation leave in the order of their sequences, without a gap. What comes too early waits for the one
//! before it; whether that one has to be read from the store is known here, too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::push::Push;
use crate::store::Conversation;

/// Messages that may arrive before the one they follow, in one conversation, before the store is asked.
pub(super) const MAX_AHEAD: usize = 64;

/// One client's positions.
#[derive(Debug, Default)]
pub(crate) struct Positions {
    known: HashMap<Conversation, Position>,
    /// Positions with messages that came too early.
    gaps: usize,
    /// A message of a conversation came whose position is not known.
    is_unknown: bool,
    /// A message was left out because the queue was full, or because too many waited for the one before them; or the store is
    /// to be asked for another reason.
    is_behind: bool,
}

/// How far a conversation has been sent to this session.
#[derive(Debug)]
struct Position {
    /// Everything up to here was put into the queue, or is the user's own.
    last: u64,
    /// Everything up to here was acknowledged.
    acknowledged: u64,
    /// From here to `last` all messages are the user's own, which nobody acknowledges. `None`: there are none.
    own_from: Option<u64>,
    /// What came too early.
    ahead: BTreeMap<u64, Arc<Push>>,
}

/// Where a message belongs among those of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Among those that were sent.
    Sent,
    /// After the last one that was sent.
    Next,
    /// Further on, or nobody knows: it has to be read from the store, or waits for the one before it.
    Later,
}

impl Positions {
    /// Where a stored message belongs. If it is too early, it is kept or noted to be missing.
    pub(super) fn place(&mut self, push: &Arc<Push>, seq: u64) -> Place {
        let position = match self.known.get_mut(&push.conversation) {
            Some(position) => position,
            None if seq == 1 => self.known.entry(push.conversation).or_insert_with(|| Position::new(0)),
            None => {
                self.is_unknown = true;
                return Place::Later;
            }
        };
        if seq <= position.last {
            return Place::Sent;
        }
        if seq == position.last + 1 {
            return Place::Next;
        }
        if position.ahead.is_empty() {
            self.gaps += 1;
        }
        if position.ahead.len() < MAX_AHEAD || position.ahead.contains_key(&seq) {
            position.ahead.insert(seq, Arc::clone(push));
        } else {
            self.is_behind = true;
        }
        Place::Later
    }

    /// Takes what came too early and is not too early any more: the next message of its conversation.
    pub(super) fn take_next(&mut self, conversation: Conversation) -> Option<(u64, Arc<Push>)> {
        let position = self.known.get_mut(&conversation)?;
        loop {
            let first = position.ahead.first_entry()?;
            let seq = *first.key();
            if seq > position.last + 1 {
                return None;
            }
            let push = first.remove();
            self.gaps -= usize::from(position.ahead.is_empty());
            // Else it was sent meanwhile.
            if seq == position.last + 1 {
                return Some((seq, push));
            }
        }
    }

    /// The next message of a conversation is in the queue, or need not be, since it is the user's own.
    pub(super) fn move_to(&mut self, conversation: Conversation, seq: u64, is_own: bool) {
        let Some(position) = self.known.get_mut(&conversation) else { return };
        position.last = seq;
        if is_own {
            position.own_from.get_or_insert(seq);
        } else {
            position.own_from = None;
        }
    }

    /// Something was left out, or may have been.
    pub(super) fn fall_behind(&mut self) {
        self.is_behind = true;
    }

    /// Whether the store must be asked for messages.
    pub(super) fn needs_healing(&self) -> bool {
        self.is_unknown || self.is_behind || self.gaps > 0
    }

    /// Whether all that is missing may still come by itself, a moment later.
    pub(super) fn may_wait(&self) -> bool {
        !self.is_unknown && !self.is_behind
    }

    /// A healing read begins: what it will find is no longer asked for, nor kept.
    pub(super) fn begin_healing(&mut self) {
        (self.is_unknown, self.is_behind) = (false, false);
        if self.gaps > 0 {
            self.known.values_mut().for_each(|position| position.ahead.clear());
            self.gaps = 0;
        }
    }

    /// The user's own messages at the end of a conversation need no acknowledgement: the cursor that follows from them.
    pub(crate) fn own_cursor(&mut self, conversation: Conversation) -> Option<u64> {
        self.known.get_mut(&conversation)?.advance(0)
    }

    /// The client has everything up to `seq`: the cursor that follows. `Err`: nothing is known of this conversation.
    pub(crate) fn acknowledge(&mut self, conversation: Conversation, seq: u64) -> Result<Option<u64>, ()> {
        self.known.get_mut(&conversation).map(|position| position.advance(seq)).ok_or(())
    }

    /// From where on the store is to be read; the user has everything up to `seen` for certain, or has no right to it: what
    /// was said in a group while he was away from it is not his to read.
    pub(crate) fn last(&mut self, conversation: Conversation, seen: u64) -> u64 {
        let position = self.known.entry(conversation).or_insert_with(|| Position::new(seen));
        if seen > position.last {
            (position.last, position.acknowledged, position.own_from) = (seen, seen, None);
        }
        position.last
    }

    /// There is nothing between what was sent and this message, which was read from the store: whatever had those sequences is
    /// gone from there. Returns whether there should have been something.
    pub(crate) fn skip_to(&mut self, conversation: Conversation, seq: u64) -> bool {
        let Some(position) = self.known.get_mut(&conversation) else { return false };
        let is_hole = position.last + 1 < seq;
        if is_hole {
            position.last = seq - 1;
        }
        is_hole
    }

    /// The messages after `seen` up to `last` are in the answer to a login.
    pub(super) fn put_into_login(&mut self, conversation: Conversation, seen: u64, last: u64) {
        self.known.insert(conversation, Position { last, ..Position::new(seen) });
    }
}

impl Position {
    fn new(seen: u64) -> Self {
        Self { last: seen, acknowledged: seen, own_from: None, ahead: BTreeMap::new() }
    }

    /// Moves the cursor to `seq`, or further if only own messages follow. Returns it if it moved.
    fn advance(&mut self, seq: u64) -> Option<u64> {
        let mut cursor = seq.min(self.last).max(self.acknowledged);
        if self.own_from.is_some_and(|own_from| cursor + 1 >= own_from) {
            cursor = self.last;
        }
        (cursor > self.acknowledged).then(|| {
            self.acknowledged = cursor;
            cursor
        })
    }
}

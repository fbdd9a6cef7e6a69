//! When the healing reads of one client begin and end.
//!
//! One is under way at a time. What is asked for meanwhile is read after it, since what it reads may be older than the
//! question; and so is what is found to be missing meanwhile.

use bytes::Bytes;

use super::Outbox;
use crate::store::UserId;

/// Whether a healing is under way, and what the client is told at its end.
#[derive(Debug, Default)]
pub(super) struct Healing {
    is_under_way: bool,
    synced: Synced,
}

/// Whether the client has been told that it has what was waiting at its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Synced {
    /// It has, or nobody is logged in.
    #[default]
    Told,
    /// The read after which it is told has not begun.
    Due,
    /// That read is under way.
    Reading,
}

impl Outbox {
    /// Asks for a healing read that begins after this, whatever is known to be missing.
    pub(crate) fn ask_for_healing(&mut self) {
        if self.user.is_some() {
            self.positions.fall_behind();
        }
    }

    /// The same at a login: the client is to be told when that is done.
    pub(crate) fn ask_for_sync(&mut self) {
        self.healing.synced = Synced::Due;
        self.ask_for_healing();
    }

    /// Whether a healing must begin.
    pub(crate) fn wants_healing(&self) -> bool {
        self.needs_healing() && !self.healing.is_under_way
    }

    /// Begins a healing if one must. Returns whether it did.
    pub(crate) fn begin_healing(&mut self) -> bool {
        let begins = self.wants_healing() && self.closing.is_none();
        self.healing.is_under_way |= begins;
        begins
    }

    /// Begins a read of the healing that is under way, and returns for whom. `None`: for nobody, and the healing has ended.
    pub(crate) fn begin_read(&mut self) -> Option<UserId> {
        let user = self.user.filter(|_| self.closing.is_none());
        if user.is_none() {
            self.healing.is_under_way = false;
            return None;
        }
        self.positions.begin_healing();
        if self.healing.synced == Synced::Due {
            self.healing.synced = Synced::Reading;
        }
        user
    }

    /// Whether the client is to be told, now that everything was sent, that it was.
    pub(crate) fn is_to_hear_synced(&self) -> bool {
        self.healing.synced == Synced::Reading && self.closing.is_none()
    }

    /// Tells it, if that is still so.
    pub(crate) fn tell_synced(&mut self, frame: Bytes) {
        if self.is_to_hear_synced() {
            self.healing.synced = Synced::Told;
            // Original clients know no such news.
            if self.is_modern {
                self.push(frame);
            }
        }
    }

    /// Ends the healing that is under way unless something is still missing. Returns whether it ended.
    pub(crate) fn end_healing(&mut self) -> bool {
        self.healing.is_under_way = self.needs_healing();
        !self.healing.is_under_way
    }

    /// Whether the store must be asked for messages.
    pub(super) fn needs_healing(&self) -> bool {
        self.user.is_some() && self.positions.needs_healing()
    }

    /// Whether all that is missing may still come by itself, a moment later.
    pub(crate) fn may_wait(&self) -> bool {
        self.needs_healing() && self.positions.may_wait()
    }

    /// Nobody waits for what was being read any more. The healing ends by itself.
    pub(super) fn forget_sync(&mut self) {
        self.healing.synced = Synced::Told;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Closing;

    fn frame() -> Bytes {
        Bytes::from_static(b"synced")
    }

    fn outbox() -> Outbox {
        Outbox { is_modern: true, user: UserId::new(1), ..Outbox::default() }
    }

    #[test]
    fn what_is_asked_for_while_the_store_is_being_read_is_read_after_it() {
        let mut outbox = outbox();
        assert!(!outbox.begin_healing(), "nothing is missing");
        outbox.ask_for_healing();
        assert!(!outbox.may_wait(), "no hint can be the answer");
        assert!(outbox.begin_healing() && !outbox.begin_healing());
        assert_eq!(outbox.begin_read(), UserId::new(1));
        outbox.ask_for_healing();
        assert!(!outbox.end_healing());
        assert_eq!(outbox.begin_read(), UserId::new(1));
        assert!(outbox.end_healing() && !outbox.wants_healing());
    }

    #[test]
    fn only_a_read_that_began_after_the_login_ends_with_word_of_it() {
        let mut outbox = outbox();
        outbox.ask_for_sync();
        assert!(outbox.begin_healing());
        outbox.begin_read();
        outbox.log_out();
        outbox.tell_synced(frame());
        outbox.user = UserId::new(2);
        outbox.ask_for_sync();
        outbox.tell_synced(frame());
        assert!(outbox.is_empty() && !outbox.begin_healing() && !outbox.end_healing(), "the first one's is under way");
        assert_eq!(outbox.begin_read(), UserId::new(2));
        outbox.tell_synced(frame());
        outbox.tell_synced(frame());
        assert_eq!(outbox.len().0, 1);
        assert!(outbox.end_healing());
    }

    #[test]
    fn a_healing_ends_with_its_session_or_its_login() {
        for end in [|outbox: &mut Outbox| outbox.closing = Some(Closing::Gone), Outbox::log_out] {
            let mut outbox = outbox();
            outbox.ask_for_healing();
            assert!(outbox.begin_healing());
            end(&mut outbox);
            assert_eq!(outbox.begin_read(), None);
            outbox.user = UserId::new(1);
            outbox.ask_for_healing();
            assert_eq!(outbox.begin_healing(), outbox.closing.is_none());
        }
    }
}

//! Which deliveries are new to this client, and up to where it has dealt with them.
//!
//! The server delivers at least once and in order. So one number a conversation, the highest sequence seen, tells new
//! messages from repeated ones, and another one, the highest that the program has dealt with, is what to acknowledge.

use std::collections::HashMap;

use crate::protocol::Target;
use crate::protocol::event::Delivery;

/// The conversation of a delivery, as the user `me` names it.
pub fn conversation(delivery: &Delivery, me: u32) -> Target {
    match (delivery.groupid, delivery.toid) {
        (Some(group), _) => Target::Group(group),
        (None, Some(to)) if delivery.id == me => Target::Peer(to),
        (None, _) => Target::Peer(delivery.id),
    }
}

/// The state of one user's conversations: some forty bytes for each of them.
#[derive(Debug, Default)]
pub struct Dedup {
    conversations: HashMap<Target, Cursor>,
}

#[derive(Debug, Default)]
struct Cursor {
    /// The highest sequence that arrived.
    seen: u64,
    /// The highest sequence that the program has dealt with.
    done: u64,
    /// Whether `done` has to be told to the server.
    is_due: bool,
}

impl Dedup {
    /// Takes note of a delivery. Whether it is new: repeated ones are to be dropped.
    pub fn arrives(&mut self, conversation: Target, seq: u64) -> bool {
        let cursor = self.conversations.entry(conversation).or_default();
        if seq > cursor.seen {
            cursor.seen = seq;
            return true;
        }
        // It comes again because the server does not know that it arrived; unless it waits for the program still.
        cursor.is_due |= seq <= cursor.done;
        false
    }

    /// The program has dealt with everything up to `seq`. Whether that is news for the server.
    pub fn is_done(&mut self, conversation: Target, seq: u64) -> bool {
        let cursor = self.conversations.entry(conversation).or_default();
        let is_news = seq > cursor.done;
        cursor.done = cursor.done.max(seq);
        cursor.is_due |= is_news;
        is_news
    }

    /// What is to be acknowledged now. Acknowledgements that are lost are due again when their messages come again.
    pub fn take_due(&mut self) -> Vec<(Target, u64)> {
        let due = self.conversations.iter_mut().filter(|(_, cursor)| cursor.is_due);
        due.map(|(conversation, cursor)| {
            cursor.is_due = false;
            (*conversation, cursor.done)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Target = Target::Peer(7);

    #[test]
    fn a_sequence_counts_once_in_each_conversation() {
        let mut dedup = Dedup::default();
        assert!(dedup.arrives(PEER, 1) && dedup.arrives(PEER, 2) && dedup.arrives(Target::Group(7), 1));
        assert!(!dedup.arrives(PEER, 2) && !dedup.arrives(PEER, 1));
        assert!(dedup.arrives(PEER, 5), "own messages are not delivered, so there are gaps");
    }

    #[test]
    fn only_what_the_program_has_dealt_with_is_acknowledged() {
        let mut dedup = Dedup::default();
        dedup.arrives(PEER, 1);
        dedup.arrives(PEER, 2);
        assert_eq!(dedup.take_due(), []);
        assert!(dedup.is_done(PEER, 1));
        assert_eq!(dedup.take_due(), [(PEER, 1)]);
        assert_eq!(dedup.take_due(), []);
    }

    #[test]
    fn a_lost_acknowledgement_is_made_again_when_the_message_comes_again() {
        let mut dedup = Dedup::default();
        dedup.arrives(PEER, 1);
        dedup.arrives(PEER, 2);
        dedup.is_done(PEER, 1);
        dedup.take_due();
        assert!(!dedup.arrives(PEER, 2), "seen, but the program has not dealt with it");
        assert_eq!(dedup.take_due(), []);
        assert!(!dedup.arrives(PEER, 1));
        assert_eq!(dedup.take_due(), [(PEER, 1)]);
    }

    #[test]
    fn a_conversation_has_the_name_of_the_other_one() {
        let mut delivery = Delivery {
            msgid: crate::protocol::msgid::CHAT,
            id: 1,
            name: String::new(),
            toid: Some(2),
            groupid: None,
            msg: String::new(),
            time: String::new(),
            mid: None,
            seq: Some(1),
            at: 0,
        };
        assert_eq!((conversation(&delivery, 2), conversation(&delivery, 1)), (Target::Peer(1), Target::Peer(2)));
        delivery.groupid = Some(9);
        assert_eq!(conversation(&delivery, 2), Target::Group(9));
    }
}

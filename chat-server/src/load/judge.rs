//! What the server promises, held against what happened.
//!
//! The evidence was gathered from outside: what was acknowledged to senders, what arrived at recipients (repetitions too,
//! in the order of arrival), what the history says at the end, who is shown as online when nobody is.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// A conversation, whoever looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Conversation {
    /// Of two users, the lower id first.
    Pair(u32, u32),
    /// Of a group.
    Group(u32),
}

impl Conversation {
    /// The conversation of these two.
    pub fn of(one: u32, other: u32) -> Self {
        Self::Pair(one.min(other), one.max(other))
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(one, other) => write!(f, "users {one} and {other}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// A message as somebody saw it: its sender in the acknowledgement, a recipient, or the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub conversation: Conversation,
    /// Its sequence there.
    pub seq: u64,
    /// Who wrote it.
    pub sender: u32,
    /// The sender's id of it.
    pub mid: String,
    /// What it says.
    pub text: String,
}

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// At whom.
    pub user: u32,
    /// What.
    pub message: Message,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What was acknowledged, each sender's in the order in which they were sent.
    pub acked: Vec<Message>,
    /// What arrived, each user's in the order of arrival.
    pub arrivals: Vec<Arrival>,
    /// The history of every conversation, in the order in which it was given.
    pub history: Vec<Message>,
    /// Who takes part in each conversation.
    pub members: BTreeMap<Conversation, Vec<u32>>,
    /// Users who are gone and are shown as online, after the lease.
    pub online: Vec<u32>,
    /// Users who could not log in again when the faults were over, and why.
    pub locked_out: Vec<(u32, String)>,
    /// Messages that were refused although nothing was wrong with them, and why.
    pub refused: Vec<(u32, String)>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Acknowledged, and not in the history.
    NotStored(Message),
    /// In the history under two sequences.
    StoredTwice(Message, u64),
    /// In the history under another sequence than the acknowledged one.
    MovedInStore(Message, u64),
    /// The sequences of a conversation have a gap, or one is there twice, after this one.
    BrokenSequence(Conversation, u64),
    /// A sender's messages are stored in another order than they were sent and acknowledged in.
    StoredOutOfOrder(Message, Message),
    /// In the history, and never arrived at this user.
    NotDelivered(u32, Message),
    /// It arrived only after a later message of its conversation, so that a client that drops repetitions drops it.
    DeliveredOutOfOrder(u32, Message),
    /// It arrived under two sequences, so that a client that drops repetitions shows it twice.
    DeliveredTwice(u32, Message),
    /// It arrived, and the history knows nothing of it.
    NeverStored(u32, Message),
    /// It arrived with another sender, id or text than the history has.
    Altered(u32, Message),
    /// It arrived at somebody who takes no part in the conversation.
    Misdelivered(u32, Message),
    /// Shown as online after the lease.
    Ghost(u32),
    /// Could not log in again.
    LockedOut(u32, String),
    /// Refused although nothing was wrong with it.
    Refused(u32, String),
}

impl Violation {
    /// A name for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotStored(_) => "acknowledged but not stored",
            Self::StoredTwice(..) => "stored twice",
            Self::MovedInStore(..) => "stored under another sequence",
            Self::BrokenSequence(..) => "gap in the sequences",
            Self::StoredOutOfOrder(..) => "stored out of order",
            Self::NotDelivered(..) => "not delivered",
            Self::DeliveredOutOfOrder(..) => "delivered out of order",
            Self::DeliveredTwice(..) => "delivered twice",
            Self::NeverStored(..) => "delivered but not stored",
            Self::Altered(..) => "altered",
            Self::Misdelivered(..) => "delivered to a stranger",
            Self::Ghost(_) => "presence ghost",
            Self::LockedOut(..) => "locked out",
            Self::Refused(..) => "refused",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        let show = |message: &Message| {
            let Message { conversation, seq, sender, mid, .. } = message;
            format!("{conversation}, sequence {seq}, of user {sender}, id {mid}")
        };
        match self {
            Self::NotStored(message) => write!(f, "{kind}: {}", show(message)),
            Self::StoredTwice(message, other) => write!(f, "{kind}: {}, and under {other}", show(message)),
            Self::MovedInStore(message, stored) => write!(f, "{kind}: {}, stored under {stored}", show(message)),
            Self::BrokenSequence(conversation, after) => write!(f, "{kind}: {conversation}, after {after}"),
            Self::StoredOutOfOrder(first, second) => write!(f, "{kind}: {}; then {}", show(first), show(second)),
            Self::NotDelivered(user, message)
            | Self::DeliveredOutOfOrder(user, message)
            | Self::DeliveredTwice(user, message)
            | Self::NeverStored(user, message)
            | Self::Altered(user, message)
            | Self::Misdelivered(user, message) => write!(f, "{kind}: at user {user}: {}", show(message)),
            Self::Ghost(user) => write!(f, "{kind}: user {user}"),
            Self::LockedOut(user, why) | Self::Refused(user, why) => write!(f, "{kind}: user {user}: {why}"),
        }
    }
}

/// Every promise that was broken.
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    let history = Stored::of(evidence, &mut violations);
    acknowledgements(evidence, &history, &mut violations);
    deliveries(evidence, &history, &mut violations);
    violations.extend(evidence.online.iter().map(|user| Violation::Ghost(*user)));
    violations.extend(evidence.locked_out.iter().map(|(user, why)| Violation::LockedOut(*user, why.clone())));
    violations.extend(evidence.refused.iter().map(|(user, why)| Violation::Refused(*user, why.clone())));
    violations
}

/// The history, by sequence and by who wrote it under which id.
struct Stored<'a> {
    by_seq: HashMap<(Conversation, u64), &'a Message>,
    by_mid: HashMap<(u32, &'a str), &'a Message>,
}

impl<'a> Stored<'a> {
    fn of(evidence: &'a Evidence, violations: &mut Vec<Violation>) -> Self {
        let mut stored = Self { by_seq: HashMap::new(), by_mid: HashMap::new() };
        let mut last: BTreeMap<Conversation, u64> = BTreeMap::new();
        for message in &evidence.history {
            let last = last.entry(message.conversation).or_default();
            if message.seq != *last + 1 {
                violations.push(Violation::BrokenSequence(message.conversation, *last));
            }
            *last = message.seq.max(*last);
            stored.by_seq.insert((message.conversation, message.seq), message);
            if let Some(first) = stored.by_mid.insert((message.sender, &message.mid), message) {
                violations.push(Violation::StoredTwice(first.clone(), message.seq));
            }
        }
        stored
    }
}

fn acknowledgements(evidence: &Evidence, stored: &Stored<'_>, violations: &mut Vec<Violation>) {
    let mut last: HashMap<(u32, Conversation), &Message> = HashMap::new();
    for message in &evidence.acked {
        match stored.by_mid.get(&(message.sender, &*message.mid)) {
            None => violations.push(Violation::NotStored(message.clone())),
            Some(found) if (found.conversation, found.seq) != (message.conversation, message.seq) => {
                violations.push(Violation::MovedInStore(message.clone(), found.seq));
            }
            Some(found) if found.text != message.text => {
                violations.push(Violation::Altered(message.sender, (*found).clone()));
            }
            Some(_) => {}
        }
        if let Some(before) = last.insert((message.sender, message.conversation), message)
            && before.seq >= message.seq
            && before.mid != message.mid
        {
            violations.push(Violation::StoredOutOfOrder(before.clone(), message.clone()));
        }
    }
}

fn deliveries(evidence: &Evidence, stored: &Stored<'_>, violations: &mut Vec<Violation>) {
    // What a client that drops repetitions keeps: what is above the last sequence of its conversation.
    let mut highest: HashMap<(u32, Conversation), u64> = HashMap::new();
    let mut arrived: HashSet<(u32, Conversation, u64)> = HashSet::new();
    let mut kept: HashSet<(u32, Conversation, u64)> = HashSet::new();
    let mut kept_mids: HashMap<(u32, u32, &str), u64> = HashMap::new();
    let mut reported: BTreeSet<(u32, Conversation, u64)> = BTreeSet::new();
    for Arrival { user, message } in &evidence.arrivals {
        let at = (*user, message.conversation, message.seq);
        let is_member = evidence.members.get(&message.conversation).is_some_and(|members| members.contains(user));
        let is_new = arrived.insert(at);
        let problem = match stored.by_seq.get(&(message.conversation, message.seq)) {
            _ if !is_member => Some(Violation::Misdelivered(*user, message.clone())),
            None => Some(Violation::NeverStored(*user, message.clone())),
            Some(found) if *found != message => Some(Violation::Altered(*user, message.clone())),
            Some(_) => None,
        };
        if let Some(problem) = problem
            && reported.insert(at)
        {
            violations.push(problem);
        }
        let highest = highest.entry((*user, message.conversation)).or_default();
        if is_new && message.seq > *highest {
            *highest = message.seq;
            kept.insert(at);
            if kept_mids.insert((*user, message.sender, &message.mid), message.seq).is_some() {
                violations.push(Violation::DeliveredTwice(*user, message.clone()));
            }
        }
    }
    for message in &evidence.history {
        let members = evidence.members.get(&message.conversation).into_iter().flatten();
        for user in members.filter(|user| **user != message.sender) {
            let at = (*user, message.conversation, message.seq);
            if kept.contains(&at) {
                continue;
            }
            violations.push(match arrived.contains(&at) {
                true => Violation::DeliveredOutOfOrder(*user, message.clone()),
                false => Violation::NotDelivered(*user, message.clone()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Conversation = Conversation::Pair(1, 2);
    const GROUP: Conversation = Conversation::Group(9);

    fn message(conversation: Conversation, seq: u64, sender: u32, mid: &str) -> Message {
        Message { conversation, seq, sender, mid: mid.into(), text: format!("text of {mid}") }
    }

    /// Three messages between two users and two in a group of three, all acknowledged, all where they should be.
    fn good() -> Evidence {
        let history = vec![
            message(PAIR, 1, 1, "a"),
            message(PAIR, 2, 2, "b"),
            message(PAIR, 3, 1, "c"),
            message(GROUP, 1, 1, "d"),
            message(GROUP, 2, 3, "e"),
        ];
        let members: BTreeMap<Conversation, Vec<u32>> = [(PAIR, vec![1, 2]), (GROUP, vec![1, 2, 3])].into();
        let arrivals = history.iter().flat_map(|message| {
            let others = members[&message.conversation].iter().filter(|user| **user != message.sender);
            others.map(|user| Arrival { user: *user, message: message.clone() })
        });
        let arrivals = arrivals.collect();
        Evidence { acked: history.clone(), arrivals, history, members, ..Evidence::default() }
    }

    fn kinds(evidence: &Evidence) -> Vec<&'static str> {
        judge(evidence).iter().map(Violation::kind).collect()
    }

    /// The arrival of a message at a user.
    fn position(evidence: &Evidence, user: u32, mid: &str) -> usize {
        evidence.arrivals.iter().position(|arrival| arrival.user == user && arrival.message.mid == mid).unwrap()
    }

    #[test]
    fn what_is_well_is_not_reported() {
        assert_eq!(kinds(&good()), [""; 0]);
        // Repetitions, also of old messages, are what at-least-once means.
        let mut evidence = good();
        let again = evidence.arrivals.clone();
        evidence.arrivals.extend(again);
        assert_eq!(kinds(&evidence), [""; 0]);
        // A message without an acknowledgement may be there or not.
        evidence.acked.clear();
        assert_eq!(kinds(&evidence), [""; 0]);
    }

    #[test]
    fn a_message_that_was_acknowledged_and_lost_is_found() {
        let mut evidence = good();
        evidence.history.pop();
        evidence.arrivals.retain(|arrival| arrival.message.mid != "e");
        assert_eq!(kinds(&evidence), ["acknowledged but not stored"]);
        assert!(judge(&evidence)[0].to_string().contains("group 9, sequence 2, of user 3, id e"));
    }

    #[test]
    fn a_message_that_did_not_arrive_is_found_at_each_recipient() {
        let mut evidence = good();
        let at = position(&evidence, 2, "d");
        evidence.arrivals.remove(at);
        assert_eq!(judge(&evidence), [Violation::NotDelivered(2, message(GROUP, 1, 1, "d"))]);
        evidence.arrivals.retain(|arrival| arrival.message.mid != "d");
        assert_eq!(kinds(&evidence), ["not delivered"; 2]);
    }

    #[test]
    fn a_message_that_comes_after_a_later_one_is_found() {
        let mut evidence = good();
        let (first, second) = (position(&evidence, 2, "a"), position(&evidence, 2, "c"));
        evidence.arrivals.swap(first, second);
        assert_eq!(judge(&evidence), [Violation::DeliveredOutOfOrder(2, message(PAIR, 1, 1, "a"))]);
        // If it comes again in order, after the later one came too early, it is still too late.
        let again = evidence.arrivals.clone();
        evidence.arrivals.extend(again);
        assert_eq!(kinds(&evidence), ["delivered out of order"]);
    }

    #[test]
    fn a_message_stored_and_delivered_under_two_sequences_is_found() {
        let mut evidence = good();
        let twin = message(PAIR, 4, 1, "c");
        evidence.history.insert(3, twin.clone());
        evidence.arrivals.push(Arrival { user: 2, message: twin });
        assert_eq!(kinds(&evidence), ["stored twice", "stored under another sequence", "delivered twice"]);
    }

    #[test]
    fn gaps_and_twins_in_the_sequences_are_found() {
        let mut evidence = good();
        evidence.history.remove(1);
        evidence.acked.remove(1);
        evidence.arrivals.retain(|arrival| arrival.message.mid != "b");
        assert_eq!(judge(&evidence), [Violation::BrokenSequence(PAIR, 1)]);
    }

    #[test]
    fn a_senders_order_is_the_stores_order() {
        let mut evidence = good();
        evidence.acked.swap(0, 2);
        assert_eq!(kinds(&evidence), ["stored out of order"]);
    }

    #[test]
    fn what_arrives_is_what_was_stored_and_for_whom() {
        let mut evidence = good();
        let at = position(&evidence, 2, "a");
        evidence.arrivals[at].message.text = "something else".into();
        assert_eq!(kinds(&evidence), ["altered"]);
        let mut evidence = good();
        evidence.arrivals.push(Arrival { user: 3, message: message(PAIR, 1, 1, "a") });
        assert_eq!(kinds(&evidence), ["delivered to a stranger"]);
        let mut evidence = good();
        evidence.arrivals.push(Arrival { user: 2, message: message(PAIR, 4, 1, "x") });
        assert_eq!(kinds(&evidence), ["delivered but not stored"]);
    }

    #[test]
    fn ghosts_and_those_who_cannot_come_back_are_found() {
        let online = vec![7];
        let locked_out = vec![(8, "account_in_use".to_owned())];
        let refused = vec![(9, "not_a_member".to_owned())];
        let evidence = Evidence { online, locked_out, refused, ..good() };
        assert_eq!(kinds(&evidence), ["presence ghost", "locked out", "refused"]);
    }
}

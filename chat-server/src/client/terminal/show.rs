//! What a person reads.

use crate::client::original::Message;
use crate::client::{Event, clock};
use crate::protocol::answer::{
    ChatResult, CreateGroupResult, FriendsResult, GroupsResult, HistoryResult, MembersResult, Relation, WhoResult,
};
use crate::protocol::event::{Delivery, FriendChange, GroupChange, NoticeCode};
use crate::protocol::{Presence, Role};

/// A text of somebody else's, with nothing in it that a terminal would obey.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A message.
pub fn delivery(delivery: &Delivery) -> String {
    message(delivery.id, &delivery.name, delivery.groupid, &delivery.msg, &delivery.time, delivery.at)
}

/// A message of the original mode.
pub fn original(relayed: &Message) -> String {
    message(relayed.id, &relayed.name, relayed.groupid, &relayed.msg, &relayed.time, 0)
}

fn message(id: u32, name: &str, group: Option<u32>, text: &str, time: &str, at: u64) -> String {
    let time = match (time, at) {
        ("", 0) => String::new(),
        ("", at) => clock::date_and_time(at),
        (time, _) => harmless(time),
    };
    let place = group.map(|group| format!(" in group {group}")).unwrap_or_default();
    format!("{time} {} ({id}){place}: {}", harmless(name), harmless(text)).trim_start().to_owned()
}

/// An event, unless it is nothing for people.
pub fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Message { delivery, .. } => self::delivery(delivery),
        Event::Presence(presence) => format!("* user {} is {}", presence.id, state(presence.state)),
        Event::Typing(typing) => match typing.groupid {
            Some(group) => format!("* user {} is typing in group {group}", typing.id),
            None => format!("* user {} is typing", typing.id),
        },
        Event::Friend(friend) => {
            let (name, id) = (harmless(&friend.name), friend.id);
            match friend.event {
                FriendChange::Requested => {
                    format!("* {name} ({id}) asks to be your friend: accept:{id} or reject:{id}")
                }
                FriendChange::Accepted => format!("* {name} ({id}) is your friend now"),
                FriendChange::Rejected => format!("* {name} ({id}) rejected your request"),
                FriendChange::Removed => format!("* {name} ({id}) is no friend any more"),
            }
        }
        Event::Group(change) => {
            let (name, id, group) = (harmless(&change.name), change.id, change.groupid);
            let by = change.by.map(|by| format!(" by {by}")).unwrap_or_default();
            match change.event {
                GroupChange::Joined => format!("* {name} ({id}) joined group {group}"),
                GroupChange::Left => format!("* {name} ({id}) left group {group}"),
                GroupChange::Kicked => format!("* {name} ({id}) was put out of group {group}{by}"),
                GroupChange::Role => {
                    format!("* {name} ({id}) is {} of group {group} now{by}", change.role.map_or("something", role))
                }
            }
        }
        Event::Notice(notice) if notice.code == NoticeCode::Synced => return None,
        Event::Notice(notice) => format!("* the server says: {}", harmless(&notice.text)),
        Event::Disconnected { reason, retry_in } => {
            format!("* not connected: {}; next attempt in {:.1} s", harmless(reason), retry_in.as_secs_f64())
        }
        Event::Reconnected { node } => format!("* connected again, to {}", harmless(node)),
        Event::Ended(reason) => format!("* the session is over: {reason}"),
    })
}

fn state(state: Presence) -> &'static str {
    match state {
        Presence::Online => "online",
        Presence::Offline => "offline",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Normal => "normal",
        Role::Admin => "admin",
        Role::Creator => "creator",
    }
}

/// The answer to a message.
pub fn sent(result: &ChatResult) -> String {
    match result.seq {
        Some(seq) => format!("sent, number {seq} of the conversation"),
        None => "sent".into(),
    }
}

/// The answer to `creategroup`.
pub fn created(result: &CreateGroupResult) -> String {
    format!("created group {}", result.groupid)
}

/// The answer to `friends`.
pub fn friends(result: &FriendsResult) -> String {
    list("no friends", &result.friends, |friend| {
        let relation = match friend.relation {
            Relation::Friend => "",
            Relation::Incoming => ", asks to be your friend",
            Relation::Outgoing => ", was asked",
        };
        format!("{} ({}): {}{relation}", harmless(&friend.name), friend.id, state(friend.state))
    })
}

/// The answer to `groups`.
pub fn groups(result: &GroupsResult) -> String {
    list("no groups", &result.groups, |group| {
        let (name, about) = (harmless(&group.groupname), harmless(&group.groupdesc));
        format!("{name} ({}), {} members, you are {}: {about}", group.groupid, group.members, role(group.role))
    })
}

/// The answer to `members`.
pub fn members(result: &MembersResult) -> String {
    list("no members", &result.members, |member| {
        format!("{} ({}): {}, {}", harmless(&member.name), member.id, role(member.role), state(member.state))
    })
}

/// The answer to `history`.
pub fn history(result: &HistoryResult) -> String {
    list("no messages", &result.messages, delivery)
}

/// The answer to `who`.
pub fn who(result: &WhoResult) -> String {
    list("none of them is online", &result.online, |id| format!("user {id} is online"))
}

fn list<T>(nothing: &str, items: &[T], line: impl Fn(&T) -> String) -> String {
    if items.is_empty() {
        return nothing.to_owned();
    }
    items.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_move_the_cursor_or_colour_the_screen() {
        let shown = message(7, "e\u{1b}[2Jvil", Some(3), "a\nb\u{7}\u{202e}c", "now\r", 0);
        assert_eq!(shown, "now\u{fffd} e\u{fffd}[2Jvil (7) in group 3: a b\u{fffd}\u{fffd}c");
    }

    #[test]
    fn the_servers_time_stands_in_for_a_missing_one() {
        assert_eq!(message(7, "crab", None, "hi", "", 0), "crab (7): hi");
        assert_eq!(message(7, "crab", None, "hi", "", 1000), "1970-01-01 00:00:01 UTC crab (7): hi");
    }
}

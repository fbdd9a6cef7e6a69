//! The answers of the original's protocol, byte for byte as its server writes them: compact JSON, keys in alphabetical
//! order, nothing behind.
//!
//! Its client reads at most [`ORIGINAL_MAX_BYTES`] at once and aborts at one more. So a login's answer takes in what fits
//! (friends, then groups, then messages) and a text that is too long becomes several messages.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use super::event::Delivery;
use super::{ORIGINAL_MAX_BYTES, Presence, Role, msgid};

/// `errno` of a login with an unknown id or a wrong password, and of a registration that failed.
pub const ERRNO_INVALID: u32 = 1;
/// `errno` of a login to an account that is in use.
pub const ERRNO_IN_USE: u32 = 2;
/// The text of [`ERRNO_INVALID`] at login.
pub const TEXT_INVALID: &str = "id or password is invalid!";
/// The text of [`ERRNO_IN_USE`].
pub const TEXT_IN_USE: &str = "this account is using, input another!";

/// A friend, as the login's answer lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Friend<'a> {
    /// The friend.
    pub id: u32,
    /// The friend's name.
    pub name: Cow<'a, str>,
    /// Online or offline.
    pub state: Presence,
}

/// A group, as the login's answer lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// The group.
    pub id: u32,
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it is about.
    pub description: Cow<'a, str>,
    /// Its members.
    pub users: Vec<Member<'a>>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The member.
    pub id: u32,
    /// The member's name.
    pub name: Cow<'a, str>,
    /// Online or offline.
    pub state: Presence,
    /// The role; the original knows creator and normal.
    pub role: Role,
}

/// The answer to a login that succeeded, and how much of the backlog is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAck {
    /// The frame, at most [`ORIGINAL_MAX_BYTES`].
    pub frame: Bytes,
    /// So many of the offline messages are in it, the first ones. The others follow as ordinary messages.
    pub taken: usize,
}

/// The answer to a login that succeeded. `offline` are whole messages, as [`messages`] makes them.
pub fn login_ack(id: u32, name: &str, friends: &[Friend<'_>], groups: &[Group<'_>], offline: &[Bytes]) -> LoginAck {
    #[derive(Serialize)]
    struct Ack<'a> {
        errno: u32,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        friends: Vec<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        id: u32,
        msgid: i64,
        name: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        offlinemsg: Vec<String>,
    }
    let mut ack =
        Ack { errno: 0, friends: vec![], groups: vec![], id, msgid: msgid::LOGIN_ACK, name, offlinemsg: vec![] };
    let mut left = ORIGINAL_MAX_BYTES.saturating_sub(json(&ack).len());
    for friend in friends {
        if !add(&mut ack.friends, "friends", text(friend), &mut left) {
            break;
        }
    }
    for group in groups {
        // A group that does not fit with all its members is listed with the first of them.
        let fits = (0..=group.users.len())
            .rev()
            .any(|members| add(&mut ack.groups, "groups", group_text(group, members), &mut left));
        if !fits {
            break;
        }
    }
    let mut taken = 0;
    for message in offline {
        let message = String::from_utf8_lossy(message).into_owned();
        if !add(&mut ack.offlinemsg, "offlinemsg", message, &mut left) {
            break;
        }
        taken += 1;
    }
    LoginAck { frame: json(&ack).into(), taken }
}

/// Adds `item` to an array of strings if `left` bytes suffice, the array's own field included.
fn add(array: &mut Vec<String>, field: &str, item: String, left: &mut usize) -> bool {
    // `"field":[],` with the first item, a comma with the others.
    let around = if array.is_empty() { field.len() + 6 } else { 1 };
    let needed = around + 2 + escaped_len(&item);
    if needed > *left {
        return false;
    }
    *left -= needed;
    array.push(item);
    true
}

/// A group as a JSON text, with the first `members` of its members.
fn group_text(group: &Group<'_>, members: usize) -> String {
    #[derive(Serialize)]
    struct Text<'a> {
        groupdesc: &'a str,
        groupname: &'a str,
        id: u32,
        users: Vec<String>,
    }
    #[derive(Serialize)]
    struct User<'a> {
        id: u32,
        name: &'a str,
        role: &'static str,
        state: Presence,
    }
    let users = group.users[..members].iter().map(|member| {
        text(&User { id: member.id, name: &member.name, role: member.role.original(), state: member.state })
    });
    text(&Text { groupdesc: &group.description, groupname: &group.name, id: group.id, users: users.collect() })
}

/// The answer to a login that failed.
pub fn login_refused(errno: u32, errmsg: &str) -> Bytes {
    refused(msgid::LOGIN_ACK, errno, errmsg)
}

/// The answer to a registration that failed.
pub fn register_refused(errno: u32, errmsg: &str) -> Bytes {
    refused(msgid::REGISTER_ACK, errno, errmsg)
}

fn refused(msgid: i64, errno: u32, errmsg: &str) -> Bytes {
    #[derive(Serialize)]
    struct Refused<'a> {
        errmsg: &'a str,
        errno: u32,
        msgid: i64,
    }
    let (errmsg, _) = cut(errmsg, ORIGINAL_MAX_BYTES / 2);
    json(&Refused { errmsg, errno, msgid }).into()
}

/// The answer to a registration that succeeded.
pub fn register_ack(id: u32) -> Bytes {
    #[derive(Serialize)]
    struct Ack {
        errno: u32,
        id: u32,
        msgid: i64,
    }
    json(&Ack { errno: 0, id, msgid: msgid::REGISTER_ACK }).into()
}

/// A message as original clients get it: one frame, or several if its text is too long for one.
pub fn messages(delivery: &Delivery) -> Vec<Bytes> {
    #[derive(Serialize)]
    struct Message<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        groupid: Option<u32>,
        id: u32,
        msg: &'a str,
        msgid: i64,
        name: &'a str,
        time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        toid: Option<u32>,
    }
    let message = |msg| {
        json(&Message {
            groupid: delivery.groupid,
            id: delivery.id,
            msg,
            msgid: delivery.msgid,
            name: &delivery.name,
            time: &delivery.time,
            toid: delivery.toid,
        })
    };
    let whole = message(&delivery.msg);
    if whole.len() <= ORIGINAL_MAX_BYTES {
        return vec![whole.into()];
    }
    // Name and time are bounded by the protocol (50 characters, 64 bytes), so there is always room for text.
    let room = ORIGINAL_MAX_BYTES - message("").len();
    let (mut frames, mut rest) = (Vec::new(), &delivery.msg[..]);
    while !rest.is_empty() {
        let (piece, after) = cut(rest, room);
        frames.push(message(piece).into());
        rest = after;
    }
    frames
}

/// The longest beginning of `text` whose JSON takes at most `room` bytes, and what is behind it.
fn cut(text: &str, room: usize) -> (&str, &str) {
    let mut taken = 0;
    for (at, char) in text.char_indices() {
        taken += escaped_char_len(char);
        if taken > room {
            return text.split_at(at);
        }
    }
    (text, "")
}

/// The bytes of `text` inside of a JSON string.
fn escaped_len(text: &str) -> usize {
    text.chars().map(escaped_char_len).sum()
}

fn escaped_char_len(char: char) -> usize {
    match char {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

fn json<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("strings and numbers are always JSON")
}

fn text<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).expect("strings and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn delivery(msg: &str) -> Delivery {
        Delivery {
            msgid: msgid::CHAT,
            id: 13,
            name: "zhang san".into(),
            toid: Some(15),
            groupid: None,
            msg: msg.into(),
            time: "2026-11-23 10:00:00".into(),
            mid: Some("m".into()),
            seq: Some(7),
            at: 1,
        }
    }

    #[test]
    fn the_answers_are_the_originals_bytes() {
        assert_eq!(&register_ack(13)[..], br#"{"errno":0,"id":13,"msgid":5}"#);
        assert_eq!(
            &login_refused(ERRNO_INVALID, TEXT_INVALID)[..],
            br#"{"errmsg":"id or password is invalid!","errno":1,"msgid":2}"#
        );
        assert_eq!(
            &messages(&delivery("hello"))[0][..],
            br#"{"id":13,"msg":"hello","msgid":6,"name":"zhang san","time":"2026-11-23 10:00:00","toid":15}"#
        );
        assert_eq!(
            &login_ack(13, "zhang san", &[], &[], &[]).frame[..],
            br#"{"errno":0,"id":13,"msgid":2,"name":"zhang san"}"#
        );
        let friends = [Friend { id: 15, name: "li si".into(), state: Presence::Online }];
        let groups = [Group {
            id: 1,
            name: "crab".into(),
            description: "about rust".into(),
            users: vec![Member { id: 13, name: "zhang san".into(), state: Presence::Offline, role: Role::Creator }],
        }];
        let ack = login_ack(13, "zhang san", &friends, &groups, &messages(&delivery("hello")));
        assert_eq!(
            std::str::from_utf8(&ack.frame).unwrap(),
            concat!(
                r#"{"errno":0,"friends":["{\"id\":15,\"name\":\"li si\",\"state\":\"online\"}"],"#,
                r#""groups":["{\"groupdesc\":\"about rust\",\"groupname\":\"crab\",\"id\":1,\"users\":["#,
                r#"\"{\\\"id\\\":13,\\\"name\\\":\\\"zhang san\\\",\\\"role\\\":\\\"creator\\\",\\\"state\\\":\\\"offline\\\"}\"]}"],"#,
                r#""id":13,"msgid":2,"name":"zhang san","#,
                r#""offlinemsg":["{\"id\":13,\"msg\":\"hello\",\"msgid\":6,\"name\":\"zhang san\",\"time\":\"2026-11-23 10:00:00\",\"toid\":15}"]}"#,
            )
        );
        assert_eq!(ack.taken, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_message_is_longer_than_the_client_can_read_and_no_text_is_lost(
            msg in "(.|\n|\u{1}|\"|\\\\|\u{1F980}){0,3000}", name in ".{1,50}"
        ) {
            let frames = messages(&Delivery { name, ..delivery(&msg) });
            let mut text = String::new();
            for frame in &frames {
                prop_assert!(frame.len() <= ORIGINAL_MAX_BYTES);
                let value: Value = serde_json::from_slice(frame).unwrap();
                text += value["msg"].as_str().unwrap();
            }
            prop_assert_eq!(text, msg);
        }

        #[test]
        fn a_login_is_one_answer_that_fits_and_takes_in_what_it_can(
            name in ".{1,50}", friends in proptest::collection::vec(".{1,50}", 0..30),
            members in proptest::collection::vec(0_usize..30, 0..6), texts in proptest::collection::vec(".{0,300}", 0..8),
        ) {
            let friends: Vec<Friend<'_>> = (1..).zip(&friends)
                .map(|(id, name)| Friend { id, name: name.as_str().into(), state: Presence::Offline }).collect();
            let groups: Vec<Group<'_>> = (1..).zip(&members).map(|(id, &members)| Group {
                id, name: format!("group {id}").into(), description: "".into(),
                users: (0..members as u32)
                    .map(|id| Member { id, name: "n".into(), state: Presence::Online, role: Role::Admin }).collect(),
            }).collect();
            let offline: Vec<Bytes> = texts.iter().flat_map(|text| messages(&delivery(text))).collect();
            let ack = login_ack(1, &name, &friends, &groups, &offline);
            prop_assert!(ack.frame.len() <= ORIGINAL_MAX_BYTES);
            let value: Value = serde_json::from_slice(&ack.frame).unwrap();
            let count = |field: &str| value.get(field).map_or(0, |array| array.as_array().unwrap().len());
            prop_assert_eq!(count("offlinemsg"), ack.taken);
            for field in ["friends", "groups", "offlinemsg"] {
                prop_assert!(value.get(field).is_none() || count(field) > 0, "absent when empty");
                for text in value.get(field).into_iter().flat_map(|array| array.as_array().unwrap()) {
                    prop_assert!(serde_json::from_str::<Value>(text.as_str().unwrap()).is_ok());
                }
            }
            // Nothing is left out that would have fitted.
            if count("friends") < friends.len() {
                let next = add_len(&text(&friends[count("friends")]));
                prop_assert!(ack.frame.len() + next + "\"friends\":[],".len() > ORIGINAL_MAX_BYTES || count("groups") + ack.taken > 0);
            } else if count("groups") == groups.len() && ack.taken < offline.len() {
                let next = add_len(std::str::from_utf8(&offline[ack.taken]).unwrap());
                prop_assert!(ack.frame.len() + next + "\"offlinemsg\":[],".len() > ORIGINAL_MAX_BYTES);
            }
        }
    }

    fn add_len(text: &str) -> usize {
        serde_json::to_string(text).unwrap().len() + 1
    }
}

//! Reading what clients send: how a frame comes to be a request.
//!
//! A frame is read twice: first `msgid` and `rid`, then the fields of that message; those of a message to somebody, which
//! most frames are, at once. A field that is missing, of the wrong type or out of its limits is told by name.

use bytes::Bytes;
use serde::Deserialize;

use super::command::{Chat, Command, GroupChat};
use super::error::{ErrorCode, Refusal};
use super::json::parse;
use super::msgid;

/// A command with the id under which its answer comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's id for this request, repeated in the answer.
    pub rid: Option<u64>,
    /// What is asked for.
    pub command: Command,
}

/// A frame that is no command: what can be said about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct BadRequest {
    /// Its `msgid`, if that much could be read.
    pub msgid: Option<i64>,
    /// Its `rid`, if that much could be read.
    pub rid: Option<u64>,
    /// What is wrong with it.
    #[source]
    pub refusal: Refusal,
}

impl Request {
    /// The command in `frame`, a JSON text.
    ///
    /// # Errors
    ///
    /// [`BadRequest`] says what is wrong with it and names the field, with as much of the head as could be read.
    pub fn decode(frame: &[u8]) -> Result<Self, BadRequest> {
        let unread = |refusal| BadRequest { msgid: None, rid: None, refusal };
        let text = std::str::from_utf8(frame).map_err(|error| {
            let text = format!("the frame is not UTF-8 at byte {}", error.valid_up_to());
            unread(Refusal::new(ErrorCode::InvalidUtf8, text))
        })?;
        let head = match serde_json::from_str::<Short>(text).map(Short::read) {
            Ok(Ok(request)) => return Ok(request),
            Ok(Err(head)) => head,
            Err(_) => parse(text).map_err(unread)?,
        };
        match Command::decode(head.msgid, text) {
            Ok(command) => Ok(Self { rid: head.rid, command }),
            Err(refusal) => Err(BadRequest { msgid: Some(head.msgid), rid: head.rid, refusal }),
        }
    }

    /// The JSON text, with no terminator.
    pub fn encode(&self) -> Bytes {
        self.command.encode(self.rid)
    }
}

/// What every message has.
#[derive(Deserialize)]
struct Head {
    msgid: i64,
    #[serde(default)]
    rid: Option<u64>,
}

/// The head with the fields of a message to somebody. Whatever is wrong with these is for the slow way to say, since in
/// another message they may mean something else.
#[derive(Deserialize)]
struct Short {
    msgid: i64,
    #[serde(default)]
    rid: Option<u64>,
    #[serde(default)]
    toid: Option<u32>,
    #[serde(default)]
    groupid: Option<u32>,
    #[serde(default)]
    msg: Option<String>,
    #[serde(default)]
    time: Option<String>,
    #[serde(default)]
    mid: Option<String>,
}

impl Short {
    /// The message, if it is one and all is well with it; else its head.
    fn read(self) -> Result<Request, Head> {
        let Self { msgid, rid, toid, groupid, msg, time, mid } = self;
        let command = match (msgid, toid, groupid, msg) {
            (msgid::CHAT, Some(toid), _, Some(msg)) => Command::Chat(Chat { toid, msg, time, mid }),
            (msgid::GROUP_CHAT, _, Some(groupid), Some(msg)) => {
                Command::GroupChat(GroupChat { groupid, msg, time, mid })
            }
            _ => return Err(Head { msgid, rid }),
        };
        if command.check().is_ok() { Ok(Request { rid, command }) } else { Err(Head { msgid, rid }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::command::{
        Ack, CreateGroup, FriendId, GroupId, Hello, History, Login, Logout, Ping, Register, Resume, SetRole, Typing,
        Who,
    };
    use crate::protocol::{Role, VERSION};

    fn refusal(frame: &str) -> BadRequest {
        Request::decode(frame.as_bytes()).expect_err(frame)
    }

    #[test]
    fn what_the_original_client_sends_is_understood() {
        for (frame, command) in [
            (
                r#"{"id":13,"msgid":1,"password":"123456"}"#,
                Command::Login(Login { id: Some(13), name: None, password: "123456".into() }),
            ),
            (r#"{"id":13,"msgid":3}"#, Command::Logout(Logout {})),
            (
                r#"{"msgid":4,"name":"li si","password":"666666"}"#,
                Command::Register(Register { name: "li si".into(), password: "666666".into() }),
            ),
            (
                r#"{"id":13,"msg":"hello","msgid":6,"name":"zhang san","time":"2026-11-23 10:00:00","toid":15}"#,
                Command::Chat(Chat {
                    toid: 15,
                    msg: "hello".into(),
                    time: Some("2026-11-23 10:00:00".into()),
                    mid: None,
                }),
            ),
            (r#"{"friendid":15,"id":13,"msgid":7}"#, Command::AddFriend(FriendId { friendid: 15 })),
            (
                r#"{"groupdesc":"about rust","groupname":"crab","id":13,"msgid":8}"#,
                Command::CreateGroup(CreateGroup { groupname: "crab".into(), groupdesc: "about rust".into() }),
            ),
            (r#"{"groupid":1,"id":13,"msgid":9}"#, Command::JoinGroup(GroupId { groupid: 1 })),
            (
                r#"{"groupid":1,"id":13,"msg":"hi","msgid":10,"name":"zhang san","time":"now"}"#,
                Command::GroupChat(GroupChat { groupid: 1, msg: "hi".into(), time: Some("now".into()), mid: None }),
            ),
        ] {
            assert_eq!(Request::decode(frame.as_bytes()).unwrap(), Request { rid: None, command }, "{frame}");
        }
    }

    #[test]
    fn a_request_comes_back_from_its_encoding() {
        let requests = [
            Command::Hello(Hello { version: VERSION, client: Some("test/1".into()) }),
            Command::Login(Login { id: None, name: Some("a".into()), password: String::new() }),
            Command::Resume(Resume { token: "t".into() }),
            Command::Logout(Logout {}),
            Command::Chat(Chat { toid: 1, msg: "\u{1F980}\"\\\0".into(), time: None, mid: Some("m".into()) }),
            Command::Ack(Ack { peer: Some(1), groupid: None, seq: u64::MAX }),
            Command::History(History { peer: None, groupid: Some(1), before: Some(7), after: None, limit: Some(10) }),
            Command::Who(Who { ids: vec![1, 2] }),
            Command::Typing(Typing { peer: None, groupid: Some(1) }),
            Command::Ping(Ping {}),
            Command::SetRole(SetRole { groupid: 1, userid: 2, role: Role::Admin }),
        ];
        for command in requests {
            for rid in [None, Some(0), Some(u64::MAX)] {
                let request = Request { rid, command: command.clone() };
                assert_eq!(Request::decode(&request.encode()).unwrap(), request);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        for (frame, code, text) in [
            ("{}", ErrorCode::BadField, "missing field `msgid`"),
            (r#"{"msgid":"6"}"#, ErrorCode::BadField, "msgid: invalid type: string \"6\", expected i64"),
            (r#"{"msgid":6.0}"#, ErrorCode::BadField, "msgid: invalid type: floating point `6.0`"),
            (r#"{"msgid":999}"#, ErrorCode::UnknownMessage, "msgid: 999"),
            (r#"{"msgid":2}"#, ErrorCode::UnknownMessage, "msgid: 2"),
            (r#"{"msgid":6,"msgid":6}"#, ErrorCode::BadField, "duplicate field `msgid`"),
            (r#"{"msgid":6,"rid":-1}"#, ErrorCode::BadField, "rid: invalid value: integer `-1`"),
            (r#"{"msgid":6,"msg":"x"}"#, ErrorCode::BadField, "missing field `toid`"),
            (r#"{"msgid":6,"toid":-1,"msg":"x"}"#, ErrorCode::BadField, "toid: invalid value: integer `-1`"),
            (r#"{"msgid":6,"toid":"1","msg":"x"}"#, ErrorCode::BadField, "toid: invalid type: string"),
            (r#"{"msgid":6,"toid":1,"msg":{}}"#, ErrorCode::BadField, "msg: invalid type: map"),
            (
                r#"{"msgid":40,"groupid":1,"userid":2,"role":"king"}"#,
                ErrorCode::BadField,
                "role: unknown variant `king`",
            ),
            (r#"{"msgid":28,}"#, ErrorCode::Malformed, "no JSON: trailing comma"),
            (r#"{"msgid"}"#, ErrorCode::Malformed, "no JSON: expected `:`"),
        ] {
            let bad = refusal(frame);
            assert_eq!(bad.refusal.code, code, "{frame}: {bad}");
            assert!(bad.refusal.text.starts_with(text), "{frame}: {bad}");
        }
        assert_eq!(Request::decode(b"{\"msgid\":28,\"x\":\"\xff\"}").unwrap_err().refusal.code, ErrorCode::InvalidUtf8);
    }

    #[test]
    fn fields_of_messages_are_ignored_in_other_commands() {
        for frame in [
            r#"{"msgid":28,"rid":7,"msg":{},"toid":"x","groupid":-1,"time":1,"mid":[]}"#,
            r#"{"msgid":28,"rid":7,"msg":"x","msg":"y","toid":1}"#,
        ] {
            let request = Request::decode(frame.as_bytes()).unwrap();
            assert_eq!(request, Request { rid: Some(7), command: Command::Ping(Ping {}) }, "{frame}");
        }
        let frame = r#"{"msgid":6,"toid":1,"groupid":"no group","msg":"x","time":null}"#;
        let chat = Chat { toid: 1, msg: "x".into(), time: None, mid: None };
        assert_eq!(Request::decode(frame.as_bytes()).unwrap(), Request { rid: None, command: Command::Chat(chat) });
        let frame = r#"{"msgid":10,"toid":2,"groupid":1,"msg":"x","mid":"m"}"#;
        let chat = GroupChat { groupid: 1, msg: "x".into(), time: None, mid: Some("m".into()) };
        assert_eq!(
            Request::decode(frame.as_bytes()).unwrap(),
            Request { rid: None, command: Command::GroupChat(chat) }
        );
    }

    #[test]
    fn the_head_of_a_bad_request_is_kept_for_its_answer() {
        let bad = refusal(r#"{"msgid":6,"rid":7}"#);
        assert_eq!((bad.msgid, bad.rid), (Some(6), Some(7)));
    }
}

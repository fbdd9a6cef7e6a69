//! What the server answers to commands in the modern mode: a result, of which each command has its own, or a refusal.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{ErrorCode, Refusal};
use super::event::Delivery;
use super::json::{line, parse};
use super::{Presence, Role, msgid};

/// The answer to a command, as a client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// The request's id.
    #[serde(default)]
    pub rid: Option<u64>,
    /// The `msgid` of the command; 0 if it could not be read.
    pub to: i64,
    /// 0, or an [`ErrorCode`].
    pub errno: u32,
    /// What was asked for; see the results below.
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    /// The error's name.
    #[serde(default)]
    pub error: Option<String>,
    /// What is wrong, in words.
    #[serde(default)]
    pub errmsg: Option<String>,
    /// When trying again may help, in milliseconds.
    #[serde(default)]
    pub retry_ms: Option<u64>,
}

impl Answer {
    /// The result of a command that succeeded.
    ///
    /// # Errors
    ///
    /// The server's refusal; or [`ErrorCode::Malformed`] if the result is not a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        if self.errno != 0 {
            return Err(Refusal {
                code: ErrorCode::from_number(self.errno).unwrap_or(ErrorCode::Internal),
                text: self.errmsg.clone().unwrap_or_default(),
                retry_ms: self.retry_ms,
            });
        }
        parse(self.result.as_deref().map_or("{}", RawValue::get))
    }
}

/// The frame of a command's result, newline included.
pub fn result<T: Serialize>(to: i64, rid: Option<u64>, result: &T) -> Bytes {
    #[derive(Serialize)]
    struct Success<'a, T> {
        msgid: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rid: Option<u64>,
        to: i64,
        errno: u32,
        result: &'a T,
    }
    line(&Success { msgid: msgid::ANSWER, rid, to, errno: 0, result })
}

/// The frame of a refusal, newline included.
pub fn refusal(to: i64, rid: Option<u64>, refusal: &Refusal) -> Bytes {
    #[derive(Serialize)]
    struct Failure<'a> {
        msgid: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rid: Option<u64>,
        to: i64,
        errno: ErrorCode,
        error: &'static str,
        errmsg: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    }
    line(&Failure {
        msgid: msgid::ANSWER,
        rid,
        to,
        errno: refusal.code,
        error: refusal.code.name(),
        errmsg: &refusal.text,
        retry_ms: refusal.retry_ms,
    })
}

/// The result of commands that have nothing to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {}

/// The result of HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloResult {
    /// The version that both speak.
    pub version: u32,
    /// The server's name and version.
    pub server: String,
    /// The node's name.
    pub node: String,
    /// Bytes of a frame at most, once logged in.
    pub max_frame: u64,
    /// Bytes of a message's text at most.
    pub max_text: u64,
    /// Messages of a page of history at most.
    pub max_history: u32,
    /// After this time without a frame the server asks with PING, in milliseconds.
    pub ping_after_ms: u64,
    /// After this time without a frame the connection is closed, in milliseconds.
    pub idle_timeout_ms: u64,
}

/// The result of LOGIN and RESUME.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResult {
    /// The user.
    pub id: u32,
    /// The user's name.
    pub name: String,
    /// Logs in again with RESUME.
    pub token: String,
    /// When the token ends, in milliseconds since 1970.
    pub token_until: u64,
    /// Whether another session of this user was displaced.
    pub displaced: bool,
}

impl std::fmt::Debug for LoginResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginResult").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// The result of REGISTER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterResult {
    /// The new user.
    pub id: u32,
}

/// The result of CHAT and GROUP_CHAT: the message is stored (or, in the relay setting, on its way).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatResult {
    /// Its sequence in the conversation; missing if it was not stored (relay setting).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When the server accepted it, in milliseconds since 1970.
    pub at: u64,
    /// It had been accepted before, with the same `mid`; this is the first result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// The result of HISTORY.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryResult {
    /// The page, oldest first.
    pub messages: Vec<Delivery>,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
}

/// The result of WHO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoResult {
    /// Those of the users that are online, as far as the one who asks may know: friends, members of the same groups, himself.
    pub online: Vec<u32>,
}

/// How far a friendship has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// Both are friends.
    Friend,
    /// The other user asks.
    Incoming,
    /// This user asked.
    Outgoing,
}

/// A friend in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendInfo {
    /// The friend.
    pub id: u32,
    /// The friend's name.
    pub name: String,
    /// Online or offline; of those who are no friends yet, always offline.
    pub state: Presence,
    /// How far it has come.
    pub relation: Relation,
}

/// The result of FRIENDS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FriendsResult {
    /// Friends and requests.
    pub friends: Vec<FriendInfo>,
}

/// The result of CREATE_GROUP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateGroupResult {
    /// The new group.
    pub groupid: u32,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// The group.
    pub groupid: u32,
    /// Its name.
    pub groupname: String,
    /// What it is about.
    pub groupdesc: String,
    /// The user's own role.
    pub role: Role,
    /// How many members it has.
    pub members: u32,
}

/// The result of GROUPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsResult {
    /// The user's groups.
    pub groups: Vec<GroupInfo>,
}

/// A member in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// The member.
    pub id: u32,
    /// The member's name.
    pub name: String,
    /// Online or offline.
    pub state: Presence,
    /// The member's role.
    pub role: Role,
}

/// The result of MEMBERS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersResult {
    /// The members.
    pub members: Vec<MemberInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        MAX_DESCRIPTION_CHARS, MAX_FRIENDS, MAX_GROUPS, MAX_HISTORY_BYTES, MAX_HISTORY_PAGE, MAX_MEMBERS,
        MAX_MESSAGE_ID_BYTES, MAX_NAME_CHARS, MAX_PROBLEM_BYTES, MAX_SERVER_FRAME, MAX_TIME_BYTES, MAX_WHO, Request,
        ServerMessage,
    };
    use crate::store::MAX_BODY_BYTES;

    #[test]
    fn an_answer_carries_its_result_or_says_why_not() {
        let line = result(msgid::CHAT, Some(7), &ChatResult { seq: Some(3), at: 9, duplicate: false });
        assert_eq!(&line[..], b"{\"msgid\":21,\"rid\":7,\"to\":6,\"errno\":0,\"result\":{\"seq\":3,\"at\":9}}\n");
        let ServerMessage::Answer(answer) = ServerMessage::decode(&line).unwrap() else { panic!() };
        assert_eq!(answer.result::<ChatResult>().unwrap().seq, Some(3));

        let refusal = Refusal::new(ErrorCode::RateLimited, "slow down").retry_after(std::time::Duration::from_secs(1));
        let line = super::refusal(msgid::CHAT, None, &refusal);
        assert_eq!(
            &line[..],
            b"{\"msgid\":21,\"to\":6,\"errno\":130,\"error\":\"rate_limited\",\"errmsg\":\"slow down\",\"retry_ms\":1000}\n"
        );
        let ServerMessage::Answer(answer) = ServerMessage::decode(&line).unwrap() else { panic!() };
        assert_eq!(answer.result::<ChatResult>().unwrap_err(), refusal);
    }

    /// Names and descriptions have no control characters, so four bytes are the most that a character takes.
    fn widest(characters: usize) -> String {
        "\u{10ffff}".repeat(characters)
    }

    /// Texts and times may have any character; this one takes six bytes for one.
    fn escaped(bytes: usize) -> String {
        "\u{1}".repeat(bytes)
    }

    fn message(text_bytes: usize) -> Delivery {
        Delivery {
            msgid: msgid::GROUP_CHAT,
            id: u32::MAX,
            name: widest(MAX_NAME_CHARS),
            toid: None,
            groupid: Some(u32::MAX),
            msg: escaped(text_bytes),
            time: escaped(MAX_TIME_BYTES),
            mid: Some("\"".repeat(MAX_MESSAGE_ID_BYTES)),
            seq: Some(u64::MAX),
            at: u64::MAX,
        }
    }

    #[test]
    fn no_answer_is_longer_than_a_frame_of_the_server() {
        let fits = |what: &str, msgid, frame: Bytes| {
            let ServerMessage::Answer(answer) = ServerMessage::decode(&frame).unwrap() else { panic!("{what}") };
            assert_eq!(answer.to, msgid);
            assert!(frame.len() <= MAX_SERVER_FRAME, "{what}: {} bytes", frame.len());
        };
        let rid = Some(u64::MAX);
        let group = GroupInfo {
            groupid: u32::MAX,
            groupname: widest(MAX_NAME_CHARS),
            groupdesc: widest(MAX_DESCRIPTION_CHARS),
            role: Role::Creator,
            members: u32::MAX,
        };
        let groups = GroupsResult { groups: vec![group; MAX_GROUPS] };
        fits("GROUPS", msgid::GROUPS, result(msgid::GROUPS, rid, &groups));
        let (id, name, state) = (u32::MAX, widest(MAX_NAME_CHARS), Presence::Offline);
        let friend = FriendInfo { id, name: name.clone(), state, relation: Relation::Outgoing };
        // Those on his list, and those who have him on theirs.
        let friends = FriendsResult { friends: vec![friend; 2 * MAX_FRIENDS] };
        fits("FRIENDS", msgid::FRIENDS, result(msgid::FRIENDS, rid, &friends));
        let members = MembersResult { members: vec![MemberInfo { id, name, state, role: Role::Creator }; MAX_MEMBERS] };
        fits("MEMBERS", msgid::MEMBERS, result(msgid::MEMBERS, rid, &members));
        let online = WhoResult { online: vec![u32::MAX; MAX_WHO] };
        fits("WHO", msgid::WHO, result(msgid::WHO, rid, &online));
        let page = MAX_HISTORY_PAGE as usize;
        let mut messages = vec![message(MAX_HISTORY_BYTES / page); page];
        messages[0] = message(MAX_HISTORY_BYTES / page + MAX_HISTORY_BYTES % page);
        fits("HISTORY", msgid::HISTORY, result(msgid::HISTORY, rid, &HistoryResult { messages, more: false }));
        let messages = vec![message(MAX_BODY_BYTES)];
        fits("one message", msgid::HISTORY, result(msgid::HISTORY, rid, &HistoryResult { messages, more: false }));
        assert!(message(MAX_BODY_BYTES).frame().len() <= MAX_SERVER_FRAME);
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_said_in_less_than_the_frame() {
        let frame = format!(r#"{{"msgid":6,"toid":"{}","msg":"x"}}"#, "\u{7f}".repeat(60_000));
        let bad = Request::decode(frame.as_bytes()).unwrap_err();
        assert!(bad.refusal.text.starts_with("toid: invalid type: string "), "{}", bad.refusal);
        assert!(bad.refusal.text.len() <= MAX_PROBLEM_BYTES && bad.refusal.text.ends_with('…'), "{}", bad.refusal);
    }
}

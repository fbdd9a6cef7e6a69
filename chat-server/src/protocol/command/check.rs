//! The limits of what clients send, as far as types do not express them. What is out of them is told by name.

use super::{
    Ack, Chat, CreateGroup, FriendId, GroupChat, GroupId, Hello, History, Kick, Login, Register, Resume, SetRole,
    Typing, Who,
};
use crate::protocol::error::{ErrorCode, Refusal};
use crate::protocol::{
    MAX_CLIENT_BYTES, MAX_DESCRIPTION_CHARS, MAX_HISTORY_PAGE, MAX_MESSAGE_ID_BYTES, MAX_NAME_CHARS,
    MAX_PASSWORD_BYTES, MAX_TEXT_BYTES, MAX_TIME_BYTES, MAX_TOKEN_BYTES, MAX_WHO, Target, VERSION,
};

/// The limits that types do not express.
pub(super) trait Check {
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Check for FriendId {}
impl Check for GroupId {}
impl Check for Kick {}
impl Check for SetRole {}

impl Check for Hello {
    fn check(&self) -> Result<(), Refusal> {
        if self.version != VERSION {
            let text = format!("version: this server speaks {VERSION}, not {}", self.version);
            return Err(Refusal::new(ErrorCode::UnknownVersion, text));
        }
        within("client", self.client.as_deref().unwrap_or(""), MAX_CLIENT_BYTES)
    }
}

impl Check for Login {
    fn check(&self) -> Result<(), Refusal> {
        match (&self.id, &self.name) {
            (Some(_), None) => {}
            (None, Some(name)) => self::name("name", name)?,
            (Some(_), Some(_)) => return Err(Refusal::bad_field("name", "give the id or the name, not both")),
            (None, None) => return Err(Refusal::bad_field("id", "the id or the name is missing")),
        }
        within("password", &self.password, MAX_PASSWORD_BYTES)
    }
}

impl Check for Resume {
    fn check(&self) -> Result<(), Refusal> {
        within("token", &self.token, MAX_TOKEN_BYTES)
    }
}

impl Check for Register {
    fn check(&self) -> Result<(), Refusal> {
        name("name", &self.name)?;
        not_empty("password", &self.password)?;
        within("password", &self.password, MAX_PASSWORD_BYTES)
    }
}

impl Check for Chat {
    fn check(&self) -> Result<(), Refusal> {
        message(&self.msg, self.time.as_deref(), self.mid.as_deref())
    }
}

impl Check for GroupChat {
    fn check(&self) -> Result<(), Refusal> {
        message(&self.msg, self.time.as_deref(), self.mid.as_deref())
    }
}

impl Check for Ack {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid).map(drop)
    }
}

impl Check for Typing {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid).map(drop)
    }
}

impl Check for History {
    fn check(&self) -> Result<(), Refusal> {
        target(self.peer, self.groupid)?;
        if self.before.is_some() && self.after.is_some() {
            return Err(Refusal::bad_field("after", "give before or after, not both"));
        }
        match self.limit {
            Some(limit) if !(1..=MAX_HISTORY_PAGE).contains(&limit) => {
                Err(Refusal::bad_field("limit", format_args!("must be 1 to {MAX_HISTORY_PAGE}")))
            }
            _ => Ok(()),
        }
    }
}

impl Check for Who {
    fn check(&self) -> Result<(), Refusal> {
        if self.ids.len() > MAX_WHO {
            return Err(Refusal::bad_field("ids", format_args!("at most {MAX_WHO} users at once")));
        }
        Ok(())
    }
}

impl Check for CreateGroup {
    fn check(&self) -> Result<(), Refusal> {
        name("groupname", &self.groupname)?;
        if self.groupdesc.chars().count() > MAX_DESCRIPTION_CHARS {
            return Err(Refusal::bad_field(
                "groupdesc",
                format_args!("longer than {MAX_DESCRIPTION_CHARS} characters"),
            ));
        }
        Ok(())
    }
}

/// The one conversation that a message is about.
pub(super) fn target(peer: Option<u32>, group: Option<u32>) -> Result<Target, Refusal> {
    match (peer, group) {
        (Some(peer), None) => Ok(Target::Peer(peer)),
        (None, Some(group)) => Ok(Target::Group(group)),
        (Some(_), Some(_)) => Err(Refusal::bad_field("groupid", "give peer or groupid, not both")),
        (None, None) => Err(Refusal::bad_field("peer", "peer or groupid is missing")),
    }
}

fn message(text: &str, time: Option<&str>, mid: Option<&str>) -> Result<(), Refusal> {
    within("msg", text, MAX_TEXT_BYTES)?;
    within("time", time.unwrap_or(""), MAX_TIME_BYTES)?;
    if let Some(mid) = mid {
        not_empty("mid", mid)?;
        within("mid", mid, MAX_MESSAGE_ID_BYTES)?;
        no_control_characters("mid", mid)?;
    }
    Ok(())
}

/// A name that others will see: 1 to [`MAX_NAME_CHARS`] characters, none of them a control character.
fn name(field: &str, name: &str) -> Result<(), Refusal> {
    not_empty(field, name)?;
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Refusal::bad_field(field, format_args!("longer than {MAX_NAME_CHARS} characters")));
    }
    no_control_characters(field, name)?;
    if name.trim() != name {
        return Err(Refusal::bad_field(field, "begins or ends with a space"));
    }
    Ok(())
}

fn not_empty(field: &str, value: &str) -> Result<(), Refusal> {
    if value.is_empty() { Err(Refusal::bad_field(field, "is empty")) } else { Ok(()) }
}

fn no_control_characters(field: &str, value: &str) -> Result<(), Refusal> {
    if value.chars().any(char::is_control) {
        return Err(Refusal::bad_field(field, "has control characters"));
    }
    Ok(())
}

fn within(field: &str, value: &str, bytes: usize) -> Result<(), Refusal> {
    if value.len() > bytes {
        return Err(Refusal::bad_field(field, format_args!("longer than {bytes} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::protocol::{ErrorCode, Refusal, Request};

    fn refusal(frame: &str) -> Refusal {
        Request::decode(frame.as_bytes()).expect_err(frame).refusal
    }

    #[test]
    fn what_is_out_of_its_limits_is_told_by_name() {
        for (frame, code, text) in [
            (r#"{"msgid":6,"toid":1,"msg":"x","mid":""}"#, ErrorCode::BadField, "mid: is empty"),
            (r#"{"msgid":6,"toid":1,"msg":"x","mid":"x\ty"}"#, ErrorCode::BadField, "mid: has control characters"),
            (
                r#"{"msgid":10,"groupid":1,"msg":"x","mid":"\u0085"}"#,
                ErrorCode::BadField,
                "mid: has control characters",
            ),
            (r#"{"msgid":1,"password":"x"}"#, ErrorCode::BadField, "id: the id or the name is missing"),
            (r#"{"msgid":4,"name":"a\u0000b","password":"x"}"#, ErrorCode::BadField, "name: has control characters"),
            (r#"{"msgid":4,"name":"a","password":""}"#, ErrorCode::BadField, "password: is empty"),
            (r#"{"msgid":23,"seq":1}"#, ErrorCode::BadField, "peer: peer or groupid is missing"),
            (r#"{"msgid":24,"peer":1,"limit":0}"#, ErrorCode::BadField, "limit: must be 1 to 100"),
            (r#"{"msgid":20,"version":7}"#, ErrorCode::UnknownVersion, "version: this server speaks 1, not 7"),
        ] {
            let refusal = refusal(frame);
            assert_eq!(refusal.code, code, "{frame}: {refusal}");
            assert!(refusal.text.starts_with(text), "{frame}: {refusal}");
        }
        let long = format!(r#"{{"msgid":4,"name":"{}","password":"x"}}"#, "\u{1F980}".repeat(51));
        assert!(refusal(&long).text.starts_with("name: longer than 50 characters"));
    }
}

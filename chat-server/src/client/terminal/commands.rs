//! What a person types: the original's commands, and those for what the modern mode adds.

use crate::protocol::command::{
    CreateGroup, FriendId, Friends, GroupId, Groups, History, Kick, Ping, SetRole, Typing, Who,
};
use crate::protocol::{Command, MAX_HISTORY_PAGE, Role, Target};

/// A line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Nothing, or a comment.
    Empty,
    /// Show the commands.
    Help,
    /// Log out, back to the menu.
    Logout,
    /// Log out and end the program.
    Quit,
    /// Go on when so many messages have arrived since the login.
    Wait(u64),
    /// Send a message.
    Chat(Target, String),
    /// Ask the server for something.
    Ask(Command),
}

/// A command's words.
struct Form {
    name: &'static str,
    /// What stands behind the name, each behind a colon; the last one may contain colons.
    fields: &'static [&'static str],
    what: &'static str,
    /// Whether the original has it.
    is_original: bool,
}

const fn form(name: &'static str, fields: &'static [&'static str], what: &'static str, is_original: bool) -> Form {
    Form { name, fields, what, is_original }
}

const FORMS: &[Form] = &[
    form("help", &[], "show this list", true),
    form("chat", &["friendid", "message"], "write to a user", true),
    form("addfriend", &["friendid"], "ask for a friendship", true),
    form("creategroup", &["name", "desc"], "create a group", true),
    form("addgroup", &["groupid"], "join a group", true),
    form("groupchat", &["groupid", "message"], "write to a group", true),
    form("loginout", &[], "log out", true),
    form("quit", &[], "log out and end", true),
    form("friends", &[], "friends and requests", false),
    form("accept", &["friendid"], "accept a request", false),
    form("reject", &["friendid"], "reject a request", false),
    form("unfriend", &["friendid"], "end a friendship, or take a request back", false),
    form("groups", &[], "one's groups", false),
    form("members", &["groupid"], "the members of a group", false),
    form("leave", &["groupid"], "leave a group", false),
    form("kick", &["groupid", "userid"], "put a member out", false),
    form("role", &["groupid", "userid", "role"], "make a member normal, admin or creator", false),
    form("history", &["friendid", "count"], "the last messages with a user", false),
    form("grouphistory", &["groupid", "count"], "the last messages of a group", false),
    form("who", &["userids"], "who of these (1,2,3) is online", false),
    form("typing", &["friendid"], "say that you are typing", false),
    form("ping", &[], "ask whether the server lives", false),
    form("wait", &["count"], "go on when so many messages have arrived; for scripts", true),
];

/// The list of commands.
pub fn help(is_original: bool) -> String {
    let forms = FORMS.iter().filter(|form| !is_original || form.is_original);
    let lines = forms.map(|form| format!("  {:<34} {}", usage(form), form.what));
    lines.collect::<Vec<_>>().join("\n")
}

fn usage(form: &Form) -> String {
    std::iter::once(form.name).chain(form.fields.iter().copied()).collect::<Vec<_>>().join(":")
}

/// Understands a line.
///
/// # Errors
///
/// What is wrong with it, in words for a person.
pub fn parse(line: &str, is_original: bool) -> Result<Line, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Empty);
    }
    let (name, rest) = line.split_once(':').map_or((line, None), |(name, rest)| (name.trim_end(), Some(rest)));
    let Some(form) = FORMS.iter().find(|form| form.name == name) else {
        return Err(format!("there is no command {name:?}: 'help' lists them"));
    };
    if is_original && !form.is_original {
        return Err(format!("the original protocol has no {name}"));
    }
    let fields: Vec<&str> = match (form.fields.len(), rest) {
        (0, None) => vec![],
        (0, Some(_)) => return Err(format!("{name} stands alone")),
        (_, None) if !matches!(name, "creategroup") => return Err(format!("write {}", usage(form))),
        (count, rest) => rest.unwrap_or_default().splitn(count, ':').collect(),
    };
    let field = |at: usize| fields.get(at).copied().unwrap_or("");
    let id = |at: usize| number::<u32>(form.fields[at], field(at));
    let needs = |at: usize| match field(at) {
        "" => Err(format!("write {}", usage(form))),
        text => Ok(text.to_owned()),
    };
    Ok(match name {
        "help" => Line::Help,
        "loginout" => Line::Logout,
        "quit" => Line::Quit,
        "wait" => Line::Wait(number("count", field(0))?),
        "chat" => Line::Chat(Target::Peer(id(0)?), needs(1)?),
        "groupchat" => Line::Chat(Target::Group(id(0)?), needs(1)?),
        "addfriend" => Line::Ask(Command::AddFriend(FriendId { friendid: id(0)? })),
        "accept" => Line::Ask(Command::AcceptFriend(FriendId { friendid: id(0)? })),
        "reject" => Line::Ask(Command::RejectFriend(FriendId { friendid: id(0)? })),
        "unfriend" => Line::Ask(Command::RemoveFriend(FriendId { friendid: id(0)? })),
        "friends" => Line::Ask(Command::Friends(Friends {})),
        "creategroup" => {
            Line::Ask(Command::CreateGroup(CreateGroup { groupname: needs(0)?, groupdesc: field(1).to_owned() }))
        }
        "addgroup" => Line::Ask(Command::JoinGroup(GroupId { groupid: id(0)? })),
        "leave" => Line::Ask(Command::LeaveGroup(GroupId { groupid: id(0)? })),
        "groups" => Line::Ask(Command::Groups(Groups {})),
        "members" => Line::Ask(Command::Members(GroupId { groupid: id(0)? })),
        "kick" => Line::Ask(Command::Kick(Kick { groupid: id(0)?, userid: id(1)? })),
        "role" => Line::Ask(Command::SetRole(SetRole { groupid: id(0)?, userid: id(1)?, role: role(field(2))? })),
        "history" => Line::Ask(Command::History(history(Some(id(0)?), None, field(1))?)),
        "grouphistory" => Line::Ask(Command::History(history(None, Some(id(0)?), field(1))?)),
        "who" => {
            let ids = field(0).split(',').map(|id| number("userids", id)).collect::<Result<_, _>>()?;
            Line::Ask(Command::Who(Who { ids }))
        }
        "typing" => Line::Ask(Command::Typing(Typing { peer: Some(id(0)?), groupid: None })),
        "ping" => Line::Ask(Command::Ping(Ping {})),
        other => return Err(format!("there is no command {other:?}")),
    })
}

fn number<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{field}: {text:?} is not a number that could be one"))
}

fn role(text: &str) -> Result<Role, String> {
    match text.trim() {
        "normal" => Ok(Role::Normal),
        "admin" => Ok(Role::Admin),
        "creator" => Ok(Role::Creator),
        other => Err(format!("role: {other:?} is neither normal nor admin nor creator")),
    }
}

fn history(peer: Option<u32>, groupid: Option<u32>, count: &str) -> Result<History, String> {
    let limit = match count {
        "" => None,
        count => Some(number::<u32>("count", count)?.clamp(1, MAX_HISTORY_PAGE)),
    };
    Ok(History { peer, groupid, before: None, after: None, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_commands_are_understood_as_it_understands_them() {
        let ask = |command| Ok(Line::Ask(command));
        for (line, expected) in [
            ("help", Ok(Line::Help)),
            ("chat:15:hello", Ok(Line::Chat(Target::Peer(15), "hello".into()))),
            ("chat:15: at 10:30: really? ", Ok(Line::Chat(Target::Peer(15), " at 10:30: really?".into()))),
            ("addfriend:15", ask(Command::AddFriend(FriendId { friendid: 15 }))),
            (
                "creategroup:crab:about: rust",
                ask(Command::CreateGroup(CreateGroup { groupname: "crab".into(), groupdesc: "about: rust".into() })),
            ),
            ("addgroup:1", ask(Command::JoinGroup(GroupId { groupid: 1 }))),
            ("groupchat:1:hi", Ok(Line::Chat(Target::Group(1), "hi".into()))),
            ("loginout", Ok(Line::Logout)),
        ] {
            assert_eq!(parse(line, true), expected, "{line}");
            assert_eq!(parse(line, false), expected, "{line}");
        }
    }

    #[test]
    fn what_the_modern_mode_adds_is_for_the_modern_mode() {
        assert_eq!(
            parse("role:1:2:admin", false),
            Ok(Line::Ask(Command::SetRole(SetRole { groupid: 1, userid: 2, role: Role::Admin })))
        );
        assert_eq!(parse("who:1, 2", false), Ok(Line::Ask(Command::Who(Who { ids: vec![1, 2] }))));
        assert_eq!(parse("role:1:2:admin", true), Err("the original protocol has no role".into()));
        assert!(!help(true).contains("kick") && help(false).contains("kick:groupid:userid"));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, problem) in [
            ("chat", "write chat:friendid:message"),
            ("chat:15", "write chat:friendid:message"),
            ("chat:x:y", "friendid: \"x\" is not a number"),
            ("chat:-1:y", "friendid: \"-1\" is not a number"),
            ("dance", "there is no command \"dance\""),
            ("loginout:1", "loginout stands alone"),
            ("role:1:2:king", "role: \"king\" is neither"),
            ("creategroup", "write creategroup:name:desc"),
        ] {
            let error = parse(line, false).unwrap_err();
            assert!(error.starts_with(problem), "{line}: {error}");
        }
        assert_eq!(parse("  # a comment", false), Ok(Line::Empty));
    }

    #[test]
    fn every_command_in_the_list_is_understood() {
        for form in FORMS {
            let values = form.fields.iter().map(|field| match *field {
                "role" => "admin",
                "message" | "name" | "desc" => "x",
                _ => "1",
            });
            let line = std::iter::once(form.name).chain(values).collect::<Vec<_>>().join(":");
            assert!(parse(&line, false).is_ok(), "{line}");
        }
    }
}

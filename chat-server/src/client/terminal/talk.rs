//! A session: lines go to the server, events are printed, until one of them ends.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::commands::{Line, help, parse};
use super::input::Question;
use super::{Left, Program, show};
use crate::client::original::{self, Incoming, Message, Outgoing};
use crate::client::{Client, ClientError, Credentials, Event, Events, clock};
use crate::protocol::answer::{
    CreateGroupResult, Done, FriendsResult, GroupsResult, HistoryResult, MembersResult, WhoResult,
};
use crate::protocol::command::{Chat, GroupChat, Logout};
use crate::protocol::{Command, Target, msgid};

/// How long a logout may take at the end of the program.
const LOGOUT_LIMIT: Duration = Duration::from_secs(5);

/// A session in the modern mode.
///
/// # Errors
///
/// When the login fails. What happens later is printed.
pub async fn modern(program: &mut Program, credentials: Credentials) -> Result<Left, ClientError> {
    let (client, mut events) = Client::login(program.options.clone(), credentials).await?;
    let me = client.me();
    program.console.print(&format!(
        "logged in as {} (user id {}); 'help' lists the commands",
        show::harmless(&me.name),
        me.id
    ));
    let prompt = format!("{}> ", show::harmless(&me.name));
    let mut messages = 0;
    loop {
        let line = tokio::select! {
            line = program.console.ask(Question::Line(&prompt)) => line,
            event = events.next() => match print(program, event, &mut messages) {
                Some(left) => return Ok(left),
                None => continue,
            },
        };
        let Some(line) = line else {
            // The end of the lines: stay for a while, then leave.
            let until = Instant::now() + program.linger;
            if let Some(left) = meanwhile(program, &mut events, &mut messages, sleep_until(until)).await.err() {
                return Ok(left);
            }
            return leave(program, client, events, Left::Quit).await;
        };
        let outcome = match parse(&line, false) {
            Ok(Line::Empty) => continue,
            Ok(Line::Help) => Ok(help(false)),
            Ok(Line::Logout) => return leave(program, client, events, Left::LoggedOut).await,
            Ok(Line::Quit) => return leave(program, client, events, Left::Quit).await,
            Ok(Line::Wait(count)) => {
                let deadline = sleep(program.options.answer_timeout);
                tokio::pin!(deadline);
                loop {
                    if messages >= count {
                        break Ok(String::new());
                    }
                    let event = tokio::select! {
                        event = events.next() => event,
                        () = &mut deadline => break Err(format!("{messages} of {count} messages arrived in time")),
                    };
                    if let Some(left) = print(program, event, &mut messages) {
                        return Ok(left);
                    }
                }
            }
            Ok(Line::Chat(to, text)) => {
                let work = client.chat(to, text);
                match meanwhile(program, &mut events, &mut messages, work).await {
                    Ok(result) => result.map(|result| show::sent(&result)).map_err(|error| error.to_string()),
                    Err(left) => return Ok(left),
                }
            }
            Ok(Line::Ask(command)) => {
                match meanwhile(program, &mut events, &mut messages, ask(&client, command)).await {
                    Ok(result) => result.map_err(|error| error.to_string()),
                    Err(left) => return Ok(left),
                }
            }
            Err(problem) => Err(problem),
        };
        tell(program, outcome);
    }
}

/// Prints what came of a line.
fn tell(program: &mut Program, outcome: Result<String, String>) {
    match outcome {
        Ok(text) if text.is_empty() => {}
        Ok(text) => program.console.print(&text),
        Err(problem) => {
            program.has_refusals = true;
            program.console.print(&format!("! {}", show::harmless(&problem)));
        }
    }
}

/// Prints an event. `Some` if it was the last one.
fn print(program: &mut Program, event: Option<Event>, messages: &mut u64) -> Option<Left> {
    let Some(event) = event else { return Some(Left::Ended) };
    *messages += u64::from(matches!(event, Event::Message { .. }));
    if let Some(text) = show::event(&event) {
        program.console.print(&text);
    }
    matches!(event, Event::Ended(_)).then_some(Left::Ended)
}

/// Waits for `work` and prints what happens meanwhile. `Err` if the session ended.
async fn meanwhile<T>(
    program: &mut Program,
    events: &mut Events,
    messages: &mut u64,
    work: impl Future<Output = T>,
) -> Result<T, Left> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            event = events.next() => if let Some(left) = print(program, event, messages) {
                return Err(left);
            },
        }
    }
}

async fn leave(program: &mut Program, client: Client, mut events: Events, left: Left) -> Result<Left, ClientError> {
    let _ = timeout(LOGOUT_LIMIT, client.logout()).await;
    // Messages that came with the last answer.
    while let Some(event @ Event::Message { .. }) = events.try_next() {
        print(program, Some(event), &mut 0);
    }
    if program.console.is_terminal() {
        program.console.print("logged out");
    }
    Ok(left)
}

/// Asks the server, and puts its answer in words.
async fn ask(client: &Client, command: Command) -> Result<String, ClientError> {
    Ok(match command {
        Command::CreateGroup(_) => show::created(&client.request::<CreateGroupResult>(command).await?),
        Command::Friends(_) => show::friends(&client.request::<FriendsResult>(command).await?),
        Command::Groups(_) => show::groups(&client.request::<GroupsResult>(command).await?),
        Command::Members(_) => show::members(&client.request::<MembersResult>(command).await?),
        Command::History(_) => show::history(&client.request::<HistoryResult>(command).await?),
        Command::Who(_) => show::who(&client.request::<WhoResult>(command).await?),
        other => {
            client.request::<Done>(other).await?;
            "done".into()
        }
    })
}

/// A session in the original's mode: nothing is answered, and a lost connection is the end.
///
/// # Errors
///
/// When the login fails, or the connection is lost.
pub async fn original(program: &mut Program, id: u32, password: &str) -> Result<Left, ClientError> {
    let (mut incoming, mut outgoing) = original::connect(&program.options, program.options.address(0)).await?;
    let login = original::login((&mut incoming, &mut outgoing), id, password).await?;
    program
        .console
        .print(&format!("logged in as {} (user id {id}); 'help' lists the commands", show::harmless(&login.name)));
    for text in login.friends.iter().chain(&login.groups) {
        program.console.print(&show::harmless(text));
    }
    let mut messages = 0;
    for message in original::offline_messages(&login) {
        receive(program, &message, &mut messages);
    }
    let prompt = format!("{}> ", show::harmless(&login.name));
    loop {
        let line = tokio::select! {
            line = program.console.ask(Question::Line(&prompt)) => line,
            message = incoming.next() => {
                receive(program, &message?, &mut messages);
                continue;
            }
        };
        let outcome = match line.as_deref().map(|line| parse(line, true)) {
            None => {
                let until = Instant::now() + program.linger;
                listen(program, &mut incoming, &mut messages, u64::MAX, until).await?;
                return finish(outgoing, id, Left::Quit).await;
            }
            Some(Ok(Line::Empty)) => continue,
            Some(Ok(Line::Help)) => Ok(help(true)),
            Some(Ok(Line::Logout)) => return finish(outgoing, id, Left::LoggedOut).await,
            Some(Ok(Line::Quit)) => return finish(outgoing, id, Left::Quit).await,
            Some(Ok(Line::Wait(count))) => {
                let until = Instant::now() + program.options.answer_timeout;
                listen(program, &mut incoming, &mut messages, count, until).await?;
                let problem = || format!("{messages} of {count} messages arrived in time");
                if messages >= count { Ok(String::new()) } else { Err(problem()) }
            }
            Some(Ok(Line::Chat(to, msg))) => {
                outgoing.send_frame(&chat(id, &login.name, to, msg)).await?;
                Ok(String::new())
            }
            Some(Ok(Line::Ask(command))) => {
                outgoing.send_frame(&with_id(id, command)).await?;
                Ok(String::new())
            }
            Some(Err(problem)) => Err(problem),
        };
        tell(program, outcome);
    }
}

fn receive(program: &mut Program, message: &Message, messages: &mut u64) {
    match message.msgid {
        msgid::CHAT | msgid::GROUP_CHAT => {
            *messages += 1;
            program.console.print(&show::original(message));
        }
        // What our server says beyond the original protocol, which the original client ignores.
        msgid::ANSWER if message.errno != 0 => {
            program.has_refusals = true;
            program.console.print(&format!("! {}", show::harmless(&message.errmsg)));
        }
        _ => {}
    }
}

/// Prints messages until there are `count` or the time is up.
async fn listen(
    program: &mut Program,
    incoming: &mut Incoming,
    messages: &mut u64,
    count: u64,
    until: Instant,
) -> Result<(), ClientError> {
    while *messages < count {
        tokio::select! {
            message = incoming.next() => receive(program, &message?, messages),
            () = sleep_until(until) => return Ok(()),
        }
    }
    Ok(())
}

async fn finish(mut outgoing: Outgoing, id: u32, left: Left) -> Result<Left, ClientError> {
    outgoing.send_frame(&with_id(id, Command::Logout(Logout {}))).await?;
    Ok(left)
}

/// The original server believes what a message says about its sender, and needs it said.
fn with_id(id: u32, command: Command) -> bytes::Bytes {
    add_fields(command, [("id", id.into())])
}

fn chat(id: u32, name: &str, to: Target, msg: String) -> bytes::Bytes {
    let time = Some(clock::date_and_time(clock::now_ms()));
    let command = match to {
        Target::Peer(toid) => Command::Chat(Chat { toid, msg, time, mid: None }),
        Target::Group(groupid) => Command::GroupChat(GroupChat { groupid, msg, time, mid: None }),
    };
    add_fields(command, [("id", id.into()), ("name", name.into())])
}

fn add_fields<const N: usize>(command: Command, fields: [(&str, serde_json::Value); N]) -> bytes::Bytes {
    let frame = crate::protocol::Request { rid: None, command }.encode();
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&frame).expect("a request is a JSON object");
    object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    serde_json::Value::Object(object).to_string().into()
}

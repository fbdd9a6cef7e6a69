//! The program `chat-client`: a menu and commands for people, lines and exit codes for scripts.
//!
//! | part | what it does |
//! |---|---|
//! | [`commands`] | what is typed |
//! | [`show`] | what is read |
//! | [`input`] | terminal or pipe |
//! | [`talk`] | a session, in either mode |

pub mod commands;
pub mod input;
pub mod show;
pub mod talk;

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind as Kind, signal};

use self::input::{Console, Question, Restore};
use super::connection::Tls;
use super::{ClientError, Connection, Credentials, Options, original};

/// The variable that holds the password for `--user`. Not `CHAT_...`: those are the options of the server.
pub const PASSWORD_VARIABLE: &str = "CHATCLIENT_PASSWORD";

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// The server refused a command, or a line was no command.
    Refused = 1,
    /// The arguments make no sense, or a file cannot be read.
    Usage = 2,
    /// The login or the registration was refused.
    NotLoggedIn = 3,
    /// The server cannot be reached, or did not answer in time.
    Unreachable = 4,
    /// The server ended the session: the user logged in elsewhere, or may not log in again.
    Ended = 5,
    /// SIGHUP: the terminal was closed.
    HungUp = 128 + 1,
    /// SIGINT, at a question that is answered without being shown.
    Interrupted = 128 + 2,
    /// SIGTERM.
    Terminated = 128 + 15,
}

const AFTER_HELP: &str = "\
Without --user there is the original's menu: login, register, quit. In a session 'help' lists the commands, for example
  chat:7:hello        groupchat:1:hello        history:7:20        loginout

Without a terminal, or with --script, the lines are commands (without --user first what the menu asks for: 1, id or name,
password), carried out one after another; 'wait:N' goes on when N messages have arrived. Lines that begin with # are
comments. At the end it logs out, after --linger seconds.

The password comes from --password-file, from the variable CHATCLIENT_PASSWORD, or is asked for. It is never shown, and never an
argument, because every user of the machine can read those.

Exit codes:
  0  everything was done
  1  the server refused a command, or a line was no command (the lines after it were carried out)
  2  the arguments make no sense, or a file cannot be read
  3  the login or the registration was refused
  4  the server cannot be reached, or did not answer in time
  5  the server ended the session: the user logged in elsewhere, or may not log in again
  129, 130, 143  on a terminal: ended by SIGHUP, SIGINT, SIGTERM; the terminal is left as it was found";

/// A chat client for the terminal and for scripts.
#[derive(Debug, Parser)]
#[command(name = "chat-client", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// A node or the balancer, host:port; may be repeated: after a failure the next one is tried
    #[arg(long = "server", value_name = "ADDRESS", default_value = "127.0.0.1:6000")]
    servers: Vec<String>,
    /// Log in as this user: an id or a name
    #[arg(long, value_name = "ID|NAME")]
    user: Option<String>,
    /// The password is the first line of this file
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Register --user (a name) first, if it is free
    #[arg(long, requires = "user")]
    register: bool,
    /// Commands, one a line; default: standard input
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Without a terminal: stay for so many seconds after the last command and print what arrives
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    linger: u64,
    /// Seconds to wait for an answer, reconnections included, and at wait:N
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Speak the protocol of the original server
    #[arg(long)]
    original: bool,
    /// Speak TLS and trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name in the server's certificate, if not the host of --server
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    tls_name: Option<String>,
}

/// Why the program ends early.
#[derive(Debug)]
pub struct Fatal {
    exit: Exit,
    text: String,
}

impl Fatal {
    fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// A login or registration that failed.
    fn login(error: &ClientError) -> Self {
        let exit = match error {
            ClientError::Refused(_) => Exit::NotLoggedIn,
            ClientError::Ended(_) => Exit::Ended,
            _ => Exit::Unreachable,
        };
        Self::new(exit, error.to_string())
    }
}

/// Why a conversation with the server is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// `loginout`: back to the menu.
    LoggedOut,
    /// `quit`, or no more lines.
    Quit,
    /// The server ended it.
    Ended,
}

/// The program's state.
pub struct Program {
    options: Options,
    is_original: bool,
    linger: Duration,
    console: Console,
    /// A command was refused.
    has_refusals: bool,
}

/// Runs the program and says how it ended.
pub async fn run(arguments: Arguments) -> Exit {
    // The line editor may be in the middle of a line when the program ends, whatever ends it.
    let _terminal = Restore::at_the_end();
    let work = async {
        match Program::start(&arguments) {
            Ok(mut program) => program.work(&arguments).await.unwrap_or_else(|fatal| fail(&fatal)),
            Err(fatal) => fail(&fatal),
        }
    };
    if !io::stdin().is_terminal() {
        return work.await;
    }
    tokio::select! {
        exit = work => exit,
        exit = signalled() => exit,
    }
}

/// Waits for a signal that would end the program, and leave the terminal to the next one as the line editor made it.
async fn signalled() -> Exit {
    let listen = || io::Result::Ok((signal(Kind::hangup())?, signal(Kind::interrupt())?, signal(Kind::terminate())?));
    match listen() {
        Ok((mut hangup, mut interrupt, mut terminate)) => tokio::select! {
            _ = hangup.recv() => Exit::HungUp,
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        },
        // As if nobody had asked: the signals end the program by themselves.
        Err(_) => std::future::pending().await,
    }
}

fn fail(fatal: &Fatal) -> Exit {
    eprintln!("chat-client: {}", fatal.text);
    fatal.exit
}

impl Program {
    fn start(arguments: &Arguments) -> Result<Self, Fatal> {
        let mut options = Options::to(arguments.servers.iter().cloned());
        options.answer_timeout = Duration::from_secs(arguments.timeout);
        if let Some(file) = &arguments.tls_ca {
            let tls = Tls::trusting(file, arguments.tls_name.as_deref());
            options.tls = Some(tls.map_err(|error| unreadable("--tls-ca", file, &error))?);
        }
        let console = match &arguments.script {
            Some(file) => Console::lines(Some(file)).map_err(|error| unreadable("--script", file, &error))?,
            None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
                Console::terminal().map_err(|error| Fatal::new(Exit::Usage, format!("the terminal: {error}")))?
            }
            None => {
                Console::lines(None).map_err(|error| Fatal::new(Exit::Usage, format!("standard input: {error}")))?
            }
        };
        let linger = Duration::from_secs(arguments.linger);
        Ok(Self { options, is_original: arguments.original, linger, console, has_refusals: false })
    }

    async fn work(&mut self, arguments: &Arguments) -> Result<Exit, Fatal> {
        if let Some(user) = &arguments.user {
            let password = self.password(arguments).await?;
            if arguments.register {
                match self.register(user, &password).await {
                    Ok(id) => self.console.print(&format!("registered: user id {id}")),
                    // It exists already; the login says whether it is this one.
                    Err(ClientError::Refused(refusal)) if refusal.code == crate::protocol::ErrorCode::NameTaken => {}
                    Err(error) => return Err(Fatal::login(&error)),
                }
            }
            let left = self.talk(user, &password).await.map_err(|error| Fatal::login(&error))?;
            if !self.console.is_terminal() || left == Left::Quit {
                return Ok(self.exit(left));
            }
        }
        self.menu().await
    }

    fn exit(&self, left: Left) -> Exit {
        match left {
            Left::Ended => Exit::Ended,
            _ if self.has_refusals => Exit::Refused,
            _ => Exit::Done,
        }
    }

    async fn password(&mut self, arguments: &Arguments) -> Result<String, Fatal> {
        if let Some(file) = &arguments.password_file {
            let text = fs::read_to_string(file).map_err(|error| unreadable("--password-file", file, &error))?;
            return Ok(text.lines().next().unwrap_or_default().to_owned());
        }
        if let Ok(password) = env::var(PASSWORD_VARIABLE) {
            return Ok(password);
        }
        if !self.console.is_terminal() {
            let text = format!("no password: give --password-file or set {PASSWORD_VARIABLE}");
            return Err(Fatal::new(Exit::Usage, text));
        }
        let answer = self.console.ask(Question::Secret("password: ")).await;
        answer.ok_or_else(|| Fatal::new(Exit::Usage, "no password was given"))
    }

    async fn register(&self, name: &str, password: &str) -> Result<u32, ClientError> {
        if !self.is_original {
            return Connection::register(&self.options, name, password).await;
        }
        let (mut incoming, mut outgoing) = original::connect(&self.options, self.options.address(0)).await?;
        original::register((&mut incoming, &mut outgoing), name, password).await
    }

    async fn talk(&mut self, user: &str, password: &str) -> Result<Left, ClientError> {
        let id = user.trim().parse::<u32>().ok();
        if !self.is_original {
            let credentials = match id {
                Some(id) => Credentials::id(id, password),
                None => Credentials::name(user.trim(), password),
            };
            return talk::modern(self, credentials).await;
        }
        match id {
            Some(id) => talk::original(self, id, password).await,
            None => Err(ClientError::Protocol("the original protocol logs in by id: give a number".into())),
        }
    }

    /// The original's menu. Without a terminal, what fails ends the program.
    async fn menu(&mut self) -> Result<Exit, Fatal> {
        let mut left = Left::Quit;
        loop {
            if self.console.is_terminal() {
                self.console.print("1. login\n2. register\n3. quit");
            }
            let Some(choice) = self.console.ask(Question::Line("choice: ")).await else { return Ok(self.exit(left)) };
            let failure = match choice.trim() {
                "1" | "login" => {
                    let Some(user) = self.console.ask(Question::Line("id or name: ")).await else { continue };
                    let Some(password) = self.console.ask(Question::Secret("password: ")).await else { continue };
                    match self.talk(&user, &password).await {
                        Ok(Left::Quit) => return Ok(self.exit(Left::Quit)),
                        Ok(Left::Ended) if !self.console.is_terminal() => return Ok(Exit::Ended),
                        Ok(other) => {
                            left = other;
                            continue;
                        }
                        Err(error) => Fatal::login(&error),
                    }
                }
                "2" | "register" => {
                    let Some(name) = self.console.ask(Question::Line("name: ")).await else { continue };
                    let Some(password) = self.console.ask(Question::Secret("password: ")).await else { continue };
                    match self.register(name.trim(), &password).await {
                        Ok(id) => {
                            self.console.print(&format!("registered: user id {id}, do not forget it"));
                            continue;
                        }
                        Err(error) => Fatal::login(&error),
                    }
                }
                "3" | "quit" => return Ok(self.exit(Left::Quit)),
                "" => continue,
                other => Fatal::new(Exit::Refused, format!("{other:?} is none of 1, 2, 3")),
            };
            if !self.console.is_terminal() {
                return Err(failure);
            }
            self.console.print(&format!("! {}", failure.text));
        }
    }
}

fn unreadable(option: &str, file: &std::path::Path, error: &io::Error) -> Fatal {
    Fatal::new(Exit::Usage, format!("{option} {}: {error}", file.display()))
}

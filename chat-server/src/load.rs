//! The load generator and checker: the program `chat-load`.
//!
//! ```text
//! register users -> connect, log in -> traffic | logins | idle sessions -> outcome -> table, JSON, CSV
//!                                   -> check: traffic under faults -> reconnect, read everything back -> judge
//!                                      start: a program of its own    -> outcome
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`arguments`] | what to do |
//! | [`link`] | one connection, cheap enough that the generator is not what is measured |
//! | [`people`] | users: registered, remembered in a file, logged in |
//! | [`traffic`] | messages, in closed or open loop |
//! | [`logins`], [`idle`] | logins per second; memory per idle session |
//! | [`start`] | from the start of a node to its first answer |
//! | [`check`], [`judge`] | nothing lost, nothing twice, everything in order, no ghosts |
//! | [`process`], [`outcome`] | the server's time and memory; numbers and how they are printed |

pub mod arguments;
pub mod check;
pub mod idle;
pub mod judge;
pub mod link;
pub mod logins;
pub mod outcome;
pub mod people;
pub mod process;
pub mod start;
pub mod traffic;

use std::fs;
use std::io::{self, Write};

use self::arguments::{Arguments, Task};
use self::outcome::Outcome;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything that was sent arrived, once.
    Done = 0,
    /// Something was lost, came twice, was refused, or another promise was broken.
    Broken = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// It could not be measured: no connection, no login, a file that cannot be written.
    Failed = 3,
}

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// What could not be done, and why.
    pub fn of(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }

    /// What is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Does what the arguments say.
///
/// # Errors
///
/// [`Failure`] when it could not be done. That something was lost is no failure, but the outcome.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let outcome = match &arguments.task {
        Task::Traffic(task) => traffic::run(&arguments.common, task)?,
        Task::Logins(task) => logins::run(&arguments.common, task)?,
        Task::Idle(task) => idle::run(&arguments.common, task)?,
        Task::Start(task) => start::run(&arguments.common, task)?,
        Task::Check(task) => return check::run(&arguments.common, task),
    };
    publish(arguments, &outcome)?;
    Ok(if outcome.problems.is_empty() { Exit::Done } else { Exit::Broken })
}

fn publish(arguments: &Arguments, outcome: &Outcome) -> Result<(), Failure> {
    let common = &arguments.common;
    if let Some(file) = &common.csv {
        let failed = |error: io::Error| Failure::of(file.display(), error);
        let is_new = !file.exists();
        let mut out = fs::OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
        let rows = outcome.csv(&common.labels, is_new).map_err(|error| Failure::of(file.display(), error))?;
        out.write_all(&rows).map_err(failed)?;
    }
    let text = if common.json { format!("{}\n", outcome.json(&common.labels)) } else { outcome.table(&common.labels) };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::of("standard output", error))?;
    for problem in &outcome.problems {
        eprintln!("chat-load: {problem}");
    }
    Ok(())
}

//! How long a node takes from its start until it answers, and from the signal to its end.

use std::future::Future;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::arguments::{Common, Protocol, Start};
use super::link::Link;
use super::outcome::Outcome;
use super::people::block_on;
use super::{Failure, process};
use crate::protocol::msgid;

/// What the program prints before its address, once it takes clients.
const LISTENING: &str = "listening on ";

/// Measures.
///
/// # Errors
///
/// When the protocol is the original's, and when the program cannot be started, does not listen, answer or end within
/// [`Common::patience`], or ends with a failure.
pub fn run(common: &Common, task: &Start) -> Result<Outcome, Failure> {
    if common.protocol == Protocol::Original {
        return Err(Failure::new("the original's protocol has no first answer: leave out --protocol"));
    }
    block_on(measure(common, task))
}

async fn measure(common: &Common, task: &Start) -> Result<Outcome, Failure> {
    let [program, words @ ..] = task.command.as_slice() else {
        return Err(Failure::new("start what? Give the command behind --"));
    };
    let name = program.display().to_string();
    let began = Instant::now();
    // Whatever happens here, it does not stay behind.
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::of(&name, error))?;
    let address = in_time(common.patience, "it does not listen", listening(&mut child)).await?;
    let ready = began.elapsed();
    let link = Link::connect(&address, Protocol::Modern, common.patience).await?;
    // The greeting waits in the link for company.
    link.ask(&[], common.patience, |frame| frame.msgid == msgid::ANSWER).await?;
    let answered = began.elapsed();
    drop(link);

    let pid = child.id().ok_or_else(|| Failure::of(&name, "has ended"))?;
    let resident = process::resident_bytes(&[pid])?;
    let asked = Instant::now();
    let number = i32::try_from(pid).map_err(|error| Failure::of("its number", error))?;
    kill(Pid::from_raw(number), Signal::SIGTERM).map_err(|error| Failure::of("SIGTERM", error))?;
    let ended = async { child.wait().await.map_err(|error| Failure::of(&name, error)) };
    let status = in_time(common.patience, "it does not end", ended).await?;
    let stopped = asked.elapsed();

    let mut outcome = Outcome { question: "start", ..Outcome::default() };
    outcome.settings = vec![("protocol", Protocol::Modern.name().to_owned())];
    for (metric, time) in [("ready", ready), ("first_answer", answered), ("stop", stopped)] {
        outcome.add(metric, "ms", time.as_secs_f64() * 1e3);
    }
    outcome.add("server_resident", "MiB", resident as f64 / f64::from(1 << 20));
    if !status.success() {
        outcome.problems.push(format!("it ended with {status}"));
    }
    Ok(outcome)
}

/// The address that it says it listens on.
async fn listening(child: &mut Child) -> Result<String, Failure> {
    let out = child.stdout.as_mut().ok_or_else(|| Failure::new("there is no standard output"))?;
    let mut lines = BufReader::new(out).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) => {
                if let Some(address) = line.strip_prefix(LISTENING) {
                    return Ok(address.to_owned());
                }
            }
            Ok(None) => return Err(Failure::new("it ended before it listened")),
            Err(error) => return Err(Failure::of("its standard output", error)),
        }
    }
}

async fn in_time<T>(
    limit: Duration,
    problem: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(Failure::of(problem, format!("within {limit:?}"))))
}

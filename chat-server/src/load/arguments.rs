//! What to do, from the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

const AFTER_HELP: &str = "\
Exit codes:
  0  everything that was sent arrived, once
  1  something was lost, came twice, was refused, or the check found another broken promise
  2  the arguments make no sense
  3  it could not be measured

The users that a run needs are registered first, all with the same password: use a database of its own. The server's limits
apply to the generator, too: start it without limits of rates and registrations.";

/// Sends load to a chat server, measures it, and checks what it promises.
#[derive(Debug, Parser)]
#[command(name = "chat-load", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// What all tasks need.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What all tasks need.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A node, host:port; may be repeated: senders connect to the first, recipients to the next ones in turn
    #[arg(long = "server", value_name = "ADDRESS", default_value = "127.0.0.1:6000", global = true)]
    pub servers: Vec<String>,
    /// The protocol to speak
    #[arg(long, value_enum, default_value_t = Protocol::Modern, global = true)]
    pub protocol: Protocol,
    /// A server's process, whose processor time and memory are measured; may be repeated
    #[arg(long = "server-pid", value_name = "PID", global = true)]
    pub server_pids: Vec<u32>,
    /// Keeps the registered users, for further runs against the same database
    #[arg(long, value_name = "FILE", global = true)]
    pub users: Option<PathBuf>,
    /// What the names of users begin with; without it and --users, something new each time
    #[arg(long, value_name = "TEXT", global = true)]
    pub prefix: Option<String>,
    /// Logins and registrations at the same time while preparing
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000), global = true)]
    pub prepare: u32,
    /// Seconds that connecting, or an answer while preparing, may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, global = true)]
    pub patience: Duration,
    /// Appends the numbers to this file, one line each
    #[arg(long, value_name = "FILE", global = true)]
    pub csv: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// Something to keep with the numbers; may be repeated. The CSV has columns for
    /// server, database, delivery, pool, nodes, commit, rustc
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, global = true)]
    pub labels: Vec<(String, String)>,
}

/// The protocol to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// HELLO, answers, sequences, acknowledgements.
    Modern,
    /// As the original client: JSON and NUL to the server, bare JSON back, nothing is answered.
    Original,
}

impl Protocol {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Original => "original",
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Messages, to one user or to groups
    Traffic(Traffic),
    /// Logins per second: connect, log in, close
    Logins(Logins),
    /// Memory of sessions that do nothing
    Idle(Idle),
    /// From the start of a node, which is started for it, to its first answer, and to its end
    Start(Start),
    /// Traffic while somebody else makes faults, and afterwards the proof that nothing was lost
    Check(Check),
}

/// Messages.
#[derive(Debug, Clone, Args)]
pub struct Traffic {
    /// Conversations: pairs of a sender and a recipient, or groups
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub conversations: u32,
    /// Members of a group, its sender included; 0 sends to single users
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub group_size: u32,
    /// Closed loop: messages of a conversation in flight
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub window: u32,
    /// Closed loop: what ends a message's flight
    #[arg(long, value_enum, default_value_t = Wait::Delivery)]
    pub wait: Wait,
    /// Open loop: so many messages per second, all conversations together, whatever the server does
    #[arg(long, value_name = "PER SECOND", conflicts_with_all = ["window", "wait"])]
    pub rate: Option<f64>,
    /// Bytes of a message's text
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(40..=60_000))]
    pub size: u32,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,
    /// Seconds of the same load before that
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub warmup: Duration,
    /// A message that has not arrived after so many seconds is lost
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub lost_after: Duration,
    /// Recipients acknowledge after so many messages, or five times a second
    #[arg(long, value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub ack_every: u32,
    /// Threads of the generator
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Loss is expected, as from the original server when it is pipelined: exit code 0
    #[arg(long)]
    pub allow_loss: bool,
}

/// What ends a message's flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// All recipients have it.
    Delivery,
    /// The server has answered.
    Ack,
}

/// Logins.
#[derive(Debug, Clone, Args)]
pub struct Logins {
    /// Logins at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub in_flight: u32,
    /// How to log in
    #[arg(long, value_enum, default_value_t = Way::Password)]
    pub way: Way,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// With the password.
    Password,
    /// With a token of an earlier login; modern protocol only.
    Resume,
}

/// Sessions that do nothing.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// Sessions
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub sessions: u32,
    /// Seconds that the server gets to come to rest before its memory is read
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub settle: Duration,
}

/// The start of a node.
#[derive(Debug, Clone, Args)]
pub struct Start {
    /// The node's program and its arguments; it must listen at an address of this machine
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The check.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Users, each with one client
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=2000))]
    pub clients: u32,
    /// Groups, each of six users
    #[arg(long, value_name = "COUNT", default_value_t = 6)]
    pub groups: u32,
    /// Seconds of traffic; an interrupt (SIGINT) ends it earlier, and the check goes on
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub duration: Duration,
    /// Messages that each client sends in a second, when it can
    #[arg(long, value_name = "PER SECOND", default_value_t = 10.0)]
    pub rate: f64,
    /// The part of the clients that drops its connection once a second, without a word, and logs in again
    #[arg(long, value_name = "PART", default_value_t = 0.05)]
    pub churn: f64,
    /// Seconds that one message may take, with all its repetitions, before it counts as not acknowledged
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub send_limit: Duration,
    /// Seconds without a message after which it is quiet
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub quiet: Duration,
    /// Seconds that everybody gets to reconnect and to receive what is missing
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub settle: Duration,
    /// Seconds after which nobody who is gone may be shown as online: the lease, and some
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub lease: Duration,
    /// Writes every violation to this file
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| time.as_secs() <= 86_400)
        .ok_or("is out of 0 to 86400".into())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        let given =
            ["chat-load", "--server", "a:1", "--server", "b:2", "traffic", "--rate", "1000", "--label", "pool=x"];
        let parsed = Arguments::try_parse_from(given).unwrap();
        assert_eq!(parsed.common.servers, ["a:1", "b:2"]);
        assert_eq!(parsed.common.labels, [("pool".to_owned(), "x".to_owned())]);
        assert!(Arguments::try_parse_from(["chat-load", "traffic", "--rate", "5", "--window", "2"]).is_err());
        assert!(Arguments::try_parse_from(["chat-load", "traffic", "--duration", "-1"]).is_err());
    }
}

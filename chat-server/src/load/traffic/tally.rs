//! What a run has counted, and what is said of it.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::nanos;
use crate::load::Failure;
use crate::load::arguments::{Common, Protocol, Traffic};
use crate::load::outcome::Outcome;
use crate::protocol::ErrorCode;

/// The longest latency that is told apart from longer ones.
const MAX_LATENCY: Duration = Duration::from_secs(600);

/// What was counted.
pub(super) struct Tally {
    /// All messages sent, all that were stored or passed on, all arrivals.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    /// Arrivals that the messages sent should lead to.
    pub(super) expected: u64,
    /// Arrivals and answers within the measured time.
    pub(super) delivered_in_time: u64,
    pub(super) accepted_in_time: u64,
    /// Recipients that did not get a message.
    pub(super) lost: u64,
    /// Arrivals of what had arrived, or of what should have arrived earlier.
    pub(super) repeated: u64,
    /// Due in open loop and not sent, because too much was in flight.
    pub(super) held_back: u64,
    pub(super) refused: BTreeMap<u32, u64>,
    /// Connections that ended, and the notices before.
    pub(super) closed: u64,
    pub(super) notices: BTreeMap<String, u64>,
    pub(super) latency: Histogram<u64>,
    pub(super) answer: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_bounds(1000, nanos(MAX_LATENCY), 3).map_err(|error| Failure::of("a histogram", error))
        };
        Ok(Self {
            sent: 0,
            accepted: 0,
            delivered: 0,
            expected: 0,
            delivered_in_time: 0,
            accepted_in_time: 0,
            lost: 0,
            repeated: 0,
            held_back: 0,
            refused: BTreeMap::new(),
            closed: 0,
            notices: BTreeMap::new(),
            latency: histogram()?,
            answer: histogram()?,
        })
    }

    pub(super) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.expected += other.expected;
        self.delivered_in_time += other.delivered_in_time;
        self.accepted_in_time += other.accepted_in_time;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.held_back += other.held_back;
        self.closed += other.closed;
        for (errno, count) in &other.refused {
            *self.refused.entry(*errno).or_default() += count;
        }
        for (code, count) in &other.notices {
            *self.notices.entry(code.clone()).or_default() += count;
        }
        let failed = |error| Failure::of("a histogram", format!("{error:?}"));
        self.latency.add(&other.latency).map_err(failed)?;
        self.answer.add(&other.answer).map_err(failed)
    }
}

/// The processes' costs in the measured time.
pub(super) struct Cost {
    pub(super) server: f64,
    pub(super) own: f64,
    pub(super) resident: u64,
}

pub(super) fn outcome(common: &Common, task: &Traffic, tally: &Tally, cost: Cost) -> Outcome {
    let mut outcome = Outcome { question: "traffic", ..Outcome::default() };
    let (kind, window, rate) = match task.rate {
        Some(rate) => ("open", String::new(), rate.to_string()),
        None => ("closed", task.window.to_string(), String::new()),
    };
    outcome.settings = vec![
        ("protocol", common.protocol.name().to_owned()),
        ("conversations", task.conversations.to_string()),
        ("group_size", task.group_size.to_string()),
        ("loop", kind.to_owned()),
        ("window", window),
        ("rate", rate),
        ("size", task.size.to_string()),
        ("duration_s", task.duration.as_secs_f64().to_string()),
    ];
    let seconds = task.duration.as_secs_f64().max(f64::MIN_POSITIVE);
    outcome.add("sent", "messages", tally.sent as f64);
    if common.protocol == Protocol::Modern {
        outcome.add("accepted", "1/s", tally.accepted_in_time as f64 / seconds);
    }
    outcome.add("delivered", "1/s", tally.delivered_in_time as f64 / seconds);
    outcome.add_latency(["latency_p50", "latency_p90", "latency_p99", "latency_p999", "latency_max"], &tally.latency);
    outcome.add_latency(["answer_p50", "answer_p90", "answer_p99", "answer_p999", "answer_max"], &tally.answer);
    let delivered = tally.delivered_in_time.max(1) as f64;
    if !common.server_pids.is_empty() {
        outcome.add("server_cpu", "us/message", cost.server * 1e6 / delivered);
        outcome.add("server_cores", "cores", cost.server / seconds);
        outcome.add("server_resident", "MiB", cost.resident as f64 / f64::from(1 << 20));
    }
    outcome.add("generator_cpu", "us/message", cost.own * 1e6 / delivered);
    outcome.add("lost", "deliveries", tally.lost as f64);
    outcome.add("repeated", "deliveries", tally.repeated as f64);
    outcome.add("refused", "messages", tally.refused.values().sum::<u64>() as f64);
    if task.rate.is_some() {
        outcome.add("held_back", "messages", tally.held_back as f64);
    }
    if tally.lost > 0 && !task.allow_loss {
        outcome.problems.push(format!("{} deliveries were lost", tally.lost));
    }
    if tally.repeated > 0 && !task.allow_loss {
        outcome.problems.push(format!("{} deliveries came twice or out of order", tally.repeated));
    }
    for (errno, count) in &tally.refused {
        let name = ErrorCode::from_number(*errno).map_or("unknown", ErrorCode::name);
        outcome.problems.push(format!("{count} messages were refused with {errno} ({name})"));
    }
    if tally.closed > 0 {
        let notices: Vec<String> = tally.notices.iter().map(|(code, count)| format!("{code} {count} times")).collect();
        let said = if notices.is_empty() { "nothing".to_owned() } else { notices.join(", ") };
        outcome.problems.push(format!("{} connections ended, the server said {said}", tally.closed));
    }
    outcome
}

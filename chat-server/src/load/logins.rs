//! Logins per second: connect, log in, close, again and again.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::arguments::{Common, Logins, Protocol, Way};
use super::outcome::Outcome;
use super::people::{Person, block_on, for_each, log_in, people};
use super::{Failure, process};

/// Users for each login in flight: the next one to log in as the same user is that far behind, so that logins do not
/// displace each other.
const USERS_PER_LOGIN: usize = 4;

/// Measures.
///
/// # Errors
///
/// When the users cannot be registered or logged in, or a server's process is not there.
pub fn run(common: &Common, task: &Logins) -> Result<Outcome, Failure> {
    if task.way == Way::Resume && common.protocol == Protocol::Original {
        return Err(Failure::new("the original protocol has no tokens"));
    }
    block_on(async {
        let people = people(common, task.in_flight as usize * USERS_PER_LOGIN).await?;
        let tokens = match task.way {
            Way::Password => Vec::new(),
            Way::Resume => {
                let login = |at: usize| {
                    let person = &people[at];
                    async move { Ok(log_in(common, at, person, Way::Password, "").await?.token) }
                };
                for_each(people.len(), common.prepare, login).await?
            }
        };
        measure(common, task, &people, tokens).await
    })
}

async fn measure(common: &Common, task: &Logins, people: &[Person], tokens: Vec<String>) -> Result<Outcome, Failure> {
    let histogram = Histogram::<u64>::new_with_bounds(1000, 600_000_000_000, 3);
    let times = RefCell::new(histogram.map_err(|error| Failure::of("a histogram", error))?);
    let tokens = RefCell::new(tokens);
    let (logins, failures) = (Cell::new(0_u64), Cell::new(0_u64));
    let last_failure = RefCell::new(None);
    let (server, own) = (process::cpu_s(&common.server_pids)?, process::own_cpu_s()?);
    let begin = Instant::now();
    let until = begin + task.duration;
    let workers = (0..task.in_flight as usize).map(|worker| {
        let (times, tokens, logins, failures, last_failure) = (&times, &tokens, &logins, &failures, &last_failure);
        async move {
            let mut round = 0;
            while Instant::now() < until {
                // Its own users, in turn.
                let at = worker + task.in_flight as usize * (round % USERS_PER_LOGIN);
                round += 1;
                let token = tokens.borrow().get(at).cloned().unwrap_or_default();
                let began = Instant::now();
                match log_in(common, at, &people[at], task.way, &token).await {
                    Ok(user) => {
                        logins.set(logins.get() + 1);
                        times.borrow_mut().saturating_record(began.elapsed().as_nanos() as u64);
                        if let Some(kept) = tokens.borrow_mut().get_mut(at) {
                            *kept = user.token;
                        }
                    }
                    Err(failure) => {
                        failures.set(failures.get() + 1);
                        *last_failure.borrow_mut() = Some(failure);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
        }
    });
    futures_util::future::join_all(workers).await;
    let seconds = begin.elapsed().as_secs_f64();
    let (server, own) = (process::cpu_s(&common.server_pids)? - server, process::own_cpu_s()? - own);

    let mut outcome = Outcome { question: "logins", ..Outcome::default() };
    outcome.settings = vec![
        ("protocol", common.protocol.name().to_owned()),
        ("way", if task.way == Way::Resume { "resume" } else { "password" }.to_owned()),
        ("in_flight", task.in_flight.to_string()),
        ("duration_s", task.duration.as_secs_f64().to_string()),
    ];
    let done = logins.get();
    outcome.add("logins", "1/s", done as f64 / seconds);
    outcome.add_latency(["login_p50", "login_p90", "login_p99", "login_p999", "login_max"], &times.borrow());
    if !common.server_pids.is_empty() {
        outcome.add("server_cpu", "us/login", server * 1e6 / done.max(1) as f64);
    }
    outcome.add("generator_cpu", "us/login", own * 1e6 / done.max(1) as f64);
    outcome.add("failed", "logins", failures.get() as f64);
    if let Some(failure) = last_failure.into_inner() {
        outcome.problems.push(format!("{} logins failed, the last one: {failure}", failures.get()));
    }
    Ok(outcome)
}

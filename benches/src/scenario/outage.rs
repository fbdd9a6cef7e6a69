//! The database goes for ten seconds under load, and comes back.
//!
//! Twenty clients share ten connections: acquire, query for 5 ms, give back, pause for 5 ms, and the same again whatever
//! came of it. When the database goes, all connections are dead and every connect is refused at once; when it is back,
//! connects take 5 ms. An acquire may take a second. What counts: how many connects a second the pool makes against a
//! database that is down, how soon its callers learn that, whether they learn why, and how long after the database's
//! return the first of them is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::door::{Door, VisitDoor};
use super::{ERRORS, Finding, Setting, Steps, Waits};
use crate::backend::Failure;
use crate::backend::remote::{Distance, GONE, Incident, LOST, Remote, RemoteConnection};
use crate::contender::AsRaw;
use crate::record::Metric;
use crate::tasks::AsyncPool;

/// The setting.
pub const SETTING: Setting = Setting {
    clients: 20,
    size: 10,
    is_filled: true,
    acquire_timeout: Duration::from_secs(1),
    max_lifetime: None,
    distance: Distance { connect: Duration::from_millis(5), query: Duration::from_millis(5) },
};

/// What a client does between two operations.
const PAUSE: Duration = Duration::from_millis(5);
/// How the course is cut.
const STEP: Duration = Duration::from_millis(100);
/// The longest that is waited for the first success.
const MOST_RECOVERY: Duration = Duration::from_secs(8);

/// From the database's return to the first success.
pub const RECOVERY_MS: Metric = Metric { name: "recovery", unit: "ms" };
/// From the database's return until nine tenths of the successes of before are reached in a step.
pub const FULL_RECOVERY_MS: Metric = Metric { name: "full_recovery", unit: "ms" };
/// Attempts to connect in a second while the database was gone.
pub const ATTEMPTS_PER_S: Metric = Metric { name: "attempts_while_gone", unit: "1/s" };
/// Acquires that failed and said what the database had said.
pub const TOLD: Metric = Metric { name: "errors_with_cause", unit: "operations" };
/// Acquires that failed and did not.
pub const UNTOLD: Metric = Metric { name: "errors_without_cause", unit: "operations" };
/// Queries that failed on a connection that had been handed out.
pub const FAILED_QUERIES: Metric = Metric { name: "failed_queries", unit: "operations" };
/// How long the acquires took that failed, in the median.
pub const FAILURE_P50: Metric = Metric { name: "failing_acquire_p50", unit: "ns" };
/// When the database went, from the start of the course.
pub const WENT_MS: Metric = Metric { name: "went", unit: "ms" };
/// When it came back.
pub const RETURNED_MS: Metric = Metric { name: "returned", unit: "ms" };
/// Operations that succeeded, over time.
pub const SUCCESSES: Metric = Metric { name: "successes", unit: "operations" };
/// Operations that failed, over time.
pub const FAILURES: Metric = Metric { name: "failures", unit: "operations" };
/// Attempts to connect, over time.
pub const ATTEMPTS: Metric = Metric { name: "attempts", unit: "connects" };

/// How long each part lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Before it goes.
    pub before: Duration,
    /// While it is gone.
    pub gone: Duration,
    /// After the first success.
    pub after: Duration,
}

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub struct Outage<'a> {
    /// The database.
    pub remote: &'a Remote,
    /// How many clients there are.
    pub clients: usize,
    /// The parts.
    pub times: Times,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Served,
    QueryFailed,
    Told,
    Untold,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    asked: Instant,
    ended: Instant,
    outcome: Outcome,
}

impl VisitDoor for Outage<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let Self { remote, clients, times } = self;
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = {
            let (own, pool, is_over) = (door.clone(), Arc::clone(&pool), Arc::clone(&is_over));
            door.start(clients, move |_| client(Arc::clone(&pool), own.clone(), Arc::clone(&is_over)))
        };
        // However long it takes them to begin.
        let started = Instant::now();
        while remote.uses() == 0 && started.elapsed() < MOST_RECOVERY {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(times.before);
        remote.set_gone(true);
        let went = Instant::now();
        thread::sleep(times.gone);
        let uses = remote.uses();
        remote.set_gone(false);
        let returned = Instant::now();
        while remote.uses() == uses && returned.elapsed() < MOST_RECOVERY {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(times.after);
        is_over.store(true, SeqCst);
        let (began, events) = clients.join()?;
        let events: Vec<Event> = events.into_iter().flatten().collect();
        let served = events.iter().filter(|event| event.outcome == Outcome::Served).count() as u64;
        if served != remote.uses() {
            let problem = format!("{served} operations succeeded, but {} queries were answered", remote.uses());
            return Err(Failure::new(problem));
        }
        let log = Log { events, began, went, returned, ended: Instant::now() };
        if !log.events.iter().any(|event| event.outcome == Outcome::Served && event.ended < went) {
            return Err(Failure::new("nothing succeeded before the database went"));
        }
        Ok(log.finding(remote))
    }
}

/// Everything that was seen.
struct Log {
    events: Vec<Event>,
    began: Instant,
    went: Instant,
    returned: Instant,
    ended: Instant,
}

impl Log {
    fn finding(&self, remote: &Remote) -> Finding {
        let Self { events, began, went, returned, ended } = self;
        let steps = Steps::between(*began, *ended, STEP);
        let moments = |is_wanted: fn(Outcome) -> bool| {
            events.iter().filter(move |event| is_wanted(event.outcome)).map(|event| event.ended)
        };
        let successes = steps.counts(moments(|outcome| outcome == Outcome::Served));
        let failures = steps.counts(moments(|outcome| outcome != Outcome::Served));
        let incidents = remote.incidents();
        let attempts = incidents.iter().filter(|(_, kind)| *kind == Incident::Attempt).map(|(at, _)| *at);
        let while_gone = attempts.clone().filter(|at| (*went..*returned).contains(at)).count();
        #[expect(clippy::cast_precision_loss)]
        let count = |outcome| events.iter().filter(|event| event.outcome == outcome).count() as f64;
        let failing = Waits::of(
            events
                .iter()
                .filter(|event| matches!(event.outcome, Outcome::Told | Outcome::Untold))
                .map(|event| event.ended - event.asked),
        );
        let (told, untold, lost) = (count(Outcome::Told), count(Outcome::Untold), count(Outcome::QueryFailed));
        #[expect(clippy::cast_precision_loss)]
        let mut metrics = vec![
            (ERRORS, told + untold + lost),
            (TOLD, told),
            (UNTOLD, untold),
            (FAILED_QUERIES, lost),
            (ATTEMPTS_PER_S, while_gone as f64 / (*returned - *went).as_secs_f64()),
        ];
        metrics.extend(
            [(WENT_MS, *went), (RETURNED_MS, *returned)]
                .map(|(metric, at)| (metric, (at - *began).as_secs_f64() * 1e3)),
        );
        metrics.extend(failing.percentile(50.0).map(|wait| (FAILURE_P50, wait)));
        let first = moments(|outcome| outcome == Outcome::Served).filter(|at| at >= returned).min();
        metrics.extend(first.map(|first| (RECOVERY_MS, (first - *returned).as_secs_f64() * 1e3)));
        metrics.extend(self.full_recovery(&steps, &successes).map(|time| (FULL_RECOVERY_MS, time.as_secs_f64() * 1e3)));
        let courses = vec![
            (SUCCESSES, steps.course(successes)),
            (FAILURES, steps.course(failures)),
            (ATTEMPTS, steps.course(steps.counts(attempts))),
        ];
        Finding { metrics, courses, ops: events.len() as u64 }
    }

    /// How long until a whole step has nine tenths of what a step had before.
    #[expect(clippy::cast_precision_loss)]
    fn full_recovery(&self, steps: &Steps, successes: &[f64]) -> Option<Duration> {
        // The first step has the start in it.
        let before = &successes[1.min(successes.len())..steps.place(self.went)?];
        let usual = before.iter().sum::<f64>() / before.len().max(1) as f64;
        let from = steps.place(self.returned)?;
        let place = (from..successes.len()).find(|place| successes[*place] >= 0.9 * usual)?;
        let end = steps.start + steps.step * u32::try_from(place + 1).ok()?;
        Some(end.saturating_duration_since(self.returned))
    }
}

async fn client<P: AsyncPool<RemoteConnection>>(
    pool: Arc<P>,
    door: Door,
    is_over: Arc<AtomicBool>,
) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    while !is_over.load(SeqCst) {
        let asked = Instant::now();
        let outcome = match pool.acquire().await {
            Ok(mut guard) => match door.query(guard.as_raw()).await {
                Ok(()) => Outcome::Served,
                Err(_) => Outcome::QueryFailed,
            },
            Err(failure) if failure.says(GONE) || failure.says(LOST) => Outcome::Told,
            Err(_) => Outcome::Untold,
        };
        events.push(Event { asked, ended: Instant::now(), outcome });
        door.pause(PAUSE).await;
    }
    Ok(events)
}

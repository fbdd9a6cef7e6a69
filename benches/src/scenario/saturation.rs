//! Four clients for each connection, for a minute.
//!
//! Sixteen clients on four connections, queries of 1 ms without a pause. The suites `saturation` and `latency` say how
//! pools do in a fraction of a second; here each second is looked at by itself, so that a pool that slows down, or that
//! forgets somebody now and then, is seen to do so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::{Door, VisitDoor};
use super::{Finding, Served, Setting, Steps, Waits};
use crate::backend::Failure;
use crate::backend::remote::{Distance, Remote, RemoteConnection};
use crate::contender::AsRaw;
use crate::record::{MAX, OPS_PER_S, P50, P99, P999, UNFAIRNESS};
use crate::tasks::AsyncPool;

/// The setting.
pub const SETTING: Setting = Setting {
    clients: 16,
    size: 4,
    is_filled: true,
    // Nobody gives up, however long the run: some pools serve some clients at its end only, and how long is the finding.
    acquire_timeout: Duration::from_secs(600),
    max_lifetime: None,
    distance: Distance { connect: Duration::from_millis(1), query: Duration::from_millis(1) },
};

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub struct Saturation<'a> {
    /// The database.
    pub remote: &'a Remote,
    /// How many clients there are.
    pub clients: usize,
    /// For how long.
    pub time: Duration,
    /// How the course is cut.
    pub step: Duration,
}

impl VisitDoor for Saturation<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let Self { remote, clients, time, step } = self;
        let clients = {
            let (own, pool) = (door.clone(), Arc::clone(&pool));
            door.start(clients, move |_| client(Arc::clone(&pool), own.clone(), time))
        };
        let (began, per_client) = clients.join()?;
        let elapsed = began.elapsed();
        let ops: u64 = per_client.iter().map(|served| served.len() as u64).sum();
        if ops != remote.uses() {
            return Err(Failure::new(format!("{ops} operations were answered {} times", remote.uses())));
        }
        let steps = Steps::between(began, began + time, step);
        let mut waits: Vec<Vec<Duration>> = vec![Vec::new(); steps.count];
        for served in per_client.iter().flatten() {
            if let Some(place) = steps.place(served.at) {
                waits[place].push(served.wait);
            }
        }
        let waits: Vec<(usize, Waits)> = waits.into_iter().map(|step| (step.len(), Waits::of(step))).collect();
        #[expect(clippy::cast_precision_loss)]
        let rates = waits.iter().map(|(count, _)| *count as f64 / step.as_secs_f64()).collect();
        let mut courses = vec![(OPS_PER_S, steps.course(rates))];
        for (metric, percent) in [(P50, 50.0), (P99, 99.0), (P999, 99.9), (MAX, 100.0)] {
            // A step in which nobody was served has no waits; it counts as one of its own length, the least it can be.
            let least = step.as_secs_f64() * 1e9;
            let values = waits.iter().map(|(_, waits)| waits.percentile(percent).unwrap_or(least)).collect();
            courses.push((metric, steps.course(values)));
        }
        let most = per_client.iter().map(Vec::len).max().unwrap_or(1);
        let least = per_client.iter().map(Vec::len).min().unwrap_or(1).max(1);
        #[expect(clippy::cast_precision_loss)]
        let mut metrics =
            vec![(OPS_PER_S, ops as f64 / elapsed.as_secs_f64()), (UNFAIRNESS, most as f64 / least as f64)];
        metrics.extend(Waits::of(per_client.iter().flatten().map(|served| served.wait)).quantiles());
        Ok(Finding { metrics, courses, ops })
    }
}

async fn client<P: AsyncPool<RemoteConnection>>(
    pool: Arc<P>,
    door: Door,
    time: Duration,
) -> Result<Vec<Served>, Failure> {
    let mut served = Vec::new();
    let deadline = Instant::now() + time;
    loop {
        let asked = Instant::now();
        if asked >= deadline {
            return Ok(served);
        }
        let mut guard = pool.acquire().await?;
        let wait = asked.elapsed();
        door.query(guard.as_raw()).await?;
        drop(guard);
        served.push(Served { at: Instant::now(), wait });
    }
}

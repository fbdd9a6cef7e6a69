//! Fifty clients at once on a pool that is empty and may have fifty connections.
//!
//! Connecting takes 150 ms and a query 2 ms, so the first few connections could serve everybody in the time that one more
//! connect takes; a pool that opens one for each client opens ten times what is needed, at the moment when the database
//! has most to do. Each client acquires once, queries once and gives back. The pools begin without connections
//! (`min_idle` 0 where there is such an option) and may have 50.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::door::{Door, VisitDoor};
use super::{Finding, Setting, Steps, Waits};
use crate::backend::Failure;
use crate::backend::remote::{Distance, Incident, Remote, RemoteConnection};
use crate::contender::AsRaw;
use crate::record::{Metric, WALL_MS};
use crate::tasks::AsyncPool;

/// The setting.
pub const SETTING: Setting = Setting {
    clients: 50,
    size: 50,
    is_filled: false,
    acquire_timeout: Duration::from_secs(10),
    max_lifetime: None,
    distance: Distance { connect: Duration::from_millis(150), query: Duration::from_millis(2) },
};

/// Connections opened when the last client had been served.
pub const OPENED_WHEN_SERVED: Metric = Metric { name: "opened_when_served", unit: "connections" };
/// Connections opened in all, also those that were under way when nobody wanted them any more.
pub const OPENED: Metric = Metric { name: "opened", unit: "connections" };
/// Connections open, over time.
pub const OPEN: Metric = Metric { name: "open", unit: "connections" };

/// How the course is cut.
const STEP: Duration = Duration::from_millis(10);
/// How long no connect may be under way until the pool is taken to have done. Pools that connect by a few threads begin
/// the next one at once.
const QUIET: Duration = Duration::from_millis(60);
/// The longest that is waited for that.
const MOST_QUIETING: Duration = Duration::from_secs(10);

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub struct Spike<'a> {
    /// The database.
    pub remote: &'a Remote,
    /// How many come.
    pub clients: usize,
    /// How long the pool is watched at least.
    pub watched: Duration,
}

impl VisitDoor for Spike<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let clients = {
            let (door, pool) = (door.clone(), Arc::clone(&pool));
            let own = door.clone();
            door.start(self.clients, move |_| once(Arc::clone(&pool), own.clone()))
        };
        let (began, spans) = clients.join()?;
        let ended = spans.iter().map(|span| span.ended).max().unwrap_or(began);
        self.wait_until_quiet(began)?;
        if self.remote.uses() != self.clients as u64 {
            return Err(Failure::new(format!("{} queries were answered, not {}", self.remote.uses(), self.clients)));
        }
        let incidents = self.remote.incidents();
        let steps = Steps::between(began, began + self.watched, STEP);
        #[expect(clippy::cast_precision_loss)]
        let opened = |until| self.remote.count(Incident::Opened, until) as f64;
        let mut metrics = vec![
            (OPENED, opened(Instant::now())),
            (OPENED_WHEN_SERVED, opened(ended)),
            (WALL_MS, (ended - began).as_secs_f64() * 1e3),
        ];
        metrics.extend(Waits::of(spans.iter().map(|span| span.had - span.asked)).quantiles());
        let courses = vec![(OPEN, steps.course(steps.open(&incidents)))];
        Ok(Finding { metrics, courses, ops: spans.len() as u64 })
    }
}

impl Spike<'_> {
    /// Until no connect has been under way for a while; a pool that asked for too many finishes them.
    fn wait_until_quiet(&self, began: Instant) -> Result<(), Failure> {
        let deadline = Instant::now() + MOST_QUIETING;
        let mut quiet_since = None;
        loop {
            let now = Instant::now();
            let ended = self.remote.count(Incident::Opened, now) + self.remote.count(Incident::Refused, now);
            if self.remote.count(Incident::Attempt, now) > ended {
                quiet_since = None;
            } else if now - *quiet_since.get_or_insert(now) >= QUIET && now >= began + self.watched {
                return Ok(());
            }
            if now > deadline {
                return Err(Failure::new(format!("connects were still under way {MOST_QUIETING:?} after the spike")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A client's moments.
#[derive(Debug, Clone, Copy)]
struct Span {
    asked: Instant,
    had: Instant,
    ended: Instant,
}

async fn once<P: AsyncPool<RemoteConnection>>(pool: Arc<P>, door: Door) -> Result<Span, Failure> {
    let asked = Instant::now();
    let mut guard = pool.acquire().await?;
    let had = Instant::now();
    door.query(guard.as_raw()).await?;
    drop(guard);
    Ok(Span { asked, had, ended: Instant::now() })
}

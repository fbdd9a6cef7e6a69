//! Connections that live for 200 ms, under load.
//!
//! Sixteen clients on eight connections, queries of 1 ms without a pause, a connect takes 5 ms. Each connection has to be
//! replaced five times a second while the clients go on. What counts: what that costs in throughput and in the tail, that
//! no connection grows much older than it may, and that there never are more than eight.
//!
//! deadpool has no lifetime; it gets one as its documentation shows, in `recycle`. bb8's reaper looks as often as the
//! lifetime ends. r2d2 looks every 30 s, which cannot be set, and fast_pool does not know ages: both are not here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::door::{Door, VisitDoor};
use super::{CONNECTS_PER_S, ERRORS, Finding, Served, Setting, Waits};
use crate::backend::Failure;
use crate::backend::remote::{Distance, Incident, Remote, RemoteConnection};
use crate::contender::AsRaw;
use crate::record::{Metric, OPS_PER_S};
use crate::tasks::AsyncPool;

/// The setting.
pub const SETTING: Setting = Setting {
    clients: 16,
    size: 8,
    is_filled: true,
    acquire_timeout: Duration::from_secs(5),
    max_lifetime: Some(Duration::from_millis(200)),
    distance: Distance { connect: Duration::from_millis(5), query: Duration::from_millis(1) },
};

/// The age of the oldest connection that was handed out.
pub const OLDEST_MS: Metric = Metric { name: "oldest_lent", unit: "ms" };

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub struct Churn<'a> {
    /// The database.
    pub remote: &'a Remote,
    /// How many clients there are.
    pub clients: usize,
    /// For how long.
    pub time: Duration,
}

/// What a client saw.
#[derive(Debug, Default)]
struct Seen {
    served: Vec<Served>,
    errors: u64,
    oldest: Duration,
}

impl VisitDoor for Churn<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let Self { remote, clients, time } = self;
        let clients = {
            let (own, pool) = (door.clone(), Arc::clone(&pool));
            door.start(clients, move |_| client(Arc::clone(&pool), own.clone(), time))
        };
        let (began, seen) = clients.join()?;
        let elapsed = began.elapsed().as_secs_f64();
        let opened = remote.incidents().iter().filter(|(at, kind)| *kind == Incident::Opened && *at >= began).count();
        let served: u64 = seen.iter().map(|seen| seen.served.len() as u64).sum();
        if served != remote.uses() {
            return Err(Failure::new(format!("{served} operations were answered {} times", remote.uses())));
        }
        let oldest = seen.iter().map(|seen| seen.oldest).max().unwrap_or_default();
        #[expect(clippy::cast_precision_loss)]
        let mut metrics = vec![
            (OPS_PER_S, served as f64 / elapsed),
            (CONNECTS_PER_S, opened as f64 / elapsed),
            (OLDEST_MS, oldest.as_secs_f64() * 1e3),
            (ERRORS, seen.iter().map(|seen| seen.errors).sum::<u64>() as f64),
        ];
        metrics.extend(Waits::of(seen.iter().flat_map(|seen| &seen.served).map(|served| served.wait)).quantiles());
        Ok(Finding { metrics, courses: Vec::new(), ops: served })
    }
}

async fn client<P: AsyncPool<RemoteConnection>>(pool: Arc<P>, door: Door, time: Duration) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let deadline = Instant::now() + time;
    loop {
        let asked = Instant::now();
        if asked >= deadline {
            return Ok(seen);
        }
        match pool.acquire().await {
            Ok(mut guard) => {
                let wait = asked.elapsed();
                seen.oldest = seen.oldest.max(guard.as_raw().opened_at().elapsed());
                door.query(guard.as_raw()).await?;
                drop(guard);
                seen.served.push(Served { at: Instant::now(), wait });
            }
            Err(_) => {
                seen.errors += 1;
                door.pause(Duration::from_millis(1)).await;
            }
        }
    }
}

//! Most acquires are dropped before they complete, as when the clients of a server go away.
//!
//! Eight tasks stay: acquire, query for 1 ms, give back, again. Around them sixty-four quit: each begins an acquire, polls
//! it once and up to three times more, drops it (or gives the connection back at once, if it got one), pauses for a
//! millisecond and begins another one. There are four connections. What counts: what those who stay still get, and that
//! afterwards all four connections can be had at the same time and a fifth cannot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::timeout;

use super::door::{Door, VisitDoor};
use super::{Finding, Served, Setting, Waits};
use crate::backend::Failure;
use crate::backend::remote::{Distance, Remote, RemoteConnection};
use crate::contender::AsRaw;
use crate::record::{Metric, OPS_PER_S};
use crate::tasks::AsyncPool;

/// The setting; the clients are those who stay.
pub const SETTING: Setting = Setting {
    clients: 8,
    size: 4,
    is_filled: true,
    acquire_timeout: Duration::from_secs(10),
    max_lifetime: None,
    distance: Distance { connect: Duration::from_millis(1), query: Duration::from_millis(1) },
};

/// How many quit.
pub const QUITTERS: usize = 64;
/// The longest that the check at the end waits for each connection.
const MOST_WAIT_AT_END: Duration = Duration::from_secs(2);

/// Operations per second of those who stay, when nobody quits around them.
pub const CALM_OPS_PER_S: Metric = Metric { name: "ops_without_storm", unit: "1/s" };
/// Acquires dropped before they completed, in a second.
pub const CANCELLED_PER_S: Metric = Metric { name: "cancelled", unit: "1/s" };
/// The part of the quitters' acquires that was dropped before it completed.
pub const CANCELLED_SHARE: Metric = Metric { name: "cancelled_share", unit: "ratio" };
/// Connections that could be held at the same time afterwards.
pub const USABLE: Metric = Metric { name: "usable_afterwards", unit: "connections" };
/// Connections beyond the limit that could be had on top of these.
pub const EXCESS: Metric = Metric { name: "excess_afterwards", unit: "connections" };

/// The scenario.
#[derive(Debug, Clone, Copy)]
pub struct Cancel<'a> {
    /// The database.
    pub remote: &'a Remote,
    /// How many stay.
    pub clients: usize,
    /// The most connections.
    pub size: usize,
    /// For how long, without the storm and within it.
    pub time: Duration,
}

/// What a task brings back.
#[derive(Debug)]
enum Seen {
    Stayed(Vec<Served>),
    Quit { cancelled: u64, served: u64 },
}

impl VisitDoor for Cancel<'_> {
    type Output = Finding;

    fn visit<P: AsyncPool<RemoteConnection>>(self, door: &Door, pool: Arc<P>) -> Result<Finding, Failure> {
        let Door::Tasks(runtime) = door else { return Err(Failure::new("threads cannot drop an acquire half-way")) };
        let calm = self.part(door, &pool, 0)?;
        let storm = self.part(door, &pool, QUITTERS)?;
        let (usable, excess) = runtime.block_on(take_all(&*pool, self.size))?;
        let answered = calm.ops + storm.ops + usable as u64;
        if answered != self.remote.uses() {
            return Err(Failure::new(format!("{answered} operations were answered {} times", self.remote.uses())));
        }
        #[expect(clippy::cast_precision_loss)]
        let mut metrics = vec![
            (OPS_PER_S, storm.ops as f64 / storm.seconds),
            (CALM_OPS_PER_S, calm.ops as f64 / calm.seconds),
            (CANCELLED_PER_S, storm.cancelled as f64 / storm.seconds),
            (CANCELLED_SHARE, storm.cancelled as f64 / (storm.cancelled + storm.given_back).max(1) as f64),
            (USABLE, usable as f64),
            (EXCESS, excess as f64),
        ];
        metrics.extend(storm.waits.quantiles());
        Ok(Finding { metrics, courses: Vec::new(), ops: calm.ops + storm.ops })
    }
}

/// A part of the run.
struct Part {
    ops: u64,
    cancelled: u64,
    given_back: u64,
    seconds: f64,
    waits: Waits,
}

impl Cancel<'_> {
    fn part<P: AsyncPool<RemoteConnection>>(
        &self,
        door: &Door,
        pool: &Arc<P>,
        quitters: usize,
    ) -> Result<Part, Failure> {
        let (stayers, time) = (self.clients, self.time);
        let tasks = {
            let (own, pool) = (door.clone(), Arc::clone(pool));
            door.start(stayers + quitters, move |number| {
                let (door, pool) = (own.clone(), Arc::clone(&pool));
                async move {
                    if number < stayers {
                        stay(&*pool, &door, time).await
                    } else {
                        quit(&*pool, &door, number, time).await
                    }
                }
            })
        };
        let (began, seen) = tasks.join()?;
        let seconds = began.elapsed().as_secs_f64();
        let mut part = Part { ops: 0, cancelled: 0, given_back: 0, seconds, waits: Waits::default() };
        let mut waits = Vec::new();
        for seen in seen {
            match seen {
                Seen::Stayed(served) => {
                    part.ops += served.len() as u64;
                    waits.extend(served.into_iter().map(|served| served.wait));
                }
                Seen::Quit { cancelled, served } => {
                    part.cancelled += cancelled;
                    part.given_back += served;
                }
            }
        }
        part.waits = Waits::of(waits);
        Ok(part)
    }
}

async fn stay<P: AsyncPool<RemoteConnection>>(pool: &P, door: &Door, time: Duration) -> Result<Seen, Failure> {
    let mut served = Vec::new();
    let deadline = Instant::now() + time;
    loop {
        let asked = Instant::now();
        if asked >= deadline {
            return Ok(Seen::Stayed(served));
        }
        let mut guard = pool.acquire().await?;
        let wait = asked.elapsed();
        door.query(guard.as_raw()).await?;
        drop(guard);
        served.push(Served { at: Instant::now(), wait });
    }
}

async fn quit<P: AsyncPool<RemoteConnection>>(
    pool: &P,
    door: &Door,
    number: usize,
    time: Duration,
) -> Result<Seen, Failure> {
    let (mut cancelled, mut served) = (0, 0);
    let deadline = Instant::now() + time;
    // Each quitter has a patience of its own, and it changes from one acquire to the next.
    let mut patience = number;
    while Instant::now() < deadline {
        patience = patience.wrapping_add(1);
        tokio::select! {
            biased;
            guard = pool.acquire() => {
                drop(guard?);
                served += 1;
            }
            () = turns(patience % 4) => cancelled += 1,
        }
        door.pause(Duration::from_millis(1)).await;
    }
    Ok(Seen::Quit { cancelled, served })
}

/// Lets others have their turn so many times.
async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Takes all connections that can be had at the same time, at most `size`, and uses each; then looks whether there is one
/// more.
async fn take_all<P: AsyncPool<RemoteConnection>>(pool: &P, size: usize) -> Result<(usize, usize), Failure> {
    let mut guards = Vec::new();
    while guards.len() < size {
        match timeout(MOST_WAIT_AT_END, pool.acquire()).await {
            Ok(guard) => guards.push(guard?),
            Err(_) => break,
        }
    }
    for guard in &mut guards {
        guard.as_raw().answer().map_err(|error| Failure::of("a connection after the storm", error))?;
    }
    // There is nothing to wait for: all that the pool may have is here.
    let excess = timeout(Duration::from_millis(20), pool.acquire()).await.is_ok_and(|guard| guard.is_ok());
    Ok((guards.len(), usize::from(excess && guards.len() == size)))
}

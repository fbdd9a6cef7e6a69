//! What pools know, for Prometheus: a collector for the `prometheus-client` crate (feature `metrics`).
//!
//! One [`PoolCollector`] shows any number of pools, told apart by their [names](crate::Builder::name). Everything is read
//! when the registry is encoded; between scrapes it costs nothing.
//!
//! Names follow OpenTelemetry's semantic conventions for database connection pools where these have one, written as
//! Prometheus does; the label `db_client_connection_pool_name` is on all of them.
//!
//! | metric | type | is |
//! |---|---|---|
//! | `db_client_connection_count` | gauge | connections by `db_client_connection_state`: `idle`, `used`, and (ours) `connecting`, `checking`, `closing` |
//! | `db_client_connection_max`, `db_client_connection_idle_min` | gauge | `max_size` and `min_idle` |
//! | `db_client_connection_pending_requests` | gauge | acquires that wait |
//! | `db_client_connection_paused`, `db_client_connection_breaker_open` | gauge | (ours) 0 or 1 |
//! | `db_client_connection_timeouts_total` | counter | acquires whose time ran out |
//! | `db_client_connection_wait_time_seconds` | histogram | waits of the acquires that were served |
//! | `db_client_connection_use_time_seconds` | histogram | loans |
//! | `db_client_connection_create_time_seconds` | histogram | attempts to connect |
//! | `db_client_connection_..._total` | counter | (ours) the other numbers of [`Counters`], by their names there |
//!
//! The histograms are there for pools that [keep them](crate::Builder::histograms), with buckets at 1, 2 and 5 times each
//! power of ten from 1 us to 100 s.
//!
//! ```
//! use pool::metrics::PoolCollector;
//! use prometheus_client::registry::Registry;
//! # use pool::{Manager, SlotsPool};
//! # struct Echo;
//! # impl Manager for Echo {
//! #     type Connection = u32;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<u32> { Ok(7) }
//! #     fn is_valid(&self, _: &mut u32) -> std::io::Result<()> { Ok(()) }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SlotsPool::builder().name("orders").histograms(true).build(Echo)?;
//! let collector = PoolCollector::new();
//! collector.add(&pool);
//! let mut registry = Registry::default();
//! registry.register_collector(Box::new(collector));
//!
//! drop(pool.get()?);
//! let mut text = String::new();
//! prometheus_client::encoding::text::encode(&mut text, &registry)?;
//! assert!(text.contains("db_client_connection_checkouts_total{db_client_connection_pool_name=\"orders\"} 1"));
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::core::Core;
use crate::idle::IdleSet;
use crate::{Counters, Histogram, Histograms, Manager, Pool, State};

const POOL: &str = "db_client_connection_pool_name";
const STATE: &str = "db_client_connection_state";

/// Shows pools to a [`prometheus_client::registry::Registry`]. Clones show the same pools, so one can be kept to
/// [`add`](Self::add) to after the other was registered.
///
/// It keeps no pool alive: a pool that is gone is no longer shown. Two pools of one name would make two series of one
/// name, which Prometheus refuses; name them.
#[derive(Clone, Default)]
pub struct PoolCollector {
    pools: Arc<Mutex<Vec<Weak<dyn Source>>>>,
}

impl PoolCollector {
    /// A collector that shows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `pool`, too, from now on.
    pub fn add<M: Manager, I: IdleSet>(&self, pool: &Pool<M, I>) {
        let source: Weak<Core<M, I>> = Arc::downgrade(pool.core());
        self.pools.lock().push(source);
    }

    fn readings(&self) -> Vec<Reading> {
        let sources: Vec<_> = {
            let mut pools = self.pools.lock();
            pools.retain(|pool| pool.strong_count() > 0);
            pools.iter().filter_map(Weak::upgrade).collect()
        };
        sources.iter().map(|source| source.read()).collect()
    }
}

impl fmt::Debug for PoolCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.readings().into_iter().map(|reading| reading.name).collect();
        f.debug_tuple("PoolCollector").field(&names).finish()
    }
}

/// A pool of any type.
trait Source: Send + Sync {
    fn read(&self) -> Reading;
}

/// What one pool says at one scrape.
struct Reading {
    name: String,
    min_idle: usize,
    state: State,
    counters: Counters,
    histograms: Option<Histograms>,
}

impl<M: Manager, I: IdleSet> Source for Core<M, I> {
    fn read(&self) -> Reading {
        Reading {
            name: self.config.name.clone(),
            min_idle: self.config.min_idle,
            state: self.state(),
            counters: self.counters(),
            histograms: self.histograms(),
        }
    }
}

type Count = fn(&Counters) -> u64;

/// Name, help, value. The names are those of the fields, but for the one that has a name in the conventions.
const COUNTS: [(&str, &str, Count); 25] = [
    ("timeouts", "Acquires whose time ran out", |counters| counters.timeouts),
    ("checkouts", "Connections handed to callers", |counters| counters.checkouts),
    ("waits", "Acquires that found nothing at once and stood in line", |counters| counters.waits),
    ("handoffs", "Connections handed straight to a waiter", |counters| counters.handoffs),
    ("failures", "Acquires that ended without a connection", |counters| counters.failures),
    ("cancelled", "Acquires that were dropped while they waited", |counters| counters.cancelled),
    ("slow_acquires", "Acquires that were served later than slow_acquire", |counters| counters.slow_acquires),
    ("connects", "Connections opened", |counters| counters.connects),
    ("connect_failures", "Attempts to connect that failed", |counters| counters.connect_failures),
    ("validations", "Validations", |counters| counters.validations),
    ("validation_failures", "Validations that failed", |counters| counters.validation_failures),
    ("resets", "Resets", |counters| counters.resets),
    ("reset_failures", "Resets that failed", |counters| counters.reset_failures),
    ("hook_failures", "Calls of on_acquire and on_checkin that failed", |counters| counters.hook_failures),
    ("closes", "Connections closed", |counters| counters.closes),
    ("detached", "Connections taken out of the pool by their holders", |counters| counters.detached),
    ("broken", "Connections given up as broken", |counters| counters.broken),
    ("idle_timeouts", "Connections given up after idle_timeout", |counters| counters.idle_timeouts),
    ("lifetime_ends", "Connections given up after max_lifetime", |counters| counters.lifetime_ends),
    ("purged", "Connections given up because of a purge", |counters| counters.purged),
    ("surplus", "Connections given up because the pool was made smaller", |counters| counters.surplus),
    ("added", "Connections taken in that were opened elsewhere", |counters| counters.added),
    ("breaker_openings", "Times that the breaker opened", |counters| counters.breaker_openings),
    ("pauses", "Times that the pool was paused", |counters| counters.pauses),
    ("long_loans", "Loans that lasted longer than leak_after", |counters| counters.long_loans),
];

type Level = fn(&Reading) -> usize;

const LEVELS: [(&str, &str, Level); 5] = [
    ("max", "The most connections the pool may have", |reading| reading.state.max_size),
    ("idle_min", "Connections the pool keeps ready", |reading| reading.min_idle),
    ("pending_requests", "Acquires that wait for a connection", |reading| reading.state.waiters),
    ("paused", "1 while the pool is paused", |reading| usize::from(reading.state.is_paused)),
    ("breaker_open", "1 while callers are turned away", |reading| usize::from(reading.state.is_breaker_open)),
];

type Share = fn(&State) -> usize;

const STATES: [(&str, Share); 5] = [
    ("idle", |state| state.idle),
    ("used", |state| state.lent),
    ("connecting", |state| state.connecting),
    ("checking", |state| state.checking),
    ("closing", |state| state.closing),
];

type Times = fn(&Histograms) -> &Histogram;

const TIMES: [(&str, &str, Times); 3] = [
    ("wait_time", "Time that callers who were served had to wait", |histograms| &histograms.wait),
    ("use_time", "Time between a connection's checkout and its checkin", |histograms| &histograms.hold),
    ("create_time", "Time that attempts to connect took", |histograms| &histograms.connect),
];

fn full_name(name: &str) -> String {
    format!("db_client_connection_{name}")
}

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let readings = self.readings();
        if readings.is_empty() {
            return Ok(());
        }
        let name = full_name("count");
        let mut metric = encoder.encode_descriptor(&name, "Connections by state", None, MetricType::Gauge)?;
        for reading in &readings {
            for (state, count) in STATES {
                let labels = [(POOL, reading.name.as_str()), (STATE, state)];
                metric.encode_family(&labels)?.encode_gauge(&count(&reading.state))?;
            }
        }
        for (name, help, level) in LEVELS {
            let name = full_name(name);
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
            for reading in &readings {
                metric.encode_family(&[(POOL, reading.name.as_str())])?.encode_gauge(&level(reading))?;
            }
        }
        for (name, help, count) in COUNTS {
            let name = full_name(name);
            let mut metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for reading in &readings {
                let labels = [(POOL, reading.name.as_str())];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count(&reading.counters), None)?;
            }
        }
        for (name, help, times) in TIMES {
            let recorded = || readings.iter().filter_map(|reading| Some((reading, reading.histograms.as_ref()?)));
            if recorded().next().is_none() {
                continue;
            }
            let name = full_name(name);
            let mut metric = encoder.encode_descriptor(&name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            for (reading, histograms) in recorded() {
                let times = times(histograms);
                let (sum, count, buckets) = (times.sum().as_secs_f64(), times.count(), times.coarse_buckets());
                let labels = [(POOL, reading.name.as_str())];
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

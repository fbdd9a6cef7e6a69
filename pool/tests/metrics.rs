//! What a Prometheus server is told.
#![cfg(feature = "metrics")]

use std::io;
use std::time::Duration;

use pool::metrics::PoolCollector;
use pool::{LockFreePool, Manager, SlotsPool};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Connects to nothing.
struct Numbers;

impl Manager for Numbers {
    type Connection = u32;
    type Error = io::Error;

    fn connect(&self) -> io::Result<u32> {
        Ok(7)
    }

    fn is_valid(&self, _: &mut u32) -> io::Result<()> {
        Ok(())
    }
}

/// A collector, and the registry it is registered with.
fn registered() -> (PoolCollector, Registry) {
    let collector = PoolCollector::new();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector.clone()));
    (collector, registry)
}

fn scraped(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("text is always written");
    text
}

/// The value of the series that has this name and labels.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = values.next().unwrap_or_else(|| panic!("no {series} in\n{text}"));
    assert_eq!(values.next(), None, "{series} is there twice");
    value.parse().expect("a number")
}

const ORDERS: &str = "db_client_connection_pool_name=\"orders\"";

#[test]
fn a_scrape_shows_state_counters_and_times() {
    let pool = SlotsPool::builder()
        .name("orders")
        .max_size(3)
        .min_idle(2)
        .idle_timeout(None)
        .histograms(true)
        .build(Numbers)
        .unwrap();
    let (collector, registry) = registered();
    collector.add(&pool);
    drop(pool.get().unwrap());
    let guard = pool.get().unwrap();
    let _ = pool.get().unwrap().detach();
    let others = (pool.get().unwrap(), pool.get().unwrap());
    pool.try_get().expect_err("all are out");
    drop(others.0);
    pool.pause();
    let text = scraped(&registry);
    let state = |state: &str| {
        value(&text, &format!("db_client_connection_count{{{ORDERS},db_client_connection_state=\"{state}\"}}"))
    };
    assert_eq!((state("idle"), state("used"), state("connecting")), (1.0, 2.0, 0.0), "{text}");
    assert_eq!((state("checking"), state("closing")), (0.0, 0.0), "{text}");
    let of_pool = |name: &str| value(&text, &format!("db_client_connection_{name}{{{ORDERS}}}"));
    assert_eq!((of_pool("paused"), of_pool("breaker_open")), (1.0, 0.0), "{text}");
    assert_eq!((of_pool("max"), of_pool("idle_min"), of_pool("pending_requests")), (3.0, 2.0, 0.0), "{text}");
    let counters = pool.counters();
    for (name, expected) in [
        ("timeouts", 1),
        ("failures", 1),
        ("checkouts", 5),
        ("detached", 1),
        ("connects", counters.connects),
        ("waits", counters.waits),
        ("handoffs", counters.handoffs),
        ("cancelled", 0),
        ("slow_acquires", 0),
        ("connect_failures", 0),
        ("validations", 0),
        ("validation_failures", 0),
        ("resets", 0),
        ("reset_failures", 0),
        ("hook_failures", 0),
        ("closes", 0),
        ("broken", 0),
        ("idle_timeouts", 0),
        ("lifetime_ends", 0),
        ("long_loans", 0),
        ("purged", 0),
        ("surplus", 0),
        ("added", 0),
        ("breaker_openings", 0),
        ("pauses", 1),
    ] {
        assert_eq!(of_pool(&format!("{name}_total")), expected as f64, "{name} in\n{text}");
        assert!(text.contains(&format!("# TYPE db_client_connection_{name} counter\n")), "{name}");
    }
    for (name, count) in [("wait_time", 5), ("use_time", 3), ("create_time", counters.connects)] {
        assert_eq!(of_pool(&format!("{name}_seconds_count")), count as f64, "{text}");
        assert!(of_pool(&format!("{name}_seconds_sum")) < 60.0);
        let bucket = |bound: &str| {
            value(&text, &format!("db_client_connection_{name}_seconds_bucket{{le=\"{bound}\",{ORDERS}}}"))
        };
        // Cumulative, and nothing is lost on the way.
        assert!(bucket("0.001") <= bucket("0.5") && bucket("0.5") <= bucket("100.0"), "{text}");
        assert_eq!(bucket("+Inf"), count as f64);
        assert!(text.contains(&format!("# UNIT db_client_connection_{name}_seconds seconds\n")), "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    drop((guard, others.1));
}

#[test]
fn a_scrape_shows_what_an_operator_does() {
    let pool = SlotsPool::builder().name("orders").capacity(4).max_size(2).build(Numbers).unwrap();
    let (collector, registry) = registered();
    collector.add(&pool);
    pool.add(8).unwrap();
    pool.add(9).unwrap();
    pool.resize(1).unwrap();
    pool.purge();
    let text = scraped(&registry);
    let of_pool = |name: &str| value(&text, &format!("db_client_connection_{name}{{{ORDERS}}}"));
    assert_eq!((of_pool("max"), of_pool("added_total"), of_pool("connects_total")), (1.0, 2.0, 0.0), "{text}");
    assert_eq!((of_pool("surplus_total"), of_pool("purged_total")), (1.0, 1.0), "{text}");
}

#[test]
fn every_counter_has_a_series() {
    let pool = SlotsPool::builder().name("orders").build(Numbers).unwrap();
    let (collector, registry) = registered();
    collector.add(&pool);
    let text = scraped(&registry);
    let debug = format!("{:?}", pool.counters());
    let fields = debug.trim_start_matches("Counters { ").trim_end_matches(" }").split(", ");
    let names: Vec<_> = fields.map(|field| field.split(':').next().expect("a name")).collect();
    assert!(names.len() >= 20, "{names:?}");
    for name in names {
        assert_eq!(value(&text, &format!("db_client_connection_{name}_total{{{ORDERS}}}")), 0.0);
    }
}

#[test]
fn pools_of_any_type_share_a_collector() {
    let first = SlotsPool::builder().name("orders").histograms(true).build(Numbers).unwrap();
    let second = LockFreePool::builder().name("a \"quoted\" name").build(Numbers).unwrap();
    let (collector, registry) = registered();
    assert_eq!(scraped(&registry), "# EOF\n");
    collector.add(&first);
    collector.add(&second);
    drop(first.get().unwrap());
    let text = scraped(&registry);
    assert_eq!(value(&text, &format!("db_client_connection_checkouts_total{{{ORDERS}}}")), 1.0);
    let quoted = "db_client_connection_pool_name=\"a \\\"quoted\\\" name\"";
    assert_eq!(value(&text, &format!("db_client_connection_checkouts_total{{{quoted}}}")), 0.0);
    // Described once, however many pools there are; and times only for those that keep them.
    assert_eq!(text.matches("# TYPE db_client_connection_count gauge").count(), 1);
    assert!(!text.contains(&format!("wait_time_seconds_count{{{quoted}}}")), "{text}");
    assert!(format!("{collector:?}").contains("orders"));
}

#[test]
fn a_collector_keeps_no_pool_alive() {
    let (collector, registry) = registered();
    let pool = SlotsPool::builder().name("orders").min_idle(1).build(Numbers).unwrap();
    collector.add(&pool);
    assert!(scraped(&registry).contains("orders"));
    drop(pool);
    let since = std::time::Instant::now();
    // Its threads end in their own time.
    while scraped(&registry).contains("orders") {
        assert!(since.elapsed() < Duration::from_secs(10), "the pool is still there");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(scraped(&registry), "# EOF\n");
}

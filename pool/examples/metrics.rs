//! A pool that a Prometheus server can scrape: some threads share a SQLite database, and what the pool has to say
//! about it is printed.
//!
//! ```text
//! cargo run -p pool --features sqlite,metrics --example metrics
//! ```

use std::error::Error;
use std::thread;
use std::time::Duration;

use pool::managers::sqlite::SqliteManager;
use pool::metrics::PoolCollector;
use pool::{Event, SlotsPool};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = SlotsPool::<SqliteManager>::builder()
        .name("orders")
        .max_size(2)
        .histograms(true)
        // Each of these says where the connection was borrowed.
        .record_loans(true)
        .leak_after(Duration::from_secs(30))
        .slow_acquire(Duration::from_millis(500))
        .on_connect(|connection| connection.execute_batch("PRAGMA temp_store = memory"))
        .observe(|event| {
            if let Event::Closed { connection, reason, age } = event {
                println!("connection {connection} was closed after {age:.0?}: {reason}");
            }
        })
        .build(SqliteManager::memory()?)?;

    let collector = PoolCollector::new();
    collector.add(&pool);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector));

    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let connection = pool.get().expect("SQLite answers within 30 seconds");
                    let one: i64 =
                        connection.query_row("SELECT 1", (), |row| row.get(0)).expect("SQLite counts to one");
                    assert_eq!(one, 1);
                }
            });
        }
    });

    // A service would answer `GET /metrics` with this.
    let mut text = String::new();
    encode(&mut text, &registry)?;
    print!("{text}");

    let times = pool.histograms().ok_or("the histograms were asked for")?;
    if let (Some(median), Some(worst)) = (times.hold.quantile(0.5), times.hold.quantile(0.99)) {
        println!("half of the loans were shorter than {median:?}, one in a hundred longer than {worst:?}");
    }
    pool.close(Duration::from_secs(5))?;
    Ok(())
}

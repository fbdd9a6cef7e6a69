//! What an operator reads in the log.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use pool::{Manager, Pool, SlotsPool};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// One event or span: its level, its name or message, and its fields.
#[derive(Debug, Clone)]
struct Line {
    level: Level,
    text: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.text = format!("{value:?}"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}

/// Keeps everything. There is one for the whole program, since a pool has threads of its own; the pools' names tell the
/// tests apart.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    fn get() -> &'static Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            tracing::subscriber::set_global_default(log.clone()).expect("nobody else logs here");
            log
        })
    }

    fn push(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
        let mut line = Line { level: *metadata.level(), text: metadata.name().to_owned(), fields: Vec::new() };
        record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    /// The lines of a pool that begin like this, as soon as there are so many.
    #[track_caller]
    fn wait_for(&self, pool: &str, text: &str, count: usize) -> Vec<Line> {
        let since = Instant::now();
        loop {
            let lines: Vec<_> = self.0.lock().unwrap().iter().filter(|line| is_of(line, pool, text)).cloned().collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{} of {count} times {text:?}", lines.len());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn is_of(line: &Line, pool: &str, text: &str) -> bool {
    line.text.starts_with(text) && line.field("db.client.connection.pool.name") == Some(pool)
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pool")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.push(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.push(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Opens every second time.
#[derive(Default)]
struct Moody(AtomicUsize);

impl Manager for Moody {
    type Connection = u32;
    type Error = io::Error;

    fn connect(&self) -> io::Result<u32> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(io::Error::other("not in the mood")),
            _ => Ok(7),
        }
    }

    fn is_valid(&self, _: &mut u32) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> pool::Builder<Moody, pool::idle::Slots> {
    SlotsPool::builder().max_size(1).connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
}

#[test]
fn connecting_is_a_span_and_its_failure_a_warning() {
    let log = Log::get();
    let pool = options().name("moody").build(Moody::default()).unwrap();
    drop(pool.get().unwrap());
    assert_eq!(log.wait_for("moody", "connect", 2).iter().filter(|line| line.text == "connect").count(), 2);
    let warning = &log.wait_for("moody", "could not connect", 1)[0];
    assert_eq!(warning.level, Level::WARN);
    assert_eq!(warning.field("error"), Some("not in the mood"));
    assert_eq!(log.wait_for("moody", "connected", 1)[0].level, Level::DEBUG);
}

#[test]
fn a_long_loan_is_a_warning_with_its_place() {
    let log = Log::get();
    let pool: Pool<_> = options()
        .name("leaky")
        .record_loans(true)
        .leak_after(Duration::from_millis(20))
        .build(Moody::default())
        .unwrap();
    let (_guard, line) = (pool.get().unwrap(), line!());
    let warning = &log.wait_for("leaky", "a long loan: connection 1, out for ", 1)[0];
    assert_eq!(warning.level, Level::WARN);
    assert!(warning.field("site").is_some_and(|site| site.starts_with(&format!("{}:{line}:", file!()))), "{warning:?}");
    assert!(warning.field("held_for").is_some(), "{warning:?}");
}

#[test]
fn a_slow_acquire_is_a_warning_with_its_place() {
    let log = Log::get();
    let slow = Duration::from_millis(5);
    let pool: Pool<_> = options().name("slow").slow_acquire(slow).build(Moody::default()).unwrap();
    let guard = pool.get().unwrap();
    let waiter = {
        let pool = pool.clone();
        thread::spawn(move || {
            let (guard, line) = (pool.get().map(drop), line!());
            guard.map(|()| line)
        })
    };
    while pool.state().waiters == 0 {
        thread::yield_now();
    }
    thread::sleep(2 * slow);
    drop(guard);
    let line = waiter.join().unwrap().unwrap();
    let lines = log.wait_for("slow", "a slow acquire", 1);
    let place = format!("{}:{line}:", file!());
    let warning = lines.iter().find(|line| line.field("site").is_some_and(|site| site.starts_with(&place)));
    let warning = warning.unwrap_or_else(|| panic!("nothing from {place} in {lines:?}"));
    assert_eq!(warning.level, Level::WARN);
    let waited: f64 = warning.field("db.client.connection.wait_time").unwrap().parse().unwrap();
    assert!(waited >= slow.as_secs_f64() && warning.field("state").is_some(), "{warning:?}");
}

#[test]
fn a_panicking_hook_is_a_warning() {
    let log = Log::get();
    let pool = options()
        .name("careless")
        .on_checkin(|_| std::panic::resume_unwind(Box::new("no time")))
        .on_release(|_| std::panic::resume_unwind(Box::new("no goodbye")))
        .observe(|_| std::panic::resume_unwind(Box::new("no interest")))
        .build(Moody::default())
        .unwrap();
    drop(pool.get().unwrap());
    let warning = &log.wait_for("careless", "a connection is given up", 1)[0];
    assert_eq!((warning.level, warning.field("error")), (Level::WARN, Some("on_checkin panicked: no time")));
    let warning = &log.wait_for("careless", "on_release panicked", 1)[0];
    assert_eq!((warning.level, warning.field("panic")), (Level::WARN, Some("\"no goodbye\"")));
    let warning = &log.wait_for("careless", "the observer panicked", 1)[0];
    assert_eq!((warning.level, warning.field("panic")), (Level::WARN, Some("\"no interest\"")));
}

#[test]
fn a_breaker_and_a_pause_are_told() {
    let log = Log::get();
    let pool = options().name("fragile").fail_fast_after(Duration::ZERO).build(Moody::default()).unwrap();
    drop(pool.get());
    let warning = &log.wait_for("fragile", "the breaker opens", 1)[0];
    assert_eq!((warning.level, warning.field("error")), (Level::WARN, Some("not in the mood")));
    assert!(warning.field("failing_for").is_some(), "{warning:?}");
    let end = &log.wait_for("fragile", "the breaker closes", 1)[0];
    assert!(end.level == Level::INFO && end.field("open_for").is_some(), "{end:?}");
    pool.pause();
    pool.resume();
    assert_eq!(log.wait_for("fragile", "paused", 1)[0].level, Level::INFO);
    assert_eq!(log.wait_for("fragile", "resumed", 1)[0].level, Level::INFO);
}

/// Whoever prints it panics.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("it cannot be said");
    }
}

impl std::error::Error for Unspeakable {}

/// Fails at first, in both ways.
#[derive(Default)]
struct Silent {
    connects: AtomicUsize,
    validations: AtomicUsize,
}

fn fails_twice(calls: &AtomicUsize) -> Result<u32, Unspeakable> {
    if calls.fetch_add(1, Ordering::Relaxed) < 2 { Err(Unspeakable) } else { Ok(7) }
}

impl Manager for Silent {
    type Connection = u32;
    type Error = Unspeakable;

    fn connect(&self) -> Result<u32, Unspeakable> {
        fails_twice(&self.connects)
    }

    fn is_valid(&self, _: &mut u32) -> Result<(), Unspeakable> {
        fails_twice(&self.validations).map(drop)
    }
}

#[test]
fn an_error_that_cannot_be_logged_costs_no_slot() {
    let log = Log::get();
    let pool = SlotsPool::builder()
        .name("unspeakable")
        .max_size(1)
        .validate_after_idle(Duration::ZERO)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build_unchecked(Silent::default())
        .unwrap();
    loop {
        assert_eq!(*pool.get().expect("it connects in the end"), 7);
        let counters = pool.counters();
        if counters.connect_failures == 2 && counters.validation_failures == 2 {
            break;
        }
    }
    log.wait_for("unspeakable", "connected", 2);
}

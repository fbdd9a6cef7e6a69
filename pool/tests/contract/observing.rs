//! What a pool can tell about itself: counts, loans, times.

use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pool::{AcquireError, Event, IdleSet, Loan};

use super::database::{Behaviour, Call, Database};
use super::support::{TestPool, acquiring, blocked, eventually, options, settled};
use super::tasks::Task;

for_every_kind!(
    an_exhausted_pool_says_who_has_what_and_where_from,
    an_exhausted_pool_knows_how_long_loans_last_without_recording,
    a_loan_is_not_mistaken_for_an_earlier_one,
    a_loan_begins_when_the_connection_is_handed_over,
    loans_are_listed_oldest_first,
    a_leak_is_reported_once_with_its_place,
    a_leak_is_noticed_without_recording,
    a_short_loan_is_no_leak,
    a_slow_acquire_is_reported,
    histograms_have_every_wait_loan_and_connect,
    what_was_not_asked_for_is_not_kept,
    counters_count_what_happened,
);

/// A time in which an upkeep thread that beats as often as it can has beaten.
const BEATS: Duration = Duration::from_millis(30);

/// Options under which the upkeep thread beats often, and nothing else happens.
fn beating<I: IdleSet>() -> pool::Builder<Database, I> {
    options().max_lifetime(None).idle_timeout(None).validate_after_idle(Duration::from_millis(50))
}

fn is_here(site: &Location<'_>, line: u32) -> bool {
    site.file() == file!() && site.line() == line
}

fn oldest_of<I: IdleSet>(pool: &TestPool<I>) -> (Loan, String) {
    let error = pool.try_get().expect_err("everything is out");
    let text = error.to_string();
    let AcquireError::Exhausted { oldest_loan, .. } = error else { panic!("{error}") };
    (*oldest_loan.unwrap_or_else(|| panic!("no loan is known to have lasted: {text}")), text)
}

// 16
fn an_exhausted_pool_says_who_has_what_and_where_from<I: IdleSet>() {
    let pool = options::<I>().max_size(2).record_loans(true).build(Database::new()).unwrap();
    let (first, line) = (pool.get().unwrap(), line!());
    let since = Instant::now();
    let _second = pool.get().unwrap();
    thread::sleep(Duration::from_millis(2));
    let held_at_least = since.elapsed();
    let (loan, text) = oldest_of(&pool);
    assert!(loan.held_for >= held_at_least && loan.connection.is_some(), "{loan:?}");
    assert!(loan.site.is_some_and(|site| is_here(site, line)), "{loan:?}");
    assert!(text.contains(&format!("borrowed at {}:{line}", file!())) && text.contains("2 lent"), "{text}");
    drop(first);
    // Every way to borrow is known by its caller.
    let borrowed_on = |line: u32| {
        let loans = pool.loans();
        assert!(
            loans.len() == 2 && loans[1].site.is_some_and(|site| is_here(site, line)),
            "line {line} of {}: {loans:?}",
            file!()
        );
    };
    let (guard, line) = (pool.get_owned().unwrap(), line!());
    borrowed_on(line);
    drop(guard);
    let (guard, line) = (pool.try_get().unwrap(), line!());
    borrowed_on(line);
    drop(guard);
    let (guard, line) = (pool.get_timeout(Duration::from_secs(1)).unwrap(), line!());
    borrowed_on(line);
    let (mut task, line) = (Task::waiting(pool.get_async()), line!());
    drop(guard);
    let guard = task.finish().unwrap();
    borrowed_on(line);
    drop(guard);
    let (guard, line) = (Task::new(pool.get_owned_async()).finish().unwrap(), line!());
    borrowed_on(line);
    drop(guard);
    assert_eq!(pool.loans().len(), 1);
}

// 16
fn an_exhausted_pool_knows_how_long_loans_last_without_recording<I: IdleSet>() {
    let pool = beating::<I>().max_size(1).build(Database::new()).unwrap();
    let since = Instant::now();
    let _guard = pool.get().unwrap();
    let error = pool.get_timeout(BEATS).expect_err("it is out");
    assert!(matches!(error, AcquireError::Exhausted { .. }), "{error}");
    eventually("the loan is noticed", || pool.loans()[0].held_for >= BEATS);
    let (loan, text) = oldest_of(&pool);
    assert!(loan.held_for >= BEATS && loan.held_for <= since.elapsed(), "{loan:?}");
    assert_eq!((loan.site, loan.connection), (None, None));
    assert!(text.contains("; the oldest loan is the connection in slot 0, out for at least "), "{text}");
}

fn a_loan_is_not_mistaken_for_an_earlier_one<I: IdleSet>() {
    let database = Database::new();
    let hook = database.hook(Call::OnAcquire);
    let pool = beating::<I>().max_size(1).on_acquire(hook).build(database.clone()).unwrap();
    let guard = pool.get().unwrap();
    eventually("the loan is noticed", || pool.loans()[0].held_for >= BEATS);
    drop(guard);
    // A connection on its way to somebody is not still with its last holder. In this time the upkeep thread beats sixty
    // times; it has to see once that nobody has it.
    thread::sleep(Duration::from_millis(300));
    database.on(Call::OnAcquire, Behaviour::Hangs);
    let since = Instant::now();
    let waiter = acquiring(&pool);
    database.wait_until_inside(Call::OnAcquire, 1);
    let loans = pool.loans();
    assert!(loans.iter().all(|loan| loan.held_for <= since.elapsed()), "{loans:?}");
    database.on(Call::OnAcquire, Behaviour::Works);
    drop(waiter.join().unwrap().unwrap());
    for _ in 0..20 {
        let since = Instant::now();
        let _guard = pool.get().unwrap();
        // A beat may come at any point of this loan, and between loans.
        thread::sleep(Duration::from_millis(1));
        let loan = pool.loans()[0];
        assert!(loan.held_for <= since.elapsed(), "{loan:?}");
    }
}

fn a_loan_begins_when_the_connection_is_handed_over<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(1)
        .record_loans(true)
        .on_acquire(database.hook(Call::OnAcquire))
        .build(database.clone())
        .unwrap();
    drop(pool.get().unwrap());
    database.on(Call::OnAcquire, Behaviour::Hangs);
    let waiter = acquiring(&pool);
    database.wait_until_inside(Call::OnAcquire, 1);
    // It is on its way to somebody; the last holder has nothing to do with it any more.
    assert_eq!((pool.state().lent, pool.loans()), (1, vec![]));
    database.on(Call::OnAcquire, Behaviour::Works);
    let guard = waiter.join().unwrap().unwrap();
    assert_eq!(pool.loans().len(), 1);
    drop(guard);
}

fn loans_are_listed_oldest_first<I: IdleSet>() {
    let pool = options::<I>().max_size(3).record_loans(true).build(Database::new()).unwrap();
    assert_eq!(pool.loans(), []);
    let guards: Vec<_> = (0..3)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            pool.get().unwrap()
        })
        .collect();
    let loans = pool.loans();
    // The database counts connections as the pool does, when they are opened one by one.
    let listed: Vec<_> = loans.iter().filter_map(|loan| loan.connection).collect();
    assert_eq!(listed, guards.iter().map(|guard| guard.id).collect::<Vec<_>>());
    assert!(loans.is_sorted_by(|older, younger| older.held_for > younger.held_for), "{loans:?}");
    let mut slots: Vec<_> = loans.iter().map(|loan| loan.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [0, 1, 2]);
    let [first, second, third] = guards.try_into().expect("three guards");
    drop(second);
    assert_eq!(pool.loans().len(), 2);
    drop((first.detach(), third));
    assert_eq!(pool.loans(), []);
}

/// Options that keep the loans that were reported as long.
fn reporting<I: IdleSet>(after: Duration) -> (pool::Builder<Database, I>, Arc<Mutex<Vec<Loan>>>) {
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let options = options().max_size(1).leak_after(after).observe(move |event| {
        if let Event::LongLoan { loan } = event {
            log.lock().unwrap().push(**loan);
        }
    });
    (options, reported)
}

fn a_leak_is_reported_once_with_its_place<I: IdleSet>() {
    let after = Duration::from_millis(40);
    let (options, reported) = reporting::<I>(after);
    let pool = options.record_loans(true).build(Database::new()).unwrap();
    for round in 1..=2 {
        let (guard, line) = (pool.get().unwrap(), line!());
        eventually("the leak is reported", || reported.lock().unwrap().len() == round);
        // Many beats later it has not been reported again.
        thread::sleep(3 * after);
        assert_eq!(pool.counters().long_loans, round as u64);
        let reported = reported.lock().unwrap();
        let loan = reported.last().unwrap();
        assert!(reported.len() == round && loan.held_for >= after, "{reported:?}");
        assert!(loan.site.is_some_and(|site| is_here(site, line)) && loan.connection == Some(1), "{loan:?}");
        drop(guard);
    }
}

fn a_leak_is_noticed_without_recording<I: IdleSet>() {
    let after = Duration::from_millis(40);
    let pool = options::<I>().max_size(2).leak_after(after).build(Database::new()).unwrap();
    let since = Instant::now();
    let _guard = pool.get().unwrap();
    eventually("the leak is counted", || pool.counters().long_loans == 1);
    assert!(since.elapsed() >= after, "{:?}", since.elapsed());
    // Others come and go meanwhile.
    for _ in 0..20 {
        drop(pool.get().unwrap());
        thread::sleep(after / 10);
    }
    assert_eq!(pool.counters().long_loans, 1);
}

fn a_short_loan_is_no_leak<I: IdleSet>() {
    // Longer than any loan of this test, on a machine that does not stop for as long.
    let after = Duration::from_secs(2);
    let (options, reported) = reporting::<I>(after);
    let pool =
        options.record_loans(true).validate_after_idle(Duration::from_millis(50)).build(Database::new()).unwrap();
    let since = Instant::now();
    // Together longer than `after`, and nearly always out when the upkeep thread looks.
    while since.elapsed() < after + after / 4 {
        let _guard = pool.get().unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((pool.counters().long_loans, reported.lock().unwrap().len()), (0, 0));
}

fn a_slow_acquire_is_reported<I: IdleSet>() {
    let slow = Duration::from_millis(20);
    let reported = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&reported);
    let pool = options::<I>()
        .max_size(1)
        .slow_acquire(slow)
        .observe(move |event| {
            if let Event::SlowAcquire { waited, site, connection } = *event {
                log.lock().unwrap().push((waited, site, connection));
            }
        })
        .build(Database::new())
        .unwrap();
    let guard = pool.get().unwrap();
    let before = pool.counters().slow_acquires;
    let (mut task, line) = (Task::waiting(pool.get_async()), line!());
    thread::sleep(slow);
    drop(guard);
    drop(task.finish().unwrap());
    // One that waits in vain is told by its error.
    let guard = pool.get().unwrap();
    pool.get_timeout(2 * slow).expect_err("it is out");
    drop(guard);
    assert_eq!(pool.counters().slow_acquires, before + 1);
    let reported = reported.lock().unwrap();
    let (waited, site, connection) = reported.last().unwrap();
    assert!(*waited > slow && is_here(site, line) && *connection == 1, "{reported:?}");
    assert_eq!(reported.len() as u64, before + 1);

    // Without an observer, too, and from a thread.
    let pool = options::<I>().max_size(1).slow_acquire(slow).build(Database::new()).unwrap();
    let guard = pool.get().unwrap();
    let before = pool.counters().slow_acquires;
    let waiter = blocked(&pool);
    thread::sleep(2 * slow);
    drop(guard);
    drop(waiter.join().unwrap().unwrap());
    assert_eq!(pool.counters().slow_acquires, before + 1);
}

fn histograms_have_every_wait_loan_and_connect<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(1)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .histograms(true)
        .build(database.clone())
        .unwrap();
    database.on(Call::Connect, Behaviour::Fails);
    pool.get_timeout(Duration::from_millis(20)).expect_err("nothing can be opened");
    database.on(Call::Connect, Behaviour::Works);
    drop(pool.get().unwrap());
    let hold = Duration::from_millis(30);
    let guard = pool.get().unwrap();
    let mut task = Task::waiting(pool.get_async());
    thread::sleep(hold);
    drop(guard);
    drop(task.finish().unwrap().detach());
    for _ in 0..96 {
        drop(pool.get().unwrap());
    }
    let (histograms, counters) = (pool.histograms().expect("asked for"), pool.counters());
    assert_eq!((histograms.wait.count(), histograms.hold.count()), (99, 99));
    assert_eq!(counters.checkouts, 99);
    // A failed attempt may be under way no more: the last one succeeded.
    assert_eq!(histograms.connect.count(), counters.connects + counters.connect_failures);
    assert!(counters.connect_failures > 0 && counters.connects == 2, "{counters:?}");
    for (name, histogram) in [("wait", &histograms.wait), ("hold", &histograms.hold)] {
        assert!(histogram.quantile(1.0) >= Some(hold) && histogram.sum() >= hold, "{name}: {histogram:?}");
        assert!(histogram.quantile(0.5) < Some(hold), "{name}: {histogram:?}");
    }
    // Whoever found something idle has not waited at all.
    assert_eq!(histograms.wait.quantile(0.9), Some(Duration::from_micros(1)));
    settled(&pool, &database);
}

fn what_was_not_asked_for_is_not_kept<I: IdleSet>() {
    let pool = options::<I>().max_size(1).build(Database::new()).unwrap();
    let _guard = pool.get().unwrap();
    assert_eq!(pool.histograms(), None);
    let [loan] = pool.loans()[..] else { panic!("{:?}", pool.loans()) };
    assert_eq!((loan.slot, loan.connection, loan.site), (0, None, None));
    assert_eq!(pool.name(), "pool");
}

fn counters_count_what_happened<I: IdleSet>() {
    let database = Database::new();
    let pool = options::<I>()
        .max_size(2)
        .validate_after_idle(Duration::ZERO)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build(database.clone())
        .unwrap();
    let short = Duration::from_millis(10);
    let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
    let waits = pool.counters().waits;
    pool.try_get().expect_err("everything is out");
    pool.get_timeout(short).expect_err("everything is out");
    drop(Task::waiting(pool.get_async()));
    let counters = pool.counters();
    assert_eq!((counters.failures, counters.timeouts, counters.cancelled), (2, 2, 1), "{counters:?}");
    assert_eq!((counters.waits, counters.checkouts, counters.connects), (waits + 2, 2, 2), "{counters:?}");

    drop(second.detach());
    drop(first);
    database.on(Call::Validate, Behaviour::Fails);
    // Each that is opened is found to be no good, until validations work again.
    let waiter = blocked(&pool);
    database.wait_until_asked(Call::Close, 1);
    database.on(Call::Validate, Behaviour::Works);
    let mut dirty = waiter.join().unwrap().unwrap();
    settled(&pool, &database);
    let refused = pool.counters().validation_failures;
    let counters = pool.counters();
    assert_eq!((counters.validations, counters.detached), (database.asked(Call::Validate) as u64, 1), "{counters:?}");
    assert!(refused > 0 && refused < counters.validations && refused == counters.broken, "{counters:?}");

    dirty.is_dirty = true;
    database.on(Call::Reset, Behaviour::Fails);
    drop(dirty);
    eventually("it is closed", || database.asked(Call::Close) as u64 == refused + 1);
    settled(&pool, &database);
    let counters = pool.counters();
    assert_eq!((counters.resets, counters.reset_failures, counters.broken), (1, 1, refused + 1), "{counters:?}");
    let opened = database.counts().opened as u64;
    assert_eq!((counters.connects, counters.closes), (opened, refused + 1), "{counters:?}");
    assert_eq!(counters.connects - counters.closes - counters.detached, pool.state().size as u64, "{counters:?}");

    let guard = pool.get().unwrap();
    let others = pool.get().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let waiter = {
        let (pool, told) = (pool.clone(), Arc::clone(&told));
        thread::spawn(move || {
            let error = pool.get().expect_err("the pool is closed");
            told.fetch_add(usize::from(error.is_closed()), Ordering::Relaxed);
        })
    };
    eventually("somebody waits", || pool.state().waiters == 1);
    drop((guard, others));
    let before = pool.counters();
    pool.close(Duration::from_secs(5)).unwrap();
    waiter.join().unwrap_or_default();
    let counters = pool.counters();
    // The waiter may have been served before the pool was closed; if not, that was no timeout.
    assert_eq!(counters.failures - before.failures, told.load(Ordering::Relaxed) as u64, "{counters:?}");
    assert_eq!(counters.timeouts, before.timeouts);
    assert_eq!(counters.connects - counters.closes - counters.detached, 0, "{counters:?}");
}

//! Everything that a pool does only on request, requested: hooks that fail, an observer, histograms, records of loans,
//! warnings; and those who look at what comes of it while it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pool::{Builder, Event, IdleSet, Pool};

use super::database::{Connection, Database, Ledger, Refused};
use super::{Dice, PATIENCE, block_on, eventually};

/// What the pool has told.
#[derive(Default)]
pub(crate) struct Told {
    connected: AtomicU64,
    closed: AtomicU64,
    checked_out: AtomicU64,
    checked_in: AtomicU64,
    detached: AtomicU64,
    paused: AtomicU64,
    is_paused: AtomicBool,
    out_of_turn: AtomicU64,
}

impl Told {
    fn hear(&self, event: &Event<'_>) {
        let count = match event {
            Event::Connected { .. } => &self.connected,
            Event::Closed { .. } => &self.closed,
            Event::CheckedOut { .. } => &self.checked_out,
            Event::CheckedIn { .. } => &self.checked_in,
            Event::Detached { .. } => &self.detached,
            Event::Paused | Event::Resumed => {
                let is_paused = matches!(event, Event::Paused);
                if self.is_paused.swap(is_paused, Ordering::Relaxed) == is_paused {
                    self.out_of_turn.fetch_add(1, Ordering::Relaxed);
                }
                self.paused.fetch_add(u64::from(is_paused), Ordering::Relaxed);
                return;
            }
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// When the pool is at rest and empty: everything that began has ended, and was counted as often as it was told.
    pub(crate) fn judge<I: IdleSet>(&self, pool: &Pool<Database, I>) {
        let told = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counters = pool.counters();
        assert_eq!(told(&self.connected), counters.connects + counters.added, "{counters:?}");
        assert_eq!(told(&self.connected), told(&self.closed) + told(&self.detached), "{counters:?}");
        assert_eq!(told(&self.checked_out), told(&self.checked_in) + told(&self.detached), "{counters:?}");
        assert_eq!(told(&self.checked_out), counters.checkouts);
        assert_eq!(told(&self.detached), counters.detached);
        assert_eq!((told(&self.paused), told(&self.out_of_turn)), (counters.pauses, 0));
        let histograms = pool.histograms().expect("they were requested");
        assert_eq!((histograms.wait.count(), histograms.hold.count()), (counters.checkouts, counters.checkouts));
        assert_eq!(histograms.connect.count(), counters.connects + counters.connect_failures);
        assert!(counters.slow_acquires > 0 && counters.hook_failures > 0, "{counters:?}");
        assert!(pool.loans().is_empty(), "{:?}", pool.loans());
    }
}

/// Requests everything.
pub(crate) fn request<I: IdleSet>(
    options: Builder<Database, I>,
    ledger: &Arc<Ledger>,
    told: &Arc<Told>,
    trouble: u64,
) -> Builder<Database, I> {
    let hook = || {
        let ledger = Arc::clone(ledger);
        move |connection: &mut Connection| -> Result<(), Refused> {
            connection.hooked += 1;
            ledger.answer(trouble)
        }
    };
    let told = Arc::clone(told);
    let farewell = hook();
    options
        .histograms(true)
        .record_loans(true)
        .leak_after(Duration::from_millis(1))
        .slow_acquire(Duration::from_nanos(1))
        .on_connect(hook())
        .on_acquire(hook())
        .on_checkin(hook())
        .on_release(move |connection| {
            let _: Result<(), Refused> = farewell(connection);
        })
        .observe(move |event| told.hear(event))
}

/// Somebody looks.
pub(crate) fn look<I: IdleSet>(pool: &Pool<Database, I>, dice: &mut Dice) {
    match dice.roll(4) {
        0 => {
            for loan in pool.loans() {
                assert!(loan.site.is_some(), "{loan}");
            }
        }
        1 => assert!(pool.histograms().is_some()),
        2 => assert!(!format!("{pool:?} {}", pool.state()).is_empty()),
        _ => drop(pool.counters()),
    }
}

/// Closes the pool, as a task, while threads go on acquiring.
pub(crate) fn close_under_load<I: IdleSet>(pool: &Pool<Database, I>, ledger: &Ledger, threads: u64) {
    let loans = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let loans = &loans;
            scope.spawn(move || {
                loop {
                    let answer = match thread % 3 {
                        0 => pool.get_owned_timeout(PATIENCE / 10),
                        1 => block_on(pool.get_owned_async_timeout(PATIENCE / 10)),
                        _ => pool.get_owned(),
                    };
                    match answer {
                        Ok(mut guard) => {
                            ledger.uses.fetch_add(1, Ordering::Relaxed);
                            guard.work(thread::yield_now);
                            loans.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.is_closed() => return,
                        Err(error) => panic!("not served: {error}"),
                    }
                }
            });
        }
        eventually("all are at it", || loans.load(Ordering::Relaxed) > 20 * threads);
        block_on(pool.close_async(PATIENCE / 10)).expect("every loan ends");
    });
    assert_eq!(pool.state().size, 0, "{}", pool.state());
}

//! The line: whoever makes a connection idle and whoever goes to sleep for one cannot miss each other.
//!
//! Each model drives the core itself. Its workers are stopped, so that work that may block is done by the thread that
//! asks for it and a model has no more threads than its callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::thread;

use super::toy::{Toy, block_on, poll_and_drop, waker_of_this_thread};
use crate::acquire::Acquire;
use crate::attend::LOANS_PER_LOOK;
use crate::config::Config;
use crate::core::Core;
use crate::hooks::Hooks;
use crate::idle::{IdleSet, MutexQueue, Slots};
use crate::sync::clock;
use crate::{Fairness, Guard};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Explores every schedule with at most `preemptions` preemptions (a switch at a blocking operation is none).
pub(super) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(preemptions));
    builder.max_branches = 10_000;
    let schedules = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&schedules);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        clock::reset();
        model();
    });
    println!("{} schedules", schedules.load(Ordering::Relaxed));
}

/// A core with its connections open and nobody but its callers.
pub(super) fn core<I: IdleSet>(max_size: usize, fairness: Fairness) -> Arc<Core<Toy, I>> {
    let config = Config { max_size, fairness, ..Config::default() };
    let core = Core::new(config, Hooks::default(), Toy);
    core.workers.stop();
    core.fill();
    core
}

pub(super) fn lend<M: crate::Manager, I: IdleSet>(core: &Core<M, I>) -> Guard<'_, M, I> {
    Guard::new(core, core.checkout().expect("nobody else is there yet"))
}

/// Acquires as a blocked thread does, and returns the connection at once.
pub(super) fn acquire<I: IdleSet>(core: &Core<Toy, I>) {
    let held = core.acquire_blocking(Some(HOUR)).expect("a connection");
    drop(Guard::new(core, held));
}

/// Acquires as a task does.
pub(super) fn acquire_async<I: IdleSet>(core: &Core<Toy, I>) {
    drop(block_on(Acquire::new(core, Some(HOUR))).expect("a connection"));
}

/// A task that is polled once and then given up.
fn give_up<I: IdleSet>(core: &Core<Toy, I>) {
    poll_and_drop(Acquire::new(core, Some(HOUR)));
}

/// A checkin races with one caller who finds nothing idle and goes to sleep.
fn a_checkin_meets_a_waiter<I: IdleSet>(fairness: Fairness, waiter: fn(&Core<Toy, I>)) {
    explore(8, move || {
        let core = core::<I>(1, fairness);
        let guard = lend(&core);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || waiter(&core))
        };
        drop(guard);
        waiting.join().unwrap();
        assert_eq!(core.state().idle, 1);
        assert_eq!(core.waiters.count(), 0);
    });
}

#[test]
fn no_lost_wakeup_slots() {
    a_checkin_meets_a_waiter::<Slots>(Fairness::Free, acquire);
}

#[test]
fn no_lost_wakeup_mutex() {
    a_checkin_meets_a_waiter::<MutexQueue>(Fairness::Free, acquire);
}

#[test]
fn no_lost_wakeup_of_a_task_slots() {
    a_checkin_meets_a_waiter::<Slots>(Fairness::Free, acquire_async);
}

#[test]
fn no_lost_wakeup_of_a_task_mutex() {
    a_checkin_meets_a_waiter::<MutexQueue>(Fairness::Free, acquire_async);
}

#[test]
fn no_lost_handoff_slots() {
    a_checkin_meets_a_waiter::<Slots>(Fairness::Strict, acquire);
}

#[test]
fn no_lost_handoff_mutex() {
    a_checkin_meets_a_waiter::<MutexQueue>(Fairness::Strict, acquire);
}

#[test]
fn no_lost_handoff_to_a_task_slots() {
    a_checkin_meets_a_waiter::<Slots>(Fairness::Strict, acquire_async);
}

/// A checkin races with two callers, of whom one may give up.
fn a_checkin_meets_two<I: IdleSet>(fairness: Fairness, first: fn(&Core<Toy, I>), second: fn(&Core<Toy, I>)) {
    explore(3, move || {
        let core = core::<I>(1, fairness);
        let guard = lend(&core);
        let [first, second] = [first, second].map(|caller| {
            let core = Arc::clone(&core);
            thread::spawn(move || caller(&core))
        });
        drop(guard);
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(core.state().idle, 1);
        assert_eq!(core.waiters.count(), 0);
    });
}

#[test]
fn a_passed_wake_is_not_lost() {
    a_checkin_meets_two::<Slots>(Fairness::Free, give_up, acquire);
}

#[test]
fn a_passed_wake_is_not_lost_mutex() {
    a_checkin_meets_two::<MutexQueue>(Fairness::Free, give_up, acquire_async);
}

#[test]
fn a_wake_is_passed_on_by_whoever_was_served() {
    a_checkin_meets_two::<Slots>(Fairness::Free, acquire, acquire);
}

#[test]
fn a_passed_handoff_is_not_lost() {
    a_checkin_meets_two::<Slots>(Fairness::Strict, give_up, acquire);
}

#[test]
fn a_passed_handoff_is_not_lost_mutex() {
    a_checkin_meets_two::<MutexQueue>(Fairness::Strict, give_up, acquire);
}

/// Acquires and keeps the connection.
#[expect(clippy::forget_non_drop, reason = "says that the right is lost on purpose")]
fn acquire_for_good<I: IdleSet>(core: &Core<Toy, I>) {
    std::mem::forget(core.acquire_blocking(Some(HOUR)).expect("a connection"));
}

/// While one thread is on its way from sleep, checkins look after nobody else. Nothing ever comes back here, so the
/// second one sleeps for ever unless the first one, having woken, looks after it.
fn two_checkins_meet_two_threads<I: IdleSet>() {
    explore(3, || {
        let core = core::<I>(2, Fairness::Free);
        let guards = (lend(&core), lend(&core));
        let waiting = [(); 2].map(|()| {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire_for_good(&core))
        });
        drop(guards);
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        assert_eq!(core.state().lent, 2);
    });
}

#[test]
fn a_throttled_wake_is_made_up_for_slots() {
    two_checkins_meet_two_threads::<Slots>();
}

#[test]
fn a_throttled_wake_is_made_up_for_mutex() {
    two_checkins_meet_two_threads::<MutexQueue>();
}

/// A thread that has been woken is slow to come, so the next connection is handed to it; then there is one for the other,
/// too.
fn a_late_thread_is_handed_a_connection<I: IdleSet>() {
    explore(3, || {
        let bound = Duration::from_millis(1);
        let core = core::<I>(2, Fairness::Bounded(bound));
        // Every loan is one at which checkins look at the clock.
        for index in 0..2 {
            core.slots.slot_at(index).loans.store(LOANS_PER_LOOK - 1, crate::sync::atomic::Ordering::Relaxed);
        }
        let guards = (lend(&core), lend(&core));
        let waiting = [(); 2].map(|()| {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire_for_good(&core))
        });
        drop(guards.0);
        clock::advance(bound);
        drop(guards.1);
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        assert_eq!(core.state().lent, 2);
    });
}

#[test]
fn a_late_thread_is_handed_a_connection_slots() {
    a_late_thread_is_handed_a_connection::<Slots>();
}

#[test]
fn a_late_thread_is_handed_a_connection_mutex() {
    a_late_thread_is_handed_a_connection::<MutexQueue>();
}

/// A caller whose time runs out while the connection comes back; somebody more patient waits too.
fn a_timeout_meets_a_checkin<I: IdleSet>(fairness: Fairness) {
    a_checkin_meets_two::<I>(
        fairness,
        |core| {
            let mut acquire = std::pin::pin!(Acquire::new(core, Some(Duration::from_millis(1))));
            let waker = waker_of_this_thread();
            let mut context = std::task::Context::from_waker(&waker);
            if acquire.as_mut().poll(&mut context).is_pending() {
                clock::advance(Duration::from_millis(1));
                // Served in the last moment, or not; but answered.
                assert!(acquire.as_mut().poll(&mut context).is_ready());
            }
        },
        acquire,
    );
}

#[test]
fn a_timeout_passes_its_wake_on() {
    a_timeout_meets_a_checkin::<Slots>(Fairness::Free);
}

#[test]
fn a_timeout_passes_its_handoff_on() {
    a_timeout_meets_a_checkin::<Slots>(Fairness::Strict);
}

/// The upkeep thread takes the connection out of the idle set while a caller looks for it.
#[test]
fn a_connection_set_aside_is_found() {
    explore(8, || {
        let core = core::<Slots>(1, Fairness::Free);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        core.set_aside_the_oldest();
        waiting.join().unwrap();
        assert_eq!(core.state().idle, 1);
    });
}

/// A connection that comes back while the pool is being closed is closed by one side or the other.
fn a_checkin_meets_a_close<I: IdleSet>() {
    explore(8, || {
        let core = core::<I>(1, Fairness::Free);
        let guard = lend(&core);
        let closing = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.begin_close())
        };
        drop(guard);
        closing.join().unwrap();
        assert_eq!(core.state().size, 0, "{}", core.state());
    });
}

#[test]
fn nothing_stays_idle_after_a_close_slots() {
    a_checkin_meets_a_close::<Slots>();
}

#[test]
fn nothing_stays_idle_after_a_close_mutex() {
    a_checkin_meets_a_close::<MutexQueue>();
}

/// A broken connection makes room for a new one while a caller goes to sleep.
#[test]
fn a_vacant_slot_is_not_forgotten() {
    explore(5, || {
        let core = core::<Slots>(1, Fairness::Free);
        let mut guard = lend(&core);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        guard.mark_broken();
        drop(guard);
        waiting.join().unwrap();
        assert_eq!(core.state().idle, 1);
    });
}

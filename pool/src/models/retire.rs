//! Purge, resize, pause, and connections that tasks leave lying, against whatever else goes on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use loom::thread;

use super::line::{HOUR, acquire, acquire_async, core, explore, lend};
use super::toy::{Toy, block_on, waker_of_this_thread};
use crate::Fairness;
use crate::acquire::AcquireOwned;
use crate::config::Config;
use crate::core::Core;
use crate::extras::Caller;
use crate::hooks::Hooks;
use crate::idle::{IdleSet, MutexQueue, Slots};
use crate::slot::Phase;
use crate::sync::atomic::Ordering;
use crate::sync::{clock, now};
use crate::waiters::{COLLECT_WITHIN, RETIRE};

/// Nothing that has to go is left idle, and nobody looks for it any more.
fn nothing_is_left_to_retire<I: IdleSet>(core: &Core<Toy, I>) {
    let epoch = core.supply.lock().epoch();
    for index in (0..core.slots.len()).filter(|&index| core.slots.phase_is(index, Phase::Idle)) {
        assert_eq!(core.slots.slot_at(index).epoch.load(Ordering::Relaxed), epoch, "an old connection is idle");
    }
    assert!(core.state().size <= core.state().max_size, "{}", core.state());
    assert_eq!(core.waiters.attention() & RETIRE, 0);
}

/// A connection that comes back during a purge is closed by one side or the other.
fn a_purge_meets_a_checkin<I: IdleSet>(preemptions: usize, before: fn(&Core<Toy, I>)) {
    explore(preemptions, move || {
        let core = core::<I>(1, Fairness::Free);
        let guard = lend(&core);
        before(&core);
        let purging = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.purge())
        };
        drop(guard);
        purging.join().unwrap();
        assert_eq!(core.state().size, 0, "{}", core.state());
        nothing_is_left_to_retire(&core);
    });
}

#[test]
fn a_purge_catches_a_checkin_slots() {
    a_purge_meets_a_checkin::<Slots>(8, |_| ());
}

#[test]
fn a_purge_catches_a_checkin_mutex() {
    a_purge_meets_a_checkin::<MutexQueue>(8, |_| ());
}

/// The same in a pool that has something else to attend to, so that the checkin looks closer, and not at the purge.
#[test]
fn a_purge_of_a_paused_pool_catches_a_checkin_slots() {
    a_purge_meets_a_checkin::<Slots>(4, Core::pause);
}

#[test]
fn a_purge_of_a_paused_pool_catches_a_checkin_mutex() {
    a_purge_meets_a_checkin::<MutexQueue>(4, Core::pause);
}

/// A connection comes back during a purge, to wherever; once the purge is over nobody is lent it.
fn a_purge_is_over<I: IdleSet>() {
    explore(8, || {
        let core = core::<I>(1, Fairness::Free);
        let held = core.checkout().expect("nobody else is there yet");
        let returning = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.checkin(held))
        };
        core.purge();
        let lent = core.checkout().or_else(|| core.look(Caller::here()));
        assert!(lent.is_none(), "there is but one connection, and it is old");
        returning.join().unwrap();
        assert_eq!(core.state().size, 0, "{}", core.state());
        nothing_is_left_to_retire(&core);
    });
}

#[test]
fn nobody_is_lent_an_old_connection_slots() {
    a_purge_is_over::<Slots>();
}

#[test]
fn nobody_is_lent_an_old_connection_mutex() {
    a_purge_is_over::<MutexQueue>();
}

/// One of two has to go: whichever is idle when it is asked for, or comes back first. Never both.
fn a_shrink_meets_a_checkin<I: IdleSet>() {
    explore(4, || {
        let core = core::<I>(2, Fairness::Free);
        let guards = (lend(&core), lend(&core));
        drop(guards.0);
        let shrinking = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.resize(1).expect("a good size"))
        };
        drop(guards.1);
        shrinking.join().unwrap();
        assert_eq!((core.state().size, core.state().idle), (1, 1), "{}", core.state());
        nothing_is_left_to_retire(&core);
    });
}

#[test]
fn a_shrink_catches_a_checkin_slots() {
    a_shrink_meets_a_checkin::<Slots>();
}

#[test]
fn a_shrink_catches_a_checkin_mutex() {
    a_shrink_meets_a_checkin::<MutexQueue>();
}

/// A caller who comes during a purge is served, with an old connection or a new one; what he returns is closed if it is
/// old.
fn a_purge_meets_a_caller<I: IdleSet>(caller: fn(&Core<Toy, I>)) {
    explore(3, move || {
        let core = core::<I>(1, Fairness::Free);
        let calling = {
            let core = Arc::clone(&core);
            thread::spawn(move || caller(&core))
        };
        core.purge();
        calling.join().unwrap();
        nothing_is_left_to_retire(&core);
        // Whoever comes now gets a new one.
        acquire(&core);
        nothing_is_left_to_retire(&core);
        assert_eq!(core.counters().purged, 1);
    });
}

#[test]
fn a_purge_leaves_nobody_waiting_slots() {
    a_purge_meets_a_caller::<Slots>(acquire);
}

#[test]
fn a_purge_leaves_no_task_waiting_mutex() {
    a_purge_meets_a_caller::<MutexQueue>(acquire_async);
}

/// A pool is resumed while a connection comes back and somebody waits.
fn a_resumption_meets_a_checkin<I: IdleSet>(fairness: Fairness) {
    explore(3, move || {
        let core = core::<I>(1, fairness);
        let guard = lend(&core);
        core.pause();
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        let resuming = {
            let core = Arc::clone(&core);
            thread::spawn(move || core.resume())
        };
        drop(guard);
        waiting.join().unwrap();
        resuming.join().unwrap();
        assert_eq!((core.state().idle, core.waiters.count()), (1, 0));
    });
}

#[test]
fn a_resumption_loses_no_wakeup_slots() {
    a_resumption_meets_a_checkin::<Slots>(Fairness::Free);
}

#[test]
fn a_resumption_loses_no_handoff_mutex() {
    a_resumption_meets_a_checkin::<MutexQueue>(Fairness::Strict);
}

/// A task that is polled once, so that it stands in line.
fn absent<I: IdleSet>(core: &Arc<Core<Toy, I>>) -> Pin<Box<AcquireOwned<Toy, I>>> {
    let mut task = Box::pin(AcquireOwned::new(Arc::clone(core), Some(HOUR)));
    let waker = waker_of_this_thread();
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    task
}

/// What the upkeep thread does about connections that are left lying.
fn take_back<I: IdleSet>(core: &Core<Toy, I>) {
    for _ in 0..2 {
        let (uncollected, _) = core.waiters.take_back(now());
        uncollected.into_iter().for_each(|held| core.make_idle(held));
        clock::advance(COLLECT_WITHIN);
    }
    let (uncollected, _) = core.waiters.take_back(now());
    uncollected.into_iter().for_each(|held| core.make_idle(held));
}

/// A connection was handed to a task, which does something late, or never, while it is taken back and somebody waits.
fn a_task_is_late(late: fn(Pin<Box<AcquireOwned<Toy, Slots>>>)) {
    explore(2, move || {
        let core = core::<Slots>(1, Fairness::Strict);
        let guard = lend(&core);
        let task = absent(&core);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        drop(guard);
        let coming = thread::spawn(move || late(task));
        take_back(&core);
        waiting.join().unwrap();
        coming.join().unwrap();
        assert_eq!((core.state().idle, core.waiters.count()), (1, 0), "{}", core.state());
    });
}

#[test]
fn a_connection_left_lying_is_taken_back() {
    explore(3, || {
        let core = core::<Slots>(1, Fairness::Strict);
        let guard = lend(&core);
        let task = absent(&core);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        drop(guard);
        take_back(&core);
        // Whoever waits does so for nothing but this.
        waiting.join().unwrap();
        drop(task);
        assert_eq!((core.state().idle, core.waiters.count()), (1, 0), "{}", core.state());
    });
}

#[test]
fn a_task_may_come_while_its_connection_is_taken_back() {
    a_task_is_late(|task| drop(block_on(task).expect("a connection")));
}

#[test]
fn a_task_may_be_dropped_while_its_connection_is_taken_back() {
    a_task_is_late(|task| drop(task));
}

/// With room to grow: somebody waits while the pool is resized.
#[test]
fn a_growth_is_not_missed() {
    explore(4, || {
        let config = Config { max_size: 1, capacity: Some(2), fairness: Fairness::Free, ..Config::default() };
        let core = Core::<Toy, Slots>::new(config, Hooks::default(), Toy);
        core.workers.stop();
        core.add(0).expect("there is room");
        let guard = lend(&core);
        let waiting = {
            let core = Arc::clone(&core);
            thread::spawn(move || acquire(&core))
        };
        core.resize(2).expect("a good size");
        // The first never comes back before the other is served.
        waiting.join().unwrap();
        drop(guard);
        assert_eq!(core.state().idle, 2);
    });
}

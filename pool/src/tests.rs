//! Steps of the pool's own threads, taken by hand, where no test from outside could time them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::acquire::Acquire;
use crate::attend::LOANS_PER_LOOK;
use crate::attend::tests::ways_given;
use crate::config::{Config, Fairness, MAX_DURATION};
use crate::connector::Job;
use crate::core::Core;
use crate::error::AddError;
use crate::extras::Caller;
use crate::guard::Guard;
use crate::idle::sealed::Set;
use crate::idle::{IdleSet, LockFreeQueue, MutexQueue, Slots};
use crate::slot::Phase;
use crate::upkeep::Rhythm;
use crate::waiters::{Alarm, PAUSED, RETIRE};
use crate::{Manager, State};

/// Counts its calls.
#[derive(Default)]
struct Counting {
    connects: AtomicUsize,
}

impl Manager for Counting {
    type Connection = usize;
    type Error = Infallible;

    fn connect(&self) -> Result<usize, Infallible> {
        Ok(self.connects.fetch_add(1, Ordering::Relaxed))
    }

    fn is_valid(&self, _: &mut usize) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A core without an upkeep thread, and with workers that have been stopped: its jobs run where they are asked for.
fn core<I: IdleSet>(config: Config) -> Arc<Core<Counting, I>> {
    let core = Core::new(config, crate::hooks::Hooks::default(), Counting::default());
    core.workers.stop();
    core
}

fn waiting<I: IdleSet>(core: &Core<Counting, I>) -> std::pin::Pin<Box<Acquire<'_, Counting, I>>> {
    let mut acquire = Box::pin(Acquire::new(core, Some(Duration::from_secs(3600))));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(acquire.as_mut().poll(&mut context).is_pending());
    acquire
}

/// Takes the jobs of `wanted` waiters out of the hands of the pool before any has begun.
fn a_queued_connect_is_dropped_when_the_demand_has_ended<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 4, max_connecting: 2, ..Config::default() });
    // Paused, so that the waiters' own demand opens nothing yet.
    core.pause();
    let waiters = [waiting(&core), waiting(&core)];
    core.waiters.set(PAUSED, false);
    let jobs = [core.next_to_connect().expect("two wait"), core.next_to_connect().expect("two wait")];
    assert!(core.next_to_connect().is_none(), "two are on their way");
    assert_eq!(core.state().connecting, 2);
    let [first, second] = waiters;
    drop(first);
    let [one, other] = jobs;
    core.run(Job::Connect(one));
    assert_eq!(core.manager.connects.load(Ordering::Relaxed), 0, "one waits, and one connect is left for it");
    core.run(Job::Connect(other));
    assert_eq!(core.manager.connects.load(Ordering::Relaxed), 1);
    drop(second);
    assert_eq!(core.state(), State { max_size: 4, size: 1, idle: 1, ..State::default() });
    // Nothing of it is left behind: every slot may be used.
    assert_eq!((0..4).filter(|&index| core.slots.phase_is(index, Phase::Vacant)).count(), 3);
}

/// A slot that was taken before a purge and comes back without a connection keeps nobody from the fast path.
fn a_connect_that_comes_to_nothing_settles_its_purge<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 1, ..Config::default() });
    core.pause();
    let waiter = waiting(&core);
    core.waiters.set(PAUSED, false);
    let job = core.next_to_connect().expect("somebody waits");
    core.purge();
    assert_eq!(core.waiters.attention_hint() & RETIRE, RETIRE);
    drop(waiter);
    core.run(Job::Connect(job));
    assert_eq!((core.state().size, core.waiters.attention_hint()), (0, 0));
}

/// A connect that stood in its queue during a purge is as new as the purge asks for.
fn a_queued_connect_is_not_old_after_a_purge<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 1, ..Config::default() });
    core.pause();
    let waiter = waiting(&core);
    core.waiters.set(PAUSED, false);
    let job = core.next_to_connect().expect("somebody waits");
    core.purge();
    core.run(Job::Connect(job));
    // Woken or, on a slow machine, handed the connection: either way it gives up what it has.
    drop(waiter);
    assert_eq!((core.state().idle, core.counters().purged), (1, 0));
    drop(Guard::new(&core, core.checkout().expect("the gate is open again")));
}

/// A waiter that has just found a connection is in line until it leaves; nothing is opened for it.
fn nothing_is_opened_for_a_waiter_that_looks<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 4, ..Config::default() });
    let alarm = || Alarm::Task(std::task::Waker::noop().clone());
    let later = core.started + Duration::from_secs(3600);
    let (mut first, _) = core.waiters.enter(alarm(), core.started, later, false).expect("open");
    assert!(core.next_to_connect().is_none(), "it may find something");
    core.waiters.end_look(&mut first);
    let one = core.next_to_connect().expect("it found nothing");
    let (second, _) = core.waiters.enter(alarm(), core.started, later, false).expect("open");
    assert!(core.next_to_connect().is_none(), "one is on its way, and one looks");
    // A task that is polled for another reason looks, too.
    core.waiters.begin_look(&mut first);
    assert_eq!(core.waiters.waiting(), 0);
    core.waiters.end_look(&mut first);
    assert_eq!(core.waiters.waiting(), 1);
    assert!(core.waiters.leave(second).is_none() && core.waiters.leave(first).is_none());
    assert_eq!(core.waiters.waiting(), 0);
    // The count of those who look is even again.
    let third = waiting(&core);
    assert_eq!(core.waiters.waiting(), 1);
    core.run(Job::Connect(one));
    assert_eq!((core.waiters.waiting(), core.manager.connects.load(Ordering::Relaxed)), (0, 1));
    drop(third);
    assert_eq!(core.state(), State { max_size: 4, size: 1, idle: 1, ..State::default() });
}

/// A woken thread may be waiting for the processor of the one that gives back, which would not let go of it.
fn a_checkin_gives_way_to_the_thread_that_it_serves<I: IdleSet>() {
    let ways_given_for = |fairness, alarm: Option<Alarm>, is_late: bool| {
        let core = core::<I>(Config { max_size: 1, fairness, ..Config::default() });
        core.add(0).expect("there is room");
        // Whether a woken thread is late is looked at now and then only.
        core.slots.slot_at(0).loans.store(LOANS_PER_LOOK - 1, crate::sync::atomic::Ordering::Relaxed);
        let guard = Guard::new(&core, core.checkout().expect("it is idle"));
        let later = core.started + Duration::from_secs(3600);
        let ticket = alarm.map(|alarm| core.waiters.enter(alarm, core.started, later, false).expect("open").0);
        if is_late {
            assert!(core.waiters.look_after().wake_first().is_some());
        }
        ways_given();
        drop(guard);
        let ways = ways_given();
        if let Some(held) = ticket.and_then(|ticket| core.waiters.leave(ticket)) {
            core.make_idle(held);
        }
        assert_eq!(core.state(), State { max_size: 1, size: 1, idle: 1, ..State::default() });
        ways
    };
    let thread = || Some(Alarm::Thread(std::thread::current()));
    let task = || Some(Alarm::Task(std::task::Waker::noop().clone()));
    let at_once = Fairness::Bounded(Duration::ZERO);
    for fairness in [Fairness::Strict, at_once, Fairness::Bounded(MAX_DURATION), Fairness::Free] {
        assert_eq!(ways_given_for(fairness, thread(), false), 1, "{fairness:?}: a sleeping thread");
        assert_eq!(ways_given_for(fairness, task(), false), 0, "{fairness:?}: a task, which its executor will poll");
        assert_eq!(ways_given_for(fairness, None, false), 0, "{fairness:?}: nobody");
    }
    assert_eq!(
        ways_given_for(at_once, thread(), true),
        1,
        "handed over to a thread that has been woken and has not come"
    );
    assert_eq!(ways_given_for(Fairness::Free, thread(), true), 0, "somebody else has woken it");
}

#[test]
fn exhaustion_is_told_from_other_reasons() {
    let state = |lent, idle, checking| State {
        max_size: 3,
        size: lent + idle + checking,
        lent,
        idle,
        checking,
        ..State::default()
    };
    for (lent, idle, checking, has_failure, expected) in [
        (3, 0, 0, false, true),
        // Whatever was found to be no good meanwhile, others have all there is.
        (3, 0, 0, true, true),
        (2, 0, 1, false, false),
        (2, 0, 0, false, false),
        // One came back in the last moment, for somebody else.
        (2, 1, 0, false, true),
        // It was no good for us.
        (2, 1, 0, true, false),
        (1, 1, 1, false, false),
        (0, 0, 0, false, false),
        // Made smaller while lent.
        (4, 0, 0, true, true),
    ] {
        let state = state(lent, idle, checking);
        assert_eq!(crate::answers::is_exhausted(&state, has_failure), expected, "{state}, {has_failure}");
    }
}

fn idle_config() -> Config {
    Config {
        max_size: 3,
        min_idle: 0,
        idle_timeout: Some(Duration::from_secs(60)),
        max_lifetime: Some(Duration::from_secs(3600)),
        validate_after_idle: None,
        ..Config::default()
    }
}

/// Three idle connections at the age of zero, and the upkeep's rhythm.
fn filled<I: IdleSet>() -> (Arc<Core<Counting, I>>, Rhythm) {
    let core = core::<I>(idle_config());
    for connection in 0..3 {
        core.add(connection).expect("there is room");
    }
    let rhythm = Rhythm::new(&core.config, core.started);
    assert_eq!(core.state().idle, 3);
    (core, rhythm)
}

// 44
fn a_suspended_machine_evicts_nothing<I: IdleSet>() {
    let (core, mut rhythm) = filled::<I>();
    for second in 1..=30 {
        core.beat(&mut rhythm, core.started + Duration::from_secs(second));
    }
    // Asleep for half an hour.
    for second in 1830..1855 {
        core.beat(&mut rhythm, core.started + Duration::from_secs(second));
        assert_eq!(core.state().idle, 3, "evicted at {second} s, of which 1800 were slept through");
    }
    // Awake for a minute in all, and not used.
    for second in 1855..1870 {
        core.beat(&mut rhythm, core.started + Duration::from_secs(second));
    }
    assert_eq!((core.state().size, core.counters().idle_timeouts), (0, 3));
}

// 31, 44: the database's clock went on.
fn a_suspended_machine_outlives_lifetimes<I: IdleSet>() {
    let (core, mut rhythm) = filled::<I>();
    core.beat(&mut rhythm, core.started + Duration::from_secs(1));
    core.beat(&mut rhythm, core.started + Duration::from_secs(4000));
    assert_eq!((core.state().size, core.counters().lifetime_ends), (0, 3));
}

// 44
fn a_clock_that_jumps_back_evicts_nothing<I: IdleSet>() {
    let (core, mut rhythm) = filled::<I>();
    for second in [50, 3, 0, 50, 2, 55] {
        core.beat(&mut rhythm, core.started + Duration::from_secs(second));
        assert_eq!(core.state().idle, 3, "evicted at {second} s");
    }
    // Before the pool was built, if there is such a time here.
    if let Some(before) = core.started.checked_sub(Duration::from_secs(5)) {
        core.beat(&mut rhythm, before);
    }
    assert_eq!(core.state().idle, 3);
    assert_eq!(core.tick.load(crate::sync::atomic::Ordering::Relaxed), 55_000, "the tick went back");
    for connection in 0..3 {
        let guard = Guard::new(
            &core,
            core.look(crate::extras::Caller::here()).unwrap_or_else(|| panic!("connection {connection}")),
        );
        std::mem::forget(guard);
    }
}

macro_rules! for_every_kind {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[test]
            fn mutex() {
                super::$test::<super::MutexQueue>();
            }

            #[test]
            fn lock_free() {
                super::$test::<super::LockFreeQueue>();
            }

            #[test]
            fn slots() {
                super::$test::<super::Slots>();
            }
        })+
    };
}

/// A caller has taken a connection that must be validated first; before he gives it back, there is a purge.
fn a_connection_passed_over_during_a_purge_is_closed<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 1, max_connecting: 1, ..Config::default() });
    drop(waiting(&core));
    let held = core.take_idle().expect("it was opened for whoever waited");
    // As many as may be are being validated.
    core.validating.fetch_add(2, Ordering::Relaxed);
    core.purge();
    assert!(core.look_further(Some(held), Caller::here()).is_none());
    assert_eq!(core.state().size, 0, "{}", core.state());
}

/// A pool takes nothing in from the first moment of its end, and says why.
fn what_is_added_while_a_pool_begins_to_close_is_told_so<I: IdleSet>() {
    let core = core::<I>(Config { max_size: 2, ..Config::default() });
    core.supply.lock().close();
    assert!(matches!(core.add(7), Err(AddError::Closed { connection: 7 })));
    core.begin_close();
}

for_every_kind!(
    a_queued_connect_is_dropped_when_the_demand_has_ended,
    a_queued_connect_is_not_old_after_a_purge,
    a_connect_that_comes_to_nothing_settles_its_purge,
    nothing_is_opened_for_a_waiter_that_looks,
    a_checkin_gives_way_to_the_thread_that_it_serves,
    a_connection_passed_over_during_a_purge_is_closed,
    what_is_added_while_a_pool_begins_to_close_is_told_so,
    a_suspended_machine_evicts_nothing,
    a_suspended_machine_outlives_lifetimes,
    a_clock_that_jumps_back_evicts_nothing,
);

/// A sweep of the lock-free queue has every connection in its hands for a moment, and a close may come then.
#[test]
fn a_close_during_a_sweep_leaves_nothing_open() {
    let core = core::<LockFreeQueue>(Config { max_size: 2, idle_timeout: None, ..Config::default() });
    drop(waiting(&core));
    assert_eq!(core.state().idle, 1);
    let mut chosen = Vec::new();
    core.idle.sweep(
        &core.slots,
        &mut |_| {
            core.begin_close();
            false
        },
        &mut chosen,
    );
    assert!(chosen.is_empty());
    core.beat(&mut Rhythm::new(&core.config, core.started), core.started);
    assert_eq!(core.state().size, 0, "{}", core.state());
}

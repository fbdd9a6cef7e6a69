//! How many connections there are, and whose they are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::{Question, questions};
use crate::conformance::lab::{
    Caller, EVENTUALLY, NOT_SOON, Pool, Room, SHORT, Task, Worker, answer, eventually, get, get_all, give_back,
    newcomer,
};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{Loan, Options, Validate};
use crate::conformance::{Check, ensure, lacks};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    1 never_more_than_max_size_when_many_callers_come_at_once,
    1 never_more_than_max_size_while_connections_come_and_go,
    2 the_accounts_balance_after_random_operations,
    2 a_connection_that_is_being_closed_counts,
    3 a_connection_is_lent_to_one_holder,
    10 a_resize_that_grows_the_pool_serves_a_waiter,
    14 no_time_means_whatever_is_idle,
    15 a_caller_without_time_starts_no_connect,
    19 a_spike_opens_few_connections,
    19 no_connect_begins_after_the_demand_has_ended,
    34 a_pool_shrinks_while_its_connections_are_lent,
    34 a_pool_that_shrank_can_grow_again,
    37 a_detached_connection_frees_its_slot,
    38 a_connection_from_outside_obeys_max_size,
    39 a_snapshot_never_shows_more_than_there_is,
);

/// Numbers that look random and are the same every time: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn never_more_than_max_size_when_many_callers_come_at_once(room: &Room) -> Check {
    const SIZE: usize = 3;
    const CALLERS: usize = 8;
    for round in 0..30 {
        let room = Room::new(room.subject);
        let pool = room.pool_of(SIZE)?;
        let gate = Arc::new(Barrier::new(CALLERS));
        let callers: Vec<Worker<_>> = (0..CALLERS)
            .map(|_| {
                let (pool, gate) = (Arc::clone(&pool), Arc::clone(&gate));
                Worker::start(move || {
                    gate.wait();
                    let loan = pool.get();
                    thread::sleep(Duration::from_millis(1));
                    loan.is_ok()
                })
            })
            .collect();
        for caller in callers {
            caller.join("a caller of many")?;
        }
        let most = room.database.counts().most;
        ensure!(most <= SIZE, "{most} connections at once in round {round}, of at most {SIZE}");
    }
    Ok(())
}

/// How long the churn may take: a pool that backs off after a failed connect makes its callers wait.
const CHURN: Duration = Duration::from_secs(40);

/// Callers that acquire, use, break and cancel at random, while, with faults, the database fails now and then.
fn churn(room: &Room, pool: &Pool, turns: usize, has_faults: bool) -> Check {
    const CALLERS: u64 = 6;
    let workers: Vec<Worker<()>> = (1..=CALLERS)
        .map(|seed| {
            let (pool, database) = (Arc::clone(pool), room.database.clone());
            Worker::start(move || {
                let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                for _ in 0..turns {
                    match dice.below(48) {
                        0 if has_faults => database.next(Call::Connect, 1, Behaviour::Fails),
                        0..4 => {
                            // An acquire that is given up while it waits, or as soon as it is served.
                            if let Ok(mut task) = Task::new(&*pool) {
                                task.poll();
                            }
                        }
                        roll => {
                            let Ok(mut loan) = pool.get() else { continue };
                            loan.connection().used(|| {
                                if roll < 24 {
                                    thread::yield_now();
                                }
                            });
                            loan.connection().is_broken = roll >= 45;
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        let outcome = worker.outcome_within(CHURN, "a caller of the churn")?;
        ensure!(outcome.is_ok(), "a caller of the churn panicked: {}", outcome.err().unwrap_or_default());
    }
    room.database.clear_next(Call::Connect);
    Ok(())
}

fn never_more_than_max_size_while_connections_come_and_go(room: &Room) -> Check {
    let pool = room.pool_of(3)?;
    churn(room, &pool, 60, true)?;
    churn(room, &pool, 1000, false)?;
    let most = room.database.counts().most;
    ensure!(most <= 3, "{most} connections at once, of at most 3");
    Ok(())
}

fn the_accounts_balance_after_random_operations(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 4, validate: Validate::Always, ..Options::default() })?;
    churn(room, &pool, 120, true)?;
    room.database.wait_until_quiet()?;
    let loans = get_all(&pool, 4, "after the churn")?;
    ensure!(newcomer(&pool)?.is_none(), "a fifth connection of four was lent");
    let counts = room.database.counts();
    ensure!(counts.open == 4, "{} connections are open while all of 4 are held", counts.open);
    drop(loans);
    if let Ok(snapshot) = pool.snapshot() {
        eventually("the pool's count of its connections is the database's", || {
            pool.snapshot().is_ok_and(|now| now.size == room.database.counts().open as u64 && now.idle == now.size)
        })
        .or_else(|_| {
            let now = pool.snapshot().unwrap_or(snapshot);
            let open = room.database.counts().open;
            crate::conformance::fails(format!("at rest it counts {} ({} idle), open are {open}", now.size, now.idle))
        })?;
    }
    Ok(())
}

fn a_connection_that_is_being_closed_counts(room: &Room) -> Check {
    let pool = room.pool(&Options { acquire_timeout: SHORT * 4, ..Options::default() })?;
    let mut loan = get(&pool, "the first")?;
    loan.connection().is_broken = true;
    room.database.on(Call::Close, Behaviour::Hangs);
    let returning = Worker::start(move || drop(loan));
    // Some pools notice at the next checkout only.
    let _ = answer(&pool, "while a connection is being closed");
    room.database.wait_until_inside(Call::Close, 1)?;
    let _ = answer(&pool, "while a connection is being closed");
    let most = room.database.counts().most;
    room.database.on(Call::Close, Behaviour::Works);
    returning.join("giving back a broken connection")?;
    ensure!(most == 1, "{most} connections at once, of at most 1, the one in `close` counted");
    Ok(())
}

fn a_connection_is_lent_to_one_holder(room: &Room) -> Check {
    let pool = room.pool_of(3)?;
    churn(room, &pool, 600, false)?;
    let shared = room.database.shared_uses();
    ensure!(shared == 0, "{shared} times two holders had the same connection");
    Ok(())
}

fn a_resize_that_grows_the_pool_serves_a_waiter(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let _loan = get(&pool, "the only one")?;
    let mut waiter = Caller::start(&pool)?;
    pool.resize(2)?;
    drop(waiter.served("a waiter when the pool grows from 1 to 2")?);
    Ok(())
}

fn no_time_means_whatever_is_idle(room: &Room) -> Check {
    let warm = |room: &Room, acquire_timeout| room.pool(&Options { acquire_timeout, ..Options::default() });
    // Where there is no way to try, a pool whose timeout is zero is the way.
    let pool = warm(room, EVENTUALLY)?;
    let loan = get(&pool, "the first")?;
    match pool.try_get() {
        Ok(refused) => {
            ensure!(refused.is_err(), "a second connection of one was lent");
            give_back(loan, "the first")?;
            let mut served = false;
            // A pool that takes its time over a return is asked again.
            eventually("an idle connection is lent without waiting", || {
                served = pool.try_get().is_ok_and(|answer| answer.is_ok());
                served
            })
        }
        Err(_) => {
            drop(loan);
            let room = Room::new(room.subject);
            let pool = warm(&room, Duration::ZERO)?;
            // Opens one, in vain for this caller or not.
            let _ = answer(&pool, "the first without time")?;
            let mut held = None;
            eventually("a pool with a timeout of zero lends what is idle", || {
                held = answer(&pool, "without time").ok().and_then(Result::ok);
                held.is_some()
            })?;
            let second = answer(&pool, "without time, with everything lent")?;
            ensure!(second.is_err(), "a second connection of one was lent");
            Ok(())
        }
    }
}

fn a_caller_without_time_starts_no_connect(room: &Room) -> Check {
    let pool = room.pool(&Options { acquire_timeout: Duration::ZERO, ..Options::default() })?;
    let before = room.database.asked(Call::Connect);
    // Where there is a way to try, that is the way.
    let refused = match pool.try_get() {
        Ok(answer) => answer.is_err(),
        Err(_) => answer(&pool, "a caller without time")?.is_err(),
    };
    thread::sleep(NOT_SOON);
    let begun = room.database.asked(Call::Connect) - before;
    ensure!(
        begun == 0,
        "{begun} connect was begun for a caller whose time was zero (who was {})",
        if refused { "refused" } else { "served" }
    );
    ensure!(refused, "was served by an empty pool that did not connect");
    Ok(())
}

const SPIKE: usize = 16;

fn a_spike_opens_few_connections(room: &Room) -> Check {
    let pool = room.pool_of(SPIKE)?;
    room.database.on(Call::Connect, Behaviour::Hangs);
    let mut callers: Vec<Caller<_>> = (0..SPIKE).map(|_| Caller::start(&pool)).collect::<Check<_>>()?;
    room.database.wait_until_inside(Call::Connect, 1)?;
    thread::sleep(NOT_SOON);
    let begun = room.database.inside(Call::Connect);
    room.database.on(Call::Connect, Behaviour::Works);
    for caller in &mut callers {
        drop(caller.served("a caller of the spike")?);
    }
    ensure!(begun <= SPIKE / 2, "{begun} connects at the same time for {SPIKE} callers");
    Ok(())
}

fn no_connect_begins_after_the_demand_has_ended(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: SPIKE, acquire_timeout: SHORT * 8, ..Options::default() })?;
    room.database.on(Call::Connect, Behaviour::Hangs);
    let mut callers: Vec<Caller<_>> = (0..SPIKE).map(|_| Caller::start(&pool)).collect::<Check<_>>()?;
    room.database.wait_until_inside(Call::Connect, 1)?;
    thread::sleep(NOT_SOON);
    for caller in &mut callers {
        if let Caller::Thread(_) = caller {
            let _ = caller.finish("a caller whose time is up")?;
        }
    }
    drop(callers);
    thread::sleep(NOT_SOON);
    let begun = room.database.asked(Call::Connect);
    room.database.on(Call::Connect, Behaviour::Works);
    thread::sleep(NOT_SOON);
    let later = room.database.asked(Call::Connect) - begun;
    ensure!(later == 0, "{later} connects were begun after the last of {SPIKE} callers had gone");
    Ok(())
}

fn a_pool_shrinks_while_its_connections_are_lent(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 4, acquire_timeout: SHORT * 4, ..Options::default() })?;
    let loans = get_all(&pool, 4, "before the resize")?;
    pool.resize(2)?;
    drop(loans);
    room.database.wait_until_open(EVENTUALLY, |open| open <= 2, "four came back to a pool of two")?;
    let held: Vec<Loan<_>> = (0..3).filter_map(|_| pool.get().ok()).collect();
    ensure!(held.len() == 2, "{} connections can be held at once after a resize to 2", held.len());
    Ok(())
}

fn a_pool_that_shrank_can_grow_again(room: &Room) -> Check {
    let pool = room.pool_of(4)?;
    let loans = get_all(&pool, 4, "before the resize")?;
    pool.resize(1)?;
    drop(loans);
    thread::sleep(NOT_SOON);
    pool.resize(3)?;
    let _held = get_all(&pool, 3, "after the resize to 1 and to 3")?;
    ensure!(newcomer(&pool)?.is_none(), "a fourth connection of three was lent");
    Ok(())
}

fn a_detached_connection_frees_its_slot(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let loan = get(&pool, "the only one")?;
    let detached = loan.detach()?;
    let mut next = get(&pool, "after the only connection was taken out")?;
    ensure!(next.connection().id != detached.id, "the detached connection was lent again");
    Ok(())
}

fn a_connection_from_outside_obeys_max_size(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    ensure!(pool.add(room.database.open())?, "an empty pool did not take a connection");
    let mut loan = get(&pool, "the added one")?;
    ensure!(loan.connection().id == 1, "the added connection was not lent");
    ensure!(!pool.add(room.database.open())?, "a full pool took a connection");
    give_back(loan, "the added one")?;
    ensure!(room.database.counts().open == 1, "{} connections are open, of at most 1", room.database.counts().open);
    Ok(())
}

fn a_snapshot_never_shows_more_than_there_is(room: &Room) -> Check {
    let pool = room.pool_of(3)?;
    if pool.snapshot().is_err() {
        return lacks("does not show its counts");
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let watching = {
        let (pool, is_over) = (Arc::clone(&pool), Arc::clone(&is_over));
        Worker::start(move || -> Check {
            while !is_over.load(Ordering::Relaxed) {
                let now = pool.snapshot()?;
                ensure!(now.idle <= now.size, "{} idle of {}", now.idle, now.size);
                ensure!(now.size <= now.max_size, "{} connections of at most {}", now.size, now.max_size);
                let lent = now.lent.unwrap_or(0);
                ensure!(
                    lent <= now.size && lent + now.idle <= now.size,
                    "{lent} lent and {} idle of {}",
                    now.idle,
                    now.size
                );
            }
            Ok(())
        })
    };
    churn(room, &pool, 2000, false)?;
    is_over.store(true, Ordering::Relaxed);
    watching.join("looking at snapshots")?
}

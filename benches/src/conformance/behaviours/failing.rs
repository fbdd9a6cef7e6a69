//! Outages: what happens while the database is away, and when it is back.

use std::thread;
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{
    Caller, EVENTUALLY, NOT_SOON, Room, SHORT, Worker, answer, get, get_all, give_back, within,
};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{Options, Validate};
use crate::conformance::{Check, ensure, lacks};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    17 a_database_that_heals_in_the_middle_of_a_wait_serves_it,
    18 a_return_during_failing_connects_is_served,
    20 few_connects_run_at_the_same_time,
    20 failing_connects_are_backed_off,
    20 the_backoff_is_jittered,
    21 callers_fail_fast_while_the_database_is_known_to_be_down,
    22 the_pool_recovers_after_every_connection_died,
    32 min_idle_is_filled_at_the_start,
    32 min_idle_is_refilled_after_an_outage,
);

fn a_database_that_heals_in_the_middle_of_a_wait_serves_it(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    room.database.on(Call::Connect, Behaviour::Fails);
    let mut caller = Caller::start(&pool)?;
    room.database.wait_until_asked(Call::Connect, 1)?;
    room.database.on(Call::Connect, Behaviour::Works);
    drop(caller.served("a caller with seconds left, after one failed connect")?);
    Ok(())
}

fn a_return_during_failing_connects_is_served(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let loan = get(&pool, "the first of two")?;
    room.database.on(Call::Connect, Behaviour::Fails);
    let mut caller = Caller::start(&pool)?;
    room.database.wait_until_asked(Call::Connect, 2)?;
    give_back(loan, "the first of two")?;
    let mut served = caller.served("a caller with seconds left, when a connection came back")?;
    ensure!(served.connection().id == 1, "it was not the connection that came back");
    Ok(())
}

fn few_connects_run_at_the_same_time(room: &Room) -> Check {
    const CALLERS: usize = 32;
    let pool = room.pool_of(CALLERS)?;
    room.database.on(Call::Connect, Behaviour::Hangs);
    let callers: Vec<Caller<_>> = (0..CALLERS).map(|_| Caller::start(&pool)).collect::<Check<_>>()?;
    room.database.wait_until_inside(Call::Connect, 1)?;
    thread::sleep(NOT_SOON);
    let begun = room.database.inside(Call::Connect);
    room.database.on(Call::Connect, Behaviour::Works);
    drop(callers);
    ensure!(begun <= CALLERS / 4, "{begun} connects at the same time, of at most {CALLERS} connections");
    Ok(())
}

/// When a caller who asks again whenever he is refused made the pool connect, in vain, for a while.
fn failing_for(room: &Room, time: Duration) -> Check<Vec<Instant>> {
    let pool = room.pool(&Options { acquire_timeout: time, ..Options::default() })?;
    room.database.on(Call::Connect, Behaviour::Fails);
    let caller = Worker::start(move || {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if pool.get().is_ok() {
                return;
            }
        }
    });
    caller.join("a caller who asks again")?;
    Ok(room.database.asked_at(Call::Connect))
}

fn failing_connects_are_backed_off(room: &Room) -> Check {
    const TIME: Duration = Duration::from_millis(1500);
    let attempts = failing_for(room, TIME)?.len();
    ensure!(
        attempts <= 60,
        "{attempts} connects in {TIME:?}, in vain, for one caller who asks again when he is refused"
    );
    Ok(())
}

fn the_backoff_is_jittered(room: &Room) -> Check {
    const POOLS: usize = 8;
    const TIME: Duration = Duration::from_millis(900);
    let pools: Vec<Worker<Check<Vec<Instant>>>> = (0..POOLS)
        .map(|_| {
            let room = Room::new(room.subject);
            Worker::start_outside(move || failing_for(&room, TIME))
        })
        .collect();
    let mut first_pauses = Vec::new();
    for pool in pools {
        let asked_at = pool.join("a caller who asks again")??;
        if asked_at.len() > 60 {
            return lacks("no backoff");
        }
        if let [first, second, ..] = asked_at[..] {
            first_pauses.push(second - first);
        }
    }
    first_pauses.sort_unstable();
    let (Some(shortest), Some(longest)) = (first_pauses.first(), first_pauses.last()) else {
        return lacks("no second attempt");
    };
    // A busy machine makes pauses longer, but seldom those of half the pools.
    let middle = first_pauses[first_pauses.len() / 2];
    ensure!(
        middle > *shortest + *shortest / 20,
        "the first pauses of {POOLS} pools were {shortest:?} to {longest:?}, the middle one {middle:?}"
    );
    Ok(())
}

fn callers_fail_fast_while_the_database_is_known_to_be_down(room: &Room) -> Check {
    let pool = room.pool(&Options { acquire_timeout: SHORT * 10, ..Options::default() })?;
    if !pool.has_breaker() {
        return lacks("no breaker");
    }
    room.database.on(Call::Connect, Behaviour::Fails);
    let mut fast = None;
    within(EVENTUALLY * 2, "callers are refused at once, with the database's error", || {
        let since = Instant::now();
        if let Ok(Err(refusal)) = answer(&pool, "while the database is down") {
            fast = (since.elapsed() < SHORT * 4 && refusal.names_cause).then_some(refusal);
        }
        fast.is_some()
    })?;
    room.database.on(Call::Connect, Behaviour::Works);
    within(EVENTUALLY * 2, "callers are served after the database came back", || {
        answer(&pool, "after the database came back").is_ok_and(|answer| answer.is_ok())
    })
}

fn the_pool_recovers_after_every_connection_died(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 4, validate: Validate::Always, ..Options::default() })?;
    for loan in get_all(&pool, 4, "before")? {
        give_back(loan, "before")?;
    }
    room.database.kill_connections();
    room.database.on(Call::Connect, Behaviour::Fails);
    for _ in 0..4 {
        let asking = Caller::start(&pool)?;
        if let Caller::Task(_) = asking {
            drop(asking);
        }
    }
    room.database.on(Call::Connect, Behaviour::Works);
    let mut held = Vec::new();
    within(EVENTUALLY * 2, "all four can be held again", || {
        if let Ok(Ok(loan)) = answer(&pool, "after the outage") {
            held.push(loan);
        }
        held.len() == 4
    })?;
    for loan in &mut held {
        ensure!(loan.connection().id > 4, "a dead connection was lent");
    }
    Ok(())
}

fn min_idle_is_filled_at_the_start(room: &Room) -> Check {
    let _pool = room.pool(&Options { max_size: 4, min_idle: 2, ..Options::default() })?;
    room.database.wait_until_open(EVENTUALLY, |open| open == 2, "two connections ahead")
}

fn min_idle_is_refilled_after_an_outage(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 2, min_idle: 2, ..Options::default() })?;
    let mut loans = get_all(&pool, 2, "before")?;
    room.database.wait_until_quiet()?;
    room.database.on(Call::Connect, Behaviour::Fails);
    let asked = room.database.asked(Call::Connect);
    for loan in &mut loans {
        loan.connection().is_broken = true;
    }
    for loan in loans {
        give_back(loan, "a broken one")?;
    }
    room.database.wait_until_asked(Call::Connect, asked + 1)?;
    thread::sleep(NOT_SOON);
    room.database.on(Call::Connect, Behaviour::Works);
    // Nobody asks for a connection.
    room.database.wait_until_open(EVENTUALLY * 2, |open| open >= 2, "two connections ahead, after the outage")
}

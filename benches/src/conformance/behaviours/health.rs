//! Connections that are broken, dead or dirty, and what is held while the pool finds out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::{Question, questions};
use crate::conformance::lab::{
    Caller, EVENTUALLY, NOT_SOON, Room, SHORT, Worker, answer, eventually, get, get_all, give_back, is_whole,
};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{Options, Validate};
use crate::conformance::{Check, ensure};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    23 no_lock_is_held_during_connect,
    23 no_lock_is_held_during_validation,
    23 no_lock_is_held_during_close,
    24 validation_is_skipped_inside_a_window,
    24 validation_is_done_outside_the_window,
    24 a_connection_that_fails_validation_is_replaced_without_an_error,
    25 a_connection_that_comes_back_broken_is_not_lent_again,
    25 a_connection_whose_holder_panicked_is_not_lent_again,
    27 a_failing_hook_discards_the_connection_and_the_caller_gets_another,
    28 a_dirty_connection_is_reset_before_its_next_use,
    28 a_reset_that_hangs_is_bounded,
    28 a_failing_reset_discards_the_connection,
);

fn no_lock_is_held_during_connect(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let loan = get(&pool, "the first of two")?;
    room.database.on(Call::Connect, Behaviour::Hangs);
    let mut connecting = Caller::start(&pool)?;
    room.database.wait_until_inside(Call::Connect, 1)?;
    give_back(loan, "a connection while another is being opened")?;
    // Whoever of the two the pool prefers.
    let mut newcomer = Caller::start(&pool)?;
    let mut served = 0;
    let outcome = eventually("somebody is served with what came back, while a connect hangs", || {
        served += usize::from(connecting.answer_by_now().is_some_and(|answer| answer.is_ok()));
        served += usize::from(newcomer.answer_by_now().is_some_and(|answer| answer.is_ok()));
        served > 0
    });
    room.database.on(Call::Connect, Behaviour::Works);
    outcome
}

fn no_lock_is_held_during_validation(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 3, validate: Validate::Always, ..Options::default() })?;
    // All have been lent, for a new connection needs no validation.
    for loan in get_all(&pool, 3, "before")? {
        give_back(loan, "before")?;
    }
    eventually("all are idle", || pool.snapshot().map_or(true, |now| now.idle == 3))?;
    room.database.next(Call::Validate, 1, Behaviour::Hangs);
    let mut kept = Caller::start(&pool)?;
    room.database.wait_until_inside(Call::Validate, 1)?;
    give_back(get(&pool, "another caller while a validation hangs")?, "while a validation hangs")?;
    room.database.let_through(Call::Validate, 1);
    drop(kept.served("the caller whose validation hung")?);
    Ok(())
}

fn no_lock_is_held_during_close(room: &Room) -> Check {
    let pool = room.pool_of(3)?;
    let mut loans = get_all(&pool, 2, "before")?;
    room.database.on(Call::Close, Behaviour::Hangs);
    let mut broken = loans.remove(0);
    broken.connection().is_broken = true;
    let returning = Worker::start(move || drop(broken));
    let other = loans.remove(0);
    give_back(other, "another connection while one hangs in close")?;
    // A pool that looks at checkout only closes in one caller's hands; the others are free of it.
    let served = Arc::new(AtomicUsize::new(0));
    let callers: Vec<Worker<()>> = (0..3)
        .map(|_| {
            let (pool, served) = (Arc::clone(&pool), Arc::clone(&served));
            Worker::start(move || {
                let loan = pool.get();
                served.fetch_add(usize::from(loan.is_ok()), Ordering::Relaxed);
                thread::sleep(NOT_SOON);
            })
        })
        .collect();
    let outcome =
        eventually("two of three callers are served while one connection of at most 3 hangs in close", || {
            served.load(Ordering::Relaxed) >= 2
        });
    room.database.on(Call::Close, Behaviour::Works);
    outcome?;
    for caller in callers {
        caller.join("a caller")?;
    }
    returning.join("giving back a broken connection")
}

fn validation_is_skipped_inside_a_window(room: &Room) -> Check {
    let validate = Validate::AfterIdle(Duration::from_secs(3600));
    let pool = room.pool(&Options { validate, ..Options::default() })?;
    for _ in 0..5 {
        give_back(get(&pool, "again")?, "again")?;
    }
    let asked = room.database.asked(Call::Validate);
    ensure!(asked == 0, "{asked} validations of a connection that was idle for no time");
    Ok(())
}

fn validation_is_done_outside_the_window(room: &Room) -> Check {
    let windowed = Options { validate: Validate::AfterIdle(Duration::from_millis(20)), ..Options::default() };
    // Where there is no window, every checkout is outside of it.
    let pool = match room.pool(&windowed) {
        Ok(pool) => pool,
        Err(_) => room.pool(&Options { validate: Validate::Always, ..Options::default() })?,
    };
    give_back(get(&pool, "before")?, "before")?;
    thread::sleep(Duration::from_millis(120));
    give_back(get(&pool, "after a time idle")?, "after a time idle")?;
    let asked = room.database.asked(Call::Validate);
    ensure!(asked >= 1, "no validation of a connection that lay idle for 120 ms, with a window of 20 ms");
    Ok(())
}

fn a_connection_that_fails_validation_is_replaced_without_an_error(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 3, validate: Validate::Always, ..Options::default() })?;
    for loan in get_all(&pool, 3, "before")? {
        give_back(loan, "before")?;
    }
    eventually("all are idle", || pool.snapshot().map_or(true, |now| now.idle >= 3))?;
    room.database.kill_connections();
    let mut loan = get(&pool, "a caller when all idle connections are dead")?;
    ensure!(loan.connection().id > 3, "a dead connection was lent");
    Ok(())
}

fn a_connection_that_comes_back_broken_is_not_lent_again(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let mut loan = get(&pool, "the only one")?;
    loan.connection().is_broken = true;
    give_back(loan, "a broken one")?;
    let mut loan = get(&pool, "after a broken one")?;
    ensure!(loan.connection().id > 1, "the broken connection was lent again");
    give_back(loan, "the next one")?;
    is_whole(&pool, &room.database, 1)
}

fn a_connection_whose_holder_panicked_is_not_lent_again(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let loan = get(&pool, "the only one")?;
    let holder = Worker::start(move || {
        let _loan = loan;
        panic!("the holder panics in the middle of its work");
    });
    let _: Result<(), String> = holder.outcome("a holder that panics")?;
    let mut loan = get(&pool, "after a holder panicked")?;
    ensure!(loan.connection().id > 1, "the connection of a holder that panicked was lent again");
    Ok(())
}

fn a_failing_hook_discards_the_connection_and_the_caller_gets_another(room: &Room) -> Check {
    let pool = room.pool(&Options { has_hook: true, ..Options::default() })?;
    give_back(get(&pool, "before")?, "before")?;
    let asked = room.database.asked(Call::Hook);
    room.database.next(Call::Hook, 1, Behaviour::Fails);
    // Where the hook belongs to connecting, a new connection is needed to have it called.
    let mut loan = get(&pool, "a caller whose hook fails once")?;
    if room.database.asked(Call::Hook) == asked {
        loan.connection().is_broken = true;
        give_back(loan, "a broken one")?;
        loan = get(&pool, "a caller whose hook fails once, on a new connection")?;
    }
    ensure!(room.database.asked(Call::Hook) > asked, "the hook was not called");
    ensure!(loan.connection().id > 1, "the connection whose hook failed was lent");
    give_back(loan, "the next one")?;
    is_whole(&pool, &room.database, 1)
}

fn resetting(room: &Room, acquire_timeout: Duration) -> Check<crate::conformance::lab::Pool> {
    let pool = room.pool(&Options { has_reset: true, acquire_timeout, ..Options::default() })?;
    let mut loan = get(&pool, "the only one")?;
    loan.connection().is_dirty = true;
    give_back(loan, "a dirty one")?;
    Ok(pool)
}

fn a_dirty_connection_is_reset_before_its_next_use(room: &Room) -> Check {
    let pool = resetting(room, EVENTUALLY)?;
    let mut loan = get(&pool, "after a dirty one")?;
    ensure!(!loan.connection().is_dirty, "a dirty connection was lent");
    ensure!(loan.connection().id == 1 && room.database.asked(Call::Reset) == 1, "it was not reset, but replaced");
    Ok(())
}

fn a_reset_that_hangs_is_bounded(room: &Room) -> Check {
    room.database.on(Call::Reset, Behaviour::Hangs);
    let pool = resetting(room, SHORT * 4)?;
    let _ = answer(&pool, "a caller while a reset hangs")?;
    room.database.wait_until_asked(Call::Reset, 1)?;
    room.database.on(Call::Reset, Behaviour::Works);
    eventually("the pool serves again", || pool.get().is_ok())
}

fn a_failing_reset_discards_the_connection(room: &Room) -> Check {
    room.database.next(Call::Reset, 1, Behaviour::Fails);
    let pool = resetting(room, EVENTUALLY)?;
    let mut loan = get(&pool, "a caller after a failing reset")?;
    ensure!(room.database.asked(Call::Reset) > 0, "a dirty connection was not reset");
    ensure!(loan.connection().id > 1, "the connection that could not be reset was lent");
    Ok(())
}

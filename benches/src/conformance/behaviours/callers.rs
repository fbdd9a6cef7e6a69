//! What callers are told, and when.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{
    AT_MOST, EVENTUALLY, Room, SHORT, Worker, answer, eventually, get, get_all, give_back, refused,
};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{FOREVER, Kind, Options, Validate};
use crate::conformance::{Check, ensure, fails, lacks};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    13 the_timeout_holds_when_nothing_is_idle,
    13 the_timeout_holds_when_connect_hangs,
    13 the_timeout_holds_when_validation_hangs,
    13 the_timeout_holds_when_close_hangs,
    16 the_error_says_what_the_database_said,
    16 the_error_tells_an_exhausted_pool_from_a_dead_database,
    16 the_error_has_the_pools_counts,
    16 the_error_says_that_the_pool_is_closed,
    42 a_current_thread_runtime_will_do,
    42 no_runtime_will_do,
    42 a_guard_may_be_dropped_outside_a_runtime,
    42 a_guard_of_a_broken_connection_may_be_dropped_outside_a_runtime,
    45 no_size_is_an_error_and_no_panic,
    45 more_min_idle_than_size_is_an_error_and_no_panic,
    45 a_lifetime_of_zero_is_an_error_and_no_panic,
);

fn short(validate: Validate) -> Options {
    Options { acquire_timeout: SHORT, validate, ..Options::default() }
}

/// A caller with [`SHORT`] time is refused within [`AT_MOST`].
fn times_out(pool: &crate::conformance::lab::Pool, when: &str) -> Check {
    let since = Instant::now();
    let refusal = refused(pool, when)?;
    let waited = since.elapsed();
    ensure!(waited <= AT_MOST, "{when}: a caller with {SHORT:?} was kept {waited:?}");
    ensure!(refusal.kind != Kind::Closed, "{when}: was told \"{}\"", refusal.text);
    Ok(())
}

fn the_timeout_holds_when_nothing_is_idle(room: &Room) -> Check {
    let pool = room.pool(&short(Validate::Never))?;
    let _loan = get(&pool, "the only one")?;
    times_out(&pool, "when everything is lent")
}

fn the_timeout_holds_when_connect_hangs(room: &Room) -> Check {
    let pool = room.pool(&short(Validate::Never))?;
    room.database.on(Call::Connect, Behaviour::Hangs);
    times_out(&pool, "when connect hangs")?;
    room.database.on(Call::Connect, Behaviour::Works);
    eventually("the pool serves again", || pool.get().is_ok())
}

fn the_timeout_holds_when_validation_hangs(room: &Room) -> Check {
    let pool = room.pool(&short(Validate::Always))?;
    give_back(get(&pool, "the only one")?, "the only one")?;
    room.database.on(Call::Validate, Behaviour::Hangs);
    let since = Instant::now();
    // Who is served another connection in time is served well.
    drop(answer(&pool, "when validation hangs")?);
    let waited = since.elapsed();
    ensure!(waited <= AT_MOST, "when validation hangs: a caller with {SHORT:?} was kept {waited:?}");
    room.database.on(Call::Validate, Behaviour::Works);
    eventually("the pool serves again", || pool.get().is_ok())
}

fn the_timeout_holds_when_close_hangs(room: &Room) -> Check {
    let pool = room.pool(&short(Validate::Never))?;
    let mut loan = get(&pool, "the only one")?;
    loan.connection().is_broken = true;
    room.database.on(Call::Close, Behaviour::Hangs);
    let returning = Worker::start(move || drop(loan));
    // Who is served a new connection is not kept either.
    let since = Instant::now();
    let _ = answer(&pool, "while a connection hangs in close")?;
    let _ = answer(&pool, "while a connection hangs in close")?;
    let waited = since.elapsed();
    room.database.on(Call::Close, Behaviour::Works);
    returning.join("giving back a broken connection")?;
    ensure!(
        waited <= AT_MOST * 2,
        "two callers with {SHORT:?} each were kept {waited:?} while a connection hung in close"
    );
    Ok(())
}

fn the_error_says_what_the_database_said(room: &Room) -> Check {
    let pool = room.pool(&Options { acquire_timeout: SHORT * 4, ..Options::default() })?;
    room.database.on(Call::Connect, Behaviour::Fails);
    let refusal = refused(&pool, "a caller whose connects fail")?;
    ensure!(refusal.names_cause, "while every connect failed, a caller was told \"{}\"", refusal.text);
    Ok(())
}

fn the_error_tells_an_exhausted_pool_from_a_dead_database(room: &Room) -> Check {
    let options = Options { acquire_timeout: SHORT * 4, ..Options::default() };
    let pool = room.pool(&options)?;
    let _loan = get(&pool, "the only one")?;
    let exhausted = refused(&pool, "a caller of an exhausted pool")?;
    let other = Room::new(room.subject);
    let pool = other.pool(&options)?;
    other.database.on(Call::Connect, Behaviour::Fails);
    let dead = refused(&pool, "a caller whose connects fail")?;
    ensure!(exhausted.kind != dead.kind || exhausted.text != dead.text, "both were told \"{}\"", dead.text);
    Ok(())
}

fn the_error_has_the_pools_counts(room: &Room) -> Check {
    // A number that no timeout of this check contains.
    const SIZE: usize = 7;
    let pool = room.pool(&Options { max_size: SIZE, acquire_timeout: SHORT, ..Options::default() })?;
    let _loans = get_all(&pool, SIZE, "all")?;
    let refusal = refused(&pool, "a caller of an exhausted pool")?;
    let words = refusal.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    let has_count = words.clone().any(|word| word == "7");
    ensure!(has_count, "with all {SIZE} lent, a caller was told \"{}\"", refusal.text);
    Ok(())
}

fn the_error_says_that_the_pool_is_closed(room: &Room) -> Check {
    let pool = room.pool(&short(Validate::Never))?;
    let _ = pool.close(Duration::ZERO)?;
    let refusal = refused(&pool, "a caller of a closed pool")?;
    ensure!(refusal.kind == Kind::Closed, "was told \"{}\"", refusal.text);
    Ok(())
}

fn a_current_thread_runtime_will_do(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let (first, second) = (pool.get_async()?, pool.get_async()?);
    let worker = Worker::start_outside(move || -> Check {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime else { return fails("there is no runtime") };
        runtime.block_on(async move {
            let holder = tokio::spawn(async move {
                let loan = first.await;
                tokio::task::yield_now().await;
                loan.map(drop).is_ok()
            });
            let waiter = tokio::spawn(async move { second.await.map(drop).is_ok() });
            let served = matches!((holder.await, waiter.await), (Ok(true), Ok(true)));
            ensure!(served, "two tasks on a current-thread runtime were not both served");
            Ok(())
        })
    });
    worker.join("two tasks on a current-thread runtime")?
}

fn no_runtime_will_do(room: &Room) -> Check {
    let pool = room.pool(&Options { acquire_timeout: FOREVER, ..Options::default() })?;
    if pool.needs_tokio() {
        return lacks("made for tokio, as its documentation says");
    }
    let worker = {
        let pool = Arc::clone(&pool);
        Worker::start_outside(move || -> Check<bool> {
            let Ok(mut acquire) = pool.get_async() else { return Ok(pool.get().is_ok()) };
            let until = Instant::now() + EVENTUALLY;
            while Instant::now() < until {
                if let std::task::Poll::Ready(answer) = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return Ok(answer.is_ok());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(false)
        })
    };
    ensure!(worker.join("a caller without a runtime")??, "a caller without a runtime was not served");
    Ok(())
}

fn dropped_outside(room: &Room, is_broken: bool) -> Check {
    let pool = room.pool_of(1)?;
    let mut loan = get(&pool, "the only one")?;
    loan.connection().is_broken = is_broken;
    Worker::start_outside(move || drop(loan)).join("dropping a guard outside a runtime")?;
    drop(get(&pool, "after a guard was dropped outside a runtime")?);
    Ok(())
}

fn a_guard_may_be_dropped_outside_a_runtime(room: &Room) -> Check {
    dropped_outside(room, false)
}

fn a_guard_of_a_broken_connection_may_be_dropped_outside_a_runtime(room: &Room) -> Check {
    dropped_outside(room, true)
}

/// Options that make no sense are refused, or turn out to make sense; the builder does not panic.
fn refused_or_usable(room: &Room, options: Options) -> Check {
    let building = {
        let room = room.clone();
        Worker::start_outside(move || room.subject.open(room.database, &options))
    };
    match building.outcome("building")? {
        Err(message) => fails(format!("the builder panicked: {message}")),
        Ok(Err(finding)) => Err(finding),
        Ok(Ok(Err(_))) => Ok(()),
        Ok(Ok(Ok(pool))) => match answer(&pool, "a pool with options that make no sense")? {
            Ok(_) => Ok(()),
            Err(refusal) => fails(format!("the builder accepted it; the first caller was told \"{}\"", refusal.text)),
        },
    }
}

fn no_size_is_an_error_and_no_panic(room: &Room) -> Check {
    refused_or_usable(room, Options { max_size: 0, acquire_timeout: SHORT * 4, ..Options::default() })
}

fn more_min_idle_than_size_is_an_error_and_no_panic(room: &Room) -> Check {
    refused_or_usable(room, Options { max_size: 1, min_idle: 2, acquire_timeout: SHORT * 4, ..Options::default() })
}

fn a_lifetime_of_zero_is_an_error_and_no_panic(room: &Room) -> Check {
    let options = Options { max_lifetime: Some(Duration::ZERO), acquire_timeout: SHORT * 4, ..Options::default() };
    refused_or_usable(room, options)
}

//! Ends: of connections by order, of loans, of the pool; and what an observer hears of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{EVENTUALLY, NOT_SOON, Room, SHORT, Worker, get, get_all, give_back};
use crate::conformance::subject::{Event, Options};
use crate::conformance::{Check, ensure, fails, lacks};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    33 a_purge_closes_idle_connections_now_and_lent_ones_as_they_come_back,
    35 close_waits_for_loans,
    35 close_gives_up_at_its_deadline_and_says_what_is_left,
    36 a_pool_may_be_dropped_before_its_guards,
    36 a_dropped_pool_closes_its_idle_connections,
    40 events_come_in_order_and_once,
);

fn a_purge_closes_idle_connections_now_and_lent_ones_as_they_come_back(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let mut loans = get_all(&pool, 2, "before")?;
    let lent = loans.remove(0);
    give_back(loans.remove(0), "before")?;
    pool.purge()?;
    room.database.wait_until_open(EVENTUALLY, |open| open <= 1, "the idle one after a purge")?;
    give_back(lent, "the lent one after a purge")?;
    let mut next = get(&pool, "after a purge")?;
    ensure!(next.connection().id > 2, "a connection from before the purge was lent");
    Ok(())
}

fn close_waits_for_loans(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let loan = get(&pool, "the only one")?;
    if !pool.close_waits() {
        // A pool that cannot be closed says so itself.
        let _ = pool.close(Duration::ZERO)?;
        return lacks("close does not wait for loans");
    }
    let closing = {
        let pool = Arc::clone(&pool);
        Worker::start(move || pool.close(EVENTUALLY))
    };
    std::thread::sleep(NOT_SOON);
    let open = room.database.counts().open;
    give_back(loan, "the only one")?;
    let result = closing.join("closing")??;
    ensure!(open == 1, "the connection was closed under its holder");
    ensure!(result.is_ok(), "close said {result:?} after the last loan had come back");
    ensure!(room.database.counts().open == 0, "connections are open after close");
    Ok(())
}

fn close_gives_up_at_its_deadline_and_says_what_is_left(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let loan = get(&pool, "the only one")?;
    if !pool.close_waits() {
        let _ = pool.close(Duration::ZERO)?;
        return lacks("close does not wait for loans");
    }
    let since = Instant::now();
    let result = pool.close(SHORT)?;
    let waited = since.elapsed();
    ensure!(waited >= SHORT && waited < EVENTUALLY, "close with a deadline of {SHORT:?} returned after {waited:?}");
    match result {
        Ok(()) => fails("close reported success with a connection lent"),
        Err(text) => {
            ensure!(text.contains('1'), "close said \"{text}\" with one connection lent");
            give_back(loan, "after close")?;
            room.database.wait_until_open(EVENTUALLY, |open| open == 0, "a loan that came back to a closed pool")
        }
    }
}

fn a_pool_may_be_dropped_before_its_guards(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    let mut loans = get_all(&pool, 2, "before")?;
    Worker::start(move || drop(pool)).join("dropping a pool with two loans")?;
    for loan in &mut loans {
        loan.connection().used(|| ());
    }
    for loan in loans {
        give_back(loan, "to a pool that was dropped")?;
    }
    room.database.wait_until_open(EVENTUALLY, |open| open == 0, "loans that came back to a dropped pool")
}

fn a_dropped_pool_closes_its_idle_connections(room: &Room) -> Check {
    let pool = room.pool_of(2)?;
    for loan in get_all(&pool, 2, "before")? {
        give_back(loan, "before")?;
    }
    Worker::start(move || drop(pool)).join("dropping a pool")?;
    room.database.wait_until_open(EVENTUALLY, |open| open == 0, "idle connections of a dropped pool")
}

fn events_come_in_order_and_once(room: &Room) -> Check {
    let pool = room.pool(&Options { max_size: 2, ..Options::default() })?;
    let _ = pool.events()?;
    for turn in 0..4 {
        let mut loan = get(&pool, "again")?;
        loan.connection().is_broken = turn % 2 == 1;
        give_back(loan, "again")?;
    }
    room.database.wait_until_open(EVENTUALLY, |open| open == 0, "the broken ones")?;
    let mut by_connection: HashMap<u64, Vec<Event>> = HashMap::new();
    for (event, connection) in pool.events()? {
        by_connection.entry(connection).or_default().push(event);
    }
    let expected = [Event::Opened, Event::Checkout, Event::Checkin, Event::Checkout, Event::Checkin, Event::Closed];
    ensure!(by_connection.len() == 2, "events of {} connections, of 2", by_connection.len());
    for events in by_connection.values() {
        ensure!(*events == expected, "events of a connection came as {events:?}");
    }
    Ok(())
}

//! What the pool does by the clock. Bounds are generous: only "not at all" and "all the time" are told apart.

use std::thread;
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{Room, get, get_all, give_back, within};
use crate::conformance::subject::Options;
use crate::conformance::{Check, ensure};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    29 idle_connections_beyond_min_idle_are_closed,
    29 min_idle_connections_are_not_opened_again_and_again,
    30 the_pool_shrinks_under_light_load,
    31 an_idle_connection_ends_with_its_lifetime,
    31 a_lent_connection_ends_with_its_lifetime_when_it_comes_back,
    31 lifetimes_are_jittered,
);

/// A pool whose `open` connections are all idle.
fn idle(room: &Room, open: usize, options: &Options) -> Check<crate::conformance::lab::Pool> {
    let pool = room.pool(options)?;
    for loan in get_all(&pool, open, "at the start")? {
        give_back(loan, "at the start")?;
    }
    Ok(pool)
}

fn idle_connections_beyond_min_idle_are_closed(room: &Room) -> Check {
    let idle_timeout = Some(Duration::from_millis(300));
    let pool = idle(room, 4, &Options { max_size: 4, idle_timeout, ..Options::default() })?;
    room.database.wait_until_open(room.by_the_clock(), |open| open == 0, "idle for longer than 300 ms")?;
    drop(get(&pool, "afterwards")?);
    Ok(())
}

fn min_idle_connections_are_not_opened_again_and_again(room: &Room) -> Check {
    let idle_timeout = Some(Duration::from_millis(300));
    let _pool = idle(room, 2, &Options { max_size: 4, min_idle: 2, idle_timeout, ..Options::default() })?;
    // Everything that is done about idle connections has been done once.
    let opened = room.database.counts().opened;
    let time =
        if room.by_the_clock() > Duration::from_secs(10) { Duration::from_secs(33) } else { Duration::from_secs(2) };
    let since = Instant::now();
    while since.elapsed() < time {
        let more = room.database.counts().opened - opened;
        ensure!(more <= 1, "{more} connections were opened again within {:?}, with nobody using any", since.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    let open = room.database.counts().open;
    ensure!(open >= 2, "{open} connections are open, of at least 2");
    Ok(())
}

fn the_pool_shrinks_under_light_load(room: &Room) -> Check {
    let idle_timeout = Some(Duration::from_millis(500));
    let pool = idle(room, 4, &Options { max_size: 4, idle_timeout, ..Options::default() })?;
    let mut problem = Ok(());
    within(room.by_the_clock(), "all but two of four are closed while one caller at a time uses the pool", || {
        problem = get(&pool, "under light load").and_then(|loan| give_back(loan, "under light load"));
        thread::sleep(Duration::from_millis(10));
        problem.is_err() || room.database.counts().open <= 2
    })?;
    problem
}

fn an_idle_connection_ends_with_its_lifetime(room: &Room) -> Check {
    let max_lifetime = Some(Duration::from_millis(300));
    let pool = idle(room, 1, &Options { max_lifetime, ..Options::default() })?;
    room.database.wait_until_open(room.by_the_clock(), |open| open == 0, "idle and older than 300 ms")?;
    drop(get(&pool, "afterwards")?);
    Ok(())
}

fn a_lent_connection_ends_with_its_lifetime_when_it_comes_back(room: &Room) -> Check {
    let max_lifetime = Some(Duration::from_millis(300));
    let pool = room.pool(&Options { max_lifetime, ..Options::default() })?;
    let loan = get(&pool, "the only one")?;
    thread::sleep(Duration::from_millis(900));
    give_back(loan, "one that is three lifetimes old")?;
    let mut next = get(&pool, "the next caller")?;
    ensure!(next.connection().id > 1, "a connection three lifetimes old was lent again");
    Ok(())
}

fn lifetimes_are_jittered(room: &Room) -> Check {
    const CONNECTIONS: usize = 12;
    let max_lifetime = Duration::from_secs(2);
    let options = Options { max_size: CONNECTIONS, max_lifetime: Some(max_lifetime), ..Options::default() };
    let _pool = idle(room, CONNECTIONS, &options)?;
    let patience = room.by_the_clock() + max_lifetime;
    within(patience, "all end with their lifetime of 2 s", || room.database.lived().len() >= CONNECTIONS)?;
    let (mut ages, mut ends): (Vec<Duration>, Vec<Instant>) = room.database.lived().into_iter().unzip();
    ages.sort_unstable();
    ends.sort_unstable();
    let ([youngest, .., oldest], [first, .., last]) = (&ages[..], &ends[..]) else { return Ok(()) };
    // Either alone may be stretched by a busy machine: ages when the connections were opened one after the other, ends
    // when the pool looks one after the other.
    let spread = (*oldest - *youngest).min(*last - *first);
    ensure!(
        spread > max_lifetime / 20,
        "{CONNECTIONS} connections opened together lived {youngest:?} to {oldest:?}, with a lifetime of {max_lifetime:?}, \
         and ended within {:?}",
        *last - *first
    );
    Ok(())
}

//! The line: who is served, in which order, and that nobody is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{
    Bell, Caller, EVENTUALLY, Pool, Room, SHORT, Task, Worker, eventually, get, get_all, give_back, is_whole, newcomer,
    runtime,
};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{Kind, Options};
use crate::conformance::{Check, ensure, fails, lacks};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    4 waiters_are_served_in_order_of_arrival,
    4 newcomers_cannot_overtake_a_waiter_for_ever,
    5 an_idle_connection_and_a_waiter_never_coexist,
    6 one_return_wakes_one_waiter,
    7 a_cancelled_waiter_passes_its_wake_on,
    7 a_waiter_whose_time_is_up_passes_its_wake_on,
    8 the_last_waker_wins,
    9 a_broken_connection_makes_room_for_a_waiter,
    11 all_waiters_fail_at_close,
    12 a_failed_connect_lets_the_next_waiter_try,
    41 threads_and_tasks_stand_in_one_line,
    43 many_thousand_waiters_on_three_connections_finish,
);

fn waiters_are_served_in_order_of_arrival(room: &Room) -> Check {
    const CALLERS: usize = 6;
    let pool = room.pool(&Options { is_strict: true, ..Options::default() })?;
    let loan = get(&pool, "the only one")?;
    let mut line: Vec<(usize, Caller<_>)> =
        (0..CALLERS).map(|place| Ok((place, Caller::start(&pool)?))).collect::<Check<_>>()?;
    give_back(loan, "the only one")?;
    let mut order = Vec::new();
    while !line.is_empty() {
        let mut served = None;
        eventually(&format!("the next waiter is served after {order:?}"), || {
            served = line.iter_mut().enumerate().find_map(|(at, (_, caller))| Some((at, caller.answer_by_now()?)));
            served.is_some()
        })?;
        let Some((at, answer)) = served else { continue };
        order.push(line.remove(at).0);
        match answer {
            Ok(loan) => give_back(loan, "by a waiter")?,
            Err(refusal) => return fails(format!("a waiter was told \"{}\"", refusal.text)),
        }
    }
    ensure!(order.is_sorted(), "served in the order {order:?}");
    Ok(())
}

fn newcomers_cannot_overtake_a_waiter_for_ever(room: &Room) -> Check {
    const OVERTAKING: usize = 1000;
    let pool = room.pool_of(1)?;
    let mut loan = get(&pool, "the only one")?;
    let mut waiter = Caller::start(&pool)?;
    // Older than any bound that a pool may have for this.
    thread::sleep(SHORT);
    for _ in 0..OVERTAKING {
        drop(loan);
        match newcomer(&pool)? {
            Some(again) => loan = again,
            None => {
                drop(waiter.served("the waiter that was not overtaken")?);
                return Ok(());
            }
        }
        if let Some(answer) = waiter.answer_by_now() {
            return answer.map(drop).or_else(|refusal| fails(format!("the waiter was told \"{}\"", refusal.text)));
        }
    }
    fails(format!(
        "a holder that gave back and asked again was served {OVERTAKING} times in a row, before a waiter that was polled \
         whenever it was woken"
    ))
}

fn an_idle_connection_and_a_waiter_never_coexist(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    for round in 0..200 {
        let loan = get(&pool, "the only one")?;
        // The return races with a waiter that comes at the same time.
        let returning = Worker::start(move || drop(loan));
        let what = format!("a waiter that comes while the only connection comes back, in round {round}");
        match Task::new(&*pool) {
            Ok(mut task) => drop(task.finish(&what)?),
            Err(_) => drop(get(&pool, &what)?),
        }
        returning.join("giving back")?;
    }
    Ok(())
}

fn rings<C: 'static>(tasks: &[Task<C>]) -> Vec<usize> {
    tasks.iter().map(|task| task.bell.rings()).collect()
}

fn waiting_tasks(pool: &Pool, count: usize) -> Check<Vec<Task<crate::conformance::script::Connection>>> {
    (0..count)
        .map(|_| {
            let mut task = Task::new(&**pool)?;
            ensure!(!task.poll(), "an acquire of a pool with nothing idle did not wait");
            Ok(task)
        })
        .collect()
}

fn one_return_wakes_one_waiter(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let loan = get(&pool, "the only one")?;
    let mut tasks = waiting_tasks(&pool, 5)?;
    let before: usize = rings(&tasks).iter().sum();
    drop(loan);
    eventually("a return wakes a waiter", || rings(&tasks).iter().sum::<usize>() > before)?;
    thread::sleep(SHORT);
    let woken = rings(&tasks).iter().filter(|rings| **rings > 0).count();
    ensure!(woken == 1, "one return woke {woken} of 5 waiters");
    // And all are served in the end.
    for _ in 0..5 {
        let mut served = None;
        eventually("every waiter is served", || {
            served = tasks.iter_mut().position(|task| task.bell.rings() > 0 && task.poll());
            served.is_some()
        })?;
        if let Some(served) = served {
            drop(tasks.remove(served));
        }
    }
    Ok(())
}

fn a_cancelled_waiter_passes_its_wake_on(room: &Room) -> Check {
    for round in 0..20 {
        let pool = room.pool_of(1)?;
        let loan = get(&pool, "the only one")?;
        let mut tasks = waiting_tasks(&pool, 3)?;
        drop(loan);
        eventually("a return wakes a waiter", || rings(&tasks).iter().any(|rings| *rings > 0))?;
        let woken = tasks.iter().position(|task| task.bell.rings() > 0).unwrap_or(0);
        // Woken, and gone before it could look.
        drop(tasks.remove(woken));
        for mut task in tasks {
            drop(task.finish(&format!("a waiter after another that was woken and dropped, in round {round}"))?);
        }
    }
    Ok(())
}

fn a_waiter_whose_time_is_up_passes_its_wake_on(room: &Room) -> Check {
    // All have the same time, so the one that comes half a time later must be served by the return that comes about when
    // the first one's is up.
    const TIME: Duration = Duration::from_millis(200);
    let pool = room.pool(&Options { acquire_timeout: TIME, ..Options::default() })?;
    let mut missed = 0;
    const ROUNDS: usize = 12;
    for round in 0..ROUNDS {
        let loan = get(&pool, "the only one")?;
        let began = Instant::now();
        let caller = || {
            let pool = Arc::clone(&pool);
            Worker::start(move || (pool.get().map(drop).is_ok(), Instant::now()))
        };
        let early = caller();
        thread::sleep(TIME / 2);
        let late_began = Instant::now();
        let late = caller();
        // Around the end of the first one's time, a little earlier or later each round.
        let at = TIME + Duration::from_micros(300 * round as u64) - Duration::from_micros(1800);
        thread::sleep(at.saturating_sub(began.elapsed()));
        drop(loan);
        let returned = Instant::now();
        let _ = early.join("a waiter whose time is up")?;
        let (is_served, _) = late.join("a waiter with time left")?;
        // A machine so busy that the return itself came late says nothing.
        if !is_served && returned + TIME / 10 < late_began + TIME {
            missed += 1;
        }
    }
    ensure!(missed == 0, "in {missed} of {ROUNDS} rounds a waiter with time left slept beside an idle connection");
    Ok(())
}

fn the_last_waker_wins(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let loan = get(&pool, "the only one")?;
    let mut task = waiting_tasks(&pool, 1)?.remove(0);
    let latest = Arc::new(Bell::default());
    ensure!(!task.poll_with(&Waker::from(Arc::clone(&latest))), "it did not wait");
    drop(loan);
    ensure!(latest.wait_for(1, EVENTUALLY), "the waker of the last poll was never rung");
    ensure!(task.poll() || latest.rings() > 0, "woken for nothing");
    Ok(())
}

fn a_broken_connection_makes_room_for_a_waiter(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let mut loan = get(&pool, "the only one")?;
    let mut waiter = Caller::start(&pool)?;
    loan.connection().is_broken = true;
    give_back(loan, "a broken one")?;
    let mut next = waiter.served("a waiter when the only connection came back broken")?;
    ensure!(next.connection().id > 1, "the broken connection was lent to the waiter");
    Ok(())
}

fn all_waiters_fail_at_close(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    let _loan = get(&pool, "the only one")?;
    let mut waiters: Vec<Caller<_>> = (0..4).map(|_| Caller::start(&pool)).collect::<Check<_>>()?;
    let _ = pool.close(Duration::ZERO)?;
    for waiter in &mut waiters {
        match waiter.finish("a waiter when the pool closes")? {
            Ok(_) => return fails("a waiter was served by a closed pool whose only connection is lent"),
            Err(refusal) => ensure!(refusal.kind == Kind::Closed, "a waiter was told \"{}\"", refusal.text),
        }
    }
    Ok(())
}

fn a_failed_connect_lets_the_next_waiter_try(room: &Room) -> Check {
    let pool = room.pool_of(1)?;
    room.database.next(Call::Connect, 1, Behaviour::Fails);
    let mut first = Caller::start(&pool)?;
    let mut second = Caller::start(&pool)?;
    room.database.wait_until_asked(Call::Connect, 1)?;
    match first {
        // Whether it was told the error or still waits: it goes.
        Caller::Task(_) => drop(first),
        Caller::Thread(_) => drop(first.finish("a caller whose connect failed")?),
    }
    // Either is right: a connection, or the error handed to it.
    drop(second.finish("the next waiter after a failed connect")?);
    is_whole(&pool, &room.database, 1)
}

fn threads_and_tasks_stand_in_one_line(room: &Room) -> Check {
    let pool = room.pool(&Options { is_strict: true, ..Options::default() })?;
    if pool.needs_tokio() {
        return lacks("async only: a thread would block on the same future");
    }
    let loan = get(&pool, "the only one")?;
    let mut first = Task::new(&*pool)?;
    ensure!(!first.poll(), "it did not wait");
    let Some(waiting) = pool.waiters() else { return lacks("async only: a thread would block on the same future") };
    let mut second = Caller::blocked(&pool)?;
    eventually("the thread stands in the same line", || pool.waiters() > Some(waiting))?;
    let mut third = Task::new(&*pool)?;
    ensure!(!third.poll(), "it did not wait");
    drop(loan);
    let loan = first.finish("the task that came first")?;
    ensure!(second.answer_by_now().is_none() && third.bell.rings() == 0, "somebody else was served, too");
    drop(loan);
    let loan = second.served("the thread that came second")?;
    ensure!(third.bell.rings() == 0, "the task that came third was woken before its turn");
    drop(loan);
    drop(third.finish("the task that came third")?);
    Ok(())
}

fn many_thousand_waiters_on_three_connections_finish(room: &Room) -> Check {
    const WAITERS: usize = 25_000;
    const TIME: Duration = Duration::from_secs(60);
    let pool = room.pool(&Options { max_size: 3, acquire_timeout: TIME, ..Options::default() })?;
    // Nobody is served before everybody waits.
    let loans = get_all(&pool, 3, "before the many")?;
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::with_capacity(WAITERS);
    for _ in 0..WAITERS {
        let acquire = pool.get_async()?;
        let served = Arc::clone(&served);
        tasks.push(runtime().spawn(async move {
            if let Ok(loan) = acquire.await {
                served.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                drop(loan);
            }
        }));
    }
    drop(loans);
    crate::conformance::lab::within(TIME, "all of 25 000 waiters on 3 connections are done", || {
        thread::sleep(Duration::from_millis(5));
        tasks.iter().all(tokio::task::JoinHandle::is_finished)
    })?;
    let served = served.load(Ordering::Relaxed);
    ensure!(served == WAITERS, "{served} of {WAITERS} waiters were served");
    Ok(())
}

//! The pool's hot paths, repeated, for a tool that counts instructions.
//!
//! A count does not depend on what else the machine is doing, so it can guard what a clock cannot:
//! `scripts/instructions` runs this under callgrind and compares with the counts of `benches/instructions.csv`.
//! Everything measured happens on one thread, and whatever would depend on time is chosen so that it does not.

use std::convert::Infallible;
use std::env;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};
use pool::{Fairness, IdleSet, Manager, Pool};

/// Connections of the pool: as many as the pool has by default.
const SIZE: usize = 10;

/// What is repeated.
const CASES: [(&str, &str); 6] = [
    ("checkout", "a checkout of an idle connection and its checkin"),
    ("checkout-owned", "the same with a guard that borrows nothing"),
    ("checkout-async", "the same through the async door"),
    ("handoff", "a task stands in line and is handed the connection that comes back"),
    ("wake", "a task stands in line, is woken by the checkin and takes the connection"),
    ("state", "a snapshot of the pool's counts"),
];

/// A connection that costs nothing: what is counted is the pool.
struct Nothing;

impl Manager for Nothing {
    type Connection = Box<u64>;
    type Error = Infallible;

    fn connect(&self) -> Result<Box<u64>, Infallible> {
        Ok(Box::new(0))
    }

    fn is_valid(&self, _: &mut Box<u64>) -> Result<(), Infallible> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--list"] => {
            for kind in ["mutex", "lock-free", "slots", "lockfree"] {
                CASES.iter().for_each(|(case, _)| println!("{case},{kind}"));
            }
            return ExitCode::SUCCESS;
        }
        [case, kind, times] => {
            if let Ok(times) = times.parse()
                && CASES.iter().any(|(name, _)| *name == case)
            {
                match kind {
                    "mutex" => return run::<MutexQueue>(case, times),
                    "lock-free" => return run::<LockFreeQueue>(case, times),
                    "slots" => return run::<Slots>(case, times),
                    "lockfree" => return run::<LockfreeCrateQueue>(case, times),
                    _ => {}
                }
            }
        }
        _ => {}
    }
    eprintln!("usage: instructions --list | instructions CASE KIND TIMES\n");
    CASES.iter().for_each(|(case, what)| eprintln!("  {case:15} {what}"));
    ExitCode::from(2)
}

fn run<I: IdleSet>(case: &str, times: u64) -> ExitCode {
    // Neither bound of fairness that these two have looks at a clock.
    let (size, fairness) = match case {
        "handoff" => (1, Fairness::Strict),
        "wake" => (1, Fairness::Free),
        _ => (SIZE, Fairness::default()),
    };
    let pool = Pool::<Nothing, I>::builder()
        .max_size(size)
        .min_idle(size)
        .fairness(fairness)
        // Ages are looked at by comparing ticks; nothing must come of it in a run that a tool slows down.
        .idle_timeout(None)
        .max_lifetime(Duration::from_secs(3600))
        .validate_after_idle(Duration::from_secs(3600))
        .build(Nothing)
        .expect("connections that cost nothing");
    let ended = match case {
        "checkout" => checkout(&pool, times),
        "checkout-owned" => checkout_owned(&pool, times),
        "checkout-async" => checkout_async(&pool, times),
        "handoff" | "wake" => with_a_waiter(&pool, times),
        _ => state(&pool, times),
    };
    assert_eq!(ended, times, "an operation did not count itself");
    ExitCode::SUCCESS
}

/// The tool counts inside this function and in what it calls, nowhere else (`--toggle-collect`).
#[inline(never)]
fn measured(work: impl FnOnce() -> u64) -> u64 {
    work()
}

fn checkout<I: IdleSet>(pool: &Pool<Nothing, I>, times: u64) -> u64 {
    measured(|| (0..times).map(|_| use_of(&mut pool.get().expect("an idle connection"))).sum())
}

fn checkout_owned<I: IdleSet>(pool: &Pool<Nothing, I>, times: u64) -> u64 {
    measured(|| (0..times).map(|_| use_of(&mut pool.get_owned().expect("an idle connection"))).sum())
}

fn checkout_async<I: IdleSet>(pool: &Pool<Nothing, I>, times: u64) -> u64 {
    let cycle = || use_of(&mut ready(pin!(pool.get_async())).expect("an idle connection"));
    measured(|| (0..times).map(|_| cycle()).sum())
}

fn with_a_waiter<I: IdleSet>(pool: &Pool<Nothing, I>, times: u64) -> u64 {
    let mut guard = pool.get().expect("an idle connection");
    measured(|| {
        let mut uses = 0;
        for _ in 0..times {
            let mut acquire = pin!(pool.get_async());
            assert!(poll(acquire.as_mut()).is_pending(), "the only connection is lent");
            drop(guard);
            guard = ready(acquire).expect("the connection that came back");
            uses += use_of(&mut guard);
        }
        uses
    })
}

fn state<I: IdleSet>(pool: &Pool<Nothing, I>, times: u64) -> u64 {
    measured(|| (0..times).map(|_| u64::from(black_box(pool).state().idle == SIZE)).sum())
}

/// One, and the connection was touched.
#[inline(always)]
fn use_of(connection: &mut Box<u64>) -> u64 {
    **black_box(connection) += 1;
    1
}

#[inline(always)]
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[inline(always)]
fn ready<F: Future>(future: Pin<&mut F>) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it must not have to wait"),
    }
}

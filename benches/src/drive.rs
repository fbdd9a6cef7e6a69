//! The loops and the clocks. Threads are made and connected before the gate; the workers read the clock.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use std::{fs, thread};

use hdrhistogram::Histogram;

use crate::backend::Failure;
use crate::contender::{Contender, Session};
use crate::workload::Work;

/// Who does how many of a run's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// So many in all, the same share for every thread, as the seed's author did it.
    Split(u64),
    /// So many in all, each batch to whoever comes first, so that all threads compete until the end however unfairly
    /// they are served.
    Shared(u64),
    /// So many in all, a portion to whoever comes first: for runs in which nobody waits for anybody. A thread
    /// that had to wait for a processor does fewer, instead of working on when the others have done and a processor is idle.
    Dealt(u64),
}

/// Portions for each thread: few enough that handing them out costs nothing, many enough that the last ones are short.
const PORTIONS: u64 = 32;

impl Quota {
    fn total(self) -> u64 {
        match self {
            Self::Split(total) | Self::Shared(total) | Self::Dealt(total) => total,
        }
    }

    /// How many operations a thread of so many takes at a time.
    fn portion(self, threads: usize, batch: u64) -> u64 {
        match self {
            Self::Split(_) | Self::Shared(_) => batch,
            Self::Dealt(total) => batch.max(total / (threads as u64 * PORTIONS)),
        }
    }
}

/// A timed run whose counts were right.
#[derive(Debug, Clone)]
pub struct Sample {
    /// From the first worker's start to the last one's end.
    pub elapsed: Duration,
    /// Operations done.
    pub ops: u64,
}

/// When a worker worked.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: Instant,
    end: Instant,
    ops: u64,
}

/// Runs `quota` operations on `threads` threads.
///
/// # Errors
///
/// The first failure of any thread; the others stop at their next batch.
pub fn run<R: ?Sized, C: Contender<R>, W: Work<R>>(
    contender: &C,
    work: &W,
    threads: usize,
    quota: Quota,
) -> Result<Sample, Failure> {
    let portion = quota.portion(threads, work.batch());
    let handed_out = AtomicU64::new(0);
    let spans = on_threads(contender, threads, |session, thread, stop| {
        let mut ops = 0;
        let mut next = |from: u64, until: u64| -> Result<(), Failure> {
            for op in from..until {
                session.with(|raw| work.run(raw, op))??;
            }
            ops += until - from;
            Ok(())
        };
        match quota {
            Quota::Split(total) => {
                let (mut op, end) = share(total, thread, threads);
                while op < end && !stop.load(Relaxed) {
                    let until = end.min(op + portion);
                    next(op, until)?;
                    op = until;
                }
            }
            Quota::Shared(total) | Quota::Dealt(total) => {
                while !stop.load(Relaxed) {
                    let op = handed_out.fetch_add(portion, Relaxed);
                    if op >= total {
                        break;
                    }
                    next(op, total.min(op + portion))?;
                }
            }
        }
        Ok(ops)
    })?;
    let ops: u64 = spans.iter().map(|(span, _)| span.ops).sum();
    if ops != quota.total() {
        return Err(Failure::new(format!(
            "{} operations were to be done, but {ops} reported themselves",
            quota.total()
        )));
    }
    Ok(Sample { elapsed: elapsed(spans.iter().map(|(span, _)| *span)), ops })
}

/// What a run over time saw.
#[derive(Debug)]
pub struct Observation {
    /// From the first worker's start to the last one's end.
    pub elapsed: Duration,
    /// Operations done by each thread.
    pub per_thread: Vec<u64>,
    /// How long each acquire took, in nanoseconds.
    pub waits: Histogram<u64>,
    /// How long each operation took from asking for a connection to being ready to ask again, in nanoseconds: also what the
    /// checkin took, where a thread may be kept from going on, too.
    pub operations: Histogram<u64>,
}

impl Observation {
    /// Operations done.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.per_thread.iter().sum()
    }

    /// The best-served thread's operations for each of the worst-served one's. A thread that got none counts as one.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn unfairness(&self) -> f64 {
        let most = self.per_thread.iter().max().copied().unwrap_or(1);
        let least = self.per_thread.iter().min().copied().unwrap_or(1).max(1);
        most as f64 / least as f64
    }
}

/// The longest time that a histogram tells from longer ones.
const LONGEST_WAIT_NS: u64 = 60_000_000_000;

/// Runs operations on `threads` threads for `time` and times every acquire and every operation: two clock reads each, about
/// 60 ns.
///
/// The loop is closed: a thread that waits asks for nothing else meanwhile, so the waits are those of `threads` patient
/// callers, not of an open stream of requests.
///
/// # Errors
///
/// The first failure of any thread.
pub fn observe<R: ?Sized, C: Contender<R>, W: Work<R>>(
    contender: &C,
    work: &W,
    threads: usize,
    time: Duration,
) -> Result<Observation, Failure> {
    let spans = on_threads(contender, threads, |session, thread, stop| {
        let (mut waits, mut operations) = (histogram()?, histogram()?);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut ops = 0;
        let mut asked = Instant::now();
        let deadline = asked + time;
        while asked < deadline && !stop.load(Relaxed) {
            let op = ops * threads as u64 + thread as u64;
            let wait = session.with(|raw| {
                let wait = asked.elapsed();
                work.run(raw, op).map(|()| wait)
            })??;
            waits.saturating_record(nanos(wait));
            ops += 1;
            let next = Instant::now();
            // Part of the next wait, some ten nanoseconds for everybody: less than a third clock read would cost.
            operations.saturating_record(nanos(next - asked));
            asked = next;
        }
        Ok((ops, (waits, operations)))
    })?;
    let elapsed = elapsed(spans.iter().map(|(span, _)| *span));
    let mut seen = Observation { elapsed, per_thread: Vec::new(), waits: histogram()?, operations: histogram()? };
    for (_, (ops, (waits, operations))) in &spans {
        seen.per_thread.push(*ops);
        for (all, own) in [(&mut seen.waits, waits), (&mut seen.operations, operations)] {
            all.add(own).map_err(|error| Failure::of("could not add histograms", error))?;
        }
    }
    if seen.waits.len() != seen.ops() || seen.operations.len() != seen.ops() {
        return Err(Failure::new("an operation was not recorded"));
    }
    Ok(seen)
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LONGEST_WAIT_NS, 3).map_err(|error| Failure::of("could not make a histogram", error))
}

/// Where the time of a run's operations went, seen from the caller: sums over all threads, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// From asking for a connection to having it.
    pub acquire_ns: u64,
    /// The statement.
    pub work_ns: u64,
    /// From the statement's end until the connection is given back.
    pub checkin_ns: u64,
}

/// Like [`run`] with [`Quota::Split`], with four clock reads an operation.
///
/// # Errors
///
/// The first failure of any thread.
pub fn dissect<R: ?Sized, C: Contender<R>, W: Work<R>>(
    contender: &C,
    work: &W,
    threads: usize,
    total: u64,
) -> Result<(Sample, Phases), Failure> {
    let nanos = |from: Instant, to: Instant| u64::try_from((to - from).as_nanos()).unwrap_or(u64::MAX);
    let spans = on_threads(contender, threads, |session, thread, stop| {
        let mut phases = Phases::default();
        let (from, until) = share(total, thread, threads);
        for op in from..until {
            if stop.load(Relaxed) {
                break;
            }
            let asked = Instant::now();
            let (had, done) = session.with(|raw| {
                let had = Instant::now();
                work.run(raw, op).map(|()| (had, Instant::now()))
            })??;
            let given = Instant::now();
            phases.acquire_ns += nanos(asked, had);
            phases.work_ns += nanos(had, done);
            phases.checkin_ns += nanos(done, given);
        }
        Ok((until - from, phases))
    })?;
    let mut sum = Phases::default();
    let mut ops = 0;
    for (_, (done, phases)) in &spans {
        ops += done;
        sum.acquire_ns += phases.acquire_ns;
        sum.work_ns += phases.work_ns;
        sum.checkin_ns += phases.checkin_ns;
    }
    if ops != total {
        return Err(Failure::new(format!("{total} operations were to be done, but {ops} reported themselves")));
    }
    Ok((Sample { elapsed: elapsed(spans.iter().map(|(span, _)| *span)), ops }, sum))
}

/// A worker's part of `total`: from, until.
fn share(total: u64, thread: usize, threads: usize) -> (u64, u64) {
    let (thread, threads) = (thread as u64, threads as u64);
    (total * thread / threads, total * (thread + 1) / threads)
}

/// The workers read the clock: a coordinator that is descheduled at the gate would shorten the span.
fn elapsed(spans: impl Iterator<Item = Span> + Clone) -> Duration {
    let start = spans.clone().map(|span| span.start).min();
    let end = spans.map(|span| span.end).max();
    match (start, end) {
        (Some(start), Some(end)) => end - start,
        _ => Duration::ZERO,
    }
}

/// What a worker brings back; its operations are part of it.
trait Ops {
    fn ops(&self) -> u64;
}

impl Ops for u64 {
    fn ops(&self) -> u64 {
        *self
    }
}

impl<T> Ops for (u64, T) {
    fn ops(&self) -> u64 {
        self.0
    }
}

/// Runs `body` on `threads` threads that start together.
fn on_threads<R: ?Sized, C: Contender<R>, T: Ops + Send>(
    contender: &C,
    threads: usize,
    body: impl Fn(&mut C::Session<'_>, usize, &AtomicBool) -> Result<T, Failure> + Sync,
) -> Result<Vec<(Span, T)>, Failure> {
    let gate = Barrier::new(threads);
    let stop = AtomicBool::new(false);
    let worker = |thread: usize| -> Result<(Span, T), Failure> {
        sleep_exactly();
        let session = contender.session();
        gate.wait();
        let outcome = session.and_then(|mut session| {
            let start = Instant::now();
            let result = body(&mut session, thread, &stop)?;
            let end = Instant::now();
            Ok((Span { start, end, ops: result.ops() }, result))
        });
        if outcome.is_err() {
            stop.store(true, Relaxed);
        }
        outcome
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || worker(thread))).collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|_| Err(Failure::new("a worker panicked; its message is above"))))
        .collect()
}

/// Asks the kernel not to round this thread's sleeps up by its usual 50 us. Where it cannot be asked, holds are longer,
/// for all contenders alike.
pub(crate) fn sleep_exactly() {
    // `thread-self` has no such file, but the thread's number does when it is looked up as a process.
    if let Ok(path) = fs::read_link("/proc/thread-self")
        && let Some(tid) = path.file_name()
    {
        let _ = fs::write(format!("/proc/{}/timerslack_ns", tid.display()), "1");
    }
}

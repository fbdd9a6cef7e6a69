//! Threads that do what may block: connect, validate, reset, close.
//!
//! Each job holds the right to a slot, so there are never more jobs than slots. Each kind of job has a lane with a limit
//! of its own, and there are never more threads than the limits add up to: ten thousand dead connections are closed by
//! as many threads as one lane allows. Jobs that hang hold up their own lane, when there are as many as its limit, and no
//! other. Threads are shared between the lanes; they start when there is a job that may run and nobody is free for it,
//! and end after [`IDLE`] without one: a pool whose connections are open has none.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::foreign::survived;
use crate::sync::{Condvar, Mutex, MutexGuard, now, thread};

/// How long a worker without work stays. Connects come in bursts; a thread costs about as much as a wake-up.
const IDLE: Duration = Duration::from_secs(5);

/// The most connections that are reset at the same time. Others wait; their slots are `checking` meanwhile.
pub(crate) const MAX_RESETTING: usize = 32;
/// The most connections that are closed at the same time. Others wait; their slots are `closing` meanwhile.
pub(crate) const MAX_CLOSING: usize = 32;

/// Jobs that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Connect,
    Validate,
    Reset,
    Close,
}

/// Number of lanes.
const LANES: usize = 4;

pub(crate) struct Workers<J> {
    queue: Mutex<Queue<J>>,
    job_ready: Condvar,
    thread_name: String,
}

struct Queue<J> {
    lanes: [Jobs<J>; LANES],
    threads: usize,
    /// Threads that wait for a job.
    free_threads: usize,
    /// Threads that have been started and have not looked for a job yet.
    starting: usize,
    /// No more jobs will come; threads end when there is nothing left for them.
    stopped: bool,
}

/// The jobs of one lane.
struct Jobs<J> {
    waiting: VecDeque<J>,
    running: usize,
    limit: usize,
}

impl<J> Jobs<J> {
    /// Jobs that wait for nothing but a thread.
    fn runnable(&self) -> usize {
        self.waiting.len().min(self.limit - self.running)
    }
}

impl<J> Queue<J> {
    fn runnable(&self) -> usize {
        self.lanes.iter().map(Jobs::runnable).sum()
    }

    /// The next job and its lane; it counts as running.
    fn next(&mut self) -> Option<(J, usize)> {
        let lane = self.lanes.iter().position(|jobs| jobs.runnable() > 0)?;
        self.lanes[lane].running += 1;
        let job = self.lanes[lane].waiting.pop_front()?;
        Some((job, lane))
    }
}

impl<J: Send + 'static> Workers<J> {
    /// `max_connecting` limits both connects and validations.
    pub(crate) fn new(pool_name: &str, max_connecting: usize) -> Self {
        let limits = [max_connecting, max_connecting, MAX_RESETTING, MAX_CLOSING];
        let lanes = limits.map(|limit| Jobs { waiting: VecDeque::new(), running: 0, limit });
        let queue = Queue { lanes, threads: 0, free_threads: 0, starting: 0, stopped: false };
        Self { queue: Mutex::new(queue), job_ready: Condvar::default(), thread_name: format!("{pool_name}-worker") }
    }

    /// Queues a job. `run` makes what a new thread does with jobs, if one is needed.
    ///
    /// Gives the job back when the workers have been stopped. When the system gives us no thread, the job waits for one
    /// that is busy, or for [`help`](Self::help).
    pub(crate) fn submit<R>(self: &Arc<Self>, lane: Lane, job: J, run: impl FnOnce() -> R) -> Result<(), J>
    where
        R: Fn(J) + Send + 'static,
    {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return Err(job);
        }
        let jobs = &mut queue.lanes[lane as usize];
        jobs.waiting.push_back(job);
        if jobs.waiting.len() > jobs.limit - jobs.running {
            return Ok(()); // for a thread that ends another job of this lane
        }
        if queue.free_threads + queue.starting >= queue.runnable() {
            drop(queue);
            self.job_ready.notify_one();
            return Ok(());
        }
        queue.threads += 1;
        queue.starting += 1;
        drop(queue);
        if let Err(error) = self.spawn(run()) {
            survived(|| tracing::warn!(%error, "could not start a worker thread"));
            let mut queue = self.queue.lock();
            queue.threads -= 1;
            queue.starting -= 1;
        }
        Ok(())
    }

    /// Does the work that no thread is there for. For the upkeep thread, at every beat.
    pub(crate) fn help(&self, run: impl Fn(J)) {
        let mut queue = self.queue.lock();
        while queue.threads == 0
            && let Some((job, lane)) = queue.next()
        {
            queue = self.run(queue, job, lane, &run);
        }
    }

    /// Runs a job without the lock. Jobs see to the panics of foreign code themselves; one that comes through all the same
    /// must not cost the thread and its place in the lane.
    fn run<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue<J>>,
        job: J,
        lane: usize,
        run: impl Fn(J),
    ) -> MutexGuard<'a, Queue<J>> {
        drop(queue);
        if catch_unwind(AssertUnwindSafe(|| run(job))).is_err() {
            survived(|| tracing::error!("foreign code panicked on a worker thread"));
        }
        let mut queue = self.queue.lock();
        queue.lanes[lane].running -= 1;
        queue
    }

    fn spawn(self: &Arc<Self>, run: impl Fn(J) + Send + 'static) -> io::Result<()> {
        let workers = Arc::clone(self);
        let name = self.thread_name.clone();
        thread::Builder::new().name(name).spawn(move || workers.work(run)).map(drop)
    }

    fn work(&self, run: impl Fn(J)) {
        let mut queue = self.queue.lock();
        queue.starting -= 1;
        loop {
            // A lane that was at its limit may have a job for whoever has ended one of its own: this thread.
            if let Some((job, lane)) = queue.next() {
                queue = self.run(queue, job, lane, &run);
                continue;
            }
            if queue.stopped {
                break;
            }
            queue.free_threads += 1;
            let deadline = now() + IDLE;
            queue = self.job_ready.wait_until(queue, Some(deadline));
            queue.free_threads -= 1;
            if queue.runnable() == 0 && now() >= deadline {
                break;
            }
        }
        queue.threads -= 1;
    }

    /// Lets the threads end once the queue is empty. Does not wait for them.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.job_ready.notify_all();
    }
}

//! Threads that do what may block: connect, validate, reset, close.
//!
//! Each job holds the right to a slot, so there are never more jobs, and never more threads, than slots. Threads start
//! when there is a job that nobody is free for, and end after [`IDLE`] without one: a pool whose connections are open
//! has none.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, now, thread};

/// How long a worker without work stays. Connects come in bursts; a thread costs about as much as a wake-up.
const IDLE: Duration = Duration::from_secs(5);

pub(crate) struct Workers<J> {
    queue: Mutex<Queue<J>>,
    job_ready: Condvar,
    thread_name: String,
}

struct Queue<J> {
    jobs: VecDeque<J>,
    threads: usize,
    free_threads: usize,
    /// No more jobs will come; threads end when the queue is empty.
    stopped: bool,
}

impl<J: Send + 'static> Workers<J> {
    pub(crate) fn new(pool_name: &str) -> Self {
        let queue = Queue { jobs: VecDeque::new(), threads: 0, free_threads: 0, stopped: false };
        Self { queue: Mutex::new(queue), job_ready: Condvar::default(), thread_name: format!("{pool_name}-worker") }
    }

    /// Queues a job. `run` makes what a new thread does with jobs, if one is needed.
    ///
    /// Gives the job back when the workers have been stopped. When the system gives us no thread, the job waits for one
    /// that is busy, or for [`help`](Self::help).
    pub(crate) fn submit<R>(self: &Arc<Self>, job: J, run: impl FnOnce() -> R) -> Result<(), J>
    where
        R: Fn(J) + Send + 'static,
    {
        let mut queue = self.queue.lock();
        if queue.stopped {
            return Err(job);
        }
        queue.jobs.push_back(job);
        if queue.free_threads >= queue.jobs.len() {
            drop(queue);
            self.job_ready.notify_one();
            return Ok(());
        }
        queue.threads += 1;
        drop(queue);
        if let Err(error) = self.spawn(run()) {
            tracing::warn!(%error, "could not start a worker thread");
            self.queue.lock().threads -= 1;
        }
        Ok(())
    }

    /// Does the work that no thread is there for. For the upkeep thread, at every beat.
    pub(crate) fn help(&self, run: impl Fn(J)) {
        let mut queue = self.queue.lock();
        while queue.threads == 0
            && let Some(job) = queue.jobs.pop_front()
        {
            drop(queue);
            run(job);
            queue = self.queue.lock();
        }
    }

    fn spawn(self: &Arc<Self>, run: impl Fn(J) + Send + 'static) -> io::Result<()> {
        let workers = Arc::clone(self);
        let name = self.thread_name.clone();
        thread::Builder::new().name(name).spawn(move || workers.work(run)).map(drop)
    }

    fn work(&self, run: impl Fn(J)) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                run(job);
                queue = self.queue.lock();
                continue;
            }
            if queue.stopped {
                break;
            }
            queue.free_threads += 1;
            let deadline = now() + IDLE;
            queue = self.job_ready.wait_until(queue, Some(deadline));
            queue.free_threads -= 1;
            if queue.jobs.is_empty() && now() >= deadline {
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

//! What the checks are written with: a pool over its database, callers in line, and bounds on everything.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::script::{Connection, Database};
use super::subject::{Acquire, Answer, Loan, Options, Pooled, Refusal, Shared};
use super::subjects::Subject;
use super::{Check, Finding, fails};
use crate::contenders::Entrant;

/// How long a single event may take. No pool needs a hundredth of it on an idle machine.
pub const EVENTUALLY: Duration = Duration::from_secs(4);
/// How long to look for something that must not happen. A pool gets away with what it does later.
pub const NOT_SOON: Duration = Duration::from_millis(250);
/// A caller's time that is sure to end within a check.
pub const SHORT: Duration = Duration::from_millis(50);
/// The most that a caller with [`SHORT`] time may be kept: forty times as long.
pub const AT_MOST: Duration = Duration::from_secs(2);

/// The runtime of the async pools: tokio's, several threads.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(4).enable_time().build().expect("a tokio runtime")
    })
}

/// Waits until something has happened.
///
/// # Errors
///
/// When it does not happen within [`EVENTUALLY`].
pub fn eventually(what: &str, has_happened: impl FnMut() -> bool) -> Check {
    within(EVENTUALLY, what, has_happened)
}

/// Waits until something has happened.
///
/// # Errors
///
/// When it does not happen in time.
pub fn within(time: Duration, what: &str, mut has_happened: impl FnMut() -> bool) -> Check {
    let since = Instant::now();
    while !has_happened() {
        if since.elapsed() > time {
            return fails(format!("did not happen within {time:?}: {what}"));
        }
        thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// The message of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A thread whose result is waited for with a deadline.
#[derive(Debug)]
pub struct Worker<T> {
    result: Receiver<thread::Result<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Runs `work` on a thread that has entered the runtime.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self::start_outside(move || {
            let _entered = runtime().enter();
            work()
        })
    }

    /// Runs `work` on a thread that knows no runtime.
    pub fn start_outside(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, result) = channel();
        thread::spawn(move || {
            // Nobody listens any more when we were given up.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        Self { result }
    }

    /// Its result; the message of its panic is the inner error.
    ///
    /// # Errors
    ///
    /// When it is not done within [`EVENTUALLY`].
    pub fn outcome(&self, what: &str) -> Check<Result<T, String>> {
        self.outcome_within(EVENTUALLY, what)
    }

    /// Its result; the message of its panic is the inner error.
    ///
    /// # Errors
    ///
    /// When it is not done in time.
    pub fn outcome_within(&self, time: Duration, what: &str) -> Check<Result<T, String>> {
        match self.result.recv_timeout(time) {
            Ok(result) => Ok(result.map_err(|panic| panic_message(&*panic))),
            Err(RecvTimeoutError::Timeout) => fails(format!("hangs: {what}")),
            Err(RecvTimeoutError::Disconnected) => fails(format!("no result: {what}")),
        }
    }

    /// Its result.
    ///
    /// # Errors
    ///
    /// When it is not done within [`EVENTUALLY`], and when it panicked.
    pub fn join(&self, what: &str) -> Check<T> {
        self.outcome(what)?.map_err(|message| Finding::Fails(format!("{what}: panicked: {message}")))
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct Bell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Bell {
    /// How often it was rung.
    pub fn rings(&self) -> usize {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the bell has rung so many times in all; `false` when it does not within `time`.
    pub fn wait_for(&self, rings: usize, time: Duration) -> bool {
        let guard = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(guard, time, |rung| *rung < rings);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= rings
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rings.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_all();
    }
}

/// An acquire that is polled by nobody but the check.
pub struct Task<C: 'static> {
    acquire: Acquire<C>,
    /// Its waker.
    pub bell: Arc<Bell>,
    answer: Option<Answer<C>>,
}

impl<C: 'static> Task<C> {
    /// An acquire of `pool`'s, not polled yet.
    ///
    /// # Errors
    ///
    /// When the pool has no async acquire.
    pub fn new(pool: &dyn Pooled<C>) -> Check<Self> {
        Ok(Self { acquire: pool.get_async()?, bell: Arc::default(), answer: None })
    }

    /// Polls it once more; whether it has its answer.
    pub fn poll(&mut self) -> bool {
        self.poll_with(&Waker::from(Arc::clone(&self.bell)))
    }

    /// Polls it once more with another waker.
    pub fn poll_with(&mut self, waker: &Waker) -> bool {
        let _entered = runtime().enter();
        if self.answer.is_none()
            && let Poll::Ready(answer) = Pin::as_mut(&mut self.acquire).poll(&mut Context::from_waker(waker))
        {
            self.answer = Some(answer);
        }
        self.answer.is_some()
    }

    /// Polls it whenever its bell rings, until there is an answer.
    ///
    /// # Errors
    ///
    /// When it is not woken within [`EVENTUALLY`].
    pub fn finish(&mut self, what: &str) -> Check<Answer<C>> {
        let until = Instant::now() + EVENTUALLY;
        loop {
            let rings = self.bell.rings();
            if self.poll() {
                return self.take();
            }
            if !self.bell.wait_for(rings + 1, until.saturating_duration_since(Instant::now())) {
                return fails(format!("never woken: {what}"));
            }
        }
    }

    /// The answer that a poll brought.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn take(&mut self) -> Check<Answer<C>> {
        self.answer.take().ok_or_else(|| Finding::Fails("there is no answer yet".to_owned()))
    }
}

impl<C: 'static> Drop for Task<C> {
    fn drop(&mut self) {
        let _entered = runtime().enter();
        self.answer = None;
        // The future is dropped inside the runtime, as in a program.
        self.acquire = Box::pin(std::future::pending());
    }
}

/// A caller in line, as the subject has them: a task, or a thread where there is no async acquire.
pub enum Caller<C: 'static> {
    /// Polled by the check.
    Task(Task<C>),
    /// Blocked in the pool.
    Thread(Worker<Answer<C>>),
}

impl<C: Send + 'static> Caller<C> {
    /// An acquire that waits or has its answer.
    ///
    /// # Errors
    ///
    /// When its thread neither sleeps nor returns.
    pub fn start(pool: &Shared<C>) -> Check<Self> {
        match Task::new(&**pool) {
            Ok(mut task) => {
                task.poll();
                Ok(Self::Task(task))
            }
            Err(Finding::NotApplicable(_)) => Self::blocked(pool),
            Err(finding) => Err(finding),
        }
    }

    /// A thread that waits or has its answer.
    ///
    /// # Errors
    ///
    /// When it neither sleeps nor returns.
    pub fn blocked(pool: &Shared<C>) -> Check<Self> {
        let pool = Arc::clone(pool);
        let (sender, thread_id) = channel();
        let (done_sender, done) = channel();
        let worker = Worker::start(move || {
            let _ = sender.send(fs::read_link("/proc/thread-self"));
            let answer = pool.get();
            let _ = done_sender.send(());
            answer
        });
        if let Ok(Ok(task)) = thread_id.recv_timeout(EVENTUALLY) {
            let stat = std::path::Path::new("/proc").join(task).join("stat");
            // Asleep in three looks in a row: it stands in line.
            let mut asleep = 0;
            eventually("the caller stands in line", || {
                let text = fs::read_to_string(&stat).unwrap_or_default();
                let is_asleep = text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'));
                asleep = if is_asleep { asleep + 1 } else { 0 };
                thread::sleep(Duration::from_millis(1));
                asleep >= 3 || done.try_recv().is_ok()
            })?;
        } else {
            // No such file on this system.
            thread::sleep(Duration::from_millis(100));
        }
        Ok(Self::Thread(worker))
    }

    /// Its answer.
    ///
    /// # Errors
    ///
    /// When it does not come within [`EVENTUALLY`].
    pub fn finish(&mut self, what: &str) -> Check<Answer<C>> {
        match self {
            Self::Task(task) => task.finish(what),
            Self::Thread(worker) => worker.join(what),
        }
    }

    /// Its loan.
    ///
    /// # Errors
    ///
    /// When it is refused or does not come.
    pub fn served(&mut self, what: &str) -> Check<Loan<C>> {
        self.finish(what)?.map_err(|refusal| Finding::Fails(format!("{what}: was told \"{}\"", refusal.text)))
    }

    /// Its answer if it has one by now. A task is polled if it was woken.
    pub fn answer_by_now(&mut self) -> Option<Answer<C>> {
        match self {
            Self::Task(task) => {
                if task.answer.is_none() && task.bell.rings() > 0 {
                    task.poll();
                }
                task.answer.take()
            }
            Self::Thread(worker) => worker.result.try_recv().ok().and_then(Result::ok),
        }
    }
}

/// A subject in a room with a scripted database.
#[derive(Clone)]
pub struct Room {
    /// The pool's kind.
    pub subject: Subject,
    /// Its database.
    pub database: Database,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Room").field(&self.subject).finish()
    }
}

/// A pool over the scripted database.
pub type Pool = Shared<Connection>;

impl Room {
    /// A room with a database that works.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        Self { subject, database: Database::new() }
    }

    /// The subject's pool.
    ///
    /// # Errors
    ///
    /// When it has no such option, or cannot be built.
    pub fn pool(&self, options: &Options) -> Check<Pool> {
        self.subject
            .open(self.database.clone(), options)?
            .map_err(|refusal| Finding::Fails(format!("could not be built: {}", refusal.text)))
    }

    /// A pool of that size, and nothing else asked.
    ///
    /// # Errors
    ///
    /// When it cannot be built.
    pub fn pool_of(&self, max_size: usize) -> Check<Pool> {
        self.pool(&Options { max_size, ..Options::default() })
    }

    /// How long to wait for what the pool does by the clock: r2d2's runs every 30 s.
    #[must_use]
    pub fn by_the_clock(&self) -> Duration {
        if self.subject.0 == Entrant::R2d2 { Duration::from_secs(45) } else { EVENTUALLY }
    }
}

/// A loan; refused is failed.
///
/// # Errors
///
/// When the pool refuses, or hangs.
pub fn get<C: Send + 'static>(pool: &Shared<C>, what: &str) -> Check<Loan<C>> {
    answer(pool, what)?.map_err(|refusal| Finding::Fails(format!("{what}: was told \"{}\"", refusal.text)))
}

/// What the pool answers a caller.
///
/// # Errors
///
/// When it hangs, or panics.
pub fn answer<C: Send + 'static>(pool: &Shared<C>, what: &str) -> Check<Answer<C>> {
    let pool = Arc::clone(pool);
    Worker::start(move || pool.get()).join(what)
}

/// What the pool refuses a caller with.
///
/// # Errors
///
/// When it hangs, or serves the caller.
pub fn refused<C: Send + 'static>(pool: &Shared<C>, what: &str) -> Check<Refusal> {
    match answer(pool, what)? {
        Ok(_) => fails(format!("{what}: was served")),
        Err(refusal) => Ok(refusal),
    }
}

/// Gives a loan back on a thread of its own, since that may block.
///
/// # Errors
///
/// When it hangs, or panics.
pub fn give_back<C: 'static>(loan: Loan<C>, what: &str) -> Check {
    Worker::start(move || drop(loan)).join(what)
}

/// So many loans at the same time.
///
/// # Errors
///
/// When one of them cannot be had.
pub fn get_all<C: Send + 'static>(pool: &Shared<C>, count: usize, what: &str) -> Check<Vec<Loan<C>>> {
    (0..count).map(|held| get(pool, &format!("{what} (with {held} of {count} held)"))).collect()
}

/// Whether the pool serves a newcomer at once.
///
/// # Errors
///
/// When it has no way to ask.
pub fn newcomer<C: 'static>(pool: &Shared<C>) -> Check<Option<Loan<C>>> {
    match pool.try_get() {
        Ok(answer) => Ok(answer.ok()),
        Err(_) => {
            let mut task = Task::new(&**pool)?;
            if task.poll() { Ok(task.take()?.ok()) } else { Ok(None) }
        }
    }
}

/// The pool is as good as new: `max_size` connections can be held at once, no more are open, and they can be given back.
///
/// # Errors
///
/// When that is not so.
pub fn is_whole(pool: &Pool, database: &Database, max_size: usize) -> Check {
    let loans = get_all(pool, max_size, "afterwards all connections can be held at once")?;
    let counts = database.counts();
    if counts.most > max_size {
        return fails(format!("{} connections at once, of at most {max_size}", counts.most));
    }
    drop(loans);
    drop(get(pool, "and given back")?);
    Ok(())
}

//! A task that commits what has come in while it committed the last batch.
//!
//! So batches are as large as the load makes them: alone, a request is a batch of one and waits for nobody; under load
//! the fixed cost of a commit is shared by all who came meanwhile.
//!
//! Those who are answered together ask again together, a moment after the next commit has begun: then batches are small
//! and large in turn, and two commits are paid for where one would do. So a lane may linger after a batch of several,
//! until as many have come as were in it and waited behind it, or a part of them, at most half as long as its commit took.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::backend::Counters;
use super::error::{Refusal, StoreError};
use super::options::StoreOptions;

/// A request that waits for its commit.
pub(super) struct Pending<R, A> {
    pub(super) request: R,
    pub(super) caller: Caller<A>,
}

/// Who asked, and waits for the answer.
pub(super) struct Caller<A> {
    /// When the request came, which is what its deadline counts from.
    pub(super) since: Instant,
    answer: oneshot::Sender<Result<A, StoreError>>,
    /// Counted as waiting until this is dropped.
    place: Place,
}

impl<A> Caller<A> {
    /// Answers; who asked may be gone.
    pub(super) fn answer(self, answer: Result<A, StoreError>) {
        // First the place, so that whoever has his answer has room for another request.
        drop(self.place);
        let _ = self.answer.send(answer);
    }
}

/// Takes out those whose time was up before their turn came, and tells them so: they must not take the others' time.
/// Returns the rest, and since when the first of them waits.
pub(super) fn in_time<R, A>(
    batch: Vec<Pending<R, A>>,
    deadline: Duration,
) -> Option<(Vec<R>, Vec<Caller<A>>, Instant)> {
    let now = Instant::now();
    let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|it| now < it.caller.since + deadline);
    for pending in late {
        let problem = format!("its turn did not come within {deadline:?}");
        pending.caller.answer(Err(StoreError::Unavailable(Arc::from(Box::from(problem)))));
    }
    let since = batch.iter().map(|pending| pending.caller.since).min()?;
    let (requests, callers) = batch.into_iter().map(|pending| (pending.request, pending.caller)).unzip();
    Some((requests, callers, since))
}

/// Answers everybody, in their order; an error is everybody's.
pub(super) fn answer_all<A>(callers: Vec<Caller<A>>, answers: Result<Vec<Result<A, Refusal>>, StoreError>) {
    match answers {
        Ok(answers) => {
            for (caller, answer) in callers.into_iter().zip(answers) {
                caller.answer(answer.map_err(StoreError::from));
            }
        }
        Err(error) => {
            for caller in callers {
                caller.answer(Err(error.clone()));
            }
        }
    }
}

/// A place among those that wait. Dropping it gives it back.
pub(super) struct Place {
    counters: Arc<Counters>,
    _permit: Option<OwnedSemaphorePermit>,
    claims: usize,
    messages: usize,
    bytes: usize,
}

impl Place {
    /// For a message of this many bytes, if there is room for it.
    pub(super) fn for_message(
        counters: &Arc<Counters>,
        bytes: usize,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        // It counts before it is known to fit, so that two cannot take the last place together.
        let place = Self { counters: Arc::clone(counters), _permit: None, claims: 0, messages: 1, bytes };
        let messages = counters.pending_messages.fetch_add(1, Ordering::Relaxed);
        let waiting = counters.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        if messages >= options.max_pending_messages {
            return Err(counters.busy("max_pending_messages", options.max_pending_messages));
        }
        // One message alone always fits.
        if waiting > 0 && waiting + bytes > options.max_pending_bytes {
            return Err(counters.busy("max_pending_bytes", options.max_pending_bytes));
        }
        Ok(place)
    }

    /// For a claim or a release, if there is room for it.
    pub(super) fn for_claim(counters: &Arc<Counters>, options: &StoreOptions) -> Result<Self, StoreError> {
        let place = Self { counters: Arc::clone(counters), _permit: None, claims: 1, messages: 0, bytes: 0 };
        if counters.pending_claims.fetch_add(1, Ordering::Relaxed) >= options.max_pending_claims {
            return Err(counters.busy("max_pending_claims", options.max_pending_claims));
        }
        Ok(place)
    }

    /// For a question, which is a request like any other.
    pub(super) fn for_question(counters: &Arc<Counters>, permit: OwnedSemaphorePermit) -> Self {
        Self { counters: Arc::clone(counters), _permit: Some(permit), claims: 0, messages: 0, bytes: 0 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.pending_messages.fetch_sub(self.messages, Ordering::Relaxed);
        self.counters.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counters.pending_claims.fetch_sub(self.claims, Ordering::Relaxed);
    }
}

/// Whom a lane lingers for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Company {
    /// The part of those who are about: 1 is all of them, 3 a third.
    pub(super) part: usize,
    /// How long at most.
    pub(super) max_linger: Duration,
}

/// What the last batch says about the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Linger {
    /// How many are expected.
    expected: usize,
    /// How long they are waited for.
    at_most: Duration,
}

impl Linger {
    /// After a batch of `count`, whose commit took so long, and while `waiting` came.
    fn after(count: usize, waiting: usize, took: Duration, company: Company) -> Self {
        // Who comes alone is not made to wait for anybody.
        if count < 2 {
            return Self::default();
        }
        let expected = (count + waiting).div_ceil(company.part);
        Self { expected, at_most: (took / 2).min(company.max_linger) }
    }

    /// Waits until as many are in `now` as are expected, or may be, or one is a barrier.
    async fn gather<R, A>(
        self,
        waiting: &mut mpsc::UnboundedReceiver<Job<R, A>>,
        now: &mut Vec<Job<R, A>>,
        max_batch: usize,
    ) {
        let (expected, until) = (self.expected.min(max_batch), Instant::now() + self.at_most);
        while now.len() < expected && !now.iter().any(|job| matches!(job, Job::Barrier(_))) {
            match timeout_at(until, waiting.recv_many(now, max_batch - now.len())).await {
                Ok(received) if received > 0 => {}
                _ => return,
            }
        }
    }
}

enum Job<R, A> {
    Request(Pending<R, A>),
    /// Answered when everything before it has been.
    Barrier(oneshot::Sender<()>),
}

/// The way into a lane. Dropping it ends the lane once it is empty.
pub(super) struct Lane<R, A> {
    jobs: mpsc::UnboundedSender<Job<R, A>>,
}

impl<R, A> Lane<R, A>
where
    R: Send + 'static,
    A: Send + 'static,
{
    /// Starts a lane that hands at most `max_batch` requests at a time to `commit`, which answers them all.
    pub(super) fn start<F>(
        max_batch: usize,
        company: Company,
        mut commit: impl FnMut(Vec<Pending<R, A>>) -> F + Send + 'static,
    ) -> (Self, AbortHandle)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Bounded all the same: nothing gets in here without a place.
        let (jobs, mut waiting) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut now = Vec::with_capacity(max_batch);
            let mut linger = Linger::default();
            while waiting.recv_many(&mut now, max_batch).await > 0 {
                linger.gather(&mut waiting, &mut now, max_batch).await;
                let (mut batch, mut barriers) = (Vec::with_capacity(now.len()), Vec::new());
                for job in now.drain(..) {
                    match job {
                        Job::Request(pending) => batch.push(pending),
                        Job::Barrier(barrier) => barriers.push(barrier),
                    }
                }
                if !batch.is_empty() {
                    let (count, began) = (batch.len(), Instant::now());
                    commit(batch).await;
                    linger = Linger::after(count, waiting.len(), began.elapsed(), company);
                }
                for barrier in barriers {
                    let _ = barrier.send(());
                }
            }
        });
        (Self { jobs }, task.abort_handle())
    }

    /// Queues a request now, and awaits its answer later.
    pub(super) fn submit(&self, request: R, place: Place) -> impl Future<Output = Result<A, StoreError>> + use<R, A> {
        let (answer, answered) = oneshot::channel();
        let caller = Caller { since: Instant::now(), answer, place };
        let queued = self.jobs.send(Job::Request(Pending { request, caller }));
        async move {
            match queued {
                Ok(()) => answered.await.unwrap_or(Err(StoreError::Closed)),
                Err(_) => Err(StoreError::Closed),
            }
        }
    }

    /// Returns when everything that was submitted before has been answered.
    pub(super) async fn drain(&self) {
        let (barrier, reached) = oneshot::channel();
        if self.jobs.send(Job::Barrier(barrier)).is_ok() {
            let _ = reached.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn place() -> Place {
        Place::for_message(&Arc::default(), 1, &StoreOptions::default()).unwrap()
    }

    /// The sizes of the batches that were committed.
    type Sizes = Arc<Mutex<Vec<usize>>>;

    /// A lane whose commits take as long as is said, with the sizes of its batches.
    fn lane(part: usize, max_linger: Duration) -> (Arc<Lane<Duration, ()>>, Sizes, AbortHandle) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&sizes);
        let (lane, task) = Lane::start(8, Company { part, max_linger }, move |batch: Vec<Pending<Duration, ()>>| {
            noted.lock().push(batch.len());
            async move {
                tokio::time::sleep(batch[0].request).await;
                batch.into_iter().for_each(|pending| pending.caller.answer(Ok(())));
            }
        });
        (Arc::new(lane), sizes, task)
    }

    /// Asks so often, each time a while after the last answer.
    async fn ask(lane: Arc<Lane<Duration, ()>>, times: usize, pause: Duration) {
        for _ in 0..times {
            lane.submit(Duration::from_millis(100), place()).await.unwrap();
            tokio::time::sleep(pause).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_again_together_share_their_commits() {
        for (part, max_linger, expected) in
            [(1, LONG, vec![1, 2, 3, 3, 3]), (3, LONG, vec![1, 2, 1, 2, 1]), (1, Duration::ZERO, vec![1, 2, 1, 2, 1])]
        {
            let (lane, sizes, task) = lane(part, max_linger);
            let asking = (0..3).map(|number| {
                let lane = Arc::clone(&lane);
                async move {
                    // The first one comes alone.
                    tokio::time::sleep(Duration::from_millis(number.min(1))).await;
                    ask(lane, 10, Duration::from_millis(10)).await;
                }
            });
            futures_util::future::join_all(asking).await;
            assert_eq!(sizes.lock()[..5], expected, "{max_linger:?}");
            task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_half_a_commit_for_those_who_do_not_come() {
        let (lane, sizes, task) = lane(1, LONG);
        let answer = |millis| lane.submit(Duration::from_millis(millis), place());
        let (one, other) = (answer(100), answer(100));
        one.await.unwrap();
        other.await.unwrap();
        let began = Instant::now();
        answer(100).await.unwrap();
        // Half of 100 for the other, then its own commit; and who comes after one that was alone does not wait.
        let took = began.elapsed();
        assert!((150..160).contains(&took.as_millis()), "{took:?}");
        let began = Instant::now();
        answer(100).await.unwrap();
        assert!((100..110).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        assert_eq!(*sizes.lock(), [2, 1, 1]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_is_not_kept() {
        let (lane, _, task) = lane(1, LONG);
        let answer = |millis| lane.submit(Duration::from_millis(millis), place());
        let (one, other) = (answer(7_200_000), answer(7_200_000));
        one.await.unwrap();
        other.await.unwrap();
        let last = answer(1);
        let began = Instant::now();
        lane.drain().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        last.await.unwrap();
        task.abort();
    }
}

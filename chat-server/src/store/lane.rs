//! A task that commits what has come in while it committed the last batch.
//!
//! So batches are as large as the load makes them: alone, a request is a batch of one and waits for nobody; under load
//! the fixed cost of a commit is shared by all who came meanwhile.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backend::Counters;
use super::error::StoreError;
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

/// A place among those that wait. Dropping it gives it back.
pub(super) struct Place {
    counters: Arc<Counters>,
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
        let place = Self { counters: Arc::clone(counters), claims: 0, messages: 1, bytes };
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
        let place = Self { counters: Arc::clone(counters), claims: 1, messages: 0, bytes: 0 };
        if counters.pending_claims.fetch_add(1, Ordering::Relaxed) >= options.max_pending_claims {
            return Err(counters.busy("max_pending_claims", options.max_pending_claims));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.pending_messages.fetch_sub(self.messages, Ordering::Relaxed);
        self.counters.pending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.counters.pending_claims.fetch_sub(self.claims, Ordering::Relaxed);
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
        mut commit: impl FnMut(Vec<Pending<R, A>>) -> F + Send + 'static,
    ) -> (Self, AbortHandle)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Bounded all the same: nothing gets in here without a place.
        let (jobs, mut waiting) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut now = Vec::with_capacity(max_batch);
            while waiting.recv_many(&mut now, max_batch).await > 0 {
                let (mut batch, mut barriers) = (Vec::with_capacity(now.len()), Vec::new());
                for job in now.drain(..) {
                    match job {
                        Job::Request(pending) => batch.push(pending),
                        Job::Barrier(barrier) => barriers.push(barrier),
                    }
                }
                if !batch.is_empty() {
                    commit(batch).await;
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

//! Group commit: messages that come in while a commit runs share the next one.
//!
//! There are several lanes on MySQL, where commits may run side by side, and one on SQLite. A conversation always goes
//! through the same lane, which keeps its messages in order and keeps the lanes from waiting for each other's locks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::append::{Item, Receipts, append};
use super::backend::{Access, Backend, add};
use super::error::StoreError;
use super::ids::Conversation;
use super::lane::{Company, Lane, Pending, Place, answer_all, in_time};
use super::model::Receipt;
use super::options::StoreOptions;

/// The part of those who are about for which the lane of SQLite lingers. Its commits cost little more for many than for few
/// and use the processor: so a third commits, a third is answered and a third asks again, all at the same time. A server
/// elsewhere commits on other processors and disks, and gains by few and large commits.
const SQLITE_PART: usize = 3;

/// The lanes.
pub(super) struct Writer {
    lanes: Vec<Lane<Item, Receipt>>,
}

impl Writer {
    pub(super) fn start(backend: &Backend, options: &StoreOptions) -> (Self, Vec<AbortHandle>) {
        let (count, part) = if backend.is_sqlite() { (1, SQLITE_PART) } else { (options.committers, 1) };
        let company = Company { part, max_linger: options.max_linger };
        let (lanes, tasks) = (0..count)
            .map(|_| {
                let (backend, deadline) = (backend.clone(), options.deadline);
                Lane::start(options.max_batch, company, move |batch| commit(backend.clone(), batch, deadline))
            })
            .unzip();
        (Self { lanes }, tasks)
    }

    /// Queues a message now, and awaits its receipt later.
    pub(super) fn submit(&self, item: Item, place: Place) -> impl Future<Output = Result<Receipt, StoreError>> + use<> {
        self.lane_of(item.conversation).submit(item, place)
    }

    fn lane_of(&self, conversation: Conversation) -> &Lane<Item, Receipt> {
        // Fibonacci's multiplier spreads keys whose lower halves are equal.
        let spread = conversation.key().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.lanes[spread as usize % self.lanes.len()]
    }

    pub(super) async fn drain(&self) {
        for lane in &self.lanes {
            lane.drain().await;
        }
    }
}

/// Commits a batch and answers everyone in it.
async fn commit(backend: Backend, batch: Vec<Pending<Item, Receipt>>, deadline: Duration) {
    let Some((items, callers, since)) = in_time(batch, deadline) else { return };
    let items = Arc::new(items);
    match backend.run(Access::Repeatable, since, None, append(Arc::clone(&items), 0..items.len())).await {
        Ok(receipts) => {
            count(&backend, &receipts);
            answer_all(callers, Ok(receipts));
        }
        // One message that the database cannot take must not be everyone's. Each gets a transaction of its own.
        Err(StoreError::Failed(cause)) if items.len() > 1 => {
            tracing::warn!(%cause, messages = items.len(), "a batch of messages failed; trying them one by one");
            for (i, caller) in callers.into_iter().enumerate() {
                let work = append(Arc::clone(&items), i..i + 1);
                let alone = backend.run(Access::Repeatable, Instant::now(), None, work).await;
                if let Ok(receipts) = &alone {
                    count(&backend, receipts);
                }
                caller.answer(alone.and_then(|mut receipts| receipts.remove(0).map_err(StoreError::from)));
            }
        }
        Err(error) => answer_all(callers, Err(error)),
    }
}

pub(super) fn count(backend: &Backend, receipts: &Receipts) {
    let stored = receipts.iter().flatten().filter(|receipt| !receipt.is_repeat).count() as u64;
    let repeats = receipts.iter().flatten().count() as u64 - stored;
    add(&backend.counters.messages, stored);
    add(&backend.counters.repeats, repeats);
    if stored > 0 {
        add(&backend.counters.commits, 1);
    }
}

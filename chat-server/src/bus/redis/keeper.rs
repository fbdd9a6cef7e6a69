//! The task that keeps the link: makes it, publishes over it, and makes a new one when it is lost.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::dial::{Dialler, Link, Published};
use super::outgoing::Outgoing;
use super::parcels::Parcels;
use super::{BACKOFF, Inner, MAX_BATCH};
use crate::bus::BusError;

/// Why a link is used no more.
enum End {
    /// Nobody uses the bus any more.
    Dropped,
    /// It is lost, or thrown away.
    Lost(String),
}

/// Keeps the link until the last handle is dropped.
pub(super) async fn keep(
    inner: Arc<Inner>,
    dialler: Dialler,
    first: Option<Link>,
    mut queue: mpsc::Receiver<Outgoing>,
) {
    let inbox = Arc::clone(&inner.inbox);
    let keep = Keeper { inner: Arc::clone(&inner), dialler, failures: 0 }.keep(first, &mut queue);
    tokio::select! {
        () = keep => {}
        // The server listens no more.
        () = inbox.herald() => inner.goes_down(),
    }
}

struct Keeper {
    inner: Arc<Inner>,
    dialler: Dialler,
    /// Attempts since the last link that lasted.
    failures: u32,
}

impl Keeper {
    async fn keep(mut self, mut first: Option<Link>, queue: &mut mpsc::Receiver<Outgoing>) {
        loop {
            let link = match first.take() {
                Some(link) => link,
                None => {
                    let Some(link) = self.make(queue).await else { return };
                    self.inner.goes_up(link.alarm());
                    link
                }
            };
            info!(redis = self.dialler.place(), is_sharded = link.is_sharded(), "the bus is linked");
            let began = Instant::now();
            let end = self.publish_all(&link, queue).await;
            self.inner.goes_down();
            drop(link);
            match end {
                End::Dropped => return,
                End::Lost(why) => warn!(redis = self.dialler.place(), why, "the bus has lost its link"),
            }
            if began.elapsed() > BACKOFF.max {
                self.failures = 0;
            }
            while queue.try_recv().is_ok() {
                self.inner.lose(1);
            }
        }
    }

    /// Tries until there is a link. `None`: nobody uses the bus any more.
    async fn make(&mut self, queue: &mut mpsc::Receiver<Outgoing>) -> Option<Link> {
        let mut told = None;
        loop {
            let delay = BACKOFF.delay(self.failures);
            self.failures = self.failures.saturating_add(1);
            let attempt = async {
                tokio::time::sleep(delay).await;
                self.dialler.dial().await
            };
            match self.meanwhile(queue, attempt).await? {
                Ok(link) => return Some(link),
                Err(failure) => {
                    // The same thing is not said every two seconds for hours.
                    let text = failure.to_string();
                    if told.as_ref() != Some(&text) {
                        warn!(redis = self.dialler.place(), error = text, "the bus cannot be linked");
                        told = Some(text);
                    }
                }
            }
        }
    }

    /// Works, and gives up what is to be sent meanwhile. `None`: nobody uses the bus any more.
    async fn meanwhile<T>(&self, queue: &mut mpsc::Receiver<Outgoing>, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                outgoing = queue.recv() => {
                    outgoing?;
                    self.inner.lose(1);
                }
            }
        }
    }

    /// Publishes what is to be sent, for as long as the link holds.
    async fn publish_all(&self, link: &Link, queue: &mut mpsc::Receiver<Outgoing>) -> End {
        let mut alarm = std::pin::pin!(link.alarm().wait());
        let mut refusal = None;
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            let count = tokio::select! {
                biased;
                why = &mut alarm => return End::Lost(why.into()),
                count = queue.recv_many(&mut batch, MAX_BATCH) => count,
            };
            if count == 0 {
                return End::Dropped;
            }
            let Parcels { payloads, places } = Parcels::of(&batch);
            let published = tokio::select! {
                biased;
                published = link.publish(&payloads) => published.map_err(|error| error.to_string()),
                why = &mut alarm => Err(why.into()),
            };
            match published {
                Ok(published) => self.tell(&mut batch, &places, &published, &mut refusal),
                Err(why) => {
                    // Some of it may have been published. Nobody is told that it was.
                    self.inner.lose(count);
                    return End::Lost(why);
                }
            }
        }
    }

    /// Tells those who wait for it what Redis said.
    fn tell(&self, batch: &mut Vec<Outgoing>, places: &[usize], published: &[Published], refusal: &mut Option<String>) {
        for (outgoing, &place) in batch.drain(..).zip(places) {
            let result = match published.get(place) {
                Some(Ok(listeners)) => Ok(*listeners > 0),
                // It has less to say than it was asked.
                None => Err(BusError::Failed("no answer".into())),
                Some(Err(error)) => {
                    self.inner.lose(1);
                    let text = error.to_string();
                    if refusal.as_ref() != Some(&text) {
                        warn!(redis = self.dialler.place(), error = text, "Redis refuses to publish");
                        *refusal = Some(text.clone());
                    }
                    Err(BusError::Failed(text))
                }
            };
            if let Some(answer) = outgoing.answer {
                // Whoever waited may have given up.
                let _ = answer.send(result);
            }
        }
    }
}

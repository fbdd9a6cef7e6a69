//! The healing reads: they find in the store whatever was lost on a message's way.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use crate::hub::Session;
use crate::node::{Node, jitter};
use crate::outbox::{Offered, QueueLimits};
use crate::protocol::event::{Event, Notice, NoticeCode};
use crate::push::Push;
use crate::store::{Page, PageLimit, Seq, StoreError, UserId};

/// How long a message that came before the one it follows waits for it, before the store is asked.
const GAP_PATIENCE: Duration = Duration::from_millis(30);

/// The most messages of one read of a healing.
const HEAL_PAGE: usize = 100;

/// How long a healing waits after the store failed, at first and at most.
const HEAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Node {
    /// Reads from the store, in the background, what a session has not been sent, also if nothing is known to be missing. A
    /// healing that is under way reads once more.
    pub(crate) fn heal(self: &Arc<Self>, session: &Arc<Session>) {
        session.with_unflushed(|outbox, _| outbox.ask_for_healing());
        self.heal_if_needed(session);
    }

    /// The same after a login, and says when it is done.
    pub(crate) fn heal_after_login(self: &Arc<Self>, session: &Arc<Session>) {
        session.with_unflushed(|outbox, _| outbox.ask_for_sync());
        self.heal_if_needed(session);
    }

    /// Begins the healing that a session needs, if none is under way.
    pub(crate) fn heal_if_needed(self: &Arc<Self>, session: &Arc<Session>) {
        if session.with_unflushed(|outbox, _| outbox.begin_healing()) {
            let (node, session) = (Arc::clone(self), Arc::clone(session));
            tokio::spawn(async move { node.heal_session(session).await });
        }
    }

    /// Heals all sessions, spread over a moment so that they do not all ask at once. Asked for again before it has begun,
    /// as when all nodes get back to the bus, it is done once.
    pub(crate) fn heal_all(self: &Arc<Self>) {
        if self.heals_all_soon.swap(true, Ordering::Relaxed) {
            return;
        }
        let node = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(jitter(node.config.heal_ms.min(500)))).await;
            node.heals_all_soon.store(false, Ordering::Relaxed);
            for (number, session) in node.hub.all().iter().enumerate() {
                node.heal(session);
                if number % 100 == 99 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }

    async fn heal_session(self: &Arc<Self>, session: Arc<Session>) {
        let mut backoff = HEAL_BACKOFF.0;
        if session.with_unflushed(|outbox, _| outbox.may_wait()) {
            tokio::time::sleep(GAP_PATIENCE).await;
            if session.with_unflushed(|outbox, _| outbox.end_healing()) {
                return;
            }
        }
        while let Some(user) = session.with_unflushed(|outbox, _| outbox.begin_read()) {
            self.metrics().heals.inc();
            match self.read_missing(&session, user).await {
                Ok(Healed::All) => {
                    backoff = HEAL_BACKOFF.0;
                    if session.with_unflushed(|outbox, _| outbox.is_to_hear_synced()) {
                        session.room().await;
                        session.with(|outbox, _| outbox.tell_synced(synced()));
                    }
                }
                Ok(Healed::InPart) => session.with_unflushed(|outbox, _| outbox.ask_for_healing()),
                Err(error) => {
                    // The recipient has not got everything, whatever the reason: it is tried again.
                    if !error.is_retryable() {
                        warn!(%error, %user, "a healing read failed");
                    }
                    tokio::time::sleep(backoff + Duration::from_millis(jitter(100))).await;
                    backoff = (backoff * 2).min(HEAL_BACKOFF.1);
                    continue;
                }
            }
            if session.with(|outbox, _| outbox.end_healing()) {
                return;
            }
            // Something came while this was read: a gap that the store did not have either, a full queue, or a reason to
            // read again.
            tokio::time::sleep(GAP_PATIENCE).await;
            session.room().await;
        }
    }

    /// Sends a session everything above the user's cursors that it has not been sent.
    async fn read_missing(&self, session: &Arc<Session>, user: UserId) -> Result<Healed, StoreError> {
        for unread in self.heal_read(self.store().unread(user)).await? {
            let mut from = match session.with_unflushed(|outbox, _| {
                (outbox.user == Some(user)).then(|| outbox.positions.last(unread.conversation, unread.seen.0))
            }) {
                Some(position) => Seq(position),
                None => return Ok(Healed::InPart),
            };
            let most = session.with_unflushed(|_, limits| page_limit(limits));
            let mut limit = most;
            while from < unread.last {
                // Nothing is read that the queue could not take: what waits for a slow client waits in the store.
                if !has_room(session).await {
                    return Ok(Healed::InPart);
                }
                let page = self.store().history(user, unread.conversation, Page::After(from), limit);
                let page = match self.heal_read(page).await {
                    Ok(page) => page,
                    // Put out of the group meanwhile: not his to read any more.
                    Err(StoreError::Refused(_)) => break,
                    Err(error) => return Err(error),
                };
                let Some(last) = page.last() else { break };
                from = last.seq;
                // As many as will fit next time, or more of them again.
                let bytes: usize = page.iter().map(|message| message.body.len()).sum();
                limit.messages = if bytes > limit.bytes { page.len() } else { (2 * limit.messages).min(most.messages) };
                for message in page {
                    let push = Arc::new(Push::stored(message));
                    if let Healed::InPart = self.send_stored(session, user, &push).await {
                        return Ok(Healed::InPart);
                    }
                }
                session.flush();
            }
        }
        Ok(Healed::All)
    }

    /// Reads when there are not too many who do.
    async fn heal_read<T>(&self, read: impl Future<Output = T>) -> T {
        let _permit = self.heals.acquire().await;
        read.await
    }

    /// Sends a session the next message that the store has of a conversation.
    async fn send_stored(&self, session: &Arc<Session>, user: UserId, push: &Arc<Push>) -> Healed {
        if let Some(seq) = push.seq
            && session.with_unflushed(|outbox, _| {
                outbox.user == Some(user) && outbox.positions.skip_to(push.conversation, seq.0)
            })
        {
            // Whoever takes messages out of the database should know that nobody will get them.
            warn!(%user, conversation = %push.conversation, before = seq.0, "messages are missing in the database");
        }
        loop {
            // Waited for before it is offered: what was found to be full is read once more.
            if session.with_unflushed(|outbox, limits| outbox.is_full(limits)) && !has_room(session).await {
                return Healed::InPart;
            }
            match session.offer(user, push) {
                Offered::Done => break,
                Offered::Full => {}
                // Another login has begun in this session, perhaps of the same user.
                Offered::Later | Offered::Closed => return Healed::InPart,
            }
        }
        if push.sender != user {
            self.metrics().healed.inc();
        }
        Healed::All
    }
}

/// The most of one read: what a queue with room has room for.
fn page_limit(limits: &QueueLimits) -> PageLimit {
    PageLimit { messages: (limits.frames / 2).clamp(1, HEAL_PAGE), bytes: limits.bytes / 2 }
}

/// Waits until a session has room in its queue; `false` when it ends first. What waits is written first, or there would never
/// be room.
async fn has_room(session: &Session) -> bool {
    session.flush();
    session.room().await
}

/// How much of what was missing a healing read has sent.
enum Healed {
    All,
    /// The session ended, or its login did: what there is to be read is another matter now.
    InPart,
}

fn synced() -> Bytes {
    let text = "everything that was waiting has been sent".into();
    Notice { code: NoticeCode::Synced, text, reconnect_ms: None }.frame()
}

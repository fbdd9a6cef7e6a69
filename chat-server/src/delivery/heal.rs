//! The healing reads: they find in the store whatever was lost on a message's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tracing::warn;

use crate::hub::Session;
use crate::node::{Node, jitter};
use crate::outbox::Offered;
use crate::protocol::event::{Event, Notice, NoticeCode};
use crate::push::Push;
use crate::store::{Page, Seq, StoreError, UserId};

/// How long a message that came before the one it follows waits for it, before the store is asked.
const GAP_PATIENCE: Duration = Duration::from_millis(30);

/// Messages of one read of a healing.
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
            let healed = {
                let _permit = self.heals.acquire().await;
                self.metrics().heals.inc();
                self.read_missing(&session, user).await
            };
            match healed {
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
        for unread in self.store().unread(user).await? {
            let mut from = match session.with_unflushed(|outbox, _| {
                (outbox.user == Some(user)).then(|| outbox.positions.last(unread.conversation, unread.seen.0))
            }) {
                Some(position) => Seq(position),
                None => return Ok(Healed::InPart),
            };
            while from < unread.last {
                let page = self.store().history(user, unread.conversation, Page::After(from), HEAL_PAGE).await;
                let page = match page {
                    Ok(page) => page,
                    // Put out of the group meanwhile: not his to read any more.
                    Err(StoreError::Refused(_)) => break,
                    Err(error) => return Err(error),
                };
                let Some(last) = page.last() else { break };
                from = last.seq;
                for message in page {
                    let push = Arc::new(Push::stored(message));
                    loop {
                        // Written first, or there would never be room.
                        let is_full = session.with_unflushed(|outbox, limits| outbox.is_full(limits));
                        if is_full {
                            session.flush();
                            if !session.room().await {
                                return Ok(Healed::InPart);
                            }
                        }
                        match session.offer(user, &push) {
                            Offered::Done => break,
                            Offered::Full if session.room().await => {}
                            // Another login has begun in this session, perhaps of the same user.
                            Offered::Full | Offered::Later | Offered::Closed => return Ok(Healed::InPart),
                        }
                    }
                    if push.sender != user {
                        self.metrics().healed.inc();
                    }
                }
                session.flush();
            }
        }
        Ok(Healed::All)
    }
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

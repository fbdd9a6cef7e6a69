//! What comes in, on its way to the server.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::outgoing::{Place, Room};
use super::{EVENT_BYTES, GAP_INTERVAL};
use crate::bus::BusEvent;

/// The sending end of the server's events. Payloads never wait here: what finds no room is dropped, and becomes a gap.
pub(super) struct Inbox {
    events: mpsc::Sender<BusEvent>,
    room: Room,
    pending: Mutex<Pending>,
    wake: Notify,
    received: AtomicU64,
    dropped: AtomicU64,
}

/// What the server is still to be told, in this order.
#[derive(Debug, Default)]
struct Pending {
    down: bool,
    gap: bool,
}

/// A payload that takes room until the server is done with it.
struct Kept {
    payload: Vec<u8>,
    _place: Place,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Inbox {
    pub(super) fn new(events: mpsc::Sender<BusEvent>) -> Self {
        Self {
            events,
            room: Room::new(EVENT_BYTES),
            pending: Mutex::default(),
            wake: Notify::new(),
            received: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// A payload came in. Called from where a connection is read, so it waits for nothing.
    pub(super) fn payload(&self, payload: Vec<u8>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        let taken = self.room.take(payload.len()).is_some_and(|place| {
            let payload = Bytes::from_owner(Kept { payload, _place: place });
            self.events.try_send(BusEvent::Payload(payload)).is_ok()
        });
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.gap();
        }
    }

    /// Something may have been lost, and is no more.
    pub(super) fn gap(&self) {
        self.pending.lock().gap = true;
        self.wake.notify_one();
    }

    /// The link is lost.
    pub(super) fn down(&self) {
        // The gap comes when there is a link again.
        *self.pending.lock() = Pending { down: true, gap: false };
        self.wake.notify_one();
    }

    /// Tells the server what is pending, as soon as it has room for it. Returns when the server listens no more.
    pub(super) async fn herald(&self) {
        loop {
            let is_pending = {
                let pending = self.pending.lock();
                pending.down || pending.gap
            };
            if !is_pending {
                tokio::select! {
                    () = self.wake.notified() => continue,
                    () = self.events.closed() => return,
                }
            }
            let Ok(permit) = self.events.reserve().await else { return };
            let event = {
                let mut pending = self.pending.lock();
                if std::mem::take(&mut pending.down) {
                    Some(BusEvent::Down)
                } else {
                    std::mem::take(&mut pending.gap).then_some(BusEvent::Gap)
                }
            };
            if let Some(event) = event {
                let is_gap = event == BusEvent::Gap;
                permit.send(event);
                if is_gap {
                    tokio::time::sleep(GAP_INTERVAL).await;
                }
            }
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn inbox(events: usize) -> (Arc<Inbox>, mpsc::Receiver<BusEvent>) {
        let (sender, receiver) = mpsc::channel(events);
        let inbox = Arc::new(Inbox::new(sender));
        tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.herald().await }
        });
        (inbox, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_dropped_and_becomes_one_gap() {
        let (inbox, mut events) = inbox(2);
        for number in 0..10 {
            inbox.payload(vec![number]);
        }
        assert_eq!((inbox.received(), inbox.dropped()), (10, 8));
        assert_eq!(events.recv().await, Some(BusEvent::Payload(Bytes::from_static(&[0]))));
        assert_eq!(events.recv().await, Some(BusEvent::Payload(Bytes::from_static(&[1]))));
        assert_eq!(events.recv().await, Some(BusEvent::Gap));
        inbox.payload(vec![10]);
        assert_eq!(events.recv().await, Some(BusEvent::Payload(Bytes::from_static(&[10]))));
        tokio::time::sleep(GAP_INTERVAL * 3).await;
        assert!(events.try_recv().is_err(), "one gap for all of them");
    }

    #[tokio::test(start_paused = true)]
    async fn payloads_take_room_until_the_server_is_done_with_them() {
        let (inbox, mut events) = inbox(1000);
        let large = EVENT_BYTES / 4;
        for _ in 0..4 {
            inbox.payload(vec![0; large]);
        }
        assert_eq!(inbox.dropped(), 1, "three and what they cost beside their bytes");
        let held = events.recv().await;
        inbox.payload(vec![0; large]);
        assert_eq!(inbox.dropped(), 2, "the server has taken one and not finished with it");
        drop(held);
        inbox.payload(vec![0; large]);
        assert_eq!(inbox.dropped(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_waits_for_the_next_link_and_gaps_are_not_told_too_often() {
        let (inbox, mut events) = inbox(10);
        inbox.gap();
        inbox.down();
        assert_eq!(events.recv().await, Some(BusEvent::Down));
        inbox.down();
        inbox.gap();
        let began = tokio::time::Instant::now();
        assert_eq!(events.recv().await, Some(BusEvent::Down));
        assert_eq!(events.recv().await, Some(BusEvent::Gap));
        inbox.gap();
        assert_eq!(events.recv().await, Some(BusEvent::Gap));
        assert!(began.elapsed() >= GAP_INTERVAL);
    }
}

//! What is published with one round trip: lists of messages for the same node become one payload.
//!
//! Sessions whose messages shared a commit hint them at the same moment, each for itself. A payload costs us, Redis and the
//! node that hears it much more than a message in it does.

use bytes::Bytes;

use super::outgoing::{Channel, Outgoing};
use crate::bus::{DELIVER_BYTES, joined, messages_in};

/// Payloads made of a batch, and which of them each of the batch went into.
pub(super) struct Parcels {
    pub(super) payloads: Vec<(Channel, Bytes)>,
    /// For each of the batch, in its order, the number of its payload.
    pub(super) places: Vec<usize>,
}

/// A payload that is being made.
struct Parcel {
    channel: Channel,
    /// Lists of messages that go together; or one payload of any kind.
    parts: Vec<Bytes>,
    bytes: usize,
    is_list: bool,
}

impl Parcels {
    /// The order within a channel stays: only what comes one after the other there goes together.
    pub(super) fn of(batch: &[Outgoing]) -> Self {
        let mut parcels: Vec<Parcel> = Vec::new();
        let mut places = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let (payload, bytes) = (&outgoing.payload, outgoing.payload.len());
            let is_list = messages_in(payload).is_some();
            let last = parcels.iter_mut().enumerate().rev().find(|(_, parcel)| parcel.channel == outgoing.channel);
            match last {
                Some((at, parcel)) if is_list && parcel.is_list && parcel.bytes + bytes <= DELIVER_BYTES => {
                    parcel.parts.push(payload.clone());
                    parcel.bytes += bytes;
                    places.push(at);
                }
                _ => {
                    places.push(parcels.len());
                    parcels.push(Parcel { channel: outgoing.channel, parts: vec![payload.clone()], bytes, is_list });
                }
            }
        }
        let payloads = parcels.into_iter().map(|parcel| (parcel.channel, joined(&parcel.parts))).collect();
        Self { payloads, places }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outgoing::Room;
    use super::*;
    use crate::bus::{Addressed, BusMessage};
    use crate::protocol::event::Delivery;
    use crate::store::NodeId;

    fn list(number: u32, size: usize) -> BusMessage {
        let message = Delivery {
            msgid: 6,
            id: number,
            name: "]}".into(),
            toid: Some(7),
            groupid: None,
            msg: "x".repeat(size),
            time: String::new(),
            mid: None,
            seq: Some(1),
            at: 0,
        };
        BusMessage::Deliver(vec![Addressed { to: vec![7], message }])
    }

    fn parcels(batch: &[(Channel, BusMessage)]) -> (Vec<(Channel, BusMessage)>, Vec<usize>) {
        let room = Room::new(usize::MAX / 2);
        let outgoing = |(channel, message): &(Channel, BusMessage)| {
            let payload = message.encode();
            let place = room.take(payload.len()).unwrap();
            Outgoing { channel: *channel, payload, answer: None, _place: place }
        };
        let Parcels { payloads, places } = Parcels::of(&batch.iter().map(outgoing).collect::<Vec<_>>());
        let decoded = payloads.iter().map(|(channel, payload)| (*channel, BusMessage::decode(payload).unwrap()));
        (decoded.collect(), places)
    }

    #[test]
    fn lists_for_the_same_node_go_together_and_nothing_overtakes_anything_there() {
        let (one, other) = (Channel::Node(NodeId(1)), Channel::Node(NodeId(2)));
        let probe = BusMessage::Probe { node: 1, number: 1 };
        let (payloads, places) = parcels(&[
            (one, list(1, 10)),
            (other, list(2, 10)),
            (one, list(3, 10)),
            (one, probe.clone()),
            (one, list(4, 10)),
            (Channel::All, BusMessage::Moved { user: 1 }),
            (Channel::All, BusMessage::Moved { user: 2 }),
            (one, list(5, 10)),
        ]);
        assert_eq!(places, [0, 1, 0, 2, 3, 4, 5, 3]);
        let both = |first: u32, second: u32| match (list(first, 10), list(second, 10)) {
            (BusMessage::Deliver(mut messages), BusMessage::Deliver(more)) => {
                messages.extend(more);
                BusMessage::Deliver(messages)
            }
            _ => unreachable!(),
        };
        let expected = [
            (one, both(1, 3)),
            (other, list(2, 10)),
            (one, probe),
            (one, both(4, 5)),
            (Channel::All, BusMessage::Moved { user: 1 }),
            (Channel::All, BusMessage::Moved { user: 2 }),
        ];
        assert_eq!(payloads, expected);
    }

    #[test]
    fn a_payload_grows_no_longer_than_the_limit() {
        let node = Channel::Node(NodeId(1));
        let (payloads, places) = parcels(&[
            (node, list(1, DELIVER_BYTES)),
            (node, list(2, DELIVER_BYTES / 2)),
            (node, list(3, DELIVER_BYTES / 4)),
            (node, list(4, DELIVER_BYTES / 2)),
        ]);
        assert_eq!((payloads.len(), places), (3, vec![0, 1, 1, 2]));
    }
}

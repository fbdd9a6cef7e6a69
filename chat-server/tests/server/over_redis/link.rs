//! The contract of the bus, over Redis: order, what is told after a loss, bounds.

use std::time::Duration;

use bytes::Bytes;
use chat_server::bus::redis::{QUEUE, QUEUE_BYTES, RedisBusError, RedisLink};
use chat_server::bus::{Bus, BusError, BusEvent, BusEvents};
use chat_server::store::NodeId;

use super::process::RedisServer;
use crate::support::{bounded, until};

/// A node's end of the bus.
struct End {
    node: NodeId,
    bus: Bus,
    events: BusEvents,
}

impl End {
    async fn open(url: &str, node: u32) -> Self {
        let node = NodeId(node);
        let (link, events) = RedisLink::open(url, node).await.expect("nothing is hopeless");
        Self { node, bus: Bus::Redis(link), events }
    }

    /// One that is linked.
    async fn linked(url: &str, node: u32) -> Self {
        let mut end = Self::open(url, node).await;
        assert_eq!(end.next().await, BusEvent::Gap, "the first event of a bus");
        assert!(end.bus.is_up());
        end
    }

    async fn next(&mut self) -> BusEvent {
        bounded(self.events.recv()).await.expect("the bus lives")
    }

    /// The next payload; whatever else was said is passed over.
    async fn payload(&mut self) -> Bytes {
        loop {
            if let BusEvent::Payload(payload) = self.next().await {
                return payload;
            }
        }
    }

    /// Waits until an event has come; what comes before it is passed over.
    async fn until(&mut self, event: &BusEvent) {
        while self.next().await != *event {}
    }

    /// Waits until the link was lost and made again.
    async fn until_linked_again(&mut self) {
        self.until(&BusEvent::Down).await;
        self.until(&BusEvent::Gap).await;
        assert!(self.bus.is_up());
    }
}

/// Both say something and hear each other.
async fn talk(one: &mut End, other: &mut End, text: &'static str) {
    let payload = Bytes::from_static(text.as_bytes());
    assert_eq!(one.bus.send(other.node, payload.clone()).await, Ok(true));
    assert_eq!(other.payload().await, payload);
    assert_eq!(other.bus.send(one.node, payload.clone()).await, Ok(true));
    assert_eq!(one.payload().await, payload);
}

#[tokio::test]
async fn payloads_come_out_where_they_are_sent_to_in_order() {
    const COUNT: u32 = 5000;
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    for number in 0..COUNT {
        assert!(one.bus.hint(other.node, number.to_be_bytes().to_vec().into()));
        assert!(other.bus.hint(one.node, number.to_be_bytes().to_vec().into()));
    }
    for number in 0..COUNT {
        let expected = BusEvent::Payload(number.to_be_bytes().to_vec().into());
        assert_eq!(one.next().await, expected);
        assert_eq!(other.next().await, expected);
    }
    one.bus.broadcast(Bytes::from_static(b"all"));
    assert_eq!(one.payload().await, "all", "the sender is one of all");
    assert_eq!(other.payload().await, "all");
    assert_eq!(one.bus.send(NodeId(3), Bytes::from_static(b"x")).await, Ok(false), "nobody listens there");
    let stats = one.bus.stats();
    assert_eq!((stats.sent, stats.received, stats.dropped), (u64::from(COUNT) + 2, u64::from(COUNT) + 1, 0));
    assert_eq!((stats.connects, stats.queued), (1, 0));
}

#[tokio::test]
async fn any_bytes_are_a_payload() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    let large: Vec<u8> = (0..1_000_000_u32).map(|byte| byte as u8).collect();
    for payload in [Vec::new(), b"\r\n\0\xff$".to_vec(), large] {
        one.bus.hint(other.node, payload.clone().into());
        assert_eq!(other.payload().await, payload);
    }
}

#[tokio::test]
async fn clusters_with_numbers_of_their_own_share_a_redis() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (first, second) = (format!("{}/1", redis.url()), format!("{}/2", redis.url()));
    let (one, mut other) = (End::linked(&first, 1).await, End::linked(&second, 2).await);
    assert_eq!(one.bus.send(other.node, Bytes::from_static(b"x")).await, Ok(false));
    let mut friend = End::linked(&second, 3).await;
    one.bus.broadcast(Bytes::from_static(b"to the others"));
    talk(&mut other, &mut friend, "here").await;
}

#[tokio::test]
async fn after_a_crash_of_redis_both_ends_are_told_and_talk_again() {
    let Some(mut redis) = RedisServer::start(&[]) else { return };
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    for round in 0..2 {
        talk(&mut one, &mut other, "before").await;
        redis.kill();
        one.until(&BusEvent::Down).await;
        other.until(&BusEvent::Down).await;
        assert!(!one.bus.is_up() && !one.bus.hint(other.node, Bytes::from_static(b"lost")));
        assert_eq!(one.bus.send(other.node, Bytes::from_static(b"lost")).await, Err(BusError::Down));
        // Attempts fail meanwhile.
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.run();
        one.until(&BusEvent::Gap).await;
        other.until(&BusEvent::Gap).await;
        assert_eq!(one.bus.stats().connects, round + 2);
        talk(&mut one, &mut other, "after").await;
    }
}

#[tokio::test]
async fn a_link_that_loses_one_of_its_connections_is_made_again_as_a_whole() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    for (number, kind) in (2..).zip(["pubsub", "normal", "pubsub"]) {
        assert_eq!(redis.kill_clients(kind), 2, "one of each end");
        one.until_linked_again().await;
        other.until_linked_again().await;
        assert_eq!((one.bus.stats().connects, other.bus.stats().connects), (number, number));
        talk(&mut one, &mut other, kind).await;
        // The other half of the old link is gone, too, or what is published would come twice.
        until(async || redis.ask::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count() == 2).await;
    }
}

#[tokio::test]
async fn a_link_is_made_again_when_the_server_wishes() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    one.bus.reconnect();
    assert!(!one.bus.is_up());
    one.until_linked_again().await;
    talk(&mut one, &mut other, "again").await;
}

#[tokio::test]
async fn a_redis_that_stands_still_blocks_nobody_and_takes_no_memory() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    redis.pause();
    let payload = Bytes::from(vec![b'x'; 1000]);
    let mut taken = 0;
    for _ in 0..4 * QUEUE {
        taken += usize::from(one.bus.hint(other.node, payload.clone()));
        assert!(one.bus.stats().queued <= QUEUE);
    }
    // Beside the queue there is one batch on its way.
    assert!((QUEUE..QUEUE + 1000).contains(&taken), "{taken}");
    assert!(one.bus.stats().dropped >= 3 * QUEUE as u64 - 1000);
    let answer = bounded(one.bus.send(other.node, payload.clone())).await;
    assert!(matches!(answer, Err(BusError::Full | BusError::TimedOut | BusError::Down)), "{answer:?}");
    // Queued or not, it is answered in time.
    let answer = bounded(other.bus.send(one.node, payload)).await;
    assert!(matches!(answer, Err(BusError::TimedOut | BusError::Down)), "{answer:?}");
    one.until(&BusEvent::Down).await;
    other.until(&BusEvent::Down).await;
    assert_eq!(one.bus.stats().queued, 0, "what waited is given up");
    redis.resume();
    one.until(&BusEvent::Gap).await;
    other.until(&BusEvent::Gap).await;
    // What the stopped Redis had in its sockets may come out first.
    let last = Bytes::from_static(b"after");
    assert_eq!(one.bus.send(other.node, last.clone()).await, Ok(true));
    while other.payload().await != last {}
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_too() {
    const LARGE: usize = 1 << 20;
    let Some(redis) = RedisServer::start(&[]) else { return };
    let one = End::linked(&redis.url(), 1).await;
    redis.pause();
    let payload = Bytes::from(vec![b'x'; LARGE]);
    let taken = (0..100).filter(|_| one.bus.hint(NodeId(2), payload.clone())).count();
    assert!(taken >= 30 && taken * LARGE <= QUEUE_BYTES, "{taken}");
    redis.resume();
}

#[tokio::test]
async fn who_does_not_listen_loses_payloads_and_is_told() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let (one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    let mut sent = 0_u32;
    while other.bus.stats().dropped < 100 {
        // In pieces that find room in the sender's queue, so that what is dropped is dropped at the receiver.
        for _ in 0..1000 {
            assert!(one.bus.hint(other.node, sent.to_be_bytes().to_vec().into()));
            sent += 1;
        }
        assert_eq!(one.bus.send(other.node, Bytes::from_static(b"end")).await, Ok(true));
    }
    let mut came = 0;
    loop {
        match other.next().await {
            BusEvent::Payload(_) => came += 1,
            BusEvent::Gap => break,
            BusEvent::Down => panic!("the link holds"),
        }
    }
    // Beside what found room at first, some of what was on its way while this was read.
    assert!(came < sent as usize, "{came} of {sent}");
    assert_eq!(one.bus.stats().dropped, 0);
}

#[tokio::test]
async fn without_redis_the_link_is_down_until_there_is_one() {
    let Some(mut redis) = RedisServer::not_started(&[]) else { return };
    let (mut one, mut other) = (End::open(&redis.url(), 1).await, End::open(&redis.url(), 2).await);
    assert!(!one.bus.is_up() && one.events.try_recv().is_err());
    assert_eq!(one.bus.send(other.node, Bytes::new()).await, Err(BusError::Down));
    redis.run();
    assert_eq!(one.next().await, BusEvent::Gap);
    assert_eq!(other.next().await, BusEvent::Gap);
    talk(&mut one, &mut other, "at last").await;
}

#[tokio::test]
async fn a_redis_that_refuses_is_one_clear_error_without_the_password() {
    let Some(redis) = RedisServer::start(&["--requirepass", "right"]) else { return };
    for user in [":hunter2@", ""] {
        let url = format!("redis://{user}127.0.0.1:{}", redis.port());
        let error = RedisLink::open(&url, NodeId(1)).await.map(|_| ()).expect_err("it refuses");
        assert!(matches!(error, RedisBusError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        let place = format!("127.0.0.1:{}", redis.port());
        assert!(text.contains(&place) && !text.contains("hunter2") && !text.contains('\n'), "{text}");
    }
    let url = format!("redis://:right@127.0.0.1:{}", redis.port());
    let (mut one, mut other) = (End::linked(&url, 1).await, End::linked(&url, 2).await);
    talk(&mut one, &mut other, "come in").await;
}

#[tokio::test]
async fn what_is_no_url_is_an_error_without_the_password() {
    for url in ["redis://:hunter2@host:port", "redis://:hunter2@", "http://:hunter2@host"] {
        let error = RedisLink::open(url, NodeId(1)).await.map(|_| ()).expect_err(url);
        assert!(matches!(error, RedisBusError::Url(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_user_without_the_rights_is_one_clear_error() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let rules = ["ACL", "SETUSER", "mute", "on", ">secret", "resetchannels", "+@all"];
    redis.ask::<redis::Value>(&rules);
    let url = format!("redis://mute:secret@127.0.0.1:{}", redis.port());
    let error = RedisLink::open(&url, NodeId(1)).await.map(|_| ()).expect_err("it may not subscribe");
    assert!(matches!(error, RedisBusError::Refused { .. }) && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_cluster_of_redis_has_sharded_channels() {
    let Some(mut redis) = RedisServer::start(&["--cluster-enabled", "yes"]) else { return };
    redis.take_all_slots();
    let (mut one, mut other) = (End::linked(&redis.url(), 1).await, End::linked(&redis.url(), 2).await);
    talk(&mut one, &mut other, "sharded").await;
    one.bus.broadcast(Bytes::from_static(b"all"));
    assert_eq!(one.payload().await, "all");
    assert_eq!(other.payload().await, "all");
    let mut channels: Vec<String> = redis.ask(&["PUBSUB", "SHARDCHANNELS"]);
    channels.sort();
    assert_eq!(channels, ["chat:0:all", "chat:0:node:1", "chat:0:node:2"]);
    assert_eq!(redis.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]), Vec::<String>::new());
    redis.kill();
    one.until(&BusEvent::Down).await;
    other.until(&BusEvent::Down).await;
    redis.run();
    one.until(&BusEvent::Gap).await;
    other.until(&BusEvent::Gap).await;
    talk(&mut one, &mut other, "sharded again").await;
    for kind in ["pubsub", "normal"] {
        assert!(redis.kill_clients(kind) >= 2);
        one.until_linked_again().await;
        other.until_linked_again().await;
        talk(&mut one, &mut other, kind).await;
    }
}

#[tokio::test]
async fn a_cluster_of_redis_that_is_not_whole_is_waited_for() {
    let Some(redis) = RedisServer::start(&["--cluster-enabled", "yes"]) else { return };
    let mut one = End::open(&redis.url(), 1).await;
    assert!(!one.bus.is_up());
    redis.take_all_slots();
    assert_eq!(one.next().await, BusEvent::Gap);
    let mut other = End::linked(&redis.url(), 2).await;
    talk(&mut one, &mut other, "whole").await;
}

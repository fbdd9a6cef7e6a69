//! Clients that do not read.

use std::time::Duration;

use chat_server::protocol::command::Ping;
use chat_server::protocol::event::NoticeCode;
use chat_server::protocol::{Command, ServerMessage};

use crate::support::{Client, TestCluster, sequences, until};

/// A text that fills queues quickly.
fn text() -> String {
    "x".repeat(50_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_disconnected_and_loses_nothing() {
    let cluster = TestCluster::with(1, |config| {
        (config.slow_reader_ms, config.queue_bytes) = (3000, 65_536);
    })
    .await;
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    // Much more than the sockets and the queue take.
    let bob_id = bob.id;
    for _ in 0..300 {
        ada.chat(bob_id, &text()).await;
    }
    let queued = cluster.nodes[0].stat("queued_bytes").await;
    assert!(queued < 300_000, "{queued} bytes wait for one client");
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    assert_eq!(cluster.nodes[0].node.metrics().closed_for("slow_consumer"), 1);
    ada.done(Command::Ping(Ping {})).await;
    drop(bob);
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(sequences(&bob.login("bob").await), (1..=300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_gets_everything_in_order_though_the_queue_was_full() {
    let cluster = TestCluster::with(1, |config| {
        (config.slow_reader_ms, config.queue_bytes, config.queue_frames) = (20_000, 65_536, 8);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for _ in 0..300 {
        ada.chat(bob.id, &text()).await;
    }
    let mut received = Vec::new();
    while received.len() < 300 {
        received.push(bob.delivery().await);
        if received.len() % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(sequences(&received), (1..=300).collect::<Vec<_>>());
    // And what comes then comes directly.
    ada.chat(bob.id, "last").await;
    assert_eq!(bob.delivery().await.seq, Some(301));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_login_displaces_the_first_also_one_that_does_not_read() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for _ in 0..200 {
        ada.chat(bob.id, &text()).await;
    }
    let mut second = Client::modern(cluster.nodes[1].address).await;
    let result = second.try_login("bob").await.unwrap();
    assert!(result.displaced);
    let received = second.until_notice(NoticeCode::Synced).await;
    assert_eq!(sequences(&received), (1..=200).collect::<Vec<_>>());
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    ada.chat(second.id, "here").await;
    assert_eq!(second.delivery().await.msg, "here");
    let mut first = bob;
    let last = first.until_closed().await;
    assert!(!last.iter().any(|message| matches!(message, ServerMessage::Delivery(delivery) if delivery.msg == "here")));
}

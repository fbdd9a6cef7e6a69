//! The relay setting: stored only for users who are offline, as the original does.

use chat_server::config::{Config, Delivery};
use chat_server::protocol::Command;
use chat_server::protocol::command::{CreateGroup, GroupId};
use chat_server::protocol::event::CreateGroupResult;

use crate::support::{Client, TestCluster, chat, refused, sequences, until};

fn relay(config: &mut Config) {
    config.delivery = Delivery::Relay;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_online_gets_it_unstored_and_who_is_not_finds_it_at_the_next_login() {
    let cluster = TestCluster::with(2, relay).await;
    let (mut ada, mut bob, mut eve) =
        (cluster.user(0, "ada").await, cluster.user(0, "bob").await, cluster.user(1, "eve").await);
    for recipient in [&mut bob, &mut eve] {
        assert_eq!(ada.chat(recipient.id, "live").await.seq, None);
        let delivery = recipient.delivery().await;
        assert_eq!((delivery.msg.as_str(), delivery.seq), ("live", None));
    }
    assert_eq!(cluster.nodes[0].stat("messages_stored").await, 0);
    drop(bob);
    until(async || cluster.nodes[0].stat("users_online").await == 1).await;
    until(async || ada.chat(2, "offline").await.seq.is_some()).await;
    let mut bob = Client::modern(cluster.nodes[1].address).await;
    assert!(!bob.login("bob").await.is_empty());
    assert_eq!(refused(ada.call::<()>(chat(77, "x")).await), "unknown_user");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_message_is_stored_if_a_member_is_offline() {
    let cluster = TestCluster::with(2, relay).await;
    let (mut ada, mut bob, mut eve) =
        (cluster.user(0, "ada").await, cluster.user(1, "bob").await, cluster.user(0, "eve").await);
    let group = CreateGroup { groupname: "crab".into(), groupdesc: String::new() };
    let groupid = ada.call::<CreateGroupResult>(Command::CreateGroup(group)).await.unwrap().groupid;
    assert_eq!(refused(bob.group_chat(groupid, "x").await), "not_a_member");
    for member in [&mut bob, &mut eve] {
        member.done(Command::JoinGroup(GroupId { groupid })).await;
    }
    assert_eq!(ada.group_chat(groupid, "live").await.unwrap().seq, None);
    assert_eq!((bob.delivery().await.seq, eve.delivery().await.seq), (None, None));
    drop(eve);
    until(async || cluster.nodes[0].stat("users_online").await == 1).await;
    until(async || ada.group_chat(groupid, "stored").await.unwrap().seq.is_some()).await;
    let mut eve = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(eve.login("eve").await[0].msg, "stored");
    assert_eq!(bob.delivery().await.msg, "stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_not_faster_than_its_recipient_and_nothing_is_lost() {
    const COUNT: usize = 2000;
    let cluster = TestCluster::with(1, |config| {
        relay(config);
        (config.queue_frames, config.commands_per_s, config.slow_reader_ms) = (16, 0, 20_000);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let bob_id = bob.id;
    let sending = async {
        let mut sent = Vec::new();
        for number in 0..COUNT {
            sent.push(ada.send(chat(bob_id, &number.to_string())).await);
        }
        for rid in sent {
            assert_eq!(ada.answer(rid).await.errno, 0);
        }
    };
    let receiving = async {
        for number in 0..COUNT {
            assert_eq!(bob.delivery().await.msg, number.to_string());
        }
    };
    tokio::join!(sending, receiving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_client_that_went_is_stored() {
    const COUNT: u64 = 200;
    let cluster = TestCluster::with(1, |config| {
        relay(config);
        (config.slow_reader_ms, config.queue_bytes) = (3000, 16 << 20);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let filler = "x".repeat(50_000);
    for number in 0..COUNT {
        ada.chat(bob.id, &format!("{number} {filler}")).await;
    }
    // The socket is full, the queue is not empty, and nobody reads: the node ends it.
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    let mut numbers: Vec<u64> = Vec::new();
    for message in bob.until_closed().await {
        if let chat_server::protocol::ServerMessage::Delivery(delivery) = message {
            numbers.push(delivery.msg.split(' ').next().unwrap().parse().unwrap());
        }
    }
    let in_the_socket = numbers.len();
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    let stored = bob.login("bob").await;
    assert_eq!(sequences(&stored), (1..=stored.len() as u64).collect::<Vec<_>>());
    numbers.extend(stored.iter().map(|delivery| delivery.msg.split(' ').next().unwrap().parse::<u64>().unwrap()));
    // The one that was half written when the connection ended may have come twice; none may be missing.
    assert!(in_the_socket < COUNT as usize, "the socket took everything; nothing was tested");
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
}

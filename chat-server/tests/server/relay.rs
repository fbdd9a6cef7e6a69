//! The relay setting: stored only for users who are offline, as the original does.

use chat_server::config::{Config, Delivery};
use chat_server::protocol::Command;
use chat_server::protocol::answer::CreateGroupResult;
use chat_server::protocol::command::{CreateGroup, GroupId};

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
async fn what_a_batch_has_for_another_node_goes_there_together_and_everybody_gets_his_own_in_order() {
    const EACH: usize = 60;
    let cluster = TestCluster::with(3, |config| {
        relay(config);
        (config.commands_per_s, config.probe_ms) = (0, 600_000);
    })
    .await;
    let mut ada = cluster.user(0, "ada").await;
    let mut online = [cluster.user(1, "bob").await, cluster.user(1, "eve").await, cluster.user(2, "dan").await];
    let mut gone = cluster.user(1, "kim").await;
    let kim = gone.id;
    gone.done(Command::Logout(chat_server::protocol::command::Logout {})).await;
    until(async || ada.chat(kim, "away").await.seq.is_some()).await;
    // All to one other node: one payload for many.
    let (bob, eve) = (online[0].id, online[1].id);
    let filler = "x".repeat(3000);
    let payloads = cluster.nodes[0].node.bus.stats().sent;
    let to_one_node = (0..2 * EACH).map(|number| {
        let to = if number % 2 == 0 { bob } else { eve };
        chat(to, &format!("{} {filler}", number / 2))
    });
    for rid in ada.send_together(to_one_node).await {
        assert_eq!(ada.answer(rid).await.errno, 0);
    }
    let payloads = cluster.nodes[0].node.bus.stats().sent - payloads;
    assert!((6..EACH as u64).contains(&payloads), "{payloads} payloads: many together, and no payload of any size");
    // To all kinds of recipients, one after the other.
    let everybody = [bob, online[2].id, kim, eve];
    let commands = (0..4 * EACH).map(|number| chat(everybody[number % 4], &format!("{} ", EACH + number / 4)));
    for (number, rid) in ada.send_together(commands).await.into_iter().enumerate() {
        let result: chat_server::protocol::answer::ChatResult = ada.answer(rid).await.result().unwrap();
        assert_eq!(result.seq.is_some(), number % 4 == 2, "stored for who is away");
    }
    for (recipient, numbers) in online.iter_mut().zip([0..2 * EACH, 0..2 * EACH, EACH..2 * EACH]) {
        for number in numbers {
            let text = recipient.delivery().await.msg;
            assert_eq!(text.split_once(' ').unwrap().0, number.to_string());
        }
    }
    let mut kim = Client::modern(cluster.nodes[2].address).await;
    let stored = kim.login("kim").await;
    assert!(stored.len() > EACH && stored.last().unwrap().msg.starts_with(&(2 * EACH - 1).to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_had_for_a_node_that_takes_nothing_is_stored() {
    const COUNT: u64 = 40;
    let cluster = TestCluster::with(2, |config| {
        relay(config);
        (config.probe_ms, config.heal_ms) = (600_000, 500);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    assert_eq!(ada.chat(bob.id, "live").await.seq, None);
    assert_eq!(bob.delivery().await.msg, "live");
    cluster.bus.cut(cluster.nodes[1].node.lease.node, true);
    let bob_id = bob.id;
    let rids = ada.send_together((1..=COUNT).map(|number| chat(bob_id, &number.to_string()))).await;
    for (number, rid) in (1..).zip(rids) {
        let result: chat_server::protocol::answer::ChatResult = ada.answer(rid).await.result().unwrap();
        assert_eq!(result.seq, Some(number));
    }
    for number in 1..=COUNT {
        assert_eq!(bob.delivery().await.msg, number.to_string(), "found by the slow timer");
    }
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

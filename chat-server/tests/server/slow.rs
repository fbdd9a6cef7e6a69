//! Clients that do not read.

use std::time::Duration;

use chat_server::config::Database;
use chat_server::protocol::answer::CreateGroupResult;
use chat_server::protocol::command::{CreateGroup, GroupId, Login, Logout, Ping};
use chat_server::protocol::event::NoticeCode;
use chat_server::protocol::{Command, ServerMessage};

use crate::support::{Client, PASSWORD, TestCluster, sequences, until};

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
async fn those_who_do_not_read_keep_nobody_else_from_what_he_missed() {
    /// More than may read from so small a pool at once.
    const SLOW: u64 = 12;
    const QUEUE: usize = 65_536;
    let cluster = TestCluster::with(1, |config| {
        (config.slow_reader_ms, config.queue_bytes, config.pool_size) = (3_600_000, QUEUE, 2);
        (config.logins_per_address_per_min, config.registrations_per_address_per_min) = (0, 0);
    })
    .await;
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let group = Command::CreateGroup(CreateGroup { groupname: "everybody".into(), groupdesc: String::new() });
    let groupid = ada.call::<CreateGroupResult>(group).await.unwrap().groupid;
    for number in 0..SLOW {
        cluster.user(0, &number.to_string()).await.done(Command::JoinGroup(GroupId { groupid })).await;
    }
    let bob_id = bob.id;
    drop(bob);
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    // Much more than the sockets and the queues take.
    for _ in 0..300 {
        ada.group_chat(groupid, &text()).await.unwrap();
    }
    ada.chat(bob_id, "for bob").await;
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let mut client = Client::modern(cluster.nodes[0].address).await;
        client.try_login(&number.to_string()).await.unwrap();
        slow.push(client);
    }
    until(async || cluster.nodes[0].stat("queued_bytes").await > SLOW * QUEUE as u64 / 2).await;
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(bob.login("bob").await[0].msg, "for bob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_somebody_took_out_of_the_database_keep_no_others() {
    let cluster = TestCluster::with(1, |config| config.heal_ms = 3_600_000).await;
    let Database::SqliteFile(file) = &cluster.database else { panic!("it is a file") };
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let mut eve = cluster.user(0, "eve").await;
    let bob_id = bob.id;
    drop(bob);
    until(async || cluster.nodes[0].stat("connections").await == 2).await;
    for number in 1..=5 {
        ada.chat(bob_id, &format!("message {number}")).await;
    }
    eve.chat(bob_id, "from eve").await;
    let database = rusqlite::Connection::open(file).unwrap();
    database.execute("DELETE FROM message WHERE body IN ('message 2', 'message 5')", []).unwrap();
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    let mut texts: Vec<String> = bob.login("bob").await.into_iter().map(|delivery| delivery.msg).collect();
    texts.sort();
    assert_eq!(texts, ["from eve", "message 1", "message 3", "message 4"]);
    // And what comes then.
    ada.chat(bob_id, "message 6").await;
    assert_eq!(bob.delivery().await.msg, "message 6");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_in_as_somebody_else_gets_that_users_messages_though_others_were_being_read() {
    let cluster = TestCluster::with(1, |config| {
        (config.heal_ms, config.queue_bytes, config.queue_frames) = (3_600_000, 65_536, 8);
    })
    .await;
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let eve = cluster.user(0, "eve").await;
    let (bob_id, eve_id) = (bob.id, eve.id);
    drop((bob, eve));
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    for _ in 0..300 {
        ada.chat(bob_id, &text()).await;
    }
    ada.chat(eve_id, "for eve").await;
    // With one write, so that the server has read all three when the first one's messages fill the queue.
    let mut client = Client::modern(cluster.nodes[0].address).await;
    let login = |name: &str| Command::Login(Login { id: None, name: Some(name.into()), password: PASSWORD.into() });
    let rids = client.send_together([login("bob"), Command::Logout(Logout {}), login("eve")]).await;
    let mut answered = 0;
    loop {
        match client.push_or_closed().await.expect("the connection is open") {
            ServerMessage::Answer(answer) => {
                assert_eq!((answer.rid, answer.errno), (Some(rids[answered]), 0));
                answered += 1;
            }
            ServerMessage::Delivery(delivery) => {
                assert_eq!(delivery.toid, Some(if answered < 3 { bob_id } else { eve_id }), "nobody else's");
                if answered == 3 {
                    assert_eq!(delivery.msg, "for eve");
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(client.until_notice(NoticeCode::Synced).await.is_empty());
}

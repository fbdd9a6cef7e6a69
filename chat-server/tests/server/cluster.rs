//! Several nodes: messages between them, hints that are lost, nodes that come and go.

use std::time::Duration;

use chat_server::config::Database;
use chat_server::protocol::Command;
use chat_server::protocol::answer::{ChatResult, CreateGroupResult};
use chat_server::protocol::command::{Ack, Chat, CreateGroup, GroupId, Ping};
use chat_server::protocol::event::NoticeCode;
use chat_server::server::ServerError;
use chat_server::store::{Claim, ClaimPolicy, Location, SessionId};

use crate::support::{Client, TestCluster, TestNode, chat, refused, sequences, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_different_nodes_chat_in_order() {
    chat_across(TestCluster::start(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_different_nodes_chat_in_order_over_mysql() {
    if let Some(cluster) = TestCluster::mysql(3).await {
        chat_across(cluster).await;
    }
}

async fn chat_across(cluster: TestCluster) {
    const COUNT: u64 = 100;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(2, "bob").await);
    for number in 0..COUNT {
        ada.chat(bob.id, &number.to_string()).await;
        assert_eq!(bob.delivery().await.msg, number.to_string());
        bob.chat(ada.id, "back").await;
        assert_eq!(ada.delivery().await.seq, Some(2 * number + 2));
    }
    hints_did_it(&cluster.nodes[2], COUNT).await;
}

/// Waits until the hints of so many messages have come in their order, none too early: what came by healing reads alone is
/// not among them. Whether such a read was faster says nothing. They come when nodes join, too, and then find what is
/// stored and about to be hinted.
async fn hints_did_it(node: &TestNode, count: u64) {
    until(async || node.node.metrics().delivered.get() == count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_members_on_all_nodes_see_one_order() {
    group_across(TestCluster::start(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_groups_members_on_all_nodes_see_one_order_over_mysql() {
    if let Some(cluster) = TestCluster::mysql(3).await {
        group_across(cluster).await;
    }
}

async fn group_across(cluster: TestCluster) {
    const EACH: usize = 50;
    let mut members = Vec::new();
    for number in 0..6 {
        members.push(cluster.user(number % 3, &format!("user {number}")).await);
    }
    let group = CreateGroup { groupname: "crab".into(), groupdesc: String::new() };
    let groupid = members[0].call::<CreateGroupResult>(Command::CreateGroup(group)).await.unwrap().groupid;
    for member in &mut members[1..] {
        member.done(Command::JoinGroup(GroupId { groupid })).await;
    }
    let tasks: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                let mut own = Vec::new();
                for _ in 0..EACH {
                    own.push(member.group_chat(groupid, "x").await.unwrap().seq.unwrap());
                }
                let mut received = Vec::new();
                while received.len() < 5 * EACH {
                    received.push(member.delivery().await);
                }
                let mut all = sequences(&received);
                assert!(all.is_sorted_by(|one, other| one < other), "{all:?}");
                all.extend(own);
                all.sort_unstable();
                assert_eq!(all, (1..=6 * EACH as u64).collect::<Vec<_>>());
            })
        })
        .collect();
    for task in tasks {
        crate::support::bounded(task).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_hints_to_a_node_goes_there_together() {
    const COUNT: u64 = 60;
    let cluster = TestCluster::with(3, |config| {
        (config.heal_ms, config.probe_ms) = (3_600_000, 600_000);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let mut eve = cluster.user(2, "eve").await;
    ada.chat(bob.id, "0").await;
    ada.chat(eve.id, "0").await;
    let payloads = cluster.nodes[0].node.bus.stats().sent;
    let (bob_id, eve_id, filler) = (bob.id, eve.id, "x".repeat(3000));
    let commands = (1..=COUNT).flat_map(|number| [bob_id, eve_id].map(|to| chat(to, &format!("{number} {filler}"))));
    for rid in ada.send_together(commands).await {
        assert_eq!(ada.answer(rid).await.errno, 0);
    }
    for client in [&mut bob, &mut eve] {
        for number in 0..=COUNT {
            assert_eq!(client.delivery().await.seq, Some(number + 1));
        }
    }
    let payloads = cluster.nodes[0].node.bus.stats().sent - payloads;
    assert!((6..COUNT).contains(&payloads), "{payloads} payloads: many together, and no payload of any size");
    for node in &cluster.nodes[1..] {
        hints_did_it(node, COUNT + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_node_notices_and_its_users_miss_nothing() {
    let cluster = TestCluster::with(2, |config| config.probe_ms = 100).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    ada.chat(bob.id, "1").await;
    assert_eq!(bob.delivery().await.msg, "1");
    let deaf = cluster.nodes[1].node.lease.node;
    cluster.bus.cut(deaf, true);
    for number in 2..=5 {
        assert_eq!(ada.chat(bob.id, &number.to_string()).await.seq, Some(number), "what is stored is accepted");
    }
    until(async || cluster.nodes[1].get("/readyz").await.0 == 503).await;
    // Local users are served all the same.
    bob.done(Command::Ping(Ping {})).await;
    cluster.bus.cut(deaf, false);
    for number in 2..=5_u64 {
        assert_eq!(bob.delivery().await.seq, Some(number));
    }
    until(async || cluster.nodes[1].get("/readyz").await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_was_lost_in_silence_is_found_by_the_slow_timer() {
    let cluster = TestCluster::with(2, |config| {
        (config.heal_ms, config.probe_ms) = (1000, 600_000);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let sender = cluster.nodes[0].node.lease.node;
    cluster.bus.cut(sender, true);
    ada.chat(bob.id, "lost").await;
    assert_eq!(bob.delivery().await.msg, "lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_counts_also_for_whom_the_store_is_being_read_already() {
    let cluster = TestCluster::with(2, |config| {
        (config.heal_ms, config.probe_ms, config.queue_frames) = (3_600_000, 600_000, 8);
        config.slow_reader_ms = 3_600_000;
    })
    .await;
    let mut ada = cluster.user(0, "ada").await;
    let mut bob = Client::modern(cluster.nodes[1].address).await;
    let bob_id = bob.register("bob").await;
    let filler = "x".repeat(50_000);
    for _ in 0..300 {
        ada.chat(bob_id, &filler).await;
    }
    // He does not read, so his messages are being read from the store for as long as we please.
    bob.try_login("bob").await.unwrap();
    until(async || cluster.nodes[1].stat("queued_frames").await > 4).await;
    // Registered later, so he is looked after before her.
    let _eve = cluster.user(1, "eve").await;
    let mut zoe = cluster.user(0, "zoe").await;
    let node = &cluster.nodes[1].node;
    cluster.bus.cut(node.lease.node, true);
    zoe.chat(bob_id, "lost").await;
    cluster.bus.cut(node.lease.node, false);
    let heals = node.metrics().heals.get();
    node.bus.reconnect();
    until(async || node.metrics().heals.get() > heals).await;
    while bob.delivery().await.msg != "lost" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_tells_a_message_that_was_stored_and_never_told() {
    let cluster = TestCluster::with(2, |config| config.probe_ms = 600_000).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let message = |text: &str| Command::Chat(Chat { toid: 2, msg: text.into(), time: None, mid: Some("m".into()) });
    let sender = cluster.nodes[0].node.lease.node;
    cluster.bus.cut(sender, true);
    assert!(!ada.call::<ChatResult>(message("stored")).await.unwrap().duplicate);
    cluster.bus.cut(sender, false);
    assert!(ada.call::<ChatResult>(message("something else")).await.unwrap().duplicate);
    assert_eq!(bob.delivery().await.msg, "stored");
    assert!(ada.call::<ChatResult>(message("stored")).await.unwrap().duplicate);
    ada.chat(bob.id, "next").await;
    assert_eq!(bob.delivery().await.msg, "next", "who has it does not get it again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_to_another_node_is_found_there_though_the_old_one_was_remembered() {
    let cluster = TestCluster::with(3, |config| config.cache_ms = 600_000).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    ada.chat(bob.id, "1").await;
    bob.delivery().await;
    let mut bob = Client::modern(cluster.nodes[2].address).await;
    bob.login("bob").await;
    chat_until_hinted(&mut ada, bob.id, "2", &cluster.nodes[2]).await;
    assert_eq!(bob.delivery().await.msg, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_later_is_known_by_what_it_says() {
    // The others look around when they renew their leases, which they do not in this time.
    let mut cluster = TestCluster::with(1, |config| {
        (config.lease_ms, config.lease_refresh_ms) = (600_000, 200_000);
    })
    .await;
    let mut ada = cluster.user(0, "ada").await;
    until(async || cluster.nodes[0].get("/readyz").await.0 == 200).await;
    cluster.add().await;
    let mut bob = cluster.user(1, "bob").await;
    chat_until_hinted(&mut ada, bob.id, "welcome", &cluster.nodes[1]).await;
    assert_eq!(bob.delivery().await.msg, "welcome");
}

/// Sends a text again and again until a hint of it has come: the news of where somebody is may be on their way for a moment.
pub(crate) async fn chat_until_hinted(sender: &mut Client, to: u32, text: &str, node: &TestNode) {
    let sending = async {
        loop {
            sender.chat(to, text).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let arrived = node.node.metrics().delivered.clone();
    tokio::select! {
        () = sending => {}
        () = until(async || arrived.get() > 0) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_race_leave_one_session() {
    race(TestCluster::start(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_that_race_leave_one_session_over_mysql() {
    if let Some(cluster) = TestCluster::mysql(3).await {
        race(cluster).await;
    }
}

async fn race(cluster: TestCluster) {
    drop(cluster.user(0, "ada").await);
    let mut tasks = Vec::new();
    for number in 0..24 {
        let address = cluster.nodes[number % 3].address;
        tasks.push(tokio::spawn(async move {
            let mut client = Client::modern(address).await;
            // One that is displaced right away may not live to see its answer.
            let rid = client
                .send(Command::Login(chat_server::protocol::command::Login {
                    id: None,
                    name: Some("ada".into()),
                    password: crate::support::PASSWORD.into(),
                }))
                .await;
            let _ = rid;
            client
        }));
    }
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    until(async || {
        let mut online = 0;
        for node in &cluster.nodes {
            online += node.stat("connections").await;
        }
        online == 1
    })
    .await;
    let user = chat_server::store::UserId::new(1).unwrap();
    let found = cluster.nodes[0].node.store().where_are(&[user]).await.unwrap();
    let (_, location) = found[0];
    let home = cluster.nodes.iter().find(|node| node.node.lease == location.lease).unwrap();
    assert!(
        home.node.hub.user(user).is_some_and(|session| session.id == location.session),
        "the claim and the hub agree"
    );
    let mut bob = cluster.user(1, "bob").await;
    bob.chat(1, "who is it?").await;
    let mut delivered = 0;
    for client in &mut clients {
        let messages = async {
            while let Some(message) = client.push_or_closed().await {
                if matches!(message, chat_server::protocol::ServerMessage::Delivery(_)) {
                    return 1;
                }
            }
            0
        };
        delivered += crate::support::bounded(messages).await;
    }
    assert_eq!(delivered, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_of_one_name_are_one_too_many_and_the_older_one_stops() {
    let mut cluster = TestCluster::with(1, |config| {
        (config.lease_ms, config.lease_refresh_ms) = (1000, 100);
    })
    .await;
    let mut ada = cluster.user(0, "ada").await;
    let newer = cluster.open("node-0").await;
    ada.until_notice(NoticeCode::Fenced).await;
    assert!(ada.push().await.is_none());
    let older = cluster.nodes.remove(0);
    assert!(matches!(older.ended().await, Err(ServerError::Replaced(name)) if name == "node-0"));
    let mut ada = Client::modern(newer.address).await;
    ada.login("ada").await;
    newer.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_tells_the_clients_and_hands_their_users_back() {
    let mut cluster = TestCluster::start(2).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let original = {
        let mut original = crate::support::Original::connect(cluster.nodes[0].address).await;
        let id = original.register("old").await;
        original.login(id).await;
        original
    };
    // What is on its way is finished.
    let mut sent = Vec::new();
    for number in 0..50 {
        sent.push(ada.send(crate::support::chat(bob.id, &number.to_string())).await);
    }
    let node = cluster.nodes.remove(0);
    let address = node.address;
    let stopping = tokio::spawn(node.stop());
    let (mut accepted, mut noticed) = (0, false);
    while let Some(message) = ada.push_or_closed().await {
        match message {
            chat_server::protocol::ServerMessage::Answer(answer) => accepted += u64::from(answer.errno == 0),
            chat_server::protocol::ServerMessage::Notice(notice) => {
                assert_eq!(notice.code, NoticeCode::Draining);
                assert!(notice.reconnect_ms.is_some());
                noticed = true;
            }
            _ => {}
        }
    }
    assert!(noticed);
    crate::support::bounded(stopping).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
    drop(original);
    // At once, without waiting for a lease to run out.
    let mut ada = Client::modern(cluster.nodes[0].address).await;
    assert!(!ada.try_login("ada").await.unwrap().displaced);
    let mut received = 0;
    while received < accepted {
        bob.delivery().await;
        received += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing() {
    let mut cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for number in 0..20 {
        ada.chat(bob.id, &number.to_string()).await;
    }
    for _ in 0..10 {
        bob.delivery().await;
    }
    bob.done(Command::Ack(Ack { peer: Some(ada.id), groupid: None, seq: 10 })).await;
    cluster.nodes.remove(0).stop().await.unwrap();
    cluster.add().await;
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(sequences(&bob.login("bob").await), (11..=20).collect::<Vec<_>>());
    let mut ada = Client::modern(cluster.nodes[0].address).await;
    ada.login("ada").await;
    assert_eq!(ada.chat(bob.id, "on it goes").await.seq, Some(21));
    assert_eq!(bob.delivery().await.seq, Some(21));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_nodes_user_waits_for_its_lease_at_most() {
    const LEASE: Duration = Duration::from_millis(1500);
    let cluster = TestCluster::with(1, |config| config.second_login = chat_server::config::SecondLogin::Refuse).await;
    let mut ada = Client::modern(cluster.nodes[0].address).await;
    ada.register("ada").await;
    // A node that claimed its users and died.
    let store = cluster.nodes[0].node.store();
    let dead = store.register_node("dead", LEASE).await.unwrap();
    let user = chat_server::store::UserId::new(1).unwrap();
    let location = Location { lease: dead, session: SessionId(1) };
    store.claim(Claim { user, location, policy: ClaimPolicy::Displace }).await.unwrap();
    let refusal = ada.try_login("ada").await.unwrap_err();
    assert_eq!(refusal.code.name(), "account_in_use");
    assert!(refusal.retry_ms.is_some_and(|retry_ms| retry_ms <= LEASE.as_millis() as u64), "{refusal:?}");
    until(async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ada.try_login("ada").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_renew_its_lease_refuses_what_it_may_not_do_and_recovers() {
    let cluster = TestCluster::with(1, |config| {
        (config.lease_ms, config.lease_refresh_ms) = (1000, 200);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let Database::SqliteFile(file) = &cluster.database else { panic!("it is SQLite") };
    // Nobody can write any more, as if the database had stopped answering.
    let lock = rusqlite::Connection::open(file).unwrap();
    lock.busy_timeout(crate::support::LONG).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    until(async || cluster.nodes[0].get("/readyz").await == (503, LEASE_LOST.into())).await;
    assert_eq!(refused(ada.call::<ChatResult>(chat(bob.id, "x")).await), "unavailable");
    let mut eve = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(refused(eve.try_login("bob").await), "unavailable");
    ada.done(Command::Ping(Ping {})).await;
    lock.execute_batch("COMMIT").unwrap();
    until(async || cluster.nodes[0].get("/readyz").await.0 == 200).await;
    ada.chat(bob.id, "again").await;
    assert_eq!(bob.delivery().await.msg, "again");
}

const LEASE_LOST: &str = "the lease could not be renewed: the database is not reachable\n";

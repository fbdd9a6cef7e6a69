//! Nodes over Redis: users of different nodes chat, and miss nothing when Redis fails.

use std::time::Duration;

use chat_server::config::{BusUrl, Config};
use chat_server::protocol::Command;
use chat_server::protocol::command::Ping;
use chat_server::server::{BusSource, Server, ServerError};

use super::process::RedisServer;
use crate::support::{Client, TestCluster, until};

async fn is_ready(cluster: &TestCluster, node: usize) -> bool {
    cluster.nodes[node].get("/readyz").await.0 == 200
}

async fn until_ready(cluster: &TestCluster) {
    for node in 0..cluster.nodes.len() {
        until(async || is_ready(cluster, node).await).await;
    }
}

/// `COUNT` messages in both directions, by hints alone.
async fn chat_both_ways(ada: &mut Client, bob: &mut Client, texts: std::ops::Range<u32>) {
    for number in texts {
        ada.chat(bob.id, &number.to_string()).await;
        assert_eq!(bob.delivery().await.msg, number.to_string());
        bob.chat(ada.id, &number.to_string()).await;
        assert_eq!(ada.delivery().await.msg, number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_different_nodes_chat_over_redis_and_miss_nothing_when_it_crashes() {
    let Some(mut redis) = RedisServer::start(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |config| config.heal_ms = 3_600_000).await;
    until_ready(&cluster).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let healed = cluster.nodes[1].node.metrics().healed.get();
    chat_both_ways(&mut ada, &mut bob, 0..50).await;
    // Healing after the nodes' joining and after the login may come before a hint, but not each time.
    let read = cluster.nodes[1].node.metrics().healed.get() - healed;
    assert!(read < 25, "hints did it, not {read} readings");
    redis.kill();
    until(async || !is_ready(&cluster, 0).await && !is_ready(&cluster, 1).await).await;
    // What is stored is accepted, and local users are served.
    for number in 0..5 {
        ada.chat(bob.id, &format!("meanwhile {number}")).await;
    }
    bob.done(Command::Ping(Ping {})).await;
    redis.run();
    for number in 0..5 {
        assert_eq!(bob.delivery().await.msg, format!("meanwhile {number}"));
    }
    until_ready(&cluster).await;
    chat_both_ways(&mut ada, &mut bob, 50..60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_redis_that_are_killed_lose_nothing() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |config| config.heal_ms = 3_600_000).await;
    until_ready(&cluster).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    for (round, kind) in ["pubsub", "normal", "pubsub", "normal"].into_iter().enumerate() {
        let connects = cluster.nodes[1].node.bus.stats().connects;
        assert!(redis.kill_clients(kind) >= 2);
        // Right into the time when the link is lost.
        for number in 0..20 {
            ada.chat(bob.id, &format!("{round} {number}")).await;
        }
        for number in 0..20 {
            assert_eq!(bob.delivery().await.msg, format!("{round} {number}"));
        }
        until(async || cluster.nodes[1].node.bus.stats().connects > connects).await;
        until_ready(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_is_noticed_and_delays_nobody() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |config| {
        (config.heal_ms, config.probe_ms) = (3_600_000, 200);
    })
    .await;
    until_ready(&cluster).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    redis.pause();
    until(async || !is_ready(&cluster, 0).await && !is_ready(&cluster, 1).await).await;
    let mut eve = cluster.user(0, "eve").await;
    eve.chat(ada.id, "on the same node").await;
    assert_eq!(ada.delivery().await.msg, "on the same node");
    ada.chat(bob.id, "on another").await;
    redis.resume();
    assert_eq!(bob.delivery().await.msg, "on another");
    until_ready(&cluster).await;
    chat_both_ways(&mut ada, &mut bob, 0..10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_of_ours_is_passed_over() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |_| {}).await;
    until_ready(&cluster).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    for payload in ["", "{", "null", "[]", r#"{"t":"of a later version"}"#, r#"{"t":"deliver","to":"all"}"#] {
        assert_eq!(redis.ask::<u64>(&["PUBLISH", "chat:0:all", payload]), 2, "both listen");
    }
    chat_both_ways(&mut ada, &mut bob, 0..5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_on_another_node_displaces_the_first_over_redis() {
    let Some(redis) = RedisServer::start(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |config| config.heal_ms = 3_600_000).await;
    until_ready(&cluster).await;
    let mut first = cluster.user(0, "ada").await;
    let mut second = Client::modern(cluster.nodes[1].address).await;
    assert!(second.try_login("ada").await.unwrap().displaced);
    first.until_notice(chat_server::protocol::event::NoticeCode::Displaced).await;
    assert!(first.push_or_closed().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_redis_and_serves_its_own_users() {
    let Some(mut redis) = RedisServer::not_started(&[]) else { return };
    let cluster = TestCluster::redis(2, &redis.url(), |_| {}).await;
    let (status, reason) = cluster.nodes[0].get("/readyz").await;
    assert_eq!((status, reason.as_str()), (503, "the bus is down\n"));
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let mut eve = cluster.user(0, "eve").await;
    eve.chat(ada.id, "here").await;
    assert_eq!(ada.delivery().await.msg, "here");
    ada.chat(bob.id, "there").await;
    redis.run();
    assert_eq!(bob.delivery().await.msg, "there");
    until_ready(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_for_redis_ends_the_start_with_one_clear_error() {
    let Some(redis) = RedisServer::start(&["--requirepass", "right"]) else { return };
    let folder = crate::support::Folder::new();
    let mut config = Config::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    config.http = None;
    config.database = chat_server::config::Database::SqliteFile(folder.0.join("chat.db"));
    config.bus = BusUrl::Redis(format!("redis://:hunter2@127.0.0.1:{}", redis.port()));
    let opened = tokio::time::timeout(Duration::from_secs(30), Server::open(config, BusSource::Configured)).await;
    let Err(error) = opened.expect("it does not try for ever") else { panic!("it started") };
    assert!(matches!(error, ServerError::Bus(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

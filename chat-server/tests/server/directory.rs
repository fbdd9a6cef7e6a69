//! What nodes know of their own and each other's sessions, and that it does not stay wrong when something has failed.

use chat_server::bus::local::LocalBus;
use chat_server::config::{Config, Database, SecondLogin};
use chat_server::protocol::Command;
use chat_server::protocol::answer::CreateGroupResult;
use chat_server::protocol::command::{CreateGroup, GroupId, Kick};
use chat_server::store::{Claim, ClaimPolicy, Location, SessionId, UserId};

use crate::cluster::chat_until_hinted;
use crate::support::{Client, TestCluster, refused, until};

/// A connection of one's own to the database of a cluster.
fn outside(cluster: &TestCluster) -> rusqlite::Connection {
    let Database::SqliteFile(file) = &cluster.database else { panic!("it is SQLite") };
    let outside = rusqlite::Connection::open(file).unwrap();
    outside.busy_timeout(crate::support::LONG).unwrap();
    outside
}

/// Only what is known to have gone wrong makes a node look for ghosts.
fn look_on_suspicion(config: &mut Config) {
    (config.second_login, config.lease_refresh_ms, config.heal_ms) = (SecondLogin::Refuse, 100, 3_600_000);
}

/// A node looks for ghosts all the time.
fn look_always(config: &mut Config) {
    (config.lease_refresh_ms, config.heal_ms) = (100, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_could_not_be_released_is_released_later() {
    let cluster = TestCluster::with(1, look_on_suspicion).await;
    let bob = cluster.user(0, "bob").await;
    let database = outside(&cluster);
    database
        .execute_batch("CREATE TRIGGER no BEFORE DELETE ON session BEGIN SELECT RAISE(ABORT, 'not now'); END")
        .unwrap();
    drop(bob);
    until(async || cluster.nodes[0].stat("connections").await == 0).await;
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(refused(bob.try_login("bob").await), "account_in_use", "the directory still has him");
    database.execute_batch("DROP TRIGGER no").unwrap();
    let user = UserId::new(1).unwrap();
    until(async || cluster.nodes[0].node.store().where_are(&[user]).await.unwrap().is_empty()).await;
    bob.try_login("bob").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_directory_has_is_ended_and_what_is_here_stays() {
    let cluster = TestCluster::with(1, look_always).await;
    let ada = cluster.user(0, "ada").await;
    let mut idle = Client::modern(cluster.nodes[0].address).await;
    for name in ["bob", "eve", "zoe"] {
        idle.register(name).await;
    }
    let node = &cluster.nodes[0].node;
    let [ada, bob, eve, zoe] = [ada.id, 2, 3, 4].map(|id| UserId::new(id).unwrap());
    let of_ada = node.hub.user(ada).unwrap().id;
    let idle = node.hub.all().iter().map(|session| session.id).find(|id| *id != of_ada).unwrap();
    // As after claims whose answers were lost: of a connection that is gone, of one that somebody else then logged in
    // on, and of one that may still log in.
    for (user, session) in [(bob, SessionId(u64::MAX)), (eve, of_ada), (zoe, idle)] {
        let location = Location { lease: node.lease, session };
        node.store().claim(Claim { user, location, policy: ClaimPolicy::Refuse }).await.unwrap();
    }
    until(async || {
        let online = node.store().where_are(&[ada, bob, eve, zoe]).await.unwrap();
        online.iter().map(|(user, _)| *user).collect::<Vec<_>>() == [ada, zoe]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_stood_still_learns_that_its_lease_had_run_out() {
    let cluster = TestCluster::with(2, |config| {
        (config.lease_refresh_ms, config.heal_ms) = (100, 3_600_000);
        config.probe_ms = 600_000;
    })
    .await;
    let (mut bob, database) = (cluster.user(0, "bob").await, outside(&cluster));
    // He logs in elsewhere, which his first node does not hear of.
    cluster.bus.cut(cluster.nodes[0].node.lease.node, true);
    let mut second = Client::modern(cluster.nodes[1].address).await;
    second.login("bob").await;
    // As if the first node had been suspended for longer than its lease.
    let sleeper = cluster.nodes[0].node.lease.node.0;
    database.execute("UPDATE node SET lease_until = 1 WHERE id = ?", [sleeper]).unwrap();
    bob.until_closed().await;
    until(async || cluster.nodes[0].stat("connections").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_remembered_as_gone_with_his_node_is_found_when_it_has_its_lease_again() {
    // The third node lives on, so that the first never thinks itself alone; what it remembers it believes for ever.
    let cluster = TestCluster::with(3, |config| {
        (config.lease_ms, config.lease_refresh_ms) = (1000, 200);
        (config.cache_ms, config.heal_ms, config.probe_ms) = (600_000, 3_600_000, 600_000);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let user = UserId::new(bob.id).unwrap();
    let database = outside(&cluster);
    database
        .execute_batch(
            "CREATE TRIGGER no BEFORE UPDATE ON node WHEN NEW.name = 'node-1' BEGIN SELECT RAISE(ABORT, 'not now'); END",
        )
        .unwrap();
    until(async || cluster.nodes[1].get("/readyz").await.0 == 503).await;
    until(async || cluster.nodes[0].node.store().where_are(&[user]).await.unwrap().is_empty()).await;
    ada.chat(bob.id, "while he was gone").await;
    database.execute_batch("DROP TRIGGER no").unwrap();
    // What was stored meanwhile is read, and what comes now is told.
    assert_eq!(bob.delivery().await.msg, "while he was gone");
    chat_until_hinted(&mut ada, bob.id, "and now", &cluster.nodes[1]).await;
    assert_eq!(bob.delivery().await.msg, "and now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_database_without_a_common_bus_say_so() {
    let mut cluster = TestCluster::with(2, |config| config.lease_refresh_ms = 100).await;
    // As nodes of different processes that were not told of a Redis.
    cluster.bus = LocalBus::new();
    cluster.add().await;
    for (node, unreachable) in [(2, 2), (0, 1), (1, 1)] {
        until(async || cluster.nodes[node].stat("unreachable_nodes").await == unreachable).await;
    }
    let (_, metrics) = cluster.nodes[0].get("/metrics").await;
    assert!(metrics.contains("chat_unreachable_nodes 1\n"), "{metrics}");
    cluster.nodes.remove(2).stop().await.unwrap();
    until(async || cluster.nodes[0].stat("unreachable_nodes").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_put_out_of_a_group_gets_no_more_of_it_from_a_node_that_did_not_hear_of_it() {
    let cluster = TestCluster::with(2, |config| {
        (config.cache_ms, config.heal_ms, config.probe_ms) = (600_000, 3_600_000, 200);
    })
    .await;
    let mut ada = cluster.user(0, "ada").await;
    let (mut bob, mut eve) = (cluster.user(1, "bob").await, cluster.user(1, "eve").await);
    let group = CreateGroup { groupname: "crab".into(), groupdesc: String::new() };
    let groupid = ada.call::<CreateGroupResult>(Command::CreateGroup(group)).await.unwrap().groupid;
    for member in [&mut bob, &mut eve] {
        member.done(Command::JoinGroup(GroupId { groupid })).await;
    }
    // From now on their node remembers the members, as soon as it has heard of the last change.
    for client in [&mut bob, &mut eve] {
        client.group_chat(groupid, "I am here").await.unwrap();
    }
    assert_eq!(bob.delivery().await.msg, "I am here");
    let node = &cluster.nodes[1].node;
    until(async || cluster.nodes[1].get("/readyz").await.0 == 200).await;
    cluster.bus.cut(node.lease.node, true);
    ada.done(Command::Kick(Kick { groupid, userid: bob.id })).await;
    until(async || cluster.nodes[1].get("/readyz").await.0 == 503).await;
    eve.group_chat(groupid, "not for him").await.unwrap();
    eve.chat(bob.id, "only for him").await;
    assert_eq!(bob.delivery().await.msg, "only for him");
}

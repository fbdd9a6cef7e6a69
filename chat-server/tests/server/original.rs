//! The original client's protocol, byte for byte where the client depends on it.

use std::time::Duration;

use chat_server::config::Database;
use serde_json::{Value, json};

use crate::support::{Client, Original, PASSWORD, TestCluster, bounded, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn text(value: &Value) -> Value {
    serde_json::from_str(value.as_str().expect("a string")).expect("a JSON text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registering_and_logging_in_are_answered_with_the_originals_bytes() {
    let cluster = TestCluster::start(1).await;
    let mut client = Original::connect(cluster.nodes[0].address).await;
    client.send(&format!(r#"{{"msgid":4,"name":"zhang san","password":"{PASSWORD}"}}"#)).await;
    assert_eq!(client.read_text().await, r#"{"errno":0,"id":1,"msgid":5}"#);
    client.send(r#"{"msgid":4,"name":"zhang san","password":"other"}"#).await;
    let again = client.read().await;
    assert_eq!((&again["errno"], &again["msgid"]), (&json!(1), &json!(5)));
    for wrong in [
        r#"{"id":1,"msgid":1,"password":"wrong"}"#,
        r#"{"id":77,"msgid":1,"password":"x"}"#,
        r#"{"id":-1,"msgid":1,"password":""}"#,
    ] {
        client.send(wrong).await;
        assert_eq!(
            client.read_text().await,
            r#"{"errmsg":"id or password is invalid!","errno":1,"msgid":2}"#,
            "{wrong}"
        );
    }
    client.send(&format!(r#"{{"id":1,"msgid":1,"password":"{PASSWORD}"}}"#)).await;
    assert_eq!(client.read_text().await, r#"{"errno":0,"id":1,"msgid":2,"name":"zhang san"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_chat_and_the_bytes_are_the_senders_fields() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) =
        (Original::connect(cluster.nodes[0].address).await, Original::connect(cluster.nodes[0].address).await);
    let (a, b) = (ada.register("ada").await, bob.register("bob").await);
    ada.login(a).await;
    bob.login(b).await;
    // Whatever the message says about who sent it.
    ada.send(&format!(
        r#"{{"id":{b},"msg":"hello","msgid":6,"name":"mallory","time":"2026-11-23 10:00:00","toid":{b}}}"#
    ))
    .await;
    assert_eq!(
        bob.read_text().await,
        format!(r#"{{"id":{a},"msg":"hello","msgid":6,"name":"ada","time":"2026-11-23 10:00:00","toid":{b}}}"#)
    );
    bob.send(&format!(r#"{{"id":{b},"msg":"\u4f60\u597d","msgid":6,"name":"bob","time":"t","toid":{a}}}"#)).await;
    assert_eq!(ada.read().await, json!({"id": b, "msg": "你好", "msgid": 6, "name": "bob", "time": "t", "toid": a}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_groups_and_offline_messages_come_with_the_login() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) =
        (Original::connect(cluster.nodes[0].address).await, Original::connect(cluster.nodes[0].address).await);
    let (a, b) = (ada.register("ada").await, bob.register("bob").await);
    ada.login(a).await;
    ada.send(&format!(r#"{{"friendid":{b},"id":{a},"msgid":7}}"#)).await;
    ada.send(&format!(r#"{{"groupdesc":"about rust","groupname":"crab","id":{a},"msgid":8}}"#)).await;
    bob.login(b).await;
    let store = cluster.nodes[0].node.store();
    let group = chat_server::store::GroupId::new(1).unwrap();
    until(async || !store.member_ids(group).await.unwrap().is_empty()).await;
    bob.send(&format!(r#"{{"groupid":1,"id":{b},"msgid":9}}"#)).await;
    bob.send(&format!(r#"{{"id":{b},"msg":"to the group","msgid":10,"groupid":1,"name":"bob","time":"t"}}"#)).await;
    assert_eq!(
        ada.read().await,
        json!({"groupid": 1, "id": b, "msg": "to the group", "msgid": 10, "name": "bob", "time": "t"})
    );
    ada.send(&format!(r#"{{"id":{a},"msgid":3}}"#)).await;
    until(async || cluster.nodes[0].stat("users_online").await == 1).await;
    bob.send(&format!(r#"{{"id":{b},"msg":"while \"away\"","msgid":6,"name":"bob","time":"t1","toid":{a}}}"#)).await;
    until(async || cluster.nodes[0].stat("messages_stored").await == 2).await;
    let ack = ada.login(a).await;
    let friend = text(&ack["friends"][0]);
    assert_eq!((&friend["id"], &friend["name"]), (&json!(b), &json!("bob")));
    let group = text(&ack["groups"][0]);
    assert_eq!(
        (&group["id"], &group["groupname"], &group["groupdesc"]),
        (&json!(1), &json!("crab"), &json!("about rust"))
    );
    let users: Vec<Value> = group["users"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(
        users,
        [
            json!({"id": a, "name": "ada", "role": "creator", "state": "online"}),
            json!({"id": b, "name": "bob", "role": "normal", "state": "online"})
        ]
    );
    let offline = text(&ack["offlinemsg"][0]);
    assert_eq!(offline, json!({"id": b, "msg": "while \"away\"", "msgid": 6, "name": "bob", "time": "t1", "toid": a}));
    // What was delivered is not delivered again.
    ada.send(&format!(r#"{{"id":{a},"msgid":3}}"#)).await;
    let again = ada.login(a).await;
    assert!(again.get("offlinemsg").is_none(), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_messages_are_not_read_by_a_client_that_is_gone_before_it_is_answered() {
    let cluster = TestCluster::start(1).await;
    let Database::SqliteFile(file) = &cluster.database else { panic!("it is a file") };
    let node = &cluster.nodes[0].node;
    let mut ada = cluster.user(0, "ada").await;
    let mut bob = Original::connect(cluster.nodes[0].address).await;
    let b = bob.register("bob").await;
    ada.chat(b, "while he was away").await;
    // His login is read and then kept waiting, until he is gone.
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let frames = node.metrics().frames.get();
    bob.send(&format!(r#"{{"id":{b},"msgid":1,"password":"{PASSWORD}"}}"#)).await;
    until(async || node.metrics().frames.get() > frames).await;
    socket2::SockRef::from(&bob.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(bob);
    other.execute_batch("ROLLBACK").unwrap();
    until(async || cluster.nodes[0].stat("connections").await == 1).await;
    let mut bob = Original::connect(cluster.nodes[0].address).await;
    let ack = bob.login(b).await;
    assert_eq!(text(&ack["offlinemsg"][0])["msg"], "while he was away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_messages_that_do_not_fit_follow_one_by_one() {
    const COUNT: usize = 40;
    let cluster = TestCluster::with(1, |config| config.original_spacing_ms = 20).await;
    let mut ada = cluster.user(0, "ada").await;
    let mut bob = Original::connect(cluster.nodes[0].address).await;
    let b = bob.register("bob").await;
    for number in 0..COUNT {
        ada.chat(b, &format!("message {number}")).await;
    }
    let long = "\u{1F980}\"".repeat(700);
    ada.chat(b, &long).await;
    let ack = bob.login(b).await;
    let mut texts: Vec<String> = ack["offlinemsg"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| text(message)["msg"].as_str().unwrap().into())
        .collect();
    assert!(texts.len() > 1 && texts.len() < COUNT, "{}", texts.len());
    // Each read is one message: two in one would be no JSON.
    while texts.len() < COUNT {
        texts.push(bob.read().await["msg"].as_str().unwrap().into());
    }
    assert_eq!(texts, (0..COUNT).map(|number| format!("message {number}")).collect::<Vec<_>>());
    let mut pieces = String::new();
    while pieces.len() < long.len() {
        pieces += bob.read().await["msg"].as_str().unwrap();
    }
    assert_eq!(pieces, long);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newline_and_bare_json_are_accepted_and_several_at_once() {
    let cluster = TestCluster::start(1).await;
    let mut client = Original::connect(cluster.nodes[0].address).await;
    let register = |name: &str| format!(r#"{{"msgid":4,"name":"{name}","password":"x"}}"#);
    for (name, end) in [("a", "\n"), ("b", ""), ("c", "\r\n\0\0")] {
        client.stream.write_all(format!("{}{end}", register(name)).as_bytes()).await.unwrap();
        assert_eq!(client.read().await["errno"], 0, "{name}");
    }
    let many: String = ('d'..='h').map(|name| register(&name.to_string()) + "\0").collect();
    client.stream.write_all(many.as_bytes()).await.unwrap();
    let mut answers = String::new();
    while answers.matches("\"errno\":0").count() < 5 {
        let mut buffer = [0; 4096];
        let bytes = bounded(client.stream.read(&mut buffer)).await.unwrap();
        assert!(bytes > 0, "{answers}");
        answers += std::str::from_utf8(&buffer[..bytes]).unwrap();
    }
    for byte in register("i").as_bytes() {
        client.stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(client.read().await["errno"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_login_is_refused_with_the_originals_words_if_the_server_is_told_so() {
    let cluster = TestCluster::with(2, |config| config.second_login = chat_server::config::SecondLogin::Refuse).await;
    let mut first = Original::connect(cluster.nodes[0].address).await;
    let id = first.register("ada").await;
    first.login(id).await;
    let mut second = Original::connect(cluster.nodes[1].address).await;
    second.send(&format!(r#"{{"id":{id},"msgid":1,"password":"{PASSWORD}"}}"#)).await;
    assert_eq!(second.read_text().await, r#"{"errmsg":"this account is using, input another!","errno":2,"msgid":2}"#);
    drop(first);
    until(async || second.login(id).await["errno"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_clients_talk_to_each_other() {
    let cluster = TestCluster::start(1).await;
    let mut ada = cluster.user(0, "ada").await;
    let mut bob = Original::connect(cluster.nodes[0].address).await;
    let b = bob.register("bob").await;
    bob.login(b).await;
    ada.chat(b, "hello").await;
    let message = bob.read().await;
    assert_eq!((&message["msg"], &message["time"], &message["toid"]), (&json!("hello"), &json!(""), &json!(b)));
    assert!(message.get("seq").is_none());
    bob.send(&format!(r#"{{"id":{b},"msg":"hi","msgid":6,"name":"bob","time":"now","toid":{}}}"#, ada.id)).await;
    let delivery = ada.delivery().await;
    assert_eq!((delivery.id, delivery.msg.as_str(), delivery.seq), (b, "hi", Some(2)));
    let mut other = Client::modern(cluster.nodes[0].address).await;
    other.login("ada").await;
}

//! Whatever a client sends: an error or the end of its connection, and nothing for anybody else.

use std::time::Duration;

use chat_server::codec::{FrameCodec, Terminator};
use chat_server::protocol::ServerMessage;
use chat_server::protocol::answer::CreateGroupResult;
use chat_server::protocol::command::{CreateGroup, Ping};
use chat_server::protocol::event::NoticeCode;
use chat_server::protocol::{Command, MAX_TEXT_BYTES};
use futures_util::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::FramedRead;

use crate::support::{Client, Original, TestCluster, bounded, refused};

/// Sends bytes on a connection of their own, and returns the errors that come back until the server closes it (`true`) or
/// waits for more.
async fn answers(cluster: &TestCluster, bytes: &[u8]) -> (Vec<String>, bool) {
    let mut stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.write_all(b"{\"msgid\":20,\"version\":1}\n{\"msgid\":28,\"rid\":99}\n").await;
    let mut frames = FramedRead::new(stream, FrameCodec::client(Terminator::Newline));
    let mut errors = Vec::new();
    while let Some(Ok(frame)) = bounded(frames.next()).await {
        match ServerMessage::decode(&frame).unwrap() {
            ServerMessage::Answer(answer) if answer.rid == Some(99) => return (errors, false),
            ServerMessage::Answer(answer) => errors.extend(answer.error),
            ServerMessage::Notice(notice) => assert_eq!(notice.code, NoticeCode::Violation),
            // The answers to logins and registrations of the original mode.
            ServerMessage::Unknown(2 | 5) => errors.push("original".into()),
            other => panic!("{other:?}"),
        }
    }
    (errors, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_bad_frame_is_told_by_name() {
    let cluster = TestCluster::start(1).await;
    let deep = format!("{{\"a\":{}", "[".repeat(10_000));
    let long = format!("{{\"msgid\":4,\"name\":\"{}", "x".repeat(20_000));
    for (bytes, errors, is_closed) in [
        (&b"{}\0"[..], &["bad_field"][..], false),
        (b"{\"msgid\":999}\n{\"msgid\":-1}\n", &["unknown_message", "unknown_message"], false),
        (b"{\"msgid\":\"x\"}\n", &["bad_field"], false),
        (b"{\"msgid\":6,\"toid\":1,\"msg\":\"x\"}\n", &["not_logged_in"], false),
        (b"{\"msgid\":10,\"groupid\":1,\"msg\":\"x\"}\n", &["not_logged_in"], false),
        (b"{\"msgid\":3,\"id\":1}\n{\"msgid\":7,\"friendid\":1}\n", &["not_logged_in", "not_logged_in"], false),
        (b"{\"msgid\":31}\n", &["needs_hello"], false),
        (b"{\"msgid\":20,\"version\":2}\n", &["unknown_version"], false),
        (b"{\"msgid\":1}\n", &["original"], false),
        (b"{\"msgid\":28,,}\n", &["malformed"], false),
        (b"{\"msgid\":28,\"x\":\"\xff\xfe\"}\n", &["invalid_utf8"], false),
        (b"{\"msgid\":28,\"x\":\"\xed\xa0\x80\"}\n", &["invalid_utf8"], false),
        (b"GET / HTTP/1.1\r\n", &["malformed"], true),
        (b"[1,2]", &["malformed"], true),
        (b"{\"msgid\":28\0", &["malformed"], true),
        (b"\x16\x03\x01\x02\x00", &["malformed"], true),
        (deep.as_bytes(), &["too_deep"], true),
        (long.as_bytes(), &["frame_too_large"], true),
    ] {
        let (found, was_closed) = answers(&cluster, bytes).await;
        assert_eq!(
            (&found[..], was_closed),
            (&errors.iter().map(|&error| error.to_owned()).collect::<Vec<_>>()[..], is_closed),
            "{}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_client_costs_others_nothing() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let address = cluster.nodes[0].address;
    let noise = proptest::collection::vec(
        prop_oneof![
            Just(b"{\"msgid\":28}".to_vec()),
            Just(b"{\"msgid\":6,\"toid\":1,\"msg\":\"}{\"}".to_vec()),
            Just(b"{".repeat(30)),
            Just(vec![0]),
            proptest::collection::vec(any::<u8>(), 0..50),
        ],
        0..20,
    );
    let (mut runner, mut sent) = (TestRunner::deterministic(), Vec::new());
    for _ in 0..100 {
        let pieces = noise.new_tree(&mut runner).unwrap().current();
        sent.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    break;
                }
            }
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            // Closed, reset, whatever: it ends.
            let _ = bounded(stream.read_to_end(&mut rest)).await;
        }));
    }
    for number in 0..50 {
        ada.chat(bob.id, &number.to_string()).await;
        assert_eq!(bob.delivery().await.msg, number.to_string());
    }
    for task in sent {
        task.await.unwrap();
    }
    crate::support::until(async || cluster.nodes[0].stat("connections").await == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_quotes_and_four_byte_characters_are_text_like_any_other() {
    let cluster = TestCluster::start(1).await;
    let names = ["'; DROP TABLE user; --", "\" OR 1=1", "a\\", "%_", "\u{1F980}\u{1F980}", "日本"];
    for name in names {
        let mut client = cluster.user(0, name).await;
        let text = format!("{name}\0\u{1}\u{10FFFF}\n\"");
        client.chat(1, &text).await;
        let group = CreateGroup { groupname: name.into(), groupdesc: name.into() };
        client.call::<CreateGroupResult>(Command::CreateGroup(group)).await.unwrap();
    }
    let mut first = Client::modern(cluster.nodes[0].address).await;
    let deliveries = first.login(names[0]).await;
    assert_eq!(deliveries.len(), names.len() - 1);
    for (delivery, name) in deliveries.iter().zip(&names[1..]) {
        assert_eq!((delivery.name.as_str(), delivery.msg.clone()), (*name, format!("{name}\0\u{1}\u{10FFFF}\n\"")));
    }
    let mut original = Original::connect(cluster.nodes[0].address).await;
    assert_eq!(original.login(4).await["name"], "%_");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_may_be_as_long_as_the_limit_and_comes_back_whole() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let text = "x".repeat(MAX_TEXT_BYTES);
    ada.chat(bob.id, &text).await;
    assert_eq!(bob.delivery().await.msg, text);
    assert_eq!(refused(ada.call::<()>(crate::support::chat(bob.id, &format!("{text}x"))).await), "bad_field");
    assert_eq!(refused(ada.call::<()>(crate::support::chat(0, "x")).await), "unknown_user");
    assert_eq!(refused(ada.call::<()>(crate::support::chat(77, "x")).await), "unknown_user");
    assert_eq!(refused(ada.call::<()>(crate::support::chat(u32::MAX, "x")).await), "unknown_user");
    ada.done(Command::Ping(Ping {})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_connections_and_commands_are_limited() {
    let cluster = TestCluster::with(1, |config| {
        (config.logins_per_account_and_address_per_min, config.logins_per_account_and_address_burst) = (1, 3);
        (config.registrations_per_address_per_min, config.registrations_per_address_burst) = (1, 2);
        (config.commands_per_s, config.commands_burst) = (50, 5);
        config.max_connections_per_address = 3;
    })
    .await;
    let address = cluster.nodes[0].address;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for _ in 0..2 {
        let mut thief = Client::modern(address).await;
        let wrong = |id| {
            Command::Login(chat_server::protocol::command::Login { id: Some(id), name: None, password: "x".into() })
        };
        for _ in 0..3 {
            let _ = thief.call::<()>(wrong(ada.id)).await;
        }
        assert_eq!(refused(thief.call::<()>(wrong(ada.id)).await), "rate_limited");
        assert_eq!(refused(thief.call::<()>(wrong(77)).await), "bad_credentials");
        let register = chat_server::protocol::command::Register { name: "eve".into(), password: "x".into() };
        assert_eq!(refused(thief.call::<()>(Command::Register(register)).await), "rate_limited");
        // A fourth connection is turned away with a reason.
        let mut fourth = TcpStream::connect(address).await.unwrap();
        let mut text = String::new();
        bounded(fourth.read_to_string(&mut text)).await.unwrap();
        assert!(text.contains("too_many_connections"), "{text}");
        drop(thief);
        crate::support::until(async || cluster.nodes[0].stat("connections").await == 2).await;
    }
    // Faster than allowed: read more slowly, and nothing is lost.
    let began = std::time::Instant::now();
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(ada.send(crate::support::chat(bob.id, &number.to_string())).await);
    }
    for rid in sent {
        assert_eq!(ada.answer(rid).await.errno, 0);
    }
    for number in 0..20 {
        assert_eq!(bob.delivery().await.msg, number.to_string());
    }
    ada.done(Command::Ping(Ping {})).await;
    assert!(began.elapsed() >= Duration::from_millis(200), "15 commands beyond the burst at 50 a second");
}

//! The client library against a server that fails at chosen moments.

mod scripted;

use std::time::Duration;

use chat_server::client::{Backoff, Client, ClientError, Credentials, EndReason, Event, Events, Options};
use chat_server::protocol::command::{CreateGroup, Groups};
use chat_server::protocol::event::{CreateGroupResult, GroupsResult};
use chat_server::protocol::{Command, ErrorCode, Target};
use scripted::{Peer, Scripted};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::join;
use tokio::net::TcpStream;

/// No test waits for the client's patience, so it may have a lot.
fn options(server: &Scripted) -> Options {
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(20) };
    Options { backoff, ..Options::to([server.address.clone()]) }
}

fn credentials() -> Credentials {
    Credentials::name("crab", "123456")
}

/// A server with one client that has logged in.
async fn logged_in() -> (Scripted, Peer, Client, Events) {
    let server = Scripted::start().await;
    let login = Client::login(options(&server), credentials());
    let (peer, client) = join!(server.log_in(), login);
    let (client, events) = client.unwrap();
    (server, peer, client, events)
}

/// The next event that is not about the connection.
async fn message(events: &mut Events) -> String {
    loop {
        match events.next().await.expect("the session goes on") {
            Event::Message { delivery, .. } => return delivery.msg,
            Event::Ended(reason) => panic!("the session ended: {reason}"),
            _ => {}
        }
    }
}

async fn end(events: &mut Events) -> EndReason {
    loop {
        if let Event::Ended(reason) = events.next().await.expect("the end is an event") {
            return reason;
        }
    }
}

#[tokio::test]
async fn a_message_that_was_not_answered_is_sent_again_with_the_same_id_after_resuming() {
    let (server, mut peer, client, _events) = logged_in().await;
    let script = async {
        let first = peer.expect(6).await;
        drop(peer); // it may have been stored, and may not
        let mut peer = server.resume().await;
        let second = peer.expect(6).await;
        assert_eq!((&first["mid"], &first["msg"]), (&second["mid"], &second["msg"]));
        assert!(first["mid"].is_string());
        peer.answer(&second, json!({"seq": 3, "at": 9, "duplicate": true})).await;
        peer
    };
    let (_peer, sent) = join!(script, client.chat(Target::Peer(7), "hello"));
    let sent = sent.unwrap();
    assert_eq!((sent.seq, sent.duplicate), (Some(3), true));
}

#[tokio::test]
async fn two_messages_have_different_ids() {
    let (_server, mut peer, client, _events) = logged_in().await;
    let script = async {
        let mut ids = Vec::new();
        for seq in 1..3 {
            let message = peer.expect(6).await;
            ids.push(message["mid"].clone());
            peer.answer(&message, json!({"seq": seq, "at": 9})).await;
        }
        assert_ne!(ids[0], ids[1]);
    };
    let send = async {
        client.chat(Target::Peer(7), "same").await.unwrap();
        client.chat(Target::Peer(7), "same").await.unwrap();
    };
    join!(script, send);
}

#[tokio::test]
async fn what_cannot_be_repeated_safely_is_not_repeated() {
    let (server, mut peer, client, _events) = logged_in().await;
    let create = Command::CreateGroup(CreateGroup { groupname: "g".into(), groupdesc: String::new() });
    let script = async {
        peer.expect(8).await;
        drop(peer);
        let mut peer = server.resume().await;
        let groups = peer.expect(36).await;
        peer.answer(&groups, json!({"groups": []})).await;
        peer
    };
    let ask = async {
        let lost = client.request::<CreateGroupResult>(create).await.unwrap_err();
        assert!(matches!(lost, ClientError::Lost(_)), "{lost}");
        client.request::<GroupsResult>(Command::Groups(Groups {})).await.unwrap()
    };
    let (_peer, groups) = join!(script, ask);
    assert!(groups.groups.is_empty());
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let (_server, mut peer, client, _events) = logged_in().await;
    let script = async {
        let first = peer.expect(6).await;
        peer.refuse(&first, ErrorCode::Unavailable as u32, "no database").await;
        let second = peer.expect(6).await;
        assert_eq!(first["mid"], second["mid"]);
        peer.answer(&second, json!({"seq": 1, "at": 9})).await;
        let third = peer.expect(6).await;
        peer.refuse(&third, ErrorCode::UnknownUser as u32, "no such user").await;
    };
    let send = async {
        client.chat(Target::Peer(7), "hello").await.unwrap();
        let refused = client.chat(Target::Peer(8), "hello").await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(refusal) if refusal.code == ErrorCode::UnknownUser));
    };
    join!(script, send);
}

#[tokio::test]
async fn a_message_is_acknowledged_when_the_next_event_is_asked_for_and_not_before() {
    let (_server, mut peer, client, mut events) = logged_in().await;
    peer.deliver(1, "one").await;
    peer.deliver(2, "two").await;
    assert_eq!(message(&mut events).await, "one");
    // Something that is answered comes after everything that was sent before: no acknowledgement was.
    let (groups, ()) = join!(client.request::<GroupsResult>(Command::Groups(Groups {})), async {
        let groups = peer.expect(36).await;
        peer.answer(&groups, json!({"groups": []})).await;
    });
    groups.unwrap();
    assert_eq!(message(&mut events).await, "two");
    let ack = peer.expect(23).await;
    assert_eq!((ack["peer"].as_u64(), ack["seq"].as_u64()), (Some(7), Some(1)));
}

#[tokio::test]
async fn repeated_deliveries_are_dropped_and_acknowledged_again() {
    let (server, mut peer, _client, mut events) = logged_in().await;
    peer.deliver(1, "one").await;
    assert_eq!(message(&mut events).await, "one");
    drop(peer);
    let mut peer = server.resume().await;
    peer.deliver(1, "one").await;
    peer.deliver(2, "two").await;
    assert_eq!(message(&mut events).await, "two");
    let ack = peer.expect(23).await;
    assert_eq!((ack["peer"].as_u64(), ack["seq"].as_u64()), (Some(7), Some(1)));
}

#[tokio::test]
async fn a_displaced_session_stays_away() {
    let (server, mut peer, client, mut events) = logged_in().await;
    peer.notice("displaced", None).await;
    assert_eq!(end(&mut events).await, EndReason::Displaced);
    assert!(peer.next().await.is_none());
    assert!(events.next().await.is_none());
    let error = client.chat(Target::Peer(7), "hello").await.unwrap_err();
    assert!(matches!(error, ClientError::Ended(_)), "{error}");
    // The next one to connect is somebody else.
    let mut other = TcpStream::connect(&server.address).await.unwrap();
    other.write_all(b"{\"msgid\":99}\n").await.unwrap();
    server.accept().await.expect(99).await;
}

#[tokio::test]
async fn a_client_of_a_stopping_node_gets_its_answers_and_goes_to_the_other_one() {
    let (one, two) = (Scripted::start().await, Scripted::start().await);
    let mut options = options(&one);
    options.addresses.push(two.address.clone());
    let (peer, client) = join!(one.log_in(), Client::login(options, credentials()));
    let (mut peer, (client, mut events)) = (peer, client.unwrap());
    let script = async {
        let message = peer.expect(6).await;
        peer.notice("draining", Some(1)).await;
        peer.answer(&message, json!({"seq": 1, "at": 9})).await;
        assert!(peer.next().await.is_none(), "it leaves by itself");
        two.resume().await
    };
    let (_peer, sent) = join!(script, client.chat(Target::Peer(7), "hello"));
    sent.unwrap();
    loop {
        if let Event::Reconnected { node } = events.next().await.unwrap() {
            assert_eq!(node, "n");
            break;
        }
    }
}

#[tokio::test]
async fn when_the_token_has_ended_the_password_is_used_and_when_that_is_wrong_it_is_over() {
    let (server, peer, _client, mut events) = logged_in().await;
    drop(peer);
    let mut peer = server.greet().await;
    let resume = peer.expect(22).await;
    peer.refuse(&resume, ErrorCode::BadToken as u32, "ended").await;
    let login = peer.expect(1).await;
    assert_eq!((login["name"].as_str(), login["password"].as_str()), (Some("crab"), Some("123456")));
    peer.refuse(&login, ErrorCode::BadCredentials as u32, "wrong").await;
    let EndReason::LoginRefused(refusal) = end(&mut events).await else { panic!() };
    assert_eq!(refusal.code, ErrorCode::BadCredentials);
}

#[tokio::test]
async fn a_silent_server_is_asked_and_then_given_up() {
    let server = Scripted::start().await;
    let options = Options { answer_timeout: Duration::from_millis(200), ..options(&server) };
    let script = async {
        let mut peer = server.accept().await;
        peer.hello(20).await;
        let login = peer.expect(1).await;
        let me = json!({"id": 1, "name": "crab", "token": "a token", "token_until": 9, "displaced": false});
        peer.answer(&login, me).await;
        peer
    };
    let (peer, client) = join!(script, Client::login(options, credentials()));
    let (mut peer, (_client, _events)) = (peer, client.unwrap());
    // It asks, and an answer is enough for it to stay; none, and it leaves.
    let ping = peer.expect(28).await;
    peer.answer(&ping, json!({})).await;
    peer.expect(28).await;
    assert!(peer.next().await.is_none());
    server.resume().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (_server, mut peer, _client, _events) = logged_in().await;
    peer.send(json!({"msgid": 28})).await;
    peer.expect(29).await;
}

#[tokio::test]
async fn dropping_the_client_closes_the_connection_and_logging_out_says_so_first() {
    let (_server, mut peer, client, events) = logged_in().await;
    drop((client, events));
    assert!(peer.next().await.is_none());

    let (_server, mut peer, client, mut events) = logged_in().await;
    let script = async {
        let logout = peer.expect(3).await;
        peer.answer(&logout, json!({})).await;
        assert!(peer.next().await.is_none());
    };
    let (logout, ()) = join!(client.logout(), script);
    logout.unwrap();
    assert_eq!(end(&mut events).await, EndReason::LoggedOut);
}

#[tokio::test]
async fn a_refused_login_is_an_error_and_so_is_a_port_where_nobody_listens() {
    let server = Scripted::start().await;
    let script = async {
        let mut peer = server.greet().await;
        let login = peer.expect(1).await;
        peer.refuse(&login, ErrorCode::BadCredentials as u32, "id or password is invalid").await;
        peer
    };
    let (_peer, refused) = join!(script, Client::login(options(&server), credentials()));
    let error = refused.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(refusal) if refusal.code == ErrorCode::BadCredentials), "{error}");
    let nobody = options(&server);
    drop(server);
    let error = Client::login(nobody.clone(), credentials()).await.unwrap_err();
    assert!(error.to_string().contains(&nobody.addresses[0]), "{error}");
}

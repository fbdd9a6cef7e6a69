//! The client library against a server that fails at chosen moments.

mod node;
mod scripted;

use std::time::Duration;

use chat_server::client::{
    Backoff, Client, ClientError, Connection, Credentials, EndReason, Event, Events, Options, Tls,
};
use chat_server::protocol::answer::{CreateGroupResult, GroupsResult};
use chat_server::protocol::command::{CreateGroup, Groups};
use chat_server::protocol::{Command, ErrorCode, Target};
use node::RunningNode;
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

/// Certificates in files: for a node, and for its clients.
struct Certificate {
    folder: std::path::PathBuf,
}

impl Certificate {
    fn of(name: &str, folder: std::path::PathBuf) -> Self {
        let generated = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let certificate = Self { folder };
        std::fs::write(certificate.file(), generated.cert.pem()).unwrap();
        std::fs::write(certificate.key(), generated.signing_key.serialize_pem()).unwrap();
        certificate
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.join("certificate.pem")
    }

    fn key(&self) -> std::path::PathBuf {
        self.folder.join("key.pem")
    }

    fn options(&self, address: &str, name: Option<&str>) -> Options {
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(20) };
        Options { backoff, tls: Some(Tls::trusting(&self.file(), name).unwrap()), ..Options::to([address]) }
    }
}

/// A node that speaks TLS, under the name `chat.example`, and what its clients trust.
fn node_with_tls() -> (RunningNode, Certificate, Certificate) {
    let mut certificates = None;
    let node = RunningNode::start(|folder, config| {
        let own = Certificate::of("chat.example", folder.join("own"));
        let other = Certificate::of("chat.example", folder.join("other"));
        (config.tls_certificate, config.tls_key) = (Some(own.file()), Some(own.key()));
        certificates = Some((own, other));
    });
    let (own, other) = certificates.unwrap();
    (node, own, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_server_must_be_who_it_says() {
    let (node, own, other) = node_with_tls();
    let address = node.address.to_string();
    let register = async |options: Options, name: &str| Connection::register(&options, name, "123456").await;
    assert_eq!(register(own.options(&address, Some("chat.example")), "crab").await.unwrap(), 1);
    for (options, problem) in [
        // A certificate that nobody said is to be trusted.
        (other.options(&address, Some("chat.example")), "certificate"),
        // The right one, of somebody else: the address is not in it, nor is another name.
        (own.options(&address, None), "certificate not valid for name"),
        (own.options(&address, Some("else.example")), "certificate not valid for name"),
    ] {
        let error = register(options, "fox").await.unwrap_err();
        let ClientError::Unreachable { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains(problem), "{source} should contain {problem}");
    }
    // Without TLS there is no conversation, and no waiting for one either.
    let error = register(Options::to([address]), "fox").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let missing = own.folder.join("missing.pem");
    assert_eq!(Tls::trusting(&missing, None).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(Tls::trusting(&own.key(), None).unwrap_err().to_string().contains("no certificate"));
    assert!(Tls::trusting(&own.file(), Some("not a name")).is_err());
}

/// Passes bytes on, until the connections are cut.
struct Wire {
    address: String,
    cut: tokio::sync::broadcast::Sender<()>,
    connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Wire {
    async fn to(target: std::net::SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
        let connections = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let (cuts, count) = (cut.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let mut cut = cuts.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        Self { address, cut, connections }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_client_that_is_cut_off_resumes_and_misses_nothing() {
    const COUNT: usize = 60;
    let (node, own, _) = node_with_tls();
    let wire = Wire::to(node.address).await;
    let direct = own.options(&node.address.to_string(), Some("chat.example"));
    for name in ["crab", "fox"] {
        Connection::register(&direct, name, "123456").await.unwrap();
    }
    let name = |name: &str| Credentials::name(name, "123456");
    let (crab, _crabs) = Client::login(own.options(&wire.address, Some("chat.example")), name("crab")).await.unwrap();
    let (_fox, mut foxs) = Client::login(own.options(&wire.address, Some("chat.example")), name("fox")).await.unwrap();
    let cut_off = wire.connections.load(std::sync::atomic::Ordering::SeqCst);
    let send = async {
        for number in 0..COUNT {
            if number % 20 == 10 {
                let _ = wire.cut.send(());
            }
            crab.chat(Target::Peer(2), number.to_string()).await.unwrap();
        }
    };
    let receive = async {
        for number in 0..COUNT {
            assert_eq!(message(&mut foxs).await, number.to_string(), "in order, each once");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { join!(send, receive) }).await.expect("all of it arrives");
    let again = wire.connections.load(std::sync::atomic::Ordering::SeqCst) - cut_off;
    assert!(again >= 2, "both were cut off and came back, {again} connections");
}

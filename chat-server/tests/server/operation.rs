//! What operators see, TLS, and the PROXY protocol.

use std::sync::Arc;

use chat_server::auth::{Auth, AuthOptions};
use chat_server::codec::{FrameCodec, Terminator};
use chat_server::config::Switch;
use chat_server::protocol::answer::LoginResult;
use chat_server::protocol::command::{Login, Resume};
use chat_server::protocol::{Command, ServerMessage};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::codec::Framed;

use crate::support::{Client, Folder, PASSWORD, TestCluster, bounded, refused, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_metrics_and_stats_say_what_happens() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    ada.chat(bob.id, "hello").await;
    bob.delivery().await;
    let node = &cluster.nodes[0];
    assert_eq!(node.get("/healthz").await, (200, "ok\n".into()));
    until(async || node.get("/readyz").await == (200, "ready\n".into())).await;
    let (status, metrics) = node.get("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "chat_connections 2",
        "chat_users_online 2",
        "chat_messages_accepted_total 1",
        "chat_messages_delivered_total 1",
        "chat_store_messages_total 1",
        "chat_logins_total 2",
        "chat_ready 1",
        "# TYPE chat_accept_seconds histogram",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    for name in ["chat_pool_wait_seconds_total", "chat_pool_hold_seconds_total", "chat_bus_up"] {
        assert!(metrics.contains(name), "{name}");
    }
    let (_, stats) = node.get("/stats").await;
    assert!(stats.contains(&format!("\"pool\":\"{}\"", chat_server::store::Store::POOL)), "{stats}");
    assert_eq!(node.get("/nonsense").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_limits_count_the_client_not_the_proxy() {
    let cluster = TestCluster::with(1, |config| {
        config.proxy_protocol = Switch::On;
        config.max_connections_per_address = 1;
    })
    .await;
    let connect = async |header: &[u8]| {
        let mut stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
        stream.write_all(header).await.unwrap();
        stream
    };
    let _one = Client::over(connect(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n").await).await;
    let _other = Client::over(connect(b"PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n").await).await;
    for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.9 3 2\r\n"[..], b"{\"msgid\":20,\"version\":1}\n"] {
        let mut refused = Framed::new(connect(header).await, FrameCodec::client(Terminator::Newline));
        let _ = refused.send("{\"msgid\":20,\"version\":1}".into()).await;
        while let Some(Ok(frame)) = bounded(refused.next()).await {
            let ServerMessage::Answer(answer) = ServerMessage::decode(&frame).unwrap() else { panic!("{frame:?}") };
            assert_eq!(answer.error.as_deref(), Some("too_many_connections"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_a_password_does_not_lock_its_owner_out() {
    let cluster = TestCluster::with(1, |config| {
        config.proxy_protocol = Switch::On;
        (config.logins_per_account_and_address_per_min, config.logins_per_account_and_address_burst) = (1, 3);
        (config.logins_per_account_per_min, config.logins_per_account_burst) = (1, 8);
    })
    .await;
    let client = async |host: u8| {
        let mut stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
        stream.write_all(format!("PROXY TCP4 192.0.2.{host} 192.0.2.99 1 2\r\n").as_bytes()).await.unwrap();
        Client::over(stream).await
    };
    let guess = || Command::Login(Login { id: None, name: Some("ada".into()), password: "x".into() });
    let mut ada = client(1).await;
    ada.register("ada").await;
    let mut thief = client(2).await;
    for _ in 0..3 {
        assert_eq!(refused(thief.call::<()>(guess()).await), "bad_credentials");
    }
    for _ in 0..20 {
        assert_eq!(refused(thief.call::<()>(guess()).await), "rate_limited");
    }
    ada.login("ada").await;
    // That was the fourth attempt that counts for the account; from many addresses together there is an end, too.
    let mut others = client(3).await;
    for host in [3, 3, 3, 4] {
        if host == 4 {
            others = client(host).await;
        }
        assert_eq!(refused(others.call::<()>(guess()).await), "bad_credentials");
    }
    let refusal = others.call::<()>(guess()).await.expect_err("there is an end");
    assert_eq!(&*refusal.text, "too many attempts to log in to this account; wait a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_renews_a_hash_of_other_costs() {
    let cluster = TestCluster::with(1, |config| (config.password_memory_kib, config.password_passes) = (16, 2)).await;
    let store = cluster.nodes[0].node.store();
    let mut costs = AuthOptions::default();
    (costs.memory_kib, costs.passes) = (8, 1);
    let old = Auth::new(costs).unwrap().hash(PASSWORD).await.unwrap();
    let id = store.register("ada", &old).await.unwrap();
    let hash = async || store.credentials(id).await.unwrap().unwrap().password_hash;
    let mut ada = Client::modern(cluster.nodes[0].address).await;
    let wrong = Login { id: None, name: Some("ada".into()), password: "x".into() };
    assert_eq!(refused(ada.call::<()>(Command::Login(wrong)).await), "bad_credentials");
    assert_eq!(hash().await, old, "what is renewed is what was right");
    ada.login("ada").await;
    until(async || hash().await.starts_with("$argon2id$v=19$m=16,t=2,p=1$")).await;
    // The new one is as good, stays, and has ended no token.
    let new = hash().await;
    let mut again = Client::modern(cluster.nodes[0].address).await;
    again.login("ada").await;
    assert_eq!(hash().await, new);
    let resume = Command::Resume(Resume { token: ada.token.clone() });
    let mut resumed = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(resumed.call::<LoginResult>(resume).await.unwrap().id, id.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_certificate_clients_speak_tls() {
    // The folder outlives the start, which is all that reads it.
    thread_local! { static FILES: Folder = Folder::new(); }
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    FILES.with(|folder| {
        std::fs::write(folder.0.join("certificate.pem"), generated.cert.pem()).unwrap();
        std::fs::write(folder.0.join("key.pem"), generated.signing_key.serialize_pem()).unwrap();
    });
    let cluster = TestCluster::with(1, |config| {
        FILES.with(|folder| {
            config.tls_certificate = Some(folder.0.join("certificate.pem"));
            config.tls_key = Some(folder.0.join("key.pem"));
        });
    })
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(generated.cert.der().to_vec())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(cluster.nodes[0].address).await.unwrap();
    let stream = bounded(connector.connect(ServerName::try_from("localhost").unwrap(), stream)).await.unwrap();
    let mut framed = Framed::new(stream, FrameCodec::client(Terminator::Newline));
    for command in [
        r#"{"msgid":20,"version":1}"#,
        r#"{"msgid":4,"name":"ada","password":"x"}"#,
        r#"{"msgid":1,"name":"ada","password":"x"}"#,
    ] {
        framed.send(command.into()).await.unwrap();
        let frame = bounded(framed.next()).await.unwrap().unwrap();
        let ServerMessage::Answer(answer) = ServerMessage::decode(&frame).unwrap() else { panic!("{frame:?}") };
        assert_eq!(answer.errno, 0, "{command}: {answer:?}");
    }
    // A page that takes many writes.
    framed.send(format!(r#"{{"msgid":6,"toid":1,"msg":"{}"}}"#, "x".repeat(60_000)).into()).await.unwrap();
    framed.send(r#"{"msgid":24,"peer":1}"#.into()).await.unwrap();
    let mut sizes = Vec::new();
    while sizes.len() < 3 {
        sizes.push(bounded(framed.next()).await.unwrap().unwrap().len());
    }
    assert!(sizes.iter().any(|size| *size > 60_000), "{sizes:?}");
    // Without TLS: closed, and nobody is kept waiting.
    let mut plain = Framed::new(
        TcpStream::connect(cluster.nodes[0].address).await.unwrap(),
        FrameCodec::client(Terminator::Newline),
    );
    plain.send(r#"{"msgid":20,"version":1}"#.into()).await.unwrap();
    while let Some(Ok(_)) = bounded(plain.next()).await {}
}

//! Nodes and clients for tests.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chat_server::bus::local::LocalBus;
use chat_server::codec::{FrameCodec, Terminator};
use chat_server::config::{BusUrl, Config, Database};
use chat_server::node::Node;
use chat_server::protocol::answer::{Answer, ChatResult, Done, HelloResult, LoginResult, RegisterResult};
use chat_server::protocol::command::{Chat, GroupChat, Hello, Login, Register};
use chat_server::protocol::event::{Delivery, NoticeCode};
use chat_server::protocol::{Command, Refusal, Request, ServerMessage, VERSION};
use chat_server::server::{BusSource, Server, ServerError};
use futures_util::{SinkExt, StreamExt};
use mysql::prelude::Queryable;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::codec::Framed;

/// Longer than anything here takes on a busy machine; whoever waits so long waits in vain.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct horse";

/// Nodes over one database and one bus.
pub(crate) struct TestCluster {
    pub(crate) nodes: Vec<TestNode>,
    pub(crate) bus: LocalBus,
    pub(crate) database: Database,
    /// Instead of `bus`.
    redis: Option<String>,
    _place: Place,
    change: fn(&mut Config),
}

/// What is deleted with the cluster.
enum Place {
    Folder { _folder: Folder },
    Mysql { _database: Mysql },
}

/// A database of its own on the server that `DATABASE_URL` names.
struct Mysql {
    opts: mysql::Opts,
    name: String,
}

impl Mysql {
    fn create() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
            assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
            println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
            return None;
        };
        let opts = mysql::Opts::from_url(&url).expect("DATABASE_URL is a MySQL URL");
        let name = format!("chat_cluster_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = mysql::Conn::new(opts.clone()).expect("DATABASE_URL names a server that runs");
        connection.query_drop(format!("CREATE DATABASE {name}")).expect("the user may create databases");
        Some(Self { opts, name })
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        if let Ok(mut connection) = mysql::Conn::new(self.opts.clone()) {
            let _ = connection.query_drop(format!("DROP DATABASE {}", self.name));
        }
    }
}

/// A node that runs in this process.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) node: Arc<Node>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

/// A folder that is deleted when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("chat-cluster-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self(path),
                // Left by a process that was killed and had the same number: the system gives them out again.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nodes that are still stopping open their database again when it is gone, and so make a file while the others
        // are being deleted. Once the folder is gone they cannot.
        for _ in 0..1000 {
            match std::fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

impl TestCluster {
    /// `count` nodes with options that suit tests.
    pub(crate) async fn start(count: usize) -> Self {
        Self::with(count, |_| {}).await
    }

    /// The same with other options.
    pub(crate) async fn with(count: usize, change: fn(&mut Config)) -> Self {
        let folder = Folder::new();
        let database = Database::SqliteFile(folder.0.join("chat.db"));
        Self::over(database, Place::Folder { _folder: folder }, None, count, change).await
    }

    /// The same with the Redis at `url` as the bus.
    pub(crate) async fn redis(count: usize, url: &str, change: fn(&mut Config)) -> Self {
        let folder = Folder::new();
        let database = Database::SqliteFile(folder.0.join("chat.db"));
        Self::over(database, Place::Folder { _folder: folder }, Some(url.to_owned()), count, change).await
    }

    /// Over MySQL or MariaDB; `None`: there is none, and that is allowed.
    pub(crate) async fn mysql(count: usize) -> Option<Self> {
        let place = Mysql::create()?;
        let opts = mysql::OptsBuilder::from_opts(place.opts.clone()).db_name(Some(&place.name));
        let database = Database::Mysql(Box::new(opts.into()));
        Some(Self::over(database, Place::Mysql { _database: place }, None, count, |_| {}).await)
    }

    async fn over(
        database: Database,
        place: Place,
        redis: Option<String>,
        count: usize,
        change: fn(&mut Config),
    ) -> Self {
        let mut cluster = Self { nodes: Vec::new(), bus: LocalBus::new(), database, redis, _place: place, change };
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    /// One more node.
    pub(crate) async fn add(&mut self) {
        let name = format!("node-{}", self.nodes.len());
        let node = self.open(&name).await;
        self.nodes.push(node);
    }

    /// A node of this name.
    pub(crate) async fn open(&self, name: &str) -> TestNode {
        let mut config = Config::default();
        config.listen = ([127, 0, 0, 1], 0).into();
        config.http = Some(([127, 0, 0, 1], 0).into());
        config.database = self.database.clone();
        config.node = name.into();
        // Tests do not test argon2.
        (config.password_memory_kib, config.password_passes) = (8, 1);
        (self.change)(&mut config);
        let bus = match &self.redis {
            Some(url) => {
                config.bus = BusUrl::Redis(url.clone());
                BusSource::Configured
            }
            None => BusSource::Shared(self.bus.clone()),
        };
        let server = Server::open(config, bus).await.expect("the node starts");
        let (address, http, node) =
            (server.address(), server.http_address().expect("it has one"), Arc::clone(server.node()));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        TestNode { address, http, node, stop: Some(stop), task }
    }

    /// A new user with a modern client on a node, logged in.
    pub(crate) async fn user(&self, node: usize, name: &str) -> Client {
        let mut client = Client::modern(self.nodes[node].address).await;
        client.register(name).await;
        client.login(name).await;
        client
    }
}

impl TestNode {
    /// Stops in order.
    pub(crate) async fn stop(mut self) -> Result<(), ServerError> {
        let _ = self.stop.take().expect("it runs").send(());
        bounded(self.task).await.expect("it does not panic")
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Result<(), ServerError> {
        bounded(self.task).await.expect("it does not panic")
    }

    /// What the HTTP port says: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = bounded(TcpStream::connect(self.http)).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        bounded(stream.read_to_string(&mut answer)).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// A number from `/stats`.
    pub(crate) async fn stat(&self, name: &str) -> u64 {
        let stats: Value = serde_json::from_str(&self.get("/stats").await.1).expect("JSON");
        stats[name].as_u64().unwrap_or_else(|| panic!("{name} in {stats}"))
    }
}

/// Waits, but not for ever.
pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it took too long")
}

/// Waits until something is so.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(mut is_so: F) {
    bounded(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A client of the modern mode.
pub(crate) struct Client {
    framed: Framed<TcpStream, FrameCodec>,
    next_rid: u64,
    inbox: VecDeque<ServerMessage>,
    pub(crate) id: u32,
    pub(crate) token: String,
}

impl Client {
    /// Connects and says HELLO.
    pub(crate) async fn modern(address: SocketAddr) -> Self {
        let stream = bounded(TcpStream::connect(address)).await.expect("it listens");
        Self::over(stream).await
    }

    /// The same over a connection that is there.
    pub(crate) async fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        let framed = Framed::new(stream, FrameCodec::client(Terminator::Newline));
        let mut client = Self { framed, next_rid: 1, inbox: VecDeque::new(), id: 0, token: String::new() };
        let hello: HelloResult =
            client.call(Command::Hello(Hello { version: VERSION, client: Some("test".into()) })).await.expect("HELLO");
        assert_eq!(hello.version, VERSION);
        client
    }

    /// Sends a command and does not wait for its answer. Returns its id.
    pub(crate) async fn send(&mut self, command: Command) -> u64 {
        let rid = self.next_rid;
        self.next_rid += 1;
        self.framed.send(Request { rid: Some(rid), command }.encode()).await.expect("the server reads");
        rid
    }

    /// Sends commands with one write. Returns their ids.
    pub(crate) async fn send_together(&mut self, commands: impl IntoIterator<Item = Command>) -> Vec<u64> {
        let mut rids = Vec::new();
        for command in commands {
            let rid = self.next_rid;
            self.next_rid += 1;
            self.framed.feed(Request { rid: Some(rid), command }.encode()).await.expect("the server reads");
            rids.push(rid);
        }
        self.framed.flush().await.expect("the server reads");
        rids
    }

    /// Sends a report, which is not answered.
    pub(crate) async fn report(&mut self, command: Command) {
        self.framed.send(Request { rid: None, command }.encode()).await.expect("the server reads");
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn call<T: DeserializeOwned>(&mut self, command: Command) -> Result<T, Refusal> {
        let rid = self.send(command).await;
        self.answer(rid).await.result()
    }

    /// The same when it is expected to succeed with nothing to tell.
    pub(crate) async fn done(&mut self, command: Command) {
        let what = format!("{command:?}");
        self.call::<Done>(command).await.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
    }

    /// The answer to a request; pushes that come before it are kept.
    pub(crate) async fn answer(&mut self, rid: u64) -> Answer {
        loop {
            match self.receive().await.expect("the connection is open") {
                ServerMessage::Answer(answer) if answer.rid == Some(rid) => return answer,
                ServerMessage::Answer(answer) => panic!("an answer to something else: {answer:?}"),
                other => self.inbox.push_back(other),
            }
        }
    }

    /// The next answer, whatever it is to.
    pub(crate) async fn any_answer(&mut self) -> Answer {
        loop {
            match self.receive().await.expect("the connection is open") {
                ServerMessage::Answer(answer) => return answer,
                other => self.inbox.push_back(other),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerMessage> {
        let frame: Bytes = bounded(self.framed.next()).await?.ok()?;
        Some(ServerMessage::decode(&frame).unwrap_or_else(|error| panic!("{error}: {frame:?}")))
    }

    /// The next push; `None`: the server has closed the connection.
    pub(crate) async fn push(&mut self) -> Option<ServerMessage> {
        match self.inbox.pop_front() {
            Some(message) => Some(message),
            None => self.receive().await,
        }
    }

    /// The next message, answers included; `None`: the server has closed the connection.
    pub(crate) async fn push_or_closed(&mut self) -> Option<ServerMessage> {
        self.push().await
    }

    /// The next push of a kind; others are dropped.
    pub(crate) async fn wait_for<T>(&mut self, mut is_it: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.push().await.expect("the connection is open");
            if let Some(found) = is_it(message) {
                return found;
            }
        }
    }

    /// The next message of a conversation.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        self.wait_for(|message| match message {
            ServerMessage::Delivery(delivery) => Some(delivery),
            _ => None,
        })
        .await
    }

    /// Waits for a notice, and returns the messages that came before it.
    pub(crate) async fn until_notice(&mut self, code: NoticeCode) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        self.wait_for(|message| match message {
            ServerMessage::Delivery(delivery) => {
                deliveries.push(delivery);
                None
            }
            ServerMessage::Notice(notice) => {
                assert_eq!(notice.code, code, "{notice:?}");
                Some(())
            }
            _ => None,
        })
        .await;
        deliveries
    }

    /// Waits until the server has closed the connection, and returns what came before.
    pub(crate) async fn until_closed(&mut self) -> Vec<ServerMessage> {
        let mut messages = Vec::new();
        while let Some(message) = self.push().await {
            messages.push(message);
        }
        messages
    }

    pub(crate) async fn register(&mut self, name: &str) -> u32 {
        let command = Command::Register(Register { name: name.into(), password: PASSWORD.into() });
        let result: RegisterResult = self.call(command).await.expect("the name is free");
        result.id
    }

    /// Logs in and waits until everything that was waiting has come. Returns the messages.
    pub(crate) async fn login(&mut self, name: &str) -> Vec<Delivery> {
        self.try_login(name).await.expect("the password is right");
        self.until_notice(NoticeCode::Synced).await
    }

    pub(crate) async fn try_login(&mut self, name: &str) -> Result<LoginResult, Refusal> {
        let login = Login { id: None, name: Some(name.into()), password: PASSWORD.into() };
        let result: LoginResult = self.call(Command::Login(login)).await?;
        (self.id, self.token) = (result.id, result.token.clone());
        Ok(result)
    }

    pub(crate) async fn chat(&mut self, to: u32, text: &str) -> ChatResult {
        self.call(chat(to, text)).await.expect("it is accepted")
    }

    pub(crate) async fn group_chat(&mut self, group: u32, text: &str) -> Result<ChatResult, Refusal> {
        self.call(Command::GroupChat(GroupChat { groupid: group, msg: text.into(), time: None, mid: None })).await
    }
}

pub(crate) fn chat(to: u32, text: &str) -> Command {
    Command::Chat(Chat { toid: to, msg: text.into(), time: None, mid: None })
}

/// A client as the original one: it reads once, up to 1 024 bytes, and takes what came for one message.
pub(crate) struct Original {
    pub(crate) stream: TcpStream,
}

impl Original {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: bounded(TcpStream::connect(address)).await.expect("it listens") }
    }

    /// Sends a JSON text and a NUL, as it does.
    pub(crate) async fn send(&mut self, json: &str) {
        self.stream.write_all(json.as_bytes()).await.expect("the server reads");
        self.stream.write_all(&[0]).await.expect("the server reads");
    }

    /// One read, as it does; more than fits, or more than one message, is what it dies of.
    pub(crate) async fn read(&mut self) -> Value {
        let text = self.read_text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) async fn read_text(&mut self) -> String {
        let mut buffer = [0; 1025];
        let bytes = bounded(self.stream.read(&mut buffer)).await.expect("the connection is open");
        assert!((1..=1024).contains(&bytes), "{bytes} bytes");
        std::str::from_utf8(&buffer[..bytes]).expect("UTF-8").to_owned()
    }

    pub(crate) async fn register(&mut self, name: &str) -> u32 {
        self.send(&format!(r#"{{"msgid":4,"name":"{name}","password":"{PASSWORD}"}}"#)).await;
        let answer = self.read().await;
        assert_eq!((&answer["msgid"], &answer["errno"]), (&5.into(), &0.into()), "{answer}");
        answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id")
    }

    pub(crate) async fn login(&mut self, id: u32) -> Value {
        self.send(&format!(r#"{{"id":{id},"msgid":1,"password":"{PASSWORD}"}}"#)).await;
        self.read().await
    }
}

/// The sequences of messages.
pub(crate) fn sequences(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.seq.expect("it is stored")).collect()
}

/// An assertion on a refusal.
pub(crate) fn refused<T: Debug>(result: Result<T, Refusal>) -> &'static str {
    result.expect_err("it is refused").code.name()
}

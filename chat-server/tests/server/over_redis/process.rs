//! A Redis of a test's own.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue, Value};

use crate::support::{Folder, LONG};

/// How long one question may take, and how long to wait before the next one.
const QUESTION: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// A `redis-server` on a free port, without persistence. It is killed when dropped.
pub(super) struct RedisServer {
    port: u16,
    folder: Folder,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts one; `None`: there is no Redis on this machine, and that is allowed.
    pub(super) fn start(options: &[&str]) -> Option<Self> {
        let mut server = Self::not_started(options)?;
        server.run();
        Some(server)
    }

    /// The same with [`run`](Self::run) left to the test.
    pub(super) fn not_started(options: &[&str]) -> Option<Self> {
        match Command::new("redis-server").arg("--version").stdout(Stdio::null()).status() {
            Ok(status) => assert!(status.success(), "redis-server does not work: {status}"),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var_os("REQUIRE_REDIS").is_none(), "REQUIRE_REDIS is set, redis-server is not there");
                println!("skipped: redis-server is not there; install Debian's package of that name");
                return None;
            }
            Err(error) => panic!("redis-server: {error}"),
        }
        let folder = Folder::new();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Some(Self { port: free_port(), folder, options, process: None })
    }

    /// Starts it, for the first time or again, and waits until it answers.
    pub(super) fn run(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let until = Instant::now() + LONG;
        loop {
            let mut process = Command::new("redis-server")
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .arg("--dir")
                .arg(&self.folder.0)
                .args(&self.options)
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is there");
            while process.try_wait().expect("it is ours").is_none() {
                if self.answers() {
                    self.process = Some(process);
                    return;
                }
                assert!(Instant::now() < until, "redis-server does not answer");
                std::thread::sleep(PAUSE);
            }
            // Its port was taken meanwhile, for a short time: connections of other tests have ports, too.
            assert!(Instant::now() < until, "redis-server does not start on port {}", self.port);
            std::thread::sleep(PAUSE);
        }
    }

    fn answers(&self) -> bool {
        match self.connect() {
            // A password is asked for: it is there.
            Ok(mut connection) => match redis::cmd("PING").query::<String>(&mut connection) {
                Ok(answer) => answer == "PONG",
                Err(error) => error.code() == Some("NOAUTH"),
            },
            Err(_) => false,
        }
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let connection = redis::Client::open(self.url())?.get_connection_with_timeout(QUESTION)?;
        connection.set_read_timeout(Some(QUESTION))?;
        Ok(connection)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// A command, over a connection of its own.
    pub(super) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.connect().expect("it runs");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Closes the connections of its clients of a kind: `pubsub` are subscribers, `normal` all others.
    pub(super) fn kill_clients(&self, kind: &str) -> u64 {
        self.ask(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"])
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is ours");
        process.wait().expect("it is ours");
    }

    /// It keeps its connections and does nothing any more.
    pub(super) fn pause(&self) {
        self.signal("STOP");
    }

    pub(super) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().expect("it runs").id();
        let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("a shell");
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Makes it a whole cluster of one node.
    pub(super) fn take_all_slots(&self) {
        self.ask::<Value>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let until = Instant::now() + LONG;
        while !self.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            assert!(Instant::now() < until, "the cluster does not come up");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A port that nobody listens on right now, below those that the system gives to outgoing connections, so that none of them
/// takes it while Redis is down; low enough for the port of the cluster's own, 10 000 higher.
fn free_port() -> u16 {
    loop {
        let port = 10_000 + u16::try_from(random() % 12_000).expect("it is small");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

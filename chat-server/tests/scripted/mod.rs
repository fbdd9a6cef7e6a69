//! A server whose every word is written in the test: for what a real one does at moments nobody can choose.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where clients connect to.
pub(crate) struct Scripted {
    listener: TcpListener,
    pub(crate) address: String,
}

/// One client's connection, as the server sees it.
pub(crate) struct Peer {
    lines: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("nobody connects").unwrap();
        Peer::new(stream)
    }

    /// The next connection, greeted.
    pub(crate) async fn greet(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.hello(3_600_000).await;
        peer
    }

    /// The next connection, logged in as user 1 by password.
    pub(crate) async fn log_in(&self) -> Peer {
        let mut peer = self.greet().await;
        let login = peer.expect(1).await;
        peer.answer(&login, me()).await;
        peer
    }

    /// The next connection, logged in as user 1 by token.
    pub(crate) async fn resume(&self) -> Peer {
        let mut peer = self.greet().await;
        let resume = peer.expect(22).await;
        assert_eq!(resume["token"], "a token");
        peer.answer(&resume, me()).await;
        peer
    }
}

fn me() -> Value {
    json!({"id": 1, "name": "crab", "token": "a token", "token_until": 9, "displaced": false})
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { lines: BufReader::new(reader), writer }
    }

    pub(crate) async fn hello(&mut self, ping_after_ms: u64) {
        let hello = self.expect(20).await;
        assert_eq!(hello["version"], 1);
        let result = json!({
            "version": 1, "server": "scripted", "node": "n", "max_frame": 65536, "max_text": 60000, "max_history": 100,
            "ping_after_ms": ping_after_ms, "idle_timeout_ms": 2 * ping_after_ms,
        });
        self.answer(&hello, result).await;
    }

    /// What the client says next; `None` when it has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        // The original's frames end in NUL and the modern ones in a newline; no frame has either inside.
        loop {
            let read = timeout(PATIENCE, self.lines.fill_buf()).await.expect("the client is silent");
            let Ok(bytes) = read else { return None };
            if bytes.is_empty() {
                assert!(line.is_empty(), "the client left inside of a frame");
                return None;
            }
            let end = bytes.iter().position(|byte| matches!(byte, 0 | b'\n'));
            line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.lines.consume(used);
            if end.is_some() {
                return Some(serde_json::from_slice(&line).expect("the client sends JSON"));
            }
        }
    }

    /// The client's next frame, which must be this message.
    pub(crate) async fn expect(&mut self, msgid: i64) -> Value {
        let frame = self.next().await.unwrap_or_else(|| panic!("the client left instead of sending {msgid}"));
        assert_eq!(frame["msgid"], msgid, "{frame}");
        frame
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.writer.write_all(format!("{frame}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, request: &Value, result: Value) {
        let frame = json!({"msgid": 21, "rid": request["rid"], "to": request["msgid"], "errno": 0, "result": result});
        self.send(frame).await;
    }

    pub(crate) async fn refuse(&mut self, request: &Value, errno: u32, text: &str) {
        let frame = json!({"msgid": 21, "rid": request["rid"], "to": request["msgid"], "errno": errno, "errmsg": text});
        self.send(frame).await;
    }

    /// A message of user 7 to user 1.
    pub(crate) async fn deliver(&mut self, seq: u64, text: &str) {
        let frame =
            json!({"msgid": 6, "id": 7, "name": "fox", "toid": 1, "msg": text, "time": "now", "seq": seq, "at": 5});
        self.send(frame).await;
    }

    pub(crate) async fn notice(&mut self, code: &str, reconnect_ms: Option<u64>) {
        self.send(json!({"msgid": 30, "code": code, "text": code, "reconnect_ms": reconnect_ms})).await;
    }
}

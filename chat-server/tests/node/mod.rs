//! A real node in this process, on a port of its own, over a SQLite file of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use chat_server::config::{Config, Database};
use chat_server::server::{BusSource, Server};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A node that runs until it is dropped.
pub(crate) struct RunningNode {
    pub(crate) address: SocketAddr,
    _folder: TempDir, // deleted with the node
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningNode {
    /// A node without limits of rates, whose password hashes cost little: neither is what is tested with it.
    pub(crate) fn start(change: impl FnOnce(&Path, &mut Config)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = TempDir::with_prefix("chat-node-").expect("the temporary folder is writable");
        let mut config = Config::default();
        config.listen = ([127, 0, 0, 1], 0).into();
        config.http = None;
        config.database = Database::SqliteFile(folder.path().join("chat.db"));
        config.node = format!("node-{number}");
        (config.password_memory_kib, config.password_passes) = (8, 1);
        (config.commands_per_s, config.registrations_per_address_per_min) = (0, 0);
        (config.logins_per_account_per_min, config.logins_per_address_per_min) = (0, 0);
        config.logins_per_account_and_address_per_min = 0;
        change(folder.path(), &mut config);
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        // A runtime of its own, as in a process of its own: the load generator blocks its thread.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let server = Server::open(config, BusSource::Configured).await.expect("the node starts");
                tell.send(server.address()).expect("somebody waits");
                let ended = server.run(async {
                    let _ = stopped.await;
                });
                ended.await.expect("the node ends in order");
            });
        });
        let address = told.recv().expect("the node starts");
        Self { address, _folder: folder, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.expect("it had one").expect("the node does not panic");
        }
    }
}

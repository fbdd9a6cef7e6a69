//! A tokio service with a database behind it: one line in, one line out, over TCP.
//!
//! Waiting for a connection is awaited and costs no thread, so any number of clients may wait. The queries themselves
//! block, as SQLite's do, and run where blocking is allowed. At the end the service stops taking clients, and the pool is
//! closed when the last one has been served.
//!
//! ```console
//! $ cargo run -p pool --example tokio_service --features sqlite              # serves itself, and ends
//! $ cargo run -p pool --example tokio_service --features sqlite -- 127.0.0.1:7878
//! $ printf 'add milk\nlist\n' | nc -N 127.0.0.1 7878
//! ```

use std::error::Error;
use std::time::Duration;

use pool::managers::sqlite::SqliteManager;
use pool::{OwnedGuard, SlotsPool, idle};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;
type Lent = OwnedGuard<SqliteManager, idle::Slots>;

/// The longest line that is read.
const LINE_LIMIT: u64 = 1024;
/// How long a client may take for a line, and the pool for a connection.
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS: usize = 32;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let manager = SqliteManager::memory()?;
    let pool = SlotsPool::builder().name("shopping").max_size(4).acquire_timeout(PATIENCE).build(manager)?;
    pool.get_owned_async().await?.execute_batch("CREATE TABLE item (name TEXT NOT NULL)")?;

    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0")).await?;
    let local = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let service = tokio::spawn(serve(listener, pool.clone(), stopped));

    if address.is_some() {
        println!("listening on {local}; ctrl-c ends it");
        tokio::signal::ctrl_c().await?;
    } else {
        visit(local).await?;
    }
    // Nobody listens when the service has failed; the next line says why.
    let _ = stop.send(true);
    service.await??;
    println!("{:?}", pool.counters());
    tokio::task::spawn_blocking(move || pool.close(PATIENCE)).await??;
    Ok(())
}

/// Takes clients until it is stopped, then waits for those it has.
async fn serve(
    listener: TcpListener,
    pool: SlotsPool<SqliteManager>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let pool = pool.clone();
                let (stream, peer) = accepted?;
                clients.spawn(async move {
                    if let Err(error) = talk(stream, &pool).await {
                        eprintln!("{peer}: {error}");
                    }
                });
            }
            Some(_) = clients.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// Answers one client's lines until it has no more.
async fn talk(stream: TcpStream, pool: &SlotsPool<SqliteManager>) -> Result<(), Failure> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(read, LINE_LIMIT));
    let mut line = String::new();
    while tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await?? > 0 {
        let words = line.trim().to_owned();
        let answer = match pool.get_owned_async().await {
            Ok(connection) => tokio::task::spawn_blocking(move || answer(connection, &words)).await?,
            // The error says what was missing, and how many others wait.
            Err(error) => Err(error.into()),
        };
        let answer = answer.unwrap_or_else(|error| format!("error: {error}"));
        write.write_all(format!("{answer}\n").as_bytes()).await?;
        line.clear();
        lines.get_mut().set_limit(LINE_LIMIT);
    }
    Ok(())
}

/// The guard came along to the thread that may block, and goes back to the pool from there.
fn answer(connection: Lent, words: &str) -> Result<String, Failure> {
    match words.split_once(' ') {
        Some(("add", name)) => {
            connection.execute("INSERT INTO item VALUES (?)", [name])?;
            Ok(format!("added {name}"))
        }
        None if words == "list" => {
            let mut select = connection.prepare_cached("SELECT name FROM item ORDER BY name")?;
            let names = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            Ok(names.join(", "))
        }
        _ => Err(format!("`add NAME` or `list`, not `{words}`").into()),
    }
}

/// Many clients at once, far more than connections; then one that looks.
async fn visit(address: std::net::SocketAddr) -> Result<(), Failure> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(async move { ask(address, &format!("add item {number:02}")).await });
    }
    while let Some(answer) = clients.join_next().await {
        let answer = answer??;
        if !answer.starts_with("added") {
            return Err(answer.into());
        }
    }
    let list = ask(address, "list").await?;
    println!("{list}");
    if list.split(", ").count() != CLIENTS {
        return Err("some items were not added".into());
    }
    println!("{}", ask(address, "sell everything").await?);
    Ok(())
}

async fn ask(address: std::net::SocketAddr, line: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, BufReader::new(stream).read_line(&mut answer)).await??;
    Ok(answer.trim_end().to_owned())
}

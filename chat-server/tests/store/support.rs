//! A database for each test, and what the tests say often.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chat_server::config;
use chat_server::store::{
    ClientMessageId, Conversation, NewMessage, NodeLease, Refusal, Seq, Store, StoreError, StoreOptions, UserId,
};
use mysql::prelude::Queryable;

/// Makes of each function one test for each database.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(
                #[test]
                fn $name() {
                    crate::store::support::run(async |database| super::$name(database).await, crate::store::support::Database::sqlite());
                }
            )*
        }
        mod mysql {
            $(
                #[test]
                fn $name() {
                    if let Some(database) = crate::store::support::Database::mysql() {
                        crate::store::support::run(async |database| super::$name(database).await, database);
                    }
                }
            )*
        }
    };
}

/// How long a test may take. Nothing takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(100);

pub fn run(test: impl AsyncFnOnce(&Database), database: Database) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, test(&database)).await });
    done.expect("the test hangs");
    // What a test leaves waiting must not keep the program.
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// An empty database of its own, deleted when dropped.
pub struct Database {
    place: Place,
    pub config: config::Database,
}

enum Place {
    Sqlite(PathBuf),
    Mysql { opts: mysql::Opts, name: String },
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("chat_store_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = std::env::temp_dir().join(unique());
        std::fs::create_dir(&folder).expect("the temporary folder is writable");
        let config = config::Database::SqliteFile(folder.join("chat.db"));
        Self { place: Place::Sqlite(folder), config }
    }

    pub fn mysql() -> Option<Self> {
        let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
            assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
            println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
            return None;
        };
        let opts = mysql::Opts::from_url(&url).expect("DATABASE_URL is a MySQL URL");
        // Over TCP, as a node elsewhere would, and so that a proxy can stand in between.
        let opts = mysql::Opts::from(mysql::OptsBuilder::from_opts(opts).prefer_socket(false));
        let name = unique();
        let mut outside = mysql::Conn::new(opts.clone()).expect("DATABASE_URL names a server that runs");
        outside.query_drop(format!("CREATE DATABASE {name}")).expect("the user may create databases");
        let opts = mysql::Opts::from(mysql::OptsBuilder::from_opts(opts).db_name(Some(&name)));
        let config = config::Database::Mysql(Box::new(opts.clone()));
        Some(Self { place: Place::Mysql { opts, name }, config })
    }

    pub fn is_mysql(&self) -> bool {
        matches!(self.place, Place::Mysql { .. })
    }

    /// The options to reach it, for those who go another way.
    pub fn mysql_opts(&self) -> Option<mysql::Opts> {
        match &self.place {
            Place::Mysql { opts, .. } => Some(opts.clone()),
            Place::Sqlite(_) => None,
        }
    }

    /// A node.
    pub async fn store(&self) -> Store {
        self.store_with(|_| {}).await
    }

    pub async fn store_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = StoreOptions::default();
        options.pool.max_size = 4;
        options.cursor_interval = Duration::from_millis(5);
        change(&mut options);
        Store::open(&self.config, options).await.unwrap()
    }

    /// Runs a statement from outside of every store.
    pub fn execute(&self, sql: &str) {
        match &self.place {
            Place::Sqlite(_) => self.sqlite_outside().execute_batch(sql).unwrap(),
            Place::Mysql { opts, .. } => mysql::Conn::new(opts.clone()).unwrap().query_drop(sql).unwrap(),
        }
    }

    /// The one number that a query finds.
    pub fn number(&self, sql: &str) -> i64 {
        match &self.place {
            Place::Sqlite(_) => self.sqlite_outside().query_row(sql, [], |row| row.get(0)).unwrap(),
            Place::Mysql { opts, .. } => mysql::Conn::new(opts.clone()).unwrap().query_first(sql).unwrap().unwrap(),
        }
    }

    fn sqlite_outside(&self) -> rusqlite::Connection {
        let config::Database::SqliteFile(file) = &self.config else { unreachable!("it is a file") };
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
    }

    /// Keeps everyone from committing a message until the lock is dropped.
    pub fn lock_messages(&self) -> Lock {
        match &self.place {
            Place::Sqlite(_) => {
                let connection = self.sqlite_outside();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                Lock { _sqlite: Some(connection), _mysql: None }
            }
            Place::Mysql { opts, .. } => {
                let mut connection = mysql::Conn::new(opts.clone()).unwrap();
                connection.query_drop("BEGIN").unwrap();
                connection.query_drop("SELECT id FROM conversation FOR UPDATE").unwrap();
                connection.query_drop("SELECT id FROM user FOR UPDATE").unwrap();
                Lock { _sqlite: None, _mysql: Some(connection) }
            }
        }
    }
}

/// A transaction from outside; dropping it rolls back.
pub struct Lock {
    _sqlite: Option<rusqlite::Connection>,
    _mysql: Option<mysql::Conn>,
}

impl Drop for Database {
    fn drop(&mut self) {
        match &self.place {
            Place::Sqlite(folder) => {
                let _ = std::fs::remove_dir_all(folder);
            }
            Place::Mysql { opts, name } => {
                if let Ok(mut outside) = mysql::Conn::new(opts.clone()) {
                    let _ = outside.query_drop(format!("DROP DATABASE {name}"));
                }
            }
        }
    }
}

/// A new user. His password hash is not one.
pub async fn user(store: &Store, name: &str) -> UserId {
    store.register(name, "hash").await.unwrap()
}

pub async fn two_users(store: &Store) -> (UserId, UserId) {
    (user(store, "ada").await, user(store, "bob").await)
}

pub fn message(conversation: Conversation, sender: UserId, body: &str) -> NewMessage {
    NewMessage { conversation, sender, client_id: None, time: String::new(), body: body.into() }
}

pub fn message_with_id(conversation: Conversation, sender: UserId, id: u64, body: &str) -> NewMessage {
    NewMessage { client_id: Some(ClientMessageId::from(id)), ..message(conversation, sender, body) }
}

/// Appends, and returns its place.
pub async fn say(store: &Store, conversation: Conversation, sender: UserId, body: &str) -> Seq {
    store.append_one(message(conversation, sender, body)).await.unwrap().seq
}

/// What was refused.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("it was not refused: {other:?}"),
    }
}

/// Writes into the database that a lease is over.
pub fn expire(database: &Database, lease: NodeLease) {
    database.execute(&format!("UPDATE node SET lease_until = 1 WHERE id = {}", lease.node));
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not within twenty seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

//! Connections that are killed, commits whose answer is lost, servers that say nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ::mysql::prelude::Queryable;
use ::mysql::{Conn, Opts, OptsBuilder};
use chat_server::config;
use chat_server::store::{Conversation, MAX_PAGE, Page, Refusal, Seq, Store, StoreError, StoreOptions, UserId};

use super::support::{Database, message, message_with_id, refused, run, say, two_users, until, user};

/// Makes of each function a test over MySQL, whose connections can be cut.
macro_rules! over_mysql {
    ($($name:ident)*) => {
        mod mysql {
            $(
                #[test]
                fn $name() {
                    if let Some(database) = super::Database::mysql() {
                        super::run(async |database| super::$name(database).await, database);
                    }
                }
            )*
        }
    };
}

over_mysql! {
    killed_connections_cost_nothing_that_was_acknowledged
    a_commit_whose_answer_is_lost_is_not_done_twice
    a_write_that_cannot_be_repeated_says_that_it_is_not_known
    who_registers_learns_his_number_though_the_answer_to_the_commit_is_lost
    a_server_that_says_nothing_is_not_waited_for_longer_than_the_deadline
    a_message_the_server_does_not_take_is_nobody_elses
    deadlocks_are_tried_again
    connections_to_a_server_that_takes_no_writes_any_more_are_not_kept
}

async fn killed_connections_cost_nothing_that_was_acknowledged(database: &Database) {
    const WRITERS: u64 = 4;
    const EACH: u64 = 60;
    let nodes = [database.store().await, database.store().await];
    let mut users = Vec::new();
    for i in 0..WRITERS {
        users.push(user(&nodes[0], &format!("user {i}")).await);
    }
    let group = nodes[0].create_group(users[0], "g", "").await.unwrap();
    for user in &users[1..] {
        nodes[0].join_group(*user, group).await.unwrap();
    }
    let conversation = Conversation::group(group);

    let is_over = Arc::new(AtomicBool::new(false));
    let killer = thread::spawn({
        let (is_over, opts) = (Arc::clone(&is_over), database.mysql_opts().unwrap());
        move || {
            let mut outside = Conn::new(opts).unwrap();
            let mut killed = 0;
            while !is_over.load(Ordering::Relaxed) {
                let query = "SELECT id FROM information_schema.processlist \
                             WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command <> 'Killed'";
                let victims: Vec<u64> = outside.query(query).unwrap();
                // One of them at a time, so that something gets done in between.
                if let Some(victim) = victims.get(killed % victims.len().max(1)) {
                    killed += usize::from(outside.query_drop(format!("KILL {victim}")).is_ok());
                }
                thread::sleep(Duration::from_millis(3));
            }
            killed
        }
    });

    let mut tasks = tokio::task::JoinSet::new();
    for (i, user) in users.iter().copied().enumerate() {
        let node = nodes[i % 2].clone();
        tasks.spawn(async move {
            let mut receipts = BTreeMap::new();
            for id in 0..EACH {
                let body = format!("{user} {id}");
                // As a client would: again with the same id until it is acknowledged.
                let receipt = loop {
                    match node.append_one(message_with_id(conversation, user, id, &body)).await {
                        Ok(receipt) => break receipt,
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                };
                receipts.insert(receipt.seq.0, body);
            }
            receipts
        });
    }
    let told: BTreeMap<u64, String> = tasks.join_all().await.into_iter().flatten().collect();
    is_over.store(true, Ordering::Relaxed);
    let killed = killer.join().unwrap();
    assert!(killed > 5, "only {killed} connections were killed, which proves little");

    let mut stored = BTreeMap::new();
    for page in 0.. {
        let page = Page::After(Seq(page * MAX_PAGE as u64));
        let messages = nodes[0].history(users[0], conversation, page, MAX_PAGE).await.unwrap();
        if messages.is_empty() {
            break;
        }
        stored.extend(messages.into_iter().map(|message| (message.seq.0, message.body)));
    }
    assert_eq!(stored.len() as u64, WRITERS * EACH, "each message once");
    assert_eq!(stored, told, "where it was acknowledged");
    assert_eq!(stored.keys().copied().collect::<Vec<_>>(), (1..=WRITERS * EACH).collect::<Vec<_>>());
}

/// A way to the server that swallows the answers to some of the commits, and the connection with them.
struct Proxy {
    address: SocketAddr,
    /// How many more commits get no answer.
    cuts: Arc<AtomicU32>,
    /// Whether nothing is passed on any more, in either direction.
    is_silent: Arc<AtomicBool>,
}

impl Proxy {
    fn to(opts: &Opts) -> Self {
        let server = (opts.get_ip_or_hostname().into_owned(), opts.get_tcp_port());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, is_silent) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (cuts_here, silent_here) = (Arc::clone(&cuts), Arc::clone(&is_silent));
        // The threads end with their connections; the listener's ends with the program.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect((&*server.0, server.1))) else { return };
                let swallow = Arc::new(AtomicBool::new(false));
                let (up, down) = ((client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client));
                let (cuts, silent, flag) = (Arc::clone(&cuts_here), Arc::clone(&silent_here), Arc::clone(&swallow));
                thread::spawn(move || {
                    pass(up.0, up.1, &silent, |bytes| {
                        // A statement of its own: a new connection's settings have the word in them, too.
                        let is_commit = bytes.ends_with(b"\x03COMMIT");
                        if is_commit
                            && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
                        {
                            flag.store(true, Ordering::SeqCst);
                        }
                        true
                    });
                });
                let silent = Arc::clone(&silent_here);
                thread::spawn(move || pass(down.0, down.1, &silent, |_| !swallow.load(Ordering::SeqCst)));
            }
        });
        Self { address, cuts, is_silent }
    }
}

/// Passes bytes on while `look` says so, then closes both sides.
fn pass(mut from: TcpStream, mut to: TcpStream, is_silent: &AtomicBool, mut look: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if is_silent.load(Ordering::SeqCst) {
            continue;
        }
        if !look(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

async fn store_behind(database: &Database, proxy: &Proxy, deadline: Duration) -> Store {
    let opts = OptsBuilder::from_opts(database.mysql_opts().unwrap())
        .ip_or_hostname(Some(proxy.address.ip().to_string()))
        .tcp_port(proxy.address.port())
        .prefer_socket(false);
    let mut options = StoreOptions::default();
    options.deadline = deadline;
    Store::open(&config::Database::Mysql(Box::new(opts.into())), options).await.unwrap()
}

async fn a_commit_whose_answer_is_lost_is_not_done_twice(database: &Database) {
    let proxy = Proxy::to(&database.mysql_opts().unwrap());
    let store = store_behind(database, &proxy, Duration::from_secs(30)).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "first").await;
    for round in 1..=3 {
        proxy.cuts.store(1, Ordering::SeqCst);
        // Without an id of the sender's, too.
        let receipt = store.append_one(message(pair, ada, "x")).await.unwrap();
        assert_eq!(receipt.seq, Seq(round + 1));
        assert!(receipt.is_repeat, "the second attempt found what the first had stored");
        assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0, "an answer was lost");
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM message"), 4);
    assert_eq!(store.history(bob, pair, Page::Last, 10).await.unwrap().len(), 4);
    assert!(store.stats().retries >= 3);
}

async fn a_write_that_cannot_be_repeated_says_that_it_is_not_known(database: &Database) {
    let proxy = Proxy::to(&database.mysql_opts().unwrap());
    let store = store_behind(database, &proxy, Duration::from_secs(30)).await;
    user(&store, "ada").await;
    proxy.cuts.store(1, Ordering::SeqCst);
    let ada = store.user_by_name("ada").await.unwrap().unwrap().id;
    let error = store.create_group(ada, "g", "").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(store.groups(ada).await.unwrap().len(), 1, "this time it was done");
}

async fn who_registers_learns_his_number_though_the_answer_to_the_commit_is_lost(database: &Database) {
    let proxy = Proxy::to(&database.mysql_opts().unwrap());
    let store = store_behind(database, &proxy, Duration::from_secs(30)).await;
    user(&store, "ada").await;
    proxy.cuts.store(1, Ordering::SeqCst);
    let bob = store.register("bob", "hash of bob").await.unwrap();
    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0, "an answer was lost");
    assert_eq!(store.credentials(bob).await.unwrap().unwrap().user.name, "bob");
    assert_eq!(database.number("SELECT COUNT(*) FROM user"), 2);
    // The same name with another hash is somebody else.
    assert_eq!(refused(store.register("Bob", "hash of eve").await), Refusal::NameTaken);
}

async fn a_server_that_says_nothing_is_not_waited_for_longer_than_the_deadline(database: &Database) {
    let proxy = Proxy::to(&database.mysql_opts().unwrap());
    let store = store_behind(database, &proxy, Duration::from_millis(400)).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    proxy.is_silent.store(true, Ordering::SeqCst);
    let users = [ada];
    let (read, written) = tokio::join!(store.users(&users), store.append_one(message(pair, ada, "x")));
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    proxy.is_silent.store(false, Ordering::SeqCst);
    // The late answers to those are nobody's: their connections are gone.
    let found = loop {
        match store.users(&[bob]).await {
            Ok(found) => break found,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    };
    assert_eq!(found[0].name, "bob");
}

async fn a_message_the_server_does_not_take_is_nobody_elses(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    // A trigger that only this server has, for an error that no check before it can foresee.
    database.execute(
        "CREATE TRIGGER picky BEFORE INSERT ON message FOR EACH ROW \
         IF NEW.body = 'poison' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF",
    );
    let lock = database.lock_messages();
    let bodies = ["a", "poison", "b", "poison", "c"];
    let calls: Vec<_> = bodies.iter().map(|body| store.append_one(message(pair, ada, body))).collect();
    drop(lock);
    for (body, call) in bodies.iter().zip(calls) {
        match call.await {
            Ok(_) => assert_ne!(*body, "poison"),
            Err(error) => {
                assert_eq!(*body, "poison");
                assert!(matches!(error, StoreError::Failed(_)) && !error.is_retryable(), "{error:?}");
                assert!(error.to_string().contains("not this one"), "{error}");
            }
        }
    }
    let stored = store.history(bob, pair, Page::Last, 10).await.unwrap();
    assert_eq!(stored.iter().map(|message| &*message.body).collect::<Vec<_>>(), ["x", "a", "b", "c"]);
    assert_eq!(stored.last().unwrap().seq, Seq(4), "no number was used up");
}

async fn deadlocks_are_tried_again(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    let pair = |one: UserId, other: UserId| Conversation::direct(one, other);
    let (low, high) = (pair(ada, bob), pair(bob, eve));
    say(&store, low, ada, "x").await;
    say(&store, high, bob, "x").await;

    // From outside, the wrong way round: the higher conversation first. The store has the lower one by the time it
    // waits for the higher one; then it is our turn to ask for the lower one.
    let mut outside = Conn::new(database.mysql_opts().unwrap()).unwrap();
    let weigh = "INSERT INTO friend (user_id, friend_id, created_at) SELECT seq, seq, 0 FROM seq_1_to_1000";
    outside.query_drop("BEGIN").unwrap();
    // The server undoes the one that has changed less, so that it is not us.
    let has_weight = outside.query_drop(weigh).is_ok();
    let lock = |id: Conversation| format!("SELECT id FROM conversation WHERE id = {} FOR UPDATE", key(id));
    outside.query_drop(lock(high)).unwrap();
    let appended = tokio::spawn({
        let store = store.clone();
        async move { store.append(vec![message(low, ada, "y"), message(high, bob, "y")]).await }
    });
    let mut looking = Conn::new(database.mysql_opts().unwrap()).unwrap();
    // Asked more often than ten times a second, the server repeats its last answer for ever.
    let query = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' \
                 AND trx_mysql_thread_id IN (SELECT id FROM information_schema.processlist WHERE db = DATABASE())";
    while looking.query_first::<u32, _>(query).unwrap() != Some(1) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let asked = outside.query_drop(lock(low));
    outside.query_drop("ROLLBACK").unwrap();
    for answer in appended.await.unwrap() {
        answer.unwrap();
    }
    if has_weight {
        asked.unwrap();
        assert!(store.stats().retries >= 1, "the store's transaction was the one that was undone");
    }
    assert_eq!(store.last_seqs(&[low, high]).await.unwrap(), [(low, Seq(2)), (high, Seq(2))]);
}

/// The key of a pair, as the migrations describe it.
fn key(conversation: Conversation) -> u64 {
    let chat_server::store::ConversationKind::Direct(low, high) = conversation.kind() else { unreachable!() };
    u64::from(low.get()) << 32 | u64::from(high.get())
}

async fn connections_to_a_server_that_takes_no_writes_any_more_are_not_kept(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    // Several connections, of which most lie idle afterwards.
    let lock = database.lock_messages();
    let waiting: Vec<_> = [(ada, bob), (bob, eve), (eve, ada)]
        .into_iter()
        .map(|(user, other)| {
            let store = store.clone();
            tokio::spawn(async move { store.add_friend(user, other).await })
        })
        .collect();
    let mut outside = Conn::new(database.mysql_opts().unwrap()).unwrap();
    let mut connections = || -> BTreeSet<u64> {
        let query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
        outside.query_iter(query).unwrap().map(|row| ::mysql::from_row(row.unwrap())).collect()
    };
    // One is the lock's.
    until("three wait", || connections().len() > 3).await;
    drop(lock);
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
    let before = connections();

    // For this database the server is read-only; its other users, who run beside this test, are left alone.
    database.execute(
        "CREATE TRIGGER demoted BEFORE INSERT ON user FOR EACH ROW \
         SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'running with the --read-only option'",
    );
    let error = store.register("ida", "hash").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && error.is_retryable(), "{error:?}");
    database.execute("DROP TRIGGER demoted");
    let ida = user(&store, "ida").await;
    // Who has another way to the database now must not read over the old one.
    while let Some(old) = connections().intersection(&before).next() {
        let reads = (0..4).map(|_| store.users(std::slice::from_ref(&ida)));
        for read in futures_util::future::join_all(reads).await {
            read.unwrap_or_else(|error| panic!("{error:?}, and {old} is still there"));
        }
    }
}

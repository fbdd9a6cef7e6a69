//! How many messages and logins the store takes in a second, without a server around it.
//!
//! ```console
//! $ cargo run --profile ci -p chat-server --example store_load -- sqlite:/tmp/load.db
//! $ cargo run --profile ci -p chat-server --example store_load -- mysql://user:password@host:port/database
//! ```
//!
//! An indication of what the database allows, on a database that may be thrown away: it leaves its users behind. What
//! the server does with it is measured by `chat-load`.

use std::error::Error;
use std::time::{Duration, Instant};

use chat_server::auth::{Auth, AuthOptions};
use chat_server::config::Database;
use chat_server::store::{
    Claim, ClaimPolicy, Conversation, Cursor, Location, NewMessage, SessionId, Store, StoreOptions, UserId,
};

/// How long each part is measured.
const SPAN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which database? sqlite:FILE or mysql://…")?;
    let number = |text: Option<String>, default| text.map_or(Ok(default), |text| text.parse());
    let pairs: usize = number(arguments.next(), 100)?;
    let in_flight: usize = number(arguments.next(), 8)?;
    let committers: usize = number(arguments.next(), StoreOptions::default().committers)?;
    let database = Database::from_url(&url)?;
    let mut options = StoreOptions::default();
    options.committers = committers;
    tokio::runtime::Runtime::new()?.block_on(measure(database, options, pairs, in_flight))
}

async fn measure(
    database: Database,
    options: StoreOptions,
    pairs: usize,
    in_flight: usize,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let committers = options.committers;
    let store = Store::open(&database, options).await?;
    println!("{} in {:.1?}, pool {}", store.version().await?, began.elapsed(), Store::POOL);
    let users = register(&store, pairs * 2).await?;

    let before = store.stats();
    let (count, elapsed, longest) = in_parallel(
        &users,
        pairs,
        move |store, users, i| {
            let (one, other) = (users[2 * (i % pairs)], users[2 * (i % pairs) + 1]);
            async move {
                let conversation = Conversation::direct(one, other);
                let body = "x".repeat(100);
                let message = NewMessage { conversation, sender: one, client_id: None, time: String::new(), body };
                let receipt = store.append_one(message).await?;
                store.advance(Cursor { user: other, conversation, seq: receipt.seq });
                Ok(())
            }
        },
        &store,
        in_flight,
    )
    .await?;
    let after = store.stats();
    println!(
        "messages: {:.0}/s from {pairs} pairs with {in_flight} in flight each, {:.0} a commit, {committers} committers, \
         longest {longest:.1?}, waited {:.2?} for connections",
        count as f64 / elapsed.as_secs_f64(),
        (after.messages - before.messages) as f64 / (after.commits - before.commits) as f64,
        Duration::from_nanos(after.acquire_wait_ns - before.acquire_wait_ns),
    );

    let lease = store.register_node(&format!("load {}", std::process::id()), Duration::from_secs(60)).await?;
    let mut tokens = Vec::new();
    for user in &users {
        tokens.push(store.issue_token(*user, Duration::from_secs(600)).await?);
    }
    let tokens = std::sync::Arc::new(tokens);
    let (count, elapsed, longest) = in_parallel(
        &users,
        users.len().min(64),
        move |store, users, i| {
            let (user, tokens) = (users[i % users.len()], std::sync::Arc::clone(&tokens));
            async move {
                let owner = store.check_token(tokens[i % tokens.len()].as_str()).await?.ok_or("no such token")?;
                assert_eq!(owner.user.id, user);
                let location = Location { lease, session: SessionId(i as u64) };
                store.claim(Claim { user, location, policy: ClaimPolicy::Displace }).await?;
                store.unread(user).await?;
                Ok(())
            }
        },
        &store,
        1,
    )
    .await?;
    println!(
        "logins by token (token, claim, unread): {:.0}/s with 64 in flight, longest {longest:.1?}",
        count as f64 / elapsed.as_secs_f64()
    );

    let auth = Auth::new(AuthOptions::default())?;
    let hash = auth.hash("secret").await?;
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (auth, hash) = (auth.clone(), hash.clone());
        tasks.spawn(async move { auth.verify("secret", Some(&hash)).await });
    }
    while let Some(verified) = tasks.join_next().await {
        assert!(verified??);
    }
    let each = began.elapsed() / 500;
    println!("passwords: {:.0}/s at {:?}", 1.0 / each.as_secs_f64(), AuthOptions::default());
    store.release_all(lease).await?;
    store.close(Duration::from_secs(30)).await?;
    Ok(())
}

/// New users, whose names nobody has yet.
async fn register(store: &Store, count: usize) -> Result<Vec<UserId>, Box<dyn Error>> {
    let run = store.ping().await?.0;
    let mut users = Vec::with_capacity(count);
    for i in 0..count {
        users.push(store.register(&format!("load {run} {i}"), "none").await?);
    }
    Ok(users)
}

/// Runs `work` for [`SPAN`] in `callers * in_flight` tasks. Returns how often it was done, in what time, and the longest
/// one.
async fn in_parallel<F>(
    users: &[UserId],
    callers: usize,
    work: impl Fn(Store, std::sync::Arc<[UserId]>, usize) -> F + Send + Sync + Clone + 'static,
    store: &Store,
    in_flight: usize,
) -> Result<(u64, Duration, Duration), Box<dyn Error>>
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let users: std::sync::Arc<[UserId]> = users.into();
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..callers * in_flight {
        let (store, users, work) = (store.clone(), std::sync::Arc::clone(&users), work.clone());
        tasks.spawn(async move {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while began.elapsed() < SPAN {
                let asked = Instant::now();
                work(store.clone(), std::sync::Arc::clone(&users), task % callers).await?;
                longest = longest.max(asked.elapsed());
                count += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>((count, longest))
        });
    }
    let (mut count, mut longest) = (0, Duration::ZERO);
    while let Some(done) = tasks.join_next().await {
        let (done, slowest) = done?.map_err(|error| error.to_string())?;
        count += done;
        longest = longest.max(slowest);
    }
    Ok((count, began.elapsed(), longest))
}

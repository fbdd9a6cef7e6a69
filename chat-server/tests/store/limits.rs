//! What happens when too much waits, when it takes too long, and at the end.

use std::time::Duration;

use chat_server::store::{
    Claim, ClaimPolicy, Conversation, Cursor, Location, Seq, SessionId, Store, StoreError, StoreOptions,
};

use super::support::{Database, message, say, two_users, until, user};

over_both! {
    no_more_messages_wait_than_may
    no_more_bytes_wait_than_may
    no_more_claims_wait_than_may
    no_more_requests_wait_than_may
    no_more_cursors_wait_than_may
    a_deadline_ends_the_wait
    what_waits_is_committed_at_the_end
    an_end_that_takes_too_long_is_told
    a_limit_of_nothing_is_refused
}

/// The limit that was hit.
#[track_caller]
fn busy<T: std::fmt::Debug>(result: Result<T, StoreError>) -> (&'static str, usize) {
    match result {
        Err(error @ StoreError::Busy { limit, value }) => {
            assert!(error.is_retryable());
            (limit, value)
        }
        other => panic!("it was not too much: {other:?}"),
    }
}

async fn no_more_messages_wait_than_may(database: &Database) {
    let store = database.store_with(|options| options.max_pending_messages = 5).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    let lock = database.lock_messages();
    let calls: Vec<_> = (0..5).map(|_| store.append_one(message(pair, ada, "x"))).collect();
    assert_eq!(busy(store.append_one(message(pair, ada, "x")).await), ("max_pending_messages", 5));
    assert_eq!((store.stats().pending_messages, store.stats().busy), (5, 1));
    drop(lock);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(say(&store, pair, ada, "x").await, Seq(7), "there is room again, and nothing was lost");
}

async fn no_more_bytes_wait_than_may(database: &Database) {
    let store = database.store_with(|options| options.max_pending_bytes = 10_000).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    // One alone goes, however large it is.
    say(&store, pair, ada, &"x".repeat(20_000)).await;
    let lock = database.lock_messages();
    let call = store.append_one(message(pair, ada, &"x".repeat(9_000)));
    assert_eq!(busy(store.append_one(message(pair, ada, &"x".repeat(1_000))).await), ("max_pending_bytes", 10_000));
    drop(lock);
    call.await.unwrap();
    say(&store, pair, ada, &"x".repeat(9_000)).await;
}

async fn no_more_claims_wait_than_may(database: &Database) {
    let store = database.store_with(|options| options.max_pending_claims = 3).await;
    let ada = user(&store, "ada").await;
    let lease = store.register_node("north", Duration::from_secs(3600)).await.unwrap();
    let claim = |session| {
        let location = Location { lease, session: SessionId(session) };
        store.claim(Claim { user: ada, location, policy: ClaimPolicy::Displace })
    };
    let lock = database.lock_messages();
    let calls: Vec<_> = (0..3).map(claim).collect();
    assert_eq!(busy(claim(9).await), ("max_pending_claims", 3));
    drop(lock);
    for call in calls {
        call.await.unwrap();
    }
    claim(9).await.unwrap();
}

async fn no_more_requests_wait_than_may(database: &Database) {
    let store = database.store_with(|options| options.max_pending = 2).await;
    let (ada, bob) = two_users(&store).await;
    say(&store, Conversation::direct(ada, bob), ada, "x").await;
    let lock = database.lock_messages();
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.add_friend(ada, bob).await })
        })
        .collect();
    until("both wait", || store.stats().pending == 2).await;
    assert_eq!(busy(store.users(&[ada]).await), ("max_pending", 2));
    drop(lock);
    for call in calls {
        // One of the two comes too late, which is an answer, too.
        let answer = call.await.unwrap();
        assert!(answer.is_ok() || answer.unwrap_err().refusal().is_some());
    }
    until("there is room again", || store.stats().pending == 0).await;
    store.users(&[ada]).await.unwrap();
}

async fn no_more_cursors_wait_than_may(database: &Database) {
    let store = database
        .store_with(|options| {
            options.max_pending_cursors = 2;
            options.cursor_interval = Duration::from_secs(3600);
        })
        .await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    let advance = |user| store.advance(Cursor { user, conversation: pair, seq: Seq(1) });
    advance(bob);
    assert_eq!(store.stats().pending_cursors, 1);
    // The second fills the list, and is a reason to write it at once. Whether a third finds room depends on the moment.
    advance(ada);
    until("they are written before their interval", || store.stats().pending_cursors == 0).await;
    store.flush_cursors().await.unwrap();
    assert!(store.unread(ada).await.unwrap().is_empty() && store.unread(bob).await.unwrap().is_empty());

    let eve = user(&store, "eve").await;
    let lock = database.lock_messages();
    advance(ada);
    advance(bob);
    let dropped = loop {
        advance(eve);
        advance(ada);
        advance(bob);
        if store.stats().cursors_dropped > 0 || store.stats().pending_cursors < 2 {
            break store.stats().cursors_dropped;
        }
    };
    assert!(store.stats().pending_cursors <= 2, "{dropped} were dropped");
    drop(lock);
}

async fn a_deadline_ends_the_wait(database: &Database) {
    let store = database.store_with(|options| options.deadline = Duration::from_millis(300)).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    let lock = database.lock_messages();
    let calls: Vec<_> = (0..3).map(|_| store.append_one(message(pair, ada, "late"))).collect();
    for call in calls {
        let error = call.await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)) && error.is_retryable(), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }
    drop(lock);
    until("the lock is gone", || database.number("SELECT COUNT(*) FROM message") == 1).await;
    // It had not been acknowledged; and it was not stored after all.
    assert_eq!(say(&store, pair, ada, "next").await, Seq(2));
    assert!(store.stats().failures >= 1);
}

async fn what_waits_is_committed_at_the_end(database: &Database) {
    let store = database.store_with(|options| options.cursor_interval = Duration::from_secs(3600)).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    let calls: Vec<_> = (0..50).map(|_| store.append_one(message(pair, ada, "x"))).collect();
    store.advance(Cursor { user: bob, conversation: pair, seq: Seq(50) });
    store.close(Duration::from_secs(60)).await.unwrap();
    for call in calls {
        call.await.unwrap();
    }
    assert!(matches!(store.append_one(message(pair, ada, "x")).await, Err(StoreError::Closed)));
    assert!(matches!(store.users(&[ada]).await, Err(StoreError::Closed)));
    assert!(matches!(store.flush_cursors().await, Err(StoreError::Closed)));
    assert!(matches!(store.append(vec![message(pair, ada, "x")]).await[0], Err(StoreError::Closed)));
    store.advance(Cursor { user: ada, conversation: pair, seq: Seq(50) });
    assert!(matches!(store.close(Duration::from_secs(60)).await, Err(StoreError::Closed)), "once");

    let store = database.store().await;
    assert_eq!(store.last_seqs(&[pair]).await.unwrap(), [(pair, Seq(50))]);
    assert!(store.unread(bob).await.unwrap().is_empty());
    assert_eq!(store.unread(ada).await.unwrap().len(), 1, "what comes after the end is not noted");
}

async fn an_end_that_takes_too_long_is_told(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "x").await;
    let lock = database.lock_messages();
    let call = store.append_one(message(pair, ada, "x"));
    let error = store.close(Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(matches!(call.await, Err(StoreError::Closed)), "who waits is told");
    drop(lock);
}

async fn a_limit_of_nothing_is_refused(database: &Database) {
    for change in [
        (|options| options.max_batch = 0) as fn(&mut StoreOptions),
        |options| options.max_pending = 0,
        |options| options.committers = 0,
        |options| options.pool.max_size = 0,
    ] {
        let mut options = StoreOptions::default();
        change(&mut options);
        let error = Store::open(&database.config, options).await.unwrap_err().to_string();
        assert!(error.contains(": is 0, must be 1 or more"), "{error}");
    }
}

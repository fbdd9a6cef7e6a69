//! Registering, finding, opening.

use std::time::Duration;

use chat_server::config;
use chat_server::store::{Refusal, Store, StoreOptions, UserId};

use super::support::{Database, refused, user};

over_both! {
    a_registered_user_is_found
    a_name_belongs_to_one
    a_name_is_text_and_not_sql
    a_new_password_ends_the_tokens
    a_renewed_hash_ends_nothing
    nodes_may_start_together
    a_database_of_a_later_version_is_refused
    everything_is_still_there_after_a_restart
}

async fn a_registered_user_is_found(database: &Database) {
    let store = database.store().await;
    let ada = store.register("Ada", "hash of ada").await.unwrap();
    let bob = store.register("bob", "hash of bob").await.unwrap();
    assert_ne!(ada, bob);

    let found = store.credentials(ada).await.unwrap().unwrap();
    assert_eq!((found.user.id, &*found.user.name, &*found.password_hash), (ada, "Ada", "hash of ada"));
    assert_eq!(store.credentials_by_name("aDA").await.unwrap().unwrap(), found);
    assert_eq!(store.user_by_name("BOB").await.unwrap().unwrap().id, bob);
    assert!(!format!("{found:?}").contains("hash of ada"), "a hash is not for logs");

    let nobody = UserId::new(bob.get() + 1).unwrap();
    assert_eq!(store.credentials(nobody).await.unwrap(), None);
    assert_eq!(store.user_by_name("nobody").await.unwrap(), None);
    let mut users = store.users(&[bob, nobody, ada, bob]).await.unwrap();
    users.sort_by_key(|user| user.id);
    assert_eq!(users.iter().map(|user| &*user.name).collect::<Vec<_>>(), ["Ada", "bob"]);
    assert_eq!(refused(store.overview(nobody).await), Refusal::UnknownUser);
}

async fn a_name_belongs_to_one(database: &Database) {
    let nodes = [database.store().await, database.store().await];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..12 {
        let store = nodes[i % 2].clone();
        tasks.spawn(async move { store.register(["ADA", "ada", "ada"][i % 3], &format!("hash {i}")).await });
    }
    let results = tasks.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "{won:?}");
    assert!(lost.into_iter().all(|result| refused(result) == Refusal::NameTaken));
    assert_eq!(database.number("SELECT COUNT(*) FROM user"), 1);
}

async fn a_name_is_text_and_not_sql(database: &Database) {
    let store = database.store().await;
    let names = [
        "'; DROP TABLE user; --",
        "\\",
        "\" OR 1=1",
        "%",
        "_",
        "?",
        "😀",
        "😁",
        "\u{10fffd}",
        "Straße",
        "{keys}",
        "ада",
    ];
    for name in names {
        let id = user(&store, name).await;
        assert_eq!(store.credentials(id).await.unwrap().unwrap().user.name, name);
        assert_eq!(store.user_by_name(name).await.unwrap().unwrap().id, id, "{name}");
        let group = store.create_group(id, name, name).await.unwrap();
        let groups = store.groups(id).await.unwrap();
        assert_eq!((groups[0].id, &*groups[0].name, &*groups[0].description), (group, name, name));
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM user"), names.len() as i64);
    for bad in ["", " x", "x\0", &"x".repeat(51)] {
        assert_eq!(refused(store.register(bad, "hash").await), Refusal::InvalidName, "{bad:?}");
    }
    let longest = "😀".repeat(50);
    let id = user(&store, &longest).await;
    assert_eq!(store.users(&[id]).await.unwrap()[0].name, longest);
}

async fn a_new_password_ends_the_tokens(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let token = store.issue_token(ada, Duration::from_secs(60)).await.unwrap();
    store.set_password(ada, "another hash").await.unwrap();
    assert_eq!(store.credentials(ada).await.unwrap().unwrap().password_hash, "another hash");
    assert_eq!(store.check_token(token.as_str()).await.unwrap(), None);
    let nobody = UserId::new(ada.get() + 1).unwrap();
    assert_eq!(refused(store.set_password(nobody, "x").await), Refusal::UnknownUser);
    // The same hash again is no change, and no error either.
    store.set_password(ada, "another hash").await.unwrap();
}

async fn a_renewed_hash_ends_nothing(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let token = store.issue_token(ada, Duration::from_secs(60)).await.unwrap();
    store.rehash_password(ada, "not the present one", "x").await.unwrap();
    assert_eq!(store.credentials(ada).await.unwrap().unwrap().password_hash, "hash");
    store.rehash_password(ada, "hash", "renewed").await.unwrap();
    assert_eq!(store.credentials(ada).await.unwrap().unwrap().password_hash, "renewed");
    assert!(store.check_token(token.as_str()).await.unwrap().is_some());
}

async fn nodes_may_start_together(database: &Database) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let config = database.config.clone();
        tasks.spawn(async move { Store::open(&config, StoreOptions::default()).await.map(drop) });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    let applied = database.number("SELECT COUNT(*) FROM refinery_schema_history");
    assert_eq!(applied, if database.is_mysql() { 10 } else { 12 }, "each file once");
    user(&database.store().await, "ada").await;
}

async fn a_database_of_a_later_version_is_refused(database: &Database) {
    drop(database.store().await);
    database.execute(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
         VALUES (999, 'from_the_future', '2030-01-01T00:00:00Z', '1')",
    );
    let error = Store::open(&database.config, StoreOptions::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("from_the_future") && !text.contains('\n'), "{text}");
    assert!(!error.is_retryable());
}

async fn everything_is_still_there_after_a_restart(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    store.close(Duration::from_secs(10)).await.unwrap();
    drop(store);
    let store = database.store().await;
    assert_eq!(store.user_by_name("ada").await.unwrap().unwrap().id, ada);
    let version = store.version().await.unwrap();
    assert_eq!(version.starts_with("SQLite 3."), !database.is_mysql(), "{version}");
    // A clock that is off by a year would be another bug, and 2020 is past.
    assert!(store.ping().await.unwrap().0 > 1_577_836_800_000);
}

#[test]
fn it_works_in_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&config::Database::SqliteMemory, StoreOptions::default()).await.unwrap();
        let ada = user(&store, "ada").await;
        let (one, other) = tokio::join!(store.register("bob", "hash"), store.credentials(ada));
        assert!(one.is_ok() && other.unwrap().is_some());
        let another = Store::open(&config::Database::SqliteMemory, StoreOptions::default()).await.unwrap();
        assert_eq!(another.user_by_name("ada").await.unwrap(), None, "it has a database of its own");
    });
}

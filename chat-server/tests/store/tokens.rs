//! Resume tokens.

use std::time::Duration;

use chat_server::store::{Refusal, UserId};

use super::support::{Database, refused, two_users, user};

over_both! {
    a_token_names_its_owner
    a_token_ends
    a_token_is_extended_while_it_is_good
    a_user_has_a_few_tokens
}

const HOUR: Duration = Duration::from_secs(3600);

async fn a_token_names_its_owner(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    let (of_ada, of_bob) = (here.issue_token(ada, HOUR).await.unwrap(), here.issue_token(bob, HOUR).await.unwrap());
    assert_ne!(of_ada.as_str(), of_bob.as_str());
    // Any number of times, on any node.
    for _ in 0..2 {
        let owner = there.check_token(of_ada.as_str()).await.unwrap().unwrap();
        assert_eq!((owner.user.id, &*owner.user.name, owner.until), (ada, "ada", of_ada.until));
    }
    let left = of_ada.until.0 - here.ping().await.unwrap().0;
    assert!(left <= 3_600_000 && left > 3_000_000, "{left} ms are left of an hour");
    for nobodys in ["", "x", &"0".repeat(64), "' OR 1=1 --", &of_ada.as_str().to_uppercase()] {
        assert_eq!(there.check_token(nobodys).await.unwrap(), None, "{nobodys}");
    }
    let kept = format!("SELECT COUNT(*) FROM resume_token WHERE token_hash = '{}'", of_ada.as_str());
    assert_eq!(database.number(&kept), 0, "the database does not know the token itself");
    assert_eq!(refused(here.issue_token(UserId::new(99).unwrap(), HOUR).await), Refusal::UnknownUser);
}

async fn a_token_ends(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let (revoked, expired) = (store.issue_token(ada, HOUR).await.unwrap(), store.issue_token(ada, HOUR).await.unwrap());
    store.revoke_token(revoked.as_str()).await.unwrap();
    store.revoke_token(revoked.as_str()).await.unwrap();
    store.revoke_token("nonsense").await.unwrap();
    assert_eq!(store.check_token(revoked.as_str()).await.unwrap(), None);
    assert!(store.check_token(expired.as_str()).await.unwrap().is_some());
    database.execute("UPDATE resume_token SET expires_at = 1");
    assert_eq!(store.check_token(expired.as_str()).await.unwrap(), None);
    assert_eq!(database.number("SELECT COUNT(*) FROM resume_token"), 1);
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM resume_token"), 0);
}

async fn a_token_is_extended_while_it_is_good(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let (kept, over) = (store.issue_token(ada, HOUR).await.unwrap(), store.issue_token(ada, HOUR).await.unwrap());
    let until = store.extend_token(kept.as_str(), HOUR * 2).await.unwrap().unwrap();
    assert!(until.0 >= kept.until.0 + 3_600_000, "{until:?}");
    assert_eq!(store.check_token(kept.as_str()).await.unwrap().unwrap().until, until);
    assert_eq!(
        store.check_token(over.as_str()).await.unwrap().unwrap().until,
        over.until,
        "the other one stays as it is"
    );
    database.execute("UPDATE resume_token SET expires_at = 1");
    assert_eq!(store.extend_token(over.as_str(), HOUR).await.unwrap(), None, "what is over does not come back");
    store.revoke_token(kept.as_str()).await.unwrap();
    for nobodys in [kept.as_str(), "nonsense"] {
        assert_eq!(store.extend_token(nobodys, HOUR).await.unwrap(), None);
    }
}

async fn a_user_has_a_few_tokens(database: &Database) {
    let store = database.store_with(|options| options.max_tokens = 2).await;
    let (ada, bob) = two_users(&store).await;
    let of_bob = store.issue_token(bob, HOUR).await.unwrap();
    let mut tokens = Vec::new();
    for hours in 1..=4 {
        tokens.push(store.issue_token(ada, HOUR * hours).await.unwrap());
    }
    let mut good = Vec::new();
    for token in &tokens {
        good.push(store.check_token(token.as_str()).await.unwrap().is_some());
    }
    assert_eq!(good, [false, false, true, true], "the eldest went");
    assert!(store.check_token(of_bob.as_str()).await.unwrap().is_some(), "another user's stay");
}

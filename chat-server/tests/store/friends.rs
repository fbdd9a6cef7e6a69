//! Friends and requests.

use chat_server::store::{Friend, Friendship, Refusal, Store, UserId};

use super::support::{Database, refused, two_users, user};

over_both! {
    a_request_is_accepted
    a_request_is_rejected_and_a_friendship_ends
    what_makes_no_sense_is_refused
    two_who_ask_each_other_at_once_are_friends
    a_list_has_an_end
}

async fn friendship(store: &Store, user: UserId, other: UserId) -> Option<Friendship> {
    let friends: Vec<Friend> = store.friends(user).await.unwrap();
    friends.into_iter().find(|friend| friend.user.id == other).map(|friend| friend.friendship)
}

async fn a_request_is_accepted(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    assert_eq!(store.add_friend(ada, bob).await.unwrap(), Friendship::Asked);
    assert_eq!(friendship(&store, ada, bob).await, Some(Friendship::Asked));
    assert_eq!(friendship(&store, bob, ada).await, Some(Friendship::AskedBy));
    store.accept_friend(bob, ada).await.unwrap();
    assert_eq!(friendship(&store, ada, bob).await, Some(Friendship::Mutual));
    assert_eq!(friendship(&store, bob, ada).await, Some(Friendship::Mutual));

    // To add who has asked is to accept.
    store.add_friend(eve, ada).await.unwrap();
    assert_eq!(store.add_friend(ada, eve).await.unwrap(), Friendship::Mutual);
    let friends = store.friends(ada).await.unwrap();
    assert_eq!(friends.iter().map(|friend| &*friend.user.name).collect::<Vec<_>>(), ["bob", "eve"], "by number");
    assert!(friends.iter().all(|friend| !friend.is_online));
    assert_eq!(store.overview(ada).await.unwrap().friends, friends);
}

async fn a_request_is_rejected_and_a_friendship_ends(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    store.add_friend(ada, bob).await.unwrap();
    assert_eq!(store.remove_friend(bob, ada).await.unwrap(), Friendship::AskedBy, "a rejection");
    assert!(store.friends(ada).await.unwrap().is_empty() && store.friends(bob).await.unwrap().is_empty());
    store.add_friend(ada, bob).await.unwrap();
    assert_eq!(store.remove_friend(ada, bob).await.unwrap(), Friendship::Asked, "taken back");
    store.add_friend(ada, bob).await.unwrap();
    store.add_friend(bob, ada).await.unwrap();
    assert_eq!(store.remove_friend(ada, bob).await.unwrap(), Friendship::Mutual);
    assert_eq!(friendship(&store, bob, ada).await, None, "it ends for both");
}

async fn what_makes_no_sense_is_refused(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let nobody = UserId::new(bob.get() + 1).unwrap();
    assert_eq!(refused(store.add_friend(ada, ada).await), Refusal::Oneself);
    assert_eq!(refused(store.add_friend(ada, nobody).await), Refusal::UnknownUser);
    assert_eq!(refused(store.accept_friend(ada, bob).await), Refusal::NotFriend);
    assert_eq!(refused(store.remove_friend(ada, bob).await), Refusal::NotFriend);
    store.add_friend(ada, bob).await.unwrap();
    assert_eq!(refused(store.add_friend(ada, bob).await), Refusal::AlreadyFriend);
    assert_eq!(refused(store.accept_friend(ada, bob).await), Refusal::NotFriend, "the request is his own");
    store.accept_friend(bob, ada).await.unwrap();
    assert_eq!(refused(store.accept_friend(bob, ada).await), Refusal::AlreadyFriend);
    assert_eq!(database.number("SELECT COUNT(*) FROM friend"), 2);
}

async fn two_who_ask_each_other_at_once_are_friends(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    for _ in 0..10 {
        let (one, other) = tokio::join!(here.add_friend(ada, bob), there.add_friend(bob, ada));
        let mut outcomes = [one.unwrap(), other.unwrap()];
        outcomes.sort_by_key(|friendship| *friendship == Friendship::Mutual);
        assert_eq!(outcomes, [Friendship::Asked, Friendship::Mutual], "one asks and the other accepts");
        here.remove_friend(ada, bob).await.unwrap();
    }
}

async fn a_list_has_an_end(database: &Database) {
    let store = database.store_with(|options| options.max_friends = 2).await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "eve", "kim"] {
        users.push(user(&store, name).await);
    }
    let &[ada, bob, eve, kim] = &*users else { unreachable!() };
    store.add_friend(ada, bob).await.unwrap();
    store.add_friend(ada, eve).await.unwrap();
    assert_eq!(refused(store.add_friend(ada, kim).await), Refusal::Full("friends"));
    store.add_friend(bob, eve).await.unwrap();
    assert_eq!(refused(store.add_friend(kim, eve).await), Refusal::Full("requests"));
    store.remove_friend(eve, bob).await.unwrap();
    store.add_friend(kim, eve).await.unwrap();
}

//! What many ask at the same moment is asked of the database together.

use std::time::Duration;

use chat_server::store::{Conversation, Seq, Store, Unread, UserId};
use futures_util::future::{join, join_all};

use super::support::{Database, say, user};

over_both! {
    each_who_asks_with_others_gets_his_own_answer
    an_answer_is_not_older_than_its_question
}

const USERS: usize = 40;

/// Users in a ring, each with two friends, his neighbours, and a third who only asked.
async fn ring(store: &Store) -> Vec<UserId> {
    let mut users = Vec::new();
    for number in 0..USERS {
        users.push(user(store, &format!("user {number}")).await);
    }
    for (at, user) in users.iter().enumerate() {
        let (next, far) = (users[(at + 1) % USERS], users[(at + 5) % USERS]);
        store.add_friend(*user, next).await.unwrap();
        store.accept_friend(next, *user).await.unwrap();
        store.add_friend(*user, far).await.unwrap();
        // Each is told something by the one before him.
        for _ in 0..=at {
            say(store, Conversation::direct(*user, next), *user, "hello").await;
        }
    }
    users
}

async fn each_who_asks_with_others_gets_his_own_answer(database: &Database) {
    let store = database.store().await;
    let users = ring(&store).await;
    let mut tokens = Vec::new();
    for user in &users {
        tokens.push(store.issue_token(*user, Duration::from_secs(3600)).await.unwrap());
    }
    let nobodys = "0".repeat(64);
    let before = store.stats().loans;

    // Everything twice, for two devices of one user may come back at once, and once for nobody.
    let checks = tokens.iter().chain(&tokens).map(|token| store.check_token(token.as_str()));
    let owners = join(join_all(checks), store.check_token(&nobodys));
    let unread = join_all(users.iter().chain(&users).map(|user| store.unread(*user)));
    let friends = join_all(users.iter().chain(&users).map(|user| store.mutual_friends(*user)));
    let stranger = UserId::new(1 + users[USERS - 1].get()).unwrap();
    let strangers = join(store.unread(stranger), store.mutual_friends(stranger));
    let (((owners, nobody), unread), (friends, (no_unread, no_friends))) =
        join(join(owners, unread), join(friends, strangers)).await;

    for (at, user) in users.iter().enumerate().flat_map(|it| [it, (it.0 + USERS, it.1)]) {
        let (place, (before, after)) = (at % USERS, (users[(at + USERS - 1) % USERS], users[(at + 1) % USERS]));
        let owner = owners[at].as_ref().unwrap().as_ref().unwrap();
        assert_eq!((owner.user.id, owner.until), (*user, tokens[place].until));
        assert_eq!(*owner.user.name, *format!("user {place}"));
        let mut expected = [before, after];
        expected.sort_unstable();
        assert_eq!(*friends[at].as_ref().unwrap(), expected, "{place}");
        // What he said himself counts too, for his other devices.
        let heard = Conversation::direct(before, *user);
        let said = Conversation::direct(*user, after);
        let counts = [(heard, if place == 0 { USERS } else { place }), (said, place + 1)];
        let waiting = unread[at].as_ref().unwrap();
        assert_eq!(waiting.len(), 2, "{waiting:?}");
        for (conversation, last) in counts {
            let expected = Unread { conversation, seen: Seq(0), last: Seq(last as u64) };
            assert!(waiting.contains(&expected), "{expected:?} is not in {waiting:?}");
        }
    }
    assert_eq!(nobody.unwrap(), None);
    assert!(no_unread.unwrap().is_empty() && no_friends.unwrap().is_empty());

    // What came while one was asked went together. How many that are is up to the threads, but not nearly each alone.
    let loans = store.stats().loans - before;
    let questions = 6 * USERS as u64 + 3;
    assert!(loans * 4 < questions, "{questions} questions took {loans} loans");
}

async fn an_answer_is_not_older_than_its_question(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let users = ring(&here).await;
    let (one, other) = (users[0], users[1]);
    for _ in 0..20 {
        // Others keep the lanes busy with what was asked before.
        let crowd = join_all(users.iter().map(|user| join(here.unread(*user), here.mutual_friends(*user))));
        let (_, ()) = join(crowd, async {
            there.remove_friend(one, other).await.unwrap();
            assert!(!here.mutual_friends(one).await.unwrap().contains(&other));
            there.add_friend(one, other).await.unwrap();
            there.accept_friend(other, one).await.unwrap();
            assert!(here.mutual_friends(one).await.unwrap().contains(&other));
            let seq = say(&there, Conversation::direct(one, other), one, "more").await;
            let unread = here.unread(other).await.unwrap();
            assert!(unread.iter().any(|it| it.last == seq), "{unread:?}");
        })
        .await;
    }
}

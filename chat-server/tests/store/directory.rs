//! Nodes, leases and claims.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_server::store::{
    Claim, ClaimPolicy, Claimed, Incarnation, Location, NodeLease, Refusal, SessionId, Store, UserId,
};

use super::support::{Database, expire, refused, two_users, user};

over_both! {
    a_claim_says_where_a_user_is
    a_second_login_displaces_the_first
    a_second_login_can_be_refused_while_the_first_ones_node_lives
    of_claims_at_the_same_moment_one_wins
    claims_at_the_same_moment_displace_each_other_in_turn
    a_dead_node_locks_nobody_out
    a_node_that_is_replaced_is_fenced
    starts_at_the_same_moment_get_numbers_of_their_own
    a_node_that_overslept_learns_what_it_lost
    a_node_that_ends_gives_everyone_back
    a_node_sees_its_sessions_by_and_by
    a_node_that_is_long_gone_is_swept_up
    claims_and_releases_in_one_breath
    friends_and_members_are_seen_online
}

const LEASE: Duration = Duration::from_secs(3600);

fn at(lease: NodeLease, session: u64) -> Location {
    Location { lease, session: SessionId(session) }
}

async fn claim(store: &Store, user: UserId, location: Location) -> Claimed {
    store.claim(Claim { user, location, policy: ClaimPolicy::Displace }).await.unwrap()
}

async fn where_is(store: &Store, user: UserId) -> Option<Location> {
    store.where_are(&[user]).await.unwrap().first().map(|(_, location)| *location)
}

const FREE: Claimed = Claimed::Yes { displaced: None };

async fn a_claim_says_where_a_user_is(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    let lease = here.register_node("north", LEASE).await.unwrap();
    assert_eq!(
        there.nodes().await.unwrap().iter().map(|node| (&*node.name, node.lease)).collect::<Vec<_>>(),
        [("north", lease)]
    );
    assert_eq!(where_is(&there, ada).await, None);
    let place = at(lease, u64::MAX);
    assert_eq!(claim(&here, ada, place).await, FREE);
    assert_eq!(there.where_are(&[bob, ada, ada]).await.unwrap(), [(ada, place)]);
    assert!(here.release(ada, place).await.unwrap());
    assert!(!here.release(ada, place).await.unwrap(), "it is released already");
    assert_eq!(where_is(&there, ada).await, None);
    let nobody = UserId::new(99).unwrap();
    let unknown = Claim { user: nobody, location: place, policy: ClaimPolicy::Displace };
    assert_eq!(refused(here.claim(unknown).await), Refusal::UnknownUser);
    assert_eq!(refused(here.register_node("", LEASE).await), Refusal::InvalidName);
    assert_eq!(refused(here.register_node(&"x".repeat(65), LEASE).await), Refusal::InvalidName);
}

async fn a_second_login_displaces_the_first(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let ada = user(&here, "ada").await;
    let (north, south) =
        (here.register_node("north", LEASE).await.unwrap(), there.register_node("south", LEASE).await.unwrap());
    assert_ne!(north.node, south.node);
    claim(&here, ada, at(north, 1)).await;
    assert_eq!(claim(&there, ada, at(south, 1)).await, Claimed::Yes { displaced: Some(at(north, 1)) });
    assert_eq!(
        claim(&there, ada, at(south, 2)).await,
        Claimed::Yes { displaced: Some(at(south, 1)) },
        "on the same node"
    );
    assert_eq!(claim(&there, ada, at(south, 2)).await, FREE, "the same claim again displaces nobody");
    assert!(!here.release(ada, at(north, 1)).await.unwrap(), "who was displaced leaves his successor alone");
    assert_eq!(where_is(&here, ada).await, Some(at(south, 2)));
}

async fn a_second_login_can_be_refused_while_the_first_ones_node_lives(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let (north, south) =
        (store.register_node("north", LEASE).await.unwrap(), store.register_node("south", LEASE).await.unwrap());
    let refusing = |location| store.claim(Claim { user: ada, location, policy: ClaimPolicy::Refuse });
    assert_eq!(refusing(at(north, 1)).await.unwrap(), FREE);
    let until = store.nodes().await.unwrap()[0].until;
    assert_eq!(refusing(at(south, 1)).await.unwrap(), Claimed::InUse { by: at(north, 1), until });
    assert_eq!(refusing(at(north, 1)).await.unwrap(), FREE, "the same session again is no second one");
    expire(database, north);
    assert_eq!(refusing(at(south, 1)).await.unwrap(), FREE);
}

/// Four nodes, with a store each.
async fn four(database: &Database) -> Vec<(Store, NodeLease)> {
    let mut nodes = Vec::new();
    for i in 0..4 {
        let store = database.store().await;
        let lease = store.register_node(&format!("node {i}"), LEASE).await.unwrap();
        nodes.push((store, lease));
    }
    nodes
}

async fn of_claims_at_the_same_moment_one_wins(database: &Database) {
    let nodes = four(database).await;
    for round in 0..8 {
        let ada = user(&nodes[0].0, &format!("user {round}")).await;
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (store, lease) = nodes[i % 4].clone();
            let location = at(lease, i as u64);
            tasks.spawn(async move {
                let claimed = store.claim(Claim { user: ada, location, policy: ClaimPolicy::Refuse }).await.unwrap();
                (location, claimed)
            });
        }
        let results = tasks.join_all().await;
        let winners: Vec<Location> =
            results.iter().filter(|(_, claimed)| *claimed == FREE).map(|(location, _)| *location).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(where_is(&nodes[3].0, ada).await, Some(winners[0]));
        let by_winner = |claimed: &Claimed| matches!(claimed, Claimed::InUse { by, .. } if *by == winners[0]);
        assert_eq!(results.iter().filter(|(_, claimed)| by_winner(claimed)).count(), 11);
    }
}

async fn claims_at_the_same_moment_displace_each_other_in_turn(database: &Database) {
    let nodes = four(database).await;
    let ada = user(&nodes[0].0, "ada").await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..40 {
        let (store, lease) = nodes[i % 4].clone();
        tasks.spawn(async move { (at(lease, i as u64), claim(&store, ada, at(lease, i as u64)).await) });
    }
    let mut displaced = BTreeSet::new();
    let mut claimed = BTreeSet::new();
    for (location, answer) in tasks.join_all().await {
        claimed.insert(location.session.0);
        if let Claimed::Yes { displaced: Some(other) } = answer {
            assert!(displaced.insert(other.session.0), "{other:?} was displaced twice");
        }
    }
    let last: Vec<u64> = claimed.difference(&displaced).copied().collect();
    assert_eq!(last.len(), 1, "all but the last one were displaced, each by one other: {last:?}");
    assert_eq!(where_is(&nodes[0].0, ada).await.unwrap().session.0, last[0]);
}

async fn a_dead_node_locks_nobody_out(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let (dead, living) =
        (store.register_node("dead", LEASE).await.unwrap(), store.register_node("living", LEASE).await.unwrap());
    claim(&store, ada, at(dead, 1)).await;
    expire(database, dead);
    assert_eq!(where_is(&store, ada).await, None, "nobody is where no node is");
    assert_eq!(store.nodes().await.unwrap().len(), 1);
    assert_eq!(claim(&store, ada, at(living, 1)).await, FREE, "a ghost is not displaced");
    let late = Claim { user: bob, location: at(dead, 2), policy: ClaimPolicy::Displace };
    assert_eq!(refused(store.claim(late).await), Refusal::Fenced);
    assert_eq!(where_is(&store, bob).await, None);
}

async fn a_node_that_is_replaced_is_fenced(database: &Database) {
    let (old, new) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&old).await;
    let before = old.register_node("north", LEASE).await.unwrap();
    claim(&old, ada, at(before, 1)).await;
    let after = new.register_node("north", LEASE).await.unwrap();
    assert_eq!((after.node, after.incarnation), (before.node, Incarnation(before.incarnation.0 + 1)));

    assert_eq!(where_is(&new, ada).await, None, "its sessions went with it");
    assert_eq!(refused(old.refresh_lease(before, LEASE).await), Refusal::Fenced);
    let late = Claim { user: bob, location: at(before, 2), policy: ClaimPolicy::Displace };
    assert_eq!(refused(old.claim(late).await), Refusal::Fenced);
    assert_eq!(refused(old.verify_sessions(before, &[(ada, SessionId(1))]).await), Refusal::Fenced);
    claim(&new, ada, at(after, 1)).await;
    assert_eq!(old.release_all(before).await.unwrap(), 0, "the ghost's end does not end its successor's sessions");
    assert!(!old.release(ada, at(before, 1)).await.unwrap());
    assert_eq!(where_is(&old, ada).await, Some(at(after, 1)));
    assert!(new.refresh_lease(after, LEASE).await.is_ok());
}

async fn starts_at_the_same_moment_get_numbers_of_their_own(database: &Database) {
    let nodes = [database.store().await, database.store().await, database.store().await];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..9 {
        let store = nodes[i % 3].clone();
        tasks.spawn(async move { store.register_node("north", LEASE).await.unwrap() });
    }
    let leases = tasks.join_all().await;
    let incarnations: BTreeSet<u64> = leases.iter().map(|lease| lease.incarnation.0).collect();
    assert_eq!(incarnations.len(), 9);
    let newest = *incarnations.last().unwrap();
    assert_eq!(nodes[0].nodes().await.unwrap()[0].lease.incarnation.0, newest);
    for lease in leases {
        let refreshed = nodes[0].refresh_lease(lease, LEASE).await;
        assert_eq!(refreshed.is_ok(), lease.incarnation.0 == newest);
    }
}

async fn a_node_that_overslept_learns_what_it_lost(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let (sleeper, other) =
        (store.register_node("sleeper", LEASE).await.unwrap(), store.register_node("other", LEASE).await.unwrap());
    claim(&store, ada, at(sleeper, 1)).await;
    claim(&store, bob, at(sleeper, 2)).await;
    expire(database, sleeper);
    let sessions = [(ada, SessionId(1)), (bob, SessionId(2))];
    assert_eq!(refused(store.verify_sessions(sleeper, &sessions).await), Refusal::Fenced, "not before it has a lease");
    claim(&store, ada, at(other, 1)).await;
    let renewal = store.refresh_lease(sleeper, LEASE).await.unwrap();
    assert!(renewal.had_run_out && renewal.until > store.ping().await.unwrap());
    assert!(!store.refresh_lease(sleeper, LEASE).await.unwrap().had_run_out);
    assert_eq!(store.verify_sessions(sleeper, &sessions).await.unwrap(), [(bob, SessionId(2))]);
    assert_eq!((where_is(&store, ada).await, where_is(&store, bob).await), (Some(at(other, 1)), Some(at(sleeper, 2))));
}

async fn a_node_that_ends_gives_everyone_back(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let (north, south) =
        (store.register_node("north", LEASE).await.unwrap(), store.register_node("south", LEASE).await.unwrap());
    claim(&store, ada, at(north, 1)).await;
    claim(&store, bob, at(south, 1)).await;
    assert_eq!(store.release_all(north).await.unwrap(), 1);
    assert_eq!((where_is(&store, ada).await, where_is(&store, bob).await), (None, Some(at(south, 1))));
    assert_eq!(store.nodes().await.unwrap().len(), 1);
    assert_eq!(store.release_all(north).await.unwrap(), 0);
}

async fn a_node_sees_its_sessions_by_and_by(database: &Database) {
    let store = database.store().await;
    let former = store.register_node("north", LEASE).await.unwrap();
    let other = store.register_node("south", LEASE).await.unwrap();
    let mut users = Vec::new();
    for number in 0..5 {
        users.push(user(&store, &format!("user {number}")).await);
    }
    claim(&store, users[0], at(former, 7)).await;
    claim(&store, users[1], at(other, 7)).await;
    assert_eq!(store.claimed_sessions(former, None, 9).await.unwrap(), [(users[0], SessionId(7))]);
    let lease = store.register_node("north", LEASE).await.unwrap();
    assert_eq!(store.claimed_sessions(former, None, 9).await.unwrap(), [], "a later start has taken them away");
    for (number, user) in users.iter().enumerate().skip(2) {
        claim(&store, *user, at(lease, number as u64)).await;
    }
    // Also when nobody believes them.
    expire(database, lease);
    let page = store.claimed_sessions(lease, None, 2).await.unwrap();
    assert_eq!(page, [(users[2], SessionId(2)), (users[3], SessionId(3))]);
    assert_eq!(store.claimed_sessions(lease, Some(users[3]), 2).await.unwrap(), [(users[4], SessionId(4))]);
    assert_eq!(store.claimed_sessions(lease, Some(users[4]), 2).await.unwrap(), []);
}

async fn a_node_that_is_long_gone_is_swept_up(database: &Database) {
    let store = database.store().await;
    let ada = user(&store, "ada").await;
    let (gone, living) =
        (store.register_node("gone", LEASE).await.unwrap(), store.register_node("living", LEASE).await.unwrap());
    claim(&store, ada, at(gone, 1)).await;
    assert_eq!(store.sweep().await.unwrap(), 0);
    expire(database, gone);
    assert_eq!(store.sweep().await.unwrap(), 2, "the node and its session");
    assert_eq!(refused(store.refresh_lease(gone, LEASE).await), Refusal::Fenced);
    let again = store.register_node("gone", LEASE).await.unwrap();
    assert_ne!(again.node, gone.node, "so its ghost stays fenced");
    assert!(store.refresh_lease(living, LEASE).await.is_ok());
}

async fn claims_and_releases_in_one_breath(database: &Database) {
    let store = database.store().await;
    let lease = store.register_node("north", LEASE).await.unwrap();
    let mut users = Vec::new();
    for i in 0..40 {
        users.push(user(&store, &format!("user {i}")).await);
    }
    // Queued in this order, so they are done in this order, however they fall into batches.
    let mut claims = Vec::new();
    let mut releases = Vec::new();
    for user in &users {
        for session in 0..3 {
            let location = at(lease, session);
            claims.push((session, store.claim(Claim { user: *user, location, policy: ClaimPolicy::Displace })));
        }
        releases.push((false, store.release(*user, at(lease, 1))));
        if user.get() % 2 == 0 {
            releases.push((true, store.release(*user, at(lease, 2))));
        }
    }
    for (session, claim) in claims {
        let displaced = session.checked_sub(1).map(|before| at(lease, before));
        assert_eq!(claim.await.unwrap(), Claimed::Yes { displaced });
    }
    for (was_his, release) in releases {
        assert_eq!(release.await.unwrap(), was_his);
    }
    let online: BTreeSet<UserId> = store.where_are(&users).await.unwrap().into_iter().map(|(user, _)| user).collect();
    assert_eq!(online, users.iter().copied().filter(|user| user.get() % 2 == 1).collect());
    assert_eq!(store.stats().pending_claims, 0);
}

async fn friends_and_members_are_seen_online(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    store.add_friend(ada, bob).await.unwrap();
    let group = store.create_group(ada, "g", "").await.unwrap();
    store.join_group(bob, group).await.unwrap();
    let lease = store.register_node("north", LEASE).await.unwrap();
    claim(&store, bob, at(lease, 1)).await;
    let seen = async || {
        let overview = store.overview(ada).await.unwrap();
        let members = store.members(ada, group).await.unwrap();
        assert_eq!(overview.groups[0].1, members);
        (overview.friends[0].is_online, members[0].is_online, members[1].is_online)
    };
    assert_eq!(seen().await, (true, false, true));
    expire(database, lease);
    assert_eq!(seen().await, (false, false, false));
}

//! Groups: who is in them, and what they may do there.

use chat_server::store::{Conversation, GroupId, Left, NewMessage, Page, Refusal, Role, Store, UserId};

use super::support::{Database, message, refused, say, two_users, user};

over_both! {
    a_group_has_its_creator_and_who_joins
    a_group_is_left
    the_creator_is_succeeded
    the_last_one_out_takes_the_group_with_him
    roles_say_who_may_do_what
    what_does_not_exist_is_refused
    a_name_belongs_to_one_group
    groups_have_an_end
    only_members_read_and_write_and_from_their_time_on
    a_kick_holds_from_its_commit_on
}

/// A group of three, in which the first is the creator.
async fn group(store: &Store) -> (GroupId, [UserId; 3]) {
    let users = [user(store, "ada").await, user(store, "bob").await, user(store, "eve").await];
    let group = store.create_group(users[0], "readers", "books and so on").await.unwrap();
    store.join_group(users[1], group).await.unwrap();
    store.join_group(users[2], group).await.unwrap();
    (group, users)
}

async fn roles(store: &Store, by: UserId, group: GroupId) -> Vec<(String, Role)> {
    let members = store.members(by, group).await.unwrap();
    members.into_iter().map(|member| (member.user.name, member.role)).collect()
}

async fn a_group_has_its_creator_and_who_joins(database: &Database) {
    let store = database.store().await;
    let (group, [ada, bob, eve]) = group(&store).await;
    let expected = [("ada".into(), Role::Creator), ("bob".into(), Role::Normal), ("eve".into(), Role::Normal)];
    assert_eq!(roles(&store, eve, group).await, expected);
    assert_eq!(store.member_ids(group).await.unwrap(), [ada, bob, eve]);
    assert_eq!(refused(store.join_group(bob, group).await), Refusal::AlreadyMember);

    let other = store.create_group(bob, "writers", "").await.unwrap();
    let overview = store.overview(bob).await.unwrap();
    assert_eq!(overview.user.name, "bob");
    let groups: Vec<_> = overview.groups.iter().map(|(group, members)| (group.id, group.role, members.len())).collect();
    assert_eq!(groups, [(group, Role::Normal, 3), (other, Role::Creator, 1)]);
    assert_eq!(overview.groups[0].0.description, "books and so on");
    assert_eq!(
        store.groups(bob).await.unwrap(),
        overview.groups.into_iter().map(|(group, _)| group).collect::<Vec<_>>()
    );
}

async fn a_group_is_left(database: &Database) {
    let store = database.store().await;
    let (group, [ada, bob, eve]) = group(&store).await;
    assert_eq!(store.leave_group(bob, group).await.unwrap(), Left { new_creator: None, is_gone: false });
    assert_eq!(store.member_ids(group).await.unwrap(), [ada, eve]);
    assert_eq!(refused(store.leave_group(bob, group).await), Refusal::NotMember);
    assert_eq!(refused(store.members(bob, group).await), Refusal::NotMember);
    store.join_group(bob, group).await.unwrap();
    assert_eq!(store.member_ids(group).await.unwrap(), [ada, bob, eve]);
}

async fn the_creator_is_succeeded(database: &Database) {
    let store = database.store().await;
    let (group, [ada, bob, eve]) = group(&store).await;
    store.set_role(ada, eve, group, Role::Admin).await.unwrap();
    assert_eq!(store.leave_group(ada, group).await.unwrap(), Left { new_creator: Some(eve), is_gone: false });
    assert_eq!(roles(&store, bob, group).await, [("bob".into(), Role::Normal), ("eve".into(), Role::Creator)]);
    assert_eq!(store.leave_group(eve, group).await.unwrap(), Left { new_creator: Some(bob), is_gone: false });
}

async fn the_last_one_out_takes_the_group_with_him(database: &Database) {
    let store = database.store().await;
    let (group, users) = group(&store).await;
    let conversation = Conversation::group(group);
    let pair = Conversation::direct(users[0], users[1]);
    for _ in 0..5 {
        let mut batch: Vec<NewMessage> = (0..300).map(|_| message(conversation, users[0], "x")).collect();
        batch.push(message(pair, users[0], "y"));
        assert!(store.append(batch).await.iter().all(Result::is_ok));
    }
    for user in users {
        let left = store.leave_group(user, group).await.unwrap();
        assert_eq!(left.is_gone, user == users[2]);
    }
    assert_eq!(refused(store.join_group(users[0], group).await), Refusal::UnknownGroup);
    assert_eq!(refused(store.append_one(message(conversation, users[0], "x")).await), Refusal::UnknownGroup);
    assert_eq!(store.unread(users[0]).await.unwrap().len(), 1, "the pair's");

    // Its messages are swept up by and by; another one of the name is another group.
    assert_eq!(store.sweep().await.unwrap(), 1000);
    assert_eq!(store.sweep().await.unwrap(), 500);
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert_eq!(database.number("SELECT COUNT(*) FROM message"), 5, "those of the pair");
    assert_eq!(database.number("SELECT COUNT(*) FROM gone_conversation"), 0);
    if !database.is_mysql() {
        assert_eq!(database.number("SELECT COUNT(DISTINCT conversation) FROM conversation_segment"), 1);
    }
    let again = store.create_group(users[1], "readers", "").await.unwrap();
    assert_ne!(again, group, "a number is never given twice");
}

async fn roles_say_who_may_do_what(database: &Database) {
    let store = database.store().await;
    let (group, [ada, bob, eve]) = group(&store).await;
    assert_eq!(refused(store.kick(bob, eve, group).await), Refusal::NotAllowed);
    assert_eq!(refused(store.set_role(bob, eve, group, Role::Admin).await), Refusal::NotAllowed);
    assert_eq!(refused(store.kick(ada, ada, group).await), Refusal::Oneself);
    assert_eq!(refused(store.set_role(ada, ada, group, Role::Normal).await), Refusal::Oneself);

    store.set_role(ada, bob, group, Role::Admin).await.unwrap();
    assert_eq!(refused(store.kick(bob, ada, group).await), Refusal::NotAllowed);
    store.kick(bob, eve, group).await.unwrap();
    assert_eq!(store.member_ids(group).await.unwrap(), [ada, bob]);
    assert_eq!(refused(store.kick(bob, eve, group).await), Refusal::NotMember);
    assert_eq!(refused(store.set_role(ada, eve, group, Role::Admin).await), Refusal::NotMember);

    store.set_role(ada, bob, group, Role::Creator).await.unwrap();
    assert_eq!(roles(&store, ada, group).await, [("ada".into(), Role::Admin), ("bob".into(), Role::Creator)]);
    store.kick(bob, ada, group).await.unwrap();
}

async fn what_does_not_exist_is_refused(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let (nobody, nothing) = (UserId::new(99).unwrap(), GroupId::new(99).unwrap());
    let group = store.create_group(ada, "g", "").await.unwrap();
    assert_eq!(refused(store.create_group(nobody, "h", "").await), Refusal::UnknownUser);
    assert_eq!(refused(store.join_group(nobody, group).await), Refusal::UnknownUser);
    assert_eq!(refused(store.join_group(ada, nothing).await), Refusal::UnknownGroup);
    assert_eq!(refused(store.leave_group(ada, nothing).await), Refusal::UnknownGroup);
    assert_eq!(refused(store.kick(ada, bob, nothing).await), Refusal::UnknownGroup);
    assert_eq!(refused(store.kick(bob, ada, group).await), Refusal::NotMember);
    assert_eq!(refused(store.members(ada, nothing).await), Refusal::UnknownGroup);
    assert!(store.member_ids(nothing).await.unwrap().is_empty());
    assert_eq!(refused(store.create_group(ada, "", "").await), Refusal::InvalidName);
    assert_eq!(refused(store.create_group(ada, "g", &"x".repeat(201)).await), Refusal::InvalidName);
}

async fn a_name_belongs_to_one_group(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    let (one, other) = tokio::join!(here.create_group(ada, "readers", ""), there.create_group(bob, "READERS", ""));
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(refused(lost), Refusal::NameTaken);
    let group = won.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM chat_group"), 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM participant"), 1, "nothing is left of the other one");
    assert_eq!(here.member_ids(group).await.unwrap().len(), 1);
}

async fn groups_have_an_end(database: &Database) {
    let store = database
        .store_with(|options| {
            options.max_groups = 2;
            options.max_members = 2;
        })
        .await;
    let (group, ada, bob) = {
        let (ada, bob) = two_users(&store).await;
        (store.create_group(ada, "one", "").await.unwrap(), ada, bob)
    };
    let eve = user(&store, "eve").await;
    store.join_group(bob, group).await.unwrap();
    assert_eq!(refused(store.join_group(eve, group).await), Refusal::Full("members"));
    // A pair is no group and does not count.
    say(&store, Conversation::direct(ada, bob), ada, "x").await;
    store.create_group(ada, "two", "").await.unwrap();
    assert_eq!(refused(store.create_group(ada, "three", "").await), Refusal::Full("groups"));
}

async fn only_members_read_and_write_and_from_their_time_on(database: &Database) {
    let store = database.store().await;
    let (group, [ada, bob, eve]) = group(&store).await;
    let conversation = Conversation::group(group);
    let outsider = user(&store, "kim").await;
    say(&store, conversation, ada, "one").await;
    assert_eq!(refused(store.append_one(message(conversation, outsider, "x")).await), Refusal::NotMember);
    assert_eq!(refused(store.history(outsider, conversation, Page::Last, 10).await), Refusal::NotMember);

    store.join_group(outsider, group).await.unwrap();
    assert!(store.unread(outsider).await.unwrap().is_empty(), "what was said before is not unread");
    say(&store, conversation, bob, "two").await;
    let bodies = async |reader| -> Vec<String> {
        let messages = store.history(reader, conversation, Page::Last, 10).await.unwrap();
        messages.into_iter().map(|message| message.body).collect()
    };
    assert_eq!(bodies(outsider).await, ["two"]);
    assert_eq!(bodies(eve).await, ["one", "two"]);
    let unread = store.unread(outsider).await.unwrap();
    assert_eq!((unread.len(), unread[0].seen.0, unread[0].last.0), (1, 1, 2));

    store.leave_group(outsider, group).await.unwrap();
    assert_eq!(refused(store.append_one(message(conversation, outsider, "x")).await), Refusal::NotMember);
    assert!(store.unread(outsider).await.unwrap().is_empty());
}

async fn a_kick_holds_from_its_commit_on(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (group, [ada, bob, _]) = group(&here).await;
    let conversation = Conversation::group(group);
    let writer = tokio::spawn(async move {
        let mut stored = Vec::new();
        loop {
            match there.append_one(message(conversation, bob, "x")).await {
                Ok(receipt) => stored.push(receipt.seq.0),
                Err(error) => return (stored, error.refusal()),
            }
        }
    });
    while here.last_seqs(&[conversation]).await.unwrap()[0].1.0 < 20 {
        tokio::task::yield_now().await;
    }
    here.kick(ada, bob, group).await.unwrap();
    let last = here.last_seqs(&[conversation]).await.unwrap()[0].1.0;
    let (stored, refusal) = writer.await.unwrap();
    assert_eq!(refusal, Some(Refusal::NotMember));
    assert_eq!(stored.last(), Some(&last), "nothing was written after the kick");
    assert_eq!(here.last_seqs(&[conversation]).await.unwrap()[0].1.0, last);
}

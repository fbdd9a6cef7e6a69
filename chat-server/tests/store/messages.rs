//! Messages: stored once, numbered without gaps, read by page.

use std::collections::{BTreeMap, BTreeSet};

use chat_server::store::{
    ClientMessageId, Conversation, Cursor, GroupId, MAX_BODY_BYTES, MAX_PAGE, MAX_TIME_BYTES, Message, NewMessage,
    Page, PageLimit, Receipt, Refusal, Seq, Store, Unread, UserId,
};

use super::support::{Database, message, message_with_id, refused, say, two_users, until, user};

over_both! {
    a_message_is_what_was_said
    the_numbers_have_no_gaps_whoever_counts
    the_order_of_the_calls_is_kept
    a_repeat_gets_the_first_receipt
    repeats_at_the_same_moment_are_stored_once
    an_id_belongs_to_its_sender_and_its_conversation
    a_batch_is_answered_one_by_one
    the_first_messages_of_many_pairs_at_once
    what_makes_no_sense_is_refused
    history_comes_in_pages
    a_long_history_between_others_comes_in_pages
    what_is_unread_is_known_by_number
    cursors_only_go_forward
    a_text_as_large_as_may_be
    messages_that_came_together_are_committed_together
}

async fn all(store: &Store, reader: UserId, conversation: Conversation) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let last = messages.last().map_or(Seq(0), |message: &Message| message.seq);
        let page = store.history(reader, conversation, Page::After(last), MAX_PAGE).await.unwrap();
        if page.is_empty() {
            return messages;
        }
        messages.extend(page);
    }
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.seq.0).collect()
}

async fn a_message_is_what_was_said(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    let bodies = ["", "hello", "😀 \u{10ffff} \0 '\"\\ %_ ?", "'); DROP TABLE message; --", "a\r\nb\tc"];
    for (i, body) in bodies.iter().enumerate() {
        let client_id = (i % 2 == 1).then(|| ClientMessageId::new(format!("id-{i} 😀")).unwrap());
        let time = if i == 1 { "2026-11-23 09:00:00".into() } else { String::new() };
        let new = NewMessage { conversation: pair, sender: ada, client_id, time, body: (*body).into() };
        let receipt = store.append_one(new).await.unwrap();
        assert_eq!((receipt.seq, receipt.is_repeat), (Seq(i as u64 + 1), false));
    }
    for reader in [ada, bob] {
        let messages = all(&store, reader, pair).await;
        assert_eq!(messages.iter().map(|message| &*message.body).collect::<Vec<_>>(), bodies);
        assert_eq!(messages[1].client_id, Some(ClientMessageId::new("id-1 😀").unwrap()));
        assert_eq!(messages[2].client_id, None);
        assert_eq!((&*messages[1].time, &*messages[2].time), ("2026-11-23 09:00:00", ""));
        assert_eq!((messages[0].sender.id, &*messages[0].sender.name, messages[0].conversation), (ada, "ada", pair));
    }
    // One may talk to oneself.
    let alone = Conversation::direct(ada, ada);
    assert_eq!(say(&store, alone, ada, "note").await, Seq(1));
    assert_eq!(all(&store, ada, alone).await.len(), 1);
    assert_eq!(refused(store.history(bob, alone, Page::Last, 1).await), Refusal::NotInConversation);
}

async fn the_numbers_have_no_gaps_whoever_counts(database: &Database) {
    const NODES: usize = 3;
    const WRITERS: u64 = 6;
    const EACH: u64 = 25;
    let first = database.store().await;
    let mut users = Vec::new();
    for i in 0..WRITERS {
        users.push(user(&first, &format!("user {i}")).await);
    }
    let group = first.create_group(users[0], "g", "").await.unwrap();
    for user in &users[1..] {
        first.join_group(*user, group).await.unwrap();
    }
    let nodes: [Store; NODES] = [first, database.store().await, database.store().await];
    // Every user writes through every node to the group and to his neighbour, all at once.
    let mut tasks = tokio::task::JoinSet::new();
    for (i, user) in users.iter().copied().enumerate() {
        for (n, node) in nodes.iter().enumerate() {
            let (node, neighbour) = (node.clone(), users[(i + 1) % users.len()]);
            tasks.spawn(async move {
                let mut receipts = Vec::new();
                for k in 0..EACH {
                    let conversation =
                        if k % 2 == 0 { Conversation::group(group) } else { Conversation::direct(user, neighbour) };
                    let body = format!("{user} {n} {k}");
                    let receipt = node.append_one(message(conversation, user, &body)).await.unwrap();
                    receipts.push((conversation, receipt.seq.0, body));
                }
                receipts
            });
        }
    }
    let mut told: BTreeMap<Conversation, BTreeMap<u64, String>> = BTreeMap::new();
    while let Some(receipts) = tasks.join_next().await {
        for (conversation, seq, body) in receipts.unwrap() {
            let before = told.entry(conversation).or_default().insert(seq, body);
            assert_eq!(before, None, "{conversation} has two messages {seq}");
        }
    }
    assert_eq!(told.len(), 1 + WRITERS as usize);
    for (conversation, told) in &told {
        assert_eq!(told.keys().copied().collect::<Vec<_>>(), (1..=told.len() as u64).collect::<Vec<_>>());
        let reader = match conversation.other(users[0]) {
            Some(_) => users[0],
            None => *users.iter().find(|user| conversation.other(**user).is_some()).unwrap_or(&users[0]),
        };
        let stored = all(&nodes[0], reader, *conversation).await;
        let stored: BTreeMap<u64, String> = stored.into_iter().map(|it| (it.seq.0, it.body)).collect();
        assert_eq!(stored, *told, "what was acknowledged is what is stored");
    }
    let total = WRITERS * NODES as u64 * EACH;
    assert_eq!(nodes.iter().map(|node| node.stats().messages).sum::<u64>(), total);
    assert_eq!(database.number("SELECT COUNT(*) FROM message"), total as i64);
}

async fn the_order_of_the_calls_is_kept(database: &Database) {
    let store = database.store_with(|options| options.max_batch = 7).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    // Called one after the other, and awaited in the reverse order; some are never awaited at all.
    let mut calls = Vec::new();
    for i in 0..100 {
        let call = store.append_one(message(pair, ada, &i.to_string()));
        if i % 10 == 4 { drop(call) } else { calls.push((i, call)) }
    }
    while let Some((i, call)) = calls.pop() {
        assert_eq!(call.await.unwrap().seq, Seq(i + 1));
    }
    let messages = all(&store, bob, pair).await;
    assert_eq!(messages.len(), 100);
    for (i, message) in messages.iter().enumerate() {
        assert_eq!((message.seq.0, &message.body), (i as u64 + 1, &i.to_string()));
    }
}

async fn a_repeat_gets_the_first_receipt(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    let pair = Conversation::direct(ada, bob);
    let first = here.append_one(message_with_id(pair, ada, 7, "once")).await.unwrap();
    say(&here, pair, bob, "in between").await;
    for store in [&here, &there] {
        let again = store.append_one(message_with_id(pair, ada, 7, "another text")).await.unwrap();
        assert_eq!(again, Receipt { is_repeat: true, ..first });
    }
    let stored = all(&here, bob, pair).await;
    assert_eq!(stored.iter().map(|message| &*message.body).collect::<Vec<_>>(), ["once", "in between"]);
    assert_eq!((here.stats().messages, here.stats().repeats, there.stats().repeats), (2, 1, 1));
    // The numbers go on as if nothing had been.
    assert_eq!(say(&there, pair, ada, "next").await, Seq(3));
}

async fn repeats_at_the_same_moment_are_stored_once(database: &Database) {
    let nodes = [database.store().await, database.store().await, database.store().await];
    let (ada, bob) = two_users(&nodes[0]).await;
    let pair = Conversation::direct(ada, bob);
    for round in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for copy in 0..6 {
            let node = nodes[copy % nodes.len()].clone();
            tasks.spawn(async move {
                let id = ClientMessageId::new(format!("round {round}")).unwrap();
                let new = NewMessage { client_id: Some(id), ..message(pair, ada, "x") };
                node.append_one(new).await.unwrap()
            });
        }
        let receipts = tasks.join_all().await;
        let places: BTreeSet<u64> = receipts.iter().map(|receipt| receipt.seq.0).collect();
        assert_eq!(places, BTreeSet::from([round + 1]), "all are told of the same message");
        assert_eq!(receipts.iter().filter(|receipt| !receipt.is_repeat).count(), 1, "one of them stored it");
    }
    assert_eq!(seqs(&all(&nodes[0], bob, pair).await), (1..=10).collect::<Vec<_>>());
}

async fn an_id_belongs_to_its_sender_and_its_conversation(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    let (pair, other) = (Conversation::direct(ada, bob), Conversation::direct(ada, eve));
    store.append_one(message_with_id(pair, ada, 1, "x")).await.unwrap();
    let of_bob = store.append_one(message_with_id(pair, bob, 1, "y")).await.unwrap();
    assert_eq!(
        (of_bob.seq, of_bob.is_repeat),
        (Seq(2), false),
        "ids of two senders have nothing to do with each other"
    );
    assert_eq!(refused(store.append_one(message_with_id(other, ada, 1, "x")).await), Refusal::IdTaken);
    // Within one batch, too.
    let batch = vec![message_with_id(pair, ada, 2, "x"), message_with_id(other, ada, 2, "x")];
    let answers = store.append(batch).await;
    assert!(answers[0].is_ok());
    assert_eq!(refused(answers[1].clone()), Refusal::IdTaken);
    assert_eq!(say(&store, other, ada, "z").await, Seq(1), "no number was used up");
}

async fn a_batch_is_answered_one_by_one(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    let nobody = UserId::new(999).unwrap();
    let pair = Conversation::direct(ada, bob);
    let group = Conversation::group(store.create_group(ada, "g", "").await.unwrap());
    store.append_one(message_with_id(pair, ada, 1, "before")).await.unwrap();
    let answers = store
        .append(vec![
            message(pair, ada, "a"),
            message(pair, eve, "not hers"),
            message(group, bob, "not his"),
            message_with_id(pair, ada, 1, "again"),
            message(Conversation::direct(ada, nobody), ada, "to nobody"),
            message(group, ada, "b"),
            message_with_id(pair, bob, 5, "c"),
            message_with_id(pair, bob, 5, "c again"),
            message(Conversation::group(GroupId::new(999).unwrap()), ada, "nowhere"),
            message(pair, ada, &"x".repeat(MAX_BODY_BYTES + 1)),
            NewMessage { time: "x".repeat(MAX_TIME_BYTES + 1), ..message(pair, ada, "x") },
            message(pair, ada, "d"),
        ])
        .await;
    let answers: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer {
            Ok(receipt) => Ok((receipt.seq.0, receipt.is_repeat)),
            Err(error) => Err(error.refusal().unwrap()),
        })
        .collect();
    assert_eq!(
        answers,
        [
            Ok((2, false)),
            Err(Refusal::NotInConversation),
            Err(Refusal::NotMember),
            Ok((1, true)),
            Err(Refusal::UnknownUser),
            Ok((1, false)),
            Ok((3, false)),
            Ok((3, true)),
            Err(Refusal::UnknownGroup),
            Err(Refusal::BodyTooLong),
            Err(Refusal::BodyTooLong),
            Ok((4, false)),
        ]
    );
    assert_eq!(seqs(&all(&store, bob, pair).await), [1, 2, 3, 4]);
    assert!(store.append(Vec::new()).await.is_empty());
}

async fn the_first_messages_of_many_pairs_at_once(database: &Database) {
    let nodes = [database.store().await, database.store().await];
    let mut users = Vec::new();
    for i in 0..12 {
        users.push(user(&nodes[0], &format!("user {i}")).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (i, one) in users.iter().copied().enumerate() {
        for other in users.iter().copied() {
            let node = nodes[i % 2].clone();
            tasks.spawn(async move { say(&node, Conversation::direct(one, other), one, "x").await });
        }
    }
    assert_eq!(tasks.join_all().await.len(), 144);
    assert_eq!(database.number("SELECT COUNT(*) FROM conversation"), 78, "66 pairs and 12 monologues");
    assert_eq!(database.number("SELECT COUNT(*) FROM participant"), 2 * 66 + 12);
    assert_eq!(database.number("SELECT SUM(last_seq) FROM conversation"), 144);
    assert_eq!(nodes[1].unread(users[3]).await.unwrap().len(), 12);
}

async fn what_makes_no_sense_is_refused(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let (nobody, eve) = (UserId::new(999).unwrap(), user(&store, "eve").await);
    let append = async |conversation, sender| refused(store.append_one(message(conversation, sender, "x")).await);
    assert_eq!(append(Conversation::direct(ada, nobody), ada).await, Refusal::UnknownUser);
    assert_eq!(append(Conversation::direct(ada, nobody), nobody).await, Refusal::UnknownUser);
    assert_eq!(append(Conversation::direct(ada, bob), eve).await, Refusal::NotInConversation);
    assert_eq!(append(Conversation::group(GroupId::new(5).unwrap()), ada).await, Refusal::UnknownGroup);
    assert_eq!(
        refused(store.history(eve, Conversation::direct(ada, bob), Page::Last, 1).await),
        Refusal::NotInConversation
    );
    assert_eq!(database.number("SELECT COUNT(*) FROM conversation"), 0, "nothing is left of it");
}

async fn history_comes_in_pages(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    let batch: Vec<NewMessage> = (1..=10).map(|i| message(pair, ada, &i.to_string())).collect();
    store.append(batch).await;
    let page = async |page, limit| seqs(&store.history(bob, pair, page, limit).await.unwrap());
    assert_eq!(page(Page::After(Seq(0)), 3).await, [1, 2, 3]);
    assert_eq!(page(Page::After(Seq(8)), 3).await, [9, 10]);
    assert!(page(Page::After(Seq(10)), 3).await.is_empty());
    assert!(page(Page::After(Seq(u64::MAX)), 3).await.is_empty());
    assert_eq!(page(Page::Before(Seq(4)), 2).await, [2, 3]);
    assert!(page(Page::Before(Seq(1)), 2).await.is_empty());
    assert_eq!(page(Page::Before(Seq(u64::MAX)), 2).await, [9, 10]);
    assert_eq!(page(Page::Last, 2).await, [9, 10]);
    assert_eq!(page(Page::Last, usize::MAX).await.len(), 10);
    assert!(page(Page::Last, 0).await.is_empty());
    // Up to the message with which there are too many bytes, from where the page begins.
    let within =
        async |page, bytes| seqs(&store.history(bob, pair, page, PageLimit { messages: 9, bytes }).await.unwrap());
    assert_eq!(within(Page::After(Seq(2)), 3).await, [3, 4, 5, 6]);
    assert_eq!(within(Page::Last, 3).await, [8, 9, 10]);
    assert_eq!(within(Page::Last, 0).await, [10], "there is always one");
    let strangers = Conversation::direct(bob, user(&store, "eve").await);
    assert!(store.history(bob, strangers, Page::Last, 5).await.unwrap().is_empty(), "nothing was said yet");
    assert_eq!(store.last_seqs(&[pair, strangers, pair]).await.unwrap(), [(pair, Seq(10))]);
}

async fn a_long_history_between_others_comes_in_pages(database: &Database) {
    const ROUNDS: u64 = 60;
    let store = database.store().await;
    let mut users = Vec::new();
    for i in 0..10 {
        users.push(user(&store, &format!("user {i}")).await);
    }
    let pairs: Vec<(UserId, Conversation)> = (0..10)
        .flat_map(|one| (0..one).map(move |other| (one, other)))
        .map(|(one, other)| (users[one], Conversation::direct(users[one], users[other])))
        .collect();
    // Most speak in every round, some now and then, one in the first and the last.
    let speaks = |pair: usize, round: u64| match pair {
        0 => round == 0 || round == ROUNDS - 1,
        1..5 => round % 7 == pair as u64,
        _ => true,
    };
    for round in 0..ROUNDS {
        let speakers = pairs.iter().enumerate().filter(|(at, _)| speaks(*at, round));
        let batch: Vec<NewMessage> =
            speakers.map(|(at, (sender, pair))| message(*pair, *sender, &format!("{at} {round}"))).collect();
        assert!(store.append(batch).await.iter().all(Result::is_ok));
    }
    if !database.is_mysql() {
        assert!(database.number("SELECT COUNT(DISTINCT segment) FROM message") > 1, "they are kept in several places");
    }
    for (at, (reader, pair)) in pairs.iter().enumerate() {
        let said: Vec<String> =
            (0..ROUNDS).filter(|round| speaks(at, *round)).map(|round| format!("{at} {round}")).collect();
        let stored = all(&store, *reader, *pair).await;
        assert_eq!(stored.iter().map(|message| &*message.body).collect::<Vec<_>>(), said);
        let last = said.len() as u64;
        assert_eq!(seqs(&stored), (1..=last).collect::<Vec<_>>());
        for limit in [1, 7] {
            for from in 0..=last + 1 {
                let after = store.history(*reader, *pair, Page::After(Seq(from)), limit).await.unwrap();
                let expected: Vec<u64> = (from + 1..=last).take(limit).collect();
                assert_eq!(seqs(&after), expected, "{pair}: {limit} after {from}");
                let before = store.history(*reader, *pair, Page::Before(Seq(from)), limit).await.unwrap();
                let first = from.saturating_sub(limit as u64).max(1);
                assert_eq!(
                    seqs(&before),
                    (first..from.min(last + 1)).collect::<Vec<_>>(),
                    "{pair}: {limit} before {from}"
                );
            }
        }
    }
}

async fn what_is_unread_is_known_by_number(database: &Database) {
    let (here, there) = (database.store().await, database.store().await);
    let (ada, bob) = two_users(&here).await;
    let group = here.create_group(ada, "g", "").await.unwrap();
    here.join_group(bob, group).await.unwrap();
    let (pair, group) = (Conversation::direct(ada, bob), Conversation::group(group));
    for _ in 0..3 {
        say(&here, pair, ada, "x").await;
        say(&here, group, ada, "x").await;
    }
    let unread = async |store: &Store| store.unread(bob).await.unwrap();
    let all_of = |conversation| Unread { conversation, seen: Seq(0), last: Seq(3) };
    assert_eq!(unread(&here).await, [all_of(group), all_of(pair)]);

    here.advance(Cursor { user: bob, conversation: pair, seq: Seq(2) });
    here.advance(Cursor { user: bob, conversation: group, seq: Seq(3) });
    here.flush_cursors().await.unwrap();
    assert_eq!(unread(&there).await, [Unread { seen: Seq(2), ..all_of(pair) }]);
    assert_eq!(there.overview(bob).await.unwrap().unread, unread(&there).await);

    // Without being asked to it is written, too.
    there.advance(Cursor { user: bob, conversation: pair, seq: Seq(3) });
    until("the cursor is written", || there.stats().pending_cursors == 0).await;
    there.flush_cursors().await.unwrap();
    assert_eq!(unread(&here).await, []);
    assert_eq!(here.unread(ada).await.unwrap().len(), 2, "hers are her own");
}

async fn cursors_only_go_forward(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let eve = user(&store, "eve").await;
    let pair = Conversation::direct(ada, bob);
    for _ in 0..5 {
        say(&store, pair, ada, "x").await;
    }
    let advance = |user, seq| store.advance(Cursor { user, conversation: pair, seq: Seq(seq) });
    advance(bob, 4);
    advance(bob, 2);
    store.flush_cursors().await.unwrap();
    assert_eq!(store.unread(bob).await.unwrap()[0].seen, Seq(4));
    advance(bob, 3);
    store.flush_cursors().await.unwrap();
    assert_eq!(store.unread(bob).await.unwrap()[0].seen, Seq(4));
    // Who is not in the conversation does not get into it that way.
    advance(eve, 5);
    store.advance(Cursor { user: eve, conversation: Conversation::direct(eve, ada), seq: Seq(1) });
    store.flush_cursors().await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM participant"), 2);
    // More than one statement takes.
    let users: Vec<UserId> = (1..=600).map(|i| UserId::new(i).unwrap()).collect();
    for user in &users {
        advance(*user, 5);
    }
    store.flush_cursors().await.unwrap();
    assert!(store.unread(ada).await.unwrap().is_empty() && store.unread(bob).await.unwrap().is_empty());
}

async fn a_text_as_large_as_may_be(database: &Database) {
    let store = database.store().await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    let largest = "😀".repeat(MAX_BODY_BYTES / 4);
    // More than the database takes in one statement.
    let batch: Vec<NewMessage> = (0..100).map(|_| message(pair, ada, &largest)).collect();
    assert!(store.append(batch).await.iter().all(Result::is_ok));
    let calls: Vec<_> = (0..100).map(|_| store.append_one(message(pair, ada, &largest))).collect();
    for call in calls {
        call.await.unwrap();
    }
    let messages = store.history(bob, pair, Page::Last, 200).await.unwrap();
    assert_eq!(messages.len(), 200);
    assert!(messages.iter().all(|message| message.body == largest));
}

async fn messages_that_came_together_are_committed_together(database: &Database) {
    let store = database.store_with(|options| options.max_batch = 64).await;
    let (ada, bob) = two_users(&store).await;
    let pair = Conversation::direct(ada, bob);
    say(&store, pair, ada, "the first").await;
    let before = store.stats();
    let lock = database.lock_messages();
    let calls: Vec<_> = (0..200).map(|_| store.append_one(message(pair, ada, "x"))).collect();
    assert_eq!(store.stats().pending_messages, 200);
    drop(lock);
    for call in calls {
        call.await.unwrap();
    }
    let commits = store.stats().commits - before.commits;
    // The first commit takes what is there when the lane's task gets to it: one message, or several.
    assert!((4..=5).contains(&commits), "{commits} commits of at most 64 messages for 200");
    assert_eq!(store.stats().pending_messages, 0);
}

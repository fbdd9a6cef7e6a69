//! The modern mode: answers, sequences, acknowledgements, history, friends, groups.

use chat_server::config::Database;
use chat_server::protocol::answer::{
    ChatResult, CreateGroupResult, Done, FriendsResult, GroupsResult, HistoryResult, LoginResult, MembersResult,
    Relation, WhoResult,
};
use chat_server::protocol::command::{
    Ack, Chat, CreateGroup, FriendId, Friends, GroupId, Groups, History, Kick, Logout, Ping, Resume, SetRole, Typing,
    Who,
};
use chat_server::protocol::event::{FriendChange, GroupChange, NoticeCode};
use chat_server::protocol::{Command, Presence, Role, ServerMessage};

use crate::support::{Client, TestCluster, chat, refused, sequences, until};

fn history(peer: u32, before: Option<u64>, after: Option<u64>, limit: u32) -> Command {
    Command::History(History { peer: Some(peer), groupid: None, before, after, limit: Some(limit) })
}

fn friend(id: u32) -> FriendId {
    FriendId { friendid: id }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_is_answered_and_a_message_has_its_place() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    ada.done(Command::Ping(Ping {})).await;
    for seq in 1..=3 {
        assert_eq!(ada.chat(bob.id, "hello").await.seq, Some(seq));
    }
    assert_eq!(bob.chat(ada.id, "hi").await.seq, Some(4), "both directions are one conversation");
    for seq in 1..=3 {
        let delivery = bob.delivery().await;
        assert_eq!((delivery.seq, delivery.id, delivery.name.as_str()), (Some(seq), ada.id, "ada"));
    }
    assert_eq!(ada.delivery().await.seq, Some(4));
    // To oneself: stored, but not sent back.
    assert_eq!(ada.chat(ada.id, "note").await.seq, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_with_the_same_id_is_the_same_message() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let message = || Command::Chat(Chat { toid: 2, msg: "once".into(), time: None, mid: Some("m-1".into()) });
    let first: ChatResult = ada.call(message()).await.unwrap();
    assert!(!first.duplicate);
    let again: ChatResult = ada.call(message()).await.unwrap();
    assert_eq!((again.seq, again.at, again.duplicate), (first.seq, first.at, true));
    // On another node, after a reconnect.
    let mut ada = Client::modern(cluster.nodes[1].address).await;
    ada.login("ada").await;
    let again: ChatResult = ada.call(message()).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true));
    ada.chat(bob.id, "next").await;
    assert_eq!(sequences(&[bob.delivery().await, bob.delivery().await]), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_cannot_make_a_message_the_same_again_is_refused() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let message = |toid, mid: &str| Command::Chat(Chat { toid, msg: "once".into(), time: None, mid: Some(mid.into()) });
    for mid in ["x\ty", "\u{7f}abc", "\u{85}", "\u{1}7"] {
        for _ in 0..2 {
            let refusal = ada.call::<ChatResult>(message(bob.id, mid)).await.expect_err("it has a control character");
            assert_eq!((refusal.code.name(), &*refusal.text), ("bad_field", "mid: has control characters"), "{mid:?}");
        }
    }
    assert_eq!(ada.chat(bob.id, "next").await.seq, Some(1), "nothing was stored");
    assert_eq!(bob.delivery().await.msg, "next");
    // One that has named a message of another conversation names that one for ever.
    ada.call::<ChatResult>(message(bob.id, "m-1")).await.unwrap();
    let refusal = ada.call::<ChatResult>(message(ada.id, "m-1")).await.expect_err("it is in use");
    let text = "mid: the message id was used in another conversation";
    assert_eq!((refusal.code.name(), &*refusal.text), ("bad_field", text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for _ in 0..5 {
        ada.chat(bob.id, "x").await;
    }
    for _ in 0..5 {
        bob.delivery().await;
    }
    let ack = |seq| Command::Ack(Ack { peer: Some(1), groupid: None, seq });
    bob.report(ack(3)).await;
    bob.done(Command::Logout(Logout {})).await;
    assert_eq!(refused(bob.call::<Done>(ack(5)).await), "not_logged_in");
    let mut bob = Client::modern(cluster.nodes[1].address).await;
    assert_eq!(sequences(&bob.login("bob").await), [4, 5]);
    bob.done(ack(u64::MAX)).await;
    bob.done(ack(1)).await;
    bob.done(Command::Logout(Logout {})).await;
    assert_eq!(sequences(&bob.login("bob").await), [0_u64; 0]);
    ada.chat(bob.id, "y").await;
    assert_eq!(bob.delivery().await.seq, Some(6), "an acknowledgement beyond the newest is one of the newest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_messages_need_no_acknowledgement() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    ada.chat(bob.id, "1").await;
    bob.delivery().await;
    bob.chat(ada.id, "2").await;
    bob.chat(ada.id, "3").await;
    bob.done(Command::Ack(Ack { peer: Some(ada.id), groupid: None, seq: 1 })).await;
    bob.done(Command::Logout(Logout {})).await;
    assert_eq!(sequences(&bob.login("bob").await), [0_u64; 0]);
    let unread = cluster.nodes[0].node.store().unread(chat_server::store::UserId::new(bob.id).unwrap()).await.unwrap();
    assert!(unread.is_empty(), "{unread:?}");
    // Ada has read nothing, so she gets both again, but not what she wrote.
    let mut ada = Client::modern(cluster.nodes[0].address).await;
    assert_eq!(sequences(&ada.login("ada").await), [2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_can_be_read_back_page_by_page() {
    let cluster = TestCluster::start(1).await;
    let (mut ada, bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    for number in 1..=25 {
        ada.chat(bob.id, &format!("text {number}")).await;
    }
    let page: HistoryResult = ada.call(history(bob.id, None, None, 10)).await.unwrap();
    assert_eq!((sequences(&page.messages), page.more), ((16..=25).collect(), true));
    assert_eq!((page.messages[0].msg.as_str(), page.messages[0].name.as_str()), ("text 16", "ada"));
    let page: HistoryResult = ada.call(history(bob.id, Some(16), None, 15)).await.unwrap();
    assert_eq!((sequences(&page.messages), page.more), ((1..=15).collect(), false));
    let page: HistoryResult = ada.call(history(bob.id, None, Some(20), 5)).await.unwrap();
    assert_eq!((sequences(&page.messages), page.more), ((21..=25).collect(), false));
    let page: HistoryResult = ada.call(history(bob.id, None, Some(19), 5)).await.unwrap();
    assert_eq!((sequences(&page.messages), page.more), ((20..=24).collect(), true));
    // A page has a size in bytes, too, and a message larger than that is a page.
    for _ in 0..3 {
        ada.chat(bob.id, &"x".repeat(60_000)).await;
    }
    let page: HistoryResult = ada.call(history(bob.id, None, None, 10)).await.unwrap();
    assert_eq!((sequences(&page.messages), page.more), (vec![27, 28], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_ask_accept_reject_and_see_each_other_come_and_go() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let event = |message| match message {
        ServerMessage::Friend(event) => Some((event.id, event.name, event.event)),
        _ => None,
    };
    ada.done(Command::AddFriend(friend(bob.id))).await;
    assert_eq!(bob.wait_for(event).await, (ada.id, "ada".into(), FriendChange::Requested));
    let list: FriendsResult = bob.call(Command::Friends(Friends {})).await.unwrap();
    assert_eq!((list.friends[0].relation, list.friends[0].state), (Relation::Incoming, Presence::Offline));
    bob.done(Command::RejectFriend(friend(ada.id))).await;
    assert_eq!(ada.wait_for(event).await.2, FriendChange::Rejected);
    assert_eq!(refused(bob.call::<Done>(Command::AcceptFriend(friend(ada.id))).await), "no_such_friend");
    bob.done(Command::AddFriend(friend(ada.id))).await;
    ada.done(Command::AcceptFriend(friend(bob.id))).await;
    assert_eq!(bob.wait_for(event).await.2, FriendChange::Accepted);
    let list: FriendsResult = ada.call(Command::Friends(Friends {})).await.unwrap();
    assert_eq!((list.friends[0].relation, list.friends[0].state), (Relation::Friend, Presence::Online));

    let presence = |message| match message {
        ServerMessage::Presence(event) => Some((event.id, event.state)),
        _ => None,
    };
    let bob_id = bob.id;
    drop(bob);
    assert_eq!(ada.wait_for(presence).await, (bob_id, Presence::Offline));
    let mut bob = Client::modern(cluster.nodes[0].address).await;
    bob.login("bob").await;
    assert_eq!(ada.wait_for(presence).await, (bob_id, Presence::Online));
    let who: WhoResult = ada.call(Command::Who(Who { ids: vec![bob_id, ada.id, 0, 999] })).await.unwrap();
    assert_eq!(who.online, [ada.id, bob_id]);
    ada.done(Command::RemoveFriend(friend(bob_id))).await;
    assert_eq!(bob.wait_for(event).await.2, FriendChange::Removed);
    for (id, error) in [(0, "unknown_user"), (999, "unknown_user"), (ada.id, "bad_field")] {
        assert_eq!(refused(ada.call::<Done>(Command::AddFriend(friend(id))).await), error, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_online_is_for_friends_and_members_of_the_same_groups_to_know() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob, mut eve) =
        (cluster.user(0, "ada").await, cluster.user(1, "bob").await, cluster.user(1, "eve").await);
    let ids = vec![ada.id, bob.id, eve.id, 0, 999];
    let who = || Command::Who(Who { ids: ids.clone() });
    // Neither a message nor a request makes somebody known.
    eve.chat(ada.id, "hello").await;
    eve.done(Command::AddFriend(friend(ada.id))).await;
    assert_eq!(eve.call::<WhoResult>(who()).await.unwrap().online, [eve.id]);
    assert_eq!(ada.call::<WhoResult>(who()).await.unwrap().online, [ada.id]);
    ada.done(Command::AcceptFriend(friend(eve.id))).await;
    assert_eq!(eve.call::<WhoResult>(who()).await.unwrap().online, [ada.id, eve.id]);
    let create = CreateGroup { groupname: "crab".into(), groupdesc: String::new() };
    let groupid = ada.call::<CreateGroupResult>(Command::CreateGroup(create)).await.unwrap().groupid;
    bob.done(Command::JoinGroup(GroupId { groupid })).await;
    assert_eq!(bob.call::<WhoResult>(who()).await.unwrap().online, [ada.id, bob.id]);
    assert_eq!(ada.call::<WhoResult>(who()).await.unwrap().online, [ada.id, bob.id, eve.id]);
    bob.done(Command::LeaveGroup(GroupId { groupid })).await;
    assert_eq!(bob.call::<WhoResult>(who()).await.unwrap().online, [bob.id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_created_joined_left_and_ruled() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob, mut eve) =
        (cluster.user(0, "ada").await, cluster.user(1, "bob").await, cluster.user(0, "eve").await);
    let create = |name: &str| Command::CreateGroup(CreateGroup { groupname: name.into(), groupdesc: "d".into() });
    let id = ada.call::<CreateGroupResult>(create("crab")).await.unwrap().groupid;
    assert_eq!(refused(bob.call::<CreateGroupResult>(create("crab")).await), "group_name_taken");
    let group = || GroupId { groupid: id };
    assert_eq!(refused(bob.group_chat(id, "x").await), "not_a_member");
    assert_eq!(refused(bob.group_chat(999, "x").await), "unknown_group");
    bob.done(Command::JoinGroup(group())).await;
    assert_eq!(refused(bob.call::<Done>(Command::JoinGroup(group())).await), "already");
    let event = |message| match message {
        ServerMessage::Group(event) => Some((event.id, event.event, event.by)),
        _ => None,
    };
    assert_eq!(ada.wait_for(event).await, (bob.id, GroupChange::Joined, None));
    eve.done(Command::JoinGroup(group())).await;

    assert_eq!(ada.group_chat(id, "hello all").await.unwrap().seq, Some(1));
    for member in [&mut bob, &mut eve] {
        let delivery = member.delivery().await;
        assert_eq!((delivery.groupid, delivery.toid, delivery.msg.as_str()), (Some(id), None, "hello all"));
    }
    bob.report(Command::Typing(Typing { peer: None, groupid: Some(id) })).await;
    let typing = |message| match message {
        ServerMessage::Typing(event) => Some((event.id, event.groupid)),
        _ => None,
    };
    assert_eq!(ada.wait_for(typing).await, (bob.id, Some(id)));

    let set = |userid, role| Command::SetRole(SetRole { groupid: id, userid, role });
    let kick = |userid| Command::Kick(Kick { groupid: id, userid });
    assert_eq!(refused(bob.call::<Done>(kick(eve.id)).await), "not_allowed");
    ada.done(set(bob.id, Role::Admin)).await;
    assert_eq!(bob.wait_for(event).await, (bob.id, GroupChange::Role, Some(ada.id)));
    bob.done(kick(eve.id)).await;
    eve.wait_for(|message| match message {
        ServerMessage::Group(event) => (event.event == GroupChange::Kicked).then_some(event.id),
        _ => None,
    })
    .await;
    assert_eq!(refused(eve.group_chat(id, "x").await), "not_a_member");
    let page = History { peer: None, groupid: Some(id), before: None, after: None, limit: None };
    assert_eq!(refused(eve.call::<HistoryResult>(Command::History(page)).await), "not_a_member");
    let members: MembersResult = ada.call(Command::Members(group())).await.unwrap();
    let members: Vec<_> = members.members.iter().map(|member| (member.id, member.role, member.state)).collect();
    assert_eq!(members, [(ada.id, Role::Creator, Presence::Online), (bob.id, Role::Admin, Presence::Online)]);
    ada.done(Command::LeaveGroup(group())).await;
    let groups: GroupsResult = bob.call(Command::Groups(Groups {})).await.unwrap();
    assert_eq!((groups.groups[0].role, groups.groups[0].members), (Role::Creator, 1));
    assert_eq!(refused(ada.call::<MembersResult>(Command::Members(group())).await), "not_a_member");
    // Nobody else hears what is said now.
    bob.group_chat(id, "alone").await.unwrap();
    eve.done(Command::Ping(Ping {})).await;
    ada.chat(eve.id, "marker").await;
    assert_eq!(eve.delivery().await.msg, "marker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_a_group_hears_what_is_said_from_then_on() {
    let cluster = TestCluster::start(2).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(1, "bob").await);
    let create = CreateGroup { groupname: "crab".into(), groupdesc: String::new() };
    let groupid = ada.call::<CreateGroupResult>(Command::CreateGroup(create)).await.unwrap().groupid;
    bob.done(Command::JoinGroup(GroupId { groupid })).await;
    ada.group_chat(groupid, "1").await.unwrap();
    assert_eq!(bob.delivery().await.msg, "1");
    bob.done(Command::LeaveGroup(GroupId { groupid })).await;
    ada.group_chat(groupid, "2, which is not for him").await.unwrap();
    bob.done(Command::JoinGroup(GroupId { groupid })).await;
    ada.group_chat(groupid, "3").await.unwrap();
    assert_eq!(bob.delivery().await.msg, "3");
    bob.done(Command::Ack(Ack { peer: None, groupid: Some(groupid), seq: 3 })).await;
    bob.done(Command::Logout(Logout {})).await;
    assert_eq!(sequences(&bob.login("bob").await), [0_u64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_logs_in_again_until_the_logout() {
    let cluster = TestCluster::start(2).await;
    let mut ada = cluster.user(0, "ada").await;
    let resume = |token: &str| Command::Resume(Resume { token: token.into() });
    let mut again = Client::modern(cluster.nodes[1].address).await;
    let result: LoginResult = again.call(resume(&ada.token)).await.unwrap();
    assert_eq!((result.id, result.name.as_str(), result.displaced), (ada.id, "ada", true));
    ada.until_notice(NoticeCode::Displaced).await;
    assert!(ada.push().await.is_none(), "the displaced connection is closed");
    again.done(Command::Logout(Logout {})).await;
    assert_eq!(refused(again.call::<LoginResult>(resume(&result.token)).await), "bad_token");
    assert_eq!(refused(again.call::<LoginResult>(resume("nonsense")).await), "bad_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_end_is_near_is_extended_and_ends_with_the_logout_all_the_same() {
    let cluster = TestCluster::start(1).await;
    let ada = cluster.user(0, "ada").await;
    let Database::SqliteFile(file) = &cluster.database else { panic!("it is SQLite") };
    let outside = rusqlite::Connection::open(file).unwrap();
    // An hour is left of a week.
    let changed = outside.execute("UPDATE resume_token SET expires_at = expires_at - 167 * 3600000", []).unwrap();
    assert_eq!(changed, 1);
    let soon: i64 = outside.query_row("SELECT expires_at FROM resume_token", [], |row| row.get(0)).unwrap();
    let resume = |token: &str| Command::Resume(Resume { token: token.into() });
    let mut again = Client::modern(cluster.nodes[0].address).await;
    let result: LoginResult = again.call(resume(&ada.token)).await.unwrap();
    assert!(result.token_until > soon.cast_unsigned() + 166 * 3_600_000, "{} after {soon}", result.token_until);
    again.done(Command::Logout(Logout {})).await;
    for token in [&ada.token, &result.token] {
        assert_eq!(refused(again.call::<LoginResult>(resume(token)).await), "bad_token");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_commands_are_carried_out_and_answered_in_order() {
    const COUNT: u64 = 500;
    let cluster = TestCluster::start(1).await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let mut expected = Vec::new();
    for number in 0..COUNT {
        expected.push(ada.send(chat(bob.id, &number.to_string())).await);
        if number % 50 == 0 {
            expected.push(ada.send(Command::Ping(Ping {})).await);
        }
    }
    let mut answers = Vec::new();
    for &rid in &expected {
        let answer = ada.any_answer().await;
        let is_right = (answer.rid, answer.errno) == (Some(rid), 0);
        answers.push(answer);
        if !is_right {
            let before = &answers[answers.len().saturating_sub(8)..];
            panic!(
                "{rid} was to be answered; the last answers {before:#?}; {}",
                cluster.nodes[0].get("/stats").await.1
            );
        }
    }
    let mut deliveries = Vec::new();
    for number in 0..COUNT {
        let delivery = bob.delivery().await;
        let is_right = (delivery.seq, &delivery.msg) == (Some(number + 1), &number.to_string());
        deliveries.push(delivery);
        if !is_right {
            let before = &deliveries[deliveries.len().saturating_sub(8)..];
            panic!("message {number} was due; the last ones {before:#?}; {}", cluster.nodes[0].get("/stats").await.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_is_asked_and_then_disconnected_and_one_that_answers_is_not() {
    let cluster = TestCluster::with(1, |config| {
        (config.ping_after_ms, config.idle_timeout_ms, config.login_deadline_ms) = (200, 1500, 2000);
    })
    .await;
    let (mut ada, mut bob) = (cluster.user(0, "ada").await, cluster.user(0, "bob").await);
    let answering = async {
        for _ in 0..15 {
            ada.wait_for(|message| matches!(message, ServerMessage::Ping).then_some(())).await;
            ada.report(Command::Pong(chat_server::protocol::command::Pong {})).await;
        }
    };
    let silent = async {
        let code = bob
            .wait_for(|message| match message {
                ServerMessage::Notice(notice) => Some(notice.code),
                _ => None,
            })
            .await;
        assert_eq!(code, NoticeCode::IdleTimeout);
        assert!(bob.push().await.is_none());
    };
    tokio::join!(answering, silent);
    ada.done(Command::Ping(Ping {})).await;
    // Who never logs in is not kept either, whatever it says.
    let mut nobody = Client::modern(cluster.nodes[0].address).await;
    nobody.done(Command::Ping(Ping {})).await;
    nobody.until_notice(NoticeCode::LoginTimeout).await;
    // Ada has fallen silent by now.
    until(async || cluster.nodes[0].stat("connections").await == 0).await;
}

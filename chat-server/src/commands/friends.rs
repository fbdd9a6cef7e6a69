//! Friends and requests.

use super::{Context, Reply, done, refusal, reply, user};
use crate::protocol::answer::{FriendInfo, FriendsResult, Relation};
use crate::protocol::command::FriendId;
use crate::protocol::event::{Event, FriendChange, FriendEvent};
use crate::protocol::{ErrorCode, Presence, Refusal};
use crate::store::{Friendship, UserId};

/// ADD_FRIEND: asks, or accepts if the other one has asked.
pub(super) async fn add(context: &mut Context<'_>, friend: FriendId) -> Result<Reply, Refusal> {
    let (own, other) = both(context, friend)?;
    let friendship = context.store()?.add_friend(own, other).await.map_err(|error| refusal(&error))?;
    let event = match friendship {
        Friendship::Mutual => FriendChange::Accepted,
        _ => FriendChange::Requested,
    };
    tell(context, other, event).await?;
    done()
}

/// ACCEPT_FRIEND.
pub(super) async fn accept(context: &mut Context<'_>, friend: FriendId) -> Result<Reply, Refusal> {
    let (own, other) = both(context, friend)?;
    context.store()?.accept_friend(own, other).await.map_err(|error| refusal(&error))?;
    tell(context, other, FriendChange::Accepted).await?;
    done()
}

/// REJECT_FRIEND.
pub(super) async fn reject(context: &mut Context<'_>, friend: FriendId) -> Result<Reply, Refusal> {
    let (own, other) = both(context, friend)?;
    let friends = context.store()?.friends(own).await.map_err(|error| refusal(&error))?;
    if !friends.iter().any(|friend| friend.user.id == other && friend.friendship == Friendship::AskedBy) {
        return Err(Refusal::new(ErrorCode::NoSuchFriend, "friendid: no request of this user"));
    }
    context.store()?.remove_friend(own, other).await.map_err(|error| refusal(&error))?;
    tell(context, other, FriendChange::Rejected).await?;
    done()
}

/// REMOVE_FRIEND.
pub(super) async fn remove(context: &mut Context<'_>, friend: FriendId) -> Result<Reply, Refusal> {
    let (own, other) = both(context, friend)?;
    let was = context.store()?.remove_friend(own, other).await.map_err(|error| refusal(&error))?;
    let event = match was {
        Friendship::AskedBy => FriendChange::Rejected,
        _ => FriendChange::Removed,
    };
    tell(context, other, event).await?;
    done()
}

/// FRIENDS.
pub(super) async fn list(context: &mut Context<'_>) -> Result<Reply, Refusal> {
    let own = context.identity()?.id;
    let friends = context.store()?.friends(own).await.map_err(|error| refusal(&error))?;
    let friends = friends.into_iter().map(|friend| {
        let relation = match friend.friendship {
            Friendship::Mutual => Relation::Friend,
            Friendship::Asked => Relation::Outgoing,
            Friendship::AskedBy => Relation::Incoming,
        };
        // Whether somebody is online is for friends to know.
        let is_online = friend.is_online && relation == Relation::Friend;
        let state = if is_online { Presence::Online } else { Presence::Offline };
        FriendInfo { id: friend.user.id.get(), name: friend.user.name, state, relation }
    });
    reply(FriendsResult { friends: friends.collect() })
}

fn both(context: &Context<'_>, friend: FriendId) -> Result<(UserId, UserId), Refusal> {
    let own = context.identity()?.id;
    let other = user("friendid", friend.friendid)?;
    if own == other {
        return Err(Refusal::bad_field("friendid", "is your own"));
    }
    Ok((own, other))
}

async fn tell(context: &Context<'_>, other: UserId, event: FriendChange) -> Result<(), Refusal> {
    let own = context.identity()?;
    let frame = FriendEvent { id: own.id.get(), name: own.name.clone(), event }.frame();
    context.node.tell(&[other], frame).await;
    Ok(())
}

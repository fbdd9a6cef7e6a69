//! Around messages: acknowledging, reading back, who is there, who is typing.

use super::{Context, Reply, conversation, done, group, refusal, reply};
use crate::protocol::answer::{HistoryResult, WhoResult};
use crate::protocol::command::{Ack, History, Typing, Who};
use crate::protocol::event::{Event, TypingEvent};
use crate::protocol::{ErrorCode, MAX_HISTORY_BYTES, MAX_HISTORY_PAGE, Refusal, Target};
use crate::push::delivery;
use crate::store::{Cursor, Page, PageLimit, Seq, UserId};

/// ACK.
pub(super) async fn ack(context: &mut Context<'_>, ack: Ack) -> Result<Reply, Refusal> {
    let identity = context.identity()?;
    let conversation = conversation(identity.id, ack.target())?;
    if !context.session.acknowledge(identity.id, conversation, ack.seq) {
        // Nothing of it was sent in this session: it was read with HISTORY, or in a session before this one.
        let last = context.store()?.last_seqs(&[conversation]).await.map_err(|error| refusal(&error))?;
        if let Some((_, last)) = last.first() {
            let seq = Seq(ack.seq.min(last.0));
            context.node.store().advance(Cursor { user: identity.id, conversation, seq });
        }
    }
    done()
}

/// HISTORY.
pub(super) async fn history(context: &mut Context<'_>, history: History) -> Result<Reply, Refusal> {
    let identity = context.identity()?;
    let conversation = conversation(identity.id, history.target())?;
    let page = match (history.before, history.after) {
        (Some(before), _) => Page::Before(Seq(before)),
        (_, Some(after)) => Page::After(Seq(after)),
        _ => Page::Last,
    };
    let limit = history.limit.unwrap_or(MAX_HISTORY_PAGE) as usize;
    // One more than asked for, or than fits, says whether there is more.
    let most = PageLimit { messages: limit + 1, bytes: MAX_HISTORY_BYTES };
    let read = context.store()?.history(identity.id, conversation, page, most).await;
    let mut messages = read.map_err(|error| refusal(&error))?;
    let is_forward = matches!(page, Page::After(_));
    // Those nearest to where the page begins stay.
    let (mut count, mut bytes) = (0, 0);
    let mut sizes: Vec<usize> = messages.iter().map(|message| message.body.len()).collect();
    if !is_forward {
        sizes.reverse();
    }
    for size in sizes.into_iter().take(limit) {
        bytes += size;
        if bytes > MAX_HISTORY_BYTES && count > 0 {
            break;
        }
        count += 1;
    }
    let more = messages.len() > count;
    if is_forward {
        messages.truncate(count);
    } else {
        messages.drain(..messages.len() - count);
    }
    reply(HistoryResult { messages: messages.into_iter().map(delivery).collect(), more })
}

/// WHO. Ids are given out in order, so whoever may ask about anybody may watch everybody.
pub(super) async fn who(context: &mut Context<'_>, who: Who) -> Result<Reply, Refusal> {
    let own = context.identity()?.id;
    let users: Vec<UserId> = who.ids.iter().filter_map(|id| UserId::new(*id)).collect();
    let known = context.store()?.acquaintances(own, &users).await.map_err(|error| refusal(&error))?;
    let online = context.store()?.where_are(&known).await.map_err(|error| refusal(&error))?;
    let mut online: Vec<u32> = online.into_iter().map(|(user, _)| user.get()).collect();
    online.sort_unstable();
    reply(WhoResult { online })
}

/// TYPING.
pub(super) async fn typing(context: &mut Context<'_>, typing: Typing) -> Result<Reply, Refusal> {
    let identity = context.identity()?;
    match typing.target() {
        Some(Target::Peer(peer)) => {
            let peer = super::user("peer", peer)?;
            let frame = TypingEvent { id: identity.id.get(), groupid: None }.frame();
            context.node.tell(&[peer], frame).await;
        }
        Some(Target::Group(id)) => {
            let members = context.node.members_of(group(id)?).await.map_err(|error| refusal(&error))?;
            if !members.contains(&identity.id) {
                return Err(Refusal::new(ErrorCode::NotAMember, "not a member of the group"));
            }
            let others: Vec<UserId> = members.iter().copied().filter(|member| *member != identity.id).collect();
            context.node.tell(&others, TypingEvent { id: identity.id.get(), groupid: Some(id) }.frame()).await;
        }
        None => {}
    }
    done()
}

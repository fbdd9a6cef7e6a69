//! Messages, as the rest of the server asks for them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use super::Store;
use super::append::{Item, OWN_ID, append};
use super::backend::Access;
use super::error::{Refusal, StoreError};
use super::ids::{ClientMessageId, Conversation, ConversationKind, Seq, Timestamp, UserId};
use super::lane::Place;
use super::model::{MAX_PAGE, Message, NewMessage, Page, PageLimit, Receipt, Unread, User};
use super::sql::{Failure, Row, Sql, SqlError, Value};
use super::users::{user_value, user_values};
use super::writer::count;

/// The conversations in which these users have not acknowledged the last message.
pub(super) fn unread_of(sql: &mut dyn Sql, users: &[UserId]) -> Result<HashMap<UserId, Vec<Unread>>, SqlError> {
    let query = "SELECT p.user_id, p.conversation, p.seen_seq, c.last_seq \
                 FROM participant AS p JOIN conversation AS c ON c.id = p.conversation \
                 WHERE p.user_id IN {keys} AND c.last_seq > p.seen_seq ORDER BY p.conversation";
    let mut unread = HashMap::<_, Vec<_>>::new();
    sql.rows_by_keys(query, 1, &user_values(users), &mut |row| {
        let conversation = Conversation::from_key(row.int(1)?);
        let (seen, last) = (Seq(row.unsigned(2)?), Seq(row.unsigned(3)?));
        unread.entry(row.id(0)?).or_default().push(Unread { conversation, seen, last });
        Ok(())
    })?;
    Ok(unread)
}

/// What was said before this participant's time.
fn since_of(sql: &mut dyn Sql, reader: UserId, conversation: Conversation) -> Result<Seq, Failure> {
    if let ConversationKind::Direct(..) = conversation.kind() {
        return match conversation.other(reader) {
            Some(_) => Ok(Seq(0)),
            None => Err(Refusal::NotInConversation.into()),
        };
    }
    let query = "SELECT since_seq FROM participant WHERE conversation = ? AND user_id = ?";
    let since = sql.first(query, &[Value::Int(conversation.key()), user_value(reader)], |row| row.unsigned(0))?;
    Ok(Seq(since.ok_or(Refusal::NotMember)?))
}

fn read_message(row: &dyn Row, conversation: Conversation) -> Result<Message, SqlError> {
    let client_id = row.text(3)?;
    Ok(Message {
        conversation,
        seq: Seq(row.unsigned(0)?),
        sender: User { id: row.id(1)?, name: row.text(2)? },
        client_id: if client_id.starts_with(OWN_ID) { None } else { ClientMessageId::new(client_id).ok() },
        at: Timestamp(row.unsigned(4)?),
        time: row.text(5)?,
        body: row.text(6)?,
    })
}

/// Messages.
impl Store {
    /// Stores one message, together with those that others send at the same moment: the commits are shared. Nothing
    /// waits for company; what comes in while a commit runs goes into the next one.
    ///
    /// The message is queued when this is called, and goes on its way whether the future is polled or dropped. Messages
    /// of one conversation that are appended through the same store are numbered in the order of the calls.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownUser`] (sender or recipient), [`Refusal::UnknownGroup`], [`Refusal::NotMember`],
    /// [`Refusal::NotInConversation`], [`Refusal::BodyTooLong`], [`Refusal::IdTaken`]; [`StoreError::Busy`]; or the
    /// database's.
    pub fn append_one(&self, message: NewMessage) -> impl Future<Output = Result<Receipt, StoreError>> + Send + use<> {
        let queued = self.queue(message);
        async move { queued?.await }
    }

    fn queue(
        &self,
        message: NewMessage,
    ) -> Result<impl Future<Output = Result<Receipt, StoreError>> + Send + use<>, StoreError> {
        self.check_open()?;
        let inner = &*self.inner;
        let item = Item::new(message)?;
        let place = Place::for_message(&inner.backend.counters, item.bytes(), &inner.options)?;
        Ok(inner.writer.submit(item, place))
    }

    /// Stores these messages in one transaction of their own, each with an answer of its own, in the same order. A
    /// message that is refused does not keep the others from being stored; an error of the database is everyone's.
    pub async fn append(&self, messages: Vec<NewMessage>) -> Vec<Result<Receipt, StoreError>> {
        let count_of_messages = messages.len();
        let all = |error: StoreError| vec![Err(error); count_of_messages];
        let permit = match self.permit() {
            Ok(permit) => permit,
            Err(error) => return all(error),
        };
        let checked: Vec<Result<Item, Refusal>> = messages.into_iter().map(Item::new).collect();
        let refusals: Vec<Option<Refusal>> = checked.iter().map(|item| item.as_ref().err().copied()).collect();
        let items: Arc<Vec<Item>> = Arc::new(checked.into_iter().flatten().collect());
        let work = append(Arc::clone(&items), 0..items.len());
        let backend = &self.inner.backend;
        let mut receipts = match backend.run(Access::Repeatable, Instant::now(), Some(permit), work).await {
            Ok(receipts) => {
                count(backend, &receipts);
                receipts.into_iter()
            }
            Err(error) => return all(error),
        };
        refusals
            .into_iter()
            .map(|refusal| match refusal {
                Some(refusal) => Err(refusal.into()),
                None => receipts.next().expect("one for each that was not refused").map_err(StoreError::from),
            })
            .collect()
    }

    /// A page of a conversation, in ascending order, within `limit`: the messages nearest to where the page begins. A
    /// group's member sees what was said since he joined.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotInConversation`] for a pair without `reader`, [`Refusal::NotMember`] for a group without him; or
    /// the database's.
    pub async fn history(
        &self,
        reader: UserId,
        conversation: Conversation,
        page: Page,
        limit: impl Into<PageLimit>,
    ) -> Result<Vec<Message>, StoreError> {
        let PageLimit { messages, bytes } = limit.into();
        let limit = Value::Int(messages.min(MAX_PAGE) as i64);
        self.read(move |sql| {
            let since = since_of(sql, reader, conversation)?;
            let (after, before, order) = match page {
                Page::After(seq) => (seq.max(since), Seq(i64::MAX as u64), "ASC"),
                Page::Before(seq) => (since, seq, "DESC"),
                Page::Last => (since, Seq(i64::MAX as u64), "DESC"),
            };
            let query = format!(
                "SELECT m.seq, m.sender, u.name, m.client_id, m.created_at, m.sender_time, m.body {}",
                sql.dialect().messages.replace("{order}", order)
            );
            let bound = |seq: Seq| Value::Int(i64::try_from(seq.0).unwrap_or(i64::MAX));
            let values = [Value::Int(conversation.key()), bound(after), bound(before), limit];
            let (mut messages, mut taken) = (Vec::new(), 0);
            sql.query(&query, &values, &mut |row| {
                if taken <= bytes {
                    let message = read_message(row, conversation)?;
                    taken += message.body.len();
                    messages.push(message);
                }
                Ok(())
            })?;
            if order == "DESC" {
                messages.reverse();
            }
            Ok(messages)
        })
        .await
    }

    /// The conversations in which `user` has not acknowledged the last message, in no particular order. His own
    /// messages count, too, until he acknowledges them: another device of his may not have them.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn unread(&self, user: UserId) -> Result<Vec<Unread>, StoreError> {
        self.inner.lookups.unread.of(user, self.question()?).await
    }

    /// The last sequence of each of these conversations; those that do not exist are left out. For healing reads.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn last_seqs(&self, conversations: &[Conversation]) -> Result<Vec<(Conversation, Seq)>, StoreError> {
        let mut conversations = conversations.to_vec();
        conversations.sort_unstable();
        conversations.dedup();
        self.read(move |sql| {
            let keys: Vec<Value<'_>> = conversations.iter().map(|it| Value::Int(it.key())).collect();
            let mut found = Vec::with_capacity(conversations.len());
            sql.rows_by_keys("SELECT id, last_seq FROM conversation WHERE id IN {keys}", 1, &keys, &mut |row| {
                found.push((Conversation::from_key(row.int(0)?), Seq(row.unsigned(1)?)));
                Ok(())
            })?;
            Ok(found)
        })
        .await
    }
}

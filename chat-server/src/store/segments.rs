//! Where SQLite keeps messages: one after the other as they come, and their places in segments, each filled with those of
//! about the same time.
//!
//! SQLite writes whole pages, to its log and later to their places. Kept by conversation alone, the messages of a hundred
//! conversations that speak at the same time are on a hundred pages, and a commit of one message of each writes them all.
//! So messages are appended, and found by an index that is ordered by segment and then by conversation: the few pages of the
//! present segment are all that a commit changes in it. It is what databases for much writing do with everything (a
//! log-structured merge tree), without the merging: a page of a history is read from a few segments, found by
//! `conversation_segment`.
//!
//! A conversation's first message in a segment costs a row of that table, on a page of the conversation's own. So a segment
//! lasts until its conversations have several messages each; see [`MESSAGES_EACH`].

use super::ids::Conversation;
use super::sql::{Row, Sql, SqlError, Value};

/// The fewest messages of a full segment: about eight pages of the index.
const MESSAGES: i64 = 1024;

/// The fewest messages of a full segment for each conversation in it.
const MESSAGES_EACH: i64 = 4;

/// The segment for so many new messages of these conversations, each with the sequence of its first one and its last
/// segment so far. The messages are stored there next, in the same transaction.
pub(super) fn enter(
    sql: &mut dyn Sql,
    conversations: impl Iterator<Item = (Conversation, u64, i64)>,
    messages: usize,
) -> Result<i64, SqlError> {
    let read = |row: &dyn Row| Ok((row.int(0)?, row.int(1)?, row.int(2)?));
    let filled = sql.first("SELECT id, messages, conversations FROM segment", &[], read)?;
    let (mut segment, mut held, mut members) = filled.ok_or_else(|| SqlError::permanent("there is no segment"))?;
    if held >= MESSAGES.max(members * MESSAGES_EACH) {
        (segment, held, members) = (segment + 1, 0, 0);
    }
    let mut entered = Vec::new();
    for (conversation, first, last_segment) in conversations {
        if last_segment != segment {
            entered.extend([Value::Int(conversation.key()), Value::Int(first.cast_signed()), Value::Int(segment)]);
            members += 1;
        }
    }
    sql.insert_rows("INSERT INTO conversation_segment (conversation, first_seq, segment)", 3, "", &entered)?;
    let values = [Value::Int(segment), Value::Int(held + messages as i64), Value::Int(members)];
    sql.execute("UPDATE segment SET id = ?, messages = ?, conversations = ?", &values)?;
    Ok(segment)
}

/// All messages of this conversation are deleted.
pub(super) fn forget(sql: &mut dyn Sql, conversation: i64) -> Result<(), SqlError> {
    sql.execute("DELETE FROM conversation_segment WHERE conversation = ?", &[Value::Int(conversation)])?;
    Ok(())
}

//! Storing messages: one transaction for a batch, and what must hold in it.
//!
//! 1. Lock the rows of the batch's conversations, in the order of their keys: from here on their sequences and their
//!    members are ours. A pair's row is made with its first message, a group's with the group.
//! 2. Who writes to a group must be a member.
//! 3. A message that is there already, by its sender and the sender's id for it, gets the receipt of the first one. To
//!    look for each would cost a query for every batch, and repeats are rare: so we insert, and look only after the
//!    database has said that there is one.
//! 4. Number the messages, insert them, move the conversations on.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::Refusal;
use super::ids::{Conversation, ConversationKind, Seq, Timestamp, UserId};
use super::model::{MAX_BODY_BYTES, MAX_TIME_BYTES, NewMessage, Receipt};
use super::segments;
use super::sql::{ErrorKind, Failure, Sql, SqlError, Value, size_above};

/// A message on its way into the database.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) conversation: Conversation,
    sender: UserId,
    /// The sender's id, or one of ours.
    client_id: String,
    time: String,
    body: String,
}

/// What the ids begin with that are made here. Clients may not use control characters.
pub(super) const OWN_ID: char = '\u{1}';

impl Item {
    /// Checks what can be checked without the database.
    pub(super) fn new(message: NewMessage) -> Result<Self, Refusal> {
        let NewMessage { conversation, sender, client_id, time, body } = message;
        if body.len() > MAX_BODY_BYTES || time.len() > MAX_TIME_BYTES {
            return Err(Refusal::BodyTooLong);
        }
        if matches!(conversation.kind(), ConversationKind::Direct(..)) && conversation.other(sender).is_none() {
            return Err(Refusal::NotInConversation);
        }
        // So that a batch whose commit got lost half-way can be tried again without storing anything twice.
        let client_id = client_id.map_or_else(own_id, String::from);
        Ok(Self { conversation, sender, client_id, time, body })
    }

    /// How much of the memory for waiting messages it takes.
    pub(super) fn bytes(&self) -> usize {
        self.body.len() + self.time.len() + self.client_id.len() + size_of::<Self>()
    }

    fn id(&self) -> (UserId, &str) {
        (self.sender, &self.client_id)
    }
}

fn own_id() -> String {
    // It begins with the time, so that the ids of one moment are neighbours in their index; see the migration.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let chance = getrandom::u64().unwrap_or_default();
    format!("{OWN_ID}{now:012x}{chance:016x}{number:x}")
}

/// What becomes of each message of a batch.
pub(super) type Receipts = Vec<Result<Receipt, Refusal>>;

/// The work of storing these of the messages, to be run in a transaction, again if need be.
pub(super) fn append(
    items: Arc<Vec<Item>>,
    range: Range<usize>,
) -> impl FnMut(&mut dyn Sql) -> Result<Receipts, Failure> + Send + 'static {
    // The first attempt may have been committed although we were not told, so later ones look for repeats.
    let mut look_for_repeats = false;
    move |sql| {
        let result = Batch::new(&items[range.clone()]).store(sql, look_for_repeats);
        look_for_repeats = true;
        match result {
            Err(Failure::Sql(SqlError { kind: ErrorKind::Duplicate, .. })) => {
                Err(Failure::Again("others were storing the same messages"))
            }
            result => result,
        }
    }
}

/// A batch while it is being stored.
struct Batch<'a> {
    items: &'a [Item],
    /// The answers so far; `None` for those that are to be stored.
    answers: Vec<Option<Result<Receipt, Refusal>>>,
    /// The last sequence of each conversation that exists.
    last: BTreeMap<Conversation, u64>,
    /// The last segment of each of them, where there are segments.
    segments: HashMap<Conversation, i64>,
    /// The time that the database says it is.
    now: u64,
}

impl<'a> Batch<'a> {
    fn new(items: &'a [Item]) -> Self {
        Self { items, answers: vec![None; items.len()], last: BTreeMap::new(), segments: HashMap::new(), now: 0 }
    }

    fn store(mut self, sql: &mut dyn Sql, look_for_repeats: bool) -> Result<Receipts, Failure> {
        self.lock_conversations(sql)?;
        self.check_members(sql)?;
        if look_for_repeats {
            self.find_repeats(sql)?;
        }
        let same = self.number();
        self.insert(sql)?;
        // A message that is in the batch twice has the receipt of its first occurrence.
        for (item, first) in same {
            let receipt = self.answers[first].and_then(Result::ok);
            self.answers[item] = Some(match receipt {
                Some(receipt) if self.items[item].conversation == self.items[first].conversation => {
                    Ok(Receipt { is_repeat: true, ..receipt })
                }
                _ => Err(Refusal::IdTaken),
            });
        }
        Ok(self.answers.into_iter().map(|answer| answer.expect("each message was refused, found or stored")).collect())
    }

    /// The messages without an answer yet.
    fn open(&self) -> impl Iterator<Item = (usize, &'a Item)> {
        let (items, answers) = (self.items, &self.answers);
        items.iter().enumerate().filter(move |(i, _)| answers[*i].is_none())
    }

    fn lock_conversations(&mut self, sql: &mut dyn Sql) -> Result<(), Failure> {
        let mut wanted: Vec<Conversation> = self.items.iter().map(|item| item.conversation).collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.lock(sql, &wanted)?;
        let missing: Vec<Conversation> = wanted.into_iter().filter(|it| !self.last.contains_key(it)).collect();
        if !missing.is_empty() {
            let made = make_pairs(sql, &missing)?;
            self.lock(sql, &made)?;
        }
        if self.now == 0 {
            self.now = sql.now()?;
        }
        for i in 0..self.items.len() {
            let conversation = self.items[i].conversation;
            if !self.last.contains_key(&conversation) {
                self.answers[i] = Some(Err(match conversation.kind() {
                    ConversationKind::Direct(..) => Refusal::UnknownUser,
                    ConversationKind::Group(_) => Refusal::UnknownGroup,
                }));
            }
        }
        Ok(())
    }

    /// Locks those of these conversations that exist.
    fn lock(&mut self, sql: &mut dyn Sql, conversations: &[Conversation]) -> Result<(), Failure> {
        let dialect = sql.dialect();
        let query = format!(
            "SELECT id, last_seq, {}{} FROM conversation{} WHERE id IN {{keys}}{}",
            dialect.now,
            if dialect.has_segments { ", segment" } else { "" },
            dialect.by_primary_key,
            dialect.for_update
        );
        let keys: Vec<Value<'_>> = conversations.iter().map(|it| Value::Int(it.key())).collect();
        let (last, segments, now) = (&mut self.last, &mut self.segments, &mut self.now);
        sql.rows_by_keys(&query, 1, &keys, &mut |row| {
            let conversation = Conversation::from_key(row.int(0)?);
            last.insert(conversation, row.unsigned(1)?);
            *now = row.unsigned(2)?;
            if dialect.has_segments {
                segments.insert(conversation, row.int(3)?);
            }
            Ok(())
        })?;
        Ok(())
    }

    fn check_members(&mut self, sql: &mut dyn Sql) -> Result<(), Failure> {
        let is_group = |item: &Item| matches!(item.conversation.kind(), ConversationKind::Group(_));
        let writers: HashSet<(Conversation, UserId)> =
            self.open().filter(|(_, item)| is_group(item)).map(|(_, item)| (item.conversation, item.sender)).collect();
        if writers.is_empty() {
            return Ok(());
        }
        let keys: Vec<Value<'_>> = writers
            .iter()
            .flat_map(|(conversation, user)| [Value::Int(conversation.key()), Value::Int(user.get().into())])
            .collect();
        let mut members = HashSet::with_capacity(writers.len());
        let query = "SELECT conversation, user_id FROM participant WHERE (conversation, user_id) IN {keys}";
        sql.rows_by_keys(query, 2, &keys, &mut |row| {
            members.insert((Conversation::from_key(row.int(0)?), row.id::<UserId>(1)?));
            Ok(())
        })?;
        for (i, item) in self.items.iter().enumerate() {
            if self.answers[i].is_none() && is_group(item) && !members.contains(&(item.conversation, item.sender)) {
                self.answers[i] = Some(Err(Refusal::NotMember));
            }
        }
        Ok(())
    }

    fn find_repeats(&mut self, sql: &mut dyn Sql) -> Result<(), Failure> {
        let keys: Vec<Value<'_>> = self
            .open()
            .flat_map(|(_, item)| [Value::Int(item.sender.get().into()), Value::Text(&item.client_id)])
            .collect();
        let mut found: HashMap<(UserId, String), (Conversation, Receipt)> = HashMap::new();
        let query = "SELECT sender, client_id, conversation, seq, created_at FROM message \
                     WHERE (sender, client_id) IN {keys}";
        sql.rows_by_keys(query, 2, &keys, &mut |row| {
            let receipt = Receipt { seq: Seq(row.unsigned(3)?), at: Timestamp(row.unsigned(4)?), is_repeat: true };
            found.insert((row.id(0)?, row.text(1)?), (Conversation::from_key(row.int(2)?), receipt));
            Ok(())
        })?;
        if found.is_empty() {
            return Ok(());
        }
        for (i, item) in self.items.iter().enumerate() {
            if self.answers[i].is_some() {
                continue;
            }
            if let Some((conversation, receipt)) = found.get(&(item.sender, item.client_id.clone())) {
                self.answers[i] =
                    Some(if *conversation == item.conversation { Ok(*receipt) } else { Err(Refusal::IdTaken) });
            }
        }
        Ok(())
    }

    /// Gives each new message its receipt. Returns those that are in the batch a second time, each with its first.
    fn number(&mut self) -> Vec<(usize, usize)> {
        let mut same = Vec::new();
        let mut firsts: HashMap<(UserId, &str), usize> = HashMap::with_capacity(self.items.len());
        for (i, item) in self.items.iter().enumerate() {
            if self.answers[i].is_some() {
                continue;
            }
            match firsts.entry(item.id()) {
                Entry::Occupied(first) => same.push((i, *first.get())),
                Entry::Vacant(place) => {
                    place.insert(i);
                    let last = self.last.get_mut(&item.conversation).expect("the others were refused");
                    *last += 1;
                    let receipt = Receipt { seq: Seq(*last), at: Timestamp(self.now), is_repeat: false };
                    self.answers[i] = Some(Ok(receipt));
                }
            }
        }
        same
    }

    fn insert(&self, sql: &mut dyn Sql) -> Result<(), Failure> {
        // The messages to store, and the first and the last sequence of each conversation among them.
        let mut new = Vec::with_capacity(self.items.len());
        let mut moved: BTreeMap<Conversation, (u64, u64)> = BTreeMap::new();
        for (item, answer) in self.items.iter().zip(&self.answers) {
            let Some(Ok(Receipt { seq, at, is_repeat: false })) = answer else { continue };
            moved.entry(item.conversation).or_insert((seq.0, seq.0)).1 = seq.0;
            new.push((item, seq, at));
        }
        if new.is_empty() {
            return Ok(());
        }
        let dialect = sql.dialect();
        let segment = if dialect.has_segments { Some(self.enter_segment(sql, &moved, new.len())?) } else { None };
        let mut values = Vec::with_capacity(new.len() * 8);
        for (item, seq, at) in &new {
            values.extend(segment);
            values.extend([
                Value::Int(item.conversation.key()),
                Value::Int(seq.0.cast_signed()),
                Value::Int(item.sender.get().into()),
                Value::Text(&item.client_id),
                Value::Int(at.0.cast_signed()),
                Value::Text(&item.time),
                Value::Text(&item.body),
            ]);
        }
        let (first, width) = if segment.is_some() { ("segment, ", 8) } else { ("", 7) };
        let columns = "conversation, seq, sender, client_id, created_at, sender_time, body";
        sql.insert_rows(&format!("INSERT INTO message ({first}{columns})"), width, "", &values)?;

        let mut values: Vec<Value<'_>> = Vec::with_capacity(moved.len() * 3);
        for (conversation, (_, last)) in &moved {
            values.extend([Value::Int(conversation.key()), Value::Int(last.cast_signed())]);
            values.extend(segment);
        }
        let (head, columns): (_, &[&str]) = match segment {
            Some(_) => ("INSERT INTO conversation (id, last_seq, segment)", &["last_seq", "segment"]),
            None => ("INSERT INTO conversation (id, last_seq)", &["last_seq"]),
        };
        let width = columns.len() + 1;
        if dialect.is_mysql {
            // The same row twice changes nothing, and one round trip is less than several.
            let last = values[values.len() - width..].to_vec();
            let rows = values.len() / width;
            values.extend(std::iter::repeat_n(last, size_above(rows) - rows).flatten());
        }
        sql.insert_rows(head, width, &dialect.upsert("id", columns), &values)?;
        Ok(())
    }

    /// Opens the segment for the conversations that have nothing in it yet.
    fn enter_segment(
        &self,
        sql: &mut dyn Sql,
        moved: &BTreeMap<Conversation, (u64, u64)>,
        messages: usize,
    ) -> Result<Value<'static>, Failure> {
        let firsts = moved.iter().map(|(conversation, (first, _))| {
            let last_segment = self.segments.get(conversation).copied().unwrap_or_default();
            (*conversation, *first, last_segment)
        });
        Ok(Value::Int(segments::enter(sql, firsts, messages)?))
    }
}

/// Makes the conversations of those pairs whose users exist. Returns them.
fn make_pairs(sql: &mut dyn Sql, missing: &[Conversation]) -> Result<Vec<Conversation>, Failure> {
    let pair = |conversation: Conversation| match conversation.kind() {
        ConversationKind::Direct(low, high) => Some((low, high)),
        ConversationKind::Group(_) => None,
    };
    let users: Vec<Value<'_>> = missing
        .iter()
        .filter_map(|it| pair(*it))
        .flat_map(|(low, high)| [Value::Int(low.get().into()), Value::Int(high.get().into())])
        .collect();
    let mut known: HashSet<UserId> = HashSet::with_capacity(users.len());
    sql.rows_by_keys("SELECT id FROM user WHERE id IN {keys}", 1, &users, &mut |row| {
        known.insert(row.id(0)?);
        Ok(())
    })?;
    let made: Vec<Conversation> = missing
        .iter()
        .copied()
        .filter(|it| pair(*it).is_some_and(|(low, high)| known.contains(&low) && known.contains(&high)))
        .collect();
    if made.is_empty() {
        return Ok(made);
    }
    let now = Value::Int(sql.now()?.cast_signed());
    let zero = Value::Int(0);
    let rows: Vec<Value<'_>> = made.iter().flat_map(|it| [Value::Int(it.key()), zero]).collect();
    let ignore = sql.dialect().insert_ignore;
    sql.insert_rows(&format!("{ignore} conversation (id, last_seq)"), 2, "", &rows)?;
    let mut rows = Vec::with_capacity(made.len() * 12);
    for conversation in &made {
        let Some((low, high)) = pair(*conversation) else { continue };
        for user in if low == high { vec![low] } else { vec![low, high] } {
            rows.extend([Value::Int(conversation.key()), Value::Int(user.get().into()), zero, zero, zero, now]);
        }
    }
    let head = format!("{ignore} participant (conversation, user_id, role, since_seq, seen_seq, joined_at)");
    sql.insert_rows(&head, 6, "", &rows)?;
    Ok(made)
}

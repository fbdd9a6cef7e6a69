//! How far everyone has read, written now and then for all together.
//!
//! A cursor that is lost costs that messages are delivered once more, so cursors may wait: those of the same user in
//! the same conversation become one, and the rest share a commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::Store;
use super::backend::{Access, Backend, add};
use super::error::StoreError;
use super::ids::{Conversation, Seq, UserId};
use super::model::Cursor;
use super::options::StoreOptions;
use super::sql::{Failure, MAX_ROWS, Sql, Value, size_above};

type Flushed = oneshot::Sender<Result<(), StoreError>>;
type Key = (Conversation, UserId);

/// The cursors that wait to be written.
pub(super) struct Cursors {
    waiting: Arc<Waiting>,
    flushes: mpsc::UnboundedSender<Flushed>,
}

struct Waiting {
    map: Mutex<HashMap<Key, Seq>>,
    /// Rung when the first one comes, and when there are too many.
    bell: Notify,
    max: usize,
}

impl Cursors {
    pub(super) fn start(backend: &Backend, options: &StoreOptions) -> (Self, AbortHandle) {
        let max = options.max_pending_cursors;
        let waiting = Arc::new(Waiting { map: Mutex::default(), bell: Notify::new(), max });
        let (flushes, requests) = mpsc::unbounded_channel();
        let task =
            tokio::spawn(write_for_ever(Arc::clone(&waiting), requests, backend.clone(), options.cursor_interval));
        (Self { waiting, flushes }, task.abort_handle())
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.map.lock().len()
    }

    /// Notes a cursor. Returns whether there was room for it.
    fn note(&self, cursor: Cursor) -> bool {
        let mut map = self.waiting.map.lock();
        let key = (cursor.conversation, cursor.user);
        let count = map.len();
        match map.get_mut(&key) {
            Some(seq) => *seq = cursor.seq.max(*seq),
            None if count >= self.waiting.max => return false,
            None => {
                map.insert(key, cursor.seq);
                if count == 0 || count + 1 == self.waiting.max {
                    self.waiting.bell.notify_one();
                }
            }
        }
        true
    }

    /// Writes what waits now, and returns when it is written.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        let (flushed, answer) = oneshot::channel();
        if self.flushes.send(flushed).is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Waiting {
    fn is_full(&self) -> bool {
        self.map.lock().len() >= self.max
    }

    /// Puts back what could not be written, unless newer ones have come.
    fn put_back(&self, cursors: &[(Key, Seq)]) {
        let mut map = self.map.lock();
        for (key, seq) in cursors {
            let newest = map.entry(*key).or_insert(*seq);
            *newest = (*newest).max(*seq);
        }
    }
}

/// Writes at each interval while something waits, and at once when asked to or when too many wait.
async fn write_for_ever(
    waiting: Arc<Waiting>,
    mut requests: mpsc::UnboundedReceiver<Flushed>,
    backend: Backend,
    interval: Duration,
) {
    let mut asked = Vec::new();
    loop {
        tokio::select! {
            () = waiting.bell.notified() => {
                let pause = sleep(interval);
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        () = waiting.bell.notified() => if waiting.is_full() { break },
                        received = requests.recv_many(&mut asked, usize::MAX) => {
                            if received == 0 {
                                return;
                            }
                            break;
                        }
                    }
                }
            }
            received = requests.recv_many(&mut asked, usize::MAX) => if received == 0 { return },
        }
        // Whoever has asked by now is served by this write, too.
        while let Ok(flushed) = requests.try_recv() {
            asked.push(flushed);
        }
        let result = write(&waiting, &backend).await;
        if result.is_err() {
            // They wait for the next interval.
            waiting.bell.notify_one();
        }
        for flushed in asked.drain(..) {
            let _ = flushed.send(result.clone());
        }
    }
}

async fn write(waiting: &Waiting, backend: &Backend) -> Result<(), StoreError> {
    let mut cursors: Vec<(Key, Seq)> = std::mem::take(&mut *waiting.map.lock()).into_iter().collect();
    // In the order of the keys, so that two nodes do not wait for each other in a circle.
    cursors.sort_unstable();
    let cursors = Arc::new(cursors);
    for start in (0..cursors.len()).step_by(MAX_ROWS) {
        let part = Arc::clone(&cursors);
        let work = move |sql: &mut dyn Sql| raise(sql, &part[start..(start + MAX_ROWS).min(part.len())]);
        if let Err(error) = backend.run(Access::Repeatable, Instant::now(), None, work).await {
            tracing::debug!(%error, cursors = cursors.len() - start, "cursors could not be written yet");
            waiting.put_back(&cursors[start..]);
            return Err(error);
        }
    }
    Ok(())
}

/// Moves cursors forward, those of participants only.
fn raise(sql: &mut dyn Sql, cursors: &[(Key, Seq)]) -> Result<(), Failure> {
    let values = |((conversation, user), seq): &(Key, Seq)| {
        [Value::Int(seq.0.cast_signed()), Value::Int(conversation.key()), Value::Int(user.get().into())]
    };
    if !sql.dialect().is_mysql {
        let update = "UPDATE participant SET seen_seq = MAX(seen_seq, ?) WHERE conversation = ? AND user_id = ?";
        for cursor in cursors {
            sql.execute(update, &values(cursor))?;
        }
        return Ok(());
    }
    let Some(last) = cursors.last() else { return Ok(()) };
    let count = size_above(cursors.len());
    let row = "SELECT CAST(? AS SIGNED) AS seq, CAST(? AS SIGNED) AS conversation, CAST(? AS SIGNED) AS user_id";
    let rows = vec![row; count].join(" UNION ALL ");
    let update = format!(
        "UPDATE ({rows}) AS news STRAIGHT_JOIN participant AS p \
         ON p.conversation = news.conversation AND p.user_id = news.user_id \
         SET p.seen_seq = GREATEST(p.seen_seq, news.seq)"
    );
    // The last one again, until there are as many as the statement has rows.
    let padding = std::iter::repeat_n(last, count - cursors.len());
    let values: Vec<Value<'_>> = cursors.iter().chain(padding).flat_map(values).collect();
    sql.execute(&update, &values)?;
    Ok(())
}

/// Cursors.
impl Store {
    /// Notes that a user has received everything up to a message. Cursors never go back, and what has no such
    /// participant is ignored. Returns at once; it is written within [`StoreOptions::cursor_interval`], together with
    /// others. The caller sees to it that `seq` is not beyond what it sent.
    pub fn advance(&self, cursor: Cursor) {
        if self.check_open().is_ok() && !self.inner.cursors.note(cursor) {
            add(&self.inner.backend.counters.cursors_dropped, 1);
        }
    }

    /// Writes the cursors that wait, and returns when those noted before this call are written. For a logout, so that
    /// the next login, wherever it is, finds them.
    ///
    /// # Errors
    ///
    /// The database's. The cursors go on waiting.
    pub async fn flush_cursors(&self) -> Result<(), StoreError> {
        self.check_open()?;
        self.inner.cursors.flush().await
    }
}

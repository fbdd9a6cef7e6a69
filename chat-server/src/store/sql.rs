//! One way to speak to both databases.
//!
//! What the store does is written once, over [`Sql`]; what differs between the databases is in [`Dialect`] and in the
//! two files below this one. All values travel as parameters of prepared statements.

pub(super) mod mysql;
pub(super) mod sqlite;

use std::fmt::Write as _;
use std::sync::Arc;

use super::error::{Cause, Refusal, StoreError};

/// The most rows or values that one statement carries; longer lists go in several.
pub(super) const MAX_ROWS: usize = 256;

/// The most bytes of values that one statement carries, so that it stays below every server's `max_allowed_packet`.
pub(super) const MAX_STATEMENT_BYTES: usize = 512 * 1024;

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(&'a str),
}

/// A cell of a result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a [u8]),
}

/// Why a statement failed.
#[derive(Debug, Clone)]
pub(super) struct SqlError {
    pub(super) kind: ErrorKind,
    pub(super) cause: Cause,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    /// A unique key exists already.
    Duplicate,
    /// The database gave up in favour of others, or for now. Nothing of the transaction was done, and the connection is
    /// good.
    Conflict,
    /// The server takes no writes any more: another one has its place, or will have it soon. Nothing of the transaction was
    /// done. The connection is of no use, and the others may lead to the same server.
    Demoted,
    /// The connection is lost or can no longer be trusted.
    Lost,
    /// It would fail again.
    Permanent,
}

/// Why work in the database ended without a result.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// By the rules. Whatever the transaction did is undone.
    Refused(Refusal),
    /// By a statement.
    Sql(SqlError),
    /// The work found that it must begin again, with what it has learnt.
    Again(&'static str),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl SqlError {
    pub(super) fn permanent(problem: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Permanent, cause: Arc::from(Box::from(problem.into())) }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Sql(SqlError { kind: ErrorKind::Conflict | ErrorKind::Demoted | ErrorKind::Lost, cause }) => {
                Self::Unavailable(cause)
            }
            Failure::Sql(SqlError { kind: ErrorKind::Duplicate | ErrorKind::Permanent, cause }) => Self::Failed(cause),
            Failure::Again(why) => Self::Unavailable(Arc::from(Box::from(why))),
        }
    }
}

/// A result's row.
pub(super) trait Row {
    /// The cell in this column, counted from 0.
    fn cell(&self, column: usize) -> Result<Cell<'_>, SqlError>;
}

impl dyn Row + '_ {
    pub(super) fn int(&self, column: usize) -> Result<i64, SqlError> {
        match self.cell(column)? {
            Cell::Int(value) => Ok(value),
            other => Err(SqlError::permanent(format!("column {column} is no number: {other:?}"))),
        }
    }

    pub(super) fn unsigned(&self, column: usize) -> Result<u64, SqlError> {
        let value = self.int(column)?;
        u64::try_from(value).map_err(|_| SqlError::permanent(format!("column {column} is negative: {value}")))
    }

    /// A number that fits its type, an id for example.
    pub(super) fn id<T: TryFrom<i64>>(&self, column: usize) -> Result<T, SqlError> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| SqlError::permanent(format!("column {column} is out of range: {value}")))
    }

    pub(super) fn is_null(&self, column: usize) -> Result<bool, SqlError> {
        Ok(matches!(self.cell(column)?, Cell::Null))
    }

    /// Whether the number is not 0; NULL counts as 0.
    pub(super) fn flag(&self, column: usize) -> Result<bool, SqlError> {
        Ok(!self.is_null(column)? && self.int(column)? != 0)
    }

    pub(super) fn text(&self, column: usize) -> Result<String, SqlError> {
        match self.cell(column)? {
            Cell::Text(bytes) => String::from_utf8(bytes.to_vec())
                .map_err(|_| SqlError::permanent(format!("column {column} is not UTF-8"))),
            other => Err(SqlError::permanent(format!("column {column} is no text: {other:?}"))),
        }
    }
}

/// Takes the rows one after the other.
pub(super) type EachRow<'f> = dyn FnMut(&dyn Row) -> Result<(), SqlError> + 'f;

/// A connection to one of the databases.
pub(super) trait Sql {
    /// What is different about this database.
    fn dialect(&self) -> &'static Dialect;

    /// Runs a statement as it is, for transactions.
    fn control(&mut self, statement: &str) -> Result<(), SqlError>;

    /// Runs a statement and says how many rows it found.
    fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64, SqlError>;

    /// The number that the last insert gave to its row.
    fn last_id(&mut self) -> i64;

    /// Runs a query and hands its rows to `each`.
    fn query(&mut self, query: &str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), SqlError>;

    /// Runs `head VALUES (?, ...), ... tail` for these rows of `width` values each, in as few statements as the database
    /// likes best. Not atomic by itself.
    fn insert_rows(&mut self, head: &str, width: usize, tail: &str, values: &[Value<'_>]) -> Result<(), SqlError>;
}

impl dyn Sql + '_ {
    /// The rows of a query.
    pub(super) fn rows<T>(
        &mut self,
        query: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&dyn Row) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let mut rows = Vec::new();
        self.query(query, values, &mut |row| {
            rows.push(read(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row of a query, if there is one.
    pub(super) fn first<T>(
        &mut self,
        query: &str,
        values: &[Value<'_>],
        read: impl FnMut(&dyn Row) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        Ok(self.rows(query, values, read)?.into_iter().next())
    }

    /// The rows of a query that asks for a list of keys of `width` values each: `{keys}` in the query becomes the list in
    /// brackets. Long lists are asked for in parts.
    pub(super) fn rows_by_keys(
        &mut self,
        query: &str,
        width: usize,
        keys: &[Value<'_>],
        each: &mut EachRow<'_>,
    ) -> Result<(), SqlError> {
        in_parts(keys, width, |values| {
            self.query(&query.replace("{keys}", &tuples(width, values.len() / width)), values, each)
        })
    }

    /// Like [`rows_by_keys`](Self::rows_by_keys) for keys of one value, with the values that the query has before the list.
    pub(super) fn rows_by_keys_after(
        &mut self,
        query: &str,
        before: &[Value<'_>],
        keys: &[Value<'_>],
        each: &mut EachRow<'_>,
    ) -> Result<(), SqlError> {
        in_parts(keys, 1, |values| {
            self.query(&query.replace("{keys}", &tuples(1, values.len())), &[before, values].concat(), each)
        })
    }

    /// Like [`rows_by_keys`](Self::rows_by_keys), for a statement that is as good when a key is in the list twice.
    pub(super) fn execute_by_keys(&mut self, statement: &str, keys: &[Value<'_>]) -> Result<u64, SqlError> {
        let mut changed = 0;
        in_parts(keys, 1, |values| {
            changed += self.execute(&statement.replace("{keys}", &tuples(1, values.len())), values)?;
            Ok(())
        })?;
        Ok(changed)
    }

    /// The database's clock, in milliseconds since 1970.
    pub(super) fn now(&mut self) -> Result<u64, SqlError> {
        let query = format!("SELECT {}", self.dialect().now);
        let now = self.first(&query, &[], |row| row.unsigned(0))?;
        now.ok_or_else(|| SqlError::permanent("the database does not know the time"))
    }
}

/// Does something with a list of keys of `width` values each, in parts of a few lengths, so that the database has few
/// statements to prepare: the last key of a part is repeated until it has one of them.
fn in_parts(
    keys: &[Value<'_>],
    width: usize,
    mut each: impl FnMut(&[Value<'_>]) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let mut values = Vec::new();
    for part in keys.chunks(width * MAX_ROWS) {
        let (count, last) = (part.len() / width, &part[part.len() - width..]);
        values.clear();
        values.extend_from_slice(part);
        for _ in count..size_above(count) {
            values.extend_from_slice(last);
        }
        each(&values)?;
    }
    Ok(())
}

/// Statements have one of these many rows or keys: 1 to 8, 10, 12, 14, 16, 20, ... 256, so that a connection can keep each
/// of them prepared, and what is repeated to fill one up is a quarter at most. The largest that is not more than `count`.
fn size_below(count: usize) -> usize {
    let step = count.max(1).ilog2().saturating_sub(2);
    count >> step << step
}

/// The smallest size of a statement that is not less than `count`; see [`size_below`].
pub(super) fn size_above(count: usize) -> usize {
    let below = size_below(count);
    if below == count { count } else { below + (1 << count.ilog2().saturating_sub(2)) }
}

/// `(?, ?)` for one value per key, `((?, ?), (?, ?))` for more.
fn tuples(width: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * (width * 2 + 4) + 2);
    text.push('(');
    for key in 0..count {
        text.push_str(if key == 0 { "" } else { ", " });
        push_tuple(&mut text, width, width > 1);
    }
    text.push(')');
    text
}

fn push_tuple(text: &mut String, width: usize, brackets: bool) {
    text.push_str(if brackets { "(" } else { "" });
    for column in 0..width {
        text.push_str(if column == 0 { "?" } else { ", ?" });
    }
    text.push_str(if brackets { ")" } else { "" });
}

/// What is different about a database.
#[derive(Debug)]
pub(super) struct Dialect {
    /// An expression for milliseconds since 1970.
    pub(super) now: &'static str,
    /// Opens a transaction that will write.
    pub(super) begin: &'static str,
    /// After a `SELECT`: lock the rows that are read.
    pub(super) for_update: &'static str,
    /// After a table's name: go by the primary key, so that no other rows are locked on the way.
    pub(super) by_primary_key: &'static str,
    /// Begins an insert that leaves existing rows alone.
    pub(super) insert_ignore: &'static str,
    /// From where, and in which order, messages `m` of a conversation and their senders `u` are read. `{order}` is `ASC` or
    /// `DESC`; the values are the conversation, the sequences that the messages lie between, and the most rows.
    pub(super) messages: &'static str,
    /// Deletes messages of a conversation, of which the values are that, up to a sequence.
    pub(super) delete_messages: &'static str,
    /// Whether messages are kept in [segments](super::segments).
    pub(super) has_segments: bool,
    /// Whether it speaks MySQL's dialect.
    pub(super) is_mysql: bool,
}

impl Dialect {
    /// What ends an insert that replaces these columns when the key exists.
    pub(super) fn upsert(&self, key: &str, columns: &[&str]) -> String {
        let mut tail = if self.is_mysql {
            " ON DUPLICATE KEY UPDATE ".to_owned()
        } else {
            format!(" ON CONFLICT ({key}) DO UPDATE SET ")
        };
        for (i, column) in columns.iter().enumerate() {
            tail.push_str(if i == 0 { "" } else { ", " });
            let result = if self.is_mysql {
                write!(tail, "{column} = VALUES({column})")
            } else {
                write!(tail, "{column} = excluded.{column}")
            };
            result.expect("writing to a string does not fail");
        }
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_few_sizes() {
        let sizes: std::collections::BTreeSet<usize> = (1..=MAX_ROWS).map(size_above).collect();
        assert_eq!(sizes, (1..=MAX_ROWS).map(size_below).collect());
        assert_eq!(sizes.len(), 28);
        for count in 1..=MAX_ROWS {
            assert!(size_below(count) <= count && count <= size_above(count) && size_above(count) * 4 <= count * 5);
        }
    }

    #[test]
    fn lists_are_written_for_the_databases() {
        assert_eq!(tuples(1, 3), "(?, ?, ?)");
        assert_eq!(tuples(2, 2), "((?, ?), (?, ?))");
        assert_eq!(mysql::DIALECT.upsert("id", &["a", "b"]), " ON DUPLICATE KEY UPDATE a = VALUES(a), b = VALUES(b)");
        assert_eq!(sqlite::DIALECT.upsert("id", &["a"]), " ON CONFLICT (id) DO UPDATE SET a = excluded.a");
    }
}

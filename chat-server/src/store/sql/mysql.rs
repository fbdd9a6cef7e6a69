//! MySQL and MariaDB.

use std::sync::Arc;

use mysql::prelude::Queryable;
use mysql::{DriverError, Error, Params};
use pool::managers::mysql::MysqlConnection;

use super::{
    Cell, Dialect, EachRow, ErrorKind, MAX_ROWS, MAX_STATEMENT_BYTES, Row, Sql, SqlError, Value, push_tuple, size_below,
};

pub(super) static DIALECT: Dialect = Dialect {
    // Not `UNIX_TIMESTAMP(NOW(3))`, which goes by way of the local time and repeats an hour every autumn.
    now: "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)",
    begin: "START TRANSACTION",
    for_update: " FOR UPDATE",
    by_primary_key: " FORCE INDEX (PRIMARY)",
    insert_ignore: "INSERT IGNORE INTO",
    messages: "FROM message AS m JOIN user AS u ON u.id = m.sender \
               WHERE m.conversation = ? AND m.seq > ? AND m.seq < ? ORDER BY m.seq {order} LIMIT ?",
    delete_messages: "DELETE FROM message WHERE conversation = ? AND seq <= ?",
    has_segments: false,
    is_mysql: true,
};

/// The server's answers after which the same statement may succeed on the same connection.
const FOR_NOW: &[u16] = &[
    1020, // record has changed since it was read
    1021, 1114, // disk full, table full
    1205, 1213, // lock wait timeout, deadlock
    1317, 1969, 3024, // interrupted by KILL QUERY or by a limit of time
    3572, // lock not available at once
];

/// The server's answers when it takes no writes.
const READ_ONLY: &[u16] = &[1290, 1792, 1836];

/// The server's answers that end the session.
const SESSION_ENDED: &[u16] = &[
    1040, 1047, 1053, 1080, 1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1203, 1835, 1927, 3032,
    3168, 3169, 4031,
];

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::MySqlError(answer) => match answer.code {
                1062 | 1586 => ErrorKind::Duplicate,
                code if FOR_NOW.contains(&code) => ErrorKind::Conflict,
                code if READ_ONLY.contains(&code) => ErrorKind::Demoted,
                code if SESSION_ENDED.contains(&code) => ErrorKind::Lost,
                _ => ErrorKind::Permanent,
            },
            Error::DriverError(
                DriverError::MismatchedStmtParams(..) | DriverError::MixedParams | DriverError::Params(_),
            )
            | Error::UrlError(_)
            | Error::FromValueError(_)
            | Error::FromRowError(_) => ErrorKind::Permanent,
            // Of the socket, the codec, TLS, or the driver in the middle of something.
            _ => ErrorKind::Lost,
        };
        Self { kind, cause: Arc::new(error) }
    }
}

impl Row for mysql::Row {
    fn cell(&self, column: usize) -> Result<Cell<'_>, SqlError> {
        match self.as_ref(column) {
            Some(mysql::Value::NULL) => Ok(Cell::Null),
            Some(mysql::Value::Int(value)) => Ok(Cell::Int(*value)),
            Some(mysql::Value::UInt(value)) => i64::try_from(*value)
                .map(Cell::Int)
                .map_err(|_| SqlError::permanent(format!("column {column} is out of range: {value}"))),
            Some(mysql::Value::Bytes(bytes)) => Ok(Cell::Text(bytes)),
            other => Err(SqlError::permanent(format!("column {column} is unexpected: {other:?}"))),
        }
    }
}

fn params(values: &[Value<'_>]) -> Params {
    if values.is_empty() {
        return Params::Empty;
    }
    Params::Positional(
        values
            .iter()
            .map(|value| match value {
                Value::Int(value) => mysql::Value::Int(*value),
                Value::Text(text) => mysql::Value::Bytes(text.as_bytes().to_vec()),
            })
            .collect(),
    )
}

impl Sql for MysqlConnection {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn control(&mut self, statement: &str) -> Result<(), SqlError> {
        Ok(self.query_drop(statement)?)
    }

    fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.exec_drop(statement, params(values))?;
        Ok(self.affected_rows())
    }

    fn last_id(&mut self) -> i64 {
        self.last_insert_id().cast_signed()
    }

    fn query(&mut self, query: &str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), SqlError> {
        let rows: Vec<mysql::Row> = self.exec(query, params(values))?;
        rows.iter().try_for_each(|row| each(row))
    }

    /// In statements of a few sizes, so that the server can keep them prepared: a batch takes one round trip or two, seldom
    /// three.
    fn insert_rows(&mut self, head: &str, width: usize, tail: &str, mut values: &[Value<'_>]) -> Result<(), SqlError> {
        while !values.is_empty() {
            let rows = fitting_rows(values, width);
            let (now, later) = values.split_at(rows * width);
            let mut statement = String::with_capacity(head.len() + tail.len() + rows * (3 * width + 2));
            statement.push_str(head);
            statement.push_str(" VALUES ");
            for row in 0..rows {
                statement.push_str(if row == 0 { "" } else { ", " });
                push_tuple(&mut statement, width, true);
            }
            statement.push_str(tail);
            self.exec_drop(&statement, params(now))?;
            values = later;
        }
        Ok(())
    }
}

/// How many rows the next statement takes: one of the sizes that there are, and no more bytes than a statement may have.
fn fitting_rows(values: &[Value<'_>], width: usize) -> usize {
    let mut bytes = 0;
    let fitting = values
        .chunks(width)
        .take(MAX_ROWS)
        .take_while(|row| {
            bytes += row.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 8 }).sum::<usize>();
            bytes <= MAX_STATEMENT_BYTES
        })
        .count();
    size_below(fitting.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_grow_to_one_of_a_few_lengths_and_to_a_size() {
        let small = [Value::Int(1); 3 * 100];
        assert_eq!(fitting_rows(&small, 3), 96);
        assert_eq!(fitting_rows(&small[..4 * 3], 3), 4);
        assert_eq!(fitting_rows(&small[..3], 3), 1);
        let text = "x".repeat(MAX_STATEMENT_BYTES / 5);
        assert_eq!(fitting_rows(&[Value::Text(&text); 20], 2), 2, "two rows are four texts, and a fifth part is left");
        let large = "x".repeat(2 * MAX_STATEMENT_BYTES);
        assert_eq!(fitting_rows(&[Value::Text(&large); 4], 1), 1, "one has to go, whatever its size");
    }

    #[test]
    fn errors_are_told_apart_by_what_follows_from_them() {
        let answer = |code| {
            let (state, message) = ("HY000".into(), String::new());
            SqlError::from(Error::MySqlError(mysql::MySqlError { state, message, code })).kind
        };
        assert_eq!(answer(1062), ErrorKind::Duplicate);
        assert_eq!((answer(1213), answer(1205)), (ErrorKind::Conflict, ErrorKind::Conflict));
        assert_eq!((answer(1053), answer(1927)), (ErrorKind::Lost, ErrorKind::Lost));
        assert_eq!([answer(1290), answer(1792), answer(1836)], [ErrorKind::Demoted; 3]);
        assert_eq!((answer(1064), answer(1406)), (ErrorKind::Permanent, ErrorKind::Permanent));
        let timeout = std::io::Error::from(std::io::ErrorKind::WouldBlock);
        assert_eq!(SqlError::from(Error::IoError(timeout)).kind, ErrorKind::Lost);
        assert_eq!(SqlError::from(Error::DriverError(DriverError::PacketOutOfSync)).kind, ErrorKind::Lost);
    }
}

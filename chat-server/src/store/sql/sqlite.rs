//! SQLite.

use std::sync::Arc;

use rusqlite::ffi::ErrorCode;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, ToSql, ffi, params_from_iter};

use super::{Cell, Dialect, EachRow, ErrorKind, Row, Sql, SqlError, Value, push_tuple};

pub(super) static DIALECT: Dialect = Dialect {
    now: "CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER)",
    // Takes the writer's lock at once: a transaction that reads first and writes later could not wait for it.
    begin: "BEGIN IMMEDIATE",
    for_update: "",
    by_primary_key: "",
    insert_ignore: "INSERT OR IGNORE INTO",
    // `CROSS JOIN` is a join in the order in which it is written: the segments one after the other, in each the
    // conversation's messages, which is the order that is asked for.
    messages: "FROM conversation_segment AS s \
               CROSS JOIN message AS m ON m.segment = s.segment AND m.conversation = s.conversation \
               CROSS JOIN user AS u ON u.id = m.sender \
               WHERE s.conversation = ?1 AND m.seq > ?2 AND m.seq < ?3 AND s.first_seq < ?3 \
               AND s.first_seq >= COALESCE((SELECT MAX(first_seq) FROM conversation_segment \
               WHERE conversation = ?1 AND first_seq <= ?2 + 1), 0) \
               ORDER BY s.first_seq {order}, m.seq {order} LIMIT ?4",
    delete_messages: "DELETE FROM message WHERE conversation = ?1 AND seq <= ?2 AND segment IN \
                      (SELECT segment FROM conversation_segment WHERE conversation = ?1 AND first_seq <= ?2)",
    has_segments: true,
    is_mysql: false,
};

impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::SqliteFailure(ffi::Error { code, extended_code }, _) => match code {
                ErrorCode::ConstraintViolation
                    if [ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_PRIMARYKEY].contains(extended_code) =>
                {
                    ErrorKind::Duplicate
                }
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly => ErrorKind::Conflict,
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::InternalMalfunction => ErrorKind::Lost,
                _ => ErrorKind::Permanent,
            },
            _ => ErrorKind::Permanent,
        };
        Self { kind, cause: Arc::new(error) }
    }
}

impl Row for rusqlite::Row<'_> {
    fn cell(&self, column: usize) -> Result<Cell<'_>, SqlError> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(Cell::Null),
            ValueRef::Integer(value) => Ok(Cell::Int(value)),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Cell::Text(bytes)),
            other @ ValueRef::Real(_) => Err(SqlError::permanent(format!("column {column} is unexpected: {other:?}"))),
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

impl Sql for Connection {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn control(&mut self, statement: &str) -> Result<(), SqlError> {
        self.prepare_cached(statement)?.execute([])?;
        Ok(())
    }

    fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        let changed = self.prepare_cached(statement)?.execute(params_from_iter(values))?;
        Ok(changed as u64)
    }

    fn last_id(&mut self) -> i64 {
        self.last_insert_rowid()
    }

    fn query(&mut self, query: &str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), SqlError> {
        let mut statement = self.prepare_cached(query)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }

    /// One by one: there is no round trip to be saved.
    fn insert_rows(&mut self, head: &str, width: usize, tail: &str, values: &[Value<'_>]) -> Result<(), SqlError> {
        let mut text = format!("{head} VALUES ");
        push_tuple(&mut text, width, true);
        text.push_str(tail);
        let mut statement = self.prepare_cached(&text)?;
        for row in values.chunks(width) {
            statement.execute(params_from_iter(row))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::append::{Item, append};
    use crate::store::friends::mutual_friends_of;
    use crate::store::groups::in_a_group_with;
    use crate::store::messages::unread_of;
    use crate::store::sql::Failure;
    use crate::store::tokens::owners_of;
    use crate::store::{ClientMessageId, Conversation, GroupId, NewMessage, UserId, migrate};

    /// The tables that grow, and the names that statements have for them.
    const LARGE: [&str; 15] = [
        "user",
        "u",
        "friend",
        "mine",
        "theirs",
        "resume_token",
        "t",
        "participant",
        "p",
        "conversation",
        "c",
        "conversation_segment",
        "s",
        "message",
        "m",
    ];

    /// Notes what SQLite says it will read from one end to the other.
    struct Watched {
        connection: Connection,
        scans: Vec<String>,
    }

    impl Watched {
        fn explain(&mut self, statement: &str, values: &[Value<'_>]) -> Result<(), SqlError> {
            let mut plan = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
            let steps = plan.query_map(params_from_iter(values), |row| row.get::<_, String>(3))?;
            for step in steps {
                let step = step?;
                if step.strip_prefix("SCAN ").and_then(|it| it.split(' ').next()).is_some_and(|it| LARGE.contains(&it))
                {
                    self.scans.push(format!("{step}: {statement}"));
                }
            }
            Ok(())
        }
    }

    impl Sql for Watched {
        fn dialect(&self) -> &'static Dialect {
            &DIALECT
        }

        fn control(&mut self, statement: &str) -> Result<(), SqlError> {
            Sql::control(&mut self.connection, statement)
        }

        fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
            self.explain(statement, values)?;
            Sql::execute(&mut self.connection, statement, values)
        }

        fn last_id(&mut self) -> i64 {
            Sql::last_id(&mut self.connection)
        }

        fn query(&mut self, query: &str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), SqlError> {
            self.explain(query, values)?;
            Sql::query(&mut self.connection, query, values, each)
        }

        fn insert_rows(&mut self, head: &str, width: usize, tail: &str, values: &[Value<'_>]) -> Result<(), SqlError> {
            Sql::insert_rows(&mut self.connection, head, width, tail, values)
        }
    }

    #[test]
    fn no_large_table_is_read_from_one_end_to_the_other() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate::sqlite_tables(&mut connection);
        connection
            .execute_batch(
                "INSERT INTO user VALUES (1, 'ada', 'ada', 'x', 0), (2, 'bob', 'bob', 'x', 0);
                 INSERT INTO conversation (id, last_seq) VALUES (7, 0);
                 INSERT INTO participant VALUES (7, 1, 0, 0, 0, 0), (7, 2, 0, 0, 0, 0)",
            )
            .unwrap();
        let mut watched = Watched { connection, scans: Vec::new() };
        let sql: &mut dyn Sql = &mut watched;
        let (ada, bob) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let (pair, group) = (Conversation::direct(ada, bob), Conversation::group(GroupId::new(7).unwrap()));
        let items = [pair, group, group].into_iter().enumerate().map(|(at, conversation)| {
            let client_id = ClientMessageId::new(at.to_string()).ok();
            let (time, body) = (String::new(), "hello".into());
            Item::new(NewMessage { conversation, sender: ada, client_id, time, body }).unwrap()
        });
        let items = Arc::new(items.collect::<Vec<_>>());
        let stored = append(Arc::clone(&items), 0..3)(sql).unwrap();
        assert!(stored.iter().all(|receipt| receipt.is_ok_and(|receipt| !receipt.is_repeat)));
        let mut again = append(items, 0..3);
        sql.control("BEGIN").unwrap();
        assert!(matches!(again(sql), Err(Failure::Again(_))), "they are there already");
        sql.control("ROLLBACK").unwrap();
        assert!(again(sql).unwrap().iter().all(|receipt| receipt.is_ok_and(|receipt| receipt.is_repeat)));
        let between = [Value::Int(group.key()), Value::Int(0), Value::Int(i64::MAX), Value::Int(9)];
        for order in ["ASC", "DESC"] {
            let query = format!("SELECT m.seq {}", DIALECT.messages.replace("{order}", order));
            assert_eq!(sql.rows(&query, &between, |row| row.int(0)).unwrap().len(), 2);
        }
        assert_eq!(sql.execute(DIALECT.delete_messages, &[Value::Int(group.key()), Value::Int(2)]).unwrap(), 2);
        let nobody = "0".repeat(64);
        assert!(unread_of(sql, &[ada, bob]).unwrap().contains_key(&bob));
        assert!(mutual_friends_of(sql, &[ada, bob]).unwrap().is_empty());
        assert!(in_a_group_with(sql, ada, &[bob]).unwrap().is_empty(), "they have talked, which is no group");
        assert!(owners_of(sql, &[nobody.clone(), nobody]).unwrap().is_empty());
        assert_eq!(watched.scans, Vec::<String>::new());
    }
}

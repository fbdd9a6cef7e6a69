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

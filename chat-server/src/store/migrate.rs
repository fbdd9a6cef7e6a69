//! Brings the tables up to date: `migrations/mysql` and `migrations/sqlite`, each file once, in order.
//!
//! Files that were applied are never edited; a database that has files which this program does not know is refused.

use std::sync::Arc;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Opts, OptsBuilder};
use pool::Manager;
use pool::managers::mysql::MysqlManager;
use pool::managers::sqlite::SqliteManager;
use rusqlite::TransactionBehavior;

use super::error::StoreError;
use super::sql::{ErrorKind, Failure, SqlError};

mod mysql_files {
    refinery::embed_migrations!("migrations/mysql");
}

mod sqlite_files {
    refinery::embed_migrations!("migrations/sqlite");
}

/// How long to wait while another node changes the tables.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// How long one change of a table may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// How often several programs that open a new SQLite file at the same moment may get in each other's way.
const SQLITE_ATTEMPTS: u32 = 20;

/// Options of the connection that changes tables: it may have to wait for longer than others.
pub(super) fn mysql_opts(opts: &Opts) -> OptsBuilder {
    OptsBuilder::from_opts(opts.clone()).read_timeout(Some(STATEMENT_TIMEOUT))
}

/// MySQL and MariaDB commit every change of a table by itself, so nothing but a lock keeps two nodes from making the
/// same one. It is the server's, so the database's name is part of its name.
pub(super) fn mysql(manager: &MysqlManager) -> Result<(), StoreError> {
    let mut connection = manager.connect().map_err(failed)?.into_inner();
    let database: Option<String> = connection.query_first("SELECT DATABASE()").map_err(failed)?;
    // At most 64 characters are allowed, which is what a database's name may have already.
    let lock = format!("chat.{:016x}", fnv1a(&database.unwrap_or_default()));
    let taken: Option<Option<i64>> =
        connection.exec_first("SELECT GET_LOCK(?, ?)", (&lock, LOCK_WAIT.as_secs())).map_err(failed)?;
    if taken != Some(Some(1)) {
        let problem = format!("another node has been changing the tables for {LOCK_WAIT:?}");
        return Err(StoreError::Unavailable(Arc::from(Box::from(problem))));
    }
    let result = mysql_files::migrations::runner().run(&mut connection);
    // Closing the connection would do, too, but a little later.
    let _ = connection.exec_drop("DO RELEASE_LOCK(?)", (&lock,));
    applied(&result.map_err(|error| StoreError::Failed(Arc::new(error)))?);
    Ok(())
}

/// SQLite changes tables in transactions, all files in one. Two programs may find the same files missing; the second
/// one then fails to note them as applied, and looks again.
pub(super) fn sqlite(manager: &SqliteManager) -> Result<(), StoreError> {
    let mut connection = manager.connect().map_err(failed)?;
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    for attempt in 1.. {
        match sqlite_files::migrations::runner().set_grouped(true).run(&mut connection) {
            Ok(report) => {
                applied(&report);
                break;
            }
            Err(error) if attempt < SQLITE_ATTEMPTS && is_race(&error) => {
                tracing::debug!(%error, "another program is changing the tables");
                std::thread::sleep(Duration::from_millis(5 * u64::from(attempt)));
            }
            Err(error) => return Err(StoreError::Failed(Arc::new(error))),
        }
    }
    Ok(())
}

/// The tables, in a database that has nothing else to do.
#[cfg(test)]
pub(super) fn sqlite_tables(connection: &mut rusqlite::Connection) {
    sqlite_files::migrations::runner().run(connection).expect("an empty database takes every file");
}

fn is_race(error: &refinery::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(rusqlite::Error::SqliteFailure(code, _)) = cause.downcast_ref() {
            return matches!(
                code.code,
                rusqlite::ErrorCode::DatabaseBusy
                    | rusqlite::ErrorCode::DatabaseLocked
                    | rusqlite::ErrorCode::ConstraintViolation
            );
        }
        source = cause.source();
    }
    false
}

fn applied(report: &refinery::Report) {
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "changed the tables");
    }
}

fn failed(error: impl Into<SqlError>) -> StoreError {
    let error = error.into();
    // What a lock or a lost connection stopped may work at the next start, but not for this one.
    debug_assert_ne!(error.kind, ErrorKind::Duplicate);
    Failure::Sql(error).into()
}

/// A short name for a long one: FNV-1a, whose values are the same in every version of the program.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Database;
    use crate::store::{ClientMessageId, Conversation, NewMessage, Page, Seq, Store, StoreOptions, UserId};

    #[test]
    fn the_locks_name_never_changes() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[tokio::test]
    async fn what_was_stored_before_there_were_segments_is_read_and_continued() {
        let messages = "INSERT INTO conversation VALUES ({pair}, 2);
                       INSERT INTO message VALUES ({pair}, 1, 1, 'a', 5, '', 'one'), ({pair}, 2, 2, 'b', 6, '', 'two')";
        is_read_and_continued(10, messages).await;
    }

    #[tokio::test]
    async fn what_was_stored_before_messages_were_appended_is_read_and_continued() {
        let messages = "INSERT INTO conversation VALUES ({pair}, 2, 2);
                        INSERT INTO conversation_segment VALUES ({pair}, 1, 1), ({pair}, 2, 2);
                        UPDATE segment SET id = 2, messages = 1, conversations = 1;
                        INSERT INTO message VALUES (1, {pair}, 1, 1, 'a', 5, '', 'one'), (2, {pair}, 2, 2, 'b', 6, '', 'two')";
        is_read_and_continued(11, messages).await;
    }

    /// Two messages that were stored with the tables of this version.
    async fn is_read_and_continued(version: i32, messages: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.db");
        let mut connection = rusqlite::Connection::open(&file).unwrap();
        sqlite_files::migrations::runner().set_target(refinery::Target::Version(version)).run(&mut connection).unwrap();
        let (ada, bob) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let pair = Conversation::direct(ada, bob);
        connection
            .execute_batch(&format!(
                "INSERT INTO user VALUES (1, 'ada', 'ada', 'x', 0), (2, 'bob', 'bob', 'x', 0);
                 INSERT INTO participant VALUES ({0}, 1, 0, 0, 0, 0), ({0}, 2, 0, 0, 0, 0);
                 {1}",
                pair.key(),
                messages.replace("{pair}", &pair.key().to_string())
            ))
            .unwrap();
        drop(connection);
        let store = Store::open(&Database::SqliteFile(file), StoreOptions::default()).await.unwrap();
        let new = |id: &str, body: &str| NewMessage {
            conversation: pair,
            sender: ada,
            client_id: ClientMessageId::new(id).ok(),
            time: String::new(),
            body: body.into(),
        };
        let repeat = store.append_one(new("a", "one")).await.unwrap();
        assert_eq!((repeat.seq, repeat.is_repeat), (Seq(1), true));
        assert_eq!(store.append_one(new("c", "three")).await.unwrap().seq, Seq(3));
        for page in [Page::After(Seq(0)), Page::Last] {
            let read = store.history(bob, pair, page, 10).await.unwrap();
            assert_eq!(read.iter().map(|it| &*it.body).collect::<Vec<_>>(), ["one", "two", "three"]);
        }
        store.close(Duration::from_secs(5)).await.unwrap();
    }
}

// Programs as the users of r2d2's managers write them: the examples of r2d2_sqlite, diesel and r2d2_mysql, grown up a
// little. Included twice, like `user_code.rs`.

use std::path::Path;
use std::thread;

use diesel::prelude::*;
use diesel::r2d2::ConnectionManager;
use r2d2_mysql::MySqlConnectionManager;
use r2d2_mysql::mysql::prelude::Queryable;
use r2d2_mysql::mysql::{Opts, OptsBuilder};
use r2d2_sqlite::SqliteConnectionManager;
use r2d2_sqlite::rusqlite::params;

/// The example of r2d2_sqlite's documentation: ten threads write, and all is there.
pub fn sqlite(file: &Path) -> i64 {
    let manager = SqliteConnectionManager::file(file).with_init(|connection| {
        connection.busy_timeout(std::time::Duration::from_secs(20))?;
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA foreign_keys = 1;")
    });
    let pool = r2d2::Pool::new(manager).unwrap();
    pool.get().unwrap().execute("CREATE TABLE IF NOT EXISTS foo (bar INTEGER)", params![]).unwrap();

    (0..10)
        .map(|i| {
            let pool = pool.clone();
            thread::spawn(move || {
                let conn = pool.get().unwrap();
                conn.execute("INSERT INTO foo (bar) VALUES (?)", [&i]).unwrap();
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(thread::JoinHandle::join)
        .collect::<Result<(), _>>()
        .unwrap();

    let mut conn = pool.get().unwrap();
    let transaction = conn.transaction().unwrap();
    transaction.execute("DELETE FROM foo WHERE bar = 9", []).unwrap();
    transaction.commit().unwrap();
    conn.query_row("SELECT SUM(bar) FROM foo", [], |row| row.get(0)).unwrap()
}

diesel::table! {
    users (id) {
        id -> Integer,
        name -> Text,
    }
}

/// A pool of diesel's connections, a transaction that fails and one that does not.
///
/// diesel implements its traits for r2d2's `PooledConnection`, too, so `&mut conn` would do with r2d2; `&mut *conn` does
/// with both.
pub fn diesel(file: &Path) -> Vec<(i32, String)> {
    let manager = ConnectionManager::<SqliteConnection>::new(file.to_str().unwrap());
    let pool = r2d2::Pool::builder().max_size(2).test_on_check_out(true).build(manager).unwrap();
    let mut conn = pool.get().unwrap();
    diesel::sql_query("CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        .execute(&mut *conn)
        .unwrap();
    diesel::insert_into(users::table).values((users::id.eq(1), users::name.eq("ada"))).execute(&mut *conn).unwrap();
    let undone: Result<(), diesel::result::Error> = conn.transaction(|conn| {
        diesel::insert_into(users::table).values((users::id.eq(2), users::name.eq("bob"))).execute(conn)?;
        Err(diesel::result::Error::RollbackTransaction)
    });
    assert_eq!(undone, Err(diesel::result::Error::RollbackTransaction));
    conn.transaction(|conn| {
        diesel::insert_into(users::table).values((users::id.eq(3), users::name.eq("cy"))).execute(conn)
    })
    .unwrap();
    drop(conn);

    let mut conn = pool.get().unwrap();
    users::table.order(users::id).load(&mut *conn).unwrap()
}

/// The example of r2d2_mysql's documentation, and a connection that was killed.
pub fn mysql(url: &str) -> Vec<u32> {
    let opts = Opts::from_url(url).unwrap();
    let builder = OptsBuilder::from_opts(opts).prefer_socket(false);
    let manager = MySqlConnectionManager::new(builder);
    let pool = r2d2::Pool::builder().max_size(4).error_handler(Box::new(r2d2::NopErrorHandler)).build(manager).unwrap();

    let mut tasks = vec![];
    for number in 0..4_u32 {
        let pool = pool.clone();
        tasks.push(thread::spawn(move || {
            let mut conn = pool.get().expect("error getting connection from pool");
            let doubled: Option<u32> = conn.exec_first("SELECT ? * 2", (number,)).unwrap();
            doubled.unwrap()
        }));
    }
    let mut answers: Vec<u32> = tasks.into_iter().map(|task| task.join().unwrap()).collect();

    let killed = pool.get().unwrap();
    let id = killed.connection_id();
    let mut outside = pool.get().unwrap();
    outside.query_drop(format!("KILL {id}")).unwrap();
    let is_there = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id}");
    while outside.query_first(&is_there).unwrap() != Some(0_u32) {}
    drop(outside);
    drop(killed); // whose ping fails
    for _ in 0..4 {
        let mut conn = pool.get().unwrap();
        assert_ne!(conn.connection_id(), id);
        answers.push(conn.query_first("SELECT 1").unwrap().unwrap());
    }
    answers
}

//! Managers for databases, each behind a feature of its name: what the pool needs to know about each driver.
//!
//! | feature | manager | connection |
//! |---|---|---|
//! | `mysql` | [`mysql::MysqlManager`] | [`mysql::MysqlConnection`], a [`mysql::Conn`](::mysql::Conn) that notes its errors |
//! | `sqlite` | [`sqlite::SqliteManager`] | [`rusqlite::Connection`] |
//!
//! Anything else is a [`Manager`](crate::Manager) of your own; its associated types and two short methods are enough.

#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "sqlite")]
pub mod sqlite;

//! Managers for databases, each behind a feature of its name: what the pool needs to know about each driver.
//!
//! | feature | manager | connection |
//! |---|---|---|
//! | `mysql` | [`mysql::MysqlManager`] | [`mysql::MysqlConnection`], a [`mysql::Conn`](::mysql::Conn) that notes its errors |
//! | `sqlite` | [`sqlite::SqliteManager`] | [`rusqlite::Connection`] |
//! | `r2d2` | [`r2d2::R2d2Manager`], around any manager written for r2d2 | that manager's |
//! | `tokio` | [`asynchronous::OnRuntime`], around an [`asynchronous::AsyncManager`] of yours | that manager's, in an [`asynchronous::AsyncConnection`] |
//!
//! Anything else is a [`Manager`](crate::Manager) of your own; its associated types and two short methods are enough.

#[cfg(feature = "tokio")]
pub mod asynchronous;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "r2d2")]
pub mod r2d2;
#[cfg(feature = "sqlite")]
pub mod sqlite;

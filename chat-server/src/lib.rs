//! A chat server over a connection pool that is chosen when it is built.
//!
//! So far it opens its pool and asks the database a question; the server itself stands on the same parts.
//!
//! | part | what it does |
//! |---|---|
//! | [`config`] | what to connect to, from the command line, a settings file or the environment |
//! | [`db`] | the pool, behind one trait; the cargo features each add an adapter, [`db::choice`] picks one |
//! | [`store`] | the only place with SQL; MySQL or SQLite |

pub mod client;
pub mod codec;
pub mod config;
pub mod db;
pub mod load;
pub mod protocol;
pub mod store;

/// The examples of the workspace's readme, which need both databases.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

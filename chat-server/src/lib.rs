//! A chat server over a connection pool that is chosen when it is built.
//!
//! PROTOCOL.md says how clients speak to it. A message's way through the parts:
//!
//! ```text
//! socket ─► codec ─► session ─► commands ─► delivery ─► store (commit) ─► ack to the sender
//!                                              ├─► hub ─► the recipients' outboxes ─► sockets
//!                                              └─► bus ─► the other nodes' delivery
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`protocol`], [`codec`] | what is said, and where a frame ends |
//! | [`server`] | accepts connections, stops in order |
//! | `session`, [`outbox`], [`hub`] | one client's connection, what waits for it, who is here |
//! | `commands` | what clients can ask for, one handler each |
//! | `delivery`, [`push`] | a message's way, and the healing reads that find what was lost on it |
//! | `presence` | the node's lease, who is where |
//! | [`bus`] | hints between nodes |
//! | [`store`], [`auth`] | the only place with SQL; passwords |
//! | [`db`] | the pool, behind one trait; the cargo features each add an adapter, [`db::choice`] picks one |
//! | [`config`], [`limits`], [`open_files`] | every option; how limits are enforced; the system's limit |
//! | [`client`], [`load`] | the terminal client, the load generator and the checker |
//! | [`metrics`], `http` | what is counted, and where operators see it |
//! | [`fuzzing`] | what must hold for any bytes at all |

pub mod auth;
pub mod bus;
pub mod client;
pub mod codec;
mod commands;
pub mod config;
pub mod db;
mod delivery;
pub mod fuzzing;
mod http;
pub mod hub;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod node;
pub mod open_files;
pub mod outbox;
mod presence;
pub mod protocol;
mod proxy;
pub mod push;
pub mod server;
mod session;
pub mod store;

/// The examples of the workspace's readme, which need both databases.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

//! r2d2's names over this crate's pool, so that moving over from r2d2 0.8 is a change of one line.
//!
//! ```
//! use pool::r2d2_compat as r2d2; // the line
//!
//! # #[derive(Debug)]
//! # struct Manager;
//! # impl r2d2::ManageConnection for Manager {
//! #     type Connection = u32;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<u32> { Ok(7) }
//! #     fn is_valid(&self, _: &mut u32) -> std::io::Result<()> { Ok(()) }
//! #     fn has_broken(&self, _: &mut u32) -> bool { false }
//! # }
//! let pool = r2d2::Pool::builder().max_size(15).build(Manager).unwrap();
//! let connection = pool.get().unwrap();
//! assert_eq!(*connection, 7);
//! ```
//!
//! Managers written for r2d2 (of diesel, r2d2_sqlite, r2d2_mysql and others) fit as they are, since
//! [`ManageConnection`], [`CustomizeConnection`], [`HandleError`] and [`Extensions`] **are** r2d2's. What only r2d2 could
//! make, or what its pool is made of, is ours under the same name: [`Pool`], [`Builder`], [`PooledConnection`],
//! [`State`], [`Error`], [`HandleEvent`] and the events of [`event`].
//!
//! Whoever wants more than r2d2 offers (async acquires, errors with their cause, validation by idle age) pools the same
//! manager with [`R2d2Manager`](crate::managers::r2d2::R2d2Manager) instead.
//!
//! # What is the same
//!
//! Every option with its default and its panics, every getter. `build` waits for the first connections, `min_idle` of
//! `None` means `max_size`, the test at checkout runs on the caller's thread, and so does the release of a connection
//! that comes back broken. Each error of connecting, customizing and checking goes to the error handler, each event to
//! the event handler in r2d2's order, connections through `on_acquire` after they are opened and through `on_release`
//! before they are closed. A lent connection keeps its pool alive.
//!
//! # What is different
//!
//! | | r2d2 | here |
//! |---|---|---|
//! | waiting | whoever is quickest gets the connection | first come, first served within bounds: [`Fairness`](crate::Fairness) |
//! | connecting fails | retried after 0.4 s, doubled up to half of `connection_timeout`, each missing connection by itself | after 20 ms, doubled up to 1 s, with jitter; one attempt at a time until one succeeds |
//! | connecting panics | the connection is missing for ever | counts as a failure and is retried |
//! | the holder panics | its connection is lent again | it is closed |
//! | `get` on an empty pool | every caller opens a connection | up to three are opened at once; callers take what comes first |
//! | `min_idle` | refilled at each checkout | refilled within a second |
//! | `max_lifetime` | when nobody holds it, up to 30 s late | up to a tenth early, at random |
//! | `idle_timeout` | up to 30 s late, all at once | up to a second late, then three a second |
//! | order of reuse | the connection used last | the one this thread used last; other kinds with [`Builder::idle_set`] |
//! | the pool ends | idle connections are dropped, nobody is told | they go through the event handler and `on_release`, too |
//! | what is logged | what the error handler logs, with `log` | that, and events of `tracing` |
//! | `thread_pool` | connects, and closes what is too old | connects |
//! | `max_size` | any | held at [`MAX_SIZE_LIMIT`](crate::MAX_SIZE_LIMIT) |
//! | times beyond [`MAX_DURATION`](crate::MAX_DURATION) | `get` panics | mean for ever |
//!
//! And in types: a `HandleEvent` of somebody else's crate, written for `r2d2::HandleEvent`, does not fit; and traits that
//! somebody else's crate implements for `r2d2::PooledConnection` (diesel's `Connection`) are not implemented for
//! [`PooledConnection`]. Pass `&mut *connection`, which works with both.

mod builder;
mod error;
pub mod event;
mod keeper;
mod pool;

pub use ::r2d2::{
    CustomizeConnection, Extensions, HandleError, LoggingErrorHandler, ManageConnection, NopConnectionCustomizer,
    NopErrorHandler,
};

pub use self::builder::Builder;
pub use self::error::Error;
pub use self::event::{HandleEvent, NopEventHandler};
pub use self::pool::{Pool, PooledConnection, State};

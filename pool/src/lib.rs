//! A connection pool for programs that care about the tail.
#![warn(missing_docs)]

mod acquire;
mod config;
mod connector;
mod core;
mod error;
mod guard;
pub mod idle;
mod manager;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub mod managers;
mod pool;
mod reserve;
#[cfg(feature = "settings")]
pub mod settings;
mod slot;
mod spin;
mod state;
mod sync;
mod timing;
mod upkeep;
mod waiters;
mod workers;

pub use acquire::{Acquire, AcquireOwned};
pub use config::{Builder, Fairness, MAX_DURATION, MAX_SIZE_LIMIT};
pub use error::{AcquireError, BuildError, CloseError, ConfigError, ConnectError};
pub use guard::{Guard, OwnedGuard};
pub use idle::IdleSet;
pub use manager::Manager;
pub use pool::Pool;
pub use state::{Counters, State};
#[cfg(feature = "timing")]
pub use timing::Timing;

/// A pool without a queue: a state word per connection and a hint per thread. The fastest; the one to use.
pub type SlotsPool<M> = Pool<M, idle::Slots>;
/// A pool around a lock-free queue of idle connections.
pub type LockFreePool<M> = Pool<M, idle::LockFreeQueue>;
/// A pool around a queue of idle connections under a mutex.
pub type MutexPool<M> = Pool<M, idle::MutexQueue>;
/// A pool around the `lockfree` crate's queue. For the comparison; see [`idle::LockfreeCrateQueue`].
#[cfg(feature = "lockfree")]
pub type LockfreeCratePool<M> = Pool<M, idle::LockfreeCrateQueue>;

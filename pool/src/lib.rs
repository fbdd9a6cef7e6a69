//! A connection pool whose idle set can be a mutex queue, a lock-free queue or no queue at all, for threads and tasks in
//! one line.
//!
//! Opening a database connection costs hundreds of microseconds, a query on an open one less than a hundred. A pool keeps
//! connections open and lends them. What it adds to a query should not be noticeable, and what happens when all
//! connections are out should be predictable. This crate is about both.
//!
//! # Use
//!
//! Implement [`Manager`] for what you connect to (MySQL and SQLite are in the crate's `managers` module, each behind a
//! feature of its name), build a pool, borrow:
//!
//! ```
//! use std::io;
//! use std::net::{TcpListener, TcpStream};
//! use pool::{Manager, SlotsPool};
//!
//! struct Tcp(std::net::SocketAddr);
//!
//! impl Manager for Tcp {
//!     type Connection = TcpStream;
//!     type Error = io::Error;
//!     fn connect(&self) -> io::Result<TcpStream> { TcpStream::connect(self.0) }
//!     fn is_valid(&self, stream: &mut TcpStream) -> io::Result<()> { stream.peer_addr().map(drop) }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = TcpListener::bind("127.0.0.1:0")?;
//! let pool = SlotsPool::builder().max_size(4).build(Tcp(server.local_addr()?))?;
//!
//! let stream = pool.get()?;                 // a thread blocks here when all four are lent
//! assert_eq!(stream.peer_addr()?, server.local_addr()?);
//! drop(stream);                             // back in the pool
//! # Ok(())
//! # }
//! ```
//!
//! In async code await instead; no runtime is needed for it, and both kinds of caller stand in the same line:
//!
//! ```
//! # use pool::{Manager, SlotsPool};
//! # struct Echo;
//! # impl Manager for Echo {
//! #     type Connection = u32;
//! #     type Error = std::io::Error;
//! #     fn connect(&self) -> std::io::Result<u32> { Ok(7) }
//! #     fn is_valid(&self, _: &mut u32) -> std::io::Result<()> { Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = SlotsPool::builder().build(Echo)?;
//! let connection = pool.get_async().await?;
//! assert_eq!(*connection, 7);
//! # Ok(())
//! # }
//! ```
//!
//! An acquire that finds a connection idle is ready at once, and knows of no runtime's budget: a task that acquires in a loop,
//! and waits for nothing else in it, does not let others run. Let it yield now and then.
//!
//! # Which kind
//!
//! The kinds differ only in how the idle connections are kept. All behave alike; one test suite runs over each.
//!
//! - [`SlotsPool`]: a thread goes back to the slot it used last. Threads that do not wait share nothing. Take this one.
//! - [`LockFreePool`]: a lock-free queue (first in, first out). Every thread writes to the same two counters.
//! - [`MutexPool`]: a stack under a mutex. Every thread writes to the same lock.
//!
//! The difference is nanoseconds. In front of a database it is lost in the noise of a single round trip; it matters when
//! what is pooled is used for less than a microsecond.
//!
//! # Where it does not go
//!
//! A pool has threads, and a child that a process makes with `fork` has none of them: build the pool in the child, or run another
//! program there.
//!
//! # How large
//!
//! As small as keeps the database busy: a connection that waits for a processor or a disk in the database gains nothing
//! from company. Begin with twice the database's processors, measure, and prefer a short wait in the pool, where it is
//! fair and visible, to a long one in the database. The defaults (10 connections, 30 s) suit a small service. More in
//! [`guide::sizing`].
//!
//! # When all connections are out
//!
//! Callers stand in line, first come, first served, with a deadline each. A connection that comes back goes to whoever
//! is first to ask, which is a running thread rather than a sleeping one, until the first in line has waited 100 us (25 us
//! while loans are longer than a thread takes to wake up); then it is handed to that one directly. So short loans are fast
//! and nobody starves. [`Fairness`] changes the bound. A checkin that has woken a thread lets it have the processor.
//!
//! Nobody connects for himself. Up to [`max_connecting`](Builder::max_connecting) connections are opened in the
//! background while somebody waits, and a waiter takes whatever comes first. So timeouts hold while a connect hangs, and
//! a burst of callers does not become a burst of connections.
//!
//! # Cancellation
//!
//! Dropping an [`Acquire`] leaves the line at once. If a connection or a wake-up was on its way to it, the next in line
//! gets it. A connect that was begun goes on. Dropping a guard never blocks: what must be closed or reset is given to a
//! worker thread.
//!
//! A waiter that is handed a connection and does not come for it, because its task is not polled, keeps its turn but
//! not the connection: after a tenth of a second, counted from the upkeep thread's next beat, somebody else gets it.
//!
//! # When the database is down
//!
//! Connecting is tried again with growing pauses, one attempt at a time, and callers wait: a short outage costs them time
//! and nothing else. After [`fail_fast_after`](Builder::fail_fast_after) they are told the cause at once instead, until
//! an attempt succeeds. The pool makes these attempts itself, so it is back within one pause of the database's return.
//!
//! # Operating
//!
//! - [`Pool::resize`] changes how many connections there may be, up or down, while they are in use.
//! - [`Pool::purge`] replaces all connections, for example after a fail-over.
//! - [`Pool::pause`] holds callers back until [`Pool::resume`], without failing them.
//! - [`Pool::add`] takes in a connection from outside, and [`Guard::detach`] lets one go.
//! - [`Pool::close`] and [`Pool::close_async`] end the pool and wait for what is lent.
//!
//! # Broken connections
//!
//! - At checkout, [`Manager::looks_alive`] looks at the connection without a round trip (for MySQL, at the socket), and
//!   a connection that lay idle for longer than [`validate_after_idle`](Builder::validate_after_idle) is asked.
//! - At checkin, [`Manager::has_broken`] is heard; so is the holder, who calls [`Guard::mark_broken`] or, better, works
//!   through [`Guard::run`]. A connection whose holder panicked is closed.
//! - Whatever fails is closed and replaced; the caller who would have got it gets another one.
//!
//! # Errors
//!
//! [`AcquireError`] says what was missing: all connections lent ([`Exhausted`](AcquireError::Exhausted)), the database
//! not reachable ([`ConnectFailed`](AcquireError::ConnectFailed), with its error), not ready in time
//! ([`TimedOut`](AcquireError::TimedOut)), or the pool [`Closed`](AcquireError::Closed), with the pool's counts. An error
//! that cannot mend itself, a wrong password say, is told at once.
//!
//! When an acquire fails because all connections are out, the error names the oldest loan, and with
//! [`record_loans`](Builder::record_loans) the line of code that borrowed it. When it fails because connections were no
//! good, the error names the call that said so ([`CallError`]): validate, reset or a hook.
//!
//! # Hooks
//!
//! [`on_connect`](Builder::on_connect) sets up a new connection, [`on_acquire`](Builder::on_acquire) sees it before each
//! loan, [`on_checkin`](Builder::on_checkin) after it, [`on_release`](Builder::on_release) before it is closed. The first
//! three may refuse the connection, which is then closed and replaced.
//!
//! # What can be seen
//!
//! | | what | costs a loan |
//! |---|---|---|
//! | [`Pool::state`], [`Pool::counters`] | counts, now and since the start | nothing |
//! | [`Pool::loans`], [`leak_after`](Builder::leak_after) | what is out, for how long; a warning about what is out too long | nothing |
//! | [`slow_acquire`](Builder::slow_acquire) | a warning about long waits | two clocks, if it waits |
//! | [`record_loans`](Builder::record_loans) | where each loan was borrowed | two clocks, two locks of its own |
//! | [`histograms`](Builder::histograms) | [times](Histograms) of waiting, holding, connecting | two clocks, four additions |
//! | [`observe`](Builder::observe) | every [`Event`], in order | two clocks and the observer |
//!
//! Warnings and connects are `tracing` events and spans, with the pool's name in the field
//! `db.client.connection.pool.name`. The feature `metrics` shows all counts and times to Prometheus.
//!
//! # Threads
//!
//! A pool has one thread for its upkeep, which wakes once a second (more often if an option is shorter than ten seconds),
//! and worker threads that come and go as connections are opened, checked and closed. They end when the last handle is
//! dropped.
//!
//! Connects, validations, resets and closes have separate limits: at most `max_connecting` connects and as many
//! validations, 32 resets and 32 closes run at a time, on at most as many threads. So calls that hang hold up calls of
//! their own kind, once there are so many of them, and no others; the rest waits, in `checking` or `closing` as
//! [`State`] shows it, and its slots are not free before it is done.
//!
//! # Features
//!
//! `mysql`, `sqlite`: managers. `tokio`: managers whose calls are async, `managers::asynchronous`. `r2d2`: managers
//! written for r2d2, `managers::r2d2`, and r2d2's own names over this pool, `r2d2_compat`. `settings`: options from a
//! TOML file or the environment. `metrics`: a collector for `prometheus-client`. `lockfree`: one more kind, for the
//! comparison only. `timing`: sums of the time spent in each phase, for the lab.
//!
//! # Correctness
//!
//! The core's `unsafe` is in one file, `slot.rs`: a slot's right is a value that is moved, and whoever has it has the
//! connection. The hand-over of slots and the line's handshake are model-checked with loom, the
//! whole pool with shuttle's random schedules, and a stress test of millions of operations runs clean under
//! ThreadSanitizer. Which atomic needs which partner, and why, is in [`guide::memory_ordering`]; what may change from
//! version to version in [`guide::stability`].
#![warn(missing_docs)]

mod acquire;
mod answers;
mod attend;
#[cfg(any(feature = "r2d2", feature = "tokio"))]
mod block_on;
mod breaker;
mod checkin;
mod checkout;
mod closing;
mod config;
mod connector;
mod core;
mod error;
mod events;
mod extras;
mod foreign;
mod gaps;
mod guard;
pub mod guide;
mod histogram;
mod hooks;
pub mod idle;
mod loans;
mod manager;
#[cfg(any(feature = "mysql", feature = "r2d2", feature = "sqlite", feature = "tokio"))]
pub mod managers;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod notices;
mod pause;
mod pool;
#[cfg(feature = "r2d2")]
pub mod r2d2_compat;
mod refusals;
mod rescue;
mod reserve;
mod retire;
#[cfg(feature = "settings")]
pub mod settings;
mod slot;
mod spin;
mod state;
mod supply;
mod sync;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
mod timing;
mod upkeep;
mod waiters;
mod workers;

pub use acquire::{Acquire, AcquireOwned};
pub use closing::Close;
pub use config::{Builder, Fairness, MAX_DURATION, MAX_SIZE_LIMIT};
pub use error::{AcquireError, AddError, BuildError, Call, CallError, CloseError, ConfigError, ConnectError};
pub use events::{CloseReason, Event};
pub use guard::{Guard, OwnedGuard};
pub use histogram::{Histogram, Histograms};
pub use idle::IdleSet;
pub use loans::Loan;
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

/// The examples of the READMEs are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

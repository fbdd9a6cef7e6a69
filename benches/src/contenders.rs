//! Who takes part: one adapter a file, and the register of rows.

pub mod bare_mutex;
pub mod bare_queue;
pub mod bb8;
pub mod deadpool;
pub mod fast_pool;
pub mod limit;
pub mod mobc;
pub mod mysql_pool;
pub mod no_pool;
pub mod ours;
pub mod parked;
pub mod per_thread;
pub mod r2d2;

use std::collections::VecDeque;
use std::sync::Arc;

use ::pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};

use crate::backend::{Backend, Failure, Gauge};
use crate::contender::{Options, Order, Visit};

/// A row of every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entrant {
    /// A connection per operation.
    NoPool,
    /// A connection per thread.
    PerThread,
    /// A connection per thread, taken and given back.
    Limit,
    /// A mutex and a vector.
    BareMutex,
    /// A lock-free queue.
    BareQueue,
    /// Ours: mutex queue.
    Mutex,
    /// Ours: lock-free queue.
    LockFree,
    /// Ours: the lockfree crate's queue.
    LockfreeCrate,
    /// Ours: a state word per slot.
    Slots,
    /// r2d2 as it comes.
    R2d2,
    /// r2d2 without the test at checkout.
    R2d2Untested,
    /// r2d2 without any ping.
    R2d2Unpinged,
    /// The driver's own pool as it comes.
    MysqlPool,
    /// The driver's own pool without ping and reset.
    MysqlPoolUnchecked,
    /// deadpool.
    Deadpool,
    /// bb8.
    Bb8,
    /// mobc.
    Mobc,
    /// fast_pool.
    FastPool,
    /// A mutex and a queue.
    BareMutexTurns,
    /// deadpool in the order in which it comes.
    DeadpoolTurns,
    /// bb8 in the order in which it comes.
    Bb8Turns,
}

/// What is known about a row without running it.
#[derive(Debug)]
pub struct Row {
    /// Its name in records.
    pub id: &'static str,
    /// Its name in tables and charts.
    pub label: &'static str,
    /// Its colour in every chart.
    pub colour: (u8, u8, u8),
    /// The crates it stands on, with their versions.
    pub version: &'static str,
    /// What it does to make sure that a connection works.
    pub validation: &'static str,
    /// Whether we wrote it.
    pub is_ours: bool,
}

const POOL: &str = concat!("pool ", env!("VERSION_POOL"));
const OUR_VALIDATION: &str = "socket peek at checkout, ping after 30 s idle, error flag at checkin";
const PEEK_VALIDATION: &str = "socket peek at checkout";
const BB8_VALIDATION: &str = "socket peek at checkout, error flag at checkin";

impl Entrant {
    /// Everybody who is measured everywhere, in the order of the tables.
    pub const ALL: [Self; 18] = [
        Self::NoPool,
        Self::PerThread,
        Self::Limit,
        Self::BareMutex,
        Self::BareQueue,
        Self::Mutex,
        Self::LockFree,
        Self::LockfreeCrate,
        Self::Slots,
        Self::R2d2,
        Self::R2d2Untested,
        Self::R2d2Unpinged,
        Self::MysqlPool,
        Self::MysqlPoolUnchecked,
        Self::Deadpool,
        Self::Bb8,
        Self::Mobc,
        Self::FastPool,
    ];

    /// Rows again, with the one difference that their idle connections take turns. Measured where that is the question.
    pub const IN_TURNS: [Self; 3] = [Self::BareMutexTurns, Self::DeadpoolTurns, Self::Bb8Turns];

    /// Every row that a record may have.
    pub fn known() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain(Self::IN_TURNS)
    }

    /// The row that differs only in that it lends the connection that came back last; `None` for all that are no
    /// [`IN_TURNS`](Self::IN_TURNS).
    #[must_use]
    pub fn without_turns(self) -> Option<Self> {
        match self {
            Self::BareMutexTurns => Some(Self::BareMutex),
            Self::DeadpoolTurns => Some(Self::Deadpool),
            Self::Bb8Turns => Some(Self::Bb8),
            _ => None,
        }
    }

    /// The row of a record.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::known().find(|entrant| entrant.row().id == id)
    }

    /// Whether it needs a MariaDB: what it adds to another row is a property of the MySQL crates.
    #[must_use]
    pub fn needs_mysql(self) -> bool {
        matches!(self, Self::R2d2Unpinged | Self::MysqlPool | Self::MysqlPoolUnchecked)
    }

    /// Whether it can serve more threads than it has connections.
    #[must_use]
    pub fn can_wait(self) -> bool {
        !matches!(self, Self::NoPool | Self::PerThread | Self::Limit | Self::BareQueue)
    }

    /// Whether it is measured on stubs alone: what it leaves out of a pool is nothing beside a database.
    #[must_use]
    pub fn is_bare(self) -> bool {
        matches!(self, Self::Limit | Self::BareMutex | Self::BareQueue | Self::BareMutexTurns)
    }

    /// What is known about it.
    #[must_use]
    pub fn row(self) -> &'static Row {
        match self {
            Self::NoPool => &Row {
                id: "no_pool",
                label: "no pool",
                colour: (0x20, 0x20, 0x20),
                version: "none",
                validation: "none: every connection is new",
                is_ours: false,
            },
            Self::PerThread => &Row {
                id: "per_thread",
                label: "one per thread",
                colour: (0x8a, 0x8a, 0x8a),
                version: "none",
                validation: "none",
                is_ours: false,
            },
            Self::Limit => &Row {
                id: "limit",
                label: "limit: CAS + swap",
                colour: (0x6b, 0x6b, 0x47),
                version: "none",
                validation: "none",
                is_ours: false,
            },
            Self::BareMutex => &Row {
                id: "bare_mutex",
                label: "bare Mutex<Vec>",
                colour: (0xb4, 0xb0, 0x9a),
                version: concat!("parking_lot ", env!("VERSION_PARKING_LOT")),
                validation: "none",
                is_ours: false,
            },
            Self::BareQueue => &Row {
                id: "bare_queue",
                label: "bare ArrayQueue",
                colour: (0xc9, 0xc4, 0xdc),
                version: concat!("crossbeam-queue ", env!("VERSION_CROSSBEAM_QUEUE")),
                validation: "none",
                is_ours: false,
            },
            Self::Mutex => &Row {
                id: "mutex",
                label: "mutex (ours)",
                colour: (0xd6, 0x27, 0x28),
                version: POOL,
                validation: OUR_VALIDATION,
                is_ours: true,
            },
            Self::LockFree => &Row {
                id: "lock_free",
                label: "lock-free (ours)",
                colour: (0xff, 0x8c, 0x1a),
                version: POOL,
                validation: OUR_VALIDATION,
                is_ours: true,
            },
            Self::LockfreeCrate => &Row {
                id: "lockfree_crate",
                label: "lockfree crate (ours)",
                colour: (0xf2, 0xb7, 0x05),
                version: concat!("pool ", env!("VERSION_POOL"), ", lockfree ", env!("VERSION_LOCKFREE")),
                validation: OUR_VALIDATION,
                is_ours: true,
            },
            Self::Slots => &Row {
                id: "slots",
                label: "slots (ours)",
                colour: (0xb8, 0x0f, 0x78),
                version: POOL,
                validation: OUR_VALIDATION,
                is_ours: true,
            },
            Self::R2d2 => &Row {
                id: "r2d2",
                label: "r2d2",
                colour: (0x1f, 0x4e, 0x9e),
                version: concat!("r2d2 ", env!("VERSION_R2D2"), ", r2d2_mysql ", env!("VERSION_R2D2_MYSQL")),
                validation: "as it comes: ping at checkout, ping at checkin",
                is_ours: false,
            },
            Self::R2d2Untested => &Row {
                id: "r2d2_untested",
                label: "r2d2, no checkout test",
                colour: (0x4f, 0x86, 0xd0),
                version: concat!("r2d2 ", env!("VERSION_R2D2"), ", r2d2_mysql ", env!("VERSION_R2D2_MYSQL")),
                validation: "test_on_check_out(false): ping at checkin",
                is_ours: false,
            },
            Self::R2d2Unpinged => &Row {
                id: "r2d2_unpinged",
                label: "r2d2, no ping",
                colour: (0x9c, 0xbe, 0xec),
                version: concat!("r2d2 ", env!("VERSION_R2D2")),
                validation: "test_on_check_out(false) and a manager of ours: error flag at checkin",
                is_ours: false,
            },
            Self::MysqlPool => &Row {
                id: "mysql_pool",
                label: "mysql::Pool",
                colour: (0x0d, 0x7a, 0x6e),
                version: concat!("mysql ", env!("VERSION_MYSQL")),
                validation: "as it comes: ping at checkout, session reset at checkin",
                is_ours: false,
            },
            Self::MysqlPoolUnchecked => &Row {
                id: "mysql_pool_unchecked",
                label: "mysql::Pool, no checks",
                colour: (0x52, 0xbf, 0xb0),
                version: concat!("mysql ", env!("VERSION_MYSQL")),
                validation: "check_health(false), reset_connection(false): none",
                is_ours: false,
            },
            Self::Deadpool => &Row {
                id: "deadpool",
                label: "deadpool",
                colour: (0x2c, 0xa0, 0x2c),
                version: concat!("deadpool ", env!("VERSION_DEADPOOL")),
                validation: PEEK_VALIDATION,
                is_ours: false,
            },
            Self::Bb8 => &Row {
                id: "bb8",
                label: "bb8",
                colour: (0x7b, 0x5c, 0xc4),
                version: concat!("bb8 ", env!("VERSION_BB8")),
                validation: BB8_VALIDATION,
                is_ours: false,
            },
            Self::Mobc => &Row {
                id: "mobc",
                label: "mobc",
                colour: (0x8c, 0x56, 0x4b),
                version: concat!("mobc ", env!("VERSION_MOBC")),
                validation: "socket peek at checkout, error flag at checkin",
                is_ours: false,
            },
            Self::FastPool => &Row {
                id: "fast_pool",
                label: "fast_pool",
                colour: (0x17, 0xa2, 0xc9),
                version: concat!("fast_pool ", env!("VERSION_FAST_POOL")),
                validation: PEEK_VALIDATION,
                is_ours: false,
            },
            Self::BareMutexTurns => &Row {
                id: "bare_mutex_turns",
                label: "bare Mutex<VecDeque>, in turns",
                colour: (0x8f, 0x8b, 0x78),
                version: concat!("parking_lot ", env!("VERSION_PARKING_LOT")),
                validation: "none",
                is_ours: false,
            },
            Self::DeadpoolTurns => &Row {
                id: "deadpool_turns",
                label: "deadpool, in turns",
                colour: (0x98, 0xdf, 0x8a),
                version: concat!("deadpool ", env!("VERSION_DEADPOOL")),
                validation: PEEK_VALIDATION,
                is_ours: false,
            },
            Self::Bb8Turns => &Row {
                id: "bb8_turns",
                label: "bb8, in turns",
                colour: (0xb8, 0xa6, 0xe3),
                version: concat!("bb8 ", env!("VERSION_BB8")),
                validation: BB8_VALIDATION,
                is_ours: false,
            },
        }
    }
}

/// Builds the contender of a row over `backend` with `size` connections and shows it to `visit`; afterwards it is gone,
/// and its connections, all of which were counted in `gauge`, are closed.
///
/// # Errors
///
/// When it cannot be built, and when the visit fails.
pub fn enter<B: Backend, V: Visit<B::Raw>>(
    entrant: Entrant,
    backend: &B,
    gauge: &Arc<Gauge>,
    size: usize,
    visit: V,
) -> Result<V::Output, Failure> {
    enter_with(entrant, backend, gauge, &Options::filled(size), visit)
}

/// [`enter`] with other options. The driver's own pool and the bare ones know only the size.
///
/// # Errors
///
/// When it cannot be built, and when the visit fails.
pub fn enter_with<B: Backend, V: Visit<B::Raw>>(
    entrant: Entrant,
    backend: &B,
    gauge: &Arc<Gauge>,
    options: &Options,
    visit: V,
) -> Result<V::Output, Failure> {
    let manager = backend.manager(gauge);
    let size = options.size;
    let in_turns = Options { order: Order::Turns, ..*options };
    let output = match entrant {
        Entrant::NoPool => visit.visit(&no_pool::NoPool(manager)),
        Entrant::PerThread => visit.visit(&per_thread::PerThread(manager)),
        Entrant::Limit => visit.visit(&limit::Limit::new(manager)),
        Entrant::BareMutex => visit.visit(&bare_mutex::BareMutex::<Vec<_>>::open(size, &manager)?),
        Entrant::BareQueue => visit.visit(&bare_queue::BareQueue::open(size, &manager)?),
        Entrant::Mutex => visit.visit(&ours::Ours::<_, MutexQueue>::open_with(options, manager)?),
        Entrant::LockFree => visit.visit(&ours::Ours::<_, LockFreeQueue>::open_with(options, manager)?),
        Entrant::LockfreeCrate => visit.visit(&ours::Ours::<_, LockfreeCrateQueue>::open_with(options, manager)?),
        Entrant::Slots => visit.visit(&ours::Ours::<_, Slots>::open_with(options, manager)?),
        Entrant::R2d2 => visit.visit(&r2d2::R2d2::open_with(options, backend.r2d2_manager(gauge), true)?),
        Entrant::R2d2Untested => visit.visit(&r2d2::R2d2::open_with(options, backend.r2d2_manager(gauge), false)?),
        Entrant::R2d2Unpinged => visit.visit(&r2d2::R2d2::open_with(options, r2d2::Flagged(manager), false)?),
        Entrant::MysqlPool => backend.visit_driver_pool(size, true, visit),
        Entrant::MysqlPoolUnchecked => backend.visit_driver_pool(size, false, visit),
        Entrant::Deadpool => visit.visit(&deadpool::open_with(options, manager)?),
        Entrant::Bb8 => visit.visit(&bb8::open_with(options, manager)?),
        Entrant::Mobc => visit.visit(&mobc::open_with(options, manager)?),
        Entrant::FastPool => visit.visit(&fast_pool::open_with(options, manager)?),
        Entrant::BareMutexTurns => visit.visit(&bare_mutex::BareMutex::<VecDeque<_>>::open(size, &manager)?),
        Entrant::DeadpoolTurns => visit.visit(&deadpool::open_with(&in_turns, manager)?),
        Entrant::Bb8Turns => visit.visit(&bb8::open_with(&in_turns, manager)?),
    }
    .map_err(|failure| failure.during(entrant.row().label))?;
    gauge.settle().map_err(|failure| failure.during(entrant.row().label))?;
    Ok(output)
}

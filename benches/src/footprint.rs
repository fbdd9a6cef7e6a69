//! What the suite `memory` asks, and of whom. The counting is in the suite, whose program has an allocator of its own.

use crate::contenders::Entrant;
use crate::record::{Cell, Metric};

/// Bytes allocated by a pool whose ten connections are idle, without those of the connections.
pub const IDLE_BYTES: Metric = Metric { name: "idle", unit: "bytes" };
/// Threads that the pool has started.
pub const THREADS: Metric = Metric { name: "threads", unit: "threads" };
/// Bytes allocated for a thread that waits for a connection, beyond those of a thread that waits for something else.
pub const THREAD_BYTES: Metric = Metric { name: "waiting_thread", unit: "bytes" };
/// Bytes allocated for a task that waits for a connection, beyond those of a task that waits for nothing.
pub const TASK_BYTES: Metric = Metric { name: "waiting_task", unit: "bytes" };
/// From the first checkin until all who waited have been served.
pub const CROWD_MS: Metric = Metric { name: "crowd", unit: "ms" };

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// An idle pool of ten.
    Idle,
    /// Threads that wait.
    Threads,
    /// 25 000 tasks that wait for three connections.
    Tasks,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Idle, Self::Threads, Self::Tasks];

    /// The name in records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Idle => "an idle pool",
            Self::Threads => "threads that wait",
            Self::Tasks => "tasks that wait",
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Idle => 10,
            Self::Threads | Self::Tasks => 3,
        }
    }

    /// Who is asked: who has such a door.
    #[must_use]
    pub fn entrants(self) -> &'static [Entrant] {
        use Entrant::{Bb8, Deadpool, FastPool, LockFree, LockfreeCrate, Mobc, Mutex, R2d2, Slots};
        match self {
            Self::Idle => &[Mutex, LockFree, LockfreeCrate, Slots, R2d2, Deadpool, Bb8, Mobc, FastPool],
            Self::Threads => &[Mutex, LockFree, Slots, R2d2],
            Self::Tasks => &[Mutex, LockFree, LockfreeCrate, Slots, Deadpool, Bb8, Mobc, FastPool],
        }
    }

    /// The cell of a row.
    #[must_use]
    pub fn cell(self, entrant: Entrant, waiters: usize) -> Cell {
        Cell {
            suite: "memory".to_owned(),
            workload: self.label().to_owned(),
            backend: "stub".to_owned(),
            flush: String::new(),
            contender: entrant.row().id.to_owned(),
            threads: waiters,
            size: self.size(),
            hold_us: 0,
            rows: 0,
        }
    }
}

//! Who is served when clients outnumber connections, and what that costs: our three policies next to the peers.
//!
//! The same pool of ours (`slots`) takes part three times, with each [`Fairness`]; the peers have the policy they have.
//! Threads meet four connections with holds on both sides of what a thread's wake-up costs, where the policies differ
//! most. Tasks meet fifty connections a thousand at a time, the setting of djc/bb8#243, in which a user found bb8's p99.9
//! at 1 800 ms and deadpool's at 119 ms with medians of 2.8 and 31 ms. The issue does not say what its tasks did with a
//! connection; a median of 31 ms with twenty tasks for each connection means about 1.6 ms, so here a task queries for
//! 1 ms of the runtime's timer, which comes to about that, and asks again at once.

use std::time::Duration;

use ::pool::Fairness;

use crate::backend::remote::Distance;
use crate::backend::stub::Hold;
use crate::contender::Options;
use crate::contenders::Entrant;
use crate::record::Cell;

/// Who is served next, in a pool of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Always the one who has waited longest.
    Strict,
    /// Whoever comes, until the one who has waited longest has waited too long. The default.
    Bounded,
    /// Whoever comes.
    Free,
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contestant {
    /// The pool.
    pub entrant: Entrant,
    /// Its policy, when it has a choice.
    pub policy: Option<Policy>,
}

impl Contestant {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self { entrant: Entrant::Slots, policy: Some(Policy::Strict) },
        Self { entrant: Entrant::Slots, policy: Some(Policy::Bounded) },
        Self { entrant: Entrant::Slots, policy: Some(Policy::Free) },
        Self { entrant: Entrant::R2d2, policy: None },
        Self { entrant: Entrant::Deadpool, policy: None },
        Self { entrant: Entrant::Bb8, policy: None },
        Self { entrant: Entrant::Mobc, policy: None },
        Self { entrant: Entrant::FastPool, policy: None },
    ];

    /// The row's name in tables and charts.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self.policy {
            Some(Policy::Strict) => "slots, strict",
            Some(Policy::Bounded) => "slots, bounded",
            Some(Policy::Free) => "slots, free",
            None => self.entrant.row().label,
        }
    }

    /// The row's colour: shades of the pool's own.
    #[must_use]
    pub fn colour(self) -> (u8, u8, u8) {
        match self.policy {
            Some(Policy::Strict) => (0x6e, 0x0a, 0x4a),
            Some(Policy::Free) => (0xe6, 0x86, 0xc2),
            _ => self.entrant.row().colour,
        }
    }

    /// Whether a record is its.
    #[must_use]
    pub fn owns(self, contender: &str, workload: &str) -> bool {
        contender == self.entrant.row().id && policy_of(workload) == self.policy.map(Policy::id)
    }

    /// The pool's options under a load; its connections are open.
    #[must_use]
    pub fn options(self, size: usize) -> Options {
        let fairness = self.policy.map(|policy| match policy {
            Policy::Strict => Fairness::Strict,
            Policy::Bounded => Fairness::default(),
            Policy::Free => Fairness::Free,
        });
        Options { fairness, ..Options::filled(size) }
    }

    /// The cell under a load.
    #[must_use]
    pub fn cell(self, load: Load) -> Cell {
        let policy = self.policy.map_or_else(String::new, |policy| format!("{POLICY_MARK}{}", policy.id()));
        Cell {
            suite: "fairness".to_owned(),
            workload: format!("{}{policy}", load.workload()),
            backend: "stub".to_owned(),
            flush: String::new(),
            contender: self.entrant.row().id.to_owned(),
            threads: load.clients(),
            size: load.size(),
            hold_us: load.hold_us(),
            rows: 0,
        }
    }
}

/// What stands before the policy in a workload's name.
const POLICY_MARK: &str = ", policy ";

fn policy_of(workload: &str) -> Option<&str> {
    workload.split_once(POLICY_MARK).map(|(_, policy)| policy)
}

impl Policy {
    fn id(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Bounded => "bounded",
            Self::Free => "free",
        }
    }
}

/// Who wants how many connections for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Sixteen threads on four connections.
    Threads(Hold),
    /// A thousand tasks on fifty connections; r2d2 has no door for them.
    Tasks,
}

/// The tasks' query, and a connect that costs nothing.
pub const TASKS_DISTANCE: Distance = Distance { connect: Duration::ZERO, query: Duration::from_millis(1) };

impl Load {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Threads(Hold::None),
        Self::Threads(Hold::Work(Duration::from_micros(1))),
        Self::Threads(Hold::Query(Duration::from_micros(200))),
        Self::Tasks,
    ];

    /// How many clients there are.
    #[must_use]
    pub fn clients(self) -> usize {
        match self {
            Self::Threads(_) => 16,
            Self::Tasks => 1_000,
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Threads(_) => 4,
            Self::Tasks => 50,
        }
    }

    /// The name in records, without the policy.
    #[must_use]
    pub fn workload(self) -> String {
        match self {
            Self::Threads(hold) => format!("threads, {}", hold.label()),
            Self::Tasks => "tasks, 1 ms query".to_owned(),
        }
    }

    /// The name in tables and charts.
    #[must_use]
    pub fn label(self) -> String {
        let (clients, size) = (self.clients(), self.size());
        match self {
            Self::Threads(hold) => format!("{clients} threads on {size}, {}", hold.label()),
            Self::Tasks => format!("{clients} tasks on {size}, 1 ms query"),
        }
    }

    /// Whether a record's workload is this one.
    #[must_use]
    pub fn is_of(self, workload: &str) -> bool {
        workload.split_once(POLICY_MARK).map_or(workload, |(load, _)| load) == self.workload()
    }

    /// Whether a contestant has the door for it.
    #[must_use]
    pub fn suits(self, contestant: Contestant) -> bool {
        self != Self::Tasks || contestant.entrant != Entrant::R2d2
    }

    fn hold_us(self) -> u64 {
        match self {
            Self::Threads(hold) => hold.micros(),
            Self::Tasks => 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_belongs_to_one_contestant_and_one_load() {
        for load in Load::ALL {
            for contestant in Contestant::ALL {
                let Cell { workload, contender, .. } = contestant.cell(load);
                let owners = Contestant::ALL.iter().filter(|other| other.owns(&contender, &workload)).count();
                let loads = Load::ALL.iter().filter(|other| other.is_of(&workload)).count();
                assert_eq!((owners, loads), (1, 1), "{workload}");
            }
        }
    }
}

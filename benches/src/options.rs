//! Options of our pool that are off by default and cost something, for the suite `options`.

use std::time::Duration;

use pool::{Builder, IdleSet, Manager};

/// Longer than any run: what is measured is the option, not what it does when something is wrong.
const LONG: Duration = Duration::from_secs(3_600);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolOption {
    /// The defaults.
    None,
    /// A hook at each checkout, which does nothing.
    OnAcquire,
    /// A hook at each checkin, which does nothing.
    OnCheckin,
    /// Warns of long loans.
    LeakAfter,
    /// Warns of long waits.
    SlowAcquire,
    /// Remembers where each loan came from.
    RecordLoans,
    /// Keeps times in buckets.
    Histograms,
    /// Shows every event to a closure, which does nothing.
    Observe,
    /// All of them.
    Everything,
}

impl PoolOption {
    /// Every option, in the order of the table.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::OnAcquire,
        Self::OnCheckin,
        Self::LeakAfter,
        Self::SlowAcquire,
        Self::RecordLoans,
        Self::Histograms,
        Self::Observe,
        Self::Everything,
    ];

    /// The name in records.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OnAcquire => "on_acquire",
            Self::OnCheckin => "on_checkin",
            Self::LeakAfter => "leak_after",
            Self::SlowAcquire => "slow_acquire",
            Self::RecordLoans => "record_loans",
            Self::Histograms => "histograms",
            Self::Observe => "observe",
            Self::Everything => "everything",
        }
    }

    /// The option of a record.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|option| option.id() == id)
    }

    /// The name in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none: all defaults",
            Self::OnAcquire => "`on_acquire`, an empty hook",
            Self::OnCheckin => "`on_checkin`, an empty hook",
            Self::LeakAfter => "`leak_after`",
            Self::SlowAcquire => "`slow_acquire`",
            Self::RecordLoans => "`record_loans`",
            Self::Histograms => "`histograms`",
            Self::Observe => "`observe`, an empty closure",
            Self::Everything => "all of these",
        }
    }

    /// Turns it on.
    #[must_use]
    pub fn apply<M: Manager, I: IdleSet>(self, options: Builder<M, I>) -> Builder<M, I> {
        match self {
            Self::None => options,
            Self::OnAcquire => options.on_acquire(|_| Ok(())),
            Self::OnCheckin => options.on_checkin(|_| Ok(())),
            Self::LeakAfter => options.leak_after(LONG),
            Self::SlowAcquire => options.slow_acquire(LONG),
            Self::RecordLoans => options.record_loans(true),
            Self::Histograms => options.histograms(true),
            Self::Observe => options.observe(|_| {}),
            Self::Everything => Self::ALL
                .into_iter()
                .filter(|option| *option != Self::Everything)
                .fold(options, |options, option| option.apply(options)),
        }
    }
}

//! How much is measured. The cells of each profile are listed in METHODOLOGY.md with the reasons.

use std::env;
use std::time::Duration;

use crate::backend::Failure;

/// The variable that chooses.
pub const PROFILE_VARIABLE: &str = "BENCH_PROFILE";

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Everything once, tiny, nothing recorded: `cargo bench -- --test`.
    Smoke,
    /// A look, three or four minutes for all suites.
    Quick,
    /// What the report is made from, about fourteen minutes on two cores.
    Default,
    /// Every cell at full length.
    Full,
}

impl Profile {
    /// What [`PROFILE_VARIABLE`] asks for.
    ///
    /// # Errors
    ///
    /// When it asks for something else.
    pub fn from_env() -> Result<Self, Failure> {
        match env::var(PROFILE_VARIABLE).as_deref() {
            Ok("quick") => Ok(Self::Quick),
            Ok("default" | "") | Err(env::VarError::NotPresent) => Ok(Self::Default),
            Ok("full") => Ok(Self::Full),
            other => Err(Failure::new(format!(
                "{PROFILE_VARIABLE}: {:?} is none of quick, default, full",
                other.unwrap_or("not text")
            ))),
        }
    }

    /// The name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.pick("smoke", "quick", "default", "full")
    }

    /// One of four.
    pub fn pick<T>(self, smoke: T, quick: T, default: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Default => default,
            Self::Full => full,
        }
    }

    /// How long criterion warms a benchmark up.
    #[must_use]
    pub fn warm_up(self) -> Duration {
        Duration::from_millis(self.pick(1, 20, 40, 200))
    }

    /// How long criterion measures a benchmark in one round.
    #[must_use]
    pub fn measurement(self) -> Duration {
        Duration::from_millis(self.pick(1, 60, 120, 500))
    }

    /// How often each contender's turn comes in criterion's cells.
    #[must_use]
    pub fn rounds(self) -> usize {
        self.pick(1, 1, 3, 5)
    }
}

//! For how long newcomers may pass those who stand in line.
//!
//! Letting them pass is worth something while a loan is shorter than a thread's wake-up: the connection would lie idle until
//! the sleeper has come. When loans are longer than that, hardly anything is gained, and those in line pay for it with the tail
//! of their waits. Which it is, is learnt from the loans of the slots whose connections come back while somebody waits.

use std::time::Duration;

/// A loan that is long: about what a thread takes to wake up, on a virtual machine.
const LONG_LOAN: Duration = Duration::from_micros(40);
/// The part of the bound that is left while loans are long.
const PART: u32 = 4;
/// The most votes. A loan is sometimes long because its holder had to wait for a processor, so one alone decides nothing.
const SURE: u32 = 8;

pub(super) struct Patience {
    bound: Duration,
    /// Above half of [`SURE`]: loans are long.
    votes: u32,
}

impl Patience {
    /// Loans count as long until they are known to be short: most are queries, and until a pool has learnt better its first
    /// waiters would pay.
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, votes: SURE }
    }

    /// How long a loan has taken, or several have on the average, the time between two of them included.
    pub(super) fn note(&mut self, loan: Duration) {
        self.votes = if loan >= LONG_LOAN { SURE.min(self.votes + 1) } else { self.votes.saturating_sub(1) };
    }

    /// Whoever has waited longer than this is not passed any more.
    pub(super) fn bound(&self) -> Duration {
        if self.votes > SURE / 2 { self.bound / PART } else { self.bound }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(100);
    const SHORT_LOAN: Duration = Duration::from_micros(2);

    fn after(loans: impl IntoIterator<Item = Duration>) -> Patience {
        let mut patience = Patience::new(BOUND);
        loans.into_iter().for_each(|loan| patience.note(loan));
        patience
    }

    #[test]
    fn newcomers_may_pass_for_the_whole_bound_when_loans_are_known_to_be_short() {
        assert_eq!(after([]).bound(), BOUND / PART);
        assert_eq!(after([SHORT_LOAN; 100]).bound(), BOUND);
        assert_eq!(after([LONG_LOAN; 100]).bound(), BOUND / PART);
    }

    #[test]
    fn one_loan_that_was_held_up_decides_nothing() {
        let mut patience = after([SHORT_LOAN; 10]);
        assert_eq!(patience.bound(), BOUND);
        patience.note(Duration::from_millis(4));
        assert_eq!(patience.bound(), BOUND);
        let mut patience = after([LONG_LOAN; 10]);
        patience.note(SHORT_LOAN);
        assert_eq!(patience.bound(), BOUND / PART);
    }

    #[test]
    fn a_pool_whose_loans_have_become_short_lets_newcomers_pass_again() {
        let mut patience = after([LONG_LOAN; 1_000]);
        (0..SURE).for_each(|_| patience.note(SHORT_LOAN));
        assert_eq!(patience.bound(), BOUND);
    }
}

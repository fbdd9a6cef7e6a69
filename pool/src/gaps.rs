//! Times during which the pool did not run.

/// A beat that comes later than this, in ticks, was not merely late: the process was stopped, or the machine suspended.
///
/// Above what a busy machine keeps a thread waiting, or idle connections would live longer there.
const LATE: u64 = 1_000;

/// Gaps that are remembered. The oldest are forgotten first, which only makes connections look idle for longer.
const MOST: usize = 16;

/// The gaps of late: nobody could use a connection then, so they are no idle time, or the pool would close everything
/// when the machine wakes. (They do count towards `max_lifetime`, and towards the need to validate: the other side's
/// clock went on.)
#[derive(Default)]
pub(crate) struct Gaps {
    /// Beginning and end in ticks, oldest first.
    gaps: Vec<(u64, u64)>,
}

impl Gaps {
    /// A beat that was due at `due` comes at `tick`.
    pub(crate) fn beat(&mut self, due: u64, tick: u64) {
        if tick.saturating_sub(due) > LATE {
            if self.gaps.len() == MOST {
                self.gaps.remove(0);
            }
            self.gaps.push((due, tick));
        }
    }

    /// Ticks from `since` to `tick` in which the pool ran.
    pub(crate) fn awake(&self, since: u64, tick: u64) -> u64 {
        let asleep: u64 = self.gaps.iter().map(|(from, to)| to.saturating_sub((*from).max(since))).sum();
        tick.saturating_sub(since).saturating_sub(asleep)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::{Gaps, LATE, MOST};

    #[test]
    fn a_beat_in_time_leaves_no_gap() {
        let mut gaps = Gaps::default();
        gaps.beat(1_000, 1_000);
        gaps.beat(2_000, 2_000 + LATE);
        // An instant that went back, which no system should have.
        gaps.beat(3_000, 10);
        assert_eq!(gaps.awake(0, 20_000), 20_000);
    }

    #[test]
    fn a_gap_is_no_idle_time_for_what_was_idle_before_it() {
        let mut gaps = Gaps::default();
        gaps.beat(1_000, 101_000);
        assert_eq!(gaps.awake(500, 101_500), 1_000);
        // Returned between the last beat and the gap's end, as far as the tick knew.
        assert_eq!(gaps.awake(51_000, 101_500), 500);
        assert_eq!(gaps.awake(101_200, 101_500), 300);
        assert_eq!(gaps.awake(102_000, 101_500), 0, "in the future, since the tick is read at different times");
    }

    #[test]
    fn only_so_many_gaps_are_remembered() {
        let mut gaps = Gaps::default();
        for gap in 0..MOST as u64 + 3 {
            gaps.beat(gap * 100_000, gap * 100_000 + 50_000);
        }
        assert_eq!(gaps.gaps.len(), MOST);
    }
}

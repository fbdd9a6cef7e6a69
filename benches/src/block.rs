//! Cells that are alike but for the contender, and take so long that criterion would ask for too many of them.

use std::time::Duration;

use crate::backend::Failure;
use crate::contenders::Entrant;
use crate::drive::Sample;
use crate::measure::in_rounds;
use crate::record::{Cell, NS_PER_OP, OPS_PER_S, Spread, WALL_MS};
use crate::suite::Suite;

/// Such cells.
#[derive(Debug)]
pub struct Block {
    /// Operations of a sample.
    pub rows: u64,
    /// Threads that share them.
    pub threads: usize,
    /// Connections of a pool.
    pub size: usize,
    /// Samples of each cell.
    pub rounds: usize,
    /// Whose cells.
    pub entrants: Vec<Entrant>,
}

impl Block {
    /// Its cells in a suite.
    #[must_use]
    pub fn cells(&self, suite: &Suite, workload: &str, backend: &str, flush: &str) -> Vec<Cell> {
        let cell = |entrant: &Entrant| Cell {
            suite: suite.name().to_owned(),
            workload: workload.to_owned(),
            backend: backend.to_owned(),
            flush: flush.to_owned(),
            contender: entrant.row().id.to_owned(),
            threads: self.threads,
            size: self.size,
            hold_us: 0,
            rows: self.rows,
        };
        self.entrants.iter().map(cell).collect()
    }

    /// Takes the samples of those of its cells that are wanted, in rounds, and finishes the cells.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn measure(
        &self,
        suite: &mut Suite,
        what: &str,
        mut cells: Vec<Cell>,
        mut sample: impl FnMut(&Cell, Entrant) -> Result<Sample, Failure>,
    ) -> Result<(), Failure> {
        cells.retain(|cell| suite.wants(cell));
        if cells.is_empty() {
            return Ok(());
        }
        suite.say(what);
        let samples = in_rounds(&cells, self.rounds, |cell| {
            let entrant = cell.entrant().ok_or_else(|| Failure::new("a cell without a contender"))?;
            sample(cell, entrant)
        })?;
        for (cell, samples) in cells.iter().zip(&samples) {
            let seconds: Vec<f64> =
                samples.iter().map(|sample| sample.elapsed).map(|time: Duration| time.as_secs_f64()).collect();
            let Some(wall) = Spread::of(&seconds) else { continue };
            #[expect(clippy::cast_precision_loss)]
            let rows = self.rows as f64;
            let metrics = [
                (WALL_MS, wall.map(|seconds| seconds * 1e3)),
                (NS_PER_OP, wall.map(|seconds| seconds * 1e9 / rows)),
                (OPS_PER_S, wall.map(|seconds| rows / seconds)),
            ];
            suite.finish(cell, &metrics, samples.iter().map(|sample| sample.ops).sum())?;
        }
        Ok(())
    }
}

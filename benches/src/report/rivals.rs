//! The seed's cells on MariaDB all at once: who is ahead of whom, how often, and by how much.
//!
//! One connection per thread has no pool in it. Whatever it loses to a rival is not a pool's doing, so its row says
//! how much of the others' rows is chance.

use std::collections::BTreeSet;

use crate::chart::figures::Data;
use crate::contenders::Entrant;
use crate::record::{NS_PER_OP, Record, Spread};
use crate::units::times;

use super::{label, table};

const OURS: [Entrant; 4] = [Entrant::PerThread, Entrant::Mutex, Entrant::LockFree, Entrant::Slots];
/// As they come and, where that means round trips that ours do not make, without them: else only the policies of checking
/// would be compared.
const RIVALS: [Entrant; 5] =
    [Entrant::R2d2, Entrant::R2d2Unpinged, Entrant::MysqlPool, Entrant::MysqlPoolUnchecked, Entrant::Deadpool];

/// What the cells say of two contenders.
#[derive(Debug, Default)]
struct Comparison {
    cells: usize,
    /// Cells in which the rival's median is the smaller one.
    behind: usize,
    /// Those of them in which even the rival's slow runs are faster than our fast ones.
    clearly_behind: usize,
    sum_of_logarithms: f64,
}

impl Comparison {
    fn add(&mut self, ours: Spread, rival: Spread) {
        self.cells += 1;
        self.behind += usize::from(ours.median > rival.median);
        self.clearly_behind += usize::from(ours.low > rival.high);
        self.sum_of_logarithms += (ours.median / rival.median).ln();
    }

    #[expect(clippy::cast_precision_loss)]
    fn fields(&self) -> [String; 3] {
        let mean = (self.sum_of_logarithms / self.cells as f64).exp();
        [format!("{} of {}", self.behind, self.cells), self.clearly_behind.to_string(), times(mean)]
    }
}

pub(super) fn rivals(records: &[Record]) -> Option<String> {
    let data = Data::of(records, "seed").filter(|record| record.backend == "mariadb");
    let cells: BTreeSet<(&str, &str, u64, usize)> = records
        .iter()
        .filter(|record| record.suite == "seed" && record.backend == "mariadb")
        .map(|record| (record.workload.as_str(), record.flush.as_str(), record.rows, record.threads))
        .collect();
    let cells: Vec<Data<'_>> = cells
        .into_iter()
        .map(|(workload, flush, rows, threads)| {
            data.filter(|record| {
                (record.workload.as_str(), record.flush.as_str(), record.rows, record.threads)
                    == (workload, flush, rows, threads)
            })
        })
        .collect();
    let mut lines = Vec::new();
    for rival in RIVALS {
        for ours in OURS {
            let mut comparison = Comparison::default();
            for cell in &cells {
                if let (Some(own), Some(other)) = (cell.by(ours).spread(NS_PER_OP), cell.by(rival).spread(NS_PER_OP)) {
                    comparison.add(own, other);
                }
            }
            if comparison.cells > 0 {
                lines.push([label(ours), label(rival)].into_iter().chain(comparison.fields()).collect());
            }
        }
    }
    let headings =
        ["contender", "against", "slower, in cells", "beyond the spread", "time per operation, of the rival's"];
    table(&headings.map(str::to_owned), &lines)
}

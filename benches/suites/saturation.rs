//! How many operations a second when threads outnumber connections? See [`SATURATION_2X`].

use std::process::ExitCode;

use benches::backend::stub::Hold;
use benches::measure::{Share, stub_block};
use benches::suite;
use benches::workload::{HOLDS, Keep, SATURATION_2X, SATURATION_4X, Touch, stub_entrants};

fn main() -> ExitCode {
    suite::run("saturation", |suite| {
        for workload in [SATURATION_2X, SATURATION_4X] {
            for &threads in workload.threads {
                for hold in HOLDS {
                    let cells = workload.block("saturation", "stub", threads, hold, &stub_entrants());
                    let size = workload.size.of(threads);
                    suite.announce(&cells, &format!("{threads} threads on {size} connections, {}", hold.label()));
                    match hold {
                        Hold::None => stub_block(suite, &cells, &Touch, Share::Open)?,
                        _ => stub_block(suite, &cells, &Keep(hold), Share::Open)?,
                    }
                }
            }
        }
        Ok(())
    })
}

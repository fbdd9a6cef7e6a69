//! How many operations a second when threads outnumber connections? See [`SATURATION_2X`].

use std::process::ExitCode;

use benches::measure::{Share, stub_block};
use benches::suite;
use benches::workload::{HOLDS, Keep, SATURATION_2X, SATURATION_4X, Touch, stub_entrants};
use benches::backend::stub::Hold;

fn main() -> ExitCode {
    suite::run("saturation", |suite| {
        for workload in [SATURATION_2X, SATURATION_4X] {
            for &threads in workload.threads {
                for hold in HOLDS {
                    suite.say(&format!("{threads} threads on {} connections, {}", workload.size.of(threads), hold.label()));
                    let cells = workload.block("saturation", "stub", threads, hold, &stub_entrants());
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

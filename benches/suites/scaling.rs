//! Does the pool keep scaling when every thread can have a connection at once? See [`SCALING`].

use std::process::ExitCode;

use benches::backend::stub::Hold;
use benches::contenders::Entrant;
use benches::measure::{Share, stub_block};
use benches::suite;
use benches::workload::{SCALING, Touch, stub_entrants};

fn main() -> ExitCode {
    suite::run("scaling", |suite| {
        // Without a pool there is nothing to share, and a stub connects for nothing.
        let entrants: Vec<_> = stub_entrants().into_iter().filter(|entrant| *entrant != Entrant::NoPool).collect();
        for &threads in suite.profile().pick::<&[usize]>(&[1, 4], &[1, 2, 8], SCALING.threads, SCALING.threads) {
            let cells = SCALING.block("scaling", "stub", threads, Hold::None, &entrants);
            suite.announce(&cells, &format!("{threads} threads on {threads} connections"));
            stub_block(suite, &cells, &Touch, Share::Dealt)?;
        }
        Ok(())
    })
}

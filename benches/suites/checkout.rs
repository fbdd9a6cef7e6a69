//! What does an acquire cost when nothing is in its way? See [`CHECKOUT`].

use std::process::ExitCode;

use benches::backend::stub::Hold;
use benches::measure::{Share, stub_block};
use benches::suite;
use benches::workload::{CHECKOUT, Touch, stub_entrants};

fn main() -> ExitCode {
    suite::run("checkout", |suite| {
        let cells = CHECKOUT.block("checkout", "stub", 1, Hold::None, &stub_entrants());
        stub_block(suite, &cells, &Touch, Share::Even)
    })
}

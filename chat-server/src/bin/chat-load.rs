//! The load generator and checker; see [`chat_server::load`].

use std::process::ExitCode;

use chat_server::load::arguments::Arguments;
use chat_server::load::{Exit, run};
use clap::Parser;

fn main() -> ExitCode {
    let exit = match run(&Arguments::parse()) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("chat-load: {failure}");
            Exit::Failed
        }
    };
    ExitCode::from(exit as u8)
}

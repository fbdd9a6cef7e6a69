//! The terminal client; see [`chat_server::client::terminal`].

use std::io;
use std::process;

use chat_server::client::terminal::{Arguments, Exit, run};
use clap::Parser;

fn main() {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chat-client: no runtime: {}", io::Error::other(error));
            process::exit(i32::from(Exit::Usage as u8));
        }
    };
    let exit = runtime.block_on(run(arguments));
    // Not by returning: the thread that waits for a line cannot be asked to stop.
    process::exit(i32::from(exit as u8));
}

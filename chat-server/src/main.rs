//! Opens the database through the pool that was chosen at build time, says which one it is, and asks a question.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use chat_server::config::{Arguments, Config};
use chat_server::store::Store;
use clap::Parser;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let config = Config::new(arguments, env::vars_os())?;
    println!("pool {} of at most {} connections, database {}", Store::POOL, config.max_size, config.database);
    let store = Store::open(&config)?;
    let began = Instant::now();
    let version = store.version()?;
    println!("{version} answered in {:.1?}", began.elapsed());
    Ok(())
}

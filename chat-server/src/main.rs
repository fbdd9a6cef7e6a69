//! Opens the database through the pool that was chosen at build time, says which one it is, and asks a question.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use chat_server::config::{Arguments, Config};
use chat_server::db::Options;
use chat_server::store::{Store, StoreOptions};
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
    let mut options = StoreOptions::default();
    options.pool = Options {
        min_idle: config.min_idle,
        max_size: config.max_size,
        acquire_timeout: config.acquire_timeout,
        idle_timeout: config.idle_timeout,
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = Store::open(&config.database, options).await?;
        let began = Instant::now();
        let version = store.version().await?;
        println!("{version} answered in {:.1?}", began.elapsed());
        Ok(())
    })
}

//! The chat server: one node.

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use chat_server::config::{Action, Config, LogFormat, command};
use chat_server::open_files;
use chat_server::server::{BusSource, Server};
use chat_server::store::Store;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let (config, action) = Config::load(&command().get_matches(), env::vars_os())?;
    match action {
        Action::Print => print!("{}", config.show()),
        Action::Check => {
            Server::check(&config)?;
            println!("the configuration makes sense");
        }
        Action::Run => {
            log(&config)?;
            open_files::allow(open_files::needed(&config));
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            if config.workers > 0 {
                runtime.worker_threads(config.workers);
            }
            runtime.enable_all().build()?.block_on(run(config))?;
        }
    }
    Ok(())
}

/// Log lines go to standard error. What is logged never has passwords, tokens or texts of messages in it.
fn log(config: &Config) -> Result<(), Box<dyn Error>> {
    let lines = tracing_subscriber::fmt().with_env_filter(config.log_filter()?).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Json => lines.json().init(),
        LogFormat::Text => lines.with_ansi(false).init(),
    }
    Ok(())
}

async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    // Before anything else, so that a signal during the start is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (database, delivery, pool_size) = (config.database.to_string(), config.delivery, config.pool_size);
    println!("pool {} of at most {pool_size} connections, database {database}", Store::POOL);
    let server = tokio::select! {
        server = Server::open(config, BusSource::Configured) => server?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let node = server.node();
    let version = node.store().version().await?;
    println!("{version}, bus {}, node {} ({:?})", node.bus.name(), node.name, delivery);
    if let Some(http) = server.http_address() {
        println!("health and metrics on http://{http}");
    }
    println!("listening on {}", server.address());
    info!(
        node = node.name, pool = Store::POOL, database, bus = node.bus.name(), address = %server.address(),
        started_in_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "ready"
    );
    // Nobody may be there to be told.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    };
    server.run(shutdown).await?;
    info!("stopped");
    Ok(())
}

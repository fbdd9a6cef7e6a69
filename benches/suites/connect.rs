//! What does a connection cost, over TCP and over the socket, with the driver's detours and without? See [`Way`].

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use benches::backend::Failure;
use benches::backend::mysql::{Mysql, Observer, SOCKET_VARIABLE};
use benches::measure::in_rounds;
use benches::record::{CLOSE_NS, CONNECT_NS, Cell, PING_NS, Spread};
use benches::suite;
use benches::ways::Way;
use mysql::{Conn, Opts};

fn main() -> ExitCode {
    suite::run("connect", |suite| {
        let Some((server, mut observer)) = suite.server("the cost of a connection")? else { return Ok(()) };
        let socket = socket(&server, &mut observer)?;
        if socket.is_none() {
            suite.say(&format!(
                "skipped the socket: {SOCKET_VARIABLE} is not set and the server names none that is here"
            ));
        }
        let socket = socket.as_deref();
        let cell = |way: &Way| Cell {
            suite: "connect".to_owned(),
            workload: if way.is_ping() { "ping" } else { "connect and close" }.to_owned(),
            backend: "mariadb".to_owned(),
            flush: String::new(),
            contender: way.id().to_owned(),
            threads: 1,
            size: 1,
            hold_us: 0,
            rows: 0,
        };
        let can = |way: &Way| socket.is_some() || !way.needs_socket();
        let cells: Vec<Cell> =
            Way::ALL.iter().filter(|way| can(way)).map(cell).filter(|cell| suite.wants(cell)).collect();
        let profile = suite.profile();
        let times = profile.pick(2, 40, 100, 500);
        let samples = in_rounds(&cells, profile.pick(1, 1, 3, 5), |cell| {
            let way = Way::from_id(&cell.contender).ok_or_else(|| Failure::new("a cell without a way to connect"))?;
            observer.wait_until_quiet()?;
            let opts = way.opts(server.opts(), socket);
            if way.is_ping() { ping(&opts, times) } else { connect(&opts, times) }
        })?;
        for (cell, samples) in cells.iter().zip(&samples) {
            let (opened, closed): (Vec<f64>, Vec<f64>) = samples.iter().flatten().copied().unzip();
            let count = opened.len() as u64;
            let Some(opened) = Spread::of(&opened) else { continue };
            if cell.workload == "ping" {
                suite.finish(cell, &[(PING_NS, opened)], count)?;
            } else if let Some(closed) = Spread::of(&closed) {
                suite.finish(cell, &[(CONNECT_NS, opened), (CLOSE_NS, closed)], count)?;
            }
        }
        Ok(())
    })
}

/// The server's socket: as told, or what the server says when it is on this machine.
fn socket(server: &Mysql, observer: &mut Observer) -> Result<Option<String>, Failure> {
    if let Ok(path) = env::var(SOCKET_VARIABLE)
        && !path.is_empty()
    {
        let opts = Way::Socket.opts(server.opts(), Some(&path));
        return match Conn::new(opts) {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(Failure::of(format!("cannot use the socket of {SOCKET_VARIABLE} ({path})"), error)),
        };
    }
    let host = server.opts().get_ip_or_hostname();
    let path = observer.socket()?;
    let is_here = matches!(host.as_ref(), "localhost" | "127.0.0.1" | "::1") && Path::new(&path).exists();
    // The account may be allowed over TCP only.
    Ok((is_here && Conn::new(Way::Socket.opts(server.opts(), Some(&path))).is_ok()).then_some(path))
}

/// Nanoseconds to open and to close, `times` times.
fn connect(opts: &Opts, times: usize) -> Result<Vec<(f64, f64)>, Failure> {
    (0..times)
        .map(|_| {
            let start = Instant::now();
            let conn = Conn::new(opts.clone()).map_err(|error| Failure::of("could not connect", error))?;
            let opened = Instant::now();
            drop(conn);
            Ok((nanos(start, opened), nanos(opened, Instant::now())))
        })
        .collect()
}

/// Nanoseconds of a ping, `times` times.
fn ping(opts: &Opts, times: usize) -> Result<Vec<(f64, f64)>, Failure> {
    let mut conn = Conn::new(opts.clone()).map_err(|error| Failure::of("could not connect", error))?;
    (0..times)
        .map(|_| {
            let start = Instant::now();
            conn.ping().map_err(|error| Failure::of("ping", error))?;
            Ok((nanos(start, Instant::now()), 0.0))
        })
        .collect()
}

fn nanos(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e9
}

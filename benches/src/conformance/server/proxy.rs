//! A TCP proxy that is told to delay, cut, refuse or swallow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::conformance::{Check, Finding};

/// What the proxy does.
#[derive(Debug)]
struct Orders {
    /// Where to.
    address: (String, u16),
    /// Close every new connection at once.
    refuses: bool,
    /// Forward nothing of a new connection for so long.
    delay: Duration,
    /// The connections so far.
    accepted: u64,
    /// Connections up to this one are swallowed: nothing is forwarded, nothing is closed.
    swallowed_up_to: u64,
    /// Both ends of what is open.
    open: Vec<TcpStream>,
}

/// A proxy on a free port of this machine. Its threads end with the process.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    orders: Arc<Mutex<Orders>>,
}

impl Proxy {
    /// A proxy that forwards to `address`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(address: (String, u16)) -> Check<Self> {
        let failed = |error: std::io::Error| Finding::Lab(format!("the proxy: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let orders = Arc::new(Mutex::new(Orders {
            address,
            refuses: false,
            delay: Duration::ZERO,
            accepted: 0,
            swallowed_up_to: 0,
            open: Vec::new(),
        }));
        let accepting = Arc::clone(&orders);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accept(client, &accepting);
            }
        });
        Ok(Self { port, orders })
    }

    fn orders(&self) -> std::sync::MutexGuard<'_, Orders> {
        lock(&self.orders)
    }

    /// Leads new connections to another address.
    pub fn lead_to(&self, address: (String, u16)) {
        self.orders().address = address;
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.orders().refuses = refuses;
    }

    /// How long new connections are kept before anything is forwarded.
    pub fn delay(&self, delay: Duration) {
        self.orders().delay = delay;
    }

    /// Closes everything that is open.
    pub fn cut(&self) {
        for stream in self.orders().open.drain(..) {
            // It may have gone by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Swallows what is sent over the connections that are open now, and closes nothing: a link that is half open.
    pub fn swallow(&self) {
        let mut orders = self.orders();
        orders.swallowed_up_to = orders.accepted;
    }
}

fn lock(orders: &Mutex<Orders>) -> std::sync::MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(client: TcpStream, orders: &Arc<Mutex<Orders>>) {
    let (number, delay, address) = {
        let mut orders = lock(orders);
        orders.accepted += 1;
        if orders.refuses {
            return;
        }
        (orders.accepted, orders.delay, orders.address.clone())
    };
    let orders = Arc::clone(orders);
    thread::spawn(move || {
        thread::sleep(delay);
        let Ok(server) = TcpStream::connect(address) else { return };
        let clones = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(from_client), Ok(from_server), Ok(kept_client), Ok(kept_server)) = clones else { return };
        lock(&orders).open.extend([kept_client, kept_server]);
        let back = Arc::clone(&orders);
        thread::spawn(move || forward(from_server, client, number, &back));
        forward(from_client, server, number, &orders);
    });
}

fn forward(mut from: TcpStream, mut to: TcpStream, number: u64, orders: &Mutex<Orders>) {
    let _ = to.set_nodelay(true);
    let mut bytes = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if number <= lock(orders).swallowed_up_to {
            continue;
        }
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    if number > lock(orders).swallowed_up_to {
        let _ = to.shutdown(Shutdown::Both);
    }
}

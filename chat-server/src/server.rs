//! A running node: opens what it stands on, accepts connections, and stops in order.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{debug, info, warn};

use crate::auth::{Auth, AuthError};
use crate::bus::local::LocalBus;
use crate::bus::redis::{RedisBusError, RedisLink};
use crate::bus::{Bus, BusEvents};
use crate::config::{BusUrl, Config, Switch};
use crate::http;
use crate::hub::Session;
use crate::limits::{Admitted, Limiter, Rate};
use crate::node::{Node, jitter};
use crate::protocol::event::{Notice, NoticeCode};
use crate::protocol::{ErrorCode, Refusal, answer};
use crate::proxy;
use crate::session::{self, Reader};
use crate::store::{NodeId, Store, StoreError};

/// How long a client may take for what comes before its first frame: a proxy's header, TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Clients of a stopping node come back within this time, so that they do not all come at once.
const RECONNECT_SPREAD: Duration = Duration::from_secs(2);

/// How long to wait before accepting again when the system has no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// While connections cannot be accepted, this often the log says so.
const UNACCEPTED_PERIOD: Duration = Duration::from_secs(10);

/// Connections that the system may hold until they are accepted: all the clients of another node may come at once. The
/// system has a limit of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// TCP's own signs of life, for clients that send none: after a minute of silence, every ten seconds, six times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// Why a node could not be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// It could not listen.
    #[error("could not listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The database could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The passwords' options make no sense.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The certificate or its key.
    #[error("could not use {0}: {1}")]
    Tls(String, String),
    /// The bus could not be opened.
    #[error("could not open the bus: {0}")]
    Bus(#[from] RedisBusError),
    /// Another start of this node, or another node of its name, has taken over.
    #[error("another node has registered under the name {0:?}; every node needs a name of its own (--node)")]
    Replaced(String),
}

/// Where a node's bus comes from.
pub enum BusSource {
    /// From the configuration.
    Configured,
    /// From a bus that several nodes of this process share.
    Shared(LocalBus),
}

/// A node that is ready to serve.
pub struct Server {
    node: Arc<Node>,
    listener: TcpListener,
    http: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
    events: BusEvents,
}

impl Server {
    /// Opens the listeners, the database and the bus. When it returns, clients may connect; they are served by
    /// [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// [`ServerError`] says in one line what is missing.
    pub async fn open(config: Config, bus: BusSource) -> Result<Self, ServerError> {
        let (tls, auth) = equip(&config)?;
        let listener = listen(config.listen)?;
        let http = match config.http {
            Some(address) => Some(listen(address)?),
            None => None,
        };
        let address = listener.local_addr().unwrap_or(config.listen);
        let store = Store::open(&config.database, config.store_options()).await?;
        let name = config.node_name(address);
        let lease = store.register_node(&name, Duration::from_millis(config.lease_ms)).await?;
        let (bus, events) = open_bus(&config, bus, lease.node).await?;
        let node = Node::new(config, name, lease, store, auth, bus);
        Ok(Self { node, listener, http, tls, events })
    }

    /// Whether what the configuration names can be used, as far as that can be said without listening and without a database
    /// and a bus: the certificate, its key, the cost of passwords.
    ///
    /// # Errors
    ///
    /// What [`open`](Self::open) would say.
    pub fn check(config: &Config) -> Result<(), ServerError> {
        equip(config).map(drop)
    }

    /// The node, for those who want to look at it.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap_or(self.node.config.listen)
    }

    /// Where health and metrics are served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.local_addr().ok())
    }

    /// Serves until `shutdown` completes, then stops in order: no new connections, a notice to the clients, what is being
    /// worked on is finished and written, sessions and lease are handed back, what waits for its commit is committed.
    ///
    /// # Errors
    ///
    /// [`ServerError::Replaced`] when another node has taken this one's name.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { node, listener, http, tls, events } = self;
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&node).listen(events));
        background.spawn(Arc::clone(&node).keep_lease());
        background.spawn(Arc::clone(&node).probe());
        background.spawn(Arc::clone(&node).sweep());
        background.spawn(Arc::clone(&node).end_ghosts());
        let mut health = JoinSet::new();
        if let Some(http) = http {
            health.spawn(http::serve(Arc::clone(&node), http));
        }
        tokio::select! {
            () = shutdown => {}
            () = node.replaced.notified() => {}
            () = accept(&node, &listener, tls.as_ref()) => {}
        }
        drop(listener);
        drain(&node).await;
        background.shutdown().await;
        let left = Duration::from_millis(node.config.drain_ms).max(Duration::from_secs(1));
        if !node.is_replaced()
            && let Err(error) = within(left, node.store().release_all(node.lease)).await
        {
            warn!(error, "the lease could not be handed back; it will run out");
        }
        if let Err(error) = within(left, node.store().close(left)).await {
            warn!(error, "not everything was committed");
        }
        if node.is_replaced() { Err(ServerError::Replaced(node.name.clone())) } else { Ok(()) }
    }
}

/// What a node needs and has for itself.
fn equip(config: &Config) -> Result<(Option<TlsAcceptor>, Auth), ServerError> {
    let tls = match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
        _ => None,
    };
    Ok((tls, Auth::new(config.auth_options())?))
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("it took too long".into()),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A node that was restarted gets its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|cause| ServerError::Listen { address, cause })
}

async fn open_bus(config: &Config, source: BusSource, node: NodeId) -> Result<(Bus, BusEvents), ServerError> {
    let local = match (source, &config.bus) {
        (BusSource::Shared(bus), _) => bus,
        (BusSource::Configured, BusUrl::Local) => LocalBus::new(),
        (BusSource::Configured, BusUrl::Redis(url)) => {
            let (link, events) = RedisLink::open(url, node).await?;
            return Ok((Bus::Redis(link), events));
        }
    };
    let (link, events) = local.link(node);
    Ok((Bus::Local(link), events))
}

/// Connections that could not be accepted, and that the log does not have yet.
struct Unaccepted {
    lines: Limiter<()>,
    count: u64,
}

impl Unaccepted {
    fn new() -> Self {
        Self { lines: Limiter::new(Rate::new(1, UNACCEPTED_PERIOD, 1)), count: 0 }
    }

    /// Counts one more. Returns how many there are to be logged, if it is time for a line.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        self.lines.take((), now).ok().map(|()| std::mem::take(&mut self.count))
    }
}

/// Accepts connections for ever.
async fn accept(node: &Arc<Node>, listener: &TcpListener, tls: Option<&TlsAcceptor>) {
    let mut unaccepted = Unaccepted::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // No more files, or a client that was gone before it was accepted.
                if let Some(times) = unaccepted.add(Instant::now()) {
                    warn!(%error, times, "connections could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        node.metrics().connections.inc();
        let Some(admitted) = node.admission.admit() else {
            turn_away(node, &stream, "too many connections on this node");
            continue;
        };
        let (node, tls) = (Arc::clone(node), tls.cloned());
        if tls.is_none() && node.config.proxy_protocol == Switch::Off {
            // Nothing comes before the first frame, so the task needs no room for it.
            if let Some((session, reader, admitted)) = admit(&node, stream, address.ip(), admitted) {
                tokio::spawn(async move {
                    let _admitted = admitted;
                    session::run(node, session, reader).await;
                });
            }
        } else {
            tokio::spawn(async move {
                if let Some((session, reader, admitted)) =
                    Box::pin(greet(&node, stream, address.ip(), tls, admitted)).await
                {
                    let _admitted = admitted;
                    session::run(node, session, reader).await;
                }
            });
        }
    }
}

/// What comes before the first frame.
async fn greet(
    node: &Arc<Node>,
    mut stream: TcpStream,
    mut address: IpAddr,
    tls: Option<TlsAcceptor>,
    admitted: Admitted,
) -> Option<(Arc<Session>, Reader, Admitted)> {
    let deadline = Instant::now() + HANDSHAKE;
    if node.config.proxy_protocol == Switch::On {
        match tokio::time::timeout_at(deadline.into(), proxy::read_header(&mut stream)).await {
            Ok(Ok(client)) => address = client.unwrap_or(address),
            Ok(Err(error)) => {
                debug!(%error, %address, "no PROXY header");
                return None;
            }
            Err(_) => return None,
        }
    }
    let Some(tls) = tls else { return admit(node, stream, address, admitted) };
    let mut admitted = admitted;
    if !admitted.comes_from(address.into()) {
        return None;
    }
    prepare(&stream);
    let stream = match tokio::time::timeout_at(deadline.into(), tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%error, %address, "no TLS");
            return None;
        }
        Err(_) => return None,
    };
    let session = Session::new(node.next_session(), address, None, Arc::clone(&node.shared));
    Some((session, Reader::Tls(Box::new(stream)), admitted))
}

/// A session over a plain socket.
fn admit(
    node: &Arc<Node>,
    stream: TcpStream,
    address: IpAddr,
    mut admitted: Admitted,
) -> Option<(Arc<Session>, Reader, Admitted)> {
    if !admitted.comes_from(address.into()) {
        turn_away(node, &stream, "too many connections from this address");
        return None;
    }
    prepare(&stream);
    let (reader, writer) = stream.into_split();
    let session = Session::new(node.next_session(), address, Some(writer), Arc::clone(&node.shared));
    Some((session, Reader::Plain(reader), admitted))
}

fn prepare(stream: &TcpStream) {
    // Neither is worth a connection.
    let _ = stream.set_nodelay(true);
    let (after, every, times) = KEEPALIVE;
    let keepalive = socket2::TcpKeepalive::new().with_time(after).with_interval(every).with_retries(times);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Says why, as far as that is possible without waiting.
fn turn_away(node: &Node, stream: &TcpStream, why: &str) {
    node.metrics().closed("too_many_connections");
    let refusal = Refusal::new(ErrorCode::TooManyConnections, why);
    // A fresh socket has room for a line.
    let _ = stream.try_write(&answer::refusal(0, None, &refusal));
}

/// Ends all sessions: each finishes what it is working on, is told why, and hands back its user.
async fn drain(node: &Arc<Node>) {
    node.begin_draining();
    let deadline = Instant::now() + Duration::from_millis(node.config.drain_ms);
    let code = if node.is_replaced() { NoticeCode::Fenced } else { NoticeCode::Draining };
    info!(connections = node.admission.count(), reason = code.name(), "stopping");
    loop {
        node.hub.each(|session| {
            if code == NoticeCode::Draining {
                let reconnect_ms = Some(jitter(RECONNECT_SPREAD.as_millis() as u64));
                session.close_with(Notice { code, text: "the server is about to stop".into(), reconnect_ms });
            } else {
                session.close(code);
            }
        });
        if node.admission.count() == 0 {
            return;
        }
        if Instant::now() > deadline {
            warn!(connections = node.admission.count(), "not all sessions ended in time");
            return;
        }
        // Sessions that were on their way in are found in the next round.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A TLS acceptor with this certificate.
fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ServerError> {
    let error = |path: &Path, problem: String| ServerError::Tls(path.display().to_string(), problem);
    let read = |path: &Path| fs::read(path).map_err(|cause| error(path, cause.to_string()));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|cause| error(certificate, cause.to_string()))?;
    if chain.is_empty() {
        return Err(error(certificate, "there is no certificate in it".into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|cause| error(key, cause.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|cause| error(certificate, cause.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|cause| error(certificate, cause.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_files_does_not_fill_the_log() {
        let (mut unaccepted, start) = (Unaccepted::new(), Instant::now());
        let lines: Vec<u64> = (0..400).filter_map(|number| unaccepted.add(start + number * ACCEPT_PAUSE)).collect();
        assert_eq!(lines, [1, 200], "twenty a second for twenty seconds; the rest is in the next line");
    }
}

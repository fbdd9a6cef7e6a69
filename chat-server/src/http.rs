//! What operators ask: is it alive, should it get clients, what does it count.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tracing::warn;

use crate::node::Node;
use crate::store::Store;

/// How long a health check waits for the database.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until dropped.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/stats", get(stats))
        .with_state(node);
    if let Err(error) = axum::serve(listener, router).await {
        warn!(%error, "the HTTP port is closed");
    }
}

/// 200 if the node should get new clients, 503 with the reason if not.
async fn ready(State(node): State<Arc<Node>>) -> impl IntoResponse {
    if let Some(reason) = node.unready() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"));
    }
    match tokio::time::timeout(PING_TIMEOUT, node.store().ping()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".into()),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n".into()),
    }
}

/// Prometheus' text format.
async fn metrics(State(node): State<Arc<Node>>) -> impl IntoResponse {
    let stats = Stats::of(&node);
    let (store, bus) = (node.store().stats(), node.bus.stats());
    let gauges = [
        ("connections", "Connections", stats.connections as f64),
        ("users_online", "Users with a session on this node", stats.users_online as f64),
        ("queued_frames", "Frames that wait for clients to read", stats.queued_frames as f64),
        ("queued_bytes", "Bytes that wait for clients to read", stats.queued_bytes as f64),
        ("ready", "Whether the node should get new clients", f64::from(u8::from(node.unready().is_none()))),
        ("store_pending", "Requests that wait for the database", store.pending as f64),
        ("store_pending_messages", "Messages that wait for their commit", store.pending_messages as f64),
        ("store_pending_claims", "Claims that wait for their commit", store.pending_claims as f64),
        ("store_pending_cursors", "Cursors that wait to be written", store.pending_cursors as f64),
        ("bus_up", "Whether the link to the other nodes is there", f64::from(u8::from(node.bus.is_up()))),
        ("unreachable_nodes", "Nodes on the same database that the bus does not reach", stats.unreachable_nodes as f64),
        ("bus_queued", "Payloads that wait to be sent to other nodes", bus.queued as f64),
    ];
    let seconds = |ns: u64| ns as f64 / 1e9;
    let counters = [
        ("store_messages", "Messages stored", store.messages as f64),
        ("store_repeats", "Messages that had been stored before", store.repeats as f64),
        ("store_commits", "Commits that stored messages", store.commits as f64),
        ("store_retries", "Work done again after a deadlock or a lost connection", store.retries as f64),
        ("store_busy", "Requests refused because too much was waiting", store.busy as f64),
        ("store_failures", "Requests that failed", store.failures as f64),
        ("store_cursors_dropped", "Cursors dropped because too many waited", store.cursors_dropped as f64),
        ("pool_wait_seconds", "Waiting for connections of the pool", seconds(store.acquire_wait_ns)),
        ("pool_hold_seconds", "Holding connections of the pool", seconds(store.hold_ns)),
        ("pool_loans", "Connections lent by the pool", store.loans as f64),
        ("bus_sent", "Payloads sent to other nodes", bus.sent as f64),
        ("bus_received", "Payloads received from other nodes", bus.received as f64),
        ("bus_dropped", "Payloads dropped by the bus", bus.dropped as f64),
        ("bus_connects", "How often the bus was linked", bus.connects as f64),
    ];
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], node.metrics().text(&gauges, &counters))
}

/// The node at a glance.
#[derive(Debug, Clone, Serialize)]
struct Stats {
    node: String,
    node_id: u32,
    incarnation: u64,
    version: &'static str,
    pool: &'static str,
    pool_size: usize,
    database: String,
    bus: &'static str,
    delivery: String,
    uptime_s: u64,
    unready: Option<&'static str>,
    connections: usize,
    users_online: usize,
    unreachable_nodes: usize,
    queued_frames: usize,
    queued_bytes: usize,
    messages_accepted: u64,
    messages_delivered: u64,
    messages_stored: u64,
    commits: u64,
}

impl Stats {
    fn of(node: &Node) -> Self {
        let (mut queued_frames, mut queued_bytes) = (0, 0);
        node.hub.each(|session| {
            let (frames, bytes) = session.with_unflushed(|outbox, _| outbox.len());
            queued_frames += frames;
            queued_bytes += bytes;
        });
        let (metrics, store) = (node.metrics(), node.store().stats());
        Self {
            node: node.name.clone(),
            node_id: node.lease.node.0,
            incarnation: node.lease.incarnation.0,
            version: env!("CARGO_PKG_VERSION"),
            pool: Store::POOL,
            pool_size: node.config.pool_size,
            database: node.config.database.to_string(),
            bus: node.bus.name(),
            delivery: format!("{:?}", node.config.delivery).to_lowercase(),
            uptime_s: node.shared.start.elapsed().as_secs(),
            unready: node.unready(),
            connections: node.admission.count(),
            users_online: node.hub.users_online(),
            unreachable_nodes: node.directory.unreachable(),
            queued_frames,
            queued_bytes,
            messages_accepted: metrics.accepted.get(),
            messages_delivered: metrics.delivered.get(),
            messages_stored: store.messages,
            commits: store.commits,
        }
    }
}

async fn stats(State(node): State<Arc<Node>>) -> Json<Stats> {
    Json(Stats::of(&node))
}

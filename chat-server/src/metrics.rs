//! What is counted. Each node has its own, so that several may live in one process.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A reason, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    reason: String,
}

/// The counters of a node.
pub struct Metrics {
    registry: Registry,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections that the server ended, by reason.
    closed: Family<Reason, Counter>,
    /// Commands that were refused, by error.
    refused: Family<Reason, Counter>,
    /// Frames read.
    pub frames: Counter,
    /// Messages accepted from clients: stored, or passed on.
    pub accepted: Counter,
    /// Messages put into clients' queues as they came, from this node's users and from the bus; also those that a healing
    /// read was faster with.
    pub delivered: Counter,
    /// Messages sent again or for the first time after a healing read.
    pub healed: Counter,
    /// Healing reads.
    pub heals: Counter,
    /// Logins, with password or token.
    pub logins: Counter,
    /// Sessions displaced by a later login.
    pub displaced: Counter,
    /// Hints that found nobody.
    pub strays: Counter,
    /// News about presence that were left out because too much was waiting.
    pub news_dropped: Counter,
    /// Probes of the bus that did not come back.
    pub probes_lost: Counter,
    /// How long accepting messages took, for the messages of one read.
    pub accept_seconds: Histogram,
    /// How long a probe took from a node to itself over the bus.
    pub bus_lag_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("chat");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let connections = counter("connections_accepted", "Connections accepted");
        let frames = counter("frames", "Frames read from clients");
        let accepted = counter("messages_accepted", "Messages accepted from clients");
        let delivered = counter("messages_delivered", "Messages put into the queues of clients");
        let healed = counter("messages_healed", "Messages sent after a healing read");
        let heals = counter("healing_reads", "Healing reads");
        let logins = counter("logins", "Logins with password or token");
        let displaced = counter("sessions_displaced", "Sessions that a later login ended");
        let strays = counter("bus_strays", "Messages from the bus for users who are not here");
        let news_dropped = counter("presence_news_dropped", "News of presence left out under load");
        let probes_lost = counter("bus_probes_lost", "Probes of the bus that did not come back");
        let (closed, refused) = (Family::<Reason, Counter>::default(), Family::<Reason, Counter>::default());
        registry.register("connections_closed", "Connections ended by the server", closed.clone());
        registry.register("commands_refused", "Commands refused", refused.clone());
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
        let (accept_seconds, bus_lag_seconds) = (seconds(), seconds());
        registry.register_with_unit(
            "accept",
            "Accepting the messages of one read",
            Unit::Seconds,
            accept_seconds.clone(),
        );
        registry.register_with_unit("bus_lag", "A probe's way over the bus", Unit::Seconds, bus_lag_seconds.clone());
        Self {
            registry,
            connections,
            closed,
            refused,
            frames,
            accepted,
            delivered,
            healed,
            heals,
            logins,
            displaced,
            strays,
            news_dropped,
            probes_lost,
            accept_seconds,
            bus_lag_seconds,
        }
    }
}

impl Metrics {
    /// A connection was ended.
    pub fn closed(&self, reason: &str) {
        self.closed.get_or_create(&Reason { reason: reason.into() }).inc();
    }

    /// A command was refused.
    pub fn refused(&self, reason: &str) {
        self.refused.get_or_create(&Reason { reason: reason.into() }).inc();
    }

    /// So many connections were ended for this reason.
    pub fn closed_for(&self, reason: &str) -> u64 {
        self.closed.get_or_create(&Reason { reason: reason.into() }).get()
    }

    /// In Prometheus' text format, with `gauges` that are read now: name, help, value; and `counters` of other parts.
    pub fn text(&self, gauges: &[(&str, &str, f64)], counters: &[(&str, &str, f64)]) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        let end = text.trim_end().trim_end_matches("# EOF").len();
        text.truncate(end);
        for (name, help, value) in gauges {
            let _ = write!(text, "# HELP chat_{name} {help}.\n# TYPE chat_{name} gauge\nchat_{name} {value}\n");
        }
        for (name, help, value) in counters {
            let _ = write!(text, "# HELP chat_{name} {help}.\n# TYPE chat_{name} counter\nchat_{name}_total {value}\n");
        }
        text.push_str("# EOF\n");
        text
    }
}

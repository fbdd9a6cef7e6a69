//! The options, each defined once: field, type, default, range, what `--help` says.
//!
//! The same name serves everywhere: `max_connections` is `--max-connections` on the command line, `CHAT_MAX_CONNECTIONS`
//! in the environment and `max-connections` in the file.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::Database;
use super::value::{BusUrl, Delivery, LogFormat, SecondLogin, Switch, Value};
use crate::auth::MAX_MEMORY_KIB;
use crate::protocol::{MAX_FRIENDS, MAX_GROUPS, MAX_MEMBERS};
use crate::store::Durability;

/// One option, whatever its type.
pub(super) struct OptionSpec {
    /// Its name with hyphens.
    pub(super) name: &'static str,
    /// What its value is called in the help.
    pub(super) placeholder: &'static str,
    /// Its default, as text.
    pub(super) default: &'static str,
    /// What it does.
    pub(super) help: &'static str,
    /// Sets it from text.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// Shows it, with secrets hidden.
    pub(super) show: fn(&Config) -> String,
}

macro_rules! options {
    ($($(#[doc = $help:literal])* $field:ident ($name:literal): $type:ty = $default:literal $(in $range:expr)?, $placeholder:literal;)*) => {
        /// Everything that can be set, with its value.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $help])* pub $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: <$type as Value>::parse($default).expect("defaults are tested"),)* }
            }
        }

        pub(super) static OPTIONS: &[OptionSpec] = &[$(OptionSpec {
            name: $name,
            placeholder: $placeholder,
            default: $default,
            help: concat!($($help, "\n"),*),
            set: |config, text| {
                let value = <$type as Value>::parse(text)?;
                $(
                    let range: RangeInclusive<u64> = $range;
                    if !value.is_within(&range) {
                        return Err(format!("must be {} to {}, not {text}", range.start(), range.end()));
                    }
                )?
                config.$field = value;
                Ok(())
            },
            show: |config| Value::show(&config.$field),
        },)*];
    };
}

const BILLION: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;

options! {
    /// Where clients connect. Port 0: any free one.
    listen ("listen"): SocketAddr = "127.0.0.1:6000", "ADDRESS";
    /// Where health, metrics and statistics are served, or off.
    http ("http"): Option<SocketAddr> = "127.0.0.1:6080", "ADDRESS";
    /// The database: mysql://user:password@host:port/database, sqlite:FILE or sqlite::memory: (without it, the variable DATABASE_URL).
    database ("database"): Database = "sqlite:chat.db", "URL";
    /// The bus between nodes: local, or redis://host:port
    bus ("bus"): BusUrl = "local", "URL";
    /// This node's name, different from all others'. When empty: the host's name and the port.
    node ("node"): String = "", "NAME";
    /// What is stored: durable (every message, before it is acknowledged) or relay (what is for users who are offline).
    delivery ("delivery"): Delivery = "durable", "SETTING";
    /// What a second login of a user does: displace the first or be refuse(d).
    second_login ("second-login"): SecondLogin = "displace", "SETTING";
    /// The certificate chain (PEM). With tls-key, clients must speak TLS.
    tls_certificate ("tls-certificate"): Option<PathBuf> = "", "FILE";
    /// The certificate's private key (PEM).
    tls_key ("tls-key"): Option<PathBuf> = "", "FILE";
    /// Whether each connection begins with a PROXY protocol header (1 or 2), as behind nginx. Then it must.
    proxy_protocol ("proxy-protocol"): Switch = "off", "ON|OFF";
    /// Threads that run the server; 0: one for each processor.
    workers ("workers"): usize = "0" in 0..=1024, "N";
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,chat_server=debug
    log ("log"): String = "info", "FILTER";
    /// What log lines look like: text or json.
    log_format ("log-format"): LogFormat = "text", "FORMAT";
    /// How long a stopping server waits for its clients to go and for its work to be done.
    drain_ms ("drain-ms"): u64 = "10000" in 0..=600_000, "MS";
    /// How long the node is believed alive without a sign of life: how long a user of a dead node may have to wait.
    lease_ms ("lease-ms"): u64 = "10000" in 500..=600_000, "MS";
    /// How often the lease is renewed.
    lease_refresh_ms ("lease-refresh-ms"): u64 = "3000" in 100..=200_000, "MS";
    /// How often sessions are compared with the store, for messages whose hint was lost.
    heal_ms ("heal-ms"): u64 = "60000" in 100..=3_600_000, "MS";
    /// How often a node that hears nothing on the bus asks itself whether it is deaf.
    probe_ms ("probe-ms"): u64 = "2000" in 50..=600_000, "MS";
    /// How long what is known about users on other nodes and about groups' members is believed without news.
    cache_ms ("cache-ms"): u64 = "5000" in 0..=600_000, "MS";
    /// How long a resume token is good.
    token_s ("token-s"): u64 = "604800" in 60..=365 * DAY_S, "S";

    /// Bytes of a frame from a client that is logged in.
    max_frame_bytes ("max-frame-bytes"): usize = "65536" in 1024..=1 << 20, "N";
    /// Bytes of a frame from a client that is not.
    max_frame_before_login_bytes ("max-frame-before-login-bytes"): usize = "8192" in 1024..=1 << 20, "N";
    /// Objects and arrays in a frame inside of each other.
    max_depth ("max-depth"): usize = "16" in 2..=100, "N";
    /// How long a client may take to log in.
    login_deadline_ms ("login-deadline-ms"): u64 = "10000" in 100..=3_600_000, "MS";
    /// After this time of silence a modern client is asked for a sign of life.
    ping_after_ms ("ping-after-ms"): u64 = "60000" in 100..=DAY_S * 1000, "MS";
    /// After this time of silence a modern client is disconnected.
    idle_timeout_ms ("idle-timeout-ms"): u64 = "90000" in 200..=DAY_S * 1000, "MS";
    /// Commands of one session per second; one that sends more is read more slowly. 0: no limit.
    commands_per_s ("commands-per-s"): u32 = "500", "N";
    /// Commands of one session at once.
    commands_burst ("commands-burst"): u32 = "1000" in 1..=1_000_000, "N";
    /// Attempts to log in to one account from one address per minute. 0: no limit.
    logins_per_account_and_address_per_min ("logins-per-account-and-address-per-min"): u32 = "30", "N";
    /// Attempts to log in to one account from one address at once.
    logins_per_account_and_address_burst ("logins-per-account-and-address-burst"): u32 = "10" in 1..=1_000_000, "N";
    /// Attempts to log in to one account per minute, from all addresses: whoever makes so many locks its owner out. 0: no limit.
    logins_per_account_per_min ("logins-per-account-per-min"): u32 = "300", "N";
    /// Attempts to log in to one account at once, from all addresses.
    logins_per_account_burst ("logins-per-account-burst"): u32 = "100" in 1..=1_000_000, "N";
    /// Attempts to log in from one address per minute. 0: no limit.
    logins_per_address_per_min ("logins-per-address-per-min"): u32 = "600", "N";
    /// Attempts to log in from one address at once.
    logins_per_address_burst ("logins-per-address-burst"): u32 = "100" in 1..=1_000_000, "N";
    /// Registrations from one address per minute. 0: no limit.
    registrations_per_address_per_min ("registrations-per-address-per-min"): u32 = "60", "N";
    /// Registrations from one address at once.
    registrations_per_address_burst ("registrations-per-address-burst"): u32 = "20" in 1..=1_000_000, "N";
    /// Connections of this node.
    max_connections ("max-connections"): usize = "10000" in 1..=10_000_000, "N";
    /// Connections from one address.
    max_connections_per_address ("max-connections-per-address"): usize = "1000" in 1..=10_000_000, "N";
    /// Frames that may wait for one client to read. Messages beyond it are sent when it has read, from the store.
    queue_frames ("queue-frames"): usize = "1024" in 8..=1_000_000, "N";
    /// Bytes that may wait for one client to read.
    queue_bytes ("queue-bytes"): usize = "1048576" in 65_536..=BILLION, "N";
    /// A client that reads nothing for so long, while something waits for it, is disconnected.
    slow_reader_ms ("slow-reader-ms"): u64 = "10000" in 100..=3_600_000, "MS";
    /// The original client loses the second of two messages that it reads at once: what lies between writes to it. 0: nothing.
    original_spacing_ms ("original-spacing-ms"): u64 = "1" in 0..=1000, "MS";

    /// Connections to the database.
    pool_size ("pool-size"): usize = "10" in 1..=10_000, "N";
    /// Connections to the database that are opened at the start.
    pool_min_idle ("pool-min-idle"): usize = "1" in 0..=10_000, "N";
    /// How long work waits for a connection to the database.
    pool_acquire_ms ("pool-acquire-ms"): u64 = "5000" in 1..=600_000, "MS";
    /// Spare connections to the database are closed after this.
    pool_idle_s ("pool-idle-s"): u64 = "600" in 1..=DAY_S, "S";
    /// What a commit on SQLite survives: a power-cut or a crash. MySQL and MariaDB have settings of their own.
    durability ("durability"): Durability = "power-cut", "SETTING";
    /// Requests that may wait for the database.
    max_pending_requests ("max-pending-requests"): usize = "1024" in 1..=1_000_000, "N";
    /// Messages that may wait for their commit.
    max_pending_messages ("max-pending-messages"): usize = "8192" in 1..=10_000_000, "N";
    /// Messages of one commit.
    max_batch ("max-batch"): usize = "256" in 1..=10_000, "N";
    /// Commits of messages side by side (MySQL, MariaDB).
    committers ("committers"): usize = "2" in 1..=256, "N";
    /// Friends of one user, those he has asked included. As many again may ask him.
    max_friends ("max-friends"): usize = "1000" in 1..=MAX_FRIENDS as u64, "N";
    /// Groups of one user.
    max_groups ("max-groups"): usize = "500" in 1..=MAX_GROUPS as u64, "N";
    /// Members of one group.
    max_members ("max-members"): usize = "1000" in 1..=MAX_MEMBERS as u64, "N";

    /// Memory of one password hash.
    password_memory_kib ("password-memory-kib"): u32 = "4096" in 8..=MAX_MEMORY_KIB as u64, "KIB";
    /// Passes over that memory.
    password_passes ("password-passes"): u32 = "1" in 1..=100, "N";
    /// Password hashes at once; 0: one for each processor.
    password_concurrency ("password-concurrency"): usize = "0" in 0..=1024, "N";
    /// Passwords that may wait to be checked.
    max_pending_passwords ("max-pending-passwords"): usize = "1024" in 1..=1_000_000, "N";
}

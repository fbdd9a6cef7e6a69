//! What the server is told: by its command line, the environment, a file, and its defaults, in this order.
//!
//! [`Config`] has every option with its meaning. Whatever does not make sense is one line that names the option, the variable
//! or the file's line.

mod database;
mod options;
mod value;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use pool::settings::{MAX_FILE_BYTES, Settings, SettingsError};
use tracing_subscriber::EnvFilter;

pub use self::database::Database;
pub use self::options::Config;
use self::options::OPTIONS;
pub use self::value::{BusUrl, Delivery, LogFormat, SecondLogin, Switch, Value};
use crate::auth::AuthOptions;
use crate::db::Options;
use crate::store::StoreOptions;

/// What the names of environment variables that set an option begin with.
pub const PREFIX: &str = "CHAT_";

/// The variable that names the database when nothing else does.
pub const DATABASE_VARIABLE: &str = "DATABASE_URL";

/// What the names of environment variables that override `--settings` begin with.
pub const SETTINGS_PREFIX: &str = "POOL_";

/// What the server is to do with its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run.
    Run,
    /// Say whether it makes sense.
    Check,
    /// Print it, with secrets hidden.
    Print,
}

/// Why the configuration does not make sense. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An option.
    #[error("{origin}: {problem}")]
    Option {
        /// The option, variable or line it came from. The value itself may hold a password and is not shown.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of `--config`.
    #[error("could not read the file {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of `--settings`, or a variable that overrides it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// The command line's definition.
pub fn command() -> Command {
    let options = OPTIONS.iter().map(|option| {
        let help = option.help.trim().replace("\n ", " ");
        let help = match option.default {
            "" => help,
            default => format!("{help} [default: {default}]"),
        };
        Arg::new(option.name).long(option.name).value_name(option.placeholder).help(help)
    });
    Command::new("chat-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A chat server: one node, alone or in a cluster")
        .after_help(
            "Every option may also be set by a variable, as CHAT_MAX_CONNECTIONS, or in the file of --config, as \
             max-connections = 10000. The command line wins over the environment, the environment over the file. What \
             Kubernetes sets for a service named chat (CHAT_SERVICE_HOST, CHAT_PORT_6000_TCP, ...) is ignored.",
        )
        .arg(Arg::new("config").long("config").value_name("FILE").help("A TOML file with any of the options below"))
        .arg(Arg::new("settings").long("settings").value_name("FILE").conflicts_with("database").help(
            "A TOML file with host, port, user, password, database, initial_size, max_size, max_idle_time_s, \
             connection_timeout_ms of a MySQL database; variables such as POOL_HOST override it",
        ))
        .arg(flag("check-config", "Say whether the configuration makes sense, and end"))
        .arg(
            flag("print-config", "Print the configuration with secrets hidden, and end").conflicts_with("check-config"),
        )
        .args(options)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

impl Config {
    /// The configuration that this command line and this environment ask for, and what to do with it.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the option, the variable or the file at fault.
    pub fn load(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Action), ConfigError> {
        let (mut config, environment) = (Self::default(), environment.into_iter().collect::<Vec<_>>());
        let mut names_database = false;
        let config_variable = concat_name("config");
        let variables = variables(&environment)?;
        let argument = |name: &str| matches.get_one::<String>(name).map(String::as_str);
        if let Some(file) = argument("config").or(variables.get(&config_variable).map(String::as_str)) {
            for (name, text) in read(Path::new(file))? {
                names_database |= name == "database";
                config.set(&name, &text, || format!("{file}: {name}"))?;
            }
        }
        for (variable, text) in &variables {
            if *variable == config_variable {
                continue;
            }
            let name = variable[PREFIX.len()..].to_lowercase().replace('_', "-");
            names_database |= name == "database";
            config.set(&name, text, || variable.clone())?;
        }
        for option in OPTIONS {
            if let Some(text) = argument(option.name) {
                names_database |= option.name == "database";
                config.set(option.name, text, || format!("--{}", option.name))?;
            }
        }
        if let Some(file) = argument("settings") {
            config.apply(&Settings::from_file_and_vars(Path::new(file), SETTINGS_PREFIX, environment)?);
        } else if !names_database {
            let variable = environment.iter().find(|(name, value)| name == DATABASE_VARIABLE && !value.is_empty());
            if let Some((_, url)) = variable {
                let url = url.to_str().ok_or_else(|| problem(DATABASE_VARIABLE, "is not valid UTF-8"))?;
                config.set("database", url, || DATABASE_VARIABLE.into())?;
            }
        }
        config.check()?;
        let action = match (matches.get_flag("check-config"), matches.get_flag("print-config")) {
            (true, _) => Action::Check,
            (_, true) => Action::Print,
            _ => Action::Run,
        };
        Ok((config, action))
    }

    /// Sets the option `name`, which came from `origin`.
    fn set(&mut self, name: &str, text: &str, origin: impl Fn() -> String) -> Result<(), ConfigError> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Err(problem(&origin(), "there is no such option"));
        };
        (option.set)(self, text).map_err(|text| problem(&origin(), &text))
    }

    /// Takes the database and its pool from a settings file, as the original has it.
    fn apply(&mut self, settings: &Settings) {
        self.database = Database::Mysql(Box::new(settings.mysql_opts()));
        self.pool_min_idle = settings.initial_size;
        self.pool_size = settings.max_size;
        self.pool_acquire_ms = u64::try_from(settings.connection_timeout.as_millis()).unwrap_or(u64::MAX);
        self.pool_idle_s = settings.max_idle_time.as_secs();
    }

    /// What no option alone can be wrong about.
    fn check(&self) -> Result<(), ConfigError> {
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(problem("tls-certificate, tls-key", "one needs the other"));
        }
        if self.lease_refresh_ms.saturating_mul(2) > self.lease_ms {
            return Err(problem(
                "lease-refresh-ms",
                "must be at most half of lease-ms, or a single delay loses the lease",
            ));
        }
        if self.ping_after_ms >= self.idle_timeout_ms {
            return Err(problem("ping-after-ms", "must be less than idle-timeout-ms, or nobody has time to answer"));
        }
        if self.pool_min_idle > self.pool_size {
            return Err(problem("pool-min-idle", "must not be more than pool-size"));
        }
        if self.node.chars().count() > crate::store::MAX_NAME_CHARS || self.node.chars().any(char::is_control) {
            return Err(problem("node", "must have at most 50 characters and no control characters"));
        }
        self.log_filter().map(drop)
    }

    /// What is logged.
    ///
    /// # Errors
    ///
    /// What is wrong with the option `log`.
    pub fn log_filter(&self) -> Result<EnvFilter, ConfigError> {
        EnvFilter::try_new(&self.log).map_err(|error| problem("log", &error.to_string()))
    }

    /// Every option with its value, as a file that says the same; secrets are hidden.
    pub fn show(&self) -> String {
        OPTIONS.iter().fold(String::new(), |mut text, option| {
            let _ = writeln!(text, "{} = {}", option.name, (option.show)(self));
            text
        })
    }

    /// The store's part.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            pool: Options {
                min_idle: self.pool_min_idle,
                max_size: self.pool_size,
                acquire_timeout: Duration::from_millis(self.pool_acquire_ms),
                idle_timeout: Duration::from_secs(self.pool_idle_s),
            },
            durability: self.durability,
            max_pending: self.max_pending_requests,
            max_pending_messages: self.max_pending_messages,
            max_batch: self.max_batch,
            committers: self.committers,
            max_friends: self.max_friends,
            max_groups: self.max_groups,
            max_members: self.max_members,
            ..StoreOptions::default()
        }
    }

    /// The passwords' part.
    pub fn auth_options(&self) -> AuthOptions {
        let default = AuthOptions::default();
        AuthOptions {
            memory_kib: self.password_memory_kib,
            passes: self.password_passes,
            concurrency: self.password_concurrency.try_into().unwrap_or(default.concurrency),
            max_pending: self.max_pending_passwords,
        }
    }

    /// The node's name, now that its address is known.
    pub fn node_name(&self, address: SocketAddr) -> String {
        if !self.node.is_empty() {
            return self.node.clone();
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(|char| !char.is_control()).take(40).collect();
        let host = if host.is_empty() { address.ip().to_string() } else { host };
        format!("{host}:{}", address.port())
    }
}

fn concat_name(option: &str) -> String {
    format!("{PREFIX}{}", option.to_uppercase().replace('-', "_"))
}

fn problem(origin: &str, problem: &str) -> ConfigError {
    ConfigError::Option { origin: origin.into(), problem: problem.into() }
}

/// The variables that set options. One that sets none is a mistake, unless nobody has asked for it.
fn variables(environment: &[(OsString, OsString)]) -> Result<BTreeMap<String, String>, ConfigError> {
    let named = environment.iter().filter_map(|(name, value)| {
        let name = name.to_str().filter(|name| name.starts_with(PREFIX) && !is_of_kubernetes(name, value))?;
        let value = value.to_str().map(str::to_owned).ok_or_else(|| problem(name, "is not valid UTF-8"));
        Some(value.map(|value| (name.to_owned(), value)))
    });
    named.collect()
}

/// Whether a variable is one of those with which Kubernetes tells every container about a service whose name begins with
/// "chat", unless it is told not to (`enableServiceLinks: false`): `CHAT_SERVICE_HOST=10.0.0.1`,
/// `CHAT_SERVICE_PORT_CLIENTS=6000`, `CHAT_PORT=tcp://10.0.0.1:6000`, `CHAT_PORT_6000_TCP_ADDR=10.0.0.1`.
fn is_of_kubernetes(name: &str, value: &OsStr) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_service = words.windows(2).any(|words| matches!(words, ["SERVICE", "HOST" | "PORT"]));
    let is_port = words.windows(3).any(|words| match words {
        ["PORT", number, "TCP" | "UDP" | "SCTP"] => number.parse::<u16>().is_ok(),
        _ => false,
    });
    let is_url = words.last() == Some(&"PORT") && value.to_str().is_some_and(|value| value.contains("://"));
    is_service || is_port || is_url
}

/// The options of a file, as text.
fn read(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let error = |problem: String| ConfigError::File { path: path.into(), problem };
    let size = fs::metadata(path).map_err(|cause| error(cause.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(error(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|cause| error(cause.to_string()))?;
    let table: toml::Table = text.parse().map_err(|cause: toml::de::Error| {
        let line = cause.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        error(format!("line {line}: {}", cause.message()))
    })?;
    let options = table.into_iter().map(|(name, value)| match value {
        toml::Value::String(text) => Ok((name, text)),
        toml::Value::Integer(number) => Ok((name, number.to_string())),
        toml::Value::Boolean(value) => Ok((name, if value { "on" } else { "off" }.to_owned())),
        other => Err(problem(&format!("{}: {name}", path.display()), &format!("must not be a {}", other.type_str()))),
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let matches = command().try_get_matches_from([&["chat-server"], arguments].concat()).expect("well-formed");
        Config::load(&matches, environment.iter().map(|(name, value)| (name.into(), value.into())))
            .map(|(config, _)| config)
    }

    fn database(arguments: &[&str], environment: &[(&str, &str)]) -> String {
        load(arguments, environment).unwrap().database.to_string()
    }

    #[test]
    fn every_default_is_a_value_in_its_range_and_every_name_fits_its_field() {
        let mut config = Config::default();
        for option in OPTIONS {
            (option.set)(&mut config, option.default).unwrap_or_else(|problem| panic!("{}: {problem}", option.name));
        }
        config.check().unwrap();
        let shown = format!("{config:?}");
        for option in OPTIONS {
            assert!(shown.contains(&format!("{}:", option.name.replace('-', "_"))), "{}", option.name);
        }
        command().debug_assert();
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_the_environment_over_the_file() {
        let file = std::env::temp_dir().join(format!("chat-config-{}.toml", std::process::id()));
        fs::write(&file, "max-batch = 1\nmax-friends = 1\nmax-groups = 1\ndelivery = 'relay'\nproxy-protocol = true\n")
            .unwrap();
        let path = file.to_str().unwrap();
        let environment = [("CHAT_MAX_FRIENDS", "2"), ("CHAT_MAX_GROUPS", "2")];
        let config = load(&["--config", path, "--max-groups", "3"], &environment).unwrap();
        assert_eq!((config.max_batch, config.max_friends, config.max_groups), (1, 2, 3));
        assert_eq!((config.delivery, config.proxy_protocol), (Delivery::Relay, Switch::On));
        let config = load(&[], &[("CHAT_CONFIG", path)]).unwrap();
        assert_eq!(config.max_friends, 1);
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn what_is_printed_says_the_same_when_it_is_read_and_hides_secrets() {
        let file = std::env::temp_dir().join(format!("chat-printed-{}.toml", std::process::id()));
        let config = load(&["--http", "off", "--max-batch", "7", "--bus", "redis://u:hunter2@h:1/"], &[]).unwrap();
        assert!(!config.show().contains("hunter2") && !format!("{config:?}").contains("hunter2"));
        fs::write(&file, config.show()).unwrap();
        let again = load(&["--config", file.to_str().unwrap()], &[]).unwrap();
        assert_eq!(again.show(), config.show());
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn the_option_wins_over_the_variable_and_a_file_is_the_default() {
        assert_eq!(database(&[], &[]), "sqlite:chat.db");
        assert_eq!(database(&[], &[("DATABASE_URL", "sqlite:a.db")]), "sqlite:a.db");
        assert_eq!(database(&[], &[("DATABASE_URL", "")]), "sqlite:chat.db");
        assert_eq!(database(&[], &[("DATABASE_URL", "x"), ("CHAT_DATABASE", "sqlite:b.db")]), "sqlite:b.db");
        assert_eq!(database(&["--database", "sqlite::memory:"], &[("DATABASE_URL", "x")]), "sqlite::memory:");
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = "mysql://chat:hunter2@db:3307/talk";
        let config = load(&["--database", url], &[]).unwrap();
        assert_eq!(config.database.to_string(), "mysql://chat@db:3307/talk");
        assert!(!format!("{config:?}").contains("hunter2") && !config.show().contains("hunter2"));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_where_it_came_from() {
        for (url, problem) in [
            ("postgres://x", "is neither mysql://… nor sqlite:FILE nor sqlite::memory:"),
            ("", "is neither mysql://… nor sqlite:FILE nor sqlite::memory:"),
            ("sqlite:", "names no file: write sqlite:FILE"),
            ("mysql://u:hunter2@h", "names no database: mysql://…/database is missing"),
            ("mysql://u:hunter2@h:99999/d", "is malformed: invalid port number"),
            ("mysql://u:hunter2@h/d?colour=red", "has an unknown parameter \"colour\""),
        ] {
            let error = load(&["--database", url], &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("--database: {problem}"), "{url}");
        }
        for (arguments, environment, problem) in [
            (vec![], ("DATABASE_URL", "nonsense"), "DATABASE_URL: is neither"),
            (vec![], ("CHAT_MAX_FRIEND", "1"), "CHAT_MAX_FRIEND: there is no such option"),
            (vec![], ("CHAT_MAX_FRIENDS", "many"), "CHAT_MAX_FRIENDS: must be a whole number, not \"many\""),
            (vec!["--max-friends", "0"], ("", ""), "--max-friends: must be 1 to 1000, not 0"),
            (vec!["--delivery", "pigeon"], ("", ""), "--delivery: must be durable or relay, not \"pigeon\""),
            (vec!["--listen", "6000"], ("", ""), "--listen: must be an address with a port"),
            (vec!["--tls-key", "k"], ("", ""), "tls-certificate, tls-key: one needs the other"),
            (vec!["--lease-ms", "1000"], ("", ""), "lease-refresh-ms: must be at most half"),
            (vec!["--bus", "amqp://x"], ("", ""), "--bus: is neither local nor redis://…"),
            (vec!["--log", "x=y=z"], ("", ""), "log: error parsing level filter"),
            (
                vec!["--password-memory-kib", "2000000"],
                ("", ""),
                "--password-memory-kib: must be 8 to 1048576, not 2000000",
            ),
            (vec!["--config", "no/such.toml"], ("", ""), "could not read the file no/such.toml: No such file"),
        ] {
            let error = load(&arguments, &[environment]).unwrap_err().to_string();
            assert!(error.starts_with(problem) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn what_kubernetes_says_about_a_service_named_chat_is_no_option_and_nobodys_mistake() {
        let of_kubernetes = [
            ("CHAT_SERVICE_HOST", "10.0.0.1"),
            ("CHAT_SERVICE_PORT", "6000"),
            ("CHAT_SERVICE_PORT_CLIENTS", "6000"),
            ("CHAT_PORT", "tcp://10.0.0.1:6000"),
            ("CHAT_PORT_6000_TCP", "tcp://10.0.0.1:6000"),
            ("CHAT_PORT_6000_TCP_PROTO", "tcp"),
            ("CHAT_PORT_6000_UDP_PORT", "6000"),
            ("CHAT_PORT_6000_TCP_ADDR", "10.0.0.1"),
            ("CHAT_SERVER_SERVICE_HOST", "10.0.0.1"),
            ("CHAT_SERVER_PORT", "tcp://10.0.0.1:6000"),
            ("CHAT_SERVER_PORT_6000_TCP", "tcp://10.0.0.1:6000"),
        ];
        assert_eq!(load(&[], &of_kubernetes).unwrap().show(), Config::default().show());
        for mistake in ["CHAT_PORT", "CHAT_PORT_NUMBER", "CHAT_SERVICE", "CHAT_HOST"] {
            let error = load(&[], &[(mistake, "6000")]).unwrap_err().to_string();
            assert_eq!(error, format!("{mistake}: there is no such option"));
        }
        for option in OPTIONS {
            assert!(!is_of_kubernetes(&concat_name(option.name), OsStr::new("a://b")), "{}", option.name);
        }
    }

    #[test]
    fn the_database_and_a_settings_file_exclude_each_other() {
        let both = ["chat-server", "--database", "sqlite::memory:", "--settings", "x.toml"];
        assert!(command().try_get_matches_from(both).is_err());
    }
}

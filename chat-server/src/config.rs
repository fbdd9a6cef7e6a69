//! What to connect to and with how many connections.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use pool::settings::{Settings, SettingsError};

/// The database when nobody names one: a file in the current folder.
pub const DEFAULT_DATABASE: &str = "sqlite:chat.db";

/// The variable that names the database when neither `--database` nor `--settings` is given.
pub const DATABASE_VARIABLE: &str = "DATABASE_URL";

/// What the names of environment variables that override a settings file begin with.
pub const SETTINGS_PREFIX: &str = "POOL_";

/// The most connections to open when no settings file says how many.
pub const DEFAULT_MAX_SIZE: usize = 10;

/// How long to wait for a connection when no settings file says how long.
pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the chat server's database through the pool it was built with, and asks it a question.
#[derive(Debug, Parser)]
#[command(name = "chat-server", version)]
pub struct Arguments {
    /// The database: mysql://user:password@host:port/database, sqlite:FILE or sqlite::memory:
    ///
    /// Without it and without --settings, the variable DATABASE_URL; without that, sqlite:chat.db.
    #[arg(long, value_name = "URL", conflicts_with = "settings")]
    database: Option<String>,

    /// A TOML file with host, port, user, password, database, initial_size, max_size, max_idle_time_s,
    /// connection_timeout_ms of a MySQL database; variables such as POOL_HOST override it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

/// Where the messages are kept, and how large the pool in front of them may grow.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: Database,
    /// Connections to open at the start.
    pub min_idle: usize,
    /// Connections at most.
    pub max_size: usize,
    /// How long a caller waits for a connection.
    pub acquire_timeout: Duration,
    /// Spare connections are closed after this.
    pub idle_timeout: Duration,
}

/// Which database.
#[derive(Clone)]
pub enum Database {
    /// MySQL or MariaDB.
    Mysql(Box<mysql::Opts>),
    /// A SQLite file.
    SqliteFile(PathBuf),
    /// SQLite in memory, gone when the server ends.
    SqliteMemory,
}

/// Why the configuration does not make sense. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The database's URL.
    #[error("{origin}: {problem}")]
    Database {
        /// The option or variable it came from. The URL itself may hold a password and is not shown.
        origin: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The settings file, or a variable that overrides it.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Config {
    /// The configuration that these arguments and this environment ask for.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the option, the variable or the file at fault.
    pub fn new(
        arguments: &Arguments,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        if let Some(url) = &arguments.database {
            return Self::from_url(url, "--database");
        }
        if let Some(file) = &arguments.settings {
            return Ok(Self::from_settings(&Settings::from_file_and_vars(file, SETTINGS_PREFIX, environment)?));
        }
        let variable = environment.into_iter().find(|(name, value)| name == DATABASE_VARIABLE && !value.is_empty());
        match variable.map(|(_, value)| value.into_string()) {
            Some(Ok(url)) => Self::from_url(&url, DATABASE_VARIABLE),
            Some(Err(_)) => Err(ConfigError::database(DATABASE_VARIABLE, "is not valid UTF-8")),
            None => Self::from_url(DEFAULT_DATABASE, "default"),
        }
    }

    fn from_url(url: &str, origin: &'static str) -> Result<Self, ConfigError> {
        let database = match url.split_once(':') {
            Some(("mysql", _)) => {
                let opts =
                    mysql::Opts::from_url(url).map_err(|error| ConfigError::database(origin, describe(&error)))?;
                if opts.get_db_name().is_none_or(str::is_empty) {
                    return Err(ConfigError::database(origin, "names no database: mysql://…/database is missing"));
                }
                Database::Mysql(Box::new(opts))
            }
            Some(("sqlite", ":memory:")) => Database::SqliteMemory,
            Some(("sqlite", "")) => return Err(ConfigError::database(origin, "names no file: write sqlite:FILE")),
            Some(("sqlite", file)) => Database::SqliteFile(file.into()),
            _ => {
                return Err(ConfigError::database(origin, "is neither mysql://… nor sqlite:FILE nor sqlite::memory:"));
            }
        };
        Ok(Self {
            database,
            min_idle: 1,
            max_size: DEFAULT_MAX_SIZE,
            acquire_timeout: DEFAULT_ACQUIRE_TIMEOUT,
            idle_timeout: Duration::from_secs(600),
        })
    }

    fn from_settings(settings: &Settings) -> Self {
        Self {
            database: Database::Mysql(Box::new(settings.mysql_opts())),
            min_idle: settings.initial_size,
            max_size: settings.max_size,
            acquire_timeout: settings.connection_timeout,
            idle_timeout: settings.max_idle_time,
        }
    }
}

impl ConfigError {
    fn database(origin: &'static str, problem: impl Into<String>) -> Self {
        Self::Database { origin, problem: problem.into() }
    }
}

/// The driver's error in our words, without the values, which may be secret.
fn describe(error: &mysql::UrlError) -> String {
    match error {
        mysql::UrlError::UnknownParameter(name) => format!("has an unknown parameter {name:?}"),
        mysql::UrlError::InvalidValue(name, _) => format!("has an impossible value for the parameter {name:?}"),
        mysql::UrlError::ParseError(problem) => format!("is malformed: {problem}"),
        mysql::UrlError::FeatureRequired(feature, name) => format!("has the parameter {name:?}, which needs {feature}"),
        _ => "is not of the form mysql://user:password@host:port/database".into(),
    }
}

/// The database as a log may show it: no password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(opts) => {
                let (user, host, port) =
                    (opts.get_user().unwrap_or(""), opts.get_ip_or_hostname(), opts.get_tcp_port());
                match opts.get_socket() {
                    Some(socket) => write!(f, "mysql://{user}@{socket}")?,
                    None => write!(f, "mysql://{user}@{host}:{port}")?,
                }
                write!(f, "/{}", opts.get_db_name().unwrap_or(""))
            }
            Self::SqliteFile(file) => write!(f, "sqlite:{}", file.display()),
            Self::SqliteMemory => f.write_str("sqlite::memory:"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let arguments = Arguments::try_parse_from([&["chat-server"], arguments].concat()).expect("well-formed");
        Config::new(&arguments, environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn database(arguments: &[&str], environment: &[(&str, &str)]) -> String {
        config(arguments, environment).unwrap().database.to_string()
    }

    #[test]
    fn the_option_wins_over_the_variable_and_a_file_is_the_default() {
        assert_eq!(database(&[], &[]), "sqlite:chat.db");
        assert_eq!(database(&[], &[("DATABASE_URL", "sqlite:a.db")]), "sqlite:a.db");
        assert_eq!(database(&[], &[("DATABASE_URL", "")]), "sqlite:chat.db");
        assert_eq!(database(&["--database", "sqlite::memory:"], &[("DATABASE_URL", "x")]), "sqlite::memory:");
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = "mysql://chat:hunter2@db:3307/talk";
        let config = config(&["--database", url], &[]).unwrap();
        assert_eq!(config.database.to_string(), "mysql://chat@db:3307/talk");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_url_that_makes_no_sense_is_told_with_where_it_came_from() {
        for (url, problem) in [
            ("postgres://x", "is neither mysql://… nor sqlite:FILE nor sqlite::memory:"),
            ("", "is neither mysql://… nor sqlite:FILE nor sqlite::memory:"),
            ("sqlite:", "names no file: write sqlite:FILE"),
            ("mysql://u:hunter2@h", "names no database: mysql://…/database is missing"),
            ("mysql://u:hunter2@h:99999/d", "is malformed: invalid port number"),
            ("mysql://u:hunter2@h/d?colour=red", "has an unknown parameter \"colour\""),
        ] {
            let error = config(&["--database", url], &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("--database: {problem}"), "{url}");
        }
        let error = config(&[], &[("DATABASE_URL", "nonsense")]).unwrap_err();
        assert!(error.to_string().starts_with("DATABASE_URL: "), "{error}");
    }

    #[test]
    fn the_database_and_a_settings_file_exclude_each_other() {
        let both = ["chat-server", "--database", "sqlite::memory:", "--settings", "x.toml"];
        assert!(Arguments::try_parse_from(both).is_err());
    }
}

//! Settings of a pool and its database, from a TOML file, from the environment, or from both.
//!
//! ```toml
//! host = "127.0.0.1"          # default
//! port = 3306                 # default
//! user = "chat"
//! password = "secret"         # default: none
//! database = "chat"
//! initial_size = 2            # connections opened at the start and kept; default 0
//! max_size = 16               # connections at most; default 10
//! max_idle_time_s = 60        # spare connections are closed after this; default 600
//! connection_timeout_ms = 500 # how long a caller waits for a connection; default 30000
//! ```
//!
//! The environment has the same names in capitals behind a prefix, `POOL_HOST` to `POOL_CONNECTION_TIMEOUT_MS` with
//! the prefix `POOL_`, and wins over the file. Whatever does not fit is an error that names the file or the variable,
//! the field and the cause; an unknown name is an error, too, since it is most likely a known one misspelt.
//!
//! ```
//! use pool::settings::Settings;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = std::env::temp_dir().join(format!("settings-doc-{}.toml", std::process::id()));
//! # std::fs::write(&file, "user = 'chat'\ndatabase = 'chat'\nmax_size = 16")?;
//! let settings = Settings::from_file_and_env(&file, "POOL_")?;
//! assert_eq!(settings.max_size, 16);
//! # std::fs::remove_file(&file)?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Settings::builder`] makes the options of a pool of them, and with the feature `mysql` [`Settings::mysql_opts`]
//! the options of its connections. `Settings` also deserializes, so that it can be a section of a larger file.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use toml::{Table, Value};

use crate::config::{MAX_DURATION, MAX_SIZE_LIMIT};
use crate::idle::IdleSet;
use crate::{Builder, Manager};

/// The longest text that any field accepts, in bytes. A host's name has at most 253.
pub const MAX_TEXT_BYTES: usize = 1024;

/// The largest settings file that is read, in bytes: so that a wrong path fails instead of filling the memory.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where the database is and how large its pool may grow, checked.
///
/// See the [module](self) for the names in files and in the environment. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The server's name or address. Default `127.0.0.1`.
    pub host: String,
    /// The server's port. Default 3306.
    pub port: u16,
    /// Who connects. Required.
    pub user: String,
    /// The password, empty for none. Default empty.
    pub password: String,
    /// The database to use. Required.
    pub database: String,
    /// Connections to open at the start and to keep: [`Builder::min_idle`]. Default 0.
    pub initial_size: usize,
    /// Connections at most: [`Builder::max_size`]. Default 10.
    pub max_size: usize,
    /// Spare connections are closed after this: [`Builder::idle_timeout`]. Default 10 minutes.
    pub max_idle_time: Duration,
    /// How long a caller waits for a connection: [`Builder::acquire_timeout`]. Default 30 s.
    pub connection_timeout: Duration,
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let mut draft = Draft::default();
        draft.add_file(path.as_ref())?;
        draft.checked()
    }

    /// Reads the environment's variables that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub fn from_env(prefix: &str) -> Result<Self, SettingsError> {
        Self::from_vars(prefix, std::env::vars_os())
    }

    /// Reads these variables as if they were the environment's.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub fn from_vars(
        prefix: &str,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut draft = Draft::default();
        draft.add_vars(prefix, vars)?;
        draft.checked()
    }

    /// Reads a TOML file, then the environment, whose values win.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub fn from_file_and_env(path: impl AsRef<Path>, prefix: &str) -> Result<Self, SettingsError> {
        Self::from_file_and_vars(path, prefix, std::env::vars_os())
    }

    /// Reads a TOML file, then these variables, whose values win.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub fn from_file_and_vars(
        path: impl AsRef<Path>,
        prefix: &str,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut draft = Draft::default();
        draft.add_file(path.as_ref())?;
        draft.add_vars(prefix, vars)?;
        draft.checked()
    }

    /// The options of a pool, to be changed further or built.
    pub fn builder<M: Manager, I: IdleSet>(&self) -> Builder<M, I> {
        Builder::default()
            .max_size(self.max_size)
            .min_idle(self.initial_size)
            .idle_timeout(self.max_idle_time)
            .acquire_timeout(self.connection_timeout)
    }

    /// The options of a connection. The TCP connection may take as long as a caller waits.
    #[cfg(feature = "mysql")]
    pub fn mysql_opts(&self) -> mysql::Opts {
        // Zero means "do not wait" to a caller, and an error to a socket.
        let connect = Some(self.connection_timeout).filter(|timeout| !timeout.is_zero());
        mysql::OptsBuilder::new()
            .ip_or_hostname(Some(&self.host))
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(Some(&self.password).filter(|password| !password.is_empty()))
            .db_name(Some(&self.database))
            .tcp_connect_timeout(connect)
            // A host and a port were asked for, so no second connection over the socket.
            .prefer_socket(false)
            .into()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", if self.password.is_empty() { &"(none)" } else { &"(hidden)" })
            .field("database", &self.database)
            .field("initial_size", &self.initial_size)
            .field("max_size", &self.max_size)
            .field("max_idle_time", &self.max_idle_time)
            .field("connection_timeout", &self.connection_timeout)
            .finish()
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut draft = Draft::default();
        for (key, value) in Table::deserialize(deserializer)? {
            draft.set(&key, Given::Value(value)).map_err(D::Error::custom)?;
        }
        draft.checked().map_err(D::Error::custom)
    }
}

/// Why settings could not be read. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read.
    #[error("could not read the settings file {}: {source}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {problem}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A field is unknown, missing, of the wrong type or out of its range.
    #[error("{}{problem}", Place { origin, field })]
    Field {
        /// Where the value came from; [`Origin::Unknown`] when it is missing, or part of a larger file.
        origin: Origin,
        /// The field as the file spells it.
        field: String,
        /// What is wrong with its value. The value of a password is never told.
        problem: String,
    },
}

impl SettingsError {
    /// The field at fault, as the file spells it, when there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Field { field, .. } => Some(field),
            _ => None,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// Nowhere, or the section of a larger file.
    Unknown,
}

/// How an error begins: the file and the field, or the variable, which implies the field.
struct Place<'a> {
    origin: &'a Origin,
    field: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::File(path) => write!(f, "{}: {}: ", path.display(), self.field),
            Origin::Variable(name) => write!(f, "environment variable {name}: "),
            Origin::Unknown => write!(f, "{}: ", self.field),
        }
    }
}

/// A value as it came in.
enum Given {
    Value(Value),
    Text(String),
}

/// What is wrong with a value, before it is known where it came from.
struct Fault {
    field: String,
    problem: String,
}

impl Fault {
    fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    fn from(self, origin: Origin) -> SettingsError {
        SettingsError::Field { origin, field: self.field, problem: self.problem }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// The fields as far as they are known.
#[derive(Default)]
struct Draft {
    host: Option<String>,
    port: Option<u64>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    initial_size: Option<u64>,
    max_size: Option<u64>,
    max_idle_time_s: Option<u64>,
    connection_timeout_ms: Option<u64>,
    /// Where each field came from, and where it could have come from, for the checks that come last.
    origins: Vec<(String, Origin)>,
    file: Option<PathBuf>,
    prefix: Option<String>,
}

/// Every field's name, as the file spells it.
const FIELDS: [&str; 9] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "initial_size",
    "max_size",
    "max_idle_time_s",
    "connection_timeout_ms",
];

impl Draft {
    fn add_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        self.file = Some(path.into());
        let text = read(path).map_err(|source| SettingsError::Unreadable { file: path.into(), source })?;
        let table = text.parse::<Table>().map_err(|error| SettingsError::Malformed {
            file: path.into(),
            line: error.span().map_or(1, |span| line_of(&text, span.start)),
            // Never the line's text, which may hold the password.
            problem: error.message().lines().collect::<Vec<_>>().join("; "),
        })?;
        for (key, value) in table {
            let origin = Origin::File(path.into());
            self.set(&key, Given::Value(value)).map_err(|fault| fault.from(origin.clone()))?;
            self.origins.push((key, origin));
        }
        Ok(())
    }

    fn add_vars(
        &mut self,
        prefix: &str,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), SettingsError> {
        self.prefix = Some(prefix.into());
        for (name, value) in vars {
            let Some(name) = name.to_str() else { continue };
            let Some(key) = name.strip_prefix(prefix) else { continue };
            let key = key.to_ascii_lowercase();
            let origin = Origin::Variable(name.into());
            let value = value.into_string().map_err(|_| Fault::new(&key, "is not valid UTF-8").from(origin.clone()))?;
            self.set(&key, Given::Text(value)).map_err(|fault| fault.from(origin.clone()))?;
            self.origins.retain(|(known, _)| *known != key);
            self.origins.push((key, origin));
        }
        Ok(())
    }

    fn set(&mut self, key: &str, given: Given) -> Result<(), Fault> {
        match key {
            "host" => self.host = Some(filled(key, given)?),
            "port" => self.port = Some(number(key, given, 1..=u64::from(u16::MAX))?),
            "user" => self.user = Some(filled(key, given)?),
            "password" => self.password = Some(text(key, given)?),
            "database" => self.database = Some(filled(key, given)?),
            "initial_size" => self.initial_size = Some(number(key, given, 0..=MAX_SIZE_LIMIT as u64)?),
            "max_size" => self.max_size = Some(number(key, given, 1..=MAX_SIZE_LIMIT as u64)?),
            "max_idle_time_s" => self.max_idle_time_s = Some(number(key, given, 1..=MAX_DURATION.as_secs())?),
            "connection_timeout_ms" => {
                self.connection_timeout_ms = Some(number(key, given, 0..=MAX_DURATION.as_secs() * 1000)?);
            }
            _ => return Err(Fault::new(key, format!("no such setting; there are {}", FIELDS.join(", ")))),
        }
        Ok(())
    }

    fn checked(self) -> Result<Settings, SettingsError> {
        let missing = |field: &str| {
            let origin = self.file.clone().map_or(Origin::Unknown, Origin::File);
            let remedy =
                self.prefix.as_ref().map(|prefix| format!("; {prefix}{} would do", field.to_ascii_uppercase()));
            Fault::new(field, format!("is required{}", remedy.unwrap_or_default())).from(origin)
        };
        // The numbers fit, since their ranges were checked one by one.
        let initial_size = self.initial_size.unwrap_or(0) as usize;
        let max_size = self.max_size.unwrap_or(10) as usize;
        if initial_size > max_size {
            let problem = format!("{initial_size} is above max_size, which is {max_size}");
            let origin = self.origins.iter().find(|(field, _)| field == "initial_size");
            let origin = origin.map_or(Origin::Unknown, |(_, origin)| origin.clone());
            return Err(Fault::new("initial_size", problem).from(origin));
        }
        Ok(Settings {
            user: self.user.clone().ok_or_else(|| missing("user"))?,
            database: self.database.clone().ok_or_else(|| missing("database"))?,
            host: self.host.unwrap_or_else(|| "127.0.0.1".into()),
            port: self.port.unwrap_or(3306) as u16,
            password: self.password.unwrap_or_default(),
            initial_size,
            max_size,
            max_idle_time: Duration::from_secs(self.max_idle_time_s.unwrap_or(600)),
            connection_timeout: Duration::from_millis(self.connection_timeout_ms.unwrap_or(30_000)),
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read;

    let mut text = String::new();
    let read = fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

fn text(field: &str, given: Given) -> Result<String, Fault> {
    let text = match given {
        Given::Value(Value::String(text)) | Given::Text(text) => text,
        // The type alone: this may be a password.
        Given::Value(other) => {
            return Err(Fault::new(field, format!("must be a string, not {}", article(other.type_str()))));
        }
    };
    if text.len() > MAX_TEXT_BYTES {
        return Err(Fault::new(field, format!("has {} bytes; at most {MAX_TEXT_BYTES} are accepted", text.len())));
    }
    if text.contains('\0') {
        return Err(Fault::new(field, "must not contain a NUL byte"));
    }
    Ok(text)
}

fn filled(field: &str, given: Given) -> Result<String, Fault> {
    let text = text(field, given)?;
    if text.is_empty() { Err(Fault::new(field, "must not be empty")) } else { Ok(text) }
}

fn number(field: &str, given: Given, range: RangeInclusive<u64>) -> Result<u64, Fault> {
    let (shown, number) = match given {
        Given::Value(Value::Integer(number)) => (number.to_string(), u64::try_from(number).ok()),
        Given::Value(other) => {
            return Err(Fault::new(field, format!("must be a whole number, not {}", article(other.type_str()))));
        }
        Given::Text(text) => match text.trim().parse::<i128>() {
            Ok(number) => (number.to_string(), u64::try_from(number).ok()),
            Err(_) => return Err(Fault::new(field, format!("must be a whole number, not {text:?}"))),
        },
    };
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| Fault::new(field, format!("is {shown}, must be from {} to {}", range.start(), range.end())))
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

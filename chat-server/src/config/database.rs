//! Which database, from its URL.

use std::fmt;
use std::path::PathBuf;

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

impl Database {
    /// The database of a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The URL itself may hold a password and is not in the text.
    pub fn from_url(url: &str) -> Result<Self, String> {
        match url.split_once(':') {
            Some(("mysql", _)) => {
                let opts = mysql::Opts::from_url(url).map_err(|error| describe(&error))?;
                if opts.get_db_name().is_none_or(str::is_empty) {
                    return Err("names no database: mysql://…/database is missing".into());
                }
                Ok(Self::Mysql(Box::new(opts)))
            }
            Some(("sqlite", ":memory:")) => Ok(Self::SqliteMemory),
            Some(("sqlite", "")) => Err("names no file: write sqlite:FILE".into()),
            Some(("sqlite", file)) => Ok(Self::SqliteFile(file.into())),
            _ => Err("is neither mysql://… nor sqlite:FILE nor sqlite::memory:".into()),
        }
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

//! How many files the process may have open: each connection is one.
//!
//! Systems give a process few (1024) and let it ask for more, up to a hard limit. A server that did not ask would accept no
//! connection beyond that, whatever `max-connections` says.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::config::{Config, Database};

/// Files besides those of clients and of the database: listeners, health checks, the bus, the log, the runtime's own.
const OTHER_FILES: u64 = 64;

/// Files that a connection to SQLite has open: the database, its log and the log's index.
const FILES_OF_SQLITE: u64 = 3;

/// The files that a node with this configuration may have open at most.
pub fn needed(config: &Config) -> u64 {
    let of_database = match config.database {
        Database::Mysql(_) => 1,
        Database::SqliteFile(_) => FILES_OF_SQLITE,
        Database::SqliteMemory => 0,
    };
    config.max_connections as u64 + config.pool_size as u64 * of_database + OTHER_FILES
}

/// Raises the process's limit as far as the system lets it, and warns when that is less than `needed`.
pub fn allow(needed: u64) {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return debug!(%error, "the limit of open files is not known"),
    };
    let raised = if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) };
    let allowed = match raised {
        Ok(()) => hard,
        Err(error) => {
            warn!(%error, soft, hard, "the limit of open files could not be raised");
            soft
        }
    };
    if allowed < needed {
        warn!(
            allowed,
            needed,
            "not all of max-connections can be served: raise the hard limit of open files (ulimit -Hn, LimitNOFILE), or set \
             max-connections lower"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_is_a_file_and_one_to_sqlite_is_three() {
        let mut config = Config::default();
        (config.max_connections, config.pool_size) = (1000, 10);
        config.database = Database::SqliteMemory;
        assert_eq!(needed(&config), 1064);
        config.database = Database::SqliteFile("chat.db".into());
        assert_eq!(needed(&config), 1094);
        config.database = Database::from_url("mysql://u@h/d").unwrap();
        assert_eq!(needed(&config), 1074);
    }
}

//! Which errors end a connection, and which will come again however often one tries.

use mysql::{DriverError, Error};

/// Answers of the server after which it ends the session, or has ended it.
///
/// `KILL QUERY` (1317), deadlocks (1213) and lock waits (1205) are not among them: the session goes on.
const SESSION_ENDED: &[u16] = &[
    1043, // bad handshake
    1047, // unknown command; Galera sends it while the node is not part of the cluster
    1053, // server shutdown in progress
    1080, // forcing close of the thread
    1129, // host is blocked
    1152, // aborted connection
    1153, // packet bigger than max_allowed_packet: the server hangs up, having read part of it
    1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, // the server could not read from or write to the socket
    1184, // aborted connection, with its name
    1835, // malformed packet
    1927, // MariaDB: connection was killed
    3032, // MySQL: server is in offline mode
    3168, 3169, // MySQL: server is not available, session was killed
    4031, // MySQL: disconnected because of inactivity
];

/// Answers of the server to a new connection that only a change of the configuration can mend.
const REFUSED_FOR_GOOD: &[u16] = &[
    1044, 1045, 1698, // access denied: to the database, by password, without a password
    1049, // unknown database
    1064, 1193, 1231, // an init command that does not parse, or sets what cannot be set
    1129, 1130, // host is blocked, host is not privileged
    1227, // an init command asks for a privilege the user has not
    1251, 1275, 1524, // authentication method not supported
    1820, 1862, // the password has expired
    3118, 4151, // the account is locked (MySQL, MariaDB)
];

/// Whether `error` leaves the connection in an unknown or useless state.
///
/// After a timeout the reply may still be on its way, and whoever uses the connection next reads it as the answer to
/// their own query; a ping does not notice, since it takes any one packet for its reply. So every error of the
/// socket, the codec, TLS and the driver is fatal, except those the driver raises before it has sent anything.
pub(super) fn is_fatal(error: &Error) -> bool {
    match error {
        Error::MySqlError(answer) => SESSION_ENDED.contains(&answer.code),
        Error::DriverError(
            DriverError::MismatchedStmtParams(..)
            | DriverError::MixedParams
            | DriverError::Params(_)
            | DriverError::BulkExecute(_)
            | DriverError::ReadOnlyTransNotSupported,
        ) => false,
        Error::UrlError(_) | Error::FromValueError(_) | Error::FromRowError(_) => false,
        // `IoError`, `CodecError`, the other driver errors, and `TlsError`, which exists only with TLS compiled in.
        _ => true,
    }
}

/// Whether connecting could succeed if it were tried again without changing anything.
pub(super) fn is_transient(error: &Error) -> bool {
    match error {
        Error::MySqlError(answer) => !REFUSED_FOR_GOOD.contains(&answer.code),
        Error::UrlError(_) => false,
        Error::DriverError(
            DriverError::CouldNotConnect(None)
            | DriverError::UnsupportedProtocol(_)
            | DriverError::TlsNotSupported
            | DriverError::UnknownAuthPlugin(_)
            | DriverError::OldMysqlPasswordDisabled
            | DriverError::CleartextPluginDisabled,
        ) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use mysql::{MySqlError, UrlError};

    use super::*;

    fn answer(code: u16) -> Error {
        Error::MySqlError(MySqlError { state: "HY000".into(), message: String::new(), code })
    }

    #[test]
    fn a_timeout_is_fatal_and_a_statement_in_error_is_not() {
        assert!(is_fatal(&Error::IoError(io::ErrorKind::WouldBlock.into())));
        assert!(is_fatal(&Error::DriverError(DriverError::PacketOutOfSync)));
        assert!(is_fatal(&answer(1927)));
        for code in [1062, 1064, 1146, 1205, 1213, 1317] {
            assert!(!is_fatal(&answer(code)), "{code}");
        }
        assert!(!is_fatal(&Error::DriverError(DriverError::MismatchedStmtParams(2, 1))));
    }

    #[test]
    fn a_wrong_password_is_permanent_and_a_server_that_is_down_is_not() {
        for code in [1044, 1045, 1049, 1130, 1698] {
            assert!(!is_transient(&answer(code)), "{code}");
        }
        assert!(!is_transient(&Error::UrlError(UrlError::BadUrl)));
        assert!(is_transient(&answer(1040)), "too many connections passes");
        assert!(is_transient(&Error::DriverError(DriverError::ConnectTimeout)));
        let refused = Some(("db:3306".into(), "refused".into(), io::ErrorKind::ConnectionRefused));
        assert!(is_transient(&Error::DriverError(DriverError::CouldNotConnect(refused))));
    }
}

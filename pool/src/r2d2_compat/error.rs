//! The one error of r2d2.

use std::error;
use std::fmt;

/// Why there is no connection: the time was up, with the last error of the manager if there was one.
#[derive(Debug)]
pub struct Error(pub(super) Option<String>);

const TIMED_OUT: &str = "timed out waiting for connection";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str(TIMED_OUT),
            Some(error) => write!(f, "{TIMED_OUT}: {error}"),
        }
    }
}

impl error::Error for Error {
    #[allow(deprecated, reason = "code written for r2d2 may call it")]
    fn description(&self) -> &str {
        TIMED_OUT
    }
}

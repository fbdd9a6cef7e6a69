//! Passwords: argon2id, off the runtime, a few at a time.

use std::num::NonZeroUsize;
use std::sync::Arc;

/// What a hash costs and how many are made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthOptions {
    /// Memory per hash in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// How many hashes may be computed at the same time; each takes a thread and its memory. Default: the processors.
    pub concurrency: NonZeroUsize,
    /// How many may wait for that. Beyond it: [`AuthError::Busy`].
    pub max_pending: usize,
}

impl Default for AuthOptions {
    fn default() -> Self {
        let concurrency = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { memory_kib: 4096, passes: 1, concurrency, max_pending: 1024 }
    }
}

/// The most bytes a password may have.
pub const MAX_PASSWORD_BYTES: usize = 256;

/// Hashes and checks passwords. Cheap to clone; the clones share the limits.
#[derive(Clone, Debug)]
pub struct Auth {
    _inner: Arc<()>,
}

/// Why a password was neither hashed nor checked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Too many wait already. Later it may work.
    #[error("too many passwords are being checked (max_pending = {0})")]
    Busy(usize),
    /// The password is longer than [`MAX_PASSWORD_BYTES`].
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// The costs are outside of what argon2 knows.
    #[error("the cost of a password hash is impossible: {0}")]
    Cost(String),
    /// The operating system gave no random numbers, or the runtime is ending.
    #[error("could not hash: {0}")]
    Failed(String),
}

impl Auth {
    /// Takes these options.
    ///
    /// # Errors
    ///
    /// [`AuthError::Cost`].
    pub fn new(options: AuthOptions) -> Result<Self, AuthError> {
        let _ = options;
        unimplemented!()
    }

    /// The hash of a password, with a salt of its own and with its parameters, to be stored.
    ///
    /// # Errors
    ///
    /// [`AuthError`].
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let _ = password;
        unimplemented!()
    }

    /// Whether `password` is the one behind `hash`. With no hash, for a user who does not exist, the answer is no after
    /// the same time.
    ///
    /// # Errors
    ///
    /// [`AuthError`]. A hash that is not readable is a no, and a warning in the log.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, AuthError> {
        let _ = (password, hash);
        unimplemented!()
    }

    /// Whether a hash was made with other costs than the present ones, so that it is time for a new one (at the next
    /// login, when the password is known).
    #[must_use]
    pub fn is_outdated(&self, hash: &str) -> bool {
        let _ = hash;
        unimplemented!()
    }
}

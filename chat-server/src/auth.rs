//! Passwords: argon2id, off the runtime, a few at a time.
//!
//! # What it costs
//!
//! A hash takes [`memory_kib`](AuthOptions::memory_kib) of memory and [`passes`](AuthOptions::passes) passes over it, so
//! that whoever steals the database must pay as much for every guess. The default, 4 MiB and one pass, is a few
//! milliseconds of one processor, for the sake of hundreds of logins a second on two of them; OWASP recommends 19 MiB
//! and two passes, about ten times as much, and whoever has the processors sets that. A hash has its costs in it, so
//! they may be changed at any time: old hashes still work, and those that [`is_outdated`](Auth::is_outdated) finds are
//! renewed at their users' next login.

use std::num::NonZeroUsize;
use std::sync::Arc;

use argon2::password_hash;
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

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
    /// How many may wait for that or be computed. Beyond it: [`AuthError::Busy`].
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

/// The most memory that a stored hash may ask for, in KiB, so that nobody who can write to the database can make the
/// server run out of it. 1 GiB.
pub const MAX_MEMORY_KIB: u32 = 1024 * 1024;

/// Hashes and checks passwords. Cheap to clone; the clones share the limits.
#[derive(Clone, Debug)]
pub struct Auth {
    inner: Arc<Inner>,
}

/// The bytes of a new hash's salt.
const SALT_BYTES: usize = 16;

struct Inner {
    hasher: Argon2<'static>,
    options: AuthOptions,
    /// The memory of hashes that are done, for the next ones: at most as many as are computed at once. Allocated anew for
    /// each hash, on whichever thread, it would stay behind in the allocator's arena of each of these threads.
    memory: Mutex<Vec<Vec<Block>>>,
    /// What a user who does not exist is checked against.
    dummy: String,
    pending: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
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
    /// The options make no sense.
    #[error("the cost of a password hash is impossible: {0}")]
    Cost(String),
    /// The operating system gave no random numbers, or the runtime is ending.
    #[error("could not hash: {0}")]
    Failed(String),
}

impl Auth {
    /// Takes these options. Computes one hash, so it takes as long as a login does.
    ///
    /// # Errors
    ///
    /// [`AuthError::Cost`], or [`AuthError::Failed`] without random numbers.
    pub fn new(options: AuthOptions) -> Result<Self, AuthError> {
        if options.max_pending == 0 {
            return Err(AuthError::Cost("max_pending: is 0, must be 1 or more".into()));
        }
        if options.memory_kib > MAX_MEMORY_KIB {
            return Err(AuthError::Cost(format!("memory_kib: is {}, at most {MAX_MEMORY_KIB}", options.memory_kib)));
        }
        let params = Params::new(options.memory_kib, options.passes, 1, None);
        let params = params.map_err(|error| AuthError::Cost(error.to_string()))?;
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| AuthError::Failed(error.to_string()))?;
        let pending = Arc::new(Semaphore::new(options.max_pending.min(Semaphore::MAX_PERMITS)));
        let running = Arc::new(Semaphore::new(options.concurrency.get().min(Semaphore::MAX_PERMITS)));
        let (memory, dummy) = (Mutex::default(), String::new());
        let mut inner = Inner { hasher, options, memory, dummy, pending, running };
        inner.dummy = inner.hash(&secret)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The hash of a password, with a salt of its own and with its parameters, to be stored.
    ///
    /// # Errors
    ///
    /// [`AuthError`].
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(AuthError::TooLong);
        }
        let password = password.to_owned();
        self.run(move |inner| inner.hash(password.as_bytes())).await
    }

    /// Whether `password` is the one behind `hash`. With no hash, for a user who does not exist, the answer is no after
    /// the same time.
    ///
    /// # Errors
    ///
    /// [`AuthError::Busy`] and [`AuthError::Failed`]. A password that is too long is wrong, after the same time, too; a
    /// hash that is not readable is a no, and a warning in the log.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, AuthError> {
        // No stored password is that long; what is cut off must not make it right.
        let is_possible = hash.is_some() && password.len() <= MAX_PASSWORD_BYTES;
        let password = password.as_bytes()[..password.len().min(MAX_PASSWORD_BYTES)].to_vec();
        let hash = hash.filter(|hash| is_readable(hash)).map(str::to_owned);
        self.run(move |inner| {
            let has_hash = hash.is_some();
            let matches = inner.matches(&password, hash.as_deref().unwrap_or(&inner.dummy))?;
            Ok(matches && has_hash && is_possible)
        })
        .await
    }

    /// Whether a hash was made with other costs than the present ones, so that it is time for a new one (at the next
    /// login, when the password is known).
    #[must_use]
    pub fn is_outdated(&self, hash: &str) -> bool {
        let Ok(hash) = PasswordHash::new(hash) else { return true };
        let is_current = hash.algorithm.as_str() == "argon2id"
            && hash.version == Some(Version::V0x13.into())
            && Params::try_from(&hash).is_ok_and(|params| {
                let wanted = self.inner.hasher.params();
                params.m_cost() == wanted.m_cost() && params.t_cost() == wanted.t_cost() && params.p_cost() == 1
            });
        !is_current
    }

    /// Runs on a blocking thread, when it is its turn.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let inner = Arc::clone(&self.inner);
        let pending = Arc::clone(&inner.pending).try_acquire_owned();
        let pending = pending.map_err(|_| AuthError::Busy(inner.options.max_pending))?;
        let running = Arc::clone(&inner.running).acquire_owned().await;
        let running = running.map_err(|closed| AuthError::Failed(closed.to_string()))?;
        // The permits go with the work, which goes on when nobody waits for it any more.
        let permits: [OwnedSemaphorePermit; 2] = [pending, running];
        let done = task::spawn_blocking(move || {
            let result = work(&inner);
            drop(permits);
            result
        });
        done.await.map_err(|error| AuthError::Failed(error.to_string()))?
    }
}

impl Inner {
    fn hash(&self, password: &[u8]) -> Result<String, AuthError> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| AuthError::Failed(error.to_string()))?;
        let length = self.hasher.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(self.hasher.params()).map_err(failed)?,
            salt: Some(Salt::new(&salt).map_err(unreadable)?),
            hash: Some(self.compute(&self.hasher, password, &salt, length)?),
        };
        Ok(hash.to_string())
    }

    fn matches(&self, password: &[u8], hash: &str) -> Result<bool, AuthError> {
        let hash = PasswordHash::new(hash).map_err(unreadable)?;
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else {
            return Err(AuthError::Failed("a stored hash has no salt or no hash".into()));
        };
        let version = hash.version.map(Version::try_from).transpose().map_err(unreadable)?.unwrap_or_default();
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(failed)?;
        let hasher = Argon2::new(algorithm, version, Params::try_from(&hash).map_err(failed)?);
        let computed = self.compute(&hasher, password, salt, expected.len())?;
        // Compared in a time that does not depend on where they differ: `Output` sees to it.
        Ok(computed == *expected)
    }

    /// The bytes behind a password, in memory that was used before.
    fn compute(&self, hasher: &Argon2<'_>, password: &[u8], salt: &[u8], length: usize) -> Result<Output, AuthError> {
        let mut out = [0; Output::MAX_LENGTH];
        let out = out.get_mut(..length).ok_or_else(|| AuthError::Failed(format!("a hash of {length} bytes")))?;
        let count = hasher.params().block_count();
        let own_count = self.hasher.params().block_count();
        let mut memory = self.memory.lock().pop().unwrap_or_default();
        if memory.len() < count {
            memory.resize(count, Block::new());
        }
        let done = hasher.hash_password_into_with_memory(password, salt, out, &mut memory[..count]);
        // A hash of other costs may have made it larger; that much is not kept.
        if memory.len() == own_count {
            self.memory.lock().push(memory);
        }
        done.map_err(|error| AuthError::Failed(error.to_string()))?;
        Output::new(out).map_err(unreadable)
    }
}

/// Whether a stored hash is one that can be checked at a cost that can be borne.
fn is_readable(hash: &str) -> bool {
    let params = PasswordHash::new(hash).ok().and_then(|hash| Params::try_from(&hash).ok());
    let is_readable = params.is_some_and(|params| params.m_cost() <= MAX_MEMORY_KIB);
    if !is_readable {
        tracing::warn!("a stored password hash is not readable; its user cannot log in with a password");
    }
    is_readable
}

fn failed(error: password_hash::Error) -> AuthError {
    AuthError::Failed(error.to_string())
}

fn unreadable(error: impl std::fmt::Display) -> AuthError {
    AuthError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> AuthOptions {
        AuthOptions { memory_kib: 64, ..AuthOptions::default() }
    }

    #[tokio::test]
    async fn a_password_is_right_or_wrong() {
        let auth = Auth::new(cheap()).unwrap();
        let hash = auth.hash("correct horse 🐎").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(auth.verify("correct horse 🐎", Some(&hash)).await.unwrap());
        for wrong in ["", "correct horse", "Correct horse 🐎", "correct horse 🐎 "] {
            assert!(!auth.verify(wrong, Some(&hash)).await.unwrap(), "{wrong:?}");
        }
        assert_ne!(hash, auth.hash("correct horse 🐎").await.unwrap(), "each has a salt of its own");
    }

    #[tokio::test]
    async fn nobodys_password_is_never_right() {
        let auth = Auth::new(cheap()).unwrap();
        assert!(!auth.verify("", None).await.unwrap());
        for unreadable in ["", "plain", "$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAA"] {
            assert!(!auth.verify("", Some(unreadable)).await.unwrap(), "{unreadable}");
            assert!(auth.is_outdated(unreadable));
        }
    }

    /// What other programs made with argon2's reference implementation is right here, and the other way round.
    #[tokio::test]
    async fn hashes_are_those_of_everybody_else() {
        use argon2::password_hash::PasswordVerifier;
        let auth = Auth::new(cheap()).unwrap();
        // From the tests of the reference implementation: argon2id, version 0x13, 256 KiB, two passes.
        let known = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
        assert!(auth.verify("password", Some(known)).await.unwrap());
        assert!(!auth.verify("passwore", Some(known)).await.unwrap());
        let own = auth.hash("password").await.unwrap();
        Argon2::default().verify_password(b"password", &own[..]).unwrap();
    }

    #[tokio::test]
    async fn memory_is_used_again_and_no_more_is_kept_than_is_used_at_once() {
        let concurrency = NonZeroUsize::new(2).unwrap();
        let auth = Auth::new(AuthOptions { concurrency, ..cheap() }).unwrap();
        let (larger, smaller) = (AuthOptions { memory_kib: 128, ..cheap() }, AuthOptions { memory_kib: 32, ..cheap() });
        let large = Auth::new(larger).unwrap().hash("x").await.unwrap();
        let small = Auth::new(smaller).unwrap().hash("x").await.unwrap();
        let hashes: Vec<_> = (0..20).map(|_| auth.hash("x")).collect();
        futures_util::future::try_join_all(hashes).await.unwrap();
        for hash in [&large, &small, &large] {
            assert!(auth.verify("x", Some(hash)).await.unwrap());
            assert!(!auth.verify("y", Some(hash)).await.unwrap());
        }
        auth.hash("x").await.unwrap();
        let kept: Vec<_> = auth.inner.memory.lock().iter().map(Vec::len).collect();
        assert!((1..=2).contains(&kept.len()) && kept.iter().all(|blocks| *blocks == 64), "{kept:?}");
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_cut_off() {
        let auth = Auth::new(cheap()).unwrap();
        let longest = "x".repeat(MAX_PASSWORD_BYTES);
        let hash = auth.hash(&longest).await.unwrap();
        let longer = format!("{longest}y");
        assert!(auth.verify(&longest, Some(&hash)).await.unwrap());
        assert!(!auth.verify(&longer, Some(&hash)).await.unwrap());
        assert!(matches!(auth.hash(&longer).await, Err(AuthError::TooLong)));
    }

    #[tokio::test]
    async fn old_hashes_work_and_are_known_as_old() {
        let (old, new) = (Auth::new(cheap()).unwrap(), Auth::new(AuthOptions { passes: 2, ..cheap() }).unwrap());
        let hash = old.hash("x").await.unwrap();
        assert!(new.verify("x", Some(&hash)).await.unwrap());
        assert!(new.is_outdated(&hash) && !old.is_outdated(&hash));
        assert!(!new.is_outdated(&new.hash("x").await.unwrap()));
    }

    #[tokio::test]
    async fn no_more_than_so_many_wait() {
        let options = AuthOptions { max_pending: 2, concurrency: NonZeroUsize::MIN, ..cheap() };
        let auth = Auth::new(options).unwrap();
        // One holds the only thread and one waits for it: both are started, neither can end.
        let thread = Arc::clone(&auth.inner.running).acquire_owned().await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                tokio::spawn({
                    let auth = auth.clone();
                    async move { auth.hash("x").await }
                })
            })
            .collect();
        while auth.inner.pending.available_permits() > 0 {
            task::yield_now().await;
        }
        assert!(matches!(auth.verify("x", None).await, Err(AuthError::Busy(2))));
        drop(thread);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        assert!(!auth.verify("x", None).await.unwrap());
    }

    #[test]
    fn impossible_costs_are_told() {
        for options in [
            AuthOptions { memory_kib: 1, ..cheap() },
            AuthOptions { passes: 0, ..cheap() },
            AuthOptions { memory_kib: MAX_MEMORY_KIB + 1, ..cheap() },
            AuthOptions { max_pending: 0, ..cheap() },
        ] {
            assert!(matches!(Auth::new(options), Err(AuthError::Cost(_))), "{options:?}");
        }
    }
}

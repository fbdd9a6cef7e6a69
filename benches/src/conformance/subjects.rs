//! Who is put through the checks: one adapter a file, each configured to its subject's advantage.

pub mod bb8;
pub mod deadpool;
pub mod fast_pool;
pub mod mobc;
pub mod ours;
pub mod r2d2;
pub mod straw;

use pool::idle::{LockFreeQueue, LockfreeCrateQueue, MutexQueue, Slots};

use straw::Straw;

use super::subject::{Options, Refusal, Shared, Source};
use super::{Check, lacks};
use crate::contenders::Entrant;

/// A pool that is put through the checks; a bad one in its place where the checks themselves are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject(pub Entrant, pub Option<Straw>);

impl Subject {
    /// Everybody, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self(Entrant::Slots, None),
        Self(Entrant::LockFree, None),
        Self(Entrant::Mutex, None),
        Self(Entrant::LockfreeCrate, None),
        Self(Entrant::R2d2, None),
        Self(Entrant::Bb8, None),
        Self(Entrant::Deadpool, None),
        Self(Entrant::Mobc, None),
        Self(Entrant::FastPool, None),
        Self(Entrant::MysqlPool, None),
    ];

    /// What the checks must catch.
    pub const STRAWS: [Self; 2] =
        [Self(Entrant::NoPool, Some(Straw::Careless)), Self(Entrant::NoPool, Some(Straw::Clumsy))];

    /// The subject of that name.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::STRAWS).find(|subject| subject.id() == id)
    }

    /// Its name in records and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self.1 {
            None => self.0.row().id,
            Some(Straw::Careless) => "straw_careless",
            Some(Straw::Clumsy) => "straw_clumsy",
        }
    }

    /// Its crates and their versions.
    #[must_use]
    pub fn version(self) -> &'static str {
        self.0.row().version
    }

    /// Whether we wrote it.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self.0.row().is_ours
    }

    /// How it is configured where a check does not say otherwise.
    #[must_use]
    pub fn configuration(self) -> &'static str {
        match self.0 {
            Entrant::R2d2 => r2d2::CONFIGURATION,
            Entrant::Bb8 => bb8::CONFIGURATION,
            Entrant::Deadpool => deadpool::CONFIGURATION,
            Entrant::Mobc => mobc::CONFIGURATION,
            Entrant::FastPool => fast_pool::CONFIGURATION,
            Entrant::MysqlPool => super::server::MYSQL_POOL_CONFIGURATION,
            _ => ours::CONFIGURATION,
        }
    }

    /// Builds its pool over `source`; the inner error is the pool's own.
    ///
    /// # Errors
    ///
    /// When it has no such option.
    pub fn open<S: Source>(self, source: S, options: &Options) -> Check<Result<Shared<S::Connection>, Refusal>> {
        if let Some(straw) = self.1 {
            return straw::open(source, straw, options);
        }
        match self.0 {
            Entrant::Mutex => ours::open::<S, MutexQueue>(source, options),
            Entrant::LockFree => ours::open::<S, LockFreeQueue>(source, options),
            Entrant::Slots => ours::open::<S, Slots>(source, options),
            Entrant::LockfreeCrate => ours::open::<S, LockfreeCrateQueue>(source, options),
            Entrant::R2d2 => r2d2::open(source, options),
            Entrant::Bb8 => bb8::open(source, options),
            Entrant::Deadpool => deadpool::open(source, options),
            Entrant::Mobc => mobc::open(source, options),
            Entrant::FastPool => fast_pool::open(source, options),
            _ => lacks("opens its connections itself, to MySQL servers only; see the checks over MariaDB"),
        }
    }
}

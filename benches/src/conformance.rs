//! What a pool promises, as named checks that any pool can be put through.
//!
//! ```text
//! check x subject -> a process of its own -> a pool over a database that does what it is told -> pass, fail or n/a
//! ```
//!
//! - A **subject** ([`subjects`]) is a pool behind one small trait, one adapter a file, ours and the peers alike.
//! - The **database** ([`script`]) hangs, fails or panics when it is told to, and keeps count of what really is open.
//!   A few checks run over a real MariaDB instead, behind a proxy that delays, cuts and drops ([`server`]).
//! - A **check** ([`behaviours`]) asks one question of the list of 45 behaviours that our pool was designed to.
//!
//! A check is either passed, failed with what was seen instead, or not applicable because the subject's interface has no
//! place for the question. Every check runs in a process of its own with a deadline ([`run`]), since a pool that hangs
//! or aborts must cost one line of the table and not the table.

pub mod behaviours;
pub mod lab;
pub mod run;
pub mod script;
pub mod server;
pub mod subject;
pub mod subjects;
pub mod table;

use std::fmt;

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// What was seen instead of the behaviour.
    Fails(String),
    /// What the subject's interface lacks.
    NotApplicable(String),
    /// What is wrong with the checks' own means, which says nothing about the subject.
    Lab(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails(text) | Self::NotApplicable(text) | Self::Lab(text) => f.write_str(text),
        }
    }
}

/// What a check, or a step of it, comes to.
pub type Check<T = ()> = Result<T, Finding>;

/// A failed check that says `text`.
///
/// # Errors
///
/// Always.
pub fn fails<T>(text: impl Into<String>) -> Check<T> {
    Err(Finding::Fails(text.into()))
}

/// A check that the subject has no place for, since it lacks what `text` says.
///
/// # Errors
///
/// Always.
pub fn lacks<T>(text: impl Into<String>) -> Check<T> {
    Err(Finding::NotApplicable(text.into()))
}

/// A check that could not be made.
///
/// # Errors
///
/// Always.
pub fn no_lab<T>(text: impl Into<String>) -> Check<T> {
    Err(Finding::Lab(text.into()))
}

/// Fails the check with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::conformance::fails(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

//! The primitives the pool stands on: parking_lot and std, or their model-checked doubles.
//!
//! `--cfg loom` explores every order of a few operations (which orderings suffice), `--cfg shuttle` random schedules of
//! the whole pool (lost wake-ups, deadlocks). Under both, time stands still unless the model moves it, which keeps
//! schedules repeatable.

#[cfg(any(loom, shuttle))]
pub(crate) mod clock;
#[cfg(any(loom, shuttle))]
mod model;
#[cfg(loom)]
pub(crate) mod parking;
#[cfg(not(any(loom, shuttle)))]
mod real;

#[cfg(any(loom, shuttle))]
pub(crate) use model::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::*;

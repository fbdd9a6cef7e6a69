//! Models of the pool's concurrent parts, run by a checker instead of by chance.
//!
//! | checker | run it by | what it does | what is modelled |
//! |---|---|---|---|
//! | loom | `RUSTFLAGS="--cfg loom" cargo test -p pool --profile ci --lib models::` | every schedule (with few preemptions) and every value a load may return under the C11 memory model | two or three threads at a slot, a group, the line |
//! | shuttle | `RUSTFLAGS="--cfg shuttle" cargo test -p pool --profile ci --lib models::` | thousands of random schedules, sequentially consistent | the whole pool, with its own threads |
//!
//! In a model a lost wake-up is a deadlock, and both checkers report one. Time stands still unless a model moves it, so
//! neither a timeout nor the upkeep thread's safety net can hide it. A comment in the code that says `Model-checked: x`
//! names a model here.

#[cfg(loom)]
mod closing;
#[cfg(loom)]
mod line;
#[cfg(loom)]
mod planted;
#[cfg(loom)]
mod retire;
#[cfg(loom)]
mod slots;
mod toy;
#[cfg(shuttle)]
mod whole;

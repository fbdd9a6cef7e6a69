//! Chapters for those who want more than the reference.

#[doc = include_str!("../docs/sizing.md")]
pub mod sizing {}

#[doc = include_str!("../docs/memory-ordering.md")]
pub mod memory_ordering {}

#[doc = include_str!("../docs/stability.md")]
pub mod stability {}

//! The bus over a real Redis, which the tests start, kill and stop.

mod link;
mod nodes;
mod process;

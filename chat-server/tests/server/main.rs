//! The server from outside: real nodes in this process, real sockets, SQLite and the local bus.

mod bad_input;
mod cluster;
mod modern;
mod operation;
mod original;
mod relay;
mod slow;
mod support;

//! The server from outside: real nodes in this process, real sockets, SQLite, the local bus and a Redis.

mod bad_input;
mod cluster;
mod directory;
mod modern;
mod operation;
mod original;
mod over_redis;
mod relay;
mod slow;
mod support;

//! What every pool promises, whatever its idle set.
//!
//! Each test is a plain function that is generic over the kind of pool, and [`for_every_kind!`](contract::support) runs
//! it over all of them. Tests wait for events: the database in [`database`](contract::database) does what it is told
//! when it is told, and async acquires are polled by hand. A test that would hang fails after
//! [`PATIENCE`](contract::support::PATIENCE) instead.
//!
//! Numbers in comments are those of the list of behaviours that the pool was designed to.

#![allow(unreachable_pub, reason = "a test program has no outside")]

mod contract {
    #[macro_use]
    mod support;

    mod database;
    mod tasks;

    mod adding;
    mod ages;
    mod breaker;
    mod builder;
    mod cancelling;
    mod closing;
    mod doors;
    mod events;
    mod failing;
    mod faults;
    mod foreign;
    mod health;
    mod hooks;
    mod keepalive;
    mod limits;
    mod locks;
    mod observing;
    mod panics;
    mod pausing;
    mod purging;
    mod resizing;
    mod runtimes;
    mod uncollected;
    mod waiting;
    mod workers;
}

//! What the store promises, over SQLite and over MySQL or MariaDB.
//!
//! Each test is a plain async function that is given an empty [`Database`](store::support), and [`over_both!`] runs it
//! over both. A node of the server is a [`Store`](chat_server::store::Store) of its own here: several of them on one
//! database are what several nodes are. Without `DATABASE_URL` the tests over MySQL pass without doing anything, unless
//! `REQUIRE_DATABASE` is set; `scripts/test` starts a server and sets both. Nothing waits for time to pass: leases and
//! tokens run out because the test writes so into the database.

#![allow(unreachable_pub, reason = "a test program has no outside")]

mod store {
    #[macro_use]
    mod support;

    mod directory;
    mod faults;
    mod friends;
    mod groups;
    mod limits;
    mod lookups;
    mod messages;
    mod tokens;
    mod users;
}

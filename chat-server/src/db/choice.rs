//! Which pool the server was built with: the first of these features that is on.
//!
//! The default stands last, so that `--features pool-mutex` alone changes the pool, and `--all-features` builds.

cfg_select! {
    feature = "pool-none" => {
        /// The pool the server was built with.
        pub type Pool<M> = super::none::Pool<M>;
    }
    feature = "pool-mutex" => {
        /// The pool the server was built with.
        pub type Pool<M> = super::mutex::Pool<M>;
    }
    feature = "pool-slots" => {
        /// The pool the server was built with.
        pub type Pool<M> = super::slots::Pool<M>;
    }
    feature = "pool-r2d2" => {
        /// The pool the server was built with.
        pub type Pool<M> = super::r2d2::Pool<M>;
    }
    feature = "pool-lockfree" => {
        /// The pool the server was built with.
        pub type Pool<M> = super::lock_free::Pool<M>;
    }
    _ => {
        compile_error!("no pool is chosen: build with --features pool-lockfree (the default), pool-mutex, pool-slots, pool-r2d2 or pool-none");
    }
}

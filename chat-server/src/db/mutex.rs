//! Our pool with a queue under a mutex, as the original server has it.

/// The pool.
pub type Pool<M> = pool::Pool<M, pool::idle::MutexQueue>;

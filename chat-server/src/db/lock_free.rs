//! Our pool with a lock-free queue.

/// The pool.
pub type Pool<M> = pool::Pool<M, pool::idle::LockFreeQueue>;

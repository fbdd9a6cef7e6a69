//! Our pool with no queue, a state word per connection.

/// The pool.
pub type Pool<M> = pool::Pool<M, pool::idle::Slots>;

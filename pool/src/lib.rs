//! A connection pool. (Skeleton: the core follows.)

//! Our own pools: they differ in their idle set alone, so one adapter serves them all.

use pool::idle::IdleSet;
use pool::{Manager, OwnedGuard, Pool};

use super::{AcquireError, ConnectionPool, Counts, OpenError, Options};

impl<M: Manager, I: IdleSet> ConnectionPool<M> for Pool<M, I> {
    const NAME: &'static str = I::NAME;
    type Loan = OwnedGuard<M, I>;

    fn open(manager: M, options: &Options) -> Result<Self, OpenError> {
        Self::builder()
            .name("chat")
            .min_idle(options.min_idle)
            .max_size(options.max_size)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(options.idle_timeout)
            .build(manager)
            .map_err(|error| OpenError(error.into()))
    }

    fn acquire(&self) -> Result<Self::Loan, AcquireError> {
        self.get_owned().map_err(|error| AcquireError(error.into()))
    }

    async fn acquire_async(&self) -> Result<Self::Loan, AcquireError> {
        self.get_owned_async().await.map_err(|error| AcquireError(error.into()))
    }

    fn mark_broken(loan: &mut Self::Loan) {
        loan.mark_broken();
    }

    fn purge(&self) {
        self.purge();
    }

    fn counts(&self) -> Counts {
        let state = self.state();
        Counts { size: state.size, idle: state.idle, waiting: Some(state.waiters) }
    }
}

//! Lent connections. Dropping a guard is the checkin.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::Manager;
use crate::core::Core;
use crate::idle::{self, IdleSet};
use crate::slot::{Doubt, Lent};

const HAS_CONNECTION: &str = "a guard has its connection until it ends";

/// What both guards do. The state of a loan, without the way to its pool.
///
/// One word, so that a guard that is moved through memory is written and read in the same pieces; what else there is to know of a
/// loan is with its slot.
struct Loan {
    lent: Option<Lent>,
}

impl Loan {
    #[inline(always)]
    fn new<M: Manager, I>(core: &Core<M, I>, lent: Lent) -> Self {
        if std::thread::panicking() {
            core.slots.slot(lent.right()).doubt(Doubt::BeganInPanic);
        }
        Self { lent: Some(lent) }
    }

    #[inline(always)]
    fn connection<'a, M: Manager, I>(&'a self, core: &'a Core<M, I>) -> &'a M::Connection {
        core.slots.connection(self.lent.as_ref().expect(HAS_CONNECTION))
    }

    #[inline(always)]
    fn connection_mut<'a, M: Manager, I>(&'a mut self, core: &'a Core<M, I>) -> &'a mut M::Connection {
        core.slots.lent_mut(self.lent.as_mut().expect(HAS_CONNECTION))
    }

    #[inline(always)]
    fn end<M: Manager, I: IdleSet>(&mut self, core: &Core<M, I>) {
        if let Some(lent) = self.lent.take() {
            core.checkin(lent);
        }
    }

    fn mark_broken<M: Manager, I>(&mut self, core: &Core<M, I>) {
        if let Some(lent) = &self.lent {
            core.slots.slot(lent.right()).doubt(Doubt::Broken);
        }
    }

    fn run<M: Manager, I: IdleSet, T>(
        &mut self,
        core: &Core<M, I>,
        work: impl FnOnce(&mut M::Connection) -> Result<T, M::Error>,
    ) -> Result<T, M::Error> {
        let result = work(self.connection_mut(core));
        if let Err(error) = &result
            && core.manager.is_fatal(error)
        {
            self.mark_broken(core);
        }
        result
    }

    fn detach<M: Manager, I: IdleSet>(&mut self, core: &Core<M, I>) -> M::Connection {
        let mut held = self.lent.take().expect(HAS_CONNECTION).into_right();
        let connection = core.slots.connection_mut(&mut held).take().expect(HAS_CONNECTION);
        core.note_detached(&held);
        core.begin_leaving(&held);
        core.vacate(held);
        core.demand();
        connection
    }
}

macro_rules! guard_methods {
    () => {
        /// Runs `work` on the connection. If it fails with an error that leaves the connection unusable
        /// ([`Manager::is_fatal`]), the connection will be closed instead of being lent again.
        ///
        /// Use this rather than the connection directly wherever its errors are not noticed otherwise: a timeout in
        /// the middle of an answer, for one, can leave the rest of that answer for the next holder to read.
        ///
        /// # Errors
        ///
        /// Those of `work`.
        pub fn run<T>(&mut self, work: impl FnOnce(&mut M::Connection) -> Result<T, M::Error>) -> Result<T, M::Error> {
            self.loan.run(&self.core, work)
        }

        /// Says that the connection must not be lent again. It is closed when the guard is dropped.
        pub fn mark_broken(&mut self) {
            self.loan.mark_broken(&self.core);
        }

        /// Takes the connection out of the pool, which may open another one in its place.
        pub fn detach(mut self) -> M::Connection {
            self.loan.detach(&self.core)
        }
    };
}

macro_rules! guard_traits {
    ([$($lifetime:lifetime)?], $guard:ident) => {
        impl<M: Manager, I: IdleSet> Deref for $guard<$($lifetime,)? M, I> {
            type Target = M::Connection;

            #[inline(always)]
            fn deref(&self) -> &M::Connection {
                self.loan.connection(&self.core)
            }
        }

        impl<M: Manager, I: IdleSet> DerefMut for $guard<$($lifetime,)? M, I> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut M::Connection {
                self.loan.connection_mut(&self.core)
            }
        }

        impl<M: Manager, I: IdleSet> Drop for $guard<$($lifetime,)? M, I> {
            #[inline(always)]
            fn drop(&mut self) {
                self.loan.end(&self.core);
            }
        }

        impl<M: Manager<Connection: fmt::Debug>, I: IdleSet> fmt::Debug for $guard<$($lifetime,)? M, I> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($guard)).field(&**self).finish()
            }
        }
    };
}

/// A lent connection that borrows its pool. Free of reference counts; this is the one to use where it fits.
///
/// `Send` as every connection is, and `Sync` if the connection is:
///
/// ```compile_fail,E0277
/// # struct Cells;
/// # impl pool::Manager for Cells {
/// #     type Connection = std::cell::Cell<u64>;
/// #     type Error = std::convert::Infallible;
/// #     fn connect(&self) -> Result<Self::Connection, Self::Error> { Ok(Default::default()) }
/// #     fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// fn share<T: Sync>(_: &T) {}
/// let pool: pool::Pool<Cells> = pool::Pool::builder().build(Cells).unwrap();
/// share(&pool.get().unwrap()); // `Cell<u64>` cannot be shared between threads safely
/// ```
pub struct Guard<'p, M: Manager, I: IdleSet = idle::Slots> {
    core: &'p Core<M, I>,
    loan: Loan,
    /// For the compiler, a guard has the connection that is in the slot.
    connection: PhantomData<M::Connection>,
}

impl<'p, M: Manager, I: IdleSet> Guard<'p, M, I> {
    #[inline(always)]
    pub(crate) fn new(core: &'p Core<M, I>, lent: Lent) -> Self {
        Self { core, loan: Loan::new(core, lent), connection: PhantomData }
    }

    guard_methods!();
}

guard_traits!(['_], Guard);

/// A lent connection that can go anywhere: into a task, a thread, a struct. It may outlive every handle of its pool.
///
/// Costs a reference count, which all threads write to: tens of nanoseconds when they do so at the same time.
///
/// `Send` as every connection is, and `Sync` if the connection is:
///
/// ```compile_fail,E0277
/// # struct Cells;
/// # impl pool::Manager for Cells {
/// #     type Connection = std::cell::Cell<u64>;
/// #     type Error = std::convert::Infallible;
/// #     fn connect(&self) -> Result<Self::Connection, Self::Error> { Ok(Default::default()) }
/// #     fn is_valid(&self, _: &mut Self::Connection) -> Result<(), Self::Error> { Ok(()) }
/// # }
/// fn share<T: Sync>(_: &T) {}
/// let pool: pool::Pool<Cells> = pool::Pool::builder().build(Cells).unwrap();
/// share(&pool.get_owned().unwrap()); // `Cell<u64>` cannot be shared between threads safely
/// ```
pub struct OwnedGuard<M: Manager, I: IdleSet = idle::Slots> {
    core: Arc<Core<M, I>>,
    loan: Loan,
    /// For the compiler, a guard has the connection that is in the slot.
    connection: PhantomData<M::Connection>,
}

impl<M: Manager, I: IdleSet> OwnedGuard<M, I> {
    #[inline(always)]
    pub(crate) fn new(core: Arc<Core<M, I>>, lent: Lent) -> Self {
        let loan = Loan::new(&core, lent);
        Self { core, loan, connection: PhantomData }
    }

    guard_methods!();
}

guard_traits!([], OwnedGuard);

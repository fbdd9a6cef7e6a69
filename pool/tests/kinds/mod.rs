//! Every test over every kind of pool.

/// Makes the tests of these functions for each kind: `slots::the_function` and so on. `$make` is a macro that makes them of
/// one name and one kind.
macro_rules! over_every_kind {
    ($make:ident: $($name:ident)*) => {
        mod mutex {
            $($make! { $name MutexQueue })*
        }

        mod lock_free {
            $($make! { $name LockFreeQueue })*
        }

        mod slots {
            $($make! { $name Slots })*
        }

        #[cfg(feature = "lockfree")]
        mod lockfree {
            $($make! { $name LockfreeCrateQueue })*
        }
    };
}

/// A function that wants nothing but a kind.
#[allow(unused_macros, reason = "not every file has such functions")]
macro_rules! plain {
    ($name:ident $kind:ident) => {
        #[test]
        fn $name() {
            crate::$name::<pool::idle::$kind>();
        }
    };
}

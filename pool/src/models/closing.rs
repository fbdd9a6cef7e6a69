//! What whoever has closed a pool may rely on.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::line::{HOUR, core, explore};
use super::toy::{Toy, block_on};
use crate::Fairness;
use crate::closing::Close;
use crate::core::Core;
use crate::idle::{IdleSet, MutexQueue, Slots};

/// Whatever was done while connections were out, and by closing them, has been seen when the wait for them is over.
/// The checker takes it for a race else.
fn a_close_meets_a_checkin<I: IdleSet>(close: fn(&Core<Toy, I>)) {
    explore(6, move || {
        let core = core::<I>(1, Fairness::Free);
        let done = Arc::new(UnsafeCell::new(false));
        let guard = core.checkout().expect("nobody else is there yet");
        let returning = {
            let (core, done) = (Arc::clone(&core), Arc::clone(&done));
            thread::spawn(move || {
                done.with_mut(|done| {
                    // SAFETY: the other thread looks when this loan has ended; that is what the checker checks.
                    unsafe { *done = true }
                });
                core.checkin(guard);
            })
        };
        close(&core);
        // SAFETY: the loan has ended.
        assert!(done.with(|done| unsafe { *done }));
        returning.join().unwrap();
    });
}

fn block<I: IdleSet>(core: &Core<Toy, I>) {
    core.begin_close();
    core.wait_until_empty(HOUR).expect("the connection comes back");
}

fn await_it<I: IdleSet>(core: &Core<Toy, I>) {
    block_on(Close::new(core, HOUR)).expect("the connection comes back");
}

#[test]
fn a_closed_pool_has_seen_every_loan_end_slots() {
    a_close_meets_a_checkin::<Slots>(block);
}

#[test]
fn a_closed_pool_has_seen_every_loan_end_mutex() {
    a_close_meets_a_checkin::<MutexQueue>(block);
}

#[test]
fn a_task_that_closed_a_pool_has_seen_every_loan_end_slots() {
    a_close_meets_a_checkin::<Slots>(await_it);
}

#[test]
fn a_task_that_closed_a_pool_has_seen_every_loan_end_mutex() {
    a_close_meets_a_checkin::<MutexQueue>(await_it);
}

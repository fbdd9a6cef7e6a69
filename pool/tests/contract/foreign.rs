//! Executors, and the errors of a manager: what they panic of costs nobody else anything, and no lock is held when their code
//! runs.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

use pool::{IdleSet, Manager, Pool};

use super::support::{EVENTUALLY, eventually, pool_of, settled};
use super::tasks::{Task, block_on};

for_every_kind!(
    a_waker_that_panics_does_not_reach_whoever_rings_it,
    a_waker_that_panics_costs_no_other_task_its_timeout,
    a_waker_that_panics_costs_no_other_task_its_answer_at_close,
    a_waker_that_panics_costs_no_other_task_the_end_of_a_close,
    an_error_that_panics_when_it_is_dropped_costs_no_slot,
    an_error_may_use_the_pool_when_it_is_dropped,
);

/// The waker of an executor that is gone.
struct Gone;

impl Wake for Gone {
    fn wake(self: Arc<Self>) {
        panic!("the executor is gone");
    }
}

fn gone() -> Waker {
    Waker::from(Arc::new(Gone))
}

// 26
fn a_waker_that_panics_does_not_reach_whoever_rings_it<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut lost = Task::new(pool.get_async());
    assert!(lost.poll_with(&gone()).is_pending());
    drop(guard);
    drop(lost);
    drop(pool.get().unwrap());
    settled(&pool, &database);
}

// 26
fn a_waker_that_panics_costs_no_other_task_its_timeout<I: IdleSet>() {
    let (pool, database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut lost = Task::new(pool.get_async_timeout(Duration::from_millis(1)));
    assert!(lost.poll_with(&gone()).is_pending());
    let mut other = Task::waiting(pool.get_async_timeout(Duration::from_millis(50)));
    other.bell.wait_for(1);
    other.expect_ready().expect_err("nothing was returned");
    drop((guard, lost));
    settled(&pool, &database);
}

// 26
fn a_waker_that_panics_costs_no_other_task_its_answer_at_close<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut before = Task::waiting(pool.get_async());
    let mut lost = Task::new(pool.get_async());
    assert!(lost.poll_with(&gone()).is_pending());
    let mut after = Task::waiting(pool.get_async());
    pool.close(Duration::ZERO).expect_err("one is lent");
    for task in [&mut before, &mut after] {
        task.bell.wait_for(1);
        assert!(task.expect_ready().is_err_and(|error| error.is_closed()));
    }
    drop(guard);
    pool.close(EVENTUALLY).unwrap();
}

// 26
fn a_waker_that_panics_costs_no_other_task_the_end_of_a_close<I: IdleSet>() {
    let (pool, _database) = pool_of::<I>(1);
    let guard = pool.get().unwrap();
    let mut lost = Task::new(pool.close_async(EVENTUALLY));
    assert!(lost.poll_with(&gone()).is_pending());
    let mut other = Task::waiting(pool.close_async(EVENTUALLY));
    drop(guard);
    other.finish().expect("everything came back");
}

/// An error with a destructor.
struct Fateful(Option<Box<dyn FnOnce() + Send + Sync>>);

impl fmt::Debug for Fateful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fateful")
    }
}

impl fmt::Display for Fateful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fateful")
    }
}

impl std::error::Error for Fateful {}

impl Drop for Fateful {
    fn drop(&mut self) {
        if let Some(fate) = self.0.take() {
            fate();
        }
    }
}

/// A database of which these are the first errors.
struct Failing {
    errors: Mutex<Vec<Fateful>>,
    is_hopeless: bool,
}

impl Manager for Failing {
    type Connection = u32;
    type Error = Fateful;

    fn connect(&self) -> Result<u32, Fateful> {
        self.errors.lock().unwrap().pop().map_or(Ok(7), Err)
    }

    fn is_valid(&self, _: &mut u32) -> Result<(), Fateful> {
        self.errors.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    fn is_transient(&self, _: &Fateful) -> bool {
        !self.is_hopeless
    }
}

fn pool_over<I: IdleSet>(errors: Vec<Fateful>, is_hopeless: bool) -> Pool<Failing, I> {
    Pool::builder()
        .max_size(1)
        .acquire_timeout(EVENTUALLY)
        .validate_after_idle(Duration::ZERO)
        .connect_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build_unchecked(Failing { errors: Mutex::new(errors), is_hopeless })
        .expect("good options")
}

// 26
fn an_error_that_panics_when_it_is_dropped_costs_no_slot<I: IdleSet>() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let errors = (0..6).map(|_| {
        let dropped = Arc::clone(&dropped);
        Fateful(Some(Box::new(move || {
            dropped.fetch_add(1, Ordering::Relaxed);
            panic!("an error's end");
        })))
    });
    // All but one are of connects and validations, whose successors end them.
    let pool = pool_over::<I>(errors.collect(), false);
    for _ in 0..6 {
        drop(pool.get().expect("it connects in the end"));
    }
    eventually("those that were replaced are dropped", || dropped.load(Ordering::Relaxed) >= 5);
    assert_eq!(block_on(pool.get_async()).map(|guard| *guard).expect("the slot is there"), 7);
    // The last one ends with the pool, and with it here.
    std::mem::forget(pool);
}

// 23
fn an_error_may_use_the_pool_when_it_is_dropped<I: IdleSet>() {
    let pool: Arc<OnceLock<Pool<Failing, I>>> = Arc::default();
    let used = Arc::clone(&pool);
    let (dropped, is_dropped) = mpsc::channel();
    let error = Fateful(Some(Box::new(move || {
        let pool = used.get().expect("it is built");
        pool.pause();
        pool.resume();
        dropped.send(()).unwrap();
    })));
    let pool = pool.get_or_init(|| pool_over::<I>(vec![error], true));
    let told = Task::waiting(pool.get_async());
    told.bell.wait_for(1);
    // The pool forgets the failure, so that whoever was told of it, and does not ask, has it last.
    eventually("it connects", || pool.get().is_ok());
    thread::scope(|scope| {
        scope.spawn(|| drop(told));
        is_dropped.recv_timeout(EVENTUALLY).expect("the error's end does not wait for a lock of the pool");
    });
    pool.close(EVENTUALLY).unwrap();
}

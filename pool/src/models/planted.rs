//! The checker finds the mistake it is there for. Models that find nothing prove little unless this fails.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;

use super::line::explore;
use crate::Fairness;
use crate::sync::{self, now};
use crate::waiters::{Alarm, NOTIFY, Waiters};

/// The handshake of a checkin and a waiter around one flag, with the real line. `barrier` is what the flag's `give` owes.
fn handshake(barrier: bool) {
    explore(8, move || {
        let waiters = Arc::new(Waiters::<()>::new(Fairness::Free, now()));
        let is_idle = Arc::new(AtomicBool::new(false));
        let waiting = {
            let (waiters, is_idle) = (Arc::clone(&waiters), Arc::clone(&is_idle));
            thread::spawn(move || {
                let alarm = Alarm::Thread(sync::thread::current());
                let deadline = now() + Duration::from_secs(1);
                let (ticket, _) = waiters.enter(alarm, now(), deadline, false).expect("open");
                while !is_idle.load(Ordering::Relaxed) {
                    sync::thread::park();
                }
                assert!(waiters.leave(ticket).is_none());
            })
        };
        is_idle.store(true, Ordering::Relaxed);
        if barrier {
            fence(Ordering::SeqCst);
        }
        if waiters.attention() & NOTIFY != 0 {
            let alarm = waiters.look_after().wake_first();
            if let Some(alarm) = alarm {
                alarm.ring();
            }
        }
        waiting.join().unwrap();
    });
}

#[test]
fn a_handshake_with_its_barrier_passes() {
    handshake(true);
}

/// Run by the test below, in a process of its own: a deadlock leaves threads that cannot be unwound.
#[test]
#[ignore = "fails, as it should; run by `the_checker_finds_a_missing_barrier`"]
fn a_handshake_without_its_barrier() {
    handshake(false);
}

#[test]
fn the_checker_finds_a_missing_barrier() {
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", "models::planted::a_handshake_without_its_barrier", "--ignored", "--nocapture"])
        .output()
        .expect("this program runs again");
    let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "loom missed a lost wake-up:\n{text}");
    assert!(text.contains("deadlock"), "it failed for another reason:\n{text}");
}

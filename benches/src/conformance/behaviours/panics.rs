//! What is left when the manager panics.

use super::{Question, questions};
use crate::conformance::Check;
use crate::conformance::lab::{Room, SHORT, Worker, eventually, get, give_back, is_whole};
use crate::conformance::script::{Behaviour, Call};
use crate::conformance::subject::{Options, Validate};

pub(super) const QUESTIONS: &[Question] = questions!(Script:
    26 a_panic_in_connect_keeps_the_counts_right,
    26 a_panic_in_validation_keeps_the_counts_right,
    26 a_panic_in_has_broken_keeps_the_counts_right,
    26 a_panic_in_a_hook_keeps_the_counts_right,
);

/// The panic may reach the caller; afterwards the pool is as good as new.
fn survives(room: &Room, options: Options, call: Call, panics: usize) -> Check {
    let size = options.max_size;
    let pool = room.pool(&options)?;
    if call != Call::Connect {
        let mut loan = get(&pool, "before")?;
        // A hook may belong to connecting.
        loan.connection().is_broken = call == Call::Hook;
        give_back(loan, "before")?;
    }
    let asked = room.database.asked(call);
    room.database.next(call, panics, Behaviour::Panics);
    for _ in 0..panics {
        let pool = std::sync::Arc::clone(&pool);
        let caller = Worker::start(move || pool.get().map(drop).is_ok());
        let _ = caller.outcome(&format!("a caller while {call:?} panics"))?;
    }
    // A pool that opens ahead does not come to it, and one that asks in the background comes to it later.
    eventually(&format!("{call:?} is asked, and panics"), || room.database.asked(call) > asked)?;
    room.database.clear_next(call);
    // Some of what the panic began may go on in the background.
    let mut last = Ok(());
    for _ in 0..3 {
        last = is_whole(&pool, &room.database, size);
        if last.is_ok() {
            break;
        }
    }
    last
}

fn options(max_size: usize, validate: Validate, has_hook: bool) -> Options {
    Options { max_size, acquire_timeout: SHORT * 12, validate, has_hook, ..Options::default() }
}

fn a_panic_in_connect_keeps_the_counts_right(room: &Room) -> Check {
    survives(room, options(2, Validate::Never, false), Call::Connect, 3)
}

fn a_panic_in_validation_keeps_the_counts_right(room: &Room) -> Check {
    survives(room, options(2, Validate::Always, false), Call::Validate, 3)
}

fn a_panic_in_has_broken_keeps_the_counts_right(room: &Room) -> Check {
    survives(room, options(2, Validate::Never, false), Call::HasBroken, 3)
}

fn a_panic_in_a_hook_keeps_the_counts_right(room: &Room) -> Check {
    survives(room, options(2, Validate::Never, true), Call::Hook, 3)
}

//! Any bytes, in any pieces. The first byte says how many of those behind it are the lengths of the pieces.
#![no_main]

use chat_server::fuzzing::check_input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&count, rest)) = bytes.split_first() else { return };
    let (cuts, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
    check_input(stream, cuts);
});

//! What must hold for any bytes that a client may send.
//!
//! [`check_input`] takes bytes the way a session does and panics if something is wrong. Two drive it: the test `fuzz`, with
//! the seeds in `fuzz/corpus` and some thousand variations of them, at every run of the tests; and the target in `fuzz/`,
//! for as long as one likes and guided by coverage:
//!
//! ```console
//! $ cargo +nightly fuzz run --fuzz-dir chat-server/fuzz input
//! ```

use crate::codec::{FrameError, Scanner};
use crate::commands::Item;
use crate::protocol::{Command, MAX_DEPTH, Request, ServerMessage};
use crate::session::{BATCH, Input, READ_BYTES};

/// The longest frame of the checks. Short, so that small inputs reach it.
pub const MAX_FRAME: usize = 256;

/// Checks what a session makes of `stream`, read at once and in pieces. The lengths of the pieces are those in `cuts`, over
/// and over again; 0 and none mean one.
///
/// - Nothing panics, whatever the bytes.
/// - Frames, and what is wrong with them, do not depend on the pieces.
/// - No batch is larger than one may be, and no more is kept of what came than a frame that has begun, and one read.
/// - A frame that was understood, written again, is understood to be the same.
/// - Whoever takes the bytes for a server's does not panic either.
///
/// # Panics
///
/// When one of these does not hold.
pub fn check_input(stream: &[u8], cuts: &[u8]) {
    let whole = read(stream.chunks(READ_BYTES));
    let cuts = if cuts.is_empty() { &[1] } else { cuts };
    let mut rest = stream;
    let pieces = cuts.iter().cycle().map_while(|cut| {
        if rest.is_empty() {
            return None;
        }
        let (piece, more) = rest.split_at(usize::from((*cut).max(1)).min(rest.len()));
        rest = more;
        Some(piece)
    });
    assert_eq!(whole, read(pieces), "what is read depends on how it came");
}

/// What was found, comparable.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Request(Request),
    Bad(String),
    Broken(String),
}

/// Everything in these pieces, until the connection would be ended.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut input = Input::new(Scanner::new(MAX_FRAME, MAX_DEPTH));
    let mut seen = Vec::new();
    for piece in pieces {
        let mut bytes = piece;
        loop {
            let mut batch = Vec::new();
            input.take(bytes, &mut batch);
            assert!(batch.len() <= BATCH, "a batch of {}", batch.len());
            assert!(input.kept() <= MAX_FRAME + READ_BYTES, "{} bytes are kept", input.kept());
            assert!(input.has_frames() || input.kept() < MAX_FRAME, "{} bytes of one frame are kept", input.kept());
            for item in batch {
                match item {
                    Item::Request(request) => {
                        check_again(&request);
                        seen.push(Seen::Request(request));
                    }
                    Item::Bad(bad) => {
                        assert!(!bad.refusal.text.is_empty(), "{bad:?} says nothing");
                        seen.push(Seen::Bad(bad.to_string()));
                    }
                    Item::Broken(error) => {
                        assert!(!matches!(error, FrameError::Io(_) | FrameError::Truncated), "{error}");
                        seen.push(Seen::Broken(error.to_string()));
                        return seen;
                    }
                }
            }
            if !input.has_frames() {
                break;
            }
            bytes = &[];
        }
    }
    seen
}

/// A request that was understood is the same when it is written and read again.
fn check_again(request: &Request) {
    let frame = request.encode();
    assert_eq!(Request::decode(&frame).as_ref(), Ok(request), "{frame:?}");
    let _ = ServerMessage::decode(&frame);
    // What is never shown is not shown here either.
    if let Command::Login(login) = &request.command
        && login.password.len() > 8
    {
        assert!(!format!("{request:?}").contains(&login.password), "a password is shown");
    }
}

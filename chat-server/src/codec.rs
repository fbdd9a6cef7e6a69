//! Frames: where one JSON object ends and the next begins, whoever wrote them and however the network cut them.
//!
//! The original client ends each of its frames with a NUL byte, modern clients with a newline, and a bare JSON object
//! with nothing after it is accepted, too, because an object says itself where it ends. So the scanner counts braces and
//! brackets outside of strings, and what lies between frames may be white space or NUL. It remembers where it stopped:
//! every byte is looked at once, in whatever pieces it comes.
//!
//! An error of the scanner is the end of the connection, because nobody knows where the next frame begins. What is wrong
//! inside of a frame is for [`Request::decode`](crate::protocol::Request::decode) to say, and the next frame is read.

use std::io;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::protocol::{ErrorCode, MAX_DEPTH, MAX_SERVER_FRAME, Refusal};

/// Finds frames in bytes that arrive in pieces.
#[derive(Debug, Clone)]
pub struct Scanner {
    max_frame: usize,
    max_depth: u16,
    depth: u16,
    inside: Inside,
    /// Bytes of the buffer that were looked at already.
    seen: usize,
    /// Where the frame begins, once its brace was seen.
    start: usize,
}

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Structure,
    String,
    /// The byte after a backslash in a string.
    Escape,
}

/// What the scanner found in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A frame. What lies before its end is done with.
    Frame(Range<usize>),
    /// No end of a frame yet. So many bytes at the beginning were separators and are done with; give the rest again, with
    /// more behind it.
    Partial(usize),
}

/// Why the bytes are no frames. The connection cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Something other than an object, where a frame should begin.
    #[error("a frame must be a JSON object and begin with '{{', not with byte 0x{0:02x}")]
    NoObject(u8),
    /// The frame is longer than allowed.
    #[error("the frame is longer than {0} bytes")]
    TooLarge(usize),
    /// Objects and arrays are nested too deeply.
    #[error("objects and arrays are nested more than {0} deep")]
    TooDeep(u16),
    /// A NUL in the middle of an object: it was cut off.
    #[error("a NUL byte inside of a frame")]
    Nul,
    /// The stream ended in the middle of a frame.
    #[error("the stream ended inside of a frame")]
    Truncated,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FrameError {
    /// The same for an answer, before the connection is closed.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::TooLarge(_) => ErrorCode::FrameTooLarge,
            Self::TooDeep(_) => ErrorCode::TooDeep,
            _ => ErrorCode::Malformed,
        };
        Refusal::new(code, self.to_string())
    }
}

impl Scanner {
    /// A scanner that accepts frames of at most `max_frame` bytes, nested at most `max_depth` deep.
    pub fn new(max_frame: usize, max_depth: usize) -> Self {
        let max_depth = u16::try_from(max_depth).unwrap_or(u16::MAX);
        Self { max_frame, max_depth, depth: 0, inside: Inside::Structure, seen: 0, start: 0 }
    }

    /// Changes the limit of a frame's bytes; also for a frame that has begun.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Looks for the next frame in `buffer`, which begins where the last answer said.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if these bytes are no frames.
    pub fn next(&mut self, buffer: &[u8]) -> Result<Found, FrameError> {
        if self.depth == 0 {
            let separators = buffer.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0)).count();
            match buffer.get(separators) {
                None => return Ok(Found::Partial(separators)),
                Some(b'{') => {}
                Some(&other) => return Err(FrameError::NoObject(other)),
            }
            (self.start, self.seen, self.depth) = (separators, separators + 1, 1);
        }
        // No further than the longest frame may reach; what is behind that does not matter.
        let end = buffer.len().min(self.start.saturating_add(self.max_frame));
        while self.seen < end {
            let byte = buffer[self.seen];
            match self.inside {
                Inside::Escape => {
                    if byte == 0 {
                        return Err(FrameError::Nul);
                    }
                    self.inside = Inside::String;
                }
                Inside::String => {
                    let Some(at) = memchr::memchr3(b'"', b'\\', 0, &buffer[self.seen..end]) else {
                        self.seen = end;
                        break;
                    };
                    self.seen += at;
                    self.inside = match buffer[self.seen] {
                        b'"' => Inside::Structure,
                        b'\\' => Inside::Escape,
                        _ => return Err(FrameError::Nul),
                    };
                }
                Inside::Structure => match byte {
                    b'"' => self.inside = Inside::String,
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth > self.max_depth {
                            return Err(FrameError::TooDeep(self.max_depth));
                        }
                    }
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            let frame = self.start..self.seen + 1;
                            (self.seen, self.start) = (0, 0);
                            return Ok(Found::Frame(frame));
                        }
                    }
                    0 => return Err(FrameError::Nul),
                    _ => {}
                },
            }
            self.seen += 1;
        }
        if self.seen - self.start >= self.max_frame {
            return Err(FrameError::TooLarge(self.max_frame));
        }
        let separators = self.start;
        (self.seen, self.start) = (self.seen - separators, 0);
        Ok(Found::Partial(separators))
    }

    /// Whether a frame has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }
}

/// What is written behind each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Terminator {
    /// A newline: the modern mode.
    #[default]
    Newline,
    /// A NUL byte: what the original client sends.
    Nul,
    /// Nothing: what the original server sends.
    Nothing,
}

/// The scanner as a codec, for clients and tests; the server's sessions use the scanner itself.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    scanner: Scanner,
    terminator: Terminator,
}

impl FrameCodec {
    /// A codec for a client: it writes this terminator, accepts any, and takes in whatever the server may send.
    pub fn client(terminator: Terminator) -> Self {
        Self::with_max_frame(terminator, MAX_SERVER_FRAME)
    }

    /// The same with a limit of its own.
    pub fn with_max_frame(terminator: Terminator, max_frame: usize) -> Self {
        Self { scanner: Scanner::new(max_frame, MAX_DEPTH), terminator }
    }

    /// Changes the limit of the frames that are read.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.scanner.set_max_frame(max_frame);
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        match self.scanner.next(source)? {
            Found::Frame(frame) => {
                let mut bytes = source.split_to(frame.end);
                bytes.advance(frame.start);
                Ok(Some(bytes.freeze()))
            }
            Found::Partial(separators) => {
                source.advance(separators);
                Ok(None)
            }
        }
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        match self.decode(source)? {
            None if self.scanner.is_inside() => Err(FrameError::Truncated),
            frame => Ok(frame),
        }
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Bytes, target: &mut BytesMut) -> Result<(), FrameError> {
        target.reserve(frame.len() + 1);
        target.put_slice(&frame);
        match self.terminator {
            Terminator::Newline => target.put_u8(b'\n'),
            Terminator::Nul => target.put_u8(0),
            Terminator::Nothing => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything in `pieces`, until the first error.
    fn decode<'a>(max_frame: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<String>) {
        let (mut codec, mut buffer, mut frames) =
            (FrameCodec::with_max_frame(Terminator::Nothing, max_frame), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match codec.decode(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error.to_string())),
                }
            }
            assert!(buffer.len() < max_frame, "no more is kept than a frame may have");
        }
        let end = loop {
            match codec.decode_eof(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        (frames, end)
    }

    #[test]
    fn every_terminator_is_accepted_and_several_frames_may_come_at_once() {
        let (frames, end) = decode(100, [&b"{\"a\":1}\0{\"b\":2}\n\r\n {\"c\":[3]}{\"d\":4}\0\0\n"[..]]);
        assert_eq!(frames, ["{\"a\":1}", "{\"b\":2}", "{\"c\":[3]}", "{\"d\":4}"]);
        assert_eq!(end, None);
    }

    #[test]
    fn braces_in_strings_do_not_count() {
        let tricky = br#"{"msg":"}{\"}]\\","x":"\\\""}"#;
        let (frames, end) = decode(100, [&tricky[..]]);
        assert_eq!((frames.len(), end), (1, None));
        assert_eq!(&frames[0][..], tricky);
    }

    #[test]
    fn what_is_no_frame_ends_the_stream_with_a_reason() {
        for (bytes, problem) in [
            (&b"hello"[..], "begin with '{', not with byte 0x68"),
            (b"[1]", "not with byte 0x5b"),
            (b"\xff", "not with byte 0xff"),
            (b"}", "not with byte 0x7d"),
            (b"{\"a\":1", "the stream ended inside of a frame"),
            (b"{\"a\":\"\0", "a NUL byte inside"),
            (b"{\"a\":\"\\\0", "a NUL byte inside"),
            (b"{\0", "a NUL byte inside"),
            (b"{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "longer than 100"),
        ] {
            let (frames, end) = decode(100, [bytes]);
            assert!(frames.is_empty());
            assert!(end.as_ref().is_some_and(|end| end.contains(problem)), "{end:?} should contain {problem}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(MAX_DEPTH));
        assert!(decode(100, [deep.as_bytes()]).1.unwrap().contains("more than 16 deep"));
        let just = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
        assert_eq!(decode(100, [just.as_bytes()]).1, None);
    }

    #[test]
    fn a_frame_may_be_as_long_as_the_limit_and_not_a_byte_longer() {
        let frame = format!("{{\"a\":\"{}\"}}", "x".repeat(92));
        assert_eq!(frame.len(), 100);
        for piece in [1, 7, 99, 100, 200] {
            assert_eq!(decode(100, frame.as_bytes().chunks(piece)), (vec![Bytes::from(frame.clone())], None));
            assert!(decode(99, frame.as_bytes().chunks(piece)).1.unwrap().contains("longer than 99"));
        }
        let spaced = format!("   {frame}  {frame}");
        assert_eq!(decode(100, spaced.as_bytes().chunks(51)).0.len(), 2);
    }

    /// A JSON object with everything that could confuse a scanner in its strings.
    fn object() -> impl Strategy<Value = String> {
        let text = proptest::collection::vec(
            prop_oneof![
                Just('"'),
                Just('\\'),
                Just('{'),
                Just('}'),
                Just('['),
                Just(']'),
                Just('\0'),
                Just('\n'),
                any::<char>()
            ],
            0..20,
        );
        let text = text.prop_map(|chars| chars.into_iter().collect::<String>());
        let leaf = prop_oneof![text.prop_map(serde_json::Value::from), any::<i64>().prop_map(serde_json::Value::from)];
        let value = leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::hash_map("[a-z{}\"]{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::hash_map("[a-z]{1,5}", value, 0..4)
            .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()).to_string())
    }

    proptest! {
        // Enough to find what was planted; more would make every run of the tests wait.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_do_not_depend_on_how_the_network_cuts_them(
            objects in proptest::collection::vec((object(), "[ \t\r\n\0]{0,3}"), 1..6),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream: String = objects.iter().map(|(object, after)| format!("{object}{after}")).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]);
            let (frames, end) = decode(MAX_SERVER_FRAME, pieces);
            prop_assert_eq!(end, None);
            let expected: Vec<&str> = objects.iter().map(|(object, _)| &object[..]).collect();
            prop_assert_eq!(frames, expected);
        }

        #[test]
        fn every_single_split_of_a_frame_gives_the_same(object in object(), second in object()) {
            let stream = format!("{object}\0{second}");
            for at in 0..=stream.len() {
                let (left, right) = stream.as_bytes().split_at(at);
                let (frames, end) = decode(MAX_SERVER_FRAME, [left, right]);
                prop_assert_eq!(end, None);
                prop_assert_eq!(frames, [object.as_bytes(), second.as_bytes()]);
            }
        }

        #[test]
        fn garbage_neither_panics_nor_depends_on_the_pieces(
            bytes in proptest::collection::vec(prop_oneof![
                4 => proptest::sample::select(&b"{}[]\"\\:,\0\n 1a\xff\x80"[..]), 1 => any::<u8>()
            ], 0..400),
            piece in 1_usize..40,
        ) {
            let whole = decode(64, bytes.chunks(bytes.len().max(1)).take(1).flat_map(|whole| whole.chunks(63)));
            let pieces = decode(64, bytes.chunks(piece.min(63)));
            prop_assert_eq!(&whole, &pieces);
            for frame in &whole.0 {
                // Whatever it is, decoding says so and does not panic.
                let _ = crate::protocol::Request::decode(frame);
                let _ = crate::protocol::ServerMessage::decode(frame);
            }
        }
    }
}

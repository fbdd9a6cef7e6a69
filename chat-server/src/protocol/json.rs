//! From JSON to types, and to a line of JSON; what is wrong with a text is told with the field.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_PROBLEM_BYTES;
use super::error::{ErrorCode, Refusal};

/// `text` as a `T`, or what is wrong with it.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    if !error.is_data() {
        return Err(Refusal::new(ErrorCode::Malformed, format!("no JSON: {error}")));
    }
    // Once more, slowly: which field was it?
    let deserializer = &mut serde_json::Deserializer::from_str(text);
    let mut refusal = match serde_path_to_error::deserialize::<_, T>(deserializer) {
        Ok(_) => Refusal::new(ErrorCode::BadField, error.to_string()),
        Err(at) if at.path().iter().next().is_none() => Refusal::new(ErrorCode::BadField, at.inner().to_string()),
        Err(at) => Refusal::bad_field(&at.path().to_string(), at.inner()),
    };
    shorten(&mut refusal.text);
    Err(refusal)
}

/// Cuts a text that quotes a whole frame, and is several times as long, since it spells out what cannot be printed.
fn shorten(text: &mut String) {
    if text.len() > MAX_PROBLEM_BYTES {
        text.truncate(text.floor_char_boundary(MAX_PROBLEM_BYTES - '…'.len_utf8()));
        text.push('…');
    }
}

/// `message` as one line of JSON, newline included.
pub(super) fn line<T: Serialize>(message: &T) -> Bytes {
    let mut text = BytesMut::with_capacity(256).writer();
    serde_json::to_writer(&mut text, message).expect("strings and numbers are always JSON");
    let mut text = text.into_inner();
    text.put_u8(b'\n');
    text.freeze()
}

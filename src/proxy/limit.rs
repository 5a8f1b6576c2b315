//! What a request may take up. Sizes of heads, connections and streams are the server's to bound, times the upstream's;
//! here it is the body that is streamed through.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use super::error::{Kind, Problem};

/// Refuses a body that says itself that it is too long, before anything of it is read.
///
/// # Errors
/// 413.
pub fn check(headers: &HeaderMap, most: Option<u64>) -> Result<(), Problem> {
    let Some(most) = most else { return Ok(()) };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > most) { Err(too_large(most)) } else { Ok(()) }
}

/// The problem of a body that is longer than `most` bytes.
#[must_use]
pub fn too_large(most: u64) -> Problem {
    Problem::new(&Kind::BODY_TOO_LARGE, format!("the body is longer than the {most} bytes that the gateway takes"))
}

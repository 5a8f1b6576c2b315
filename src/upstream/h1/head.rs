//! Heads: a request's as it goes out, a response's as it comes in, and what they say of the body's length.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use http_body::Body;

use super::Malformed;
use crate::upstream::RequestHead;
use crate::wiped::Buffer;

/// The most header lines of a response, and of its trailers.
pub(super) const MOST_LINES: usize = 100;

/// The largest head of a response, and the largest trailers, in bytes.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// Room for what a request's head has besides target and lines, in bytes.
const ROOM: usize = 128;

/// So many header lines can be added to a response before its map has to grow.
const SPARE: usize = 4;

/// How a request's body is framed (RFC 9112 §6).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow; of the trailers only these fields are sent, as only those were announced.
    Chunked(Vec<HeaderName>),
}

/// Writes the head of a request, in origin form, and says how its body is framed. What the head says of the length is
/// written anew: once, and only what holds.
pub(super) fn write<B: Body>(head: &RequestHead, host: &HeaderValue, body: &B, out: &mut Buffer) -> Coding {
    out.reserve(ROOM + head.target().len() + head.lines.text().len());
    out.push(head.method.as_str().as_bytes());
    out.push(b" ");
    let target = head.target();
    if !target.starts_with(b"/") && target != b"*" {
        out.push(b"/");
    }
    out.push(target);
    out.push(b" HTTP/1.1\r\n");
    line(&HOST, host, out);
    out.push(head.lines.text());
    let said = |length: Option<u64>| length.filter(|_| !head.chunked);
    let coding = if body.is_end_stream() {
        Coding::Length(0)
    } else if let Some(length) = said(head.length.agreed()).or_else(|| said(body.size_hint().exact())) {
        Coding::Length(length)
    } else {
        Coding::Chunked(head.lines.announced())
    };
    match &coding {
        // A request without a body says so only if it did before.
        Coding::Length(0) if head.length == Length::Unsaid && body.is_end_stream() => {}
        Coding::Length(length) => line(&CONTENT_LENGTH, &HeaderValue::from(*length), out),
        Coding::Chunked(_) => line(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked"), out),
    }
    out.push(b"\r\n");
    coding
}

/// Writes one header line.
pub(super) fn line(name: &HeaderName, value: &HeaderValue, out: &mut Buffer) {
    out.push(name.as_str().as_bytes());
    out.push(b": ");
    out.push(value.as_bytes());
    out.push(b"\r\n");
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    /// The reason phrase, where it is not the usual one.
    pub(super) reason: Option<Bytes>,
    /// Whether the connection may be used again (RFC 9112 §9.3).
    pub(super) keeps: bool,
    /// Whether there is a `Transfer-Encoding`, and it ends in `chunked`.
    chunked: Option<bool>,
    length: Length,
}

/// How a response's body is framed (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// All that comes until the connection ends.
    Close,
}

/// Takes one head from the front of the buffer, an interim one (1xx) too; none where it has not all come. Its headers take
/// the memory of `room`, which is empty.
pub(super) fn parse(buffer: &mut BytesMut, room: &mut Option<HeaderMap>) -> Result<Option<Head>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, buffer, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length > MOST_BYTES => {
            return Err(Malformed("the head is too large"));
        }
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if buffer.len() >= MOST_BYTES => return Err(Malformed("the head is too large")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("the status is no number from 100 to 999"))?;
    let reason = response.reason.filter(|reason| Some(*reason) != status.canonical_reason());
    let reason = reason.map(|reason| Bytes::copy_from_slice(reason.as_bytes()));
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    // The values stay in one piece of memory; copied, so that the buffer is free for what comes next.
    let block = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
    let start = buffer.as_ptr().addr();
    let mut head = Head {
        status,
        version,
        headers: room.take().unwrap_or_default(),
        reason,
        keeps: version == Version::HTTP_11,
        chunked: None,
        length: Length::default(),
    };
    head.headers.reserve(response.headers.len() + SPARE);
    let mut closes = false;
    for line in response.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a header's name is none"))?;
        // An empty value may stand anywhere.
        let value = if line.value.is_empty() {
            Bytes::new()
        } else {
            let place = line.value.as_ptr().addr() - start;
            block.slice(place..place + line.value.len())
        };
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed("a header's value is none"))?;
        if name == CONNECTION {
            closes |= lists(&value, "close");
            head.keeps = !closes && (head.keeps || lists(&value, "keep-alive"));
        } else if name == CONTENT_LENGTH {
            head.length.add(&value);
        } else if name == TRANSFER_ENCODING {
            let last = value.to_str().ok().and_then(|codings| codings.rsplit(',').next());
            head.chunked = Some(last.is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked")));
        }
        head.headers.append(name, value);
    }
    buffer.advance(length);
    Ok(Some(head))
}

/// Whether the bytes that came after the first `before` can have ended a head: whatever comes in drops is read whole
/// only once.
pub(super) fn may_end(bytes: &[u8], before: usize) -> bool {
    let news = bytes.get(before.saturating_sub(3)..).unwrap_or_default();
    news.windows(2).any(|pair| pair == b"\n\n") || news.windows(3).any(|three| three == b"\n\r\n")
}

impl Head {
    /// How the body of this response is framed; `to_head`: to a HEAD request.
    pub(super) fn framing(&self, to_head: bool) -> Result<Framing, Malformed> {
        let bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || self.status.is_informational() || to_head {
            return Ok(Framing::Length(0));
        }
        match (self.chunked, self.length) {
            (Some(_), _) if self.version == Version::HTTP_10 => Err(Malformed("HTTP/1.0 knows no `Transfer-Encoding`")),
            (Some(true), _) => Ok(Framing::Chunked),
            (Some(false), _) | (None, Length::Unsaid) => Ok(Framing::Close),
            // The two highest numbers stand for other things elsewhere.
            (None, Length::Said(length)) if length <= u64::MAX - 2 => Ok(Framing::Length(length)),
            (None, Length::Said(_) | Length::Garbled) => Err(Malformed("the `Content-Length` is no one number")),
        }
    }
}

/// What the lines of `Content-Length` say together: each may repeat the one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    #[default]
    Unsaid,
    /// So many bytes.
    Said(u64),
    /// What is no number, or several.
    Garbled,
}

impl Length {
    /// Adds what this line says.
    pub fn add(&mut self, value: &HeaderValue) {
        // Blanks around a number are no part of it.
        for digits in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            *self = match (*self, number(digits)) {
                (Self::Unsaid, Some(number)) => Self::Said(number),
                (Self::Said(before), Some(number)) if before == number => Self::Said(number),
                _ => Self::Garbled,
            };
        }
    }

    /// The one number.
    #[must_use]
    pub fn agreed(self) -> Option<u64> {
        match self {
            Self::Said(length) => Some(length),
            Self::Unsaid | Self::Garbled => None,
        }
    }
}

/// The number that these digits are: of ASCII only, and without a sign.
fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let step = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    Some(digits).filter(|digits| !digits.is_empty())?.iter().try_fold(0, step)
}

fn lists(value: &HeaderValue, wanted: &str) -> bool {
    value.to_str().is_ok_and(|options| options.split(',').any(|option| option.trim().eq_ignore_ascii_case(wanted)))
}

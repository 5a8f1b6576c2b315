//! Heads: a request's as it goes out, a response's as it comes in, and what they say of the body's length.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body;
use smallvec::SmallVec;

use super::Malformed;

/// The most header lines of a response, and of its trailers.
pub(super) const MOST_LINES: usize = 100;

/// The largest head of a response, and the largest trailers, in bytes.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// How a request's body is framed (RFC 9112 §6).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow; of the trailers only these fields are sent, as only those were announced.
    Chunked(Vec<HeaderName>),
}

/// Writes the head of a request, in origin form, and says how its body is framed. Framing headers that the request has
/// are read, and written anew: once, and only what holds.
pub(super) fn write<B: Body>(request: &Request<B>, out: &mut Vec<u8>) -> Coding {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if !target.starts_with('/') && target != "*" {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut length, mut chunked, mut announced) = (Length::default(), false, Vec::new());
    for (name, value) in request.headers() {
        if name == CONTENT_LENGTH {
            length.add(value);
        } else if name == TRANSFER_ENCODING {
            chunked = true;
        } else {
            if name == TRAILER {
                announced.extend(announces(value));
            }
            line(name, value, out);
        }
    }
    let body = request.body();
    let coding = if body.is_end_stream() {
        Coding::Length(0)
    } else if let Some(length) = length.agreed().filter(|_| !chunked) {
        Coding::Length(length)
    } else if let Some(length) = body.size_hint().exact().filter(|_| !chunked) {
        Coding::Length(length)
    } else {
        Coding::Chunked(announced)
    };
    match &coding {
        // A request without a body says so only if it did before.
        Coding::Length(0) if length == Length::default() && body.is_end_stream() => {}
        Coding::Length(length) => line(&CONTENT_LENGTH, &HeaderValue::from(*length), out),
        Coding::Chunked(_) => line(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked"), out),
    }
    out.extend_from_slice(b"\r\n");
    coding
}

/// Writes one header line.
pub(super) fn line(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn announces(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let names = value.to_str().unwrap_or_default().split(',');
    names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
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

/// Takes one head from the front of the buffer, an interim one (1xx) too; none where it has not all come.
pub(super) fn parse(buffer: &mut BytesMut) -> Result<Option<Head>, Malformed> {
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
    let start = buffer.as_ptr().addr();
    let mut spans: SmallVec<[(HeaderName, usize, usize); 16]> = SmallVec::new();
    for line in response.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a header's name is none"))?;
        spans.push((name, line.value.as_ptr().addr() - start, line.value.len()));
    }
    // The values stay where they came, in one piece of memory.
    let block = buffer.split_to(length).freeze();
    let mut head = Head {
        status,
        version,
        headers: HeaderMap::with_capacity(spans.len()),
        reason,
        keeps: version == Version::HTTP_11,
        chunked: None,
        length: Length::default(),
    };
    let mut closes = false;
    for (name, start, length) in spans {
        // An empty value may stand anywhere.
        let value = if length == 0 { Bytes::new() } else { block.slice(start..start + length) };
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
    Ok(Some(head))
}

/// Whether the bytes that came after the first `before` can have ended a head: whatever comes in drops is read whole
/// only once.
pub(super) fn may_end(bytes: &[u8], before: usize) -> bool {
    let news = bytes.get(before.saturating_sub(3)..).unwrap_or_default();
    news.windows(2).any(|pair| pair == b"\n\n") || news.windows(3).any(|three| three == b"\n\r\n")
}

impl Head {
    /// How the body of this response to such a request is framed.
    pub(super) fn framing(&self, method: &Method) -> Result<Framing, Malformed> {
        let bodiless = matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if bodiless || self.status.is_informational() || method == Method::HEAD {
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
enum Length {
    #[default]
    Unsaid,
    Said(u64),
    Garbled,
}

impl Length {
    fn add(&mut self, value: &HeaderValue) {
        // A digit is one in ASCII only, without a sign; blanks around it are no part of it.
        for number in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = std::str::from_utf8(number).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            *self = match (*self, digits.and_then(|digits| digits.parse().ok())) {
                (Self::Unsaid, Some(number)) => Self::Said(number),
                (Self::Said(before), Some(number)) if before == number => Self::Said(number),
                _ => Self::Garbled,
            };
        }
    }

    fn agreed(self) -> Option<u64> {
        match self {
            Self::Said(length) => Some(length),
            Self::Unsaid | Self::Garbled => None,
        }
    }
}

fn lists(value: &HeaderValue, wanted: &str) -> bool {
    value.to_str().is_ok_and(|options| options.split(',').any(|option| option.trim().eq_ignore_ascii_case(wanted)))
}

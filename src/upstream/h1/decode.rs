//! A response's body, taken out of the bytes that came.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Malformed;
use super::head::{Framing, MOST_BYTES, MOST_LINES};

/// The most bytes of chunk extensions in one body: nobody needs any (RFC 9112 §7.1.1).
const MOST_EXTENSIONS: usize = 16 * 1024;

/// A piece of up to so many bytes is copied: that costs less than another buffer.
pub(super) const FEW: usize = 4 * 1024;

/// Where in a body the reading is.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    /// Among chunks.
    Chunked(Box<Chunks>),
    /// All until the connection ends.
    Close,
    /// At the end.
    Over,
}

/// What the bytes at hand came to.
#[derive(Debug)]
pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// More bytes are needed.
    More,
}

#[derive(Debug, Default)]
pub(super) struct Chunks {
    place: Place,
    /// What of the chunk is still to come.
    left: u64,
    extensions: usize,
    trailers: Vec<u8>,
    lines: usize,
}

/// Where among chunks (RFC 9112 §7.1). What follows is named, not what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    FirstDigit,
    Size,
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer, or the empty line that ends all.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Over,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::Close => Self::Close,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// How much is still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Over => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Takes all that is still to come from the front of the buffer, where it is there already.
    pub(super) fn rest(&mut self, buffer: &mut BytesMut) -> Option<Bytes> {
        let left = usize::try_from(self.left()?).ok().filter(|left| *left <= buffer.len())?;
        *self = Self::Over;
        Some(split(buffer, left))
    }

    /// Takes the next piece from the front of the buffer.
    pub(super) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        match self {
            Self::Over => Ok(Step::End),
            _ if buffer.is_empty() => Ok(Step::More),
            Self::Close => Ok(Step::Data(split(buffer, buffer.len()))),
            Self::Length(left) => {
                let piece = take(buffer, left);
                if *left == 0 {
                    *self = Self::Over;
                }
                Ok(Step::Data(piece))
            }
            Self::Chunked(chunks) => {
                let step = chunks.step(buffer)?;
                if matches!(step, Step::End | Step::Trailers(_)) {
                    *self = Self::Over;
                }
                Ok(step)
            }
        }
    }

    /// The connection ended: whether the body may end so.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Over | Self::Close => {
                *self = Self::Over;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(Malformed("the connection ended before the body did")),
        }
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    split(buffer, length)
}

/// Takes so many bytes from the front of the buffer. Few are copied, so that the buffer is free for what comes next.
pub(super) fn split(buffer: &mut BytesMut, length: usize) -> Bytes {
    match buffer.get(..length) {
        Some([]) => Bytes::new(),
        Some(few) if length <= FEW => {
            let copy = Bytes::copy_from_slice(few);
            buffer.advance(length);
            copy
        }
        _ => buffer.split_to(length).freeze(),
    }
}

impl Chunks {
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        let mut read = 0;
        while let Some(&byte) = buffer.get(read) {
            if self.place == Place::Data {
                buffer.advance(read);
                let piece = take(buffer, &mut self.left);
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                return Ok(Step::Data(piece));
            }
            read += 1;
            if self.place == Place::LastLf && byte == b'\n' {
                buffer.advance(read);
                return self.end();
            }
            self.place = self.next(byte)?;
        }
        buffer.clear();
        Ok(Step::More)
    }

    /// The place after this byte.
    fn next(&mut self, byte: u8) -> Result<Place, Malformed> {
        Ok(match (self.place, byte) {
            (Place::FirstDigit | Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let size = self.left.checked_mul(16).and_then(|size| size.checked_add(digit.into()));
                self.left = size.ok_or(Malformed("a chunk's size is beyond all measure"))?;
                Place::Size
            }
            (Place::Size | Place::Blank, b' ' | b'\t') => Place::Blank,
            (Place::Size | Place::Blank, b';') => Place::Extension,
            (Place::Size | Place::Blank | Place::Extension, b'\r') => Place::SizeLf,
            (Place::Extension, b'\n') => return Err(Malformed("a chunk's extension holds a line feed")),
            (Place::Extension, _) => {
                self.extensions += 1;
                if self.extensions >= MOST_EXTENSIONS {
                    return Err(Malformed("the chunks have too many extensions"));
                }
                Place::Extension
            }
            (Place::FirstDigit | Place::Size | Place::Blank, _) => {
                return Err(Malformed("a chunk's size is no number"));
            }
            (Place::SizeLf, b'\n') if self.left == 0 => Place::Line,
            (Place::SizeLf, b'\n') => Place::Data,
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::FirstDigit,
            (Place::Line, b'\r') => {
                if !self.trailers.is_empty() {
                    self.note(byte)?;
                }
                Place::LastLf
            }
            (Place::Trailer, b'\r') => {
                self.note(byte)?;
                Place::TrailerLf
            }
            (Place::Line | Place::Trailer, _) => {
                self.note(byte)?;
                Place::Trailer
            }
            (Place::TrailerLf, b'\n') => {
                if self.lines >= MOST_LINES {
                    return Err(Malformed("there are too many trailers"));
                }
                self.lines += 1;
                self.note(byte)?;
                Place::Line
            }
            (Place::SizeLf | Place::DataCr | Place::DataLf | Place::TrailerLf | Place::LastLf | Place::Data, _) => {
                return Err(Malformed("a chunk does not end where it should"));
            }
        })
    }

    fn note(&mut self, byte: u8) -> Result<(), Malformed> {
        self.trailers.push(byte);
        if self.trailers.len() >= MOST_BYTES { Err(Malformed("the trailers are too large")) } else { Ok(()) }
    }

    fn end(&mut self) -> Result<Step, Malformed> {
        if self.trailers.is_empty() {
            return Ok(Step::End);
        }
        self.note(b'\n')?;
        let mut lines = vec![httparse::EMPTY_HEADER; self.lines];
        let httparse::Status::Complete((_, lines)) = httparse::parse_headers(&self.trailers, &mut lines)? else {
            return Err(Malformed("the trailers do not end where they should"));
        };
        let mut trailers = HeaderMap::with_capacity(lines.len());
        for line in lines {
            let name =
                HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed("a trailer's name is none"))?;
            let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed("a trailer's value is none"))?;
            trailers.append(name, value);
        }
        Ok(Step::Trailers(trailers))
    }
}

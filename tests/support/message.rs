//! HTTP/1.1 messages as bytes: read exactly, judged literally, nothing normalized.

use std::io::{self, ErrorKind, Read};

/// Header lines in the order and spelling received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The values of every line with this name, in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the only line with this name.
    pub fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "`{name}` more than once: {all:?}");
        all.first().copied()
    }

    /// The names, lower-cased.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    }
}

/// A start line and header lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Exactly as received, the empty line included.
    pub raw: Vec<u8>,
    /// The first line.
    pub start: String,
    /// The header lines.
    pub headers: Headers,
}

impl Head {
    /// Splits the bytes of a head; bytes beyond ASCII are read as Latin-1.
    pub fn parse(raw: &[u8]) -> Self {
        let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in `{line}`"));
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Self { raw: raw.to_vec(), start, headers: Headers(headers) }
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request, as it stands on the line.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("`{}`", self.start))
    }

    /// How the body that follows is framed.
    pub fn framing(&self) -> Framing {
        if self.headers.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked")) {
            return Framing::Chunked;
        }
        match self.headers.all("content-length").first() {
            Some(length) => Framing::Length(length.parse().unwrap_or_else(|_| panic!("content-length `{length}`"))),
            None => Framing::Unsaid,
        }
    }
}

/// How a body is framed (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By `Content-Length`.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By neither: nothing in a request, until the end of the connection in a response.
    Unsaid,
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status line and headers.
    pub head: Head,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Headers,
    /// False when the connection ended, or broke, before the body was whole.
    pub whole: bool,
}

impl Response {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The value of the only header line with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.one(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: `{}`", self.text()))
    }

    /// The gateway's own problem type, where the answer is the gateway's own.
    pub fn problem(&self) -> Option<&str> {
        self.header("carta-gateway")
    }
}

/// Bytes that were read from a socket and not yet used.
#[derive(Debug, Default)]
pub struct Buffered {
    held: Vec<u8>,
}

impl Buffered {
    /// The bytes held.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Reads once; `false` at the end of the connection, a reset included.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let mut chunk = [0; 64 * 1024];
        match from.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.held.extend_from_slice(&chunk[..read]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The bytes up to and including the delimiter; `None` at the end of the connection.
    pub fn until(&mut self, from: &mut impl Read, delimiter: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = find(&self.held[searched..], delimiter) {
                return Ok(Some(self.take(searched + at + delimiter.len())));
            }
            searched = self.held.len().saturating_sub(delimiter.len());
            if !self.fill(from)? {
                return Ok(None);
            }
        }
    }

    /// At most this many bytes, at least one; empty at the end of the connection.
    pub fn some(&mut self, from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
        if self.held.is_empty() && !self.fill(from)? {
            return Ok(Vec::new());
        }
        Ok(self.take(most))
    }

    /// The next head; `None` at the end of the connection.
    pub fn head(&mut self, from: &mut impl Read) -> io::Result<Option<Head>> {
        Ok(self.until(from, b"\r\n\r\n")?.map(|raw| Head::parse(&raw)))
    }

    /// A body with this framing, handed on piece by piece; `Ok(None)` when the connection ended before its end.
    /// `raw` sees the bytes with their framing.
    pub fn body(
        &mut self,
        from: &mut impl Read,
        framing: Framing,
        mut raw: impl FnMut(&[u8]),
        mut content: impl FnMut(&[u8]),
    ) -> io::Result<Option<Headers>> {
        match framing {
            Framing::Unsaid => loop {
                let piece = self.some(from, usize::MAX)?;
                if piece.is_empty() {
                    return Ok(Some(Headers::default()));
                }
                raw(&piece);
                content(&piece);
            },
            Framing::Length(length) => {
                let whole = self.exactly(from, length, |piece| {
                    raw(piece);
                    content(piece);
                })?;
                Ok(whole.then(Headers::default))
            }
            Framing::Chunked => loop {
                let Some(line) = self.until(from, b"\r\n")? else { return Ok(None) };
                raw(&line);
                let text = String::from_utf8_lossy(&line).into_owned();
                let digits = text.trim_end().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("chunk size `{text}`"));
                if size == 0 {
                    return self.trailers(from, raw);
                }
                let whole = self.exactly(from, size, |piece| {
                    raw(piece);
                    content(piece);
                })?;
                let Some(end) = (if whole { self.until(from, b"\r\n")? } else { None }) else { return Ok(None) };
                raw(&end);
            },
        }
    }

    fn trailers(&mut self, from: &mut impl Read, mut raw: impl FnMut(&[u8])) -> io::Result<Option<Headers>> {
        let mut trailers = Headers::default();
        loop {
            let Some(line) = self.until(from, b"\r\n")? else { return Ok(None) };
            raw(&line);
            if line == b"\r\n" {
                return Ok(Some(trailers));
            }
            let mut block = b"\r\n".to_vec();
            block.extend_from_slice(&line);
            trailers.0.extend(Head::parse(&block).headers.0);
        }
    }

    fn exactly(&mut self, from: &mut impl Read, count: u64, mut sink: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut left = count;
        while left > 0 {
            let piece = self.some(from, usize::try_from(left).unwrap_or(usize::MAX))?;
            if piece.is_empty() {
                return Ok(false);
            }
            left -= piece.len() as u64;
            sink(&piece);
        }
        Ok(true)
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let rest = self.held.split_off(most.min(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }
}

/// Where the needle begins.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

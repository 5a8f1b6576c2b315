//! A client that writes the bytes it is given and reads what comes back, over plain TCP or TLS.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::message::{Buffered, Framing, Head, Headers, Response};

/// What bytes travel over.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    tcp: TcpStream,
    buffer: Buffered,
}

impl Wire {
    /// Connects; every read and write gives up after [`PATIENCE`].
    pub fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to).unwrap()
    }

    /// Connects, or says why not.
    pub fn try_connect(to: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect_timeout(&to, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        Ok(Self { stream: Box::new(tcp.try_clone()?), tcp, buffer: Buffered::default() })
    }

    /// The same connection under TLS or whatever else wraps its bytes.
    pub fn wrapped(self, wrap: impl FnOnce(TcpStream) -> Box<dyn Stream>) -> Self {
        let stream = wrap(self.tcp.try_clone().unwrap());
        Self { stream, ..self }
    }

    /// Gives up reads after this long.
    pub fn read_timeout(&self, limit: Duration) {
        self.tcp.set_read_timeout(Some(limit)).unwrap();
    }

    /// Sends exactly these bytes. What the other side no longer reads is no fault here: its answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).ok();
        self
    }

    /// Sends exactly these bytes, or says why not.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) -> &mut Self {
        self.tcp.shutdown(Shutdown::Write).ok();
        self
    }

    /// The next head, interim ones included.
    pub fn head(&mut self) -> Head {
        self.try_head().expect("a head, not the end of the connection")
    }

    /// The next head; `None` when the connection ends first.
    pub fn try_head(&mut self) -> Option<Head> {
        self.buffer.head(&mut self.stream).unwrap()
    }

    /// The next final response to a request that was no HEAD.
    pub fn response(&mut self) -> Response {
        self.try_response().expect("a response, not the end of the connection")
    }

    /// The next final response; `None` when the connection ends before its head.
    pub fn try_response(&mut self) -> Option<Response> {
        loop {
            let head = self.try_head()?;
            if head.status() >= 200 {
                return Some(self.rest_of(head));
            }
        }
    }

    /// The response to a HEAD request: no body follows.
    pub fn bodiless_response(&mut self) -> Response {
        Response { head: self.head(), body: Vec::new(), trailers: Headers::default(), whole: true }
    }

    /// The body that follows this head.
    pub fn rest_of(&mut self, head: Head) -> Response {
        let framing = if matches!(head.status(), 204 | 304) { Framing::Length(0) } else { head.framing() };
        let mut body = Vec::new();
        let ended = self.buffer.body(&mut self.stream, framing, |_| (), |piece| body.extend_from_slice(piece)).unwrap();
        Response { head, body, whole: ended.is_some(), trailers: ended.unwrap_or_default() }
    }

    /// Reads until this text has arrived and gives everything up to its end.
    pub fn until(&mut self, text: impl AsRef<[u8]>) -> Vec<u8> {
        let text = text.as_ref();
        let read = self.buffer.until(&mut self.stream, text).unwrap();
        read.unwrap_or_else(|| panic!("the connection ended before `{}`", String::from_utf8_lossy(text)))
    }

    /// Reads exactly this many bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < count {
            let piece = self.buffer.some(&mut self.stream, count - read.len()).unwrap();
            assert!(!piece.is_empty(), "the connection ended after {} of {count} bytes", read.len());
            read.extend_from_slice(&piece);
        }
        read
    }

    /// Whatever still comes until the other side closes.
    ///
    /// # Panics
    /// When it does not close in time.
    pub fn until_closed(&mut self) -> Vec<u8> {
        self.buffered_until_closed().expect("the other side to close the connection")
    }

    /// Whether the other side keeps the connection open and silent for this long.
    pub fn stays_silent_for(&mut self, time: Duration) -> bool {
        if !self.buffer.held().is_empty() {
            return false;
        }
        self.read_timeout(time);
        let read = self.buffer.fill(&mut self.stream);
        self.read_timeout(PATIENCE);
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    fn buffered_until_closed(&mut self) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        loop {
            let piece = self.buffer.some(&mut self.stream, usize::MAX)?;
            if piece.is_empty() {
                return Ok(read);
            }
            read.extend_from_slice(&piece);
        }
    }
}

/// A request in the making; its bytes are exactly what was asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    to: SocketAddr,
    method: String,
    target: String,
    head: String,
    host: Option<String>,
    body: Option<Vec<u8>>,
}

impl Ask {
    /// A request to this address.
    pub fn new(to: SocketAddr, method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { to, method, target, head: String::new(), host: Some(to.to_string()), body: None }
    }

    /// Adds `Authorization: Bearer …`.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        write!(self.head, "{name}: {value}\r\n").unwrap();
        self
    }

    /// Another `Host` than the address, or none.
    pub fn host(mut self, host: Option<&str>) -> Self {
        self.host = host.map(str::to_owned);
        self
    }

    /// A body, with its `Content-Length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        self.body = Some(body.to_vec());
        self.header("Content-Length", &body.len().to_string())
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let host = self.host.as_ref().map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
        let mut bytes = format!("{} {} HTTP/1.1\r\n{host}{}\r\n", self.method, self.target, self.head).into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends the request on a connection of its own and leaves it open for whatever follows.
    pub fn open(&self) -> Wire {
        let mut wire = Wire::connect(self.to);
        wire.send(self.bytes());
        wire
    }

    /// Sends the request on a connection of its own and reads the whole response.
    pub fn send(&self) -> Response {
        let mut wire = self.open();
        if self.method == "HEAD" { wire.bodiless_response() } else { wire.response() }
    }

    /// Sends the request to a gateway that may go away at any moment; `None` when it did.
    pub fn attempt(&self) -> Option<Response> {
        let mut wire = Wire::try_connect(self.to).ok()?;
        wire.try_send(self.bytes()).ok()?;
        wire.try_response()
    }

    /// Sends the request, expects this status and gives the response.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Response {
        let response = self.send();
        assert_eq!(
            response.status(),
            status,
            "{} {}: {:?}\n{}",
            self.method,
            self.target,
            response.head.headers.0,
            response.text()
        );
        response
    }
}

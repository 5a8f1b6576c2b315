//! HTTP/2 frame by frame (RFC 9113), for what no well-behaved library does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;

/// Of DATA and HEADERS: nothing follows.
pub const END_STREAM: u8 = 1;
/// Of SETTINGS and PING: it is an answer.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A setting: how much of a stream may be sent at first, in bytes.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The header block of a response with status 200 and nothing else (RFC 7541, appendix A).
pub const STATUS_200: [u8; 1] = [0x88];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends its stream as it should.
    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// One connection. Settings and pings of the other side are answered; window is given only when told to.
pub struct Frames {
    stream: TcpStream,
    /// How much of a stream may be sent at first, in bytes, as far as the other side has said.
    pub initial_window: u32,
}

impl Frames {
    /// Connects as a client.
    pub fn connect(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        let mut frames = Self::over(stream);
        frames.stream.write_all(PREFACE).unwrap();
        frames.settings(settings);
        frames
    }

    /// Takes each connection of a new socket as a server, on a thread of its own.
    pub fn listen(serve: impl Fn(&mut Self) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = std::sync::Arc::new(serve);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let serve = std::sync::Arc::clone(&serve);
                thread::spawn(move || {
                    let mut frames = Self::over(stream);
                    let mut preface = [0; PREFACE.len()];
                    if frames.stream.read_exact(&mut preface).is_ok() && preface == PREFACE {
                        frames.settings(&[]);
                        serve(&mut frames);
                    }
                });
            }
        });
        addr
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, initial_window: 65_535 }
    }

    /// Sends a frame; a connection that is gone shows when the next one is read.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.stream.write_all(&bytes).ok();
        self
    }

    /// Begins a request: `GET`, or `POST` with a body to follow.
    pub fn request(&mut self, stream: u32, path: &str, headers: &[(&str, &str)], has_body: bool) -> &mut Self {
        let mut block = vec![if has_body { 0x83 } else { 0x82 }, 0x86];
        for (name, value) in [(":path", path), (":authority", "gw")].iter().chain(headers) {
            block.push(0);
            string(&mut block, name);
            string(&mut block, value);
        }
        let flags = if has_body { END_HEADERS } else { END_HEADERS | END_STREAM };
        self.send(HEADERS, flags, stream, &block)
    }

    /// Begins a response.
    pub fn ok(&mut self, stream: u32) -> &mut Self {
        self.send(HEADERS, END_HEADERS, stream, &STATUS_200)
    }

    /// Breaks a stream off for this reason.
    pub fn reset(&mut self, stream: u32, reason: u32) -> &mut Self {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes())
    }

    /// Lets the other side send so many bytes more, on the stream and on the connection.
    pub fn give_window(&mut self, stream: u32, bytes: u32) -> &mut Self {
        for stream in [0, stream] {
            self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
        }
        self
    }

    /// The next frame of a stream; none when the connection is over.
    ///
    /// # Panics
    /// When nothing comes for [`PATIENCE`].
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next_of_any()?;
            if frame.stream != 0 {
                return Some(frame);
            }
        }
    }

    /// The next frame of a stream or of the connection; none when it is over.
    ///
    /// # Panics
    /// When nothing comes for [`PATIENCE`].
    pub fn next_of_any(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            match self.stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("nothing comes, and the connection stays open")
                }
                Err(_) => return None,
            }
            let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte));
            let mut payload = vec![0; number(&head[..3]) as usize];
            self.stream.read_exact(&mut payload).ok()?;
            let frame = Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload };
            if frame.kind == SETTINGS {
                let window = INITIAL_WINDOW_SIZE.to_be_bytes();
                for setting in frame.payload.chunks_exact(6).filter(|setting| setting[..2] == window) {
                    self.initial_window = number(&setting[2..]);
                }
            }
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let echo = if frame.kind == PING { frame.payload } else { Vec::new() };
                    self.send(frame.kind, ACK, 0, &echo);
                }
                _ => return Some(frame),
            }
        }
    }

    /// The next frame of this kind.
    ///
    /// # Panics
    /// When the connection ends before it.
    pub fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().expect("a frame, not the end of the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The frames up to the one that ends a stream, as it should or by a reset; all there are when the connection ends.
    pub fn rest(&mut self) -> Vec<Frame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next() {
            let last = frame.ends() || frame.kind == RST_STREAM;
            all.push(frame);
            if last {
                break;
            }
        }
        all
    }

    fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()))
            .collect();
        self.send(SETTINGS, 0, 0, &payload);
    }
}

/// A text as HPACK has it, neither compressed nor indexed (RFC 7541 §5.2).
fn string(block: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length @ ..127) => block.push(length),
        _ => {
            block.push(127);
            let mut left = text.len() - 127;
            while left >= 128 {
                block.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            block.push(u8::try_from(left).unwrap());
        }
    }
    block.extend_from_slice(text.as_bytes());
}

//! An upstream on a real socket that records the bytes it receives and answers as its script says.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::message::{Buffered, Framing, Head, Headers};
use super::wire::Stream;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and headers, as received.
    pub head: Head,
    /// The body's bytes with their framing.
    pub raw_body: Vec<u8>,
    /// The body without it.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Headers,
    /// False when the connection ended before the body was whole.
    pub whole: bool,
    /// Counts the connections, from 1.
    pub connection: usize,
}

impl Received {
    /// The value of the only header line with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.one(name)
    }

    /// All that was received, as one text in Latin-1.
    pub fn text(&self) -> String {
        self.head.raw.iter().chain(&self.raw_body).map(|byte| char::from(*byte)).collect()
    }
}

/// The upstream; its thread ends with the process.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    connections: AtomicUsize,
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    closed: Vec<usize>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }
}

/// What a script does with a request: an error ends the connection, and so does `Ok(false)`.
pub type Script = dyn Fn(&mut Exchange<'_>) -> io::Result<bool> + Send + Sync;

impl Upstream {
    /// Answers every request with 200 and this body.
    pub fn fixed(body: &'static str) -> Self {
        Self::scripted(move |exchange| {
            exchange.read_body()?;
            exchange.answer("200 OK", &[("Content-Type", "text/plain")], body)
        })
    }

    /// Answers every request with the bytes of its own request, head and framed body.
    pub fn echo() -> Self {
        Self::scripted(|exchange| {
            exchange.read_body()?;
            let mut bytes = exchange.received.head.raw.clone();
            bytes.extend_from_slice(&exchange.received.raw_body);
            exchange.answer("200 OK", &[("Content-Type", "application/octet-stream")], bytes)
        })
    }

    /// Does what the script says with each request.
    pub fn scripted(script: impl Fn(&mut Exchange<'_>) -> io::Result<bool> + Send + Sync + 'static) -> Self {
        Self::wrapped(|stream| Ok(Box::new(stream) as Box<dyn Stream>), script)
    }

    /// The same behind TLS or whatever else wraps the bytes of a connection.
    pub fn wrapped(
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (wrap, script, inner) = (Arc::new(wrap), Arc::new(script), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = inner.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (wrap, script, shared) = (Arc::clone(&wrap), Arc::clone(&script), Arc::clone(&inner));
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE * 2)).ok();
                    stream.set_nodelay(true).ok();
                    if let Ok(wrapped) = wrap(stream) {
                        serve(wrapped, number, &*script, &shared).ok();
                    }
                    shared.change(|seen| seen.closed.push(number));
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.seen().received.clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "requests received: {received:#?}");
        received.remove(0)
    }

    /// The newest request.
    #[track_caller]
    pub fn last(&self) -> Received {
        self.received().pop().expect("a request received")
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.change(|seen| seen.received.clear());
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many requests were received.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait("requests", |seen| seen.received.len() >= count).received.clone()
    }

    /// Waits until the connection with this number has ended.
    pub fn wait_until_closed(&self, connection: usize) {
        drop(self.wait("the end of a connection", |seen| seen.closed.contains(&connection)));
    }

    fn wait(&self, what: &str, mut enough: impl FnMut(&Seen) -> bool) -> MutexGuard<'_, Seen> {
        let start = Instant::now();
        let mut seen = self.shared.seen();
        while !enough(&seen) {
            let left = PATIENCE.checked_sub(start.elapsed()).unwrap_or_default();
            assert!(left > Duration::ZERO, "waited in vain for {what}: {:#?}", seen.received);
            seen = self.shared.changed.wait_timeout(seen, left).unwrap().0;
        }
        seen
    }
}

fn serve(stream: Box<dyn Stream>, connection: usize, script: &Script, shared: &Shared) -> io::Result<()> {
    let mut stream = stream;
    let mut buffer = Buffered::default();
    while let Some(head) = buffer.head(&mut stream)? {
        let received = Received {
            head,
            raw_body: Vec::new(),
            body: Vec::new(),
            trailers: Headers::default(),
            whole: false,
            connection,
        };
        let mut exchange =
            Exchange { received, stream: &mut *stream, buffer: &mut buffer, shared, read: false, told: false };
        let goes_on = script(&mut exchange);
        exchange.tell();
        if !goes_on? {
            return Ok(());
        }
    }
    Ok(())
}

/// One request in a script's hands.
pub struct Exchange<'a> {
    /// What arrived so far.
    pub received: Received,
    /// The connection, for scripts that write bytes of their own.
    pub stream: &'a mut dyn Stream,
    buffer: &'a mut Buffered,
    shared: &'a Shared,
    read: bool,
    told: bool,
}

impl Exchange<'_> {
    /// Reads and records the request's body, and tells who waits that the request is there.
    pub fn read_body(&mut self) -> io::Result<()> {
        let mut body = std::mem::take(&mut self.received.body);
        let mut raw = std::mem::take(&mut self.received.raw_body);
        let read = self.each_piece(|piece| raw.extend_from_slice(piece), |piece| body.extend_from_slice(piece));
        (self.received.body, self.received.raw_body) = (body, raw);
        read?;
        self.tell();
        Ok(())
    }

    /// Reads the request's body without keeping it and gives its length.
    pub fn count_body(&mut self) -> io::Result<u64> {
        let mut count = 0;
        self.each_piece(|_| (), |piece| count += piece.len() as u64)?;
        Ok(count)
    }

    /// Reads some bytes that follow the head, unframed.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        self.buffer.some(&mut ReadOnly(self.stream), usize::MAX)
    }

    /// Tells who waits that the request is there, before the script is done with it.
    pub fn tell(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            let received = self.received.clone();
            self.shared.change(|seen| seen.received.push(received));
        }
    }

    /// Writes these bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Writes a response with `Content-Length`; the connection goes on. Whoever hears it finds the request among those that
    /// were received.
    pub fn answer(&mut self, status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> io::Result<bool> {
        let body = body.as_ref();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut bytes = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        if self.received.head.method() != "HEAD" {
            bytes.extend_from_slice(body);
        }
        self.tell();
        self.send(bytes)?;
        Ok(true)
    }

    /// Blocks until the other side closes.
    pub fn until_closed(&mut self) -> io::Result<()> {
        while !self.some()?.is_empty() {}
        Ok(())
    }

    fn each_piece(&mut self, raw: impl FnMut(&[u8]), content: impl FnMut(&[u8])) -> io::Result<()> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(());
        }
        let framing = match self.received.head.framing() {
            Framing::Unsaid => Framing::Length(0),
            said => said,
        };
        let trailers = self.buffer.body(&mut ReadOnly(self.stream), framing, raw, content)?;
        self.received.whole = trailers.is_some();
        self.received.trailers = trailers.unwrap_or_default();
        Ok(())
    }
}

struct ReadOnly<'a>(&'a mut dyn Stream);

impl Read for ReadOnly<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

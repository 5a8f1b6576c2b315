//! One call over a scripted connection, by hyper's client and by the gateway's own, and what each made of it. Nothing
//! here waits for anything: a call that would wait for more than the script has is one that stalls.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use carta_gateway::upstream::RequestHead;
use carta_gateway::upstream::h1::{Connection, Fault};
use http::header::HOST;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the upstream says once it was asked: in these pieces, then the end, or nothing more.
#[derive(Clone, Debug)]
pub struct Script {
    pub pieces: Vec<Vec<u8>>,
    pub ends: bool,
}

/// What a client made of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub interim: Vec<u16>,
    pub head: Result<Head, Refusal>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
    pub end: End,
    /// Whether another request may be sent.
    pub kept: bool,
    /// What was sent, lines of the head in order.
    pub sent: (Vec<Vec<u8>>, Vec<u8>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub version: http::Version,
    pub reason: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub length: Option<u64>,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotHttp,
    Closed,
    Stalls,
    Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    Broken,
    Stalls,
}

/// A request's body, in these pieces.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    pub left: VecDeque<Bytes>,
    pub trailers: Option<HeaderMap>,
    /// Whether it says how long it is.
    pub tells: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.left.pop_front().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let size = self.left.iter().map(|piece| piece.len() as u64).sum();
        if self.tells { SizeHint::with_exact(size) } else { SizeHint::default() }
    }
}

/// The scripted connection.
struct Wire {
    script: VecDeque<Vec<u8>>,
    ends: bool,
    sent: Arc<Mutex<Vec<u8>>>,
    reader: Option<Waker>,
}

impl Wire {
    fn new(script: &Script) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let sent = Arc::default();
        let pieces = script.pieces.iter().filter(|piece| !piece.is_empty()).cloned().collect();
        (Self { script: pieces, ends: script.ends, sent: Arc::clone(&sent), reader: None }, sent)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sent.lock().unwrap().is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(mut piece) = self.script.pop_front() else {
            return if self.ends { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.script.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.lock().unwrap().extend_from_slice(bytes);
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the future comes to; none where it stalls.
fn run<F: Future>(future: F) -> Option<F::Output> {
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        if !flag.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
}

/// The gateway's own client.
pub fn own(request: Request<Pieces>, script: &Script) -> Seen {
    let (wire, sent) = Wire::new(script);
    let interim = RefCell::new(Vec::new());
    let connection = Connection::new(wire);
    let informed = |status: StatusCode| interim.borrow_mut().push(status.as_u16());
    let (mut parts, body) = request.into_parts();
    let host = parts.headers.remove(HOST).unwrap();
    let answered = run(connection.clone().send(&RequestHead::from(&parts), &host, body, informed));
    drop(connection);
    let answered = answered.ok_or(Refusal::Stalls).and_then(|answered| {
        answered.map_err(|failed| match failed.fault {
            Fault::Closed(_) => Refusal::Closed,
            Fault::Malformed(_) => Refusal::NotHttp,
            Fault::Body(_) => Refusal::Request,
        })
    });
    let mut seen = Seen::begin(answered, |body| body.size_hint().exact());
    if let (Ok(head), Some(mut body)) = (&seen.0.head, seen.1) {
        let switches = head.status == 101;
        seen.0.end = read(&mut body, &mut seen.0.body, &mut seen.0.trailers, |future| run(future));
        let kept = if seen.0.end == End::Whole { body.take_kept() } else { None };
        seen.0.kept = kept.is_some_and(|connection| connection.is_ready()) && !switches;
    }
    finish(seen.0, interim.into_inner(), &sent)
}

/// hyper's.
pub fn hypers(mut request: Request<Pieces>, script: &Script) -> Seen {
    let (wire, sent) = Wire::new(script);
    let interim = Arc::new(Mutex::new(Vec::new()));
    let informed = Arc::clone(&interim);
    hyper::ext::on_informational(&mut request, move |head| informed.lock().unwrap().push(head.status().as_u16()));
    let handshake = http1::Builder::new().max_header_size(256 * 1024).handshake(TokioIo::new(wire));
    let (mut sender, connection) = run(handshake).unwrap().unwrap();
    let mut connection = Box::pin(connection.with_upgrades());
    let over = Cell::new(false);
    let mut beside = |cx: &mut Context<'_>| {
        if !over.get() && connection.as_mut().poll(cx).is_ready() {
            over.set(true);
        }
    };
    let answered = run(with(&mut beside, sender.send_request(request))).ok_or(Refusal::Stalls);
    let answered = answered.and_then(|answered| {
        answered.map_err(|error| match () {
            () if error.is_parse() => Refusal::NotHttp,
            () if error.is_user() => Refusal::Request,
            () => Refusal::Closed,
        })
    });
    let mut seen = Seen::begin(answered, |body| body.size_hint().exact());
    if let (Ok(_), Some(mut body)) = (&seen.0.head, seen.1) {
        seen.0.end = read(&mut body, &mut seen.0.body, &mut seen.0.trailers, |future| run(with(&mut beside, future)));
        let ready = run(with(&mut beside, sender.ready()));
        seen.0.kept = seen.0.end == End::Whole && ready.is_some_and(|ready| ready.is_ok()) && !over.get();
    }
    let interim = interim.lock().unwrap().clone();
    finish(seen.0, interim, &sent)
}

/// The future, with something else that is polled each time before it.
fn with<'a, F: Future + 'a>(
    beside: &'a mut impl FnMut(&mut Context<'_>),
    future: F,
) -> impl Future<Output = F::Output> + 'a {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        beside(cx);
        let polled = future.as_mut().poll(cx);
        beside(cx);
        polled
    })
}

impl Seen {
    fn begin<R>(answered: Result<Response<R>, Refusal>, length: impl Fn(&R) -> Option<u64>) -> (Self, Option<R>) {
        let mut seen = Self {
            interim: Vec::new(),
            head: Err(Refusal::Stalls),
            body: Vec::new(),
            trailers: Vec::new(),
            end: End::Broken,
            kept: false,
            sent: Default::default(),
        };
        match answered {
            Err(refusal) => {
                seen.head = Err(refusal);
                (seen, None)
            }
            Ok(response) => {
                let (parts, body) = response.into_parts();
                seen.head = Ok(Head {
                    status: parts.status.as_u16(),
                    version: parts.version,
                    reason: parts.extensions.get::<ReasonPhrase>().map(|reason| reason.as_bytes().to_vec()),
                    headers: lines(&parts.headers),
                    length: length(&body),
                });
                (seen, Some(body))
            }
        }
    }
}

type NextFrame<'a, E> = Pin<Box<dyn Future<Output = Option<Result<Frame<Bytes>, E>>> + 'a>>;

fn read<R: Body<Data = Bytes> + Unpin>(
    body: &mut R,
    data: &mut Vec<u8>,
    trailers: &mut Vec<(String, Vec<u8>)>,
    mut run: impl FnMut(NextFrame<'_, R::Error>) -> Option<Option<Result<Frame<Bytes>, R::Error>>>,
) -> End {
    loop {
        let next = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match run(Box::pin(next)) {
            None => return End::Stalls,
            Some(None) => return End::Whole,
            Some(Some(Err(_))) => return End::Broken,
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers.extend(lines(&frame.into_trailers().unwrap_or_default())),
            },
        }
    }
}

fn finish(mut seen: Seen, interim: Vec<u16>, sent: &Mutex<Vec<u8>>) -> Seen {
    seen.interim = interim;
    let sent = sent.lock().unwrap();
    let head = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(sent.len());
    let (head, body) = sent.split_at(head);
    let mut lines: Vec<_> = head.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.iter_mut().for_each(|line| line.retain(|byte| *byte != b'\r'));
    // Where framing headers stand among the others is no framing.
    lines.sort();
    seen.sent = (lines, body.to_vec());
    seen
}

fn lines(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

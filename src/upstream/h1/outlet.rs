//! The way out: a request's head and body, as far as the upstream takes them.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, MAX_FORWARDS,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::head::{self, Coding};
use crate::upstream::RequestHead;
use crate::wiped::Buffer;

/// Pieces up to this many bytes are copied behind what is to be written before them: one short write costs less than
/// telling the kernel of several places.
const SMALL: usize = 4 * 1024;

/// So much waits at most before it is written.
const ENOUGH: usize = 16 * 1024;

/// What may not come as a trailer (RFC 9110 §6.5.1).
const NO_TRAILERS: [HeaderName; 12] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TRAILER,
    TRANSFER_ENCODING,
    TE,
];

/// What is on its way to the upstream.
pub(super) struct Outlet<B> {
    /// Heads, sizes, small pieces.
    front: Buffer,
    /// How much of `front` went.
    gone: usize,
    /// A large piece, and what comes after it.
    piece: Bytes,
    after: &'static [u8],
    body: Option<B>,
    coding: Coding,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is to be sent.
    Over,
    /// Nothing was taken of the body, and nothing went.
    Untouched,
    /// Some was or did.
    Going,
}

/// Why a request did not go out whole.
pub(super) enum Stuck {
    /// The connection takes no more.
    Io(io::Error),
    /// The body's own doing.
    Body(Box<dyn Error + Send + Sync>),
}

impl<B> Outlet<B> {
    pub(super) fn new() -> Self {
        Self {
            front: Buffer::default(),
            gone: 0,
            piece: Bytes::new(),
            after: b"",
            body: None,
            coding: Coding::Length(0),
            state: State::Over,
        }
    }

    /// Whether all of the request went.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether there is nothing to send besides the head.
    pub(super) fn is_bare(&self) -> bool
    where
        B: Body,
    {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Sends no more; the body, where it is certain that nothing of the request went.
    pub(super) fn abandon(&mut self) -> Option<B> {
        let untouched = self.state == State::Untouched;
        self.state = State::Over;
        self.piece = Bytes::new();
        self.after = b"";
        self.wipe();
        self.body.take().filter(|_| untouched)
    }

    /// Gives back what memory the last request needed beyond the usual.
    pub(super) fn rest(&mut self) {
        if self.front.capacity() > 2 * ENOUGH {
            self.front = Buffer::default();
        }
    }

    /// Empties the front. It had secrets in it.
    fn wipe(&mut self) {
        self.front.clear();
        self.gone = 0;
    }

    fn waits(&self) -> bool {
        self.gone < self.front.len() || !self.piece.is_empty() || !self.after.is_empty()
    }
}

impl<B> Outlet<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Takes up a request; all before must have gone.
    pub(super) fn take(&mut self, head: &RequestHead, host: &HeaderValue, body: B) {
        self.coding = head::write(head, host, &body, &mut self.front);
        self.state = State::Untouched;
        self.body = Some(body);
    }

    /// Sends what can be sent; ready when all is.
    pub(super) fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<Result<(), Stuck>> {
        while self.state != State::Over {
            let filled = self.fill(cx)?;
            while self.waits() {
                let wrote = ready!(self.write(cx, stream)).map_err(Stuck::Io)?;
                if wrote == 0 {
                    return Poll::Ready(Err(Stuck::Io(io::ErrorKind::WriteZero.into())));
                }
                self.state = State::Going;
                self.advance(wrote);
            }
            let flushed = Pin::new(&mut *stream).poll_flush(cx).map_err(Stuck::Io)?;
            if self.body.is_none() {
                ready!(flushed);
                self.state = State::Over;
            } else {
                ready!(filled);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Asks the body for more, as long as there is room. Pending: the body has nothing now.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stuck>> {
        if self.gone > 0 {
            // What was added behind a front of which some went would keep it from ever being empty.
            return Poll::Ready(Ok(()));
        }
        while self.piece.is_empty() && self.after.is_empty() && self.front.len() < ENOUGH {
            let Some(body) = &mut self.body else { break };
            if body.is_end_stream() {
                self.end(None)?;
                break;
            }
            match ready!(Pin::new(body).poll_frame(cx)) {
                None => self.end(None)?,
                Some(Err(error)) => return Poll::Ready(Err(Stuck::Body(error.into()))),
                Some(Ok(frame)) => {
                    self.state = State::Going;
                    match frame.into_data() {
                        Ok(data) => self.add(data),
                        Err(frame) => self.end(frame.into_trailers().ok())?,
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, mut data: Bytes) {
        let after: &[u8] = match &mut self.coding {
            _ if data.is_empty() => return,
            Coding::Chunked(_) => {
                self.front.push(format!("{:X}\r\n", data.len()).as_bytes());
                b"\r\n"
            }
            Coding::Length(left) => {
                // No more than was promised goes: it would be read as the next request.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                if *left == 0 {
                    self.body = None;
                }
                b""
            }
        };
        if data.len() <= SMALL {
            self.front.push(&data);
            self.front.push(after);
        } else {
            self.piece = data;
            self.after = after;
        }
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Stuck> {
        self.body = None;
        match &self.coding {
            Coding::Length(0) => Ok(()),
            Coding::Length(_) => Err(Stuck::Body("it is shorter than it said".into())),
            Coding::Chunked(announced) => {
                self.front.push(b"0\r\n");
                for (name, value) in trailers.iter().flatten() {
                    if announced.contains(name) && !NO_TRAILERS.contains(name) {
                        head::line(name, value, &mut self.front);
                    }
                }
                self.front.push(b"\r\n");
                Ok(())
            }
        }
    }

    fn write<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<usize>> {
        let front = self.front.bytes().get(self.gone..).unwrap_or_default();
        if self.piece.is_empty() && self.after.is_empty() {
            return Pin::new(stream).poll_write(cx, front);
        }
        if !stream.is_write_vectored() {
            let first = [front, &self.piece, self.after].into_iter().find(|part| !part.is_empty());
            return Pin::new(stream).poll_write(cx, first.unwrap_or_default());
        }
        let parts = [IoSlice::new(front), IoSlice::new(&self.piece), IoSlice::new(self.after)];
        Pin::new(stream).poll_write_vectored(cx, &parts)
    }

    fn advance(&mut self, wrote: usize) {
        let front = wrote.min(self.front.len() - self.gone);
        self.gone += front;
        if self.gone == self.front.len() {
            self.wipe();
        }
        let piece = (wrote - front).min(self.piece.len());
        self.piece.advance(piece);
        let after = (wrote - front - piece).min(self.after.len());
        self.after = self.after.get(after..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Method;
    use http_body::{Frame, SizeHint};

    use super::*;

    /// Takes so many bytes, then waits, in turns.
    struct Slow(usize, bool);

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1 = !self.1;
            if self.1 { Poll::Ready(Ok(bytes.len().min(self.0))) } else { Poll::Pending }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// So many small pieces, at once.
    struct Pieces(usize);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    #[test]
    fn an_upstream_that_takes_little_at_a_time_does_not_make_the_front_grow() {
        let mut outlet = Outlet::new();
        let mut head = RequestHead::default();
        head.method = Method::POST;
        outlet.take(&head, &HeaderValue::from_static("h"), Pieces(4096));
        let (mut wire, mut most) = (Slow(8 * 1024, false), 0);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while outlet.poll(&mut cx, &mut wire).is_pending() {
            most = most.max(outlet.front.len());
        }
        assert!(outlet.is_over() && most <= ENOUGH + SMALL, "{most}");
    }
}

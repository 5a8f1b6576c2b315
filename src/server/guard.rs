//! What stands between hyper and the handler: requests that no handler should see are answered here, and answers are
//! counted until their last byte is handed over.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};

use crate::config::Limits;
use crate::problem::{Kind, Problem};

/// How many desks that nobody uses a thread keeps.
const FREE_DESKS: usize = 64;

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    open: Cell<u32>,
    calls: Cell<u64>,
    had_body: Cell<bool>,
    turn: Cell<Option<Turn>>,
}

/// Who keeps an answer from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The caller: a piece was handed over, and no further one was asked for.
    Callers,
    /// We, or the upstream: the next piece is not there yet.
    Ours,
}

impl Activity {
    /// Calls whose answer is not whole yet.
    pub(super) fn open(&self) -> u32 {
        self.open.get()
    }

    /// Calls ever made.
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Whether the last call came with a body, of which some may not have been read.
    pub(super) fn had_body(&self) -> bool {
        self.had_body.get()
    }

    /// What the body that was asked last said, if any was since the last call.
    pub(super) fn take_turn(&self) -> Option<Turn> {
        self.turn.take()
    }

    /// Counts a call until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>, has_body: bool) -> Open {
        self.had_body.set(has_body);
        self.open.set(self.open.get().saturating_add(1));
        self.calls.set(self.calls.get().wrapping_add(1));
        Open(Rc::clone(self))
    }
}

/// One call under way.
#[derive(Debug)]
pub(super) struct Open(Rc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

pin_project_lite::pin_project! {
    /// The body of an answer.
    #[derive(Debug)]
    pub(super) struct Answer<B> {
        #[pin]
        body: Source<B>,
        piece: usize,
        rest: Bytes,
        open: Open,
    }
}

pin_project_lite::pin_project! {
    #[project = SourceProjection]
    #[derive(Debug)]
    enum Source<B> {
        Handler { #[pin] body: B },
        Refusal { text: Option<Bytes> },
    }
}

impl<B> Answer<B> {
    /// The handler's answer, handed over in pieces of at most `piece` bytes.
    pub(super) fn handler(response: Response<B>, piece: usize, open: Open) -> Response<Self> {
        response.map(|body| Self { body: Source::Handler { body }, piece, rest: Bytes::new(), open })
    }

    /// A refusal, in one piece.
    pub(super) fn refusal(response: Response<Bytes>, open: Open) -> Response<Self> {
        response.map(|text| Self {
            body: Source::Refusal { text: Some(text) },
            piece: usize::MAX,
            rest: Bytes::new(),
            open,
        })
    }
}

/// An answer that is being made. The handler's future is the largest part of a call, and hyper moves it several times and
/// keeps room for it in every connection: in its desk it is written once, and an idle connection has none.
pub(super) enum Answering<F> {
    Handler { answer: Desk<F>, piece: usize, open: Option<Open> },
    Refusal { refusal: Option<Box<Response<Bytes>>>, open: Option<Open> },
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<F> {
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match self.get_mut() {
            Self::Handler { answer, piece, open } => {
                let response = ready!(answer.poll(cx));
                open.take().map(|open| Answer::handler(response, *piece, open))
            }
            Self::Refusal { refusal, open } => {
                refusal.take().zip(open.take()).map(|(refusal, open)| Answer::refusal(*refusal, open))
            }
        };
        // Without an answer it was given before, and nobody may ask again.
        answer.map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let polled = if this.rest.is_empty() {
            match this.body.project() {
                SourceProjection::Handler { body } => body.poll_frame(cx),
                SourceProjection::Refusal { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            }
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(this.rest)))))
        };
        this.open.0.turn.set(Some(if polled.is_pending() { Turn::Ours } else { Turn::Callers }));
        match polled {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(|data| data.len() > *this.piece) => {
                Poll::Ready(Some(Ok(frame.map_data(|mut data| {
                    *this.rest = data.split_off(*this.piece);
                    data
                }))))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && match &self.body {
                Source::Handler { body } => body.is_end_stream(),
                Source::Refusal { text } => text.is_none(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = match &self.body {
            Source::Handler { body } => body.size_hint(),
            Source::Refusal { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        };
        let rest = self.rest.len() as u64;
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(rest));
            }
            hint.set_lower(hint.lower().saturating_add(rest));
        }
        hint
    }
}

/// One thread's desks, for the handler's futures: whoever takes the one that was given back last finds it in the
/// processor's cache, and asks no allocator for it.
pub(super) struct Desks<F>(Rc<RefCell<Vec<Place<F>>>>);

/// Room for one future.
type Place<F> = Pin<Box<Option<F>>>;

/// Where the handler's future is while it is polled.
pub(super) struct Desk<F> {
    /// There until it is dropped.
    place: Option<Place<F>>,
    home: Desks<F>,
}

impl<F> Desks<F> {
    /// A desk with this future.
    pub(super) fn take(&self, future: F) -> Desk<F> {
        let free = self.0.borrow_mut().pop();
        let place = match free {
            Some(mut free) => {
                free.set(Some(future));
                free
            }
            None => Box::pin(Some(future)),
        };
        Desk { place: Some(place), home: self.clone() }
    }
}

impl<F> Clone for Desks<F> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<F> Default for Desks<F> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<F: Future> Desk<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        future.map_or(Poll::Pending, |future| future.poll(cx))
    }
}

impl<F> Drop for Desk<F> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        // Not under the borrow: a future may do anything when it is dropped.
        place.set(None);
        let mut free = self.home.0.borrow_mut();
        if free.len() < FREE_DESKS {
            free.push(place);
        }
    }
}

/// The methods that one may try instead; a service may take others, which are passed on as well.
const PASSED: &str = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// Judges what hyper lets through and no handler should have to think about.
pub(super) fn check<B: Body>(request: &Request<B>, limits: &Limits) -> Result<(), Problem> {
    if *request.method() == Method::CONNECT {
        let detail = "`CONNECT` is not served: this is no forward proxy\nask for `/<namespace>/<service>/…`";
        return Err(Problem::new(&Kind::METHOD_NOT_ALLOWED, detail).allow(PASSED));
    }
    // An upstream that answers it sends back what it received, injected secrets too (RFC 9110 §9.3.8).
    if *request.method() == Method::TRACE || request.method().as_str() == "TRACK" {
        let detail =
            "`TRACE` and `TRACK` are not served: they would show what the gateway adds to a request\nsend `GET`";
        return Err(Problem::new(&Kind::METHOD_NOT_ALLOWED, detail).allow(PASSED));
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
        let detail = "the request target is longer than the gateway takes\nsend long input in the body";
        return Err(Problem::new(&Kind::URI_TOO_LONG, detail));
    }
    let headers = request.headers();
    if headers.len() > limits.headers {
        let detail = "the request has more header lines than the gateway takes\nsend fewer";
        return Err(Problem::new(&Kind::HEADERS_TOO_LARGE, detail));
    }
    if request.version() == Version::HTTP_11 {
        let mut hosts = headers.get_all(HOST).iter();
        if hosts.next().is_none() || hosts.next().is_some() {
            let detail = "an HTTP/1.1 request needs exactly one `Host` header: RFC 9112 section 3.2\nsend it once";
            return Err(Problem::new(&Kind::MALFORMED_REQUEST, detail));
        }
    }
    if !request.body().is_end_stream() && request.version() < Version::HTTP_2 {
        // hyper takes any list that ends in `chunked`, and hands over the body with the other codings still on.
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !plain || codings.next().is_some() {
            let detail = "no transfer coding but a single `chunked` is understood: RFC 9112 section 6.1\nname \
                          compression in `Content-Encoding`";
            return Err(Problem::new(&Kind::NOT_IMPLEMENTED, detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

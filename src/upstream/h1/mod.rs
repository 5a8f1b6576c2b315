//! HTTP/1.1 towards upstreams (RFC 9112).
//!
//! A [`Connection`] carries one call at a time and has no task of its own: whoever waits for the head of the response
//! drives it, then whoever reads the body. So a call costs one wake-up, where a task in between costs three. What is no
//! response is refused by the same parser and the same rules as hyper's client has; `tests/h1_differential` holds the
//! two against each other.
//!
//! - `head`: heads, and what they say of the length of bodies;
//! - `decode`: bodies as they come in;
//! - `outlet`: requests as they go out;
//! - `reply`: a response's body, and what becomes of the connection after it.

mod decode;
mod head;
mod outlet;
mod reply;

use std::cell::RefCell;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::{io, mem};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

pub use reply::{Reply, Switched};

use super::RequestHead;
use crate::batch::{self, Deferred, Entry};
use decode::Decoder;
pub use head::Length;
use head::{Head, may_end};
use outlet::{Outlet, Stuck};

/// The room that is made for what comes, in bytes: the least, and the most for those who send much.
const ROOM: (usize, usize) = (8 * 1024, 128 * 1024);

/// Why there is no response, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection ended or failed.
    #[error("{0}")]
    Closed(String),
    /// What came is not HTTP.
    #[error("{0}")]
    Malformed(Malformed),
    /// The request's body broke off.
    #[error("the request's body broke off: {0}")]
    Body(String),
}

/// What is not HTTP, in words for the log. Never what was sent: it may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(self) &'static str);

impl From<httparse::Error> for Malformed {
    fn from(error: httparse::Error) -> Self {
        Self(match error {
            httparse::Error::HeaderName => "a header's name is none",
            httparse::Error::HeaderValue => "a header's value is none",
            httparse::Error::NewLine => "a line does not end where it should",
            httparse::Error::Status => "the status line is none",
            httparse::Error::Token => "there is a byte that no token has",
            httparse::Error::TooManyHeaders => "there are too many header lines",
            httparse::Error::Version => "the version is none that is known",
        })
    }
}

/// A call that failed; with the request's body, where it is certain that nothing of the request went.
pub struct Failed<B> {
    /// Why.
    pub fault: Fault,
    /// The body.
    pub unsent: Option<Box<B>>,
}

/// Without the body: it may hold secrets.
impl<B> std::fmt::Debug for Failed<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failed").field("fault", &self.fault).field("unsent", &self.unsent.is_some()).finish()
    }
}

/// A connection to an upstream. Cheap to clone: all clones are the same connection, which is closed with the last.
pub struct Connection<S, B>(Rc<RefCell<Inner<S, B>>>);

struct Inner<S, B> {
    stream: S,
    came: BytesMut,
    room: usize,
    outlet: Outlet<B>,
    /// Who waits, where the request goes at the end of the turn: until then nothing is read.
    deferred: Option<Waker>,
    /// Why a request that was to go at the end of the turn did not.
    stuck: Option<Stuck>,
    /// Whether it carried a call before.
    used: bool,
    /// Why it cannot be used again.
    broken: Option<Fault>,
    /// Whoever reads, where another may find out that it is in vain.
    reader: Option<Waker>,
    /// Whoever sends the rest of a request while another reads.
    sender: Option<Waker>,
    /// Whoever waits for the end of the request.
    settler: Option<Waker>,
}

impl<S, B> Clone for Connection<S, B> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S, B> std::fmt::Debug for Connection<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl<S, B> Connection<S, B> {
    /// Breaks off a request that is still under way: the connection is of no use then, and closes as soon as whoever
    /// sends and whoever reads have let go of it.
    pub fn break_off(&self) {
        let mut inner = self.0.borrow_mut();
        if !inner.outlet.is_over() {
            inner.stop(Stuck::Body("the call was cancelled".into()));
            inner.tell();
        }
    }
}

impl<S, B> Connection<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Over this stream, on which nothing was said yet.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stream,
            came: BytesMut::new(),
            room: ROOM.0,
            outlet: Outlet::new(),
            deferred: None,
            stuck: None,
            used: false,
            broken: None,
            reader: None,
            sender: None,
            settler: None,
        })))
    }

    /// Whether nothing of a call is left on it; not whether it is still open.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let inner = self.0.borrow();
        inner.broken.is_none() && inner.outlet.is_over() && inner.came.is_empty()
    }

    /// Whether a request may be sent: the last one is over, and the upstream has neither closed nor said what nobody
    /// asked for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready_unless(|_| true)
    }

    /// As [`Self::is_ready`], for a stream of which it can be told whether there may be news.
    pub fn is_ready_unless(&self, has_news: impl FnOnce(&S) -> bool) -> bool {
        if !self.is_free() {
            return false;
        }
        if !has_news(&self.0.borrow().stream) {
            return true;
        }
        let mut inner = self.0.borrow_mut();
        // Nobody is to be woken: it is asked again before it is used.
        batch::unbounded(|cx| inner.poll_fill(cx)).is_pending()
    }

    /// Sends the request to this `host` and waits for the head of the response. `informed` hears of interim responses. The
    /// connection must be ready. Dropped before the end it leaves the connection unusable, and closes it unless there is
    /// a clone.
    pub fn send<I: FnMut(StatusCode)>(
        self,
        head: &RequestHead,
        host: &HeaderValue,
        body: B,
        informed: I,
    ) -> Sending<S, B, I> {
        self.0.borrow_mut().outlet.take(head, host, body);
        let (to_head, room) = (head.method == Method::HEAD, head.room());
        Sending { connection: Some(self), awaited: Awaited { begun: false, to_head, informed, read: 0, room } }
    }

    /// Whether all of the request went.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.0.borrow().outlet.is_over()
    }

    /// Goes on sending a request whose response began before its end; ready when it went, or cannot.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let polled = inner.outlet.poll(cx, &mut inner.stream);
        if polled.is_pending() {
            inner.sender = Some(cx.waker().clone());
        }
        if let Err(stuck) = ready!(polled) {
            inner.stop(stuck);
        }
        inner.tell();
        Poll::Ready(())
    }

    /// Returns when the request went, or will not. Somebody else sends it.
    pub async fn sent(&self) {
        poll_fn(|cx| {
            let mut inner = self.0.borrow_mut();
            if inner.outlet.is_over() {
                return Poll::Ready(());
            }
            inner.settler = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Makes it ready to wait for its next call: gives back what memory the last call needed beyond the usual.
    pub fn rest(&self) {
        let mut inner = self.0.borrow_mut();
        inner.used = true;
        if inner.room > ROOM.0 {
            inner.room = ROOM.0;
            inner.came = BytesMut::new();
        }
        inner.outlet.rest();
    }
}

impl<S, B> Inner<S, B> {
    /// The request goes no further. An upstream that takes no more may have answered already; one whose request broke
    /// off has not, and waits.
    fn stop(&mut self, stuck: Stuck) {
        drop(self.outlet.abandon());
        let fault = match stuck {
            Stuck::Io(error) => Fault::Closed(error.to_string()),
            Stuck::Body(error) => Fault::Body(error.to_string()),
        };
        self.broken.get_or_insert(fault);
    }

    fn tell(&mut self) {
        let waiting = [self.reader.take(), self.sender.take(), self.settler.take()];
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<S, B> Inner<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Sends what can be sent; an error may be that of what was to go at the end of the turn.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stuck>> {
        if let Some(stuck) = self.stuck.take() {
            return Poll::Ready(Err(stuck));
        }
        if self.outlet.is_over() {
            return Poll::Pending;
        }
        self.outlet.poll(cx, &mut self.stream)
    }

    /// Why a request is not to be sent where this was found before it went, as far as the runtime had heard of it. Where a
    /// connection was kept, what comes is no answer to it: the end of the last call, or what somebody smuggled into that.
    fn in_vain(&self, found: io::Result<usize>) -> Option<io::Error> {
        match found {
            Err(error) => Some(error),
            Ok(0) => Some(io::Error::other("it ended before the request went")),
            Ok(_) => self.used.then(|| io::Error::other("it said what nobody had asked for")),
        }
    }

    /// Reads what has come; 0 is the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // An empty one begins anew where it began before, unless somebody still holds a piece of it.
        let anew = self.came.is_empty() && self.came.try_reclaim(self.room);
        if !anew && self.came.capacity() - self.came.len() < self.room / 2 {
            self.came.reserve(self.room);
        }
        let before = self.came.capacity() - self.came.len();
        let read = ready!(pin!(self.stream.read_buf(&mut self.came)).poll(cx))?;
        if read == before {
            self.room = (self.room * 2).min(ROOM.1);
        }
        Poll::Ready(Ok(read))
    }

    /// The fault of a request that broke off by itself: there is nothing to wait for.
    fn broke_off(&mut self) -> Option<Fault> {
        self.broken.take_if(|fault| matches!(fault, Fault::Body(_))).inspect(|_| {
            self.broken = Some(Fault::Closed("the request broke off".to_owned()));
        })
    }
}

impl<S, B> Connection<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn entry(&self) -> Entry {
        let this: Weak<RefCell<Inner<S, B>>> = Rc::downgrade(&self.0);
        Entry::Local(this)
    }
}

impl<S, B> Deferred for RefCell<Inner<S, B>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn write(&self) -> bool {
        let Ok(mut inner) = self.try_borrow_mut() else { return false };
        let Some(task) = inner.deferred.take() else { return true };
        let mut cx = Context::from_waker(&task);
        let found = inner.poll_fill(&mut cx);
        let news = found.is_ready();
        if let Poll::Ready(found) = found {
            inner.stuck = inner.in_vain(found).map(Stuck::Io);
        }
        if inner.stuck.is_none()
            && let Poll::Ready(Err(stuck)) = inner.poll_send(&mut cx)
        {
            inner.stuck = Some(stuck);
        }
        if news || inner.stuck.is_some() {
            task.wake();
        }
        true
    }
}

/// A call whose response has not begun.
pub struct Sending<S, B, I> {
    connection: Option<Connection<S, B>>,
    awaited: Awaited<I>,
}

/// What is known of the response that has not begun.
struct Awaited<I> {
    /// Whether it was asked for: the request went, or waits for the end of the turn.
    begun: bool,
    /// Whether the request is a HEAD, which changes what its response means.
    to_head: bool,
    informed: I,
    /// How much of an incomplete head was looked at.
    read: usize,
    /// What its headers are put into.
    room: Option<HeaderMap>,
}

impl<S, B, I> Unpin for Sending<S, B, I> {}

/// A request that nobody waits for does not go.
impl<S, B, I> Drop for Sending<S, B, I> {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.0.borrow_mut().deferred = None;
        }
    }
}

impl<S, B, I> Future for Sending<S, B, I>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    I: FnMut(StatusCode),
{
    type Output = Result<Response<Reply<S, B>>, Failed<B>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(connection) = &this.connection else { return Poll::Pending };
        let outcome = {
            let mut inner = connection.0.borrow_mut();
            // A body is asked for more by its own task, and its end changes what is waited for.
            if !mem::replace(&mut this.awaited.begun, true)
                && inner.outlet.is_bare()
                && batch::defer(|| connection.entry())
            {
                inner.deferred = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if let Some(task) = &mut inner.deferred {
                task.clone_from(cx.waker());
                return Poll::Pending;
            }
            ready!(this.awaited.drive(&mut inner, cx))
        };
        let Some(connection) = this.connection.take() else { return Poll::Pending };
        Poll::Ready(outcome.map(|(head, decoder)| respond(head, decoder, connection)))
    }
}

impl<I: FnMut(StatusCode)> Awaited<I> {
    fn drive<S, B>(&mut self, inner: &mut Inner<S, B>, cx: &mut Context<'_>) -> Poll<Result<(Head, Decoder), Failed<B>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let failed = |fault| Poll::Ready(Err(Failed { fault, unsent: None }));
        loop {
            if let Poll::Ready(Err(stuck)) = inner.poll_send(cx) {
                let untouched = inner.outlet.abandon();
                if let (Stuck::Io(error), Some(body)) = (&stuck, untouched) {
                    let unsent = Some(Box::new(body));
                    return Poll::Ready(Err(Failed { fault: Fault::Closed(error.to_string()), unsent }));
                }
                inner.stop(stuck);
            }
            if let Some(fault) = inner.broke_off() {
                return failed(fault);
            }
            // An interim response may let the body go, which is then to be sent before anything is waited for.
            let mut informs = false;
            while !inner.came.is_empty() && (self.read == 0 || may_end(&inner.came, self.read)) {
                let head = match head::parse(&mut inner.came, &mut self.room) {
                    Ok(Some(head)) => head,
                    Ok(None) => break,
                    Err(malformed) => return failed(Fault::Malformed(malformed)),
                };
                self.read = 0;
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                    (self.informed)(head.status);
                    informs = true;
                    continue;
                }
                return Poll::Ready(match head.framing(self.to_head) {
                    Ok(framing) => Ok((head, Decoder::new(framing))),
                    Err(malformed) => Err(Failed { fault: Fault::Malformed(malformed), unsent: None }),
                });
            }
            if informs {
                continue;
            }
            self.read = inner.came.len();
            if self.read >= head::MOST_BYTES {
                return failed(Fault::Malformed(Malformed("the head is too large")));
            }
            match ready!(inner.poll_fill(cx)) {
                Ok(0) => {
                    let why = inner.broken.take().unwrap_or(Fault::Closed("it ended before a response".to_owned()));
                    return failed(why);
                }
                Ok(_) => {}
                Err(error) => return failed(Fault::Closed(error.to_string())),
            }
        }
    }
}

fn respond<S, B>(head: Head, decoder: Decoder, connection: Connection<S, B>) -> Response<Reply<S, B>> {
    let keeps = head.keeps && head.status != StatusCode::SWITCHING_PROTOCOLS;
    let mut response = Response::new(Reply::new(connection, decoder, keeps));
    *response.status_mut() = head.status;
    *response.version_mut() = head.version;
    *response.headers_mut() = head.headers;
    if let Some(reason) = head.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    response
}

#[cfg(test)]
mod tests;

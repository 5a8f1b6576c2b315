//! A response's body, and what becomes of the connection after it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::decode::{Decoder, Step};
use super::{Connection, Fault};

/// A response's body, which reads from its connection, and closes it when it is dropped.
pub struct Reply<S, B> {
    connection: Option<Connection<S, B>>,
    decoder: Decoder,
    keeps: bool,
    /// Why it breaks off, to be told next.
    fault: Option<Fault>,
}

impl<S, B> Reply<S, B> {
    pub(super) fn new(connection: Connection<S, B>, decoder: Decoder, keeps: bool) -> Self {
        Self { connection: Some(connection), decoder, keeps, fault: None }
    }

    /// The connection, for whoever goes on sending the request.
    #[must_use]
    pub fn connection(&self) -> Option<&Connection<S, B>> {
        self.connection.as_ref()
    }

    /// All of the body that is still to come, where it came with the head.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let connection = self.connection.as_ref().filter(|_| self.fault.is_none())?;
        self.decoder.rest(&mut connection.0.borrow_mut().came)
    }

    /// The connection, where the body is over and the upstream keeps it open; it is ready once the request went. Another
    /// is closed: nobody would read an answer to the rest of the request.
    pub fn take_kept(&mut self) -> Option<Connection<S, B>> {
        let connection = self.connection.take()?;
        if self.decoder.is_over() && self.keeps {
            return Some(connection);
        }
        connection.break_off();
        None
    }

    /// The stream after a 101; none where the request has not all gone, which is broken off: the rest of it would be the
    /// first that is said in the other protocol.
    #[must_use]
    pub fn take_switched(&mut self) -> Option<Switched<S>> {
        let connection = self.connection.take()?;
        // A request that went already is not broken off by this.
        connection.break_off();
        let inner = Rc::try_unwrap(connection.0).ok()?.into_inner();
        inner.broken.is_none().then(|| Switched { front: inner.came.freeze(), stream: inner.stream })
    }
}

impl<S, B> Drop for Reply<S, B> {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.break_off();
        }
    }
}

impl<S, B> std::fmt::Debug for Reply<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("left", &self.decoder.left()).finish_non_exhaustive()
    }
}

impl<S, B> Body for Reply<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        if let Some(fault) = this.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let polled = ready!(this.poll_next(cx));
        polled.map_or_else(
            |fault| {
                // What came before is to reach the caller: a server that hears of the end at once sends none of it.
                this.fault = Some(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            },
            |frame| Poll::Ready(frame.map(Ok)),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<S, B> Reply<S, B>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        let Some(connection) = &self.connection else { return Poll::Ready(Ok(None)) };
        let mut inner = connection.0.borrow_mut();
        loop {
            match self.decoder.step(&mut inner.came).map_err(Fault::Malformed)? {
                Step::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Step::Trailers(trailers) => return Poll::Ready(Ok(Some(Frame::trailers(trailers)))),
                Step::End => return Poll::Ready(Ok(None)),
                Step::More => {}
            }
            if let Some(fault) = inner.broke_off() {
                return Poll::Ready(Err(fault));
            }
            if !inner.outlet.is_over() {
                inner.reader = Some(cx.waker().clone());
            }
            let read = ready!(inner.poll_fill(cx)).map_err(|error| Fault::Closed(error.to_string()))?;
            if read == 0 {
                self.keeps = false;
                self.decoder.end().map_err(Fault::Malformed)?;
            }
        }
    }
}

/// A stream after a 101: what came behind the head is read first.
#[derive(Debug)]
pub struct Switched<S> {
    front: Bytes,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Switched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.front.has_remaining() {
            let count = self.front.len().min(buf.remaining());
            buf.put_slice(&self.front.split_to(count));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Switched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};
    use http_body_util::Full;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::upstream::RequestHead;

    #[tokio::test]
    async fn a_switch_before_the_request_went_breaks_the_request_off() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        let mut head = RequestHead::default();
        assert!(head.aim(&[&[b'/'; 200]]));
        let sending =
            Connection::new(near).send(&head, &HeaderValue::from_static("h"), Full::new(Bytes::new()), |_| {});
        let response = sending.await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut reply = response.into_body();
        let sender = reply.connection().unwrap().clone();
        assert!(!sender.is_sent());
        assert!(reply.take_switched().is_none());
        assert!(sender.is_sent(), "there is nothing left to send");
    }
}

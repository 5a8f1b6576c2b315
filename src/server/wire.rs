//! A connection's bytes: those read while the protocol was being found out come first, and all are counted.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

/// Up to so many bytes, to put several buffers into one costs less than what the system does for a list of them: an answer
/// with a small body.
const JOINED: usize = 1024;

/// What went over the wire. Shared between hyper, which owns the wire, and the watch over the connection, both on one
/// thread: atomics only because hyper's upgrades want the wire to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicU64,
    written: AtomicU64,
    blocked: AtomicBool,
}

impl Meter {
    /// Bytes read.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the last write found the peer unwilling to take more.
    pub(super) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    fn wrote(&self, outcome: &Poll<io::Result<usize>>) {
        self.blocked.store(outcome.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = outcome {
            add(&self.written, *count);
        }
    }
}

/// A plain addition: one thread writes, so a locked instruction would buy nothing.
fn add(counter: &AtomicU64, count: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count as u64), Ordering::Relaxed);
}

/// A stream with a few bytes put back in front. Has its place on the listener as long as it lives, upgraded or not.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    front: Bytes,
    meter: Arc<Meter>,
    _place: OwnedSemaphorePermit,
}

impl<S> Wire<S> {
    /// `front` is read before anything of `stream`.
    pub(super) fn new(stream: S, front: Bytes, meter: Arc<Meter>, place: OwnedSemaphorePermit) -> Self {
        Self { stream, front, meter, _place: place }
    }

    /// Puts back what was read last.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        // A copy: the buffer that they are in is larger.
        if !bytes.is_empty() {
            self.front = [bytes, &self.front].concat().into();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits until there is something to read; false where the stream ends instead. Takes no buffer before there is.
    pub(super) fn poll_spoken_to(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.front.has_remaining() {
            return Poll::Ready(Ok(true));
        }
        // TLS may have kept some of what it was given, and nobody else asks it to go on.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        let mut chunk = [0; 1024];
        let mut chunk = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        self.front = Bytes::copy_from_slice(chunk.filled());
        Poll::Ready(Ok(self.front.has_remaining()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = if self.front.has_remaining() {
            let count = self.front.len().min(buf.remaining());
            buf.put_slice(&self.front.split_to(count));
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        };
        add(&self.meter.read, buf.filled().len().saturating_sub(before));
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.meter.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.len() > 1 && bufs.iter().map(|buf| buf.len()).sum::<usize>() <= JOINED {
            let mut joined = [MaybeUninit::uninit(); JOINED];
            let mut joined = ReadBuf::uninit(&mut joined);
            bufs.iter().for_each(|buf| joined.put_slice(buf));
            return self.poll_write(cx, joined.filled());
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.meter.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

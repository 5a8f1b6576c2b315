//! A connection's bytes: those read while the protocol was being found out come first, and all are counted. What is
//! short is written with what other connections have to write ([`crate::batch`]).

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::{self, Deferred, Entry};
use crate::wiped::Buffer;

/// Up to so many bytes, to put several buffers into one costs less than what the system does for a list of them: an answer
/// with a small body.
const JOINED: usize = 1024;

/// So much of a connection waits for the end of a turn. To copy more costs more than to write it with others gains.
const LATE: usize = 4 * 1024;

/// So much room a connection keeps for that, in bytes: a short answer's.
const KEPT: usize = 512;

/// What went over the wire. Shared between hyper, which owns the wire, and the watch over the connection, both on one
/// thread: atomics only because hyper's upgrades want the wire to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicU64,
    written: AtomicU64,
    blocked: AtomicBool,
    prompt: AtomicBool,
}

impl Meter {
    /// Bytes read.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes that went.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the last write could not go on.
    pub(super) fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// From now on nothing waits for the end of a turn: who has the connection after an upgrade takes what was flushed
    /// for gone, and may not ask again. Refused or not: a connection on which it was asked for seldom carries many calls.
    pub(super) fn be_prompt(&self) {
        self.prompt.store(true, Ordering::Relaxed);
    }

    fn is_prompt(&self) -> bool {
        self.prompt.load(Ordering::Relaxed)
    }

    fn wrote(&self, count: usize) {
        add(&self.written, count);
    }

    fn found(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }
}

/// A plain addition: one thread writes, so a locked instruction would buy nothing.
fn add(counter: &AtomicU64, count: usize) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count as u64), Ordering::Relaxed);
}

/// A stream with a few bytes put back in front. Has its place on the listener as long as it lives, upgraded or not.
#[derive(Debug)]
pub(super) struct Wire<S: AsyncWrite + Unpin> {
    line: Arc<Mutex<Line<S>>>,
    front: Bytes,
    meter: Arc<Meter>,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// `front` is read before anything of `stream`.
    pub(super) fn new(stream: S, front: Bytes, meter: Arc<Meter>, place: OwnedSemaphorePermit) -> Self {
        let line =
            Line { stream, late: Buffer::default(), gone: 0, deferred: false, task: None, meter: Arc::clone(&meter) };
        Self { line: Arc::new(Mutex::new(line)), front, meter, _place: place }
    }

    /// Puts back what was read last, and gives back the room that writing took.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        // A copy: the buffer that they are in is larger.
        if !bytes.is_empty() {
            self.front = [bytes, &self.front].concat().into();
        }
        let mut line = self.line();
        if line.late.is_empty() {
            line.late = Buffer::default();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line<S>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits until there is something to read; false where the stream ends instead. Takes no buffer before there is.
    pub(super) fn poll_spoken_to(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.front.has_remaining() {
            return Poll::Ready(Ok(true));
        }
        batch::look(0);
        let mut chunk = [0; 1024];
        let mut chunk = ReadBuf::new(&mut chunk);
        {
            let mut line = self.line();
            // TLS may have kept some of what it was given, and nobody else asks it to go on.
            if let Poll::Ready(Err(error)) = line.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(Pin::new(&mut line.stream).poll_read(cx, &mut chunk))?;
        }
        self.front = Bytes::copy_from_slice(chunk.filled());
        Poll::Ready(Ok(self.front.has_remaining()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = if self.front.has_remaining() {
            let count = self.front.len().min(buf.remaining());
            buf.put_slice(&self.front.split_to(count));
            Poll::Ready(Ok(()))
        } else {
            batch::look(0);
            let mut line = self.line();
            if !line.late.is_empty() && !line.deferred {
                // What goes wrong is told to who flushes.
                let _moved = line.push(cx);
            }
            Pin::new(&mut line.stream).poll_read(cx, buf)
        };
        add(&self.meter.read, buf.filled().len().saturating_sub(before));
        outcome
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        batch::look(length);
        let mut line = self.line();
        let outcome = match line.put_late(&self.line, cx, (bufs, length)) {
            Poll::Ready(Ok(0)) => line.poll_write(cx, (bufs, length)),
            other => other,
        };
        self.meter.found(outcome.is_pending());
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.line().stream.is_write_vectored()
    }

    /// What waits for the end of the turn counts as gone. If it does not go then, the task that wrote it is woken, and
    /// hears of it with its next flush; hyper flushes whenever it is woken.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.line();
        if line.waits() {
            return Poll::Ready(Ok(()));
        }
        let outcome = line.poll_flush(cx);
        self.meter.found(outcome.is_pending());
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.line();
        ready!(line.push(cx))?;
        Pin::new(&mut line.stream).poll_shutdown(cx)
    }
}

/// The stream itself, and what is to be written to it at the end of the turn. Behind a lock that nobody ever waits for:
/// the batch and the task of the connection are on one thread.
#[derive(Debug)]
struct Line<S: AsyncWrite + Unpin> {
    stream: S,
    /// Answers have secrets of their own: tokens, cookies.
    late: Buffer,
    /// How much of `late` went.
    gone: usize,
    /// Whether it is in the batch. Otherwise what is in `late` is what the peer would not take yet.
    deferred: bool,
    /// The task that wrote last, which is to know when its bytes do not go.
    task: Option<Waker>,
    meter: Arc<Meter>,
}

impl<S: AsyncWrite + Unpin> Line<S> {
    /// Writes all that is late.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(late) = self.late.bytes().get(self.gone..).filter(|late| !late.is_empty()) {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, late))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += wrote;
            self.meter.wrote(wrote);
        }
        self.gone = 0;
        if self.late.capacity() > KEPT {
            self.late = Buffer::default();
        } else {
            self.late.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether what is late goes at the end of the turn, and not before.
    fn waits(&mut self) -> bool {
        if self.meter.is_prompt() {
            // Whom the batch would wake may be over by then.
            (self.deferred, self.task) = (false, None);
        }
        self.deferred
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.push(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes some of these, of so many bytes together, at once.
    fn poll_write(&mut self, cx: &mut Context<'_>, (bufs, length): (&[IoSlice<'_>], usize)) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let wrote = ready!(match bufs {
            [only] => stream.poll_write(cx, only),
            _ if length <= JOINED => {
                let mut joined = [MaybeUninit::uninit(); JOINED];
                let mut joined = ReadBuf::uninit(&mut joined);
                bufs.iter().for_each(|buf| joined.put_slice(buf));
                stream.poll_write(cx, joined.filled())
            }
            _ => stream.poll_write_vectored(cx, bufs),
        })?;
        self.meter.wrote(wrote);
        Poll::Ready(Ok(wrote))
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> Line<S> {
    /// Takes all of these, of so many bytes together, for the end of the turn. 0: it is too much, or there is no batch, and the stream is free.
    fn put_late(
        &mut self,
        this: &Arc<Mutex<Self>>,
        cx: &mut Context<'_>,
        (bufs, length): (&[IoSlice<'_>], usize),
    ) -> Poll<io::Result<usize>> {
        let fits = self.late.len() + length <= LATE;
        if !(self.waits() && fits) {
            ready!(self.push(cx))?;
            let waits = fits && !self.meter.is_prompt() && batch::defer(|| Entry::Shared(Arc::downgrade(this) as _));
            if !waits {
                return Poll::Ready(Ok(0));
            }
            self.deferred = true;
        }
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
        bufs.iter().for_each(|buf| self.late.push(buf));
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncWrite + Unpin + Send> Deferred for Mutex<Line<S>> {
    fn write(&self) -> bool {
        let mut line = match self.try_lock() {
            Ok(line) => line,
            Err(TryLockError::Poisoned(line)) => line.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        line.deferred = false;
        let Some(task) = line.task.take() else { return true };
        let outcome = line.poll_flush(&mut Context::from_waker(&task));
        if !matches!(outcome, Poll::Ready(Ok(()))) {
            // It asks again, and hears why; the clock over the connection runs as for any write that does not go.
            line.meter.found(outcome.is_pending());
            task.wake();
        }
        true
    }
}

/// What was taken is not held back because nobody waits for it.
impl<S: AsyncWrite + Unpin> Drop for Line<S> {
    fn drop(&mut self) {
        if !self.late.is_empty() {
            let _gone = batch::unbounded(|cx| self.poll_flush(cx));
        }
    }
}

#[cfg(test)]
mod tests;

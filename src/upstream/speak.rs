//! A new HTTP/2 connection, and the tasks that drive it.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connect::Failure;
use super::error::{SendErrorKind, chain};
use super::outgoing::{Outgoing, Piping, Track};
use super::stream::Stream;

/// How much of one HTTP/2 response may wait for its caller, in bytes.
const STREAM_WINDOW: u32 = 512 * 1024;

/// How much of all responses on one connection: the most there is (RFC 9113 §6.9.1), for callers who take nothing must
/// not hold up the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// `piping`: where the bodies of this thread's requests announce themselves.
pub(super) async fn speak_two<B>(
    stream: Stream,
    piping: &Rc<Piping>,
) -> Result<http2::SendRequest<Outgoing<B>>, Failure>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (sender, connection) = http2::Builder::new(OnThisThread(Rc::clone(piping)))
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_header_list_size(64 * 1024)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(unspoken)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "upstream connection ended");
        }
    });
    Ok(sender)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn unspoken(error: hyper::Error) -> Failure {
    Failure { kind: SendErrorKind::Closed, detail: chain(&error) }
}

/// Spawns hyper's HTTP/2 tasks on the thread of their connection.
#[derive(Clone, Debug)]
struct OnThisThread(Rc<Piping>);

impl<F: Future + 'static> Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        match self.0.take() {
            None => tokio::task::spawn_local(async move {
                future.await;
            }),
            Some(track) => tokio::task::spawn_local(Pipe { future, track }),
        };
    }
}

pin_project_lite::pin_project! {
    /// The task that sends a request's body. While it waits for the upstream's window hyper does not ask the body, which
    /// would say that the call was cancelled (RFC 9113 §5.2). Dropped before its end it lets go of its half of the
    /// stream.
    struct Pipe<F> {
        #[pin]
        future: F,
        track: Rc<Track>,
    }
}

impl<F: Future> Future for Pipe<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.future.poll(cx).is_ready() || this.track.is_cancelled(cx) { Poll::Ready(()) } else { Poll::Pending }
    }
}

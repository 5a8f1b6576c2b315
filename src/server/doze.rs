//! HTTP/1 connections that nothing is asked on: they keep their socket and next to nothing else.
//!
//! What hyper has ready for the next call (its buffers, and room for the call) is three times of what ten thousand idle
//! connections should cost. It is made anew when somebody speaks; that costs less than a microsecond, and only after a
//! pause.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connection::FAREWELL;
use super::roster::{Member, Stage};
use super::wire::Wire;

/// How long nothing is asked before a connection dozes.
pub(super) const AFTER: Duration = Duration::from_millis(200);

/// Dozes until the caller speaks. False: the connection is over, as the caller hung up, or said nothing for all of
/// `keep_alive`, or we are draining.
pub(super) async fn until_spoken_to<S>(wire: &mut Wire<S>, keep_alive: Duration, member: &Member) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoken_to = poll_fn(|cx| {
        if member.stage() > Stage::Serve {
            return Poll::Ready(None);
        }
        Poll::Ready(ready!(wire.poll_spoken_to(cx)).ok())
    });
    let spoken_to = tokio::time::timeout(keep_alive.saturating_sub(AFTER), spoken_to).await;
    if matches!(spoken_to, Ok(Some(true))) {
        return true;
    }
    // Boxed for the sake of those that doze. Best effort: who is gone needs no good-bye.
    let _outcome = Box::pin(tokio::time::timeout(FAREWELL, wire.shutdown())).await;
    false
}

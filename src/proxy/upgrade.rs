//! After the upstream's 101: bytes are copied both ways until one side ends, time is up, or the permit no longer holds.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use super::answer;
use super::body::{ProxyBody, RequestBody};
use super::error::{Kind, Problem};
use super::exchange::{Exchange, Ticket};
use super::gateway::Worker;
use super::streams::Standing;
use crate::upstream::UpstreamBody;

/// Answers the caller's 101 and connects the two, in a task of its own that ends with the worker.
///
/// # Errors
/// 502 where the upstream switches to what nobody asked for.
pub(super) fn open(
    worker: &Worker,
    mut response: Response<UpstreamBody<RequestBody>>,
    (asked, caller): (HeaderValue, OnUpgrade),
    standing: Arc<Standing>,
    ticket: Ticket,
) -> Result<Response<ProxyBody>, (Ticket, Problem)> {
    let Some(protocol) = switched(response.headers(), &asked) else {
        return Err((
            ticket,
            Problem::new(&Kind::UPSTREAM_PROTOCOL, "the service switches to a protocol that nobody asked for"),
        ));
    };
    let Some(upstream) = response.body_mut().take_switched() else {
        let detail = "the service switches protocols before it has the whole request";
        return Err((ticket, Problem::new(&Kind::UPSTREAM_PROTOCOL, detail)));
    };
    let mut answer = Response::new(ProxyBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    answer::pass_headers(answer.headers_mut(), ticket.door, &ticket.id);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, protocol);
    ticket.admit_origin(&mut answer);
    ticket.answer(StatusCode::SWITCHING_PROTOCOLS, None);
    worker.upgraded.spawn_local(run(caller, upstream, standing, ticket));
    Ok(answer)
}

/// The protocol that the upstream switched to, if it is one of those asked for.
fn switched(headers: &HeaderMap, asked: &HeaderValue) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).into_iter();
    let protocol = lines.next().filter(|_| lines.next().is_none())?;
    let mut asked = asked.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    asked.any(|asked| asked.eq_ignore_ascii_case(protocol.as_bytes())).then(|| protocol.clone())
}

async fn run<S>(caller: OnUpgrade, upstream: S, standing: Arc<Standing>, ticket: Ticket)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let timeouts = standing.route.timeouts();
    let start = Instant::now();
    let caller = match caller.await {
        Ok(caller) => caller,
        Err(error) => {
            tracing::debug!(request_id = %ticket.id, %error, "an upgrade came to nothing");
            return;
        }
    };
    let moved = Rc::new(Cell::new(start));
    let mut caller = Counted::new(TokioIo::new(caller), &moved, &ticket, Direction::In);
    let mut upstream = Counted::new(upstream, &moved, &ticket, Direction::Out);
    tokio::select! {
        biased;
        () = standing.ends() => ticket.break_off(&Kind::PERMISSION_DENIED),
        outcome = copy_bidirectional(&mut caller, &mut upstream) => match outcome {
            Ok(_) => ticket.complete(),
            Err(error) => tracing::debug!(request_id = %ticket.id, %error, "an upgraded connection broke off"),
        },
        () = stands_still(&moved, timeouts.idle) => ticket.break_off(&Kind::UPSTREAM_IDLE),
        () = passes(start, timeouts.total) => ticket.break_off(&Kind::UPSTREAM_TOTAL),
    }
}

/// Returns when nothing has moved for this long.
async fn stands_still(moved: &Cell<Instant>, most: Option<Duration>) {
    let Some(most) = most else { return pending().await };
    loop {
        let end = moved.get() + most;
        if Instant::now() >= end {
            return;
        }
        sleep_until(end).await;
    }
}

async fn passes(start: Instant, most: Option<Duration>) {
    match most {
        Some(most) => sleep_until(start + most).await,
        None => pending().await,
    }
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// One side, with what is read from it counted.
struct Counted<S> {
    side: S,
    moved: Rc<Cell<Instant>>,
    exchange: Rc<Exchange>,
    direction: Direction,
}

impl<S> Counted<S> {
    fn new(side: S, moved: &Rc<Cell<Instant>>, ticket: &Ticket, direction: Direction) -> Self {
        Self { side, moved: moved.clone(), exchange: ticket.share(), direction }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.side).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.moved.set(Instant::now());
            match self.direction {
                Direction::In => drop::<u64>(self.exchange.count_in(read)),
                Direction::Out => self.exchange.count_out(read),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.side).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.side).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_switched_to() {
        let asked = HeaderValue::from_static("foo, websocket");
        for (lines, fine) in [
            (&["websocket"][..], true),
            (&["WebSocket"], true),
            (&["h2c"], false),
            (&[], false),
            (&["websocket", "foo"], false),
        ] {
            let headers: HeaderMap = lines.iter().map(|line| (UPGRADE, HeaderValue::from_static(line))).collect();
            assert_eq!(switched(&headers, &asked).is_some(), fine, "{lines:?}");
        }
    }
}

//! One tunnel's WebSocket (RFC 6455): what waits in the line goes out one at a time, what comes in is matched to it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::Opened;
use super::line::{Call, Waits};
use super::message::{ANSWER_BYTES, Answer, MESSAGE_BYTES, Reply};
use crate::telemetry::metrics::TunnelMetrics;

/// How long a connection may take to be handed over by the listener.
pub(super) const HANDOVER: Duration = Duration::from_secs(30);

/// How long a closing connection may take for the last frames.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Between two pings: they keep the address translators on the way from forgetting the connection.
const BEAT: Duration = Duration::from_secs(30);

/// How long a client that has nothing to do may say nothing, its pongs included.
const SILENCE: Duration = Duration::from_secs(6 * 60);

/// How long a client that works on a call may say nothing, while somebody waits for it: it answers no pings meanwhile.
const WORK: Duration = Duration::from_secs(60 * 60);

/// The same when nobody waits any more: it may have fallen asleep.
const LEFT: Duration = Duration::from_secs(10 * 60);

/// How many messages may be unanswered, all but the last of which nobody waits for any more.
const UNANSWERED: usize = 8;

/// How many messages in a row may be of no use.
const USELESS: usize = 256;

/// How long a message may be, in bytes, that is read where it comes in: that takes half a millisecond at most.
const AT_ONCE: usize = 64 * 1024;

/// How many longer ones are read at a time, so that the processors are left to others.
static TURNS: Semaphore = Semaphore::const_new(2);

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it.
    Closed,
    /// The connection broke off, or what came over it was no WebSocket.
    Broken,
    /// A message was larger than it may be.
    TooLarge,
    /// A newer one took its place.
    Replaced,
    /// Whoever opened it may not any more, or the service is gone.
    Lost,
    /// The gateway is about to end.
    Draining,
    /// Nothing came for too long.
    Silent,
    /// Too many messages were of no use.
    Useless,
}

impl Ending {
    /// In a word, for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::TooLarge => "too-large",
            Self::Replaced => "replaced",
            Self::Lost => "lost",
            Self::Draining => "draining",
            Self::Silent => "silent",
            Self::Useless => "useless",
        }
    }

    /// What the client is told.
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Closed | Self::Broken => return None,
            Self::TooLarge => (CloseCode::Size, "a message is larger than the gateway takes"),
            Self::Replaced => (CloseCode::Library(4001), "replaced by a newer connection"),
            Self::Lost => (CloseCode::Policy, "the right to write the service, or the service, is gone"),
            Self::Draining => (CloseCode::Away, "the gateway is about to end"),
            Self::Silent => (CloseCode::Policy, "nothing came for too long"),
            Self::Useless => (CloseCode::Policy, "too many messages answer nothing"),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// Runs the tunnel until it ends. Its calls have ended when this returns, and no call finds it any more.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    mut opened: Opened,
    ends: impl Future<Output = Ending>,
) -> Ending {
    let (mut sink, mut stream) = frames(socket).await.split();
    let flight = Flight::new();
    let ending = tokio::select! {
        biased;
        ending = ends => ending,
        ending = read(&mut stream, &flight, &opened.tunnels.metrics) => ending,
        ending = write(&mut sink, &mut opened.line, &flight) => ending,
        () = flight.silence() => Ending::Silent,
    };
    // Whoever waits is told before the client is: they may have somewhere else to go.
    drop(flight);
    drop(opened);
    if ending != Ending::Broken
        && let Ok(whole) = sink.reunite(stream)
    {
        let _ = timeout(CLOSE_PATIENCE, close(whole, ending)).await;
    }
    ending
}

/// Says why a tunnel ends whose connection comes after its end: its client was told that it is open.
pub(super) async fn tell<S: AsyncRead + AsyncWrite + Unpin>(
    connecting: impl Future<Output = Option<S>>,
    ending: Ending,
) {
    let telling = async {
        if let Some(socket) = connecting.await {
            close(frames(socket).await, ending).await;
        }
    };
    let _ = timeout(CLOSE_PATIENCE, telling).await;
}

async fn frames<S: AsyncRead + AsyncWrite + Unpin>(socket: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE_BYTES)
        .max_message_size(Some(ANSWER_BYTES))
        .max_frame_size(Some(ANSWER_BYTES));
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await
}

/// Says why, answers the client's own word, and waits for the end: what still comes is of no use any more.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut whole: WebSocketStream<S>, ending: Ending) {
    if let Some(frame) = ending.frame()
        && whole.close(Some(frame)).await.is_err()
    {
        return;
    }
    while let Some(Ok(_)) = whole.next().await {}
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    flight: &Flight,
    metrics: &TunnelMetrics,
) -> Ending {
    use tokio_tungstenite::tungstenite::Error;
    let mut useless = 0;
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => return Ending::TooLarge,
            Some(Err(Error::ConnectionClosed)) | None => return Ending::Closed,
            Some(Err(_)) => return Ending::Broken,
        };
        flight.heard();
        let used = match message {
            Message::Text(text) => match read_reply(text).await {
                Some((task, answer)) => flight.answered(&task, answer),
                None => false,
            },
            Message::Binary(_) => false,
            Message::Close(_) => return Ending::Closed,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        useless = if used { 0 } else { useless + 1 };
        if !used {
            metrics.ignored.increment(1);
        }
        if useless > USELESS {
            return Ending::Useless;
        }
    }
}

/// The answer in a message, and which call it is for. A large one takes its time, up to tens of milliseconds, elsewhere: the
/// thread here serves others, too.
async fn read_reply(text: Utf8Bytes) -> Option<(String, Answer)> {
    let read = |text: &str| {
        let reply = Reply::read(text)?;
        Some((reply.task.clone().into_owned(), reply.answer()?))
    };
    if text.len() <= AT_ONCE {
        return read(&text);
    }
    let turn = TURNS.acquire().await.ok()?;
    let read = move || {
        let _turn = turn;
        read(&text)
    };
    spawn_blocking(read).await.ok()?
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    line: &mut mpsc::Receiver<Call>,
    flight: &Flight,
) -> Ending {
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            call = next(line, flight) => match call {
                Some(call) => flight.take_off(call),
                // Nobody can call it any more.
                None => return Ending::Replaced,
            },
            _ = beat.tick() => Some(Message::Ping(Bytes::new())),
        };
        if let Some(message) = message
            && sink.send(message).await.is_err()
        {
            return Ending::Broken;
        }
    }
}

/// The next call that somebody still waits for, when it is its turn. Safe to drop.
async fn next(line: &mut mpsc::Receiver<Call>, flight: &Flight) -> Option<Call> {
    flight.free().await;
    loop {
        let call = line.recv().await?;
        if !call.answer.is_closed() {
            return Some(call);
        }
    }
}

/// The messages that were sent and not answered, and when something was last heard.
struct Flight {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    heard: Instant,
    sent: Instant,
    /// In the order in which they went out.
    unanswered: Vec<(Arc<str>, Waits)>,
}

impl State {
    /// Until when the client may say nothing.
    fn silent_until(&self) -> Instant {
        let last = self.heard.max(self.sent);
        match self.unanswered.iter().any(|(_, waits)| !waits.is_closed()) {
            _ if self.unanswered.is_empty() => self.heard + SILENCE,
            true => last + WORK,
            false => last + LEFT,
        }
    }
}

impl Flight {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State { heard: now, sent: now, unanswered: Vec::with_capacity(UNANSWERED) }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) {
        self.state().heard = Instant::now();
    }

    /// The call's message, on its way from now on; none where it may not go any more.
    fn take_off(&self, call: Call) -> Option<Message> {
        let Call { task, write, answer, .. } = call;
        match write() {
            Ok(text) => {
                let mut state = self.state();
                state.sent = Instant::now();
                state.unanswered.push((task, answer));
                Some(Message::Text(text.into()))
            }
            Err(unsent) => {
                // Its caller may have left meanwhile.
                let _ = answer.send(Err(unsent));
                None
            }
        }
    }

    /// Hands an answer to whoever waits for it. False for one that nobody asked for.
    fn answered(&self, task: &str, answer: Answer) -> bool {
        let mut state = self.state();
        let Some(place) = state.unanswered.iter().position(|(asked, _)| **asked == *task) else { return false };
        let (_, waits) = state.unanswered.remove(place);
        drop(state);
        // Late is of use all the same: the client is free again.
        let _ = waits.send(Ok(answer));
        self.changed.notify_one();
        true
    }

    /// Returns when another message may go: nobody waits for one that went before.
    async fn free(&self) {
        loop {
            let given_up = poll_fn(|cx| {
                let mut state = self.state();
                let full = state.unanswered.len() >= UNANSWERED;
                let waits = state.unanswered.last_mut().is_some_and(|(_, last)| last.poll_closed(cx).is_pending());
                if full || waits { Poll::Pending } else { Poll::Ready(()) }
            });
            tokio::select! {
                () = given_up => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Returns when nothing was heard for longer than the client may say nothing.
    async fn silence(&self) {
        loop {
            let (now, end) = (Instant::now(), self.state().silent_until());
            if now >= end {
                return;
            }
            // Whoever waits may leave meanwhile.
            sleep_until(end.min(now + BEAT)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::json;
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_client_may_say_nothing_for_as_long_as_it_has_reason_to() {
        let start = Instant::now();
        let later = start + Duration::from_secs(100);
        let mut state = State { heard: start, sent: start, unanswered: Vec::new() };
        assert_eq!(state.silent_until(), start + SILENCE);
        state.heard = later;
        assert_eq!(state.silent_until(), later + SILENCE);
        let (waits, waiting) = oneshot::channel();
        state.unanswered.push(("t".into(), waits));
        assert_eq!(state.silent_until(), later + WORK);
        let (waits, left) = oneshot::channel();
        drop(left);
        state.unanswered.push(("u".into(), waits));
        assert_eq!(state.silent_until(), later + WORK, "somebody still waits");
        drop(waiting);
        assert_eq!(state.silent_until(), later + LEFT);
        state.sent = later + BEAT;
        assert_eq!(state.silent_until(), later + BEAT + LEFT);
    }

    #[test]
    fn so_many_messages_are_unanswered_and_no_more() {
        let flight = Flight::new();
        let sent = |number: usize| {
            let (answer, _) = oneshot::channel();
            flight.state().unanswered.push((format!("t{number}").into(), answer));
        };
        for number in 0..UNANSWERED {
            // Nobody waits for those before.
            assert!(flight.free().now_or_never().is_some(), "{number}");
            sent(number);
        }
        assert!(flight.free().now_or_never().is_none());
        let answer = || Answer { status: http::StatusCode::OK, headers: http::HeaderMap::new(), body: Bytes::new() };
        assert!(!flight.answered("t99", answer()));
        assert!(flight.answered("t0", answer()) && !flight.answered("t0", answer()));
        assert!(flight.free().now_or_never().is_some());
    }

    #[test]
    fn a_large_answer_is_read_elsewhere_and_a_small_one_where_it_comes() {
        let text = |bytes: usize| {
            let event = json!({"status_code": 200, "body": vec![0; bytes / 2]});
            Utf8Bytes::from(json!({"taskId": "t", "event": event}).to_string())
        };
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            // The one other thread has to wait, so that nothing is read there before it is looked at.
            let (go, gone) = std::sync::mpsc::channel();
            let busy = spawn_blocking(move || gone.recv());
            let (task, answer) = read_reply(text(100)).now_or_never().unwrap().unwrap();
            assert_eq!((task.as_str(), answer.body.len()), ("t", 101));
            let mut reading = Box::pin(read_reply(text(AT_ONCE)));
            assert!(reading.as_mut().now_or_never().is_none(), "it was read on this thread");
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            assert_eq!(reading.await.unwrap().1.body.len(), AT_ONCE + 1);
        });
    }
}

//! The demonstration service: it echoes what it received, so that one sees which headers arrived, and streams.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, mpsc};

/// How many events a stream has.
pub(in crate::cli) const EVENTS: usize = 5;

/// Between two events of a stream for people.
const PACE: Duration = Duration::from_millis(600);

/// The running service.
pub(in crate::cli) struct Backend {
    /// Where it listens.
    pub(in crate::cli) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    calls: AtomicUsize,
    released: Notify,
}

impl Backend {
    /// Listens, and serves on a thread of its own for as long as the process lives.
    ///
    /// # Errors
    /// When the address is taken.
    pub(in crate::cli) fn start(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("demo".to_owned()).spawn(move || {
            runtime.block_on(async {
                if let Err(error) = accept(listener, serving).await {
                    tracing::error!(%error, "the demonstration service ended");
                }
            });
        })?;
        Ok(Self { addr, shared })
    }

    /// How many calls have reached it.
    pub(in crate::cli) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Lets a stream that was asked to wait (`/stream?wait`) go on after its first event.
    pub(in crate::cli) fn release(&self) {
        self.shared.released.notify_one();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &shared);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A caller that goes away is no concern of a demonstration.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(request: &Request<Incoming>, shared: &Arc<Shared>) -> Response<Events> {
    shared.calls.fetch_add(1, Ordering::SeqCst);
    if request.uri().path().trim_end_matches('/') == "/stream" {
        return stream(request.uri().query() == Some("wait"), shared.clone());
    }
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.insert(name.to_string(), json!(value));
    }
    let received = json!({
        "received": {"method": request.method().as_str(), "path": request.uri().to_string(), "headers": headers},
    });
    let text = format!("{received:#}\n");
    respond("application/json", Events::whole(text.into()))
}

/// An event, a pause, the next: as a model that thinks aloud would answer.
fn stream(wait: bool, shared: Arc<Shared>) -> Response<Events> {
    let (send, events) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        for number in 1..=EVENTS {
            if send.send(format!("data: event {number} of {EVENTS}\n\n").into()).await.is_err() {
                return;
            }
            match (wait, number) {
                (true, 1) => shared.released.notified().await,
                (true, _) => {}
                (false, _) => tokio::time::sleep(PACE).await,
            }
        }
    });
    respond("text/event-stream", Events(events))
}

fn respond(kind: &'static str, body: Events) -> Response<Events> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A body that is sent as it comes.
struct Events(mpsc::Receiver<Bytes>);

impl Events {
    fn whole(bytes: Bytes) -> Self {
        let (send, receive) = mpsc::channel(1);
        // There is room for the one message.
        let _ = send.try_send(bytes);
        Self(receive)
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

//! A gRPC stream through the walk: HTTP/2 on both sides, open in both directions, as long as its permit holds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod proxy_house;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::policy::Levels;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_house::{ALICE, House, alices};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(30);

type Sent = Result<Frame<Bytes>, Infallible>;

#[test]
fn a_grpc_stream_is_open_in_both_directions_and_ends_with_its_permit() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let house = House::start("", &json!({"base_url": base_url, "tls": {"protocol": "http2"}}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let talk = async {
        let (tell, mut received) = mpsc::unbounded_channel();
        serve(listener, tell);
        let stream = TcpStream::connect(house.proxy()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (up, body) = channel();
        let request = Request::post(format!("http://{}/materials/mp/pkg.Service/Watch", house.proxy()))
            .header("authorization", format!("Bearer {}", house.token(ALICE)))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .unwrap();
        let mut down = sender.send_request(request).await.unwrap().into_body();
        for word in ["one", "two"] {
            up.send(Ok(Frame::data(Bytes::from_static(word.as_bytes())))).unwrap();
            assert_eq!(received.recv().await, Some(Some(Bytes::from_static(word.as_bytes()))));
            assert_eq!(down.frame().await.unwrap().unwrap().into_data().unwrap(), word);
        }
        house.policy([alices(Levels::NONE)]);
        assert!(down.frame().await.unwrap().is_err(), "the caller's stream is reset");
        assert_eq!(received.recv().await, Some(None), "and so is the upstream's");
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, talk).await.unwrap() });
}

/// Echoes each message, and tells of it; tells nothing once the stream is over.
fn serve(listener: std::net::TcpListener, tell: mpsc::UnboundedSender<Option<Bytes>>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                async move {
                    let (down, body) = channel();
                    tokio::spawn(async move {
                        let mut messages = request.into_body();
                        while let Some(Ok(frame)) = messages.frame().await {
                            let Ok(message) = frame.into_data() else { continue };
                            tell.send(Some(message.clone())).ok();
                            down.send(Ok(Frame::data(message))).ok();
                        }
                        tell.send(None).ok();
                    });
                    Ok::<_, Infallible>(
                        Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                    )
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
}

/// A body that is what is sent to it.
fn channel() -> (mpsc::UnboundedSender<Sent>, StreamBody<impl futures_util::Stream<Item = Sent> + Send + 'static>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    (sender, StreamBody::new(Box::pin(frames)))
}

//! Many calls on one connection, and what becomes of the others when one stops.

use super::*;

#[test]
fn http_2_requests_share_one_connection_and_carry_no_connection_headers() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = Rc::clone(&client);
                tokio::task::spawn_local(async move { client.echo("hello").await })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), "hello");
        }
        assert_eq!(seen.connections.get(), 1);

        let mut request = Request::get("/a%2Fb?q=%20").body(empty()).unwrap();
        for (name, value) in [
            ("host", "caller.example"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers, deflate"),
            ("x-a", "1"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        client.send(request).await.unwrap();
        let requests = seen.requests.borrow();
        let last = requests.last().unwrap();
        assert_eq!(last.uri.to_string(), format!("http://{addr}/a%2Fb?q=%20"));
        assert_eq!(last.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-a"]);
    });
}

fn protocol(protocol: Protocol) -> UpstreamTls {
    UpstreamTls { protocol, ..UpstreamTls::default() }
}

#[test]
fn trailers_pass_in_both_directions() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "7".parse().unwrap());
        let frames: Vec<Result<_, BoxError>> =
            vec![Ok(Frame::data(Bytes::from_static(b"message"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = Request::post("/trailers").header("te", "trailers").body(body).unwrap();
        let received = client.send(request).await.unwrap().into_body().collect().await.unwrap();
        let trailers = received.trailers().unwrap().clone();
        assert_eq!((&trailers["grpc-status"], &trailers["x-checksum"]), (&"0".parse().unwrap(), &"7".parse().unwrap()));
        assert_eq!(received.to_bytes(), "message");
        assert_eq!(seen.requests.borrow()[0].headers["te"], "trailers");
    });
}

#[test]
fn dropping_an_http_2_call_resets_its_stream_and_leaves_the_others() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let hanging = {
            let client = Rc::clone(&client);
            tokio::task::spawn_local(async move { client.send(Request::get("/hang").body(empty()).unwrap()).await })
        };
        until(|| !seen.requests.borrow().is_empty()).await;
        hanging.abort();
        until(|| seen.dropped.get() == 1).await;

        // The request's body is still under way when the response is dropped: it ends too.
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let mut response = client.send(Request::post("/endless").body(body).unwrap()).await.unwrap();
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        drop(response);
        give.closed().await;
        until(|| seen.dropped.get() == 2).await;

        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn callers_who_take_nothing_do_not_hold_up_the_others_on_an_http_2_connection() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2));
        let mut stalled = Vec::new();
        for _ in 0..24 {
            stalled.push(client.send(Request::get("/flood").body(empty()).unwrap()).await.unwrap());
        }
        assert_eq!(client.echo("hello").await, "hello");
        let mut taken = 0;
        while taken < 16 << 20 {
            let frame = stalled[0].body_mut().frame().await.unwrap().unwrap();
            taken += frame.into_data().unwrap().len();
        }
        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn an_upload_that_outlives_its_answer_and_stands_still_is_broken_off() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let url = format!("http://{addr}/");
        let client = Client::patient(&url, protocol(Protocol::Http2), Duration::from_millis(200));
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let response = client.send(Request::post("/early").body(body).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "early");
        give.closed().await;
        until(|| seen.dropped.get() == 1).await;
        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn an_upload_that_waits_for_an_http_2_upstreams_window_ends_with_its_call() {
    on_a_worker(async {
        for impatient in [false, true] {
            let (addr, seen) = start(None, true).await;
            let idle = if impatient { Duration::from_millis(100) } else { LONG };
            let client = Client::patient(&format!("http://{addr}/"), protocol(Protocol::Http2), idle);
            let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
            for _ in 0..32 {
                give.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 128 * 1024])))).unwrap();
            }
            let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
            let mut response = client.send(Request::post("/deaf").body(body).unwrap()).await.unwrap();
            assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
            if impatient {
                let error = response.body_mut().frame().await.unwrap().unwrap_err();
                assert!(matches!(error, BodyError::IdleTimeout), "{error}");
            }
            drop(response);
            give.closed().await;
            seen.listens.set(true);
            until(|| seen.dropped.get() == 1).await;
            assert_eq!(client.echo("hello").await, "hello");
            assert_eq!(seen.connections.get(), 1);
        }
    });
}

#[test]
fn an_http_2_connection_that_is_gone_is_made_anew() {
    on_a_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let seen = Rc::new(Seen::default());
        for _ in 0..3 {
            let call = {
                let client = Rc::clone(&client);
                tokio::task::spawn_local(async move { client.echo("hello").await })
            };
            let (stream, _) = listener.accept().await.unwrap();
            let service = {
                let seen = Rc::clone(&seen);
                service_fn(move |request| answer(request, Rc::clone(&seen)))
            };
            let builder = hyper::server::conn::http2::Builder::new(OnThisThread);
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => panic!("the connection ended by itself"),
                text = call => assert_eq!(text.unwrap(), "hello"),
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        assert_eq!(seen.requests.borrow().len(), 3);
    });
}

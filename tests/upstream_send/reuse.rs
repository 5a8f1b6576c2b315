//! Which connections serve again, and which calls are sent again.

use super::*;

#[test]
fn a_drained_connection_serves_the_next_request() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        for _ in 0..3 {
            connection.head();
            connection.say(OK);
        }
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        connection.head();
        connection.say("HTTP/1.1 204 No Content\r\n\r\n");
        connection.head();
        connection.say(OK);
        (fake.nobody(), connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        for _ in 0..6 {
            client.get("/").await;
            client.idle(1).await;
        }
    });
    assert!(play.end().0, "there was one connection");
}

#[test]
fn a_response_that_is_dropped_before_its_end_costs_the_connection() {
    for framing in ["Content-Length: 10\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"] {
        let play = Fake::start().play(move |fake| {
            let mut first = fake.next();
            first.head();
            first.say("HTTP/1.1 200 OK\r\n").say(framing);
            assert_eq!(first.rest(), "", "closed, and nothing else was sent on it");
            let mut second = fake.next();
            second.head();
            second.say(OK);
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            let mut response = client.send(get("/")).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "part");
            drop(response);
            assert_eq!(client.pools.idle(), 0);
            assert_eq!(client.get("/").await, "ok");
        });
        play.end();
    }
}

#[test]
fn a_call_that_is_dropped_while_the_upstream_takes_nothing_of_its_body_closes_the_connection() {
    const LONG: usize = 64 << 20;
    let (dropped, wait) = channel();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
        wait.recv().unwrap();
        assert!(connection.rest().len() < LONG, "no more comes than was on its way");
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let body = Full::from(vec![b'x'; LONG]).map_err(|never| match never {}).boxed_unsync();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        drop(response);
        tokio::task::yield_now().await;
        dropped.send(()).unwrap();
        assert_eq!(client.pools.idle(), 0);
    });
    play.end();
}

#[test]
fn bytes_after_a_response_are_never_taken_for_the_next_one() {
    let play = Fake::start().play(|fake| {
        let mut first = fake.next();
        first.head();
        first.say(OK).say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        assert_eq!(first.rest(), "");
        let mut second = fake.next();
        second.head();
        second.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        client.idle(0).await;
        assert_eq!(client.get("/").await, "ok");
    });
    play.end();
}

#[test]
fn a_call_that_is_dropped_before_its_response_closes_the_connection() {
    let (seen, wait) = channel();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        connection.head();
        seen.send(()).unwrap();
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let upstream = Arc::clone(&client.upstream);
        let pools = client.pools.clone();
        let call = tokio::task::spawn_local(async move {
            let endpoint = pools.pick(&upstream).unwrap();
            let (parts, body) = get("/").into_parts();
            pools
                .send(&upstream, endpoint, &RequestHead::from(&parts), body, tokio::time::Instant::now())
                .await
                .map(|_| ())
        });
        tokio::task::spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
        call.abort();
        while !call.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(tokio::task::spawn_blocking(move || play.end()).await.unwrap(), "");
    });
}

#[test]
fn an_early_response_keeps_the_connection_out_of_the_pool_until_the_request_is_written() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say(OK);
        (connection.until("0\r\n\r\n"), connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("a")).unwrap();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.pools.idle(), 0, "the request is still under way");
        give.send(piece("b")).unwrap();
        drop(give);
        client.idle(1).await;
    });
    assert_eq!(play.end().0, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
}

#[test]
fn dropping_an_early_response_breaks_off_the_request() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("a")).unwrap();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        drop(response);
        give.closed().await;
    });
    assert!(!play.end().contains("0\r\n\r\n"), "the body must not look whole");
}

#[test]
fn a_connection_that_closed_while_idle_is_replaced_without_a_word() {
    for (method, body) in [("GET", ""), ("POST", "data")] {
        let (close, wait) = channel::<()>();
        let play = Fake::start().play(move |fake| {
            let mut first = fake.next();
            first.head();
            first.say(OK);
            wait.recv().unwrap();
            drop(first);
            let mut second = fake.next();
            let head = second.head();
            second.until(body);
            second.say(OK);
            head
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            assert_eq!(client.get("/").await, "ok");
            client.idle(1).await;
            close.send(()).unwrap();
            client.idle(0).await;
            let request = Request::builder().method(method).uri("/again").body(full(body)).unwrap();
            assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
        });
        assert!(play.end().contains("/again"));
    }
}

#[test]
fn what_may_have_arrived_is_not_sent_again() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say(OK);
        connection.until("data");
        drop(connection);
        std::thread::yield_now();
        fake.nobody()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        client.idle(1).await;
        let error = client.send(Request::post("/").body(full("data")).unwrap()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Closed);
        assert!(!error.is_unsent());
    });
    assert!(play.end(), "no second connection was made");
}

#[test]
fn a_harmless_request_that_a_stale_connection_swallowed_is_sent_again() {
    let play = Fake::start().play(|fake| {
        let mut first = fake.next();
        first.head();
        first.say(OK);
        let swallowed = first.head();
        drop(first);
        let mut second = fake.next();
        let again = second.head();
        second.say(OK);
        (swallowed, again, second)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        // Only a connection that has waited for a second is worth the copy of a request.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(client.get("/again?a").await, "ok");
    });
    let (swallowed, again, _) = play.end();
    assert_eq!(swallowed, again);
}

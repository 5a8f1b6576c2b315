//! Time limits and answers that are none, each told apart.

use super::*;

#[test]
fn each_timeout_is_told_apart() {
    // Nobody answers: the connections wait in the backlog, or are read and left.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    on_a_worker(async {
        let first_byte = Client::new(addr, Timeouts { first_byte: Some(SHORT), ..timeouts() });
        assert_eq!(first_byte.fail(get("/")).await, SendErrorKind::FirstByteTimeout);

        let total = Client::new(addr, Timeouts { total: Some(SHORT), ..timeouts() });
        assert_eq!(total.fail(get("/")).await, SendErrorKind::TotalTimeout);

        let (give, body) = pieces();
        let times = Timeouts { idle: Some(SHORT), ..timeouts() };
        let idle = Client::new(addr, times);
        assert_eq!(idle.fail(Request::post("/").body(body).unwrap()).await, SendErrorKind::CallerIdle);
        drop(give);

        let (give, body) = pieces();
        for _ in 0..2000 {
            give.send(Ok(Frame::data(Bytes::from(vec![b'a'; 65536])))).unwrap();
        }
        assert_eq!(idle.fail(Request::post("/").body(body).unwrap()).await, SendErrorKind::IdleTimeout);
    });
}

#[test]
fn a_slow_upload_does_not_run_into_the_first_byte_timeout() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.until("0\r\n\r\n");
        connection.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, Timeouts { first_byte: Some(4 * SHORT), ..timeouts() });
        let (give, body) = pieces();
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SHORT);
            for _ in 0..6 {
                ticks.tick().await;
                give.send(piece("slow")).unwrap();
            }
        });
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
    });
    play.end();
}

#[test]
fn a_response_that_stands_still_is_broken_off() {
    for (times, total) in [
        (Timeouts { idle: Some(SHORT), ..timeouts() }, false),
        (Timeouts { total: Some(SHORT * 2), ..timeouts() }, true),
    ] {
        let play = Fake::start().play(|fake| {
            let mut connection = fake.next();
            connection.head();
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
            connection.rest()
        });
        on_a_worker(async {
            let client = Client::new(play.addr, times);
            let error = text(client.send(get("/")).await.unwrap()).await.unwrap_err();
            assert_eq!(matches!(error, BodyError::TotalTimeout), total, "{error:?}");
            assert_eq!(matches!(error, BodyError::IdleTimeout), !total, "{error:?}");
        });
        assert_eq!(play.end(), "");
    }
}

#[test]
fn a_truncated_response_is_an_error() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let error = text(client.send(get("/")).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
        client.idle(0).await;
    });
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    for answer in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 101 No\r\n\r\n"]
    {
        let play = Fake::start().play(move |fake| {
            let mut connection = fake.next();
            connection.head();
            connection.say(answer);
            connection.rest();
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            assert_eq!(client.fail(get("/")).await, SendErrorKind::Protocol, "{answer:?}");
        });
    }
}

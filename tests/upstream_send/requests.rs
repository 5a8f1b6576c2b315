//! How requests are written, and when their bodies go.

use super::*;

#[test]
fn a_request_arrives_in_origin_form_with_the_upstreams_host() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say(OK);
        head
    });
    let addr = play.addr;
    on_a_worker(async {
        let client = Client::new(addr, timeouts());
        let mut request = get("https://caller.example/base/a%2Fb;c?q=%20&q");
        request.headers_mut().insert("host", "caller.example".parse().unwrap());
        request.headers_mut().insert("x-a", "1".parse().unwrap());
        *request.version_mut() = http::Version::HTTP_2;
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
    });
    let head = play.end();
    assert!(head.starts_with("GET /base/a%2Fb;c?q=%20&q HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {addr}\r\n")) && !head.contains("caller"), "{head}");
    assert!(head.contains("\r\nx-a: 1\r\n"), "{head}");
}

#[test]
fn a_body_of_unknown_length_goes_in_chunks_whatever_the_method() {
    for method in ["POST", "GET", "HEAD", "DELETE"] {
        let play = Fake::start().play(|fake| {
            let mut connection = fake.next();
            let head = connection.head();
            let body = connection.until("0\r\n\r\n");
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            (head, body)
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            let (give, body) = pieces();
            give.send(piece("hello")).unwrap();
            drop(give);
            let request = Request::builder().method(method).uri("/").body(body).unwrap();
            assert_eq!(client.send(request).await.unwrap().status(), 200);
        });
        let (head, body) = play.end();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{method}: {head}");
        assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
}

#[test]
fn a_body_of_known_length_goes_as_it_is() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.until("hello");
        connection.say(OK);
        (head, connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let response = client.send(Request::post("/").body(full("hello")).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
        client.idle(1).await;
    });
    assert!(play.end().0.contains("\r\ncontent-length: 5\r\n"));
}

#[test]
fn a_body_waits_for_100_continue() {
    let (asked, was_asked): (Sender<()>, _) = channel();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert!(was_asked.try_recv().is_err(), "the body was not asked for");
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        connection.until("0\r\n\r\n");
        connection.say(OK);
        (head, connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let mut whole = Some(piece("data"));
        let body = StreamBody::new(futures_util::stream::poll_fn(move |_| {
            let _ = asked.send(());
            std::task::Poll::Ready(whole.take())
        }));
        let request = Request::post("/").header("expect", "100-continue").body(body.boxed_unsync()).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
        client.idle(1).await;
    });
    assert!(play.end().0.contains("\r\nexpect: 100-continue\r\n"));
}

#[test]
fn a_final_answer_instead_of_100_continue_means_that_the_body_never_goes() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("data")).unwrap();
        let request = Request::post("/").header("expect", "100-continue").body(body).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 417);
        assert_eq!(text(response).await.unwrap(), "no");
        give.closed().await;
        assert_eq!(client.pools.idle(), 0);
    });
    assert_eq!(play.end(), "");
}

#[test]
fn a_silent_upstream_gets_the_body_after_a_second() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.until("data");
        connection.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let request = Request::post("/").header("expect", "100-continue").body(full("data")).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
    });
    play.end();
}

#[test]
fn an_upgrade_is_a_stream_of_bytes_after_the_101_and_its_connection_is_never_pooled() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
        assert_eq!(connection.until("."), "hello.");
        connection.say(" late");
        head
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let request =
            Request::get("/").header("connection", "upgrade").header("upgrade", "echo").body(empty()).unwrap();
        let mut response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut io = response.body_mut().take_switched().unwrap();
        assert!(response.body_mut().take_switched().is_none());
        drop(response);
        io.write_all(b"hello.").await.unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "early late");
        assert_eq!(client.pools.idle(), 0);
    });
    let head = play.end();
    assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: echo\r\n"), "{head}");
}

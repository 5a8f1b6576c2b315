//! Calls over one connection: what is of one response, or of the request, is in no other.

use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, LINK};
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::runtime::Builder;
use tokio::task::{consume_budget, coop};

use super::decode::FEW;
use super::*;

type Ours = Connection<DuplexStream, Empty<Bytes>>;

#[test]
fn a_task_whose_turn_is_over_sees_what_came_on_a_connection_that_waited() {
    let runtime = Builder::new_current_thread().build().unwrap();
    for (said, closed) in [(&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], false), (b"", true), (b"", false)] {
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let connection: Ours = Connection::new(ours);
            assert!(connection.is_ready());
            theirs.write_all(said).await.unwrap();
            let theirs = Some(theirs).filter(|_| !closed);
            while coop::has_budget_remaining() {
                consume_budget().await;
            }
            assert_eq!(connection.is_ready(), said.is_empty() && !closed);
            drop(theirs);
        });
    }
}

/// A `GET` on this connection; the head of the response.
fn ask(connection: Ours, head: &RequestHead, informed: impl FnMut(StatusCode)) -> impl Future<Output = Answered> {
    connection.send(head, &HeaderValue::from_static("h"), Empty::new(), informed)
}

type Answered = Result<Response<Reply<DuplexStream, Empty<Bytes>>>, Failed<Empty<Bytes>>>;

/// What the future comes to; all that it waits for was said already.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("there is nothing to wait for")
}

/// A head with room that held the headers of its request.
fn head() -> RequestHead {
    let mut head = RequestHead::default();
    assert!(head.aim(&[b"/"]));
    let mut used = HeaderMap::new();
    used.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
    used.append(COOKIE, HeaderValue::from_static("a=1"));
    used.append(COOKIE, HeaderValue::from_static("b=2"));
    head.make_room(used);
    head
}

#[test]
fn the_headers_of_a_response_are_neither_the_requests_nor_those_of_an_interim_one() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </early>\r\nx-a: early\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nx-a: late\r\nx-b: 2\r\ncontent-length: 0\r\n\r\n";
    let length = interim.len();
    let cuts = [(2, 0), (2, 10), (2, length - 2), (2, length), (2, length + 40), (2, 2 * length + 10), (0, 0), (0, 20)];
    for (interims, cut) in cuts {
        let all = [&interim.repeat(interims), last].concat();
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (head, mut statuses) = (head(), Vec::new());
        let mut asked = Box::pin(ask(Connection::new(ours), &head, |status| statuses.push(status.as_u16())));
        let (first, rest) = all.as_bytes().split_at(cut);
        at_once(theirs.write_all(first)).unwrap();
        assert!(asked.as_mut().now_or_never().is_none(), "{cut}");
        at_once(theirs.write_all(rest)).unwrap();
        let response = at_once(asked).unwrap();
        let expected = [("x-a", "late"), ("x-b", "2"), ("content-length", "0")];
        let headers = response.headers();
        assert_eq!(headers.len(), expected.len(), "{cut}: {headers:?}");
        assert!(expected.iter().all(|(name, value)| headers.get_all(*name).iter().eq([value])), "{cut}: {headers:?}");
        assert!([AUTHORIZATION, COOKIE, LINK].iter().all(|name| !headers.contains_key(name)));
        assert_eq!(statuses, [103, 100].repeat(interims));
    }
}

/// So many bytes, told from those of other pieces by where they begin.
fn piece(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + number * 101 + at / 251) as u8).collect()
}

#[test]
fn pieces_arrive_byte_for_byte_on_a_connection_that_is_kept_whatever_is_still_held_of_them() {
    let lengths = [1, FEW - 1, FEW, FEW + 1, 2 * FEW, ROOM.0 + 1];
    let cases = lengths
        .iter()
        .flat_map(|length| [(false, false), (false, true), (true, false), (true, true)].map(|(c, h)| (*length, c, h)));
    for (length, chunked, together) in cases {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut connection: Ours = Connection::new(ours);
        // All that ever came is held to the end.
        let mut held: Vec<(Vec<u8>, Vec<Bytes>)> = Vec::new();
        for answer in 0..3 {
            let pieces: Vec<Vec<u8>> = (0..3).map(|number| piece(3 * answer + number, length)).collect();
            let mut said: Vec<Vec<u8>> = match chunked {
                true => pieces
                    .iter()
                    .map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
                    .collect(),
                false => pieces.clone(),
            };
            let head = match chunked {
                true => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
                false => format!("HTTP/1.1 200 OK\r\n{CONTENT_LENGTH}: {}\r\n\r\n", 3 * length),
            };
            said.insert(0, head.into_bytes());
            said.push(if chunked { b"0\r\n\r\n".to_vec() } else { Vec::new() });
            if together {
                said = vec![said.concat()];
            }
            let mut said = said.into_iter();
            at_once(theirs.write_all(&said.next().unwrap())).unwrap();
            assert!(connection.is_free());
            let mut body = at_once(ask(connection, &self::head(), |_| {})).unwrap().into_body();
            let whole = pieces.concat();
            // Once by another way, which must leave all where it is not all there.
            let mut came: Vec<Bytes> = (answer == 1).then(|| body.take_whole()).flatten().into_iter().collect();
            while came.iter().map(Bytes::len).sum::<usize>() < whole.len() {
                if let Some(more) = said.next() {
                    at_once(theirs.write_all(&more)).unwrap();
                }
                came.push(at_once(body.frame()).unwrap().unwrap().into_data().unwrap());
            }
            at_once(theirs.write_all(&said.flatten().collect::<Vec<_>>())).unwrap();
            assert!(at_once(body.frame()).is_none());
            held.push((whole, came));
            connection = body.take_kept().unwrap();
            connection.rest();
        }
        for (answer, (whole, came)) in held.iter().enumerate() {
            assert!(came.concat() == *whole, "answer {answer} of pieces of {length}, {chunked} {together}");
        }
    }
}

#[test]
fn a_small_piece_leaves_the_buffer_free_and_a_large_one_is_no_copy() {
    for length in [0, 1, FEW - 1, FEW, FEW + 1, 2 * FEW] {
        let bytes = piece(1, length + 100);
        let mut buffer = BytesMut::from(&bytes[..]);
        let (place, room) = (buffer.as_ptr(), buffer.capacity());
        let taken = decode::split(&mut buffer, length);
        assert!(taken == bytes[..length] && buffer == bytes[length..], "{length}");
        assert_eq!(taken.as_ptr() == place, length > FEW, "{length}");
        buffer.clear();
        assert_eq!(buffer.try_reclaim(room), length <= FEW, "{length}");
        buffer.extend_from_slice(&piece(2, room));
        assert!(taken == bytes[..length], "{length}: what comes next is not written over it");
    }
}

/// A stream that takes nothing, and ends once that was tried.
struct Broken(bool);

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for Broken {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        self.0 = true;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_request_goes_at_the_end_of_the_turn_and_its_response_arrives() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let head = head();
        let mut asked = Box::pin(ask(Connection::new(ours), &head, |_| {}));
        assert!(asked.as_mut().now_or_never().is_none());
        let mut came = vec![0; 1024];
        assert!(theirs.read(&mut came).now_or_never().is_none(), "the turn is not over");
        let read = theirs.read(&mut came).await.unwrap();
        assert!(came[..read].starts_with(b"GET / HTTP/1.1\r\n"));
        theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(asked.await.unwrap().status(), StatusCode::NO_CONTENT);
    });
}

#[test]
fn a_request_that_nobody_waits_for_any_more_does_not_go() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (head, connection) = (head(), Connection::new(ours));
        let mut asked = Box::pin(ask(connection.clone(), &head, |_| {}));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(asked);
        batch::look(1 << 20);
        assert!(theirs.read_u8().now_or_never().is_none());
        assert!(!connection.is_ready(), "half of a call is on it");
        drop(connection);
        assert!(theirs.read_u8().await.is_err());
    });
}

#[test]
fn a_connection_that_ends_before_the_request_went_gives_it_back() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, theirs) = tokio::io::duplex(1024);
        drop(theirs);
        let failed = ask(Connection::new(ours), &head(), |_| {}).await.unwrap_err();
        assert!(failed.unsent.is_some(), "{failed:?}");
    });
}

#[test]
fn what_a_kept_connection_says_before_the_request_went_is_no_answer_to_it() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        for late in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let (head, connection) = (head(), Connection::new(ours));
            connection.rest();
            let mut asked = Box::pin(ask(connection, &head, |_| {}));
            if late {
                assert!(asked.as_mut().now_or_never().is_none());
            }
            at_once(theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")).unwrap();
            let failed = asked.await.unwrap_err();
            assert!(failed.unsent.is_some(), "{failed:?}");
            assert!(theirs.read_u8().await.is_err(), "the request did not go");
        }
    });
}

#[test]
fn a_kept_connection_that_ends_while_the_request_waits_gives_it_back() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, theirs) = tokio::io::duplex(1024);
        let (head, connection) = (head(), Connection::new(ours));
        connection.rest();
        let mut asked = Box::pin(ask(connection, &head, |_| {}));
        assert!(asked.as_mut().now_or_never().is_none());
        drop(theirs);
        let failed = asked.await.unwrap_err();
        assert!(failed.unsent.is_some(), "{failed:?}");
    });
}

#[test]
fn a_request_with_a_body_does_not_wait() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (head, body) = (head(), Full::new(Bytes::from_static(b"body")));
        let mut asked = Box::pin(Connection::new(ours).send(&head, &HeaderValue::from_static("h"), body, |_| {}));
        assert!(asked.as_mut().now_or_never().is_none());
        let mut came = vec![0; 1024];
        let read = at_once(theirs.read(&mut came)).unwrap();
        assert!(came[..read].ends_with(b"\r\n\r\nbody"));
    });
}

#[test]
fn whoever_waits_hears_of_a_connection_that_did_not_take_the_request() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let head = head();
        let sending: Sending<Broken, Empty<Bytes>, _> =
            Connection::new(Broken(false)).send(&head, &HeaderValue::from_static("h"), Empty::new(), |_| {});
        let failed = sending.await.unwrap_err();
        assert!(matches!(&failed.fault, Fault::Closed(why) if why.contains("broken pipe")), "{failed:?}");
    });
}

#[test]
fn an_upstream_that_speaks_before_it_is_asked_is_asked_first() {
    batch::Runtime::with_batches().unwrap().block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let head = head();
        assert_eq!(ask(Connection::new(ours), &head, |_| {}).await.unwrap().status(), StatusCode::NO_CONTENT);
        let mut came = vec![0; 1024];
        assert!(theirs.read(&mut came).now_or_never().unwrap().unwrap() > 0);
    });
}

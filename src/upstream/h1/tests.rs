//! Calls over one connection: what is of one response, or of the request, is in no other.

use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, LINK};
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncWriteExt, DuplexStream};
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

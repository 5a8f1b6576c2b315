//! The gateway's own HTTP/1.1 client against hyper's: the same verdict on whatever an upstream says, and the same framing
//! both ways. `PROPTEST_CASES` sets how many inputs are tried.
#![allow(unreachable_pub, reason = "a fuzz target reads the same file")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod both;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use proptest::prelude::*;

use both::{Pieces, Script, Seen, hypers, own};

/// What responses are made of, and what breaks them.
const WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 404 \r\n",
    "HTTP/1.1 404\r\n",
    "HTTP/1.1 299 Odd\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n",
    "HTTP/1.1 099 Low\r\n",
    "HTTP/2.0 200 OK\r\n",
    "HTTP/0.9 200 OK\r\n",
    "content-length: 5\r\n",
    "content-length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length: 5, 5\r\n",
    "content-length: 5,3\r\n",
    "content-length: +5\r\n",
    "content-length: \r\n",
    "content-length: 18446744073709551615\r\n",
    "content-length: 18446744073709551613\r\n",
    "content-length: 99999999999999999999\r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip, Chunked\r\n",
    "transfer-encoding: gzip\r\n",
    "transfer-encoding: chunked, gzip\r\n",
    "transfer-encoding:\r\n",
    "transfer-encoding : chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "connection: x, Close\r\n",
    "trailer: x\r\n",
    "x: 1\r\n",
    "x:\r\n",
    "x: a\r\n b\r\n",
    "x: \u{e9}\r\n",
    "x : 1\r\n",
    ": 1\r\n",
    "x\r\n",
    "x: 1\n",
    "x: a\0b\r\n",
    "x: a\rb\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "\r",
    "5\r\nabcde\r\n",
    "3\r\nabc\r\n",
    "0003\r\nabc\r\n",
    "A\r\n0123456789\r\n",
    "3;ext=\"q\"\r\nabc\r\n",
    "3 \t\r\nabc\r\n",
    "3 4\r\nabc\r\n",
    "3;\nabc\r\n",
    "3\nabc\r\n",
    "3\r\nabcd\r\n",
    "-3\r\nabc\r\n",
    "0x3\r\nabc\r\n",
    "g\r\n",
    "ffffffffffffffff\r\n",
    "10000000000000000\r\n",
    "0\r\n",
    "0\r\n\r\n",
    "0\r\nx: 1\r\n\r\n",
    "0\r\nx: 1\r\ny:2\r\n\r\n",
    "0\r\nx 1\r\n\r\n",
    "0\r\nx: 1\n\r\n",
    "0\r\n y: 1\r\n\r\n",
    "abcde",
    "abc",
    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
];

fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(word, 0..10).prop_map(|words| words.concat())
}

/// A response that is whole, or nearly.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::subsequence(WORDS[13..43].to_vec(), 0..3);
    let body = prop::collection::vec(prop::sample::select(WORDS[47..].to_vec()), 0..4);
    (prop::sample::select(WORDS[..13].to_vec()), lines, body)
        .prop_map(|(status, lines, body)| [status, &lines.concat(), "\r\n", &body.concat()].concat().into_bytes())
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (likely(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(
        |(mut text, changes)| {
            for (place, byte) in changes {
                let place = place.index(text.len());
                text[place] = byte;
            }
            text
        },
    )
}

fn script() -> impl Strategy<Value = Script> {
    let bytes = prop_oneof![2 => words(), 4 => likely(), 3 => mutated()];
    (bytes, prop::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>()).prop_map(|(bytes, cuts, ends)| {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push(bytes[from..cut].to_vec());
            from = cut;
        }
        Script { pieces, ends }
    })
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST])
}

fn plain(method: &Method) -> Request<Pieces> {
    Request::builder().method(method).uri("/a?b").header("host", "h").body(Pieces::default()).unwrap()
}

fn both(request: Request<Pieces>, script: &Script) -> (Seen, Seen) {
    (own(request.clone(), script), hypers(request, script))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 4096, ..ProptestConfig::default() })]

    #[test]
    fn whatever_an_upstream_says_the_verdict_is_the_same(method in method(), script in script()) {
        let (own, hypers) = both(plain(&method), &script);
        prop_assert_eq!(own, hypers, "{} {:?}", method, script.pieces.concat().escape_ascii().to_string());
    }

    #[test]
    fn a_request_is_framed_in_the_same_way(
        method in prop::sample::select(vec![Method::POST, Method::PUT, Method::DELETE]),
        pieces in prop::collection::vec("[a-z]{0,9}", 0..4),
        large in any::<bool>(),
        tells in any::<bool>(),
        chunked in any::<bool>(),
        announced in prop::option::of(prop::sample::select(vec!["x", "x, y", "content-length", "X , authorization"])),
        trailers in prop::option::of(prop::collection::vec(
            (prop::sample::select(vec!["x", "y", "content-length", "authorization"]), "[a-z]{0,3}"), 1..4)),
    ) {
        let mut left: std::collections::VecDeque<_> = pieces.into_iter().map(Bytes::from).collect();
        if large {
            left.push_back(Bytes::from(vec![b'l'; 20_000]));
        }
        let size: usize = left.iter().map(Bytes::len).sum();
        let trailers = trailers.map(|lines| HeaderMap::from_iter(lines.into_iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).unwrap())
        })));
        let mut request = plain(&method);
        *request.body_mut() = Pieces { left, trailers, tells };
        if chunked {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        } else if !tells && size.is_multiple_of(2) {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        if let Some(announced) = announced {
            request.headers_mut().insert(TRAILER, HeaderValue::from_static(announced));
        }
        let script = Script { pieces: vec![b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()], ends: false };
        let (own, hypers) = both(request, &script);
        prop_assert_eq!(own, hypers);
    }
}

#[test]
fn heads_and_trailers_have_the_same_bounds() {
    let lines = |count: usize| format!("x{count}: 1\r\n").repeat(count);
    let wide = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n").into_bytes();
    let trailers =
        |lines: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{lines}\r\n").into_bytes();
    let extension = |length: usize| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;{}\r\na\r\n0\r\n\r\n", "e".repeat(length))
            .into_bytes()
    };
    let mut cases = Vec::new();
    for count in [98, 99, 100, 101] {
        cases.extend([head(&lines(count)), trailers(&lines(count))]);
    }
    for length in [1000, 256 * 1024 - 60, 256 * 1024, 300 * 1024] {
        cases.extend([head(&wide(length)), trailers(&wide(length))]);
    }
    cases.extend([16 * 1024 - 2, 16 * 1024 - 1, 16 * 1024].map(extension));
    for bytes in cases {
        for piece in [1460, 1 << 20] {
            let script = Script { pieces: bytes.chunks(piece).map(<[u8]>::to_vec).collect(), ends: false };
            let (own, hypers) = both(plain(&Method::GET), &script);
            assert_eq!(own.head.is_ok(), hypers.head.is_ok(), "{}", bytes.len());
            assert_eq!((own.end, own.kept), (hypers.end, hypers.kept), "{} {piece}", bytes.len());
        }
    }
}

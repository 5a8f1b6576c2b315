//! Responses: whatever an upstream says, the gateway's own client makes of it what hyper's does.
#![no_main]

#[path = "../../tests/h1_differential/both.rs"]
mod both;

use arbitrary::Arbitrary;
use both::{Pieces, Script, hypers, own};
use http::{Method, Request};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    method: u8,
    ends: bool,
    cuts: [u8; 3],
    text: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let method = [Method::GET, Method::HEAD, Method::POST][usize::from(input.method) % 3].clone();
    let mut pieces = Vec::new();
    let mut rest = input.text;
    for cut in input.cuts {
        let (piece, after) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces.push(rest.to_vec());
    let script = Script { pieces, ends: input.ends };
    let request = || Request::builder().method(&method).uri("/").header("host", "h").body(Pieces::default()).unwrap();
    assert_eq!(own(request(), &script), hypers(request(), &script));
});

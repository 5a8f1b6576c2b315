//! Bodies over HTTP/2.

use super::support::frames::{INITIAL_WINDOW_SIZE, RST_STREAM};
use super::support::{Frames, Gateway, Upstream};

#[test]
fn a_caller_that_gives_no_window_does_not_hold_the_upstreams_connection() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            exchange.send("5\r\nhello\r\n")?;
        }
    });
    let gateway = Gateway::with_service(&upstream.url(), "").config("[limits]\nkeep_alive = \"200ms\"").start();
    let token = gateway.token("alice");
    let mut caller = Frames::connect(gateway.proxy(), &[(INITIAL_WINDOW_SIZE, 0)]);
    caller.request(1, "/materials/mp/x", &[("authorization", &format!("Bearer {token}"))], false);
    upstream.wait_until_closed(1);
    assert_eq!(caller.rest().last().map(|frame| frame.kind), Some(RST_STREAM));
}

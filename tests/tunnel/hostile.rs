//! Clients of tunnels that do what they should not.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::House;
use super::support::Tunnel;

#[test]
fn answers_that_are_malformed_unknown_given_already_or_anothers_are_ignored() {
    let house = House::built("", |builder| {
        builder
            .service("materials", "other", "http://127.0.0.1:9", "tunnel = true")
            .grant("tess", "materials.other", "write")
            .grant("alice", "materials.other", "execute")
    });
    let mut tunnel = house.tunnel();
    let mut other = Tunnel::open(&house.gateway, &house.tess, "materials/other");
    let first = house.call("/first");
    let done = tunnel.next();
    tunnel.answer(&done, "first");
    assert_eq!(first.join().unwrap().text(), "first");
    let calling = house.call("/x");
    let call = tunnel.next();
    let of_other = super::sending(house.gateway.call("GET", "/materials/other/x").token(&house.alice));
    let others = other.next();
    tunnel.answer(&others, "not yours");
    other.answer(&call, "nor yours");
    let id = &call["taskId"];
    for bad in [
        String::new(),
        "null".to_owned(),
        "{".to_owned(),
        "[".repeat(100_000),
        json!({"taskId": id}).to_string(),
        json!({"taskId": id, "event": null}).to_string(),
        json!({"taskId": id, "event": {}}).to_string(),
        json!({"taskId": id, "event": {"status_code": 101, "headers": {}, "body": ""}}).to_string(),
        json!({"taskId": id, "event": {"status_code": "x", "headers": {}, "body": ""}}).to_string(),
        json!({"taskId": id, "event": {"status_code": 200, "headers": [], "body": ""}}).to_string(),
        json!({"taskId": "unknown", "event": {"status_code": 200, "headers": {}, "body": "unknown"}}).to_string(),
        json!({"taskId": [id], "event": {"status_code": 200, "headers": {}, "body": "list"}}).to_string(),
        json!({"message": "Internal server error"}).to_string(),
    ] {
        tunnel.say(&bad);
    }
    tunnel.answer(&done, "given already");
    tunnel.send(Message::binary(json!({"taskId": id}).to_string()));
    tunnel.answer(&call, "right");
    tunnel.answer(&call, "twice");
    assert_eq!(calling.join().unwrap().text(), "right");
    other.answer(&others, "right too");
    assert_eq!(of_other.join().unwrap().text(), "right too");
    let calling = house.call("/after");
    let call = tunnel.next();
    tunnel.answer(&call, "after");
    assert_eq!(calling.join().unwrap().text(), "after");
}

#[test]
fn who_only_sends_what_answers_nothing_is_cut_off() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    tunnel.next();
    for _ in 0..300 {
        tunnel.say("{}");
    }
    assert_eq!(calling.join().unwrap().status(), 502);
    assert_eq!(tunnel.closed(), Some(1008));
    house.is_at_base();
}

#[test]
fn an_answer_beyond_the_limit_ends_the_tunnel_and_one_below_passes() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    let large = "a".repeat(7 * 1024 * 1024);
    tunnel.answer(&call, &large);
    assert_eq!(calling.join().unwrap().body.len(), large.len());
    let calling = house.call("/y");
    let call = tunnel.next();
    tunnel.answer(&call, &"a".repeat(9 * 1024 * 1024));
    assert_eq!(calling.join().unwrap().status(), 502);
    house.is_at_base();
}

#[test]
fn pings_are_answered_while_a_call_waits_and_while_none_does() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    tunnel.send(Message::Ping("one".into()));
    assert_eq!(tunnel.message(), Message::Pong("one".into()));
    let calling = house.call("/x");
    let call = tunnel.next();
    tunnel.send(Message::Ping("two".into()));
    assert_eq!(tunnel.message(), Message::Pong("two".into()));
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
}

#[test]
fn what_is_no_websocket_ends_the_tunnel() {
    let house = House::new("");
    let mut open = {
        let target = "/service-tunnel?namespace=materials&service=mp";
        let ask = house.gateway.rest("GET", target).token(&house.tess).header("Connection", "Upgrade");
        let ask = ask.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
        ask.header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==").open()
    };
    assert_eq!(open.head().status(), 101);
    // A frame without the mask that clients must use, RFC 6455 §5.1.
    open.send(b"\x81\x02{}");
    open.until_closed();
    house.is_at_base();
}

#[test]
fn headers_of_an_answer_cannot_break_the_response() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    let headers = json!({
        "x-split": "a\r\nX-Forged: 1", "bad name": "x", "": "x", "x-fine": "fine", "x-request-id": "forged",
        "x-number": 1, "x-object": {}, "content-length": "1", "Transfer-Encoding": "chunked",
    });
    tunnel.answer_with(&call, 200, &headers, "whole");
    let answer = calling.join().unwrap();
    assert_eq!((answer.text().as_str(), answer.header("x-fine")), ("whole", Some("fine")));
    assert_eq!((answer.header("x-forged"), answer.header("x-split")), (None, None));
    assert_ne!(answer.header("x-request-id"), Some("forged"));
}

//! Calls on the proxy listener to a service behind a tunnel: as with any other service the caller waits for the answer.

use std::sync::mpsc;
use std::thread::spawn;

use serde_json::json;

use super::support::Gateway;
use super::{House, sending};

#[test]
fn a_call_is_a_message_and_its_answer_a_response() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let ask = house.ask("POST", "/a%2Fb/c?q=1&q=a+b&r=%C3%BC&flag").header("Content-Type", "application/json");
    let calling = sending(ask.header("X-Carta-User", "olga").header("X-Own", "mine").body("{\"k\": \"ü\"}"));
    let call = tunnel.next();
    let event = &call["event"];
    assert!(call["taskId"].is_string());
    assert_eq!(event["httpMethod"], "POST");
    assert_eq!(event["path"], "/materials/mp/a%2Fb/c");
    assert_eq!(event["params"], json!({"q": ["1", "a b"], "r": "ü", "flag": ""}));
    assert_eq!(event["body"], "{\"k\": \"ü\"}");
    let headers = &event["headers"];
    assert_eq!((&headers["x-carta-user"], &headers["x-own"]), (&json!("alice"), &json!("mine")));
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers["x-request-id"].is_string() && headers.get("content-length").is_none(), "{headers}");
    let said = json!({
        "content-type": "application/json", "content-length": "999", "content-encoding": "gzip",
        "transfer-encoding": "chunked", "x-service": "yes", "carta-gateway": "forged", "connection": "close",
    });
    tunnel.answer_with(&call, 201, &said, "{\"made\": \"ü\"}");
    let answer = calling.join().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (201, "{\"made\": \"ü\"}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some("14"));
    assert_eq!((answer.header("x-service"), answer.problem()), (Some("yes"), None));
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(house.base.received().len(), 0);
}

#[test]
fn a_call_without_body_and_query_has_null_and_nothing() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("");
    let call = tunnel.next();
    assert_eq!(call["event"]["path"], "/materials/mp");
    assert_eq!((&call["event"]["params"], &call["event"]["body"]), (&json!({}), &json!(null)));
    tunnel.answer_with(&call, 204, &json!({}), "no body with 204");
    let answer = calling.join().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (204, ""));
}

#[test]
fn the_service_checks_its_caller_by_a_token_that_is_good_for_nothing_else() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    let headers = call["event"]["headers"].as_object().unwrap();
    let token = headers["Authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_ne!(token, house.alice);
    let copies = headers.keys().filter(|name| name.eq_ignore_ascii_case("authorization") || name.contains("token"));
    assert_eq!(copies.count(), 1, "{headers:?}");
    let rest = |method: &str, target: &str| house.gateway.rest(method, target).token(&token);
    assert_eq!(rest("GET", "/user/authenticated").expect(200).text(), "true");
    assert_eq!(rest("GET", "/user").expect(200).json()["name"], "alice");
    let service = rest("GET", "/service/details/materials/mp").expect(200).json();
    assert_eq!(service["permission"], "Read, Execute");
    for (method, target) in [("GET", "/secret"), ("GET", "/user/users"), ("PUT", "/secret")] {
        assert_eq!(rest(method, target).header("secret-x", "y").body("").expect(403).problem(), Some("token-scope"));
    }
    assert_eq!(rest("GET", "/service/materials/mp/x").expect(403).problem(), Some("token-scope"));
    let proxied = house.gateway.call("GET", "/materials/mp/x").token(&token).expect(403);
    assert_eq!(proxied.problem(), Some("token-scope"));
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
}

#[test]
fn who_may_not_call_is_refused_and_the_tunnel_hears_nothing() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    house.gateway.call("GET", "/materials/mp/secretly").token(&house.gateway.token("bob")).expect(403);
    house.gateway.call("GET", "/materials/mp/secretly").expect(401);
    house.gateway.call("GET", "/materials/mp/secretly").token(&house.tess).expect(403);
    let calling = house.call("/openly");
    let call = tunnel.next();
    assert_eq!(call["event"]["path"], "/materials/mp/openly");
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
}

#[test]
fn nothing_is_injected_into_a_tunnel_and_the_callers_token_stays_here() {
    let lines = "forward_token = \"full\"\n[service.inject]\nheaders = { X-API-KEY = \"{secret:key}\", X-Site = \"site-canary\" }\n\
                 query = { key = \"{secret:key}\" }";
    let house = House::new(lines);
    house.gateway.secret(&house.alice, "key", "canary-value");
    let mut tunnel = house.tunnel();
    let calling = sending(house.ask("GET", "/x?key=mine&other=1").header("X-API-KEY", "mine"));
    let call = tunnel.next();
    let text = call.to_string();
    assert!(!text.contains("canary") && !text.contains("mine") && !text.contains(&house.alice), "{text}");
    assert_eq!(call["event"]["params"], json!({"other": "1"}));
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().status(), 200);
    // Nor was the user asked for a consent that nothing needs.
    let known = house.gateway.rest("GET", "/secret").token(&house.alice).expect(200).json();
    assert_eq!(known[0]["consents"], json!([]));
}

#[test]
fn a_public_endpoint_has_no_caller_and_no_token() {
    let house = House::new("public = [\"/health\"]");
    let mut tunnel = house.tunnel();
    let calling = sending(house.gateway.call("GET", "/materials/mp/health"));
    let call = tunnel.next();
    assert!(call["event"]["headers"].get("Authorization").is_none(), "{call}");
    tunnel.answer(&call, "fine");
    assert_eq!(calling.join().unwrap().text(), "fine");
}

#[test]
fn a_redirect_within_the_service_leads_to_the_callers_address() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    for (said, expected) in
        [("/materials/mp/y?a=1", "/materials/mp/y?a=1"), ("https://other.example/", "https://other.example/")]
    {
        let calling = house.call("/x");
        let call = tunnel.next();
        tunnel.answer_with(&call, 307, &json!({"location": said}), "");
        assert_eq!(calling.join().unwrap().header("location"), Some(expected));
    }
}

#[test]
fn a_message_may_have_a_mebibyte_and_no_byte_more() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = sending(house.ask("POST", "/x").body("small"));
    let call = tunnel.next();
    // What this very call makes beside its body; ids and tokens are of one length.
    let around = call.to_string().len() - "small".len();
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().status(), 200);
    let most = 1024 * 1024 - around - 64;
    let calling = sending(house.ask("POST", "/x").body("a".repeat(most)));
    let call = tunnel.next();
    assert_eq!(call["event"]["body"].as_str().unwrap().len(), most);
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().status(), 200);
    // A quote takes two bytes of a message: what counts is the message.
    for body in ["a".repeat(1024 * 1024), "\"".repeat(600_000), "a".repeat(3 * 1024 * 1024)] {
        let refused = house.ask("POST", "/x").body(body).expect(413);
        assert_eq!(refused.problem(), Some("body-too-large"));
        assert!(refused.text().contains("1048576"), "{}", refused.text());
    }
}

#[test]
fn what_is_no_text_is_refused_and_says_why() {
    let house = House::new("");
    let _tunnel = house.tunnel();
    for ask in [house.ask("POST", "/x").body(b"\xff\xfe"), house.ask("GET", "/x?q=%FF")] {
        let refused = ask.expect(400);
        assert_eq!(refused.problem(), Some("invalid-input"));
        assert!(refused.json()["detail"].as_str().unwrap().contains("not UTF-8"), "{}", refused.text());
    }
}

#[test]
fn a_service_that_does_not_answer_in_time_is_504_and_the_next_call_goes_out() {
    let house = House::new("timeouts = { first_byte = \"1s\" }");
    let mut tunnel = house.tunnel();
    let slow = house.ask("GET", "/slow").expect(504);
    assert_eq!(slow.problem(), Some("upstream-timeout"));
    let late = tunnel.next();
    let calling = house.call("/next");
    let call = tunnel.next();
    // The late answer is nobody's any more.
    tunnel.answer(&late, "late");
    tunnel.answer(&call, "in time");
    assert_eq!(calling.join().unwrap().text(), "in time");
}

#[test]
fn one_call_goes_out_at_a_time_and_those_of_callers_who_left_never_do() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let first = house.call("/first");
    let one = tunnel.next();
    let second = house.ask("GET", "/second").open();
    let third = house.call("/third");
    // Their order in the line is their own affair; the second leaves before its turn.
    drop(second);
    super::support::eventually("the gateway notices who left", super::support::PATIENCE, || {
        house.gateway.log().contains("/materials/mp/second").then_some(())
    });
    tunnel.answer(&one, "1");
    let next = tunnel.next();
    assert_eq!(next["event"]["path"], "/materials/mp/third");
    tunnel.answer(&next, "3");
    assert_eq!(first.join().unwrap().text() + &third.join().unwrap().text(), "13");
}

#[test]
fn when_the_line_is_full_the_next_caller_is_told_to_come_back() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let (tell, told) = mpsc::channel();
    // One that the service works on, 64 in the line, and seven for whom there is no room.
    for _ in 0..72 {
        let (ask, tell) = (house.ask("GET", "/x"), tell.clone());
        spawn(move || {
            let answer = ask.send();
            tell.send((answer.status(), answer.header("retry-after").map(str::to_owned))).ok();
        });
    }
    let _held = tunnel.next();
    for _ in 0..7 {
        assert_eq!(told.recv_timeout(super::support::PATIENCE).unwrap(), (503, Some("5".to_owned())));
    }
    tunnel.close();
    for _ in 0..65 {
        assert_eq!(told.recv_timeout(super::support::PATIENCE).unwrap().0, 502);
    }
}

#[test]
fn the_record_the_access_line_and_the_metrics_know_a_call_by_a_tunnel() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    tunnel.answer_with(&call, 418, &json!({}), "teapot");
    let answer = calling.join().unwrap();
    let id = answer.header("x-request-id").unwrap();
    let why = house.gateway.rest("GET", &format!("/explain/{id}")).token(&house.alice).expect(200).json();
    assert_eq!(why["status"], 418, "{why}");
    assert!(house.gateway.log().lines().any(|line| line.contains(id) && line.contains("status=418")));
    let metrics = house.gateway.rest("GET", "/-/metrics").expect(200).text();
    for line in ["carta_gateway_tunnels 1", "carta_gateway_tunnel_calls_total{result=\"answered\"} 1"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn a_service_that_was_registered_with_a_placeholder_is_called_by_its_tunnel() {
    let gateway = Gateway::builder().user("tess", &[]).start();
    let token = gateway.token("tess");
    gateway.rest("POST", "/service/reserve/lab").token(&token).body("").expect(200);
    let target = "/service/register/lab/fit?baseUrl=http%3A%2F%2Flocalhost";
    gateway.rest("POST", target).token(&token).body("").expect(200);
    // Loopback is no target of a registered service.
    assert_eq!(gateway.call("GET", "/lab/fit/x").token(&token).expect(502).problem(), Some("target-refused"));
    let mut tunnel = super::Tunnel::open(&gateway, &token, "lab/fit");
    let calling = sending(gateway.call("GET", "/lab/fit/x").token(&token));
    let call = tunnel.next();
    tunnel.answer(&call, "fitted");
    assert_eq!(calling.join().unwrap().text(), "fitted");
}

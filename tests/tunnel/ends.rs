//! How a tunnel ends, and what becomes of the calls that it had.

use serde_json::{Value, json};

use super::support::{PATIENCE, Tunnel, eventually};
use super::{House, sending};

#[test]
fn a_tunnel_that_closes_fails_its_calls_and_the_address_is_used_again() {
    let house = House::new("");
    for polite in [true, false] {
        let mut tunnel = house.tunnel();
        let calling = house.call("/x");
        tunnel.next();
        if polite {
            tunnel.close();
        } else {
            drop(tunnel);
        }
        let answer = calling.join().unwrap();
        assert_eq!((answer.status(), answer.problem()), (502, Some("upstream-closed")));
        house.is_at_base();
    }
}

#[test]
fn a_newer_tunnel_takes_the_place_of_the_older() {
    let house = House::new("");
    let mut old = house.tunnel();
    let in_flight = house.call("/x");
    let asked = old.next();
    let mut new = house.tunnel();
    assert_eq!(in_flight.join().unwrap().status(), 502);
    let calling = house.call("/y");
    let call = new.next();
    // The old one cannot answer what was given to it, nor what was given to the new one.
    old.answer(&asked, "too late");
    old.answer(&call, "not yours");
    assert_eq!(old.closed(), Some(4001));
    drop(old);
    new.answer(&call, "new");
    assert_eq!(calling.join().unwrap().text(), "new");
    let calling = house.call("/z");
    let call = new.next();
    new.answer(&call, "still there");
    assert_eq!(calling.join().unwrap().text(), "still there");
}

#[test]
fn a_tunnel_ends_when_its_opener_may_no_longer_write_the_service() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    tunnel.next();
    house.gateway.run(&["revoke", "tess", "materials.mp", "write"]).done();
    assert_eq!(tunnel.closed(), Some(1008));
    assert_eq!(calling.join().unwrap().status(), 502);
    house.is_at_base();
    assert_eq!(Tunnel::try_open(&house.gateway, &house.tess, "materials/mp").err().unwrap().0, 403);
}

#[test]
fn the_audit_tells_who_opened_a_tunnel_and_took_it_over_and_nothing_of_reconnects() {
    let house = House::built("", |builder| builder.user("tom", &[]).grant("tom", "materials.mp", "write"));
    let (olga, tom) = (house.gateway.token("olga"), house.gateway.token("tom"));
    let told = || {
        let entries = house.gateway.rest("GET", "/audit?target=materials%2Fmp").token(&olga).expect(200).json();
        let tunnel = |entry: &&Value| entry["what"].as_str().unwrap().starts_with("tunnel.");
        let tunnels: Vec<Value> = entries.as_array().unwrap().iter().filter(tunnel).cloned().collect();
        let line = |entry: &Value| format!("{} {}", entry["what"].as_str().unwrap(), entry["user"].as_str().unwrap());
        (tunnels.iter().rev().map(line).collect::<Vec<_>>(), tunnels)
    };
    for _ in 0..5 {
        house.tunnel().close();
    }
    let old = house.tunnel();
    let (lines, entries) = told();
    assert_eq!(lines, ["tunnel.open tess"]);
    assert_eq!((&entries[0]["via"], &entries[0]["from"]), (&json!("api"), &json!("127.0.0.1")));
    assert_eq!(entries[0]["target"], "materials/mp");
    let new = Tunnel::open(&house.gateway, &tom, "materials/mp");
    let entries = eventually("tess's end is told", PATIENCE, || {
        let (lines, entries) = told();
        (lines == ["tunnel.open tess", "tunnel.open tom", "tunnel.close tess"]).then_some(entries)
    });
    assert_eq!((&entries[0]["before"]["connections"], &entries[0]["after"]["ending"]), (&json!(6), &json!("replaced")));
    drop((old, new));
}

#[test]
fn a_handshake_that_is_refused_for_the_rate_leaves_the_tunnel_that_is_there() {
    let house = House::built("", |builder| builder.user("tom", &[]).grant("tom", "materials.mp", "write"));
    let tom = house.gateway.token("tom");
    let (mut open, mut refusal) = (house.tunnel(), None);
    for token in [&tom, &house.tess].into_iter().cycle().take(200) {
        match Tunnel::try_open(&house.gateway, token, "materials/mp") {
            Ok(next) => open = next,
            Err(refused) => {
                refusal = Some(refused);
                break;
            }
        }
    }
    let (status, problem) = refusal.unwrap();
    assert_eq!((status, &problem["type"]), (429, &"urn:carta-gateway:problem:too-many-changes".into()));
    let calling = house.call("/x");
    let call = open.next();
    open.answer(&call, "still there");
    assert_eq!(calling.join().unwrap().text(), "still there");
}

#[test]
fn a_tunnel_that_closed_just_before_the_gateway_ends_is_closed_in_the_audit() {
    let house = House::new("");
    house.tunnel().close();
    eventually("the tunnel is closed", PATIENCE, || house.gateway.log().contains("a tunnel ended").then_some(()));
    house.gateway.signal("TERM");
    assert_eq!(house.gateway.wait_for_end(), Some(0));
    let listed = house.gateway.run(&["audit", "list", "--what", "tunnel.close", "--json"]).done();
    let entry: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(entry["after"]["ending"], "closed");
}

#[test]
fn a_tunnel_that_is_open_when_the_gateway_ends_is_closed_in_the_audit() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    house.gateway.signal("TERM");
    assert_eq!(tunnel.closed(), Some(1001));
    assert_eq!(house.gateway.wait_for_end(), Some(0));
    let listed = house.gateway.run(&["audit", "list", "--what", "tunnel.close", "--json"]).done();
    let entry: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&entry["via"], &entry["after"]["ending"]), (&json!("tunnel"), &json!("draining")));
}

#[test]
fn a_tunnel_ends_with_its_openers_account() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    house.gateway.run(&["user", "disable", "tess"]).done();
    assert_eq!(tunnel.closed(), Some(1008));
    house.is_at_base();
}

#[test]
fn a_tunnel_ends_with_its_service_and_with_its_name() {
    let house = House::new("");
    let rest = |method: &str, target: &str| {
        house.gateway.rest(method, target).token(&house.tess).body("").expect(200);
    };
    rest("POST", "/service/reserve/lab");
    rest("POST", "/service/register/lab/fit?baseUrl=http%3A%2F%2Flocalhost");
    let mut tunnel = Tunnel::open(&house.gateway, &house.tess, "lab/fit");
    rest("PATCH", "/service/rename/lab/fit/fitted");
    assert_eq!(tunnel.closed(), Some(1008));
    let mut tunnel = Tunnel::open(&house.gateway, &house.tess, "lab/fitted");
    // Another address is no reason to end: it is not used meanwhile.
    rest("POST", "/service/register/lab/fitted?baseUrl=http%3A%2F%2Flocalhost%3A81");
    let calling = sending(house.gateway.call("GET", "/lab/fitted/x").token(&house.tess));
    let call = tunnel.next();
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
    rest("DELETE", "/service/remove/lab/fitted");
    assert_eq!(tunnel.closed(), Some(1008));
}

#[test]
fn a_caller_who_loses_the_permission_waits_no_longer() {
    let house = House::new("");
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    let waiting = house.call("/y");
    eventually("the second call is in the line", PATIENCE, || {
        house
            .gateway
            .rest("GET", "/-/metrics")
            .expect(200)
            .text()
            .contains("carta_gateway_tunnel_waiting 1")
            .then_some(())
    });
    house.gateway.run(&["revoke", "alice", "materials.mp", "execute"]).done();
    for refused in [calling, waiting] {
        let refused = refused.join().unwrap();
        assert_eq!((refused.status(), refused.problem()), (403, Some("permission-denied")));
    }
    // The one that had not gone out never does.
    tunnel.answer(&call, "nobody's");
    let calling = sending(house.gateway.call("GET", "/materials/mp/z").token(&house.gateway.token("olga")));
    let call = tunnel.next();
    assert_eq!(call["event"]["path"], "/materials/mp/z");
    tunnel.answer(&call, "ok");
    assert_eq!(calling.join().unwrap().text(), "ok");
}

#[test]
fn a_gateway_that_ends_lets_calls_finish_and_says_goodbye_to_the_tunnel() {
    let house = House::built("", |builder| builder.listen("drain = \"5m\""));
    let mut tunnel = house.tunnel();
    let calling = house.call("/x");
    let call = tunnel.next();
    house.gateway.signal("TERM");
    eventually("it drains", PATIENCE, || house.gateway.log().contains("draining").then_some(()));
    assert_eq!(house.gateway.ended(), None, "a call is in flight");
    tunnel.answer(&call, "in the end");
    assert_eq!(calling.join().unwrap().text(), "in the end");
    assert_eq!(tunnel.closed(), Some(1001));
    drop(tunnel);
    assert_eq!(house.gateway.wait_for_end(), Some(0));
}

#[test]
fn a_caller_whose_body_is_still_arriving_when_the_gateway_ends_gets_its_answer() {
    let house = House::built("", |builder| builder.listen("drain = \"5m\""));
    let mut tunnel = house.tunnel();
    let mut caller = house.gateway.wire();
    caller.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\nContent-Length: \
         4\r\n\r\n",
        house.alice
    ));
    // The body is asked for when it is read, and not before.
    assert_eq!(caller.head().status(), 100);
    house.gateway.signal("TERM");
    eventually("the gateway takes no more callers", PATIENCE, || {
        std::net::TcpStream::connect(house.gateway.api()).is_err().then_some(())
    });
    caller.send("body");
    let call = tunnel.next();
    assert_eq!(call["event"]["body"], "body");
    tunnel.answer(&call, "whole");
    assert_eq!(caller.response().text(), "whole");
    assert_eq!(tunnel.closed(), Some(1001));
}

#[test]
fn a_tunnel_without_calls_ends_at_once_with_the_gateway() {
    let house = House::built("", |builder| builder.listen("drain = \"5m\""));
    let mut tunnel = house.tunnel();
    house.gateway.signal("TERM");
    assert_eq!(tunnel.closed(), Some(1001));
    drop(tunnel);
    assert_eq!(house.gateway.wait_for_end(), Some(0));
}

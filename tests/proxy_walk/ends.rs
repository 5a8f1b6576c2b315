//! Streams and uploads end with what permitted them.

use super::*;

#[test]
fn a_stream_ends_when_the_grant_is_gone_and_goes_on_while_another_carries_it() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let mut events = call(&house, "GET", "/materials/mp/live").token(&house.token(ALICE)).open();
    events.until("open\r\n");
    let everyone = Pattern::parse("materials").unwrap();
    house.policy([Change::Grant(Grant {
        subject: Subject::Everyone,
        pattern: everyone.clone(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    assert!(events.stays_silent_for(std::time::Duration::from_millis(200)));
    house.policy([Change::Ungrant(Subject::Everyone, everyone)]);
    events.until_closed();
    upstream.wait_until_closed(1);
}

#[test]
fn a_stream_ends_when_a_grant_expires_or_its_user_is_disabled() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: Timestamp::now().checked_add(SignedDuration::from_secs(2)).ok(),
    })]);
    let mut bobs = call(&house, "GET", "/materials/mp/live").token(&house.token(BOB)).open();
    let mut alices = call(&house, "GET", "/materials/mp/live").token(&house.token(ALICE)).open();
    bobs.until("open");
    alices.until("open");
    bobs.until_closed();
    house.disable("alice");
    alices.until_closed();
}

#[test]
fn an_answer_of_known_length_ends_with_its_permit_too() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nopen")?;
        if exchange.received.head.target().ends_with("/flood") {
            loop {
                exchange.send([b'x'; 65536])?;
            }
        }
        exchange.until_closed()?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let mut slow = call(&house, "GET", "/materials/mp/slow").token(&token).open();
    let mut flood = call(&house, "GET", "/materials/mp/flood").token(&token).open();
    slow.until("open");
    flood.until("open");
    flood.exactly(4 << 20);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    slow.until_closed();
    upstream.wait_until_closed(1);
    let rest = flood.until_closed();
    assert!(rest.len() < 64 << 20, "{} bytes came after the end", rest.len());
    upstream.wait_until_closed(2);
}

#[test]
fn an_answer_that_begins_after_the_permit_is_gone_does_not_reach_the_caller() {
    let revoked = std::sync::Arc::new(std::sync::Barrier::new(2));
    let inner = revoked.clone();
    let upstream = Upstream::scripted(move |exchange| {
        exchange.tell();
        inner.wait();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
        Ok(true)
    });
    let house = start(&upstream, json!({}));
    let mut wire = call(&house, "GET", "/materials/mp/slow").token(&house.token(ALICE)).open();
    upstream.wait_for(1);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    revoked.wait();
    let answer = wire.response();
    assert_eq!((answer.status(), answer.problem()), (403, Some("permission-denied")));
}

#[test]
fn an_upload_ends_with_its_permit_though_its_answer_began_before() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.some()?;
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal")?;
        exchange.until_closed()?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let mut wire = call(&house, "POST", "/materials/mp/x")
        .token(&house.token(ALICE))
        .header("Transfer-Encoding", "chunked")
        .open();
    wire.send("5\r\nbegin\r\n");
    wire.until("hal");
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    upstream.wait_until_closed(1);
    wire.until_closed();
}

#[test]
fn streams_end_with_the_token_that_opened_them() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let token = house.token_for(ALICE, std::time::Duration::from_secs(2));
    let mut events = call(&house, "GET", "/materials/mp/live").token(&token).open();
    let mut upload =
        call(&house, "PUT", "/materials/mp/up").token(&token).header("Transfer-Encoding", "chunked").open();
    events.until("open\r\n");
    upload.send("4\r\nmore\r\n");
    events.until_closed();
    assert_eq!(upload.response().problem(), Some("permission-denied"));
    upstream.wait_until_closed(1);
    upstream.wait_until_closed(2);
    call(&house, "GET", "/materials/mp/live").token(&token).expect(401);
}

#[test]
fn streams_end_when_the_key_of_their_token_is_withdrawn() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let mut events = call(&house, "GET", "/materials/mp/live").token(&token).open();
    let mut by_header =
        call(&house, "GET", "/materials/mp/live").header("X-Forwarded-Email", "alice@example.org").open();
    events.until("open\r\n");
    by_header.until("open\r\n");
    house.withdraw_keys();
    events.until_closed();
    assert!(by_header.stays_silent_for(std::time::Duration::from_millis(200)), "no token proved this one");
}

#[test]
fn a_long_upload_ends_with_its_permit() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let mut upload = call(&house, "PUT", "/materials/mp/up")
        .token(&house.token(ALICE))
        .header("Content-Length", "1000000000")
        .open();
    upload.send("some");
    upstream.wait_for(1);
    house.policy([alices(Levels::NONE)]);
    let refused = upload.response();
    assert_eq!((refused.status(), refused.problem()), (403, Some("permission-denied")));
    upstream.wait_until_closed(1);
}

/// An upstream that reads what `PUT` brings, and otherwise begins an answer that does not end.
fn open_ended() -> Upstream {
    Upstream::scripted(|exchange| {
        exchange.tell();
        if exchange.received.head.method() == "PUT" {
            exchange.count_body()?;
        } else {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nopen\r\n")?;
            exchange.until_closed()?;
        }
        Ok(false)
    })
}

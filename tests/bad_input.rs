//! Bad input gets a clear error and loses nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::fs;

use support::gateway::OWNER;
use support::tls::Authority;
use support::{Gateway, PATIENCE, Upstream, Wire, eventually};

#[test]
fn requests_beyond_the_limits_get_their_own_refusals() {
    let upstream = Upstream::fixed("ok");
    let limits =
        "[limits]\nheader_bytes = 16384\nheaders = 50\nuri_bytes = 4096\nbody_bytes = 1000\napi_body_bytes = 1024";
    let gateway = Gateway::with_service(&upstream.url(), "").config(limits).start();
    let token = gateway.token("alice");
    let call = |target: &str| gateway.call("POST", target).token(&token);
    assert_eq!(call("/materials/mp/fine").body([b'x'; 1000]).send().status(), 200);
    upstream.forget();
    let long = format!("/materials/mp/{}", "x".repeat(5000));
    let mut many = call("/materials/mp/x").body("");
    for number in 0..60 {
        many = many.header(&format!("X-{number}"), "1");
    }
    for (what, ask, status) in [
        ("a long target", call(&long).body(""), 414),
        ("many headers", many, 431),
        ("a large head", call("/materials/mp/x").header("X-Large", &"x".repeat(20_000)).body(""), 431),
        ("a large body", call("/materials/mp/x").body([b'x'; 1001]), 413),
    ] {
        let response = ask.send();
        assert_eq!(response.status(), status, "{what}: {}", response.text());
    }
    let mut chunked = gateway.wire();
    chunked.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(2000)
    ));
    let refused = chunked.try_response();
    assert!(refused.is_none_or(|response| response.status() == 413), "a body of unknown length is counted");
    assert!(upstream.received().iter().all(|received| !received.whole));
    assert_eq!(call("/materials/mp/fine").body("").send().status(), 200);
}

#[test]
fn a_configuration_that_is_garbage_is_refused_with_its_place() {
    for garbage in [&b"[listen"[..], b"\xff\xfe\x00", b"listen = 7", b"[[service]]\nname = 3", b"a = 1\na = 2"] {
        let gateway = Gateway::builder().prepare();
        fs::write(gateway.path("gateway.toml"), garbage).unwrap();
        let checked = gateway.run(&["check"]).code(1);
        let said = format!("{}{}", checked.out, checked.err);
        assert!(said.contains("gateway.toml") && !said.contains("panicked"), "{said}");
        gateway.run(&["serve"]).code(2);
        gateway.run(&["user", "add", "alice"]).code(2);
    }
}

#[test]
fn a_store_that_is_no_store_is_refused_and_left_as_it_is() {
    let garbage = b"this is no database, but somebody's only copy of something".repeat(100);
    let gateway = Gateway::builder().prepare();
    for file in ["carta.db", "carta.db-wal", "carta.db-shm"] {
        fs::remove_file(gateway.path(file)).ok();
    }
    fs::write(gateway.path("carta.db"), &garbage).unwrap();
    for arguments in [&["serve"][..], &["user", "add", "alice"], &["token", OWNER]] {
        let ran = gateway.run(arguments);
        assert!(matches!(ran.code, Some(1 | 2)), "{arguments:?}: {:?} {}", ran.code, ran.err);
        assert!(ran.err.contains("carta.db") && !ran.err.contains("panicked"), "{}", ran.err);
    }
    assert_eq!(fs::read(gateway.path("carta.db")).unwrap(), garbage);
}

#[test]
fn a_damaged_store_is_refused_and_not_repaired_by_guesswork() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    gateway.secret(&gateway.token("alice"), "key", "value");
    gateway.signal("TERM");
    gateway.wait_for_end();
    let mut bytes = fs::read(gateway.path("carta.db")).unwrap();
    let length = bytes.len();
    for byte in &mut bytes[100..length] {
        *byte ^= 0x5a;
    }
    fs::write(gateway.path("carta.db"), &bytes).unwrap();
    let ran = gateway.run(&["serve"]);
    assert!(matches!(ran.code, Some(1 | 2)), "{:?} {}", ran.code, ran.err);
    assert!(ran.err.contains("carta.db") && !ran.err.contains("panicked"), "{}", ran.err);
    assert_eq!(fs::read(gateway.path("carta.db")).unwrap(), bytes);
}

#[test]
fn a_wrong_vault_key_is_refused_at_the_start_and_nothing_is_lost() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    gateway.secret(&alice, "key", "kept");
    gateway.kill();
    let right = fs::read(gateway.path("vault.key")).unwrap();
    for wrong in ["ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=", "", "too short", "!!!!"] {
        fs::write(gateway.path("vault.key"), wrong).unwrap();
        let ran = gateway.run(&["serve"]);
        assert!(matches!(ran.code, Some(1 | 2)), "`{wrong}`: {:?} {}", ran.code, ran.err);
        assert!(ran.err.contains("vault") && !ran.err.contains("panicked"), "{}", ran.err);
    }
    fs::write(gateway.path("vault.key"), right).unwrap();
    gateway.serve();
    assert_eq!(gateway.rest("GET", "/secret?name=key").token(&alice).expect(200).text(), "kept");
}

#[test]
fn bad_tls_on_a_listener_ends_that_connection_only() {
    let authority = Authority::new();
    let certificate = authority.certify(&["localhost", "127.0.0.1"]);
    let upstream = Upstream::fixed("ok");
    let mut gateway = Gateway::with_service(&upstream.url(), "")
        .listen("[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"")
        .file("cert.pem", &certificate.chain)
        .file("key.pem", &certificate.key)
        .prepare();
    gateway.tls = true;
    gateway.serve();
    eventually("the listener is there", PATIENCE, || std::net::TcpStream::connect(gateway.proxy()).ok().map(drop));
    let token = gateway.token("alice");
    let good = || {
        let mut wire = Wire::connect(gateway.proxy()).wrapped(authority.client("localhost", &["http/1.1"]));
        wire.send(gateway.call("GET", "/materials/mp/x").token(&token).bytes()).response().status()
    };
    assert_eq!(good(), 200);
    for nonsense in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01", b"\0\0\0\0\0"]
    {
        let mut wire = Wire::connect(gateway.proxy());
        wire.send(nonsense).finish_sending();
        let answer = wire.until_closed();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(good(), 200);
    }
}

#[test]
fn a_listeners_certificate_that_cannot_be_read_stops_the_start_and_a_new_one_is_taken_while_it_runs() {
    let authority = Authority::new();
    let first = authority.certify(&["localhost"]);
    let mut gateway = Gateway::builder()
        .listen("[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"")
        .file("cert.pem", &first.chain)
        .file("key.pem", &first.key)
        .prepare();
    gateway.tls = true;
    let key = fs::read(gateway.path("key.pem")).unwrap();
    for wrong in [&b""[..], b"garbage", authority.certify(&["localhost"]).key.as_bytes()] {
        fs::write(gateway.path("key.pem"), wrong).unwrap();
        gateway.run(&["serve"]).code(2);
    }
    fs::write(gateway.path("key.pem"), key).unwrap();
    gateway.serve();
    let live = |authority: &Authority| {
        let mut wire = Wire::connect(gateway.api()).wrapped(authority.client("localhost", &[]));
        let sent = wire.try_send("GET /-/live HTTP/1.1\r\nHost: x\r\n\r\n");
        sent.is_ok() && wire.try_response().is_some_and(|response| response.status() == 200)
    };
    eventually("the listener is there", PATIENCE, || std::net::TcpStream::connect(gateway.api()).ok().map(drop));
    assert!(live(&authority));
    fs::write(gateway.path("cert.pem"), "garbage").unwrap();
    assert!(live(&authority), "a certificate that cannot be read changes nothing");
    let next = Authority::new();
    let second = next.certify(&["localhost"]);
    fs::write(gateway.path("key.pem"), &second.key).unwrap();
    fs::write(gateway.path("cert.pem"), &second.chain).unwrap();
    eventually("the new certificate is in use", PATIENCE, || live(&next).then_some(()));
}

#[test]
fn bad_bodies_on_the_api_are_400_and_change_nothing() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder().config("[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true").start();
    let owner = gateway.token(OWNER);
    gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    gateway
        .rest("POST", &format!("/service/register/lab/tool?baseUrl={}", upstream.url()))
        .token(&owner)
        .body("")
        .expect(200);
    let before = gateway.rest("GET", "/service/config/lab/tool").token(&owner).expect(200).json();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{\"base_url\":7}",
        "{\"nonsense\":1}",
        "{\"base_url\":\"ftp://x\"}",
        "{\"base_url\":\"http://x\",\"level\":\"fly\"}",
        "\u{0}",
    ] {
        let refused = gateway
            .rest("PUT", "/service/config/lab/tool")
            .token(&owner)
            .header("Content-Type", "application/json")
            .body(body)
            .send();
        assert_eq!(refused.status(), 400, "`{body}`: {}", refused.text());
    }
    assert_eq!(gateway.rest("GET", "/service/config/lab/tool").token(&owner).expect(200).json(), before);
    for (method, target, status) in [
        ("POST", "/service/reserve/Bad%20Name", 400),
        ("POST", "/service/reserve/carta", 400),
        ("POST", "/service/reserve/user", 400),
        ("POST", "/service/reserve/lab", 400),
        ("POST", "/service/register/lab/x", 400),
        ("POST", "/service/register/lab/x?baseUrl=ftp://x", 400),
        ("POST", "/service/register/lab/x?baseUrl=http://", 400),
        ("POST", "/service/register/none/x?baseUrl=http://x", 404),
        ("DELETE", "/service/remove/lab", 400),
        ("DELETE", "/service/remove/none", 404),
        ("GET", "/service/details/none/x", 404),
        ("GET", "/nothing/here", 404),
        ("BREW", "/user", 405),
    ] {
        let response = gateway.rest(method, target).token(&owner).body("").send();
        assert_eq!(response.status(), status, "{method} {target}: {}", response.text());
    }
    let taken = gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(400).text();
    assert!(taken.to_lowercase().contains("duplicate record"), "{taken}");
    let missing = gateway.rest("POST", "/service/register/lab/x").token(&owner).body("").expect(400).text();
    assert!(missing.contains("must provide baseUrl through query"), "{missing}");
}

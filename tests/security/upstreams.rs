//! Where requests and secrets may go.

use crate::INJECT;
use crate::support::gateway::OWNER;
use crate::support::tls::Authority;
use crate::support::{Gateway, Upstream, Wire};

/// CVE-2026-41181 (Traefik): credentials go to no other backend when one fails.
#[test]
fn a_failing_upstream_sends_nothing_elsewhere() {
    let failing = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer(
            "502 Bad Gateway",
            &[("Location", "/other/svc/x"), ("Refresh", "0; url=/other/svc/x")],
            "theirs",
        )
    });
    let other = Upstream::fixed("other");
    let gateway = Gateway::with_service(&failing.url(), INJECT).service("other", "svc", &other.url(), "").start();
    let token = gateway.token("alice");
    gateway.secret(&token, "key", "canary-6");
    let response = gateway.call("GET", "/materials/mp/x").token(&token).expect(502);
    assert_eq!((response.text().as_str(), response.problem()), ("theirs", None), "their 502, not ours");
    assert_eq!((failing.received().len(), other.connections()), (1, 0));
}

/// CVE-2026-54762, CVE-2026-27586 (Traefik, Caddy): a secret or an authority that fails to load fails closed.
#[test]
fn what_cannot_be_loaded_stops_the_start_and_an_unknown_authority_stops_the_call() {
    let authority = Authority::new();
    let upstream = Upstream::wrapped(authority.certify(&["127.0.0.1"]).server(), |exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", &[], "sealed")
    });
    let url = format!("https://{}", upstream.address());
    let trusting =
        Gateway::with_service(&url, "tls = { ca = \"file:ca.pem\" }").file("ca.pem", authority.pem()).start();
    let token = trusting.token("alice");
    assert_eq!(trusting.call("GET", "/materials/mp/x").token(&token).expect(200).text(), "sealed");

    let strange = Gateway::with_service(&url, "").start();
    let refused = strange.call("GET", "/materials/mp/x").token(&strange.token("alice")).expect(502);
    assert_eq!(refused.problem(), Some("upstream-tls"));
    let other =
        Gateway::with_service(&url, "tls = { ca = \"file:ca.pem\" }").file("ca.pem", Authority::new().pem()).start();
    assert_eq!(
        other.call("GET", "/materials/mp/x").token(&other.token("alice")).expect(502).problem(),
        Some("upstream-tls")
    );
    assert_eq!(upstream.received().len(), 1);

    for lines in [
        "tls = { ca = \"file:missing.pem\" }",
        "tls = { ca = \"file:gateway.toml\" }",
        "[service.inject]\nheaders = { X-Key = \"${NOT_SET_ANYWHERE}\" }",
        "[service.inject]\nheaders = { X-Key = \"file:missing.txt\" }",
    ] {
        let gateway = Gateway::builder().prepare();
        let mut config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
        config += &format!(
            "[[service]]\nnamespace = \"a\"\nname = \"b\"\nbase_url = \"{url}\"\nowner = \"{OWNER}\"\n{lines}\n"
        );
        std::fs::write(gateway.path("gateway.toml"), config).unwrap();
        gateway.run(&["serve"]).code(2);
    }
}

/// CVE-2026-71324, CVE-2026-2833, CVE-2026-2835, CVE-2026-33555 (Traefik, Pingora, HAProxy): no undrained connection is
/// used again, no tunnel opens before its 101 (more in `framing.rs`).
#[test]
fn what_is_left_of_an_answer_never_becomes_the_next_callers_answer() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        if exchange.received.head.target() == "/large" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
            loop {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison".repeat(100))?;
            }
        }
        exchange.answer("200 OK", &[], "clean")
    });
    let gateway = Gateway::with_service(&upstream.url(), "").listen("workers = 1").start();
    let token = gateway.token("alice");
    for _ in 0..5 {
        let mut leaver = gateway.call("GET", "/materials/mp/large").token(&token).open();
        leaver.exactly(200);
        drop(leaver);
        assert_eq!(gateway.call("GET", "/materials/mp/small").token(&token).expect(200).text(), "clean");
    }
}

/// CVE-2026-2836 (Pingora): what is shared is shared under scheme and host too.
#[test]
fn two_services_on_one_port_number_and_path_are_two_upstreams() {
    let (one, two) = (Upstream::fixed("one"), Upstream::fixed("two"));
    let gateway = Gateway::builder()
        .listen("workers = 1")
        .service("ns", "one", &format!("{}/same", one.url()), "")
        .service("ns", "two", &format!("{}/same", two.url()), "")
        .start();
    let token = gateway.token(OWNER);
    for _ in 0..3 {
        for name in ["one", "two"] {
            assert_eq!(gateway.call("GET", &format!("/ns/{name}/x")).token(&token).expect(200).text(), name);
        }
    }
}

/// `[register]`: what is registered reaches neither the gateway itself nor where the operator said no.
#[test]
fn a_registered_address_is_judged_when_it_is_connected_to() {
    let upstream = Upstream::fixed("inside");
    let hosts = "allow_hosts = [\"127.0.0.1\", \"localhost\", \"0.0.0.0\", \"169.254.169.254\", \"10.0.0.1\"]";
    let gateway = Gateway::builder().user("mallory", &[]).config(&format!("[register]\n{hosts}")).start();
    let token = gateway.token("mallory");
    gateway.rest("POST", "/service/reserve/lab").token(&token).body("").expect(200);
    let port = upstream.address().port();
    for (number, url) in [
        upstream.url(),
        format!("http://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0x7f.1:{port}"),
        format!("http://0:{port}"),
        "http://169.254.169.254".to_owned(),
        "http://[fe80::1]".to_owned(),
        format!("http://{}", gateway.api()),
        "http://10.0.0.1:1".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let registered = gateway
            .rest("POST", &format!("/service/register/lab/s{number}?baseUrl={url}"))
            .token(&token)
            .body("")
            .send();
        if registered.status() == 200 {
            let call = gateway.call("GET", &format!("/lab/s{number}/x")).token(&token).send();
            assert_eq!(call.problem(), Some("target-refused"), "{url}: {} {}", call.status(), call.text());
        } else {
            assert_eq!(registered.status(), 400, "{url}");
        }
    }
    assert_eq!(upstream.connections(), 0);
    let allowed = Gateway::builder().config("[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true").start();
    let owner = allowed.token(OWNER);
    allowed.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    let own = format!("/service/register/lab/self?baseUrl=http://{}", allowed.api());
    if allowed.rest("POST", &own).token(&owner).body("").send().status() == 200 {
        let call = allowed.call("GET", "/lab/self/user").token(&owner).send();
        assert_eq!(call.problem(), Some("target-refused"), "{}", call.text());
    }
}

/// The listener's own edge: what cannot be read is refused and ends the connection.
#[test]
fn nonsense_on_a_listener_hurts_nobody_else() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let token = gateway.token("alice");
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        for address in [gateway.proxy(), gateway.api()] {
            let mut wire = Wire::connect(address);
            wire.send(nonsense).finish_sending();
            wire.until_closed();
        }
        gateway.call("GET", "/materials/mp/x").token(&token).expect(200);
    }
}

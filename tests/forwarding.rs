//! What the upstream gets, judged from the bytes that it received.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use support::{Ask, Gateway, Received, Upstream};

/// A gateway whose `materials/mp` alice may call, with her token; the lines are the service's.
fn call_for(upstream: &Upstream, path: &str, lines: &str) -> (Gateway, String) {
    let gateway = Gateway::with_service(&format!("{}{path}", upstream.url()), lines).start();
    let token = gateway.token("alice");
    (gateway, token)
}

/// What the upstream received of one call.
fn forwarded(gateway: &Gateway, upstream: &Upstream, ask: &Ask) -> Received {
    let before = upstream.received().len();
    ask.expect(200);
    let received = upstream.received();
    assert_eq!(received.len(), before + 1, "one call, one request: {}", gateway.log());
    received.last().unwrap().clone()
}

#[test]
fn method_path_query_and_body_arrive_byte_for_byte() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let bodies: [&[u8]; 3] = [b"", b"plain", b"\x00\xff\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"];
    for (method, target, expected) in [
        ("GET", "/materials/mp", "/"),
        ("GET", "/materials/mp/", "/"),
        ("GET", "/materials/mp?a=b", "/?a=b"),
        ("POST", "/materials/mp/a%2Fb/%e4%b8%AD;v=1/x%20y", "/a%2Fb/%e4%b8%AD;v=1/x%20y"),
        ("PUT", "/materials/mp/a?x=1&&y=%26&z=+%20&x=2&=&q", "/a?x=1&&y=%26&z=+%20&x=2&=&q"),
        ("PATCH", "/materials/mp//double//slashes/", "//double//slashes/"),
        ("DELETE", "/materials/mp/a\\b/%5C/%00?", "/a\\b/%5C/%00?"),
        ("OPTIONS", "/materials/mp/...//..a/.b", "/...//..a/.b"),
        ("GET", "/materials/mp/a?path=../../x&y=/./", "/a?path=../../x&y=/./"),
        ("QUERY", "/materials/mp/~!$&'()*+,=:@|^{}\"", "/~!$&'()*+,=:@|^{}\""),
    ] {
        for body in bodies {
            let received = forwarded(&gateway, &upstream, &gateway.call(method, target).token(&token).body(body));
            assert_eq!(received.head.start, format!("{method} {expected} HTTP/1.1"));
            assert_eq!((received.body.as_slice(), received.whole), (body, true));
        }
    }
}

#[test]
fn the_base_urls_path_stands_before_the_rest_and_its_host_is_the_host() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "/v2/api", "");
    for (target, expected) in [
        ("/materials/mp", "/v2/api"),
        ("/materials/mp/", "/v2/api/"),
        ("/materials/mp/a?b", "/v2/api/a?b"),
        ("/materials/mp?b", "/v2/api?b"),
    ] {
        let ask = gateway.call("GET", target).token(&token).host(Some("evil.example.org"));
        let received = forwarded(&gateway, &upstream, &ask);
        assert_eq!(received.head.target(), expected);
        assert_eq!(received.header("host"), Some(upstream.address().to_string().as_str()));
    }
}

#[test]
fn end_to_end_headers_arrive_as_they_were_sent_and_in_order() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let ask = gateway
        .call("GET", "/materials/mp/x")
        .token(&token)
        .header("Accept", "a/b")
        .header("Accept", "c/d; q=0.5, e/f")
        .header("Cookie", "a=1; b=\"2\"")
        .header("X-Latin", "caf\u{e9}")
        .header("If-None-Match", "W/\"x\"")
        .header("Range", "bytes=0-1")
        .header("User-Agent", "tests")
        .header("X-Empty", "");
    let received = forwarded(&gateway, &upstream, &ask);
    assert_eq!(received.head.headers.all("accept"), ["a/b", "c/d; q=0.5, e/f"]);
    for (name, value) in
        [("cookie", "a=1; b=\"2\""), ("if-none-match", "W/\"x\""), ("range", "bytes=0-1"), ("user-agent", "tests")]
    {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert_eq!(received.header("x-empty"), Some(""));
    assert_eq!(received.header("x-latin"), Some("caf\u{c3}\u{a9}"), "UTF-8 on the wire, shown as Latin-1");
}

#[test]
fn hop_by_hop_headers_and_those_that_connection_names_stay_behind() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let ask = gateway
        .call("GET", "/materials/mp/x")
        .token(&token)
        .header("Connection", "keep-alive, X-Mine , te")
        .header("connection", "x-other")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic eDp5")
        .header("Proxy-Authenticate", "Basic")
        .header("TE", "gzip")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
        .header("X-Mine", "1")
        .header("X-Other", "1")
        .header("X-Stays", "1");
    let names = forwarded(&gateway, &upstream, &ask).head.headers.names();
    for gone in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "upgrade",
        "http2-settings",
        "x-mine",
        "x-other",
        "transfer-encoding",
    ] {
        assert!(!names.contains(&gone.to_owned()), "`{gone}` travelled on: {names:?}");
    }
    assert!(names.contains(&"x-stays".to_owned()));
}

#[test]
fn identity_headers_of_the_caller_stay_behind_in_every_spelling() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let mut ask = gateway.call("GET", "/materials/mp/x").token(&token);
    let spellings = [
        "X-Carta-User",
        "x_carta_user",
        "X-CARTA_USER",
        "x.carta.user",
        "X-Carta.Admin",
        "X_CARTA_TOKEN",
        "X-Carta-Anything",
        "Secret-Mp-Api-Key",
        "secret_mp_api_key",
        "secret.x",
        "X-Forwarded-User",
        "x_forwarded_user",
        "X-Forwarded.Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Access-Token",
        "x_forwarded_access_token",
        "X-Auth-Request-User",
        "X_Auth_Request_Email",
        "x.auth.request.groups",
    ];
    for name in spellings {
        ask = ask.header(name, "spoofed").header(name, "spoofed, spoofed");
    }
    let received = forwarded(&gateway, &upstream, &ask);
    assert!(!received.text().contains("spoofed"), "{}", received.text());
    assert!(!received.text().contains(&token), "the caller's token travelled on");
    assert_eq!(received.header("authorization"), None);
    assert_eq!(received.header("x-carta-user"), Some("alice"));
    assert_eq!(received.header("x-carta-email"), Some("alice@example.org"));
}

#[test]
fn connection_removes_nothing_that_the_gateway_sets() {
    let upstream = Upstream::fixed("ok");
    let lines = "[service.inject]\nheaders = { X-API-KEY = \"fixed-key\" }";
    let (gateway, token) = call_for(&upstream, "", lines);
    let named = "X-Carta-User, x_carta_user, X-Carta-Email, X-API-KEY, X-Request-Id, traceparent, X-Forwarded-For, \
                 X-Forwarded-Proto, X-Forwarded-Host, Host, Content-Length, close";
    let ask = gateway.call("POST", "/materials/mp/x").token(&token).header("Connection", named).body("body");
    let received = forwarded(&gateway, &upstream, &ask);
    for name in [
        "x-carta-user",
        "x-carta-email",
        "x-api-key",
        "x-request-id",
        "traceparent",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "host",
    ] {
        assert!(received.header(name).is_some(), "`{name}` was removed: {}", received.text());
    }
    assert_eq!(received.body, b"body");
}

#[test]
fn an_injection_replaces_what_the_caller_sends_under_its_name_in_every_spelling() {
    let upstream = Upstream::fixed("ok");
    let lines = "[service.inject]\nheaders = { X-API-KEY = \"header-key\" }\nquery = { key = \"query key\" }\ncookies = { sid = \"cookie-key\" }";
    let (gateway, token) = call_for(&upstream, "", lines);
    let ask = gateway
        .call("GET", "/materials/mp/x?a=1&key=mine&%6Bey=mine&k%65y=mine&key&b=2&keys=kept&KEY=mine")
        .token(&token)
        .header("X-Api-Key", "mine")
        .header("x_api_key", "mine")
        .header("X.API_KEY", "mine")
        .header("Cookie", "sid=mine; other=kept; sid=mine")
        .header("Cookie", "sid=mine; more=kept");
    let received = forwarded(&gateway, &upstream, &ask);
    assert!(!received.text().contains("mine"), "{}", received.text());
    assert_eq!(received.header("x-api-key"), Some("header-key"));
    let target = received.head.target();
    let (_, query) = target.split_once('?').unwrap();
    let pairs: Vec<&str> = query.split('&').collect();
    assert!(pairs.contains(&"key=query%20key") || pairs.contains(&"key=query+key"), "{target}");
    for kept in ["a=1", "b=2", "keys=kept"] {
        assert!(pairs.contains(&kept), "`{kept}` is gone: {target}");
    }
    let cookies = received.head.headers.all("cookie").join("; ");
    let mut crumbs: Vec<&str> = cookies.split("; ").collect();
    crumbs.sort_unstable();
    assert_eq!(crumbs, ["more=kept", "other=kept", "sid=cookie-key"]);
}

#[test]
fn templates_are_filled_with_the_callers_own_values() {
    let upstream = Upstream::fixed("ok");
    let lines = "[service.inject]\nheaders = { X-API-KEY = \"{secret:mp-api-key}\", X-Requested-By = \
                 \"{user}/{user.email}\", X-Env = \"pre-${MP_FIXED}\", X-File = \"file:fixed.txt\" }\nbasic_auth = { \
                 username = \"{user.name}\", password = \"{secret:mp-api-key}\" }";
    let gateway = Gateway::with_service(&upstream.url(), lines)
        .environment("MP_FIXED", "from-environment")
        .file("fixed.txt", "from-file\n")
        .grant("bob", "materials.mp", "execute")
        .start();
    for (name, key) in [("alice", "key-of-alice"), ("bob", "key-of-bob")] {
        let token = gateway.token(name);
        assert_eq!(gateway.secret(&token, "mp-api-key", key).status(), 200);
        let ask = gateway.call("GET", "/materials/mp/x").token(&token).header("Authorization-X", "kept");
        let received = forwarded(&gateway, &upstream, &ask);
        assert_eq!(received.header("x-api-key"), Some(key));
        assert_eq!(received.header("x-requested-by"), Some(format!("{name}/{name}@example.org").as_str()));
        assert_eq!(received.header("x-env"), Some("pre-from-environment"));
        assert_eq!(received.header("x-file"), Some("from-file"));
        let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{name}:{key}"));
        assert_eq!(received.header("authorization"), Some(format!("Basic {basic}").as_str()));
    }
}

#[test]
fn every_request_is_told_who_calls_from_where_and_under_which_id() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let ask = gateway
        .call("GET", "/materials/mp/x")
        .token(&token)
        .host(Some("gw.example.org"))
        .header("X-Request-Id", "mine")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-Host", "evil.example.org")
        .header("X-Forwarded-Proto", "https")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Real-Ip", "6.6.6.6");
    let response = ask.expect(200);
    let received = upstream.only();
    let id = received.header("x-request-id").unwrap();
    assert_eq!(response.header("x-request-id"), Some(id), "the caller and the upstream see the same id");
    assert_ne!(id, "mine", "a caller's id is only noted");
    assert!(id.len() >= 22, "128 random bits: `{id}`");
    assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"), "an unlisted peer's word is replaced");
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-forwarded-host"), Some("gw.example.org"));
    assert!(!received.text().contains("6.6.6.6"), "{}", received.text());
    let traceparent = received.header("traceparent").unwrap();
    assert_eq!(traceparent.split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2], "`{traceparent}`");
    let second = forwarded(&gateway, &upstream, &ask);
    assert_ne!(second.header("x-request-id"), Some(id), "no two requests share an id");
}

#[test]
fn a_callers_traceparent_goes_on_and_a_broken_one_does_not() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = |value: &str| gateway.call("GET", "/materials/mp/x").token(&token).header("traceparent", value);
    let sound = forwarded(&gateway, &upstream, &ask(&format!("00-{trace}-00f067aa0ba902b7-01")));
    assert_eq!(sound.header("traceparent").unwrap().split('-').nth(1), Some(trace));
    let broken = forwarded(&gateway, &upstream, &ask("00-nonsense-01"));
    assert_eq!(broken.header("traceparent").unwrap().len(), 55);
}

#[test]
fn a_listed_proxys_forwarded_headers_are_extended() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config("[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]")
        .start();
    let token = gateway.token("alice");
    let ask = gateway
        .call("GET", "/materials/mp/x")
        .token(&token)
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "front.example.org");
    let received = forwarded(&gateway, &upstream, &ask);
    assert_eq!(received.head.headers.all("x-forwarded-for").join(", "), "203.0.113.9, 127.0.0.1");
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-forwarded-host"), Some("front.example.org"));
}

#[test]
fn a_path_that_could_leave_the_service_is_refused_before_anything_is_sent() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "/base", "");
    for target in [
        "/materials/mp/..",
        "/materials/mp/../x",
        "/materials/mp/a/../../x",
        "/materials/mp/./x",
        "/materials/mp/%2e%2e/x",
        "/materials/mp/%2E./x",
        "/materials/mp/.%2e",
        "/materials/mp/a/%2e",
        "/materials/mp/..;x=1/y",
        "/materials/mp/%2e%2e;/y",
        "/materials/mp/..%2Fx",
        "/materials/mp/a%2F..%2F..%2Fx",
        "/materials/mp/..%5Cx",
        "/materials/mp/..\\x",
        "/../materials/mp/x",
        "/materials/../materials/mp/x",
        "//materials/mp/x",
        "/materials//mp/x",
        "/materials%2Fmp/x",
        "/materials/mp%2Fx",
        "/materials/mp%5Cx",
        "/materials\\mp/x",
        "/materials/m%70%00/x",
        "/materials/mp%zz/x",
        "/materials/mp%/x",
    ] {
        let response = gateway.call("GET", target).token(&token).send();
        assert_eq!(response.status(), 400, "{target}: {}", response.text());
        assert!(response.header("x-request-id").is_some(), "{target}");
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn double_encoding_is_decoded_once_and_travels_on_as_it_came() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    for rest in ["/%252e%252e/x", "/%252Fx", "/a%2500"] {
        let ask = gateway.call("GET", &format!("/materials/mp{rest}")).token(&token);
        assert_eq!(forwarded(&gateway, &upstream, &ask).head.target(), rest);
    }
}

#[test]
fn a_fragment_never_travels_on() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "");
    for target in ["/materials/mp/a#b", "/materials/mp/a?q=1#b", "/materials/mp/a#?q=1"] {
        let response = gateway.call("GET", target).token(&token).send();
        assert!(matches!(response.status(), 200 | 400), "{target}: {}", response.status());
    }
    for received in upstream.received() {
        assert!(!received.head.start.contains('#'), "{}", received.head.start);
        assert!(!received.head.start.contains("b HTTP"), "{}", received.head.start);
    }
}

#[test]
fn a_minted_token_is_for_this_service_and_five_minutes() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "forward_token = true");
    let ask = gateway.call("GET", "/materials/mp/x").token(&token).header("X-Carta-Token", "Bearer spoofed");
    let received = forwarded(&gateway, &upstream, &ask);
    let carried: Vec<&(String, String)> =
        received.head.headers.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x_carta_token")).collect();
    assert_eq!(carried.len(), 1, "{}", received.text());
    let minted = carried[0].1.strip_prefix("Bearer ").unwrap();
    assert_ne!(minted, token);
    assert!(!received.text().contains("spoofed"));
    let claims = claims_of(minted);
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((1..=300).contains(&life), "{claims}");
    assert!(claims["aud"].to_string().contains("materials"), "{claims}");
    assert_ne!(claims["aud"], claims_of(&token)["aud"]);
    assert_eq!(gateway.rest("GET", "/user").token(minted).send().status(), 200, "it can ask who it is for");
    // It calls no service, and reads no secret.
    for ask in [gateway.call("GET", "/materials/mp/x"), gateway.rest("GET", "/secret")] {
        assert_eq!(ask.token(minted).expect(403).problem(), Some("token-scope"));
    }
}

#[test]
fn the_callers_own_token_travels_on_only_where_the_file_says_so() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = call_for(&upstream, "", "forward_token = \"full\"");
    let received = forwarded(&gateway, &upstream, &gateway.call("GET", "/materials/mp/x").token(&token));
    assert_eq!(received.header("x_carta_token"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(received.header("authorization"), None);
}

#[test]
fn a_public_endpoint_is_open_to_all_and_gets_nothing_injected() {
    let upstream = Upstream::fixed("ok");
    let lines = "public = [\"/health\"]\n[service.inject]\nheaders = { X-API-KEY = \"fixed-key\" }";
    let (gateway, token) = call_for(&upstream, "", lines);
    let ask = gateway.call("GET", "/materials/mp/health").header("X-Carta-User", "spoofed");
    let received = forwarded(&gateway, &upstream, &ask);
    assert!(!received.text().contains("fixed-key") && !received.text().contains("spoofed"), "{}", received.text());
    gateway.call("HEAD", "/materials/mp/health").expect(200);
    upstream.forget();
    for (method, target) in [
        ("POST", "/materials/mp/health"),
        ("GET", "/materials/mp/health/x"),
        ("GET", "/materials/mp/healthy"),
        ("GET", "/materials/mp/Health"),
        ("GET", "/materials/mp/x?/health"),
    ] {
        gateway.call(method, target).expect(401);
    }
    assert_eq!(upstream.received().len(), 0);
    let known = forwarded(&gateway, &upstream, &gateway.call("GET", "/materials/mp/x").token(&token));
    assert_eq!(known.header("x-api-key"), Some("fixed-key"));
}

fn claims_of(token: &str) -> serde_json::Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part).unwrap())
        .unwrap()
}

use super::*;

const RULES: Rules<'_> = Rules { injected: &[], identity_header: None, trusted_peer: false, judges_method: false };
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(line).collect()
}

/// What travels on of the caller's, with the cookies.
fn stripped(lines: &[(&str, &str)], rules: &Rules<'_>) -> HeaderMap {
    let (headers, mut out) = (map(lines), RequestHead::default());
    let taken = pass_request(&headers, rules, &mut out).unwrap();
    let mut passed = out.lines.to_map();
    for line in &taken.cookies {
        passed.append(COOKIE, (*line).clone());
    }
    passed
}

fn passed(lines: &[(&str, &str)], rules: &Rules<'_>) -> HeaderMap {
    let (headers, mut out) = (map(lines), RequestHead::default());
    let taken = pass_request(&headers, rules, &mut out).unwrap();
    let added = Added {
        user: Some("alice"),
        email: Some("alice@example.org"),
        request_id: &RequestId::mint(),
        peer: PEER,
        tls: true,
        trusted_peer: rules.trusted_peer,
    };
    add_to_request(&taken, &Uri::from_static("/"), &added, &mut out);
    out.lines.to_map()
}

#[test]
fn an_identity_header_is_removed_in_every_spelling() {
    for name in [
        "Authorization",
        "X-Carta-User",
        "x_carta_user",
        "X.Carta.User",
        "X_CARTA_TOKEN",
        "x-carta-anything",
        "secret-mp-api-key",
        "Secret_Key",
        "X-Forwarded-User",
        "x_forwarded_email",
        "X-Forwarded.Groups",
        "X-Forwarded-Access-Token",
        "X-Forwarded-Preferred-Username",
        "X-Auth-Request-User",
        "x_auth_request_email",
        "Proxy-Authorization",
        "Carta-Min-Revision",
        "x_request_id",
    ] {
        for trusted_peer in [false, true] {
            let rules = Rules { trusted_peer, ..RULES };
            assert!(stripped(&[(name, "evil"), (name, "twice")], &rules).is_empty(), "{name}");
        }
    }
}

#[test]
fn the_header_of_the_trusted_proxy_and_what_is_injected_are_removed_in_every_spelling() {
    let injected = ["x-api-key".into(), "authorization".into()];
    let rules =
        Rules { injected: &injected, identity_header: Some("x-user"), trusted_peer: true, judges_method: false };
    for name in ["X-User", "x_user", "x.user", "X-API-Key", "x_api_key", "X.Api_Key"] {
        assert!(stripped(&[(name, "evil")], &rules).is_empty(), "{name}");
    }
    assert_eq!(stripped(&[("x-users", "a"), ("api-key", "b")], &rules).len(), 2);
}

#[test]
fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
    let headers = stripped(
        &[
            ("connection", "close, X-Hop , keep-alive"),
            ("connection", "accept"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("transfer_encoding", "chunked"),
            ("content_length", "5"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("x-hop", "1"),
            ("accept", "*/*"),
            ("content-length", "3"),
            ("trailer", "x-sum"),
            ("cookie", "a=b"),
        ],
        &RULES,
    );
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie", "trailer"]);
}

#[test]
fn connection_removes_nothing_that_the_gateway_sets() {
    let headers = passed(
        &[
            ("connection", "x-carta-user, x-carta-email, host, x-request-id, traceparent, x-forwarded-for"),
            ("x-carta-user", "evil"),
        ],
        &RULES,
    );
    assert_eq!(headers["x-carta-user"], "alice");
    assert_eq!(headers["x-carta-email"], "alice@example.org");
    assert!(!headers.contains_key("host"), "it is set with the connection, as the base URL has it");
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
    assert!(headers.contains_key("x-request-id") && headers.contains_key("traceparent"));
    assert!(headers.keys().all(|name| headers.get_all(name).iter().count() == 1));
}

#[test]
fn forwarding_headers_of_a_stranger_are_replaced() {
    let headers = passed(
        &[
            ("host", "gw.example.org"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x_forwarded_for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
        ],
        &RULES,
    );
    assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-host"], "gw.example.org");
    for name in ["x_forwarded_for", "x-forwarded-port", "forwarded", "x-real-ip"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn forwarding_headers_of_a_trusted_proxy_are_extended() {
    let rules = Rules { trusted_peer: true, ..RULES };
    let headers = passed(
        &[
            ("host", "inner"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "gw.example.org"),
            ("x-forwarded-port", "8443"),
        ],
        &rules,
    );
    assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 192.0.2.1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "gw.example.org");
    assert_eq!(headers["x-forwarded-port"], "8443");
    assert!(!headers.contains_key("x_forwarded_for"));
}

#[test]
fn blanks_around_what_a_trusted_proxy_says_take_nothing_of_what_the_gateway_says() {
    let rules = Rules { trusted_peer: true, ..RULES };
    for (said, passed_on) in [(" 10.0.0.1", "10.0.0.1, 192.0.2.1"), ("\t", "192.0.2.1"), ("", "192.0.2.1")] {
        assert_eq!(passed(&[("x-forwarded-for", said)], &rules)["x-forwarded-for"], passed_on);
    }
}

#[test]
fn connection_names_a_bounded_number_of_headers() {
    let names = |count: usize| (0..count).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    let asked = |names: &str| pass_request(&map(&[("connection", names)]), &RULES, &mut RequestHead::default()).is_ok();
    assert!(asked(&names(MOST_NAMED)) && !asked(&names(MOST_NAMED + 1)));
}

#[test]
fn a_trusted_proxy_that_says_two_things_is_not_believed() {
    let rules = Rules { trusted_peer: true, ..RULES };
    let lines =
        [("host", "inner"), ("x-forwarded-proto", "http"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "a, b")];
    let headers = passed(&lines, &rules);
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-host"], "inner");
}

#[test]
fn what_overrides_path_or_method_does_not_pass() {
    assert!(stripped(&[("x-original-url", "/admin"), ("X_Rewrite_Url", "/admin")], &RULES).is_empty());
    assert_eq!(stripped(&[("x-http-method-override", "DELETE")], &RULES).len(), 1);
    let rules = Rules { judges_method: true, ..RULES };
    assert!(stripped(&[("x-http-method-override", "DELETE"), ("x_http_method", "PUT")], &rules).is_empty());
}

#[test]
fn a_trace_goes_on_with_its_state_and_a_broken_one_starts_anew_without() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = passed(&[("traceparent", trace), ("tracestate", "a=1")], &RULES);
    assert!(headers["traceparent"].to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert_eq!(headers["tracestate"], "a=1");
    for lines in [
        &[("traceparent", "x"), ("tracestate", "a=1")][..],
        &[("traceparent", trace), ("traceparent", trace), ("tracestate", "a")],
    ] {
        let headers = passed(lines, &RULES);
        assert!(!headers["traceparent"].to_str().unwrap().contains("4bf92f"));
        assert!(!headers.contains_key("tracestate"));
    }
}

#[test]
fn only_protocols_that_hide_no_requests_are_asked_for() {
    let asked = |lines: &[(&str, &str)]| passed(lines, &RULES).get("upgrade").map(|v| v.to_str().unwrap().to_owned());
    assert_eq!(asked(&[("connection", "Upgrade"), ("upgrade", "websocket")]).as_deref(), Some("websocket"));
    assert_eq!(
        asked(&[("connection", "Upgrade"), ("upgrade", "h2c, websocket, HTTP/2.0, TLS/1.2")]).as_deref(),
        Some("websocket")
    );
    assert_eq!(asked(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]), None);
    assert_eq!(asked(&[("upgrade", "websocket")]), None);
}

#[test]
fn trailers_are_asked_for_where_the_caller_takes_them() {
    assert_eq!(passed(&[("te", "gzip;q=0.5, trailers")], &RULES)["te"], "trailers");
    assert!(!passed(&[("te", "gzip")], &RULES).contains_key("te"));
}

#[test]
fn trailers_cannot_carry_what_headers_cannot() {
    let mut trailers = map(&[
        ("x-carta-user", "evil"),
        ("authorization", "x"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("x-hop", "1"),
        ("cookie", "a"),
        ("x-sum", "1"),
    ]);
    strip_request_trailers(&mut trailers, &RULES, &Named::from_iter([HeaderName::from_static("x-hop")]));
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
}

#[test]
fn an_expectation_that_cannot_be_met_is_refused() {
    for lines in [&[("expect", "200-ok")][..], &[("expect", "100-continue"), ("expect", "100-continue")]] {
        let problem = pass_request(&map(lines), &RULES, &mut RequestHead::default()).unwrap_err();
        assert_eq!(problem.kind(), &Kind::EXPECTATION_FAILED);
    }
    assert_eq!(passed(&[("expect", "100-Continue")], &RULES)["expect"], "100-continue");
    assert!(!passed(&[("expect", "100-continue"), ("connection", "expect")], &RULES).contains_key("expect"));
}

#[test]
fn connection_removes_what_was_read_before_it_too() {
    let lines = [("cookie", "a=b"), ("x-hop", "1"), ("accept", "*/*"), ("content-length", "5")];
    let mut named = lines.to_vec();
    named.push(("connection", "x-hop, cookie, content-length"));
    let headers = map(&named);
    let mut out = RequestHead::default();
    let taken = pass_request(&headers, &RULES, &mut out).unwrap();
    assert!(taken.cookies.is_empty());
    assert_eq!(out.lines.to_map(), map(&[("accept", "*/*")]));
}

#[test]
fn the_authority_of_the_request_is_the_host_that_was_asked_for() {
    let (headers, mut out) = (map(&[("host", "other.example")]), RequestHead::default());
    let taken = pass_request(&headers, &RULES, &mut out).unwrap();
    let added = Added {
        user: None,
        email: None,
        request_id: &RequestId::mint(),
        peer: "2001:db8::1".parse().unwrap(),
        tls: false,
        trusted_peer: false,
    };
    add_to_request(&taken, &Uri::from_static("https://gw.example.org/a"), &added, &mut out);
    let passed = out.lines.to_map();
    assert_eq!(passed["x-forwarded-host"], "gw.example.org");
    assert_eq!(passed["x-forwarded-for"], "2001:db8::1");
    assert_eq!(passed["x-forwarded-proto"], "http");
}

#[test]
fn an_address_is_written_as_the_library_writes_it() {
    for address in ["0.0.0.0", "1.20.255.100", "9.10.99.101", "255.255.255.255", "::1"] {
        let mut out = Buffer::default();
        push_address(address.parse().unwrap(), &mut out);
        assert_eq!(out.bytes(), address.as_bytes());
    }
}

#[test]
fn a_name_that_is_no_header_text_is_percent_encoded() {
    for (name, value) in [
        ("alice@example.org", "alice@example.org"),
        ("Zoë", "Zo%C3%AB"),
        (" alice ", "%20alice%20"),
        ("a,b", "a%2Cb"),
        ("a\r\nX-Carta-User: b", "a%0D%0AX-Carta-User:%20b"),
        ("100%", "100%25"),
    ] {
        let mut lines = upstream::Lines::default();
        add_identity(&X_CARTA_USER, name, &mut lines);
        assert_eq!(lines.to_map()[X_CARTA_USER], value, "{name:?}");
    }
}

use super::*;

const RULES: Rules<'_> = Rules { injected: &[], identity_header: None, trusted_peer: false, judges_method: false };
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    lines.iter().map(line).collect()
}

fn stripped(lines: &[(&str, &str)], rules: &Rules<'_>) -> HeaderMap {
    let mut headers = map(lines);
    strip_request(&mut headers, &Uri::from_static("/"), rules).unwrap();
    headers
}

fn passed(lines: &[(&str, &str)], rules: &Rules<'_>) -> HeaderMap {
    let mut headers = map(lines);
    let mut removed = strip_request(&mut headers, &Uri::from_static("/"), rules).unwrap();
    let added = Added {
        user: Some("alice"),
        email: Some("alice@example.org"),
        request_id: &RequestId::mint(),
        peer: PEER,
        tls: true,
    };
    add_to_request(&mut headers, &mut removed, &added);
    headers
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
        let problem = strip_request(&mut map(lines), &Uri::from_static("/"), &RULES).unwrap_err();
        assert_eq!(problem.kind(), &Kind::EXPECTATION_FAILED);
    }
    let mut headers = map(&[("expect", "100-Continue")]);
    assert!(strip_request(&mut headers, &Uri::from_static("/"), &RULES).unwrap().expects_continue);
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
        assert_eq!(identity_value(name), value, "{name:?}");
    }
}

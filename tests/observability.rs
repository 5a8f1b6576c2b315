//! Signs of life, and no secret in any of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::gateway::OWNER;
use support::{Gateway, Issuer, Upstream};
use tokio::net::TcpStream;

const CANARIES: [&str; 8] = [
    "canary-secret-value",
    "canary-environment",
    "canary-file",
    "canary-literal",
    "Canary-Password-7",
    "canary-caller-header",
    "canary-basic",
    "canary-upstream-header",
];

/// CVE-2022-29266, CVE-2025-62232 (APISIX), CVE-2026-40091 (SpiceDB), CVE-2022-23469 (Traefik), CVE-2026-40293 (OpenFGA):
/// a secret is in no error, log, start-up line or page.
#[test]
fn canary_secrets_appear_in_no_log_level_no_metric_and_no_error() {
    for format in ["text", "json"] {
        let upstream = Upstream::scripted(|exchange| {
            exchange.read_body()?;
            match exchange.received.head.target().split('?').next().unwrap() {
                "/broken" => exchange.send("canary-upstream-header garbage\r\n\r\n").map(|()| false),
                "/cut" => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").map(|()| false),
                _ => exchange.answer("200 OK", &[("X-Theirs", "canary-upstream-header")], "ok"),
            }
        });
        let issuer = Issuer::start();
        let lines = "[service.inject]\nheaders = { X-API-KEY = \"{secret:mp-api-key}\", X-Env = \"${CANARY}\", X-File = \
                     \"file:canary.txt\", X-Literal = \"canary-literal\", X-Broken = \"{claim:broken}\" }\nquery = { key = \"{secret:mp-api-key}\" }\nbasic_auth \
                     = { username = \"{user}\", password = \"{secret:mp-api-key}\" }";
        let plain = lines.replace(", X-Broken = \"{claim:broken}\"", "");
        let gateway = Gateway::with_service(&upstream.url(), &plain)
            .service("materials", "broken", &upstream.url(), lines)
            .service("materials", "gone", "http://127.0.0.1:9", &plain)
            .config(&issuer.table(""))
            .config(&format!("[log]\nfilter = \"trace\"\nformat = \"{format}\""))
            .environment("CANARY", "canary-environment")
            .file("canary.txt", "canary-file")
            .start();
        let (alice, owner) = (gateway.token("alice"), gateway.token(OWNER));
        let minted = issuer.token_with("ann", serde_json::json!({ "broken": "a\r\ncanary-caller-header" }));
        let mut said = Vec::new();
        said.push(gateway.rest("GET", "/secret?name=mp-api-key").token(&alice).send().text());
        for (token, value) in [(&alice, "canary-secret-value"), (&owner, "canary-secret-value")] {
            assert_eq!(gateway.secret(token, "mp-api-key", value).status(), 200);
        }
        let long = format!("canary-secret-value{}", "x".repeat(1025));
        said.push(gateway.secret(&alice, "too-long", &long).text());
        said.push(gateway.run_with(&["user", "passwd", "bob"], "Canary-Password-7\n").done());
        for path in ["mp/fine", "mp/broken", "mp/cut", "gone/x", "broken/x", "none/x", "mp/../x", "mp/%zz"] {
            let target = format!("/materials/{path}?api_key=canary-caller-header");
            for ask in [
                gateway.call("GET", &target).token(&alice),
                gateway.call("GET", &target).token(&owner),
                gateway.call("GET", &target).token("canary-basic"),
                gateway.call("GET", &target).header("Authorization", "Basic Y2FuYXJ5LWJhc2lj"),
                gateway.call("GET", &target).header("Authorization", "canary-basic"),
                gateway.call("GET", &target).token(&minted).header("secret-x", "canary-caller-header"),
            ] {
                // `mp/cut` breaks off before its answer has left the gateway.
                let Some(response) = ask.header("Cookie", "session=canary-caller-header").attempt() else { continue };
                if response.problem().is_some() {
                    said.push(response.text());
                    said.push(format!("{:?}", response.head.headers));
                }
            }
        }
        said.push(gateway.rest("GET", "/-/metrics").expect(200).text());
        said.push(gateway.rest("GET", "/secret").token(&alice).expect(200).text());
        for shown in ["config", "details"] {
            let target = format!("/service/{shown}/materials/mp");
            said.push(gateway.rest("GET", &target).token(&owner).expect(200).text());
        }
        said.push(gateway.run(&["check"]).done());
        gateway.signal("TERM");
        gateway.wait_for_end();
        said.push(gateway.log());
        for text in &said {
            for canary in CANARIES {
                assert!(!text.contains(canary), "{format}: `{canary}` in:\n{}", around(text, canary));
            }
            for (what, token) in [("alice's token", &alice), ("the owner's token", &owner), ("a minted token", &minted)]
            {
                let signature = token.rsplit('.').next().unwrap();
                assert!(!text.contains(signature), "{format}: {what} in:\n{}", around(text, signature));
            }
        }
        assert!(upstream.received().iter().any(|received| received.text().contains("canary-secret-value")));
    }
}

#[test]
fn canary_secrets_appear_in_no_log_level_over_http_2_on_both_sides_either() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tell, received) = std::sync::mpsc::channel();
    let address = runtime.block_on(http_2_upstream(tell));
    let lines = "tls = { protocol = \"http2\" }\n[service.inject]\nheaders = { X-API-KEY = \"{secret:mp-api-key}\" }\nquery = \
                 { key = \"{secret:mp-api-key}\" }\nbasic_auth = { username = \"{user}\", password = \"{secret:mp-api-key}\" }";
    let gateway =
        Gateway::with_service(&format!("http://{address}"), lines).config("[log]\nfilter = \"trace\"").start();
    let alice = gateway.token("alice");
    assert_eq!(gateway.secret(&alice, "mp-api-key", "canary-secret-value").status(), 200);
    let ask = |token: &str| {
        let request = Request::get(format!("http://{}/materials/mp/x?api_key=canary-caller-header", gateway.proxy()))
            .header("authorization", format!("Bearer {token}"))
            .header("cookie", "session=canary-caller-header")
            .header("x-theirs", "canary-caller-header")
            .body(Empty::<Bytes>::new())
            .unwrap();
        runtime.block_on(async {
            let stream = TcpStream::connect(gateway.proxy()).await.unwrap();
            let (mut sender, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().status().as_u16()
        })
    };
    assert_eq!((ask(&alice), ask("canary-basic")), (200, 401));
    assert!(received.recv().unwrap().contains("canary-secret-value"), "it was sent");
    gateway.signal("TERM");
    gateway.wait_for_end();
    let log = gateway.log();
    let signature = alice.rsplit('.').next().unwrap();
    for canary in CANARIES.into_iter().chain([signature]) {
        assert!(!log.contains(canary), "`{canary}` in:\n{}", around(&log, canary));
    }
}

/// Speaks HTTP/2 by prior knowledge, and tells of the heads that it receives.
async fn http_2_upstream(tell: std::sync::mpsc::Sender<String>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                tell.send(format!("{} {:?}", request.uri(), request.headers().get("x-api-key"))).ok();
                let answer =
                    Response::builder().header("x-theirs", "canary-upstream-header").body(Empty::<Bytes>::new());
                async { answer }
            });
            tokio::spawn(server::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[test]
fn one_access_line_a_request_says_who_what_and_how_long() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config("[log]\nformat = \"json\"").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let fine = gateway.call("GET", "/materials/mp/x").token(&alice).expect(200);
    let refused = gateway.call("GET", "/materials/mp/x").token(&bob).expect(403);
    let nobody = gateway.call("GET", "/materials/mp/x").expect(401);
    gateway.signal("TERM");
    gateway.wait_for_end();
    let entries = entries(&gateway.log());
    for (response, user) in [(&fine, Some("alice")), (&refused, Some("bob")), (&nobody, None)] {
        let id = response.header("x-request-id").unwrap();
        let about: Vec<String> = entries.iter().map(ToString::to_string).filter(|entry| entry.contains(id)).collect();
        assert_eq!(about.len(), 1, "one line for {id}: {about:#?}");
        assert!(about[0].contains("materials"), "{}", about[0]);
        assert!(about[0].contains(&response.status().to_string()), "{}", about[0]);
        if let Some(user) = user {
            assert!(about[0].contains(user), "{}", about[0]);
        }
    }
    let line = |response: &support::Response| {
        let id = response.header("x-request-id");
        entries.iter().find(|entry| entry["target"] == "access" && entry["request_id"].as_str() == id).unwrap()
    };
    let forwarded = line(&fine);
    let time = |entry: &serde_json::Value, of: &str| entry[of].as_u64();
    let [upstream_us, gateway_us, total_us] = ["upstream_us", "gateway_us", "total_us"]
        .map(|of| time(forwarded, of).unwrap_or_else(|| panic!("{forwarded}")));
    assert!(upstream_us > 0 && upstream_us + gateway_us <= total_us + 1, "{forwarded}");
    assert_eq!((time(forwarded, "bytes_in"), time(forwarded, "bytes_out")), (Some(0), Some(2)), "{forwarded}");
    assert_eq!((&forwarded["service"], &forwarded["decision"]), (&"materials/mp".into(), &"allow".into()));
    assert_eq!((time(line(&refused), "upstream_us"), &line(&refused)["decision"]), (None, &"deny".into()));
}

#[test]
fn a_callers_own_request_id_is_noted_in_the_access_line_and_nowhere_else() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config("[log]\nformat = \"json\"").start();
    let alice = gateway.token("alice");
    let long = "x".repeat(65);
    let cases = [("job-7/a", Some("job-7/a")), (&*long, None), ("two words", None)];
    for (sent, _) in cases {
        let call = gateway.call("GET", "/materials/mp/x").token(&alice).header("X-Request-Id", sent).expect(200);
        let rest = gateway.rest("GET", "/secret").token(&alice).header("X-Request-Id", sent).expect(200);
        for response in [&call, &rest] {
            assert!(response.header("x-request-id").is_some_and(|id| id.len() == 32 && id != sent));
        }
        assert!(!upstream.last().text().contains(sent));
    }
    gateway.signal("TERM");
    gateway.wait_for_end();
    let noted: Vec<_> = entries(&gateway.log())
        .into_iter()
        .filter(|entry| entry["target"] == "access" && entry["path"] != "/-/ready")
        .map(|entry| entry["caller_request_id"].as_str().map(str::to_owned))
        .collect();
    let expected: Vec<_> =
        cases.iter().flat_map(|(_, noted)| [noted.map(str::to_owned), noted.map(str::to_owned)]).collect();
    assert_eq!(noted, expected);
}

#[test]
fn what_a_listener_refuses_itself_is_a_problem_of_the_table_with_a_line_and_a_count() {
    let gateway =
        Gateway::builder().config("[log]\nformat = \"json\"\n[limits]\nheaders = 16\nheader_timeout = \"1s\"").start();
    let mut many = gateway.call("GET", "/materials/mp/x").header("X-Request-Id", "job-8");
    for number in 0..20 {
        many = many.header(&format!("X-{number}"), "1");
    }
    let refused = many.expect(431);
    assert_eq!(refused.problem(), Some("headers-too-large"));
    let mut slow = gateway.wire();
    slow.send("GET /slow");
    let slow = slow.response();
    assert_eq!((slow.status(), slow.problem()), (408, Some("request-timeout")));
    assert_eq!(slow.header("content-type"), Some("application/problem+json"));
    let mut unreadable = gateway.wire();
    unreadable.send("GET\x01/\r\n\r\n");
    assert_eq!(unreadable.response().status(), 400);
    let line = "carta_gateway_requests_total{namespace=\"-\",service=\"-\",decision=\"refuse\",status=\"4xx\"} 3";
    support::eventually("all three are counted", support::PATIENCE, || {
        gateway.rest("GET", "/-/metrics").expect(200).text().contains(line).then_some(())
    });
    gateway.signal("TERM");
    gateway.wait_for_end();
    let entries = entries(&gateway.log());
    let about = |problem: &str| entries.iter().find(|entry| entry["problem"] == problem).unwrap();
    assert_eq!(about("headers-too-large")["request_id"].as_str(), refused.header("x-request-id"));
    assert_eq!(about("headers-too-large")["caller_request_id"], "job-8");
    assert_eq!(about("request-timeout")["request_id"].as_str(), slow.header("x-request-id"));
    assert_eq!(about("malformed-request")["status"], 400);
}

#[test]
fn a_gateway_without_access_lines_leaves_none_on_either_listener_and_counts_all_the_same() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config("[log]\naccess = false").start();
    let alice = gateway.token("alice");
    gateway.call("GET", "/materials/mp/x").token(&alice).expect(200);
    gateway.rest("GET", "/secret").token(&alice).expect(200);
    gateway.rest("GET", "/secret").expect(401);
    for path in ["/-/live", "/-/ready"] {
        for probe in [gateway.call("GET", path), gateway.rest("GET", path)] {
            assert!(probe.expect(200).header("x-request-id").is_some_and(|id| id.len() >= 32), "{path}");
        }
    }
    let metrics = gateway.rest("GET", "/-/metrics").expect(200).text();
    for decision in ["decision=\"allow\",status=\"2xx\"} 1", "decision=\"unauthenticated\",status=\"4xx\"} 1"] {
        let line = format!("carta_gateway_requests_total{{namespace=\"-\",service=\"-\",{decision}");
        assert!(metrics.contains(&line), "{line} in:\n{metrics}");
    }
    gateway.signal("TERM");
    gateway.wait_for_end();
    assert!(!gateway.log().contains("request_id"), "{}", gateway.log());
}

#[test]
fn metrics_count_requests_by_service_and_decision_and_their_labels_are_bounded() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    for number in 0..50 {
        gateway.call("GET", &format!("/materials/mp/{number}")).token(&alice).expect(200);
        gateway.call("GET", &format!("/strange-{number}/service-{number}/x")).token(&bob).expect(404);
        gateway.call(&format!("M{number}"), "/materials/mp/x").token(&bob).expect(403);
    }
    let metrics = gateway.rest("GET", "/-/metrics").expect(200);
    let text = metrics.text();
    for part in ["materials", "revision", "build_info", "_bucket"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    let count = |cache: &str, result: &str| -> u64 {
        let line = format!("carta_gateway_cache_total{{cache=\"{cache}\",result=\"{result}\"}} ");
        text.lines()
            .find_map(|text| text.strip_prefix(&line))
            .unwrap_or_else(|| panic!("{line}\n{text}"))
            .parse()
            .unwrap()
    };
    for cache in ["token", "decision"] {
        assert!(count(cache, "hit") >= 50 && (1..50).contains(&count(cache, "miss")), "{text}");
    }
    for unbounded in ["strange-7", "M7", "alice", "bob"] {
        assert!(!text.contains(unbounded), "`{unbounded}` is a label:\n{text}");
    }
    assert!(text.lines().count() < 3000, "{} lines", text.lines().count());
}

#[test]
fn live_and_ready_answer_on_both_listeners_and_metrics_on_one() {
    let gateway = Gateway::builder().start();
    for address in [gateway.proxy(), gateway.api()] {
        for path in ["/-/live", "/-/ready"] {
            support::Ask::new(address, "GET", path).expect(200);
        }
    }
    gateway.call("GET", "/-/metrics").expect(401);
}

#[test]
fn metrics_are_for_loopback_and_administrators() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let (alice, administrator) = (gateway.token("alice"), gateway.token(OWNER));
    let here = || gateway.rest("GET", "/-/metrics");
    let elsewhere = || here().header("X-Forwarded-For", "203.0.113.9");
    let rebound = || here().host(Some("rebound.example"));
    for (ask, status) in [
        (here(), 200),
        (here().token(&alice), 200),
        (here().token("no.token"), 401),
        (elsewhere(), 403),
        (elsewhere().token(&alice), 403),
        (elsewhere().token(&administrator), 200),
        (rebound(), 403),
        (rebound().token(&administrator), 200),
    ] {
        ask.expect(status);
    }
}

fn entries(log: &str) -> Vec<serde_json::Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn around(text: &str, needle: &str) -> String {
    let line = text.lines().find(|line| line.contains(needle)).unwrap_or_default();
    line.chars().take(600).collect()
}

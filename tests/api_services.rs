//! The API's namespaces and services, as the published clients meet them: `docs/API.md` §1, §11.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{Gateway, Response, Upstream};

struct Lab {
    gateway: Gateway,
    alice: String,
    bob: String,
}

impl Lab {
    fn open() -> Self {
        let gateway =
            Gateway::builder().user("alice", &[]).user("bob", &[]).config("[register]\nallow_loopback = true").start();
        let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
        Self { gateway, alice, bob }
    }

    fn ask(&self, token: &str, method: &str, target: &str) -> Response {
        let ask = self.gateway.rest(method, target).token(token);
        if matches!(method, "POST" | "PUT" | "PATCH") { ask.body("").send() } else { ask.send() }
    }

    /// The status and the phrase.
    fn said(&self, token: &str, method: &str, target: &str) -> (u16, String) {
        let response = self.ask(token, method, target);
        let error = if response.status() < 400 { String::new() } else { error_of(&response) };
        (response.status(), error)
    }

    fn done(&self, token: &str, method: &str, target: &str) -> Value {
        let response = self.ask(token, method, target);
        assert_eq!(response.status(), 200, "{method} {target}: {}", response.text());
        response.json()
    }
}

fn error_of(response: &Response) -> String {
    response.json()["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_namespace_is_reserved_once_and_its_name_is_a_name() {
    let lab = Lab::open();
    assert_eq!(lab.said(&lab.alice, "POST", "/service/reserve/lab"), (200, String::new()));
    for token in [&lab.alice, &lab.bob] {
        let (status, error) = lab.said(token, "POST", "/service/reserve/lab");
        assert_eq!((status, error.as_str()), (400, "duplicate record"));
    }
    for word in ["carta", "user", "secret", "register", "v2", "Lab", "-x", "a.b", "%20", &"a".repeat(64)] {
        let (status, error) = lab.said(&lab.alice, "POST", &format!("/service/reserve/{word}"));
        assert_eq!(status, 400, "{word}");
        assert!(!error.contains("duplicate record"), "{word}: {error}");
    }
    let details = lab.done(&lab.alice, "GET", "/service/details/lab");
    assert_eq!(details["permission"], "Read, Write, Execute, Clone, Admin");
    assert_eq!(details["name"], "lab");
}

#[test]
fn checks_come_in_the_order_401_404_403_400() {
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    lab.done(&lab.alice, "POST", "/service/register/lab/tool?baseUrl=http://localhost");
    for (method, unknown, forbidden) in [
        ("POST", "/service/register/none/tool?baseUrl=a&baseUrl=b", "/service/register/lab/other?baseUrl=a&baseUrl=b"),
        ("DELETE", "/service/remove/none?barrier=a", "/service/remove/lab?barrier=a"),
        ("POST", "/service/register/none/tool", "/service/register/lab/other"),
        ("POST", "/service/register/none/tool", "/service/register/lab/tool"),
        ("GET", "/service/details/none", "/service/details/lab"),
        ("GET", "/service/details/lab/none", "/service/details/lab/tool"),
        ("PATCH", "/service/rename/lab/none/BAD", "/service/rename/lab/tool/BAD"),
        ("DELETE", "/service/remove/lab/none", "/service/remove/lab/tool"),
        ("DELETE", "/service/remove/none", "/service/remove/lab"),
        ("GET", "/service/config/lab/none", "/service/config/lab/tool"),
        ("PUT", "/service/config/lab/none", "/service/config/lab/tool"),
    ] {
        for target in [unknown, forbidden] {
            let nobody = lab.gateway.rest(method, target).body("").send();
            assert_eq!(nobody.status(), 401, "{method} {target}");
            assert_eq!(
                (error_of(&nobody).as_str(), nobody.header("www-authenticate")),
                ("not authenticated", Some("Bearer"))
            );
        }
        assert_eq!(lab.said(&lab.bob, method, unknown).0, 404, "{method} {unknown}");
        assert_eq!(lab.said(&lab.bob, method, forbidden).0, 403, "{method} {forbidden}");
    }
    assert_eq!(lab.said(&lab.alice, "PATCH", "/service/rename/lab/tool/BAD").0, 400);
    assert_eq!(lab.said(&lab.alice, "POST", "/service/register/lab/other?baseUrl=a&baseUrl=b").0, 400);
    assert_eq!(lab.said(&lab.alice, "PUT", "/service/config/lab/tool").0, 400);
}

#[test]
fn a_body_is_read_only_from_who_may_send_it_and_only_for_so_long() {
    let gateway = Gateway::builder()
        .user("alice", &[])
        .user("bob", &[])
        .config("[limits]\napi_body_timeout = \"1s\"\n[register]\nallow_loopback = true")
        .start();
    let [alice, bob] = ["alice", "bob"].map(|name| gateway.token(name));
    for target in ["/service/reserve/lab", "/service/register/lab/tool?baseUrl=http://localhost"] {
        gateway.rest("POST", target).token(&alice).body("").expect(200);
    }
    // A head that promises a body of which one byte comes.
    let dripping = |target: &str, token: &str| {
        let ask = gateway.rest("PUT", target).token(token).header("Content-Length", "1000");
        let mut wire = ask.open();
        wire.send("{").response()
    };
    assert_eq!(dripping("/service/config/lab/none", &bob).status(), 404);
    assert_eq!(dripping("/service/config/lab/tool", &bob).status(), 403);
    let late = dripping("/service/config/lab/tool", &alice);
    assert_eq!((late.status(), late.problem()), (408, Some("request-timeout")));
    let large = gateway.rest("PUT", "/service/config/lab/tool").token(&alice).body(" ".repeat(1_100_000)).send();
    assert_eq!((large.status(), large.problem()), (413, Some("body-too-large")));
}

#[test]
fn who_lost_the_right_to_write_while_the_body_was_on_its_way_does_not_write() {
    let lab = Lab::open();
    lab.gateway.run(&["user", "add", "carol"]).done();
    let carol = lab.gateway.token("carol");
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    lab.done(&lab.alice, "POST", "/service/register/lab/tool?baseUrl=http://localhost");
    for name in ["bob", "carol"] {
        lab.gateway.run(&["grant", name, "lab.tool", "admin"]).done();
    }
    let known = |bob: u16, carols: u16| {
        let read = |token: &str| lab.ask(token, "GET", "/service/config/lab/tool").status();
        support::eventually("the gateway knows", support::PATIENCE, || {
            ((read(&lab.bob), read(&carol)) == (bob, carols)).then_some(())
        });
    };
    known(200, 200);
    let before = lab.done(&lab.alice, "GET", "/service/config/lab/tool");
    let table = json!({"base_url": "http://localhost:1234"}).to_string();
    // The gateway asks for the body once it has judged who sends it.
    let begun = |token: &str| {
        let ask = lab.gateway.rest("PUT", "/service/config/lab/tool").token(token).header("Expect", "100-continue");
        let mut wire = ask.header("Content-Length", &table.len().to_string()).open();
        assert_eq!(wire.head().status(), 100);
        wire
    };
    let (mut bobs, mut carols, mut alices) = (begun(&lab.bob), begun(&carol), begun(&lab.alice));
    lab.gateway.run(&["revoke", "bob", "lab.tool", "admin"]).done();
    lab.gateway.run(&["user", "disable", "carol"]).done();
    known(403, 401);
    assert_eq!(bobs.send(&table).response().status(), 403);
    assert_eq!(carols.send(&table).response().status(), 401);
    assert_eq!(lab.done(&lab.alice, "GET", "/service/config/lab/tool"), before);
    assert_eq!(alices.send(&table).response().status(), 200);
}

#[test]
fn a_write_waits_for_this_gateway_or_for_the_fleet_and_for_nothing_else() {
    let lab = Lab::open();
    let (status, error) = lab.said(&lab.alice, "POST", "/service/reserve/lab?barrier=moon");
    assert_eq!(status, 400);
    assert!(error.contains("moon"), "{error}");
    assert_eq!(lab.said(&lab.alice, "GET", "/service/details/lab").0, 404, "nothing was made");
    lab.done(&lab.alice, "POST", "/service/reserve/lab?barrier=fleet");
    lab.done(&lab.alice, "POST", "/service/reserve/other?barrier=");
}

#[test]
fn nobody_keeps_more_namespaces_or_secrets_than_the_documents_say() {
    let lab = Lab::open();
    for number in 0..100 {
        lab.done(&lab.alice, "POST", &format!("/service/reserve/lab-{number}"));
    }
    let over = lab.ask(&lab.alice, "POST", "/service/reserve/lab-100");
    assert_eq!((over.status(), over.problem()), (400, Some("conflict")));
    assert!(over.text().contains("100 namespaces"), "{}", over.text());
    lab.done(&lab.bob, "POST", "/service/reserve/lab-100");
    lab.done(&lab.alice, "DELETE", "/service/remove/lab-0");
    lab.done(&lab.alice, "POST", "/service/reserve/lab-0");

    let put = |numbers: std::ops::Range<u32>| {
        let ask = lab.gateway.rest("PUT", "/secret").token(&lab.alice);
        numbers.fold(ask, |ask, number| ask.header(&format!("secret-s{number}"), "x")).body("").send()
    };
    for number in 0..16 {
        assert_eq!(put(number * 64..number * 64 + 64).status(), 200);
    }
    let over = put(1020..1025);
    assert_eq!((over.status(), over.problem()), (400, Some("conflict")));
    assert!(over.text().contains("1024 secrets"), "{}", over.text());
    assert_eq!(put(0..1).status(), 200, "a new value is not one more");
    assert_eq!(lab.gateway.rest("GET", "/secret").token(&lab.alice).expect(200).json().as_array().unwrap().len(), 1024);
}

#[test]
fn the_platforms_namespace_is_removed_by_nobody() {
    let gateway = Gateway::builder().user("alice", &[]).service("carta", "fs", "http://127.0.0.1:9", "").start();
    let (owner, alice) = (gateway.token(OWNER), gateway.token("alice"));
    let details = gateway.rest("GET", "/service/details/carta").token(&owner).expect(200).json();
    assert!(details["permission"].as_str().unwrap().contains("Admin"), "{details}");
    gateway.rest("DELETE", "/service/remove/carta").token(&alice).expect(403);
    let refused = gateway.rest("DELETE", "/service/remove/carta").token(&owner).expect(400);
    assert!(refused.text().contains("platform"), "{}", refused.text());
    gateway.rest("GET", "/service/details/carta").token(&owner).expect(200);
}

#[test]
fn a_service_gets_no_name_that_is_none_or_a_word_of_the_api() {
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    lab.done(&lab.alice, "POST", "/service/register/lab/tool?baseUrl=http://localhost");
    for name in ["-x", "Tool", "a.b", "%20", "a%2Fb", &"a".repeat(64)] {
        let register = format!("/service/register/lab/{name}?baseUrl=http://localhost");
        assert_eq!(lab.said(&lab.alice, "POST", &register).0, 400, "{name}");
        let (status, error) = lab.said(&lab.alice, "PATCH", &format!("/service/rename/lab/tool/{name}"));
        assert_eq!(status, 400, "{name}");
        assert!(!error.contains("duplicate record"), "{name}: {error}");
    }
    assert_eq!(lab.said(&lab.alice, "PATCH", "/service/rename/lab/tool/tool").1, "duplicate record");
    assert_eq!(lab.done(&lab.alice, "GET", "/service/details/lab/tool")["name"], "tool");
}

#[test]
fn a_path_that_is_nothing_and_a_method_that_is_not_taken_are_told_apart() {
    let lab = Lab::open();
    lab.gateway.rest("GET", "/nothing").expect(401);
    let nothing = lab.ask(&lab.bob, "GET", "/nothing");
    assert_eq!((nothing.status(), nothing.problem()), (404, Some("not-found")));
    let method = lab.ask(&lab.bob, "DELETE", "/user");
    assert_eq!((method.status(), method.problem()), (405, Some("method-not-allowed")));
    assert!(method.header("allow").is_some_and(|allow| allow.contains("GET")));
    assert!(method.header("x-request-id").is_some());
}

#[test]
fn registering_makes_a_service_and_registering_again_moves_it() {
    let (first, second) = (Upstream::fixed("first"), Upstream::fixed("second"));
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    let (status, error) = lab.said(&lab.alice, "POST", "/service/register/lab/tool?baseUrl=");
    assert_eq!((status, error.as_str()), (400, "must provide baseUrl through query"));
    for url in ["ftp://x.example", "nonsense", "http://", "http://user:pw@x.example"] {
        let (status, _) = lab.said(&lab.alice, "POST", &format!("/service/register/lab/tool?baseUrl={url}"));
        assert_eq!(status, 400, "{url}");
    }
    let made = lab.done(&lab.alice, "POST", &format!("/service/register/lab/tool?baseUrl={}", first.url()));
    assert_eq!(made["permission"], "Read, Write, Execute, Clone, Admin");
    let id = made["id"].as_str().unwrap();
    lab.done(&lab.alice, "PUT", &format!("/permissions/{id}/bob?role=User"));
    assert_eq!(lab.gateway.call("GET", "/lab/tool/x").token(&lab.bob).expect(200).text(), "first");
    let target = format!("/service/register/lab/tool?baseUrl={}", second.url());
    assert_eq!(lab.said(&lab.bob, "POST", &target).0, 403);
    let moved = lab.done(&lab.alice, "POST", &target);
    assert_eq!((&moved["id"], moved["baseUrl"].as_str()), (&made["id"], Some(second.url().as_str())));
    assert_eq!(lab.gateway.call("GET", "/lab/tool/x").token(&lab.bob).expect(200).text(), "second");
    assert_eq!(lab.done(&lab.bob, "GET", "/service/details/lab/tool")["permission"], "Read, Execute");
}

#[test]
fn who_may_write_in_a_namespace_owns_what_they_register_there() {
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    let namespace = lab.done(&lab.alice, "GET", "/service/details/lab")["id"].as_str().unwrap().to_owned();
    lab.done(&lab.alice, "PUT", &format!("/permissions/{namespace}/bob?role=Editor"));
    let made = lab.done(&lab.bob, "POST", "/service/register/lab/bobs?baseUrl=http://localhost");
    assert_eq!(made["permission"], "Read, Write, Execute, Clone, Admin");
    // The namespace is alice's, so that she may remove what is in it.
    lab.done(&lab.alice, "DELETE", "/service/remove/lab/bobs");
}

#[test]
fn permissions_stay_with_a_rename_and_go_with_a_removal() {
    let upstream = Upstream::fixed("ok");
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    let register = |name: &str| format!("/service/register/lab/{name}?baseUrl={}", upstream.url());
    let id = lab.done(&lab.alice, "POST", &register("tool"))["id"].as_str().unwrap().to_owned();
    lab.done(&lab.alice, "POST", &register("other"));
    lab.done(&lab.alice, "PUT", &format!("/permissions/{id}/bob?role=User"));
    let (status, error) = lab.said(&lab.alice, "PATCH", "/service/rename/lab/tool/other");
    assert_eq!((status, error.as_str()), (400, "duplicate record"));
    lab.done(&lab.alice, "PATCH", "/service/rename/lab/tool/device");
    lab.gateway.call("GET", "/lab/device/x").token(&lab.bob).expect(200);
    lab.gateway.call("GET", "/lab/tool/x").token(&lab.bob).expect(404);
    let (status, error) = lab.said(&lab.alice, "DELETE", "/service/remove/lab");
    assert_eq!((status, error.as_str()), (400, "namespace is not empty"));
    lab.done(&lab.alice, "DELETE", "/service/remove/lab/device");
    let anew = lab.done(&lab.alice, "POST", &register("device"));
    assert_ne!(anew["id"].as_str().unwrap(), id);
    lab.gateway.call("GET", "/lab/device/x").token(&lab.bob).expect(403);
}

#[test]
fn the_whole_table_is_read_and_written_by_who_may_administer() {
    let upstream = Upstream::fixed("ok");
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    lab.done(&lab.alice, "POST", &format!("/service/register/lab/tool?baseUrl={}", upstream.url()));
    let put = |body: &str| lab.gateway.rest("PUT", "/service/config/lab/tool").token(&lab.alice).body(body).send();
    for body in ["", "[]", "null", "{\"base_url\": 7}", "{}", "{\"base_url\": \"http://localhost\", \"colour\": 1}"] {
        assert_eq!(put(body).status(), 400, "{body}");
    }
    for secret in ["${HOME}", "file:vault.key"] {
        let table = json!({"base_url": upstream.url(), "inject": {"headers": {"X-Key": secret}}});
        assert_eq!(put(&table.to_string()).status(), 400, "{secret}");
    }
    let table = json!({"base_url": upstream.url(), "level": "read", "public": ["/health"]});
    assert_eq!(put(&table.to_string()).json(), table);
    assert_eq!(lab.done(&lab.alice, "GET", "/service/config/lab/tool"), table);
    lab.gateway.call("GET", "/lab/tool/health").expect(200);
    lab.gateway.call("GET", "/lab/tool/other").expect(401);
}

#[test]
fn a_table_is_bounded_in_bytes() {
    let lab = Lab::open();
    lab.done(&lab.alice, "POST", "/service/reserve/lab");
    lab.done(&lab.alice, "POST", "/service/register/lab/tool?baseUrl=http://localhost");
    let put = |table: &Value| {
        lab.gateway.rest("PUT", "/service/config/lab/tool").token(&lab.alice).body(table.to_string()).send()
    };
    let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let with_authorities =
        |count: usize| json!({"base_url": "http://localhost", "tls": {"ca": authority.repeat(count)}});
    assert_eq!(put(&with_authorities(10)).status(), 200);
    let kept = lab.done(&lab.alice, "GET", "/service/config/lab/tool");
    let refused = put(&with_authorities(65_536 / authority.len() + 1));
    assert_eq!((refused.status(), refused.problem()), (400, Some("invalid-input")));
    assert!(refused.text().contains("at most 65536 bytes"), "{}", refused.text());
    assert_eq!(lab.done(&lab.alice, "GET", "/service/config/lab/tool"), kept);
}

#[test]
fn a_service_of_the_file_is_shown_and_not_changed() {
    let upstream = Upstream::fixed("ok");
    let lines = "[service.inject]\nheaders = { X-Env = \"${CANARY}\" }";
    let gateway = Gateway::with_service(&upstream.url(), lines).environment("CANARY", "canary-value").start();
    let owner = gateway.token(OWNER);
    let details = gateway.rest("GET", "/service/details/materials/mp").token(&owner).expect(200).json();
    assert_eq!(details["baseUrl"].as_str(), Some(upstream.url().as_str()));
    let table = gateway.rest("GET", "/service/config/materials/mp").token(&owner).expect(200).text();
    assert!(table.contains("…") && !table.contains("CANARY") && !table.contains("canary-value"), "{table}");
    let register = format!("/service/register/materials/mp?baseUrl={}", upstream.url());
    for (method, target) in [
        ("POST", register.as_str()),
        ("PATCH", "/service/rename/materials/mp/other"),
        ("DELETE", "/service/remove/materials/mp"),
        ("PUT", "/service/config/materials/mp"),
    ] {
        let refused = gateway.rest(method, target).token(&owner).body("{}").expect(400);
        assert!(refused.text().contains("configuration file"), "{method} {target}: {}", refused.text());
    }
}

#[test]
fn a_write_says_its_revision_and_a_read_can_ask_for_one() {
    let lab = Lab::open();
    let written = lab.ask(&lab.alice, "POST", "/service/reserve/lab");
    let revision: u64 = written.header("carta-revision").unwrap().parse().unwrap();
    let read = |wanted: &str| {
        lab.gateway.rest("GET", "/service/details/lab").token(&lab.alice).header("Carta-Min-Revision", wanted).send()
    };
    assert_eq!(read(&revision.to_string()).status(), 200);
    assert_eq!(read("soon").status(), 400);
    let pending = read(&(revision + 1000).to_string());
    assert_eq!((pending.status(), pending.problem()), (503, Some("revision-pending")));
    assert!(pending.header("retry-after").is_some());
}

#[test]
fn nobody_waits_for_a_revision_or_learns_one() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "public = [\"/open\"]").start();
    for wanted in ["soon", "-1", "18446744073709551615"] {
        for (token, status) in [(None, 401), (Some("nonsense"), 401)] {
            for ask in [
                gateway.call("GET", "/materials/mp/x"),
                gateway.rest("GET", "/service/materials/mp/x"),
                gateway.rest("GET", "/service/details/materials/mp"),
            ] {
                let ask = token.into_iter().fold(ask, |ask, token| ask.token(token));
                let refused = ask.header("Carta-Min-Revision", wanted).expect(status);
                assert!(!refused.text().contains("revision"), "{}", refused.text());
            }
        }
        // Where nobody need be known, the header is not looked at.
        gateway.call("GET", "/materials/mp/open").header("Carta-Min-Revision", wanted).expect(200);
        gateway.rest("GET", "/.well-known/jwks.json").header("Carta-Min-Revision", wanted).expect(200);
    }
    let alice = gateway.token("alice");
    for ask in [gateway.call("GET", "/materials/mp/x"), gateway.rest("GET", "/service/details/materials/mp")] {
        ask.token(&alice).header("Carta-Min-Revision", "soon").expect(400);
    }
}

#[test]
fn login_parameters_keys_and_discovery_are_open_to_all() {
    let lab = Lab::open();
    let parameters = lab.gateway.rest("GET", "/auth").expect(200).json();
    let pool = parameters["userPoolId"].as_str().unwrap();
    assert_eq!(pool.matches('_').count(), 1);
    assert_eq!(Some(pool.split('_').next().unwrap()), parameters["region"].as_str());
    assert!(parameters["userPoolWebClientId"].is_string());
    let discovery = lab.gateway.rest("GET", "/.well-known/openid-configuration").expect(200).json();
    assert!(discovery["jwks_uri"].as_str().unwrap().ends_with("/.well-known/jwks.json"));
    let keys = lab.gateway.rest("GET", "/.well-known/jwks.json").expect(200).json();
    assert_eq!(keys["keys"][0]["kty"], "RSA");
    assert!(keys["keys"][0].get("d").is_none());
}

#[test]
fn the_caller_is_told_who_they_are_and_nothing_is_null() {
    let lab = Lab::open();
    let user = lab.done(&lab.alice, "GET", "/user");
    assert_eq!(user["name"], "alice");
    assert!(user["id"].is_string() && user["groups"].is_array());
    assert!(user.as_object().unwrap().values().all(|value| !value.is_null()), "{user}");
    assert_eq!(lab.done(&lab.alice, "GET", "/user/authenticated"), json!(true));
    lab.gateway.rest("GET", "/user/authenticated").expect(401);
    lab.gateway.rest("GET", "/user/authenticated").token("nonsense").expect(401);
}

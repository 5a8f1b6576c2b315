//! `GET /audit`: who reads what of it, page by page, and that no secret is in it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::cell::RefCell;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Response, Upstream, eventually};

fn ask(gateway: &Gateway, token: &str, query: &str) -> Response {
    gateway.rest("GET", &format!("/audit{query}")).token(token).send()
}

fn entries(gateway: &Gateway, token: &str, query: &str) -> Vec<Value> {
    let response = ask(gateway, token, query);
    assert_eq!(response.status(), 200, "{query}: {}", response.text());
    response.json().as_array().unwrap().clone()
}

/// Every page, as the links lead to them.
fn pages(gateway: &Gateway, token: &str, query: &str) -> Vec<Value> {
    let (mut all, mut path) = (Vec::new(), format!("/audit{query}"));
    loop {
        let response = gateway.rest("GET", &path).token(token).expect(200);
        all.extend(response.json().as_array().unwrap().clone());
        let Some(link) = response.header("link") else { return all };
        path = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned();
    }
}

/// Carol registers a service and shares it with bob; alice has admin on it, dora has nothing.
fn shared() -> (Gateway, [String; 5]) {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config("[register]\nallow_loopback = true")
        .user("carol", &[])
        .user("dora", &[])
        .start();
    let tokens = ["alice", "bob", "carol", "dora", OWNER].map(|name| gateway.token(name));
    let carol = &tokens[2];
    gateway.rest("POST", "/service/reserve/lab").token(carol).body("").expect(200);
    let register = format!("/service/register/lab/scope?baseUrl={}", upstream.url());
    gateway.rest("POST", &register).token(carol).body("").expect(200);
    gateway.run(&["grant", "alice", "lab.scope", "admin,read"]).done();
    eventually("the grant is known", A_SECOND_WITH_SLACK, || {
        (ask(&gateway, &tokens[0], "?target=lab.scope").status() == 200).then_some(())
    });
    (gateway, tokens)
}

#[test]
fn who_makes_more_changes_than_they_may_waits_and_administrators_do_not() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config("[limits]\nchanges = 3\nchanges_per_hour = 1")
        .user("carol", &[])
        .start();
    let [alice, carol, olga] = ["alice", "carol", OWNER].map(|name| gateway.token(name));
    let make = |token: &str, number: usize| {
        let body = json!({ "name": format!("t{number}"), "allowedEndpoints": ["GET /user"] }).to_string();
        gateway.rest("POST", "/v2/auth/apitoken/self").token(token).body(body).send()
    };
    for number in 0..3 {
        assert_eq!(make(&carol, number).status(), 200);
    }
    let refused = make(&carol, 3);
    assert_eq!((refused.status(), refused.problem()), (429, Some("too-many-changes")));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3601).contains(&wait), "{wait}");
    // What carol reads goes on, and so do the changes of others; an administrator makes as many as they like.
    assert_eq!(
        gateway.rest("GET", "/v2/auth/apitoken/self").token(&carol).expect(200).json().as_array().unwrap().len(),
        3
    );
    assert_eq!(make(&alice, 0).status(), 200);
    assert!((0..6).all(|number| make(&olga, number).status() == 200));
}

#[test]
fn administrators_read_everything_owners_their_resources_and_everybody_their_own_doings() {
    let (gateway, [alice, bob, carol, dora, olga]) = shared();
    let everything = pages(&gateway, &olga, "?limit=3");
    let seqs: Vec<u64> = everything.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] == pair[1] + 1) && seqs.last() == Some(&1), "{seqs:?}");

    // What was done to the service, by whomever; the same by each of its names.
    let id = everything.iter().find(|entry| entry["what"] == "service.put").unwrap()["resource"].as_str().unwrap();
    for token in [&carol, &alice, &olga] {
        for name in ["lab.scope", "lab/scope", id] {
            let about = entries(&gateway, token, &format!("?target={name}"));
            let what: Vec<_> = about.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
            assert_eq!(what, ["grant.put", "service.put"], "{name}");
        }
    }
    let put = &entries(&gateway, &carol, "?target=lab.scope&what=service.put")[0];
    assert_eq!((&put["user"], &put["via"], &put["from"]), (&json!("carol"), &json!("api"), &json!("127.0.0.1")));
    assert_eq!((&put["before"], &put["after"]["name"]), (&json!(null), &json!("lab/scope")));
    assert!(put["request_id"].is_string() && put["mac"].as_str().unwrap().len() == 64, "{put}");

    // From where others came, administrators alone are told.
    let others = &entries(&gateway, &alice, "?target=lab.scope&what=service.put")[0];
    assert_eq!(
        (&others["user"], &others["from"], &others["request_id"]),
        (&json!("carol"), &json!(null), &json!(null))
    );
    let whole = &entries(&gateway, &olga, "?target=lab.scope&what=service.put")[0];
    assert!(whole["from"].is_string() && whole["request_id"].is_string(), "{whole}");
    for after in [1, 999_999] {
        assert_eq!(entries(&gateway, &dora, &format!("?after={after}")), Vec::<Value>::new());
    }

    // One's own doings, with and without saying so.
    let own = entries(&gateway, &carol, "");
    assert!(own.iter().all(|entry| entry["user"] == "carol") && own.len() == 2, "{own:?}");
    assert_eq!(entries(&gateway, &carol, "?user=carol"), own);
    assert_eq!(entries(&gateway, &dora, ""), Vec::<Value>::new());
    assert_eq!(entries(&gateway, &olga, "?user=carol"), own);

    // Of others only administrators; a refusal says who could.
    for (token, query, status, says) in [
        (&dora, "?user=carol", 403, "administrators"),
        (&dora, "?user=nobody", 403, "administrators"),
        (&dora, "?target=lab.scope", 403, "its owner is `carol`"),
        (&bob, "?target=materials.mp", 403, "its owner is `olga`"),
        (&alice, "?target=lab", 403, "its owner is `carol`"),
        (&dora, "?target=lab.none", 404, "unknown resource"),
        (&dora, "?target=carol", 404, "unknown resource"),
        (&olga, "?user=nobody", 404, "unknown user"),
        (&olga, "?limit=0", 400, "from 1 to 500"),
        (&olga, "?limit=501", 400, "from 1 to 500"),
        (&olga, "?limit=x", 400, "no number"),
        (&olga, "?after=999999", 400, "names no entry"),
        (&olga, "?after=-1", 400, "no number"),
        (&olga, "?from=yesterday", 400, "2026-01-31T12:00:00Z"),
        (&olga, "?what=a&what=b", 400, "twice"),
    ] {
        let refused = ask(&gateway, token, query);
        assert_eq!(refused.status(), status, "{query}: {}", refused.text());
        assert!(refused.json()["detail"].as_str().unwrap().contains(says), "{query}: {}", refused.text());
    }
    gateway.rest("GET", "/audit").expect(401);
}

#[test]
fn what_was_done_under_a_name_before_is_not_told_to_who_has_the_name_now() {
    let (gateway, [_, _, carol, dora, olga]) = shared();
    gateway.rest("DELETE", "/service/remove/lab/scope").token(&carol).expect(200);
    gateway.rest("DELETE", "/service/remove/lab").token(&carol).expect(200);
    assert_eq!(ask(&gateway, &carol, "?target=lab.scope").status(), 404);
    gateway.rest("POST", "/service/reserve/lab").token(&dora).body("").expect(200);
    let about: Vec<_> = entries(&gateway, &dora, "?target=lab");
    assert_eq!(about.iter().map(|entry| entry["what"].as_str().unwrap()).collect::<Vec<_>>(), ["namespace.reserve"]);
    assert_eq!(about[0]["user"], "dora");
    // An administrator finds the others by what they were called.
    let removed = entries(&gateway, &olga, "?target=lab/scope");
    assert_eq!(removed[0]["what"], "service.remove");
}

#[test]
fn an_administrator_who_is_none_any_more_reads_no_more_than_others() {
    let (gateway, [_, _, carol, _, olga]) = shared();
    gateway.run(&["user", "admin", "carol", "on"]).done();
    eventually("carol reads everything", A_SECOND_WITH_SLACK, || {
        (ask(&gateway, &carol, "?user=olga").status() == 200).then_some(())
    });
    gateway.run(&["user", "admin", "carol", "off"]).done();
    eventually("carol does not", A_SECOND_WITH_SLACK, || {
        (ask(&gateway, &carol, "?user=olga").status() == 403).then_some(())
    });
    assert!(entries(&gateway, &olga, "?what=user.administrator").len() >= 2);
}

#[test]
fn the_command_lists_what_the_api_lists() {
    let (gateway, [.., olga]) = shared();
    let listed = gateway.run(&["audit", "list", "--limit", "500"]).done();
    assert_eq!(listed.lines().count(), pages(&gateway, &olga, "").len());
    let own = gateway.run(&["audit", "list", "--user", "carol"]).done();
    assert_eq!(own.lines().count(), 2, "{own}");
    assert!(own.lines().all(|line| line.contains("  carol  api  ")), "{own}");
    let grants = gateway.run(&["audit", "list", "--what", "grant.put", "--target", "lab.scope", "--json"]).done();
    let grant: Value = serde_json::from_str(&grants).unwrap();
    assert_eq!(grant["after"]["levels"], "read, admin");
    let later = gateway.run(&["audit", "list", "--from", "2100-01-01T00:00:00Z"]).done();
    assert_eq!(later, "");
    gateway.run(&["audit", "list", "--user", "nobody"]).code(1);
    gateway.run(&["audit", "list", "--from", "soon"]).code(2);
}

/// What must never be read again, neither in an answer nor in the store's record or the log.
const CANARIES: [&str; 7] = [
    "canary-value",
    "canary-replaced",
    "canary-literal",
    "canary-query",
    "Canary-Password-7",
    "canary-basic",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
];

#[test]
fn no_secret_is_in_the_audit_an_explanation_a_refusal_or_the_log_whatever_is_changed() {
    let (gateway, [alice, bob, carol, _, olga]) = shared();
    let said = RefCell::new(Vec::new());
    let put = |path: &str, body: &Value| {
        let response = gateway.rest("PUT", path).token(&carol).body(body.to_string()).send();
        // Who administers a service reads and writes its table as it is.
        if response.status() != 200 {
            said.borrow_mut().push(response.text());
        }
        response.status()
    };
    let ask = |token: &str, method: &str, path: &str| {
        let ask = gateway.rest(method, path).token(token);
        let response = if method == "GET" { ask.send() } else { ask.body("").send() };
        said.borrow_mut().push(response.text());
        response
    };
    let table = json!({
        "base_url": "http://127.0.0.1:1",
        "inject": {
            "headers": { "X-Key": "{secret:tool-key}", "X-Literal": "canary-literal", "X-Both": "canary-literal {secret:tool-key}" },
            "query": { "key": "canary-query" },
            "basic_auth": { "username": "canary-basic", "password": "canary-basic" },
        },
    });
    assert_eq!(put("/service/config/lab/scope", &table), 200);
    let mut other = table;
    other["inject"]["query"]["key"] = json!("canary-query-2");
    assert_eq!(put("/service/config/lab/scope", &other), 200);
    other["inject"]["headers"]["Host"] = json!("canary-literal");
    assert_eq!(put("/service/config/lab/scope", &other), 400);
    for value in ["canary-value", "canary-replaced"] {
        assert_eq!(gateway.secret(&alice, "tool-key", value).status(), 200);
    }
    let refused = [
        ask(&alice, "GET", "/service/lab/scope/x?key=canary-query"),
        ask(&bob, "GET", "/service/lab/scope/x?key=canary-query"),
        ask(&olga, "GET", "/service/lab/none/x?key=canary-query"),
    ];
    for response in &refused {
        assert!(response.status() >= 400, "{}", response.text());
        let id = response.header("x-request-id").unwrap();
        for token in [&alice, &bob, &carol, &olga] {
            ask(token, "GET", &format!("/explain/{id}"));
        }
    }
    ask(&carol, "GET", "/explain?user=bob&path=/lab/scope/x");
    ask(&alice, "DELETE", "/secret?name=tool-key");
    let commands = [
        gateway.run_with(&["user", "passwd", "bob"], "Canary-Password-7\n").done(),
        gateway.run(&["user", "role", "bob", "Analyst"]).done(),
        gateway.run(&["issuer", "rotate"]).done(),
    ];
    ask(&carol, "PATCH", "/service/rename/lab/scope/other");
    ask(&carol, "DELETE", "/service/remove/lab/other");
    eventually("what commands changed is shown", A_SECOND_WITH_SLACK, || {
        (!entries(&gateway, &olga, "?what=user.password&target=bob").is_empty()).then_some(())
    });
    let everything = pages(&gateway, &olga, "?limit=7");
    assert!(everything.len() > 12, "{}", everything.len());
    let mut said = said.into_inner();
    said.extend(commands);
    said.extend([json!(everything).to_string(), json!(pages(&gateway, &carol, "")).to_string()]);
    said.push(gateway.run(&["audit", "export"]).done());
    said.push(gateway.run(&["audit", "list", "--json", "--limit", "1000"]).done());
    said.push(gateway.run(&["audit", "verify"]).done());
    said.push(gateway.log());
    for text in &said {
        for canary in CANARIES {
            assert!(!text.contains(canary), "`{canary}` in:\n{text}");
        }
    }
}

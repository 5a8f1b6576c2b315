//! Made, listed, revoked, deleted; by whom; and what a token's end ends.

use serde_json::{Value, json};

use super::{ask_for, basic, call, listed, made, rest, with};
use crate::support::gateway::OWNER;
use crate::support::{Gateway, PATIENCE, Upstream, eventually};

fn id_of(gateway: &Gateway, bearer: &str) -> String {
    gateway.rest("GET", "/user").token(bearer).expect(200).json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_shown_once_and_lists_have_its_beginning() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let body = json!({
        "name": "ci", "allowedEndpoints": ["POST|PUT /a/*", "ANY /**"], "expires": "2199-01-31T12:00:00", "uses": 7,
    });
    let made = ask_for(&gateway, &alice, &body);
    assert_eq!(made.status(), 200);
    let made = made.json();
    let key = made["token"].as_str().unwrap();
    assert_eq!(&key[4..11], "_carta_", "what scanners of secrets look for: {key}");
    let expected = |token: Value| {
        json!({
            "name": "ci", "token": token, "allowedEndpoints": ["POST|PUT /a/*", "ANY /**"],
            "expires": "2199-01-31T12:00:00Z", "uses": 7, "revoked": false, "autoRemove": false, "lastUsed": null,
        })
    };
    assert_eq!(made, expected(json!(key)));
    let shown = format!("{}************", &key[..4]);
    assert_eq!(listed(&gateway, &alice), [expected(json!(shown))]);

    let store = rusqlite::Connection::open(gateway.path("carta.db")).unwrap();
    let audit: String = store
        .query_row("SELECT group_concat(target || coalesce(before, '') || coalesce(after, '')) FROM audit", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(audit.contains("\"ci\"") && !audit.contains(&key[..4]), "{audit}");
    let secret = &key.as_bytes()[11..];
    for file in ["carta.db", "carta.db-wal", "serve.log"] {
        let bytes = std::fs::read(gateway.path(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the key is in {file}");
    }
}

#[test]
fn what_cannot_be_a_token_is_refused_with_the_clients_status_and_phrase() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let good = json!({"name": "ci", "allowedEndpoints": ["GET /user"]});
    assert_eq!(ask_for(&gateway, &alice, &good).status(), 200);
    let twice = ask_for(&gateway, &alice, &good);
    assert_eq!(twice.status(), 400);
    assert!(twice.json()["error"].as_str().unwrap().contains("duplicate"), "{}", twice.text());
    for (field, value) in [
        ("name", json!("with blank")),
        ("allowedEndpoints", json!([])),
        ("allowedEndpoints", json!(["GET user"])),
        ("expires", json!("2001-01-01T00:00:00Z")),
        ("uses", json!(0)),
    ] {
        let mut body = json!({"name": "other", "allowedEndpoints": ["GET /user"]});
        body[field] = value;
        let refused = ask_for(&gateway, &alice, &body);
        assert_eq!(refused.status(), 400, "{body}");
        assert!(!refused.text().to_lowercase().contains("duplicate"), "{}", refused.text());
    }
    for body in ["", "[]", "{", "null"] {
        gateway.rest("POST", "/v2/auth/apitoken/self").token(&alice).body(body).expect(400);
    }
    gateway.rest("POST", "/v2/auth/apitoken/self").body(good.to_string()).expect(401);
    assert_eq!(listed(&gateway, &alice).len(), 1);
}

#[test]
fn a_revoked_token_ends_at_once_and_stays_in_the_list_unless_it_removes_itself() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let kept = made(&gateway, &alice, "kept", &["GET /user"], &json!({}));
    let removed = made(&gateway, &alice, "removed", &["GET /user"], &json!({"autoRemove": true}));
    let deleted = made(&gateway, &alice, "deleted", &["GET /user"], &json!({}));
    let path = |name: &str, end: &str| format!("/v2/auth/apitoken/self/{name}{end}");
    for (key, name, method, end) in [
        (&kept, "kept", "POST", "/revoke"),
        (&removed, "removed", "POST", "/revoke"),
        (&deleted, "deleted", "DELETE", ""),
    ] {
        assert_eq!(rest(&gateway, key, "GET", "/user"), 200);
        gateway.rest(method, &path(name, end)).token(&alice).body("").expect(200);
        assert_eq!(rest(&gateway, key, "GET", "/user"), 401, "{name}");
        assert_eq!(rest(&gateway, key, "GET", "/user/authenticated"), 401, "{name}");
        assert_eq!(call(&gateway, key, "/materials/mp/x"), 401, "{name}");
    }
    let left = listed(&gateway, &alice);
    assert_eq!((left.len(), &left[0]["name"], &left[0]["revoked"]), (1, &json!("kept"), &json!(true)));
    gateway.rest("POST", &path("kept", "/revoke")).token(&alice).body("").expect(200);
    for (method, end) in [("POST", "/revoke"), ("DELETE", "")] {
        gateway.rest(method, &path("nothing", end)).token(&alice).body("").expect(404);
    }
    gateway.rest("DELETE", &path("kept", "")).token(&alice).expect(200);
    let again = made(&gateway, &alice, "kept", &["GET /user"], &json!({}));
    assert_eq!((rest(&gateway, &again, "GET", "/user"), rest(&gateway, &kept, "GET", "/user")), (200, 401));
}

#[test]
fn tokens_of_others_are_for_administrators_who_cannot_make_them() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob, olga) = (gateway.token("alice"), gateway.token("bob"), gateway.token(OWNER));
    let key = made(&gateway, &alice, "ci", &["GET /user"], &json!({}));
    let id = id_of(&gateway, &alice);
    let node = format!("/v2/auth/apitoken/{id}");
    let body = json!({"name": "x", "allowedEndpoints": ["GET /user"]}).to_string();
    for (method, path) in [
        ("GET", node.clone()),
        ("POST", node.clone()),
        ("DELETE", format!("{node}/ci")),
        ("POST", format!("{node}/ci/revoke")),
    ] {
        gateway.rest(method, &path).token(&bob).body(&body).expect(403);
    }
    gateway.rest("POST", &node).token(&olga).body(&body).expect(403);
    let seen = gateway.rest("GET", &node).token(&olga).expect(200).json();
    assert_eq!(seen[0]["name"], "ci");
    gateway.rest("POST", &format!("{node}/ci/revoke")).token(&olga).body("").expect(200);
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 401);
    gateway.rest("DELETE", &format!("{node}/ci")).token(&olga).expect(200);
    assert_eq!(gateway.rest("GET", &node).token(&alice).expect(200).json(), json!([]), "one's own id is `self`");

    let namespace = gateway.rest("GET", "/service/details/materials").token(&olga).expect(200).json();
    let namespace = namespace["id"].as_str().unwrap();
    gateway.rest("GET", &format!("/v2/auth/apitoken/{namespace}")).token(&olga).expect(400);
    for unknown in ["nobody", "00000000-0000-0000-0000-000000000000"] {
        gateway.rest("GET", &format!("/v2/auth/apitoken/{unknown}")).token(&olga).expect(404);
    }
}

#[test]
fn a_token_does_not_work_while_its_user_is_disabled() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "ci", &["GET /user"], &json!({}));
    gateway.run(&["user", "disable", "alice"]).done();
    eventually("the token is refused", PATIENCE, || (rest(&gateway, &key, "GET", "/user") == 401).then_some(()));
    gateway.run(&["user", "enable", "alice"]).done();
    eventually("and works again", PATIENCE, || (rest(&gateway, &key, "GET", "/user") == 200).then_some(()));
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let upstream = Upstream::scripted(|exchange| {
        let socket = exchange.received.head.target().ends_with("ws");
        exchange.send(match socket {
            true => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nopen",
            false => "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: open\n\n",
        })?;
        exchange.until_closed()?;
        Ok(false)
    });
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let alice = gateway.token("alice");
    // The last use of a token opens a stream that goes on: only its end ends it.
    for (name, more) in [("ws", json!({})), ("events", json!({})), ("ws", json!({"uses": 1}))] {
        let key = made(&gateway, &alice, "stream", &["GET /materials/**"], &more);
        let other = made(&gateway, &alice, "other", &["GET /materials/**"], &json!({}));
        let ask = gateway.call("GET", &format!("/materials/mp/{name}")).header("Authorization", &basic(&key));
        let ask = if name == "ws" { ask.header("Connection", "Upgrade").header("Upgrade", "websocket") } else { ask };
        let mut wire = ask.open();
        wire.until("open");
        gateway.rest("DELETE", "/v2/auth/apitoken/self/other").token(&alice).expect(200);
        assert_eq!(call(&gateway, &other, "/materials/mp/x"), 401, "another token's end is none of this one's");
        gateway.rest("POST", "/v2/auth/apitoken/self/stream/revoke").token(&alice).body("").expect(200);
        wire.until_closed();
        gateway.rest("DELETE", "/v2/auth/apitoken/self/stream").token(&alice).expect(200);
    }
}

#[test]
fn the_last_use_is_noted_and_survives_a_restart() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "ci", &["GET /user"], &json!({}));
    assert_eq!(listed(&gateway, &alice)[0]["lastUsed"], Value::Null);
    assert_eq!(with(gateway.rest("GET", "/user"), &key).expect(200).problem(), None);
    let noted = eventually("it is noted", PATIENCE, || {
        Some(listed(&gateway, &alice)[0]["lastUsed"].clone()).filter(|at| !at.is_null())
    });
    let at: jiff::Timestamp = noted.as_str().unwrap().parse().unwrap();
    assert!(at <= jiff::Timestamp::now());
    gateway.kill();
    gateway.serve();
    assert_eq!(listed(&gateway, &alice)[0]["lastUsed"], noted);
}

#[test]
fn an_operator_sees_and_revokes_the_tokens_of_a_user() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "ci", &["GET /user", "POST /a/*"], &json!({"uses": 5}));
    let shown = gateway.run(&["api-token", "list", "alice"]).done();
    assert_eq!(shown, format!("ci\t{}…\tgood, 5 uses left\tGET /user, POST /a/*\n", &key[..4]));
    gateway.run(&["api-token", "revoke", "alice", "none"]).code(1);
    gateway.run(&["api-token", "revoke", "nobody", "ci"]).code(1);
    gateway.run(&["api-token", "revoke", "alice", "ci"]).done();
    eventually("it is refused", PATIENCE, || (rest(&gateway, &key, "GET", "/user/authenticated") == 401).then_some(()));
    assert!(gateway.run(&["api-token", "list", "alice"]).done().contains("revoked"));
}

#[test]
fn what_was_done_with_a_token_is_told_from_what_its_user_did() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "ci", &["PUT /secret"], &json!({}));
    gateway.secret(&alice, "own", "1");
    with(gateway.rest("PUT", "/secret"), &key).header("secret-a", "2").body("").expect(200);
    let long: Vec<String> = (0..60).map(|number| format!("GET /{}/{number}", "a".repeat(100))).collect();
    made(&gateway, &alice, "long", &long.iter().map(String::as_str).collect::<Vec<_>>(), &json!({}));
    let store = rusqlite::Connection::open(gateway.path("carta.db")).unwrap();
    let mut asked =
        store.prepare("SELECT via, came_from, length(after) FROM audit WHERE seq > ?1 ORDER BY seq").unwrap();
    let entries: Vec<(String, String, u32)> = asked
        .query_map([0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2).unwrap_or(0))))
        .unwrap()
        .flatten()
        .collect();
    let last: Vec<(&str, &str)> = entries.iter().rev().take(3).map(|entry| (&*entry.0, &*entry.1)).collect();
    assert_eq!(last, [("api", "127.0.0.1"), ("api-token", "127.0.0.1 ci"), ("api", "127.0.0.1")]);
    assert!(entries.last().unwrap().2 < 2048, "{entries:?}");
}

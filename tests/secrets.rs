//! Secrets: kept sealed, given out to their user only, sent only where the user consented.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Response, Upstream, eventually};

const INJECT: &str = "[service.inject]\nheaders = { X-API-KEY = \"{secret:mp-api-key}\" }";

#[test]
fn a_secret_is_stored_read_listed_and_deleted_by_its_user_only() {
    let gateway = Gateway::builder().user("alice", &[]).user("bob", &[]).start();
    let (alice, bob, owner) = (gateway.token("alice"), gateway.token("bob"), gateway.token(OWNER));
    assert_eq!(gateway.secret(&alice, "Db-User", "canary-1").status(), 200);
    for path in ["/secret?name=db-user", "/secrets?name=Db-User", "/secret?name=DB-USER"] {
        let read = gateway.rest("GET", path).token(&alice).expect(200);
        assert_eq!(read.text(), "canary-1");
        assert!(read.header("content-type").unwrap().starts_with("text/plain"));
        for other in [&bob, &owner] {
            let refused = gateway.rest("GET", path).token(other).expect(404);
            assert!(!refused.text().contains("canary"));
        }
    }
    let listed = gateway.rest("GET", "/secret").token(&alice).expect(200).text();
    assert!(listed.contains("db-user") && !listed.contains("canary"), "{listed}");
    assert!(!gateway.rest("GET", "/secret").token(&bob).expect(200).text().contains("db-user"));
    gateway.rest("DELETE", "/secret?name=db-user").token(&bob).send();
    assert_eq!(gateway.rest("GET", "/secret?name=db-user").token(&alice).expect(200).text(), "canary-1");
    gateway.rest("DELETE", "/secret?name=db-user").token(&alice).expect(200);
    gateway.rest("GET", "/secret?name=db-user").token(&alice).expect(404);
}

#[test]
fn values_are_taken_up_to_1024_characters_and_never_with_what_breaks_a_header() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let longest = "x".repeat(1024);
    assert_eq!(gateway.secret(&alice, "a", &longest).status(), 200);
    assert_eq!(gateway.secret(&alice, "a", &"x".repeat(1025)).status(), 400);
    assert_eq!(
        gateway.rest("GET", "/secret?name=a").token(&alice).expect(200).text(),
        longest,
        "the old value is kept"
    );
    assert_eq!(gateway.secret(&alice, "umlauts", &"\u{fc}".repeat(1024)).status(), 200, "characters, not bytes");
    assert_eq!(gateway.secret(&alice, "a", "").status(), 200, "an empty value is a value");
    assert_eq!(gateway.rest("GET", "/secret?name=a").token(&alice).expect(200).text(), "");
    assert!(matches!(gateway.secret(&alice, "b", "a\x01b").status(), 400));
    let both = gateway
        .rest("PUT", "/secret")
        .token(&alice)
        .header("secret-good", "1")
        .header("secret-bad", &"x".repeat(1025))
        .body("")
        .send();
    assert_eq!(both.status(), 400);
    gateway.rest("GET", "/secret?name=good").token(&alice).expect(404);
    gateway.rest("PUT", "/secret").token(&alice).body("").expect(400);
    gateway.rest("PUT", "/secret").header("secret-x", "1").body("").expect(401);
}

#[test]
fn each_caller_sends_their_own_secret_and_the_newest_value() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), INJECT).grant("bob", "materials.mp", "execute").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    for round in 0..5 {
        for (name, token) in [("alice", &alice), ("bob", &bob)] {
            let value = format!("{name}-{round}");
            assert_eq!(gateway.secret(token, "mp-api-key", &value).status(), 200);
            gateway.call("GET", "/materials/mp/x").token(token).expect(200);
            assert_eq!(upstream.last().header("x-api-key"), Some(value.as_str()));
        }
    }
}

#[test]
fn a_missing_or_expired_secret_is_a_problem_that_names_it_and_nothing_is_sent() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), INJECT).start();
    let alice = gateway.token("alice");
    let call = || gateway.call("GET", "/materials/mp/x").token(&alice).send();
    let missing = call();
    assert_eq!((missing.status(), missing.problem()), (400, Some("missing-secret")));
    assert!(missing.text().contains("mp-api-key"));
    gateway.rest("PUT", "/secret?ttl=2s").token(&alice).header("secret-mp-api-key", "brief").body("").expect(200);
    assert_eq!(call().status(), 200);
    eventually("the secret expires", A_SECOND_WITH_SLACK * 2, || (call().status() == 400).then_some(()));
    gateway.rest("GET", "/secret?name=mp-api-key").token(&alice).expect(404);
}

/// A gateway on which `olga` registers what she likes.
fn open_to_registration() -> Gateway {
    let register = "[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true";
    Gateway::builder().user("alice", &[]).user("bob", &[]).config(register).start()
}

/// Registers `lab/tool` at this address, or moves it there.
fn register(gateway: &Gateway, url: &str) {
    let target = format!("/service/register/lab/tool?baseUrl={url}");
    gateway.rest("POST", &target).token(&gateway.token(OWNER)).body("").expect(200);
}

/// The table of `lab/tool`: this header gets the caller's secret `key`.
fn configure(gateway: &Gateway, url: &str, header: &str) {
    let table = serde_json::json!({ "base_url": url, "inject": { "headers": { header: "{secret:key}" } } });
    let put = gateway.rest("PUT", "/service/config/lab/tool").token(&gateway.token(OWNER));
    put.header("Content-Type", "application/json").body(table.to_string()).expect(200);
}

/// What the line to paste in a problem asks for, as a target of the API.
fn line_of(gateway: &Gateway, asked: &Response) -> String {
    assert_eq!((asked.status(), asked.problem()), (400, Some("secret-consent")), "{}", asked.text());
    let detail = asked.json()["detail"].as_str().unwrap().to_owned();
    let address = format!("'http://{}", gateway.api());
    let line = detail.split(&address).nth(1).unwrap_or_else(|| panic!("a line to paste: {detail}"));
    line.split('\'').next().unwrap().to_owned()
}

#[test]
fn a_consent_is_to_what_was_shown_and_a_service_that_moved_since_gets_nothing() {
    let (first, second) = (Upstream::fixed("first"), Upstream::fixed("second"));
    let gateway = open_to_registration();
    let (alice, owner) = (gateway.token("alice"), gateway.token(OWNER));
    gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    register(&gateway, &first.url());
    configure(&gateway, &first.url(), "X-Key");
    gateway.run(&["grant", "alice", "lab.tool", "execute"]).done();
    gateway.secret(&alice, "key", "canary-7");
    let call = || gateway.call("GET", "/lab/tool/x").token(&alice).send();
    let paste = |line: &str| gateway.rest("POST", line).token(&alice).body("").send();
    let asked =
        eventually("the grant holds", A_SECOND_WITH_SLACK, || Some(call()).filter(|asked| asked.status() != 403));
    let stale = line_of(&gateway, &asked);
    assert!(stale.contains("shown="), "{stale}");

    register(&gateway, &second.url());
    let refused = paste(&stale);
    let fresh = line_of(&gateway, &refused);
    assert!(refused.text().contains("changed") && refused.text().contains(&second.url()), "{}", refused.text());
    assert_eq!(refused.json()["origins"], serde_json::json!([second.url()]));
    assert_ne!(stale, fresh);
    assert_eq!(call().problem(), Some("secret-consent"));
    configure(&gateway, &second.url(), "X-Other");
    assert_eq!(paste(&fresh).problem(), Some("secret-consent"), "another template is another thing to consent to");
    assert_eq!((first.received().len(), second.received().len()), (0, 0));

    let given = paste(&line_of(&gateway, &call()));
    assert_eq!(
        (given.status(), &given.json()["origins"]),
        (200, &serde_json::json!([second.url()])),
        "{}",
        given.text()
    );
    assert_eq!(call().text(), "second");
    assert_eq!(second.only().header("x-other"), Some("canary-7"));
    assert_eq!(first.received().len(), 0);
}

#[test]
fn a_consent_without_what_was_shown_is_to_the_service_as_it_is_and_says_to_what() {
    let upstream = Upstream::fixed("ok");
    let gateway = open_to_registration();
    let (alice, owner) = (gateway.token("alice"), gateway.token(OWNER));
    gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    register(&gateway, &upstream.url());
    configure(&gateway, &upstream.url(), "X-Key");
    gateway.secret(&alice, "key", "canary-8");
    let given = gateway.rest("POST", "/secret/key/consent?service=lab/tool").token(&alice).body("").expect(200);
    let said = given.json();
    assert_eq!((said["secret"].as_str(), said["service"].as_str()), (Some("key"), Some("lab/tool")));
    assert_eq!(said["origins"], serde_json::json!([upstream.url()]));
    gateway.rest("POST", "/secret/key/consent?service=lab/tool&shown=nonsense").token(&alice).body("").expect(400);
    let listed = gateway.rest("GET", "/secret").token(&alice).expect(200).json();
    assert_eq!(listed[0]["consents"][0]["origins"], serde_json::json!([upstream.url()]));
}

#[test]
fn a_registered_service_gets_a_secret_only_after_its_users_consent() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .user("alice", &[])
        .config("[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true")
        .start();
    let (alice, owner) = (gateway.token("alice"), gateway.token(OWNER));
    gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    gateway
        .rest("POST", &format!("/service/register/lab/tool?baseUrl={}", upstream.url()))
        .token(&owner)
        .body("")
        .expect(200);
    let configure = |header: &str| {
        let table =
            serde_json::json!({ "base_url": upstream.url(), "inject": { "headers": { header: "{secret:key}" } } });
        gateway
            .rest("PUT", "/service/config/lab/tool")
            .token(&owner)
            .header("Content-Type", "application/json")
            .body(table.to_string())
            .expect(200);
    };
    configure("X-Key");
    gateway.run(&["grant", "alice", "lab.tool", "execute"]).done();
    gateway.secret(&alice, "key", "canary-2");
    let call = || gateway.call("GET", "/lab/tool/x").token(&alice).send();
    let asked =
        eventually("the grant holds", A_SECOND_WITH_SLACK, || Some(call()).filter(|asked| asked.status() != 403));
    assert_eq!((asked.status(), asked.problem()), (400, Some("secret-consent")));
    assert!(asked.text().contains("/secret/key/consent?service=lab/tool"), "a line to paste: {}", asked.text());
    assert_eq!(upstream.received().len(), 0);
    gateway.rest("POST", "/secret/key/consent?service=lab/tool").token(&alice).body("").expect(200);
    assert_eq!(call().status(), 200);
    assert_eq!(upstream.last().header("x-key"), Some("canary-2"));

    configure("X-Elsewhere");
    assert_eq!(call().problem(), Some("secret-consent"), "another template needs it anew");
    gateway.rest("POST", "/secret/key/consent?service=lab/tool").token(&alice).body("").expect(200);
    assert_eq!(call().status(), 200);
    gateway.rest("DELETE", "/secret/key/consent?service=lab/tool").token(&alice).expect(200);
    assert_eq!(call().problem(), Some("secret-consent"));

    gateway.rest("POST", "/secret/key/consent?service=lab/tool").token(&alice).body("").expect(200);
    assert_eq!(call().status(), 200);
    let other = Upstream::fixed("other");
    gateway
        .rest("POST", &format!("/service/register/lab/tool?baseUrl={}", other.url()))
        .token(&owner)
        .body("")
        .expect(200);
    assert_eq!(call().problem(), Some("secret-consent"), "another origin needs it anew");
    assert_eq!(other.received().len(), 0);
}

#[test]
fn a_service_of_the_file_asks_once_it_sends_the_secret_elsewhere() {
    let (first, second) = (Upstream::fixed("first"), Upstream::fixed("second"));
    let gateway = Gateway::with_service(&first.url(), INJECT).start();
    let alice = gateway.token("alice");
    gateway.secret(&alice, "mp-api-key", "canary-6");
    let call = || gateway.call("GET", "/materials/mp/x").token(&alice).send();
    assert_eq!(call().text(), "first", "the very first use is the consent");
    gateway.kill();
    let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    std::fs::write(gateway.path("gateway.toml"), config.replace(&first.url(), &second.url())).unwrap();
    gateway.serve();
    let asked = call();
    assert_eq!((asked.status(), asked.problem()), (400, Some("secret-consent")));
    let line = "/secret/mp-api-key/consent?service=materials/mp";
    assert!(asked.text().contains(line), "a line to paste: {}", asked.text());
    assert_eq!(second.received().len(), 0);
    gateway.rest("POST", line).token(&alice).body("").expect(200);
    assert_eq!(call().text(), "second");
    assert_eq!(second.only().header("x-api-key"), Some("canary-6"));
}

#[test]
fn a_consent_that_was_withdrawn_from_a_service_of_the_file_is_not_given_again_by_a_use() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), INJECT).grant("bob", "materials.mp", "execute").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let bare = "/secret/mp-api-key/consent?service=materials/mp";
    gateway.rest("DELETE", bare).token(&bob).expect(404);
    for token in [&alice, &bob] {
        gateway.secret(token, "mp-api-key", "canary-9");
    }
    let call = |token: &str| gateway.call("GET", "/materials/mp/x").token(token).send();
    assert_eq!(call(&alice).status(), 200, "the very first use is the consent");
    for token in [&alice, &bob] {
        // Bob withdraws before he ever used the service.
        gateway.rest("DELETE", bare).token(token).expect(200);
        line_of(&gateway, &call(token));
    }
    let listed = gateway.rest("GET", "/secret").token(&bob).expect(200).json();
    assert_eq!(listed[0]["withdrawn"], serde_json::json!(["materials/mp"]));
    gateway.kill();
    gateway.serve();
    gateway.rest("DELETE", "/secret?name=mp-api-key").token(&bob).expect(200);
    gateway.secret(&bob, "mp-api-key", "canary-10");
    let lines = [&alice, &bob].map(|token| line_of(&gateway, &call(token)));
    assert_eq!(upstream.received().len(), 1);
    for (token, line) in [&alice, &bob].into_iter().zip(lines) {
        gateway.rest("POST", &line).token(token).body("").expect(200);
        assert_eq!(call(token).status(), 200);
    }
    assert_eq!(upstream.last().header("x-api-key"), Some("canary-10"));
    let listed = gateway.rest("GET", "/secret").token(&bob).expect(200).json();
    assert_eq!(listed[0]["withdrawn"], serde_json::json!([]));
}

#[test]
fn a_consent_to_a_service_that_left_the_file_can_be_withdrawn() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), INJECT).start();
    let alice = gateway.token("alice");
    gateway.secret(&alice, "mp-api-key", "canary-6");
    gateway.call("GET", "/materials/mp/x").token(&alice).expect(200);
    gateway.kill();
    let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    let (without, _) = config.split_once("[[service]]").unwrap();
    std::fs::write(gateway.path("gateway.toml"), without).unwrap();
    gateway.serve();
    let listed = || gateway.rest("GET", "/secret").token(&alice).expect(200).json();
    assert_eq!(listed()[0]["consents"][0]["service"], "materials/mp");
    let bare = "/secret/mp-api-key/consent?service=materials/mp";
    gateway.rest("POST", bare).token(&alice).body("").expect(404);
    gateway.rest("DELETE", bare).token(&alice).expect(200);
    assert_eq!(listed()[0]["withdrawn"], serde_json::json!(["materials/mp"]));
    std::fs::write(gateway.path("gateway.toml"), config).unwrap();
    gateway.kill();
    gateway.serve();
    let asked = gateway.call("GET", "/materials/mp/x").token(&alice).send();
    assert_eq!(asked.problem(), Some("secret-consent"));
}

#[test]
fn the_first_use_of_a_service_of_the_file_is_no_consent_to_plain_http_off_this_machine() {
    let upstream = Upstream::fixed("ok");
    let plain = "http://service.invalid:9";
    let gateway = Gateway::with_service(&upstream.url(), INJECT)
        .service("materials", "plain", plain, INJECT)
        .grant("alice", "materials.plain", "execute")
        .start();
    let alice = gateway.token("alice");
    gateway.secret(&alice, "mp-api-key", "canary-11");
    gateway.call("GET", "/materials/mp/x").token(&alice).expect(200);
    let call = || gateway.call("GET", "/materials/plain/x").token(&alice).send();
    let asked = call();
    let line = line_of(&gateway, &asked);
    assert!(asked.text().contains(plain) && asked.text().contains("not encrypted"), "{}", asked.text());
    gateway.rest("POST", &line).token(&alice).body("").expect(200);
    assert_eq!(call().status(), 502, "the consent is given, and nobody is there");
}

#[test]
fn a_registered_service_may_name_no_environment_no_file_and_no_header_of_the_gateway() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .environment("CANARY", "canary-3")
        .file("canary.txt", "canary-3")
        .config("[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true")
        .start();
    let owner = gateway.token(OWNER);
    gateway.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    gateway
        .rest("POST", &format!("/service/register/lab/tool?baseUrl={}", upstream.url()))
        .token(&owner)
        .body("")
        .expect(200);
    for (name, value) in [
        ("X-Key", "${CANARY}"),
        ("X-Key", "file:canary.txt"),
        ("X-Key", "a\r\nb"),
        ("Host", "x"),
        ("Connection", "x"),
        ("Content-Length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("X-Carta-User", "x"),
        ("x_carta_user", "x"),
        ("X-Forwarded-For", "x"),
        ("X-Forwarded-User", "x"),
        ("Upgrade", "x"),
        ("TE", "x"),
        ("bad name", "x"),
    ] {
        let table = serde_json::json!({ "base_url": upstream.url(), "inject": { "headers": { name: value } } });
        let refused = gateway
            .rest("PUT", "/service/config/lab/tool")
            .token(&owner)
            .header("Content-Type", "application/json")
            .body(table.to_string())
            .send();
        assert_eq!(refused.status(), 400, "{name}: {value}: {}", refused.text());
        assert!(!refused.text().contains("canary-3"));
    }
    gateway.call("GET", "/lab/tool/x").token(&owner).expect(200);
    assert!(!upstream.only().text().contains("canary"));
}

#[test]
fn a_password_set_by_somebody_else_deletes_the_users_secrets() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    gateway.secret(&gateway.token("alice"), "key", "canary-4");
    gateway.run_with(&["user", "passwd", "alice"], "Correct-Horse-7\n").done();
    eventually("the secret is gone", A_SECOND_WITH_SLACK * 2, || {
        let status = gateway.rest("GET", "/secret?name=key").token(&gateway.token("alice")).send().status();
        (status == 404).then_some(())
    });
}

#[test]
fn rotation_reseals_everything_and_the_old_key_is_no_longer_needed() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), INJECT).start();
    let alice = gateway.token("alice");
    gateway.secret(&alice, "mp-api-key", "canary-5");
    gateway.kill();
    let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
    std::fs::write(gateway.path("next.key"), "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=").unwrap();
    let both = config.replace("key = \"file:vault.key\"", "key = \"file:next.key\"\nprevious = [\"file:vault.key\"]");
    std::fs::write(gateway.path("gateway.toml"), both).unwrap();
    gateway.run(&["vault", "rotate"]).done();
    let new_only = config.replace("key = \"file:vault.key\"", "key = \"file:next.key\"");
    std::fs::write(gateway.path("gateway.toml"), new_only).unwrap();
    gateway.serve();
    gateway.call("GET", "/materials/mp/x").token(&alice).expect(200);
    assert_eq!(upstream.only().header("x-api-key"), Some("canary-5"));
    gateway.kill();
    std::fs::write(gateway.path("gateway.toml"), &config).unwrap();
    gateway.spawn();
    assert!(matches!(gateway.wait_for_end(), Some(1 | 2)), "the old key alone opens nothing any more");
}

#[test]
fn nothing_of_a_secret_is_readable_in_the_store() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    gateway.secret(&gateway.token("alice"), "key", "canary-in-the-store");
    gateway.run_with(&["user", "passwd", OWNER], "Canary-Password-7\n").done();
    for entry in std::fs::read_dir(gateway.folder()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for canary in ["canary-in-the-store", "Canary-Password-7", "PRIVATE KEY"] {
            assert!(support::message::find(&bytes, canary.as_bytes()).is_none(), "{canary} in {}", path.display());
        }
    }
}

//! Who calls: tokens, the trusted header, several credentials at once, accounts and what ends them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::json;
use support::gateway::OWNER;
use support::issuer::{encode, now};
use support::{A_SECOND_WITH_SLACK, Gateway, Issuer, PATIENCE, Response, Upstream, eventually};

const HEADER: &str = "[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";

/// A gateway that takes tokens of the issuer; everybody may call `materials/mp`.
fn federated(upstream: &Upstream, issuer: &Issuer, config: &str) -> Gateway {
    Gateway::builder()
        .config(&issuer.table(""))
        .config(config)
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start()
}

fn call(gateway: &Gateway, token: &str) -> Response {
    gateway.call("GET", "/materials/mp/x").token(token).send()
}

#[test]
fn groups_of_a_token_reach_the_service_apart_from_local_ones_and_open_nothing() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let inject = "[service.inject]\nheaders = { X-Local = \"l:{groups}\", X-Token = \"t:{groups.token}\" }";
    let gateway = Gateway::builder()
        .config(&issuer.table("groups_claim = \"teams\""))
        .service("materials", "mp", &upstream.url(), inject)
        .service("materials", "closed", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    gateway.run(&["group", "add", "staff"]).done();
    gateway.run(&["group", "join", "staff", OWNER]).done();
    gateway.run(&["grant", "group:staff", "materials.closed", "execute"]).done();
    let token = issuer.token_with("alice", json!({ "teams": ["staff", "a,b"], "groups": ["other"] }));
    assert_eq!(call(&gateway, &token).status(), 200);
    let got = upstream.only();
    assert_eq!((got.header("x-local"), got.header("x-token")), (Some("l:"), Some("t:staff,a%2Cb")));
    let member = gateway.token(OWNER);
    eventually("the membership shows", A_SECOND_WITH_SLACK, || {
        assert_eq!(call(&gateway, &member).status(), 200);
        let got = upstream.last();
        assert_eq!(got.header("x-token"), Some("t:"), "our own tokens name local groups");
        (got.header("x-local") == Some("l:staff")).then_some(())
    });
    assert_eq!(gateway.call("GET", "/materials/closed/x").token(&token).send().status(), 403);
}

#[test]
fn a_token_whose_claims_do_not_hold_is_refused() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = federated(&upstream, &issuer, "");
    assert_eq!(call(&gateway, &issuer.token("alice")).status(), 200);
    upstream.forget();
    for (what, changes) in [
        ("expired", json!({ "exp": now() - 3600 })),
        ("without an end", json!({ "exp": null })),
        ("an end that is a text", json!({ "exp": (now() + 600).to_string() })),
        ("an end that is a list", json!({ "exp": [now() + 600] })),
        ("an end that is true", json!({ "exp": true })),
        ("not valid yet", json!({ "nbf": now() + 3600 })),
        ("a beginning that is a text", json!({ "nbf": "0" })),
        ("issued in the future", json!({ "iat": now() + 36_000 })),
        ("another issuer", json!({ "iss": "https://evil.example.org" })),
        ("the issuer with a slash", json!({ "iss": format!("{}/", issuer.url()) })),
        ("no issuer", json!({ "iss": null })),
        ("another audience", json!({ "aud": "somebody else" })),
        ("no audience", json!({ "aud": null })),
        ("an empty audience", json!({ "aud": [] })),
        ("an audience that contains ours", json!({ "aud": "urn:gateway-2" })),
        ("no subject", json!({ "sub": null })),
        ("an empty subject", json!({ "sub": "" })),
    ] {
        let response = call(&gateway, &issuer.token_with("alice", changes));
        assert_eq!(response.status(), 401, "{what}: {}", response.text());
        assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_token_whose_signature_does_not_hold_is_refused() {
    let (upstream, issuer, other) = (Upstream::fixed("ok"), Issuer::start(), Issuer::start());
    let gateway = federated(&upstream, &issuer, "");
    let claims = issuer.claims("alice").to_string();
    let good = issuer.token("alice");
    let parts: Vec<&str> = good.split('.').collect();
    let secret = issuer.public()["n"].as_str().unwrap().to_owned();
    let hmac = {
        let signed =
            format!("{}.{}", encode(json!({ "alg": "HS256", "kid": issuer.kid() }).to_string()), encode(&claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{signed}.{}", encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
    };
    for (what, token) in [
        ("none", format!("{}.{}.", encode(json!({ "alg": "none" }).to_string()), parts[1])),
        ("None", format!("{}.{}.", encode(json!({ "alg": "None", "kid": issuer.kid() }).to_string()), parts[1])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("the public key as a shared one", hmac),
        (
            "another algorithm than the key's",
            issuer.sign_with(&json!({ "alg": "RS512", "kid": issuer.kid() }), &claims),
        ),
        ("another's key", other.sign_with(&json!({ "alg": "RS256", "kid": issuer.kid() }), &claims)),
        ("a key of its own", {
            let header = json!({ "alg": "RS256", "jwk": other.public(), "kid": other.kid() });
            other.sign_with(&header, &claims)
        }),
        ("a key elsewhere", {
            let header = json!({ "alg": "RS256", "jku": format!("{}/keys", other.url()), "kid": other.kid() });
            other.sign_with(&header, &claims)
        }),
        ("a critical extension", {
            let header = json!({ "alg": "RS256", "kid": issuer.kid(), "crit": ["exp"], "exp": 1 });
            issuer.sign_with(&header, &claims)
        }),
        ("other claims", format!("{}.{}.{}", parts[0], encode(issuer.claims("olga").to_string()), parts[2])),
        ("a cut signature", good[..good.len() - 4].to_owned()),
        ("four parts", format!("{good}.x")),
        ("claims that are no object", issuer.sign_with(&json!({ "alg": "RS256", "kid": issuer.kid() }), "[]")),
        ("claims twice", {
            let doubled = claims.replacen('{', "{\"aud\":\"x\",", 1);
            issuer.sign_with(&json!({ "alg": "RS256", "kid": issuer.kid() }), &doubled)
        }),
    ] {
        let response = call(&gateway, &token);
        assert_eq!((response.status(), response.problem()), (401, Some("invalid-credential")), "{what}");
    }
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(other.fetches(), 0, "no key is fetched from where a token says");
}

#[test]
fn a_key_of_another_issuer_never_verifies() {
    let (upstream, first, second) = (Upstream::fixed("ok"), Issuer::start(), Issuer::start());
    let gateway = Gateway::builder()
        .config(&first.table(""))
        .config(&second.table(""))
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    assert_eq!(call(&gateway, &second.token("bob")).status(), 200);
    let forged = second.sign_with(&json!({ "alg": "RS256", "kid": second.kid() }), &first.claims("alice").to_string());
    assert_eq!(call(&gateway, &forged).status(), 401);
}

#[test]
fn tokens_die_with_their_key_and_come_back_with_none() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = federated(&upstream, &issuer, "");
    let old = issuer.token("alice");
    assert_eq!(call(&gateway, &old).status(), 200);
    issuer.rotate();
    assert_eq!(call(&gateway, &issuer.token("alice")).status(), 200, "an unknown key makes the gateway look");
    eventually("the old key's tokens are dead", PATIENCE, || (call(&gateway, &old).status() == 401).then_some(()));
}

#[test]
fn without_keys_everybody_is_refused_and_nothing_falls_back() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    issuer.out_of_order(true);
    let gateway = federated(&upstream, &issuer, "");
    let refused = call(&gateway, &issuer.token("alice"));
    assert_eq!((refused.status(), refused.problem()), (503, Some("identity-unavailable")));
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(call(&gateway, &gateway.token(OWNER)).status(), 200, "the built-in issuer is not concerned");
}

/// CVE-2026-26998 (Traefik): what an identity provider may send is bounded.
#[test]
fn a_key_set_that_is_too_large_or_no_key_set_is_not_used() {
    let keys: [Vec<u8>; 3] =
        [vec![b' '; 50_000_000], b"garbage".to_vec(), br#"{"keys":[{"kty":"oct","k":"AAAA","kid":"x"}]}"#.to_vec()];
    for published in keys {
        let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
        issuer.publish_instead(published);
        let gateway = federated(&upstream, &issuer, "");
        let refused = call(&gateway, &issuer.token("alice"));
        assert_eq!((refused.status(), refused.problem()), (503, Some("identity-unavailable")));
        assert!(gateway.peak_memory() < 400 * 1024 * 1024);
    }
}

#[test]
fn another_issuer_cannot_claim_an_account_by_its_name() {
    let (upstream, first, second) = (Upstream::fixed("ok"), Issuer::start(), Issuer::start());
    let gateway = Gateway::builder()
        .config(&first.table(""))
        .config(&second.table(""))
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    assert_eq!(call(&gateway, &first.token("alice")).status(), 200);
    for claimed in ["alice", OWNER] {
        let response = call(&gateway, &second.token_with(claimed, json!({ "email": "other@example.org" })));
        assert_eq!((response.status(), response.problem()), (403, Some("identity-conflict")), "{claimed}");
    }
    let other_subject = first.token_with("alice", json!({ "sub": "somebody else" }));
    assert_eq!(
        call(&gateway, &other_subject).problem(),
        Some("identity-conflict"),
        "nor the same issuer's next subject"
    );
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn groups_and_roles_of_a_token_are_no_local_groups_and_roles() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = Gateway::builder()
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "[service.inject]\nheaders = { X-Groups = \"[{groups}]\" }")
        .grant("role:Admin", "materials.mp", "execute")
        .grant("role:Lab", "materials.mp", "execute")
        .start();
    let claims = json!({ "groups": ["Lab"], "cognito:groups": ["Lab"], "roles": ["Admin"], "role": "Admin" });
    let token = issuer.token_with("ann", claims);
    assert_eq!(call(&gateway, &token).status(), 403);
    gateway.run(&["grant", "ann", "materials.mp", "execute"]).done();
    eventually("the grant holds", A_SECOND_WITH_SLACK, || (call(&gateway, &token).status() == 200).then_some(()));
    assert_eq!(upstream.only().header("x-groups"), Some("[]"));
}

#[test]
fn changed_claims_of_the_same_user_reach_the_upstream() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = Gateway::builder()
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "[service.inject]\nheaders = { X-Lab = \"{claim:lab}\" }")
        .grant("everyone", "materials.mp", "execute")
        .start();
    for lab in ["north", "south"] {
        assert_eq!(call(&gateway, &issuer.token_with("alice", json!({ "lab": lab }))).status(), 200);
        assert_eq!(upstream.last().header("x-lab"), Some(lab));
    }
    let without = call(&gateway, &issuer.token("alice"));
    assert_eq!((without.status(), without.problem()), (400, Some("missing-value")));
    assert_eq!(upstream.received().len(), 2);
    // What would break the header is refused or encoded; it never ends the line.
    call(&gateway, &issuer.token_with("alice", json!({ "lab": "a\r\nX-Evil: 1" })));
    assert!(upstream.received().iter().all(|received| received.header("x-evil").is_none()));
}

#[test]
fn a_disabled_user_is_refused_whatever_is_cached_and_comes_back_with_a_new_token() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let token = gateway.token("alice");
    assert_eq!(call(&gateway, &token).status(), 200);
    gateway.run(&["user", "disable", "alice"]).done();
    eventually("the token is dead", A_SECOND_WITH_SLACK, || (call(&gateway, &token).status() == 401).then_some(()));
    gateway.run(&["token", "alice"]).code(1);
    gateway.run(&["user", "enable", "alice"]).done();
    let next = eventually("a new token works", A_SECOND_WITH_SLACK * 2, || {
        let next = gateway.token("alice");
        (call(&gateway, &next).status() == 200).then_some(next)
    });
    assert_eq!(call(&gateway, &token).status(), 401, "what was issued before stays dead");
    gateway.run_with(&["user", "passwd", "alice"], "Correct-Horse-7\n").done();
    eventually("a new password ends tokens too", A_SECOND_WITH_SLACK, || {
        (call(&gateway, &next).status() == 401).then_some(())
    });
}

#[test]
fn the_trusted_header_identifies_and_its_e_mail_has_no_case() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .config(HEADER)
        .config("create_users = true\nnew_user_role = \"Guest\"")
        .service("materials", "mp", &upstream.url(), "")
        .grant("role:Guest", "materials.mp", "execute")
        .start();
    let ask = |value: &str| gateway.call("GET", "/materials/mp/x").header("X-Forwarded-Email", value).send();
    let mut accounts = std::collections::HashSet::new();
    for spelling in ["Ann@Example.org", "ann@example.org", " ANN@EXAMPLE.ORG "] {
        assert_eq!(ask(spelling).status(), 200, "{spelling}");
        let who = gateway.rest("GET", "/user").header("X-Forwarded-Email", spelling).expect(200).json();
        accounts.insert(who["id"].to_string());
        assert_eq!(upstream.last().header("x-carta-email"), Some("ann@example.org"));
        assert_eq!(upstream.last().header("x-forwarded-email"), None);
    }
    assert_eq!(accounts.len(), 1, "three spellings, one account");
    upstream.forget();
    for bad in ["", "ann", "ann@", "@example.org", "a@b@example.org", "ann@example.org, bob@example.org", "a b@x.org"] {
        let status = ask(bad).status();
        assert!(matches!(status, 400 | 401), "`{bad}`: {status}");
    }
    let twice = gateway
        .call("GET", "/materials/mp/x")
        .header("X-Forwarded-Email", "ann@example.org")
        .header("X-Forwarded-Email", "ann@example.org")
        .send();
    assert_eq!(twice.status(), 400);
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn the_header_of_an_unlisted_peer_is_no_credential_and_an_empty_list_trusts_nobody() {
    for list in ["[]", "[\"10.0.0.0/8\", \"::1/128\"]"] {
        let upstream = Upstream::fixed("ok");
        let gateway = Gateway::with_service(&upstream.url(), "")
            .config(&format!("[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = {list}"))
            .start();
        let alone = gateway.call("GET", "/materials/mp/x").header("X-Forwarded-Email", "alice@example.org");
        assert_eq!(alone.send().status(), 401);
        let with_token = alone.token(&gateway.token("alice")).header("X-Forwarded-For", "10.0.0.1").send();
        assert_eq!(with_token.status(), 200, "it is removed, not refused");
        assert_eq!(upstream.only().header("x-forwarded-email"), None);
    }
}

#[test]
fn a_load_balancer_says_where_a_call_comes_from_and_never_who_calls() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .listen("trusted_proxies = [\"127.0.0.1/32\"]")
        .config("[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"10.0.0.0/8\"]")
        .start();
    let forwarded = gateway
        .call("GET", "/materials/mp/x")
        .header("X-Forwarded-For", "203.0.113.7")
        .header("X-Forwarded-Email", "alice@example.org");
    assert_eq!(forwarded.send().status(), 401);
    assert_eq!(forwarded.token(&gateway.token("alice")).send().status(), 200);
    let received = upstream.only();
    assert_eq!(received.header("x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(received.header("x-forwarded-email"), None);
}

#[test]
fn header_modes_of_mara_acl_answer_as_it_does() {
    let upstream = Upstream::fixed("ok");
    let required = Gateway::with_service(&upstream.url(), "").config(HEADER).config("required = true").start();
    let missing = required.call("GET", "/materials/mp/x").send();
    assert_eq!((missing.status(), missing.problem()), (400, Some("header-required")));
    drop(required);
    let invited = Gateway::with_service(&upstream.url(), "").config(HEADER).config("create_users = false").start();
    let stranger = invited.call("GET", "/materials/mp/x").header("X-Forwarded-Email", "zoe@example.org").send();
    assert_eq!((stranger.status(), stranger.problem()), (403, Some("not-invited")));
}

#[test]
fn several_credentials_must_agree_and_a_bad_one_never_falls_through() {
    let upstream = Upstream::fixed("ok");
    let (issuer, builder) = (Issuer::start(), Gateway::builder());
    let gateway = builder
        .config(HEADER)
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let good = gateway.token(OWNER);
    let ask = || gateway.call("GET", "/materials/mp/x");
    for (what, ask, status) in [
        ("a bad token beside a good header", ask().token("bad").header("X-Forwarded-Email", "ann@example.org"), 401),
        ("a good token beside a bad header", ask().token(&good).header("X-Forwarded-Email", "a@b@c"), 400),
        ("two users", ask().token(&good).header("X-Forwarded-Email", "ann@example.org"), 400),
        ("authorization twice", ask().token(&good).token(&good), 400),
        ("authorization twice, spelled otherwise", ask().token(&good).header("AUTHORIZATION", "Bearer x"), 400),
        ("two in one line", ask().header("Authorization", &format!("Bearer {good}, Bearer {good}")), 401),
        ("an unknown scheme", ask().header("Authorization", "Digest x"), 401),
        ("an empty token", ask().header("Authorization", "Bearer "), 401),
        ("basic with a password", ask().header("Authorization", "Basic b2xnYTpwdw=="), 401),
        (
            "basic with a token",
            {
                use base64::Engine;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("__token__:{good}"));
                ask().header("Authorization", &format!("Basic {pair}"))
            },
            401,
        ),
    ] {
        let got = ask.send();
        assert!(
            got.status() == status || (status == 401 && got.status() == 400),
            "{what}: {} {}",
            got.status(),
            got.text()
        );
    }
    assert_eq!(upstream.received().len(), 0);
    let scheme = ask().header("Authorization", &format!("bearer {good}")).send();
    assert_eq!(scheme.status(), 200, "the scheme has no case");
}

#[test]
fn a_page_of_another_origin_cannot_use_the_identity_of_its_visitor() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .config(HEADER)
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let ask = |method: &str| gateway.call(method, "/materials/mp/x").header("X-Forwarded-Email", "ann@example.org");
    assert_eq!(ask("POST").body("").send().status(), 200, "no browser sends it without an origin");
    let own = format!("http://{}", gateway.proxy());
    assert_eq!(ask("POST").header("Origin", &own).body("").send().status(), 200);
    upstream.forget();
    for origin in ["https://evil.example.org", "null", &own.replace("http:", "https:")] {
        let refused = ask("POST").header("Origin", origin).body("").send();
        assert_eq!((refused.status(), refused.problem()), (403, Some("origin-refused")), "{origin}");
        let socket =
            ask("GET").header("Origin", origin).header("Connection", "Upgrade").header("Upgrade", "websocket").send();
        assert_eq!(socket.status(), 403, "{origin}");
    }
    let site = ask("POST").header("Sec-Fetch-Site", "cross-site").body("").send();
    assert_eq!(site.status(), 403);
    assert_eq!(upstream.received().len(), 0);
    let token = gateway.token(OWNER);
    let bearer = gateway.call("POST", "/materials/mp/x").token(&token).header("Origin", "https://app.example.org");
    assert_eq!(bearer.body("").send().status(), 200, "a token is not sent by a browser of itself");
}

#[test]
fn the_built_in_issuer_publishes_what_verifies_its_tokens() {
    let gateway = Gateway::builder().user("alice", &["--email", "alice@example.org"]).start();
    let token = gateway.token("alice");
    let claims: serde_json::Value = {
        use base64::Engine;
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    for (name, value) in
        [("cognito:username", json!("alice")), ("email", json!("alice@example.org")), ("token_use", json!("id"))]
    {
        assert_eq!(claims[name], value, "{claims}");
    }
    let discovery = gateway.rest("GET", "/.well-known/openid-configuration").expect(200).json();
    assert_eq!(discovery["issuer"], claims["iss"]);
    let keys = discovery["jwks_uri"].as_str().unwrap();
    let path = keys.split_once("//").unwrap().1.split_once('/').unwrap().1;
    let set = gateway.rest("GET", &format!("/{path}")).expect(200).text();
    assert!(set.contains("RS256") && !set.contains("\"d\""), "{set}");
    let other = Gateway::builder().user("alice", &[]).start();
    assert_eq!(other.rest("GET", "/user").token(&token).send().status(), 401, "no two gateways share a key");
}

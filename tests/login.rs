//! Login by name and password, rule by rule: `docs/API.md` §2 and §3.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::login::{CLIENT, Exchange, id_token, initiate, log_in, operate, operate_at, refused, respond};
use support::{Gateway, Issuer, Response};

const PASSWORD: &str = "Correct-Horse-9";
const INCORRECT: (&str, &str) = ("NotAuthorizedException", "Incorrect username or password.");

fn gateway() -> Gateway {
    let gateway = Gateway::builder().user("bob", &[]).prepare();
    gateway.run_with(&["user", "add", "alice", "--email", "alice@example.org", "--password-stdin"], PASSWORD).done();
    gateway.run_with(&["user", "add", "carol", "--password-stdin"], PASSWORD).done();
    gateway.serve();
    gateway
}

#[track_caller]
fn is_incorrect(response: &Response) {
    let (code, message) = refused(response);
    assert_eq!((code.as_str(), message.as_str()), INCORRECT);
}

fn code(response: &Response) -> String {
    refused(response).0
}

#[test]
fn a_right_password_gives_a_token_that_both_listeners_take_and_two_that_none_takes() {
    let gateway = gateway();
    let answer = log_in(&gateway, "alice", PASSWORD);
    let token = id_token(&answer);
    let user = gateway.rest("GET", "/user").token(&token).expect(200).json();
    assert_eq!(user["name"], "alice");
    gateway.call("GET", "/no/service").token(&token).expect(404);
    let body = answer.json();
    assert!(body.get("ChallengeName").is_none() && body["ChallengeParameters"] == json!({}));
    let result = &body["AuthenticationResult"];
    assert_eq!((&result["ExpiresIn"], &result["TokenType"]), (&json!(8 * 3600), &json!("Bearer")));
    for other in ["AccessToken", "RefreshToken"] {
        gateway.rest("GET", "/user").token(result[other].as_str().unwrap()).expect(401);
    }
}

#[test]
fn where_to_log_in_and_what_passwords_must_be_are_told_without_credentials() {
    let gateway = gateway();
    let pool = json!({"region": "local", "userPoolId": "local_carta", "userPoolWebClientId": CLIENT});
    for path in ["/auth", "/v2/auth/cognito/user-pool"] {
        assert_eq!(gateway.rest("GET", path).expect(200).json(), pool);
    }
    let policy = gateway.rest("GET", "/v2/auth/cognito/password-policy").expect(200).json();
    let wanted = json!({
        "minimumLength": 8, "requireLowercase": true, "requireUppercase": true, "requireNumbers": true,
        "requireSymbols": false,
    });
    assert_eq!(policy, wanted);
}

#[test]
fn wrong_passwords_unknown_disabled_and_passwordless_users_are_all_the_same() {
    let gateway = gateway();
    gateway.run(&["user", "disable", "carol"]).done();
    is_incorrect(&log_in(&gateway, "alice", "Wrong-Horse-9"));
    let mut shapes = Vec::new();
    for name in ["alice", "bob", "carol", "nobody"] {
        let exchange = Exchange::begin(&gateway, name);
        let parameters = exchange.challenge["ChallengeParameters"].as_object().unwrap().clone();
        assert_eq!((exchange.parameter("USERNAME"), exchange.parameter("USER_ID_FOR_SRP")), (name, name));
        assert!((31..=32).contains(&exchange.parameter("SALT").len()), "{name}");
        shapes.push(parameters.keys().cloned().collect::<Vec<_>>());
        if name != "alice" {
            is_incorrect(&respond(&gateway, &exchange.answer(PASSWORD)));
        }
    }
    assert!(shapes.windows(2).all(|two| two[0] == two[1]));
    let salt = |name: &str| Exchange::begin(&gateway, name).parameter("SALT").to_owned();
    assert_eq!((salt("nobody"), salt("alice")), (salt("nobody"), salt("alice")));
    assert_ne!(salt("nobody"), salt("nobody2"));
}

#[test]
fn an_unknown_names_salt_outlives_the_process() {
    let gateway = gateway();
    let before = Exchange::begin(&gateway, "nobody").parameter("SALT").to_owned();
    gateway.kill();
    gateway.serve();
    assert_eq!(Exchange::begin(&gateway, "nobody").parameter("SALT"), before);
}

#[test]
fn a_challenge_serves_once_for_its_own_name_and_only_with_the_time_of_now() {
    let gateway = gateway();
    let exchange = Exchange::begin(&gateway, "alice");
    let answer = exchange.answer(PASSWORD);
    id_token(&respond(&gateway, &answer));
    is_incorrect(&respond(&gateway, &answer));

    let mut other = Exchange::begin(&gateway, "alice").answer(PASSWORD);
    other["USERNAME"] = json!("bob");
    is_incorrect(&respond(&gateway, &other));
    other["USERNAME"] = json!("alice");
    is_incorrect(&respond(&gateway, &other));

    for (minutes, good) in [(-14, true), (14, true), (-16, false), (16, false)] {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
        let text = at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%a %b %-d %H:%M:%S UTC %Y").to_string();
        let response = respond(&gateway, &Exchange::begin(&gateway, "alice").answer_at(PASSWORD, &text));
        if good { drop(id_token(&response)) } else { is_incorrect(&response) }
    }
    is_incorrect(&respond(&gateway, &Exchange::begin(&gateway, "alice").answer_at(PASSWORD, "now")));
}

#[test]
fn whatever_is_no_login_is_refused_by_its_code_and_never_as_a_fault_of_the_server() {
    let gateway = gateway();
    let n = "FFFFFFFFFFFFFFFFC90FDAA22168C234";
    for (operation, body, wanted) in [
        ("InitiateAuth", json!({"ClientId": CLIENT, "AuthFlow": "USER_PASSWORD_AUTH"}), "InvalidParameterException"),
        ("InitiateAuth", json!({"ClientId": CLIENT, "AuthFlow": "REFRESH_TOKEN_AUTH"}), "InvalidParameterException"),
        ("InitiateAuth", json!({"ClientId": "other", "AuthFlow": "USER_SRP_AUTH"}), "ResourceNotFoundException"),
        ("InitiateAuth", json!({"AuthFlow": "USER_SRP_AUTH"}), "InvalidParameterException"),
        ("InitiateAuth", initiate("alice", "0"), "InvalidParameterException"),
        ("InitiateAuth", initiate("alice", "xyz"), "InvalidParameterException"),
        ("InitiateAuth", initiate("", n), "InvalidParameterException"),
        (
            "InitiateAuth",
            json!({"ClientId": CLIENT, "AuthFlow": "USER_SRP_AUTH", "AuthParameters": []}),
            "InvalidParameterException",
        ),
        (
            "RespondToAuthChallenge",
            json!({"ClientId": CLIENT, "ChallengeName": "SMS_MFA"}),
            "InvalidParameterException",
        ),
        ("RespondToAuthChallenge", json!({"ClientId": "other"}), "ResourceNotFoundException"),
        ("AdminGetUser", json!({"UserPoolId": "local_carta", "Username": "alice"}), "AccessDeniedException"),
        ("AdminCreateUser", json!({}), "AccessDeniedException"),
        ("Nonsense", json!({}), "AccessDeniedException"),
    ] {
        let response = operate(&gateway, operation, &body);
        assert_eq!(code(&response), wanted, "{operation} {body}");
    }
    let padded = json!({ "AuthFlow": "USER_SRP_AUTH", "x": "y".repeat(16 * 1024) }).to_string();
    for body in ["", "{", "[]", "\"x\"", &padded] {
        let target = "AWSCognitoIdentityProviderService.InitiateAuth";
        let response = gateway.rest("POST", "/").header("X-Amz-Target", target).body(body).send();
        assert_eq!(code(&response), "SerializationException", "{body}");
    }
    let junk: Value = json!({
        "TIMESTAMP": "x", "USERNAME": "alice", "PASSWORD_CLAIM_SECRET_BLOCK": "é", "PASSWORD_CLAIM_SIGNATURE": "",
    });
    is_incorrect(&respond(&gateway, &junk));
}

#[test]
fn the_exchange_is_at_each_of_its_paths_and_nothing_else_is_at_the_root() {
    let gateway = gateway();
    for path in ["/", "/cognito", "/cognito/"] {
        let response = operate_at(&gateway, path, "InitiateAuth", &initiate("alice", "abc"));
        assert_eq!(response.status(), 200, "{path}");
    }
    gateway.rest("POST", "/").body("{}").expect(401);
    gateway.rest("GET", "/").expect(405);
    let token = gateway.token("alice");
    gateway.rest("POST", "/").token(&token).body("{}").expect(404);
    gateway.rest("GET", "/").token(&token).expect(405);
    assert_eq!(code(&gateway.rest("POST", "/cognito").body("{}").send()), "AccessDeniedException");
}

#[test]
fn a_temporary_password_gives_no_token_until_another_is_chosen() {
    let gateway = gateway();
    gateway.run_with(&["user", "passwd", "alice", "--password-stdin", "--temporary"], "Temporary-1").done();
    is_incorrect(&log_in(&gateway, "alice", "Wrong-Horse-9"));
    let exchange = Exchange::begin(&gateway, "alice");
    let mut responses = exchange.answer("Temporary-1");
    let first = respond(&gateway, &responses);
    assert_eq!(first.status(), 200);
    let asked = first.json();
    assert_eq!(asked["ChallengeName"], "NEW_PASSWORD_REQUIRED");
    assert!(asked.get("AuthenticationResult").is_none());
    assert_eq!(
        asked["ChallengeParameters"],
        json!({"USER_ID_FOR_SRP": "alice", "requiredAttributes": "[]", "userAttributes": "{}"})
    );
    let mut change = |new: &str, name: &str, session: &Value| {
        responses["NEW_PASSWORD"] = json!(new);
        responses["USERNAME"] = json!(name);
        let body = json!({
            "ChallengeName": "NEW_PASSWORD_REQUIRED", "ChallengeResponses": responses, "ClientId": CLIENT,
            "Session": session,
        });
        operate(&gateway, "RespondToAuthChallenge", &body)
    };
    let session = &asked["Session"];
    assert_eq!(code(&change(PASSWORD, "alice", &json!("AAAA"))), "NotAuthorizedException");
    assert_eq!(code(&change(PASSWORD, "bob", session)), "NotAuthorizedException");
    assert_eq!(code(&change("short", "alice", session)), "InvalidPasswordException");
    assert_eq!(code(&change("Temporary-1", "alice", session)), "InvalidPasswordException");
    let token = id_token(&change("Chosen-Horse-10", "alice", session));
    gateway.rest("GET", "/user").token(&token).expect(200);
    assert_eq!(code(&change("Chosen-Horse-11", "alice", session)), "NotAuthorizedException");
    is_incorrect(&log_in(&gateway, "alice", "Temporary-1"));
    id_token(&log_in(&gateway, "alice", "Chosen-Horse-10"));
}

#[test]
fn a_password_that_changes_between_the_two_calls_is_dead() {
    let gateway = gateway();
    let exchange = Exchange::begin(&gateway, "alice");
    gateway.run_with(&["user", "passwd", "alice", "--password-stdin"], "Another-Horse-1").done();
    is_incorrect(&respond(&gateway, &exchange.answer(PASSWORD)));
    id_token(&log_in(&gateway, "alice", "Another-Horse-1"));
}

#[test]
fn failures_are_limited_by_name_and_address_and_others_are_let_in() {
    let gateway = gateway();
    let spent = |name: &str| {
        let responses = json!({
            "TIMESTAMP": "Sun Nov 8 04:05:06 UTC 2026", "USERNAME": name, "PASSWORD_CLAIM_SECRET_BLOCK": "AAAA",
            "PASSWORD_CLAIM_SIGNATURE": "AAAA",
        });
        code(&respond(&gateway, &responses))
    };
    for failure in 0..20 {
        assert_eq!(spent("alice"), "NotAuthorizedException", "{failure}");
    }
    id_token(&log_in(&gateway, "alice", PASSWORD));
    // One is forgotten every two seconds: more than this many in a row are one too many on any machine.
    let is_limited = || (0..200).any(|_| spent("alice") == "TooManyRequestsException");
    let begins = || operate(&gateway, "InitiateAuth", &initiate("alice", "abc")).status() == 200;
    assert!((0..20).any(|_| is_limited() && !begins()));
    id_token(&log_in(&gateway, "carol", PASSWORD));
}

#[test]
fn a_flood_of_logins_is_refused_and_does_not_hold_up_other_calls() {
    let gateway = gateway();
    let token = gateway.token("alice");
    let wires: Vec<_> = (0..200)
        .map(|number| {
            gateway
                .rest("POST", "/")
                .header("X-Amz-Target", "AWSCognitoIdentityProviderService.InitiateAuth")
                .body(initiate(&format!("user-{number}"), "abc").to_string())
                .open()
        })
        .collect();
    gateway.rest("GET", "/user").token(&token).expect(200);
    let outcomes: Vec<u16> = wires.into_iter().map(|mut wire| wire.response().status()).collect();
    assert!(outcomes.iter().all(|status| [200, 400].contains(status)), "{outcomes:?}");
    assert!(outcomes.contains(&200) && outcomes.contains(&400), "so many wait, and more are refused");
}

#[test]
fn without_the_built_in_issuer_nobody_logs_in_here() {
    let issuer = Issuer::start();
    let gateway = Gateway::builder().config(&issuer.table("")).config("[auth.local]\nenabled = false").prepare();
    gateway.serve();
    gateway.rest("GET", "/auth").expect(404);
    gateway.rest("GET", "/v2/auth/cognito/password-policy").expect(404);
    assert_eq!(code(&operate(&gateway, "InitiateAuth", &initiate("alice", "abc"))), "ResourceNotFoundException");
}

#[test]
fn no_password_is_in_the_store_the_log_or_the_audit() {
    let gateway = gateway();
    id_token(&log_in(&gateway, "alice", PASSWORD));
    is_incorrect(&log_in(&gateway, "alice", "Canary-Horse-9"));
    gateway.kill();
    for file in std::fs::read_dir(gateway.folder()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for canary in [PASSWORD, "Canary-Horse-9"] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} has {canary}", path.display());
        }
    }
}

//! Cognito's calls for administrators, signed as AWS asks for it: who may make them, and what a reset does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use aws_lc_rs::{digest, hmac};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::login::{Exchange, id_token, log_in, refused, respond};
use support::{Ask, Gateway, Response};

const ID: &str = "CARTAADMIN000001";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const OLD: &str = "Correct-Horse-9";
const NEW: &str = "Chosen-Horse-10";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signature as the AWS documents make it, after them and not after the gateway's code.
struct Signer {
    id: &'static str,
    secret: &'static str,
    at: Timestamp,
    /// Signed instead of the body that is sent.
    body: Option<Value>,
    /// Signed instead of the operation that is asked for.
    operation: Option<&'static str>,
}

impl Signer {
    fn now() -> Self {
        Self { id: ID, secret: SECRET, at: Timestamp::now(), body: None, operation: None }
    }

    fn ask(&self, gateway: &Gateway, operation: &str, body: &Value) -> Ask {
        let target = |operation: &str| format!("AWSCognitoIdentityProviderService.{operation}");
        let date = self.at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &date[..8];
        let content = "application/x-amz-json-1.1";
        let hash =
            hex(digest::digest(&digest::SHA256, self.body.as_ref().unwrap_or(body).to_string().as_bytes()).as_ref());
        let signed = "content-type;host;x-amz-date;x-amz-target";
        let named = target(self.operation.unwrap_or(operation));
        let canonical = format!(
            "POST\n/\n\ncontent-type:{content}\nhost:{}\nx-amz-date:{date}\nx-amz-target:{named}\n\n{signed}\n{hash}",
            gateway.api()
        );
        let scope = format!("{day}/local/cognito-idp/aws4_request");
        let digest = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let mac = |key: &[u8], text: &str| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
        };
        let first = format!("AWS4{}", self.secret).into_bytes();
        let key = [day, "local", "cognito-idp", "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}")));
        let credential = format!("Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}", self.id);
        gateway
            .rest("POST", "/")
            .header("Content-Type", content)
            .header("X-Amz-Target", &target(operation))
            .header("X-Amz-Date", &date)
            .header("Authorization", &format!("AWS4-HMAC-SHA256 {credential}"))
            .body(body.to_string())
    }
}

fn of(user: &str) -> Value {
    json!({"UserPoolId": "local_carta", "Username": user})
}

fn operate(gateway: &Gateway, operation: &str, user: &str) -> Response {
    Signer::now().ask(gateway, operation, &of(user)).send()
}

#[track_caller]
fn status(gateway: &Gateway, user: &str) -> String {
    let answer = operate(gateway, "AdminGetUser", user);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["UserStatus"].as_str().unwrap().to_owned()
}

fn set(gateway: &Gateway, user: &str, password: &str, flags: &[&str]) {
    let arguments = [&["user", "passwd", user, "--password-stdin"], flags].concat();
    gateway.run_with(&arguments, password).done();
}

fn start(keys: &str) -> Gateway {
    let gateway = Gateway::builder().config(keys).file("admin.key", SECRET).user("alice", &[]).prepare();
    set(&gateway, "alice", OLD, &[]);
    gateway.serve();
    gateway
}

fn keys() -> String {
    format!("[[auth.local.admin_keys]]\nid = \"{ID}\"\nsecret = \"file:admin.key\"\n")
}

#[test]
fn a_reset_ends_the_password_and_its_tokens_until_another_one_is_given() {
    let gateway = start(&keys());
    let token = id_token(&log_in(&gateway, "alice", OLD));
    gateway.rest("GET", "/user").token(&token).expect(200);
    assert_eq!(status(&gateway, "alice"), "CONFIRMED");
    let reset = Signer::now().ask(&gateway, "AdminResetUserPassword", &of("alice"));
    assert_eq!((reset.send().status(), status(&gateway, "alice").as_str()), (200, "RESET_REQUIRED"));
    gateway.rest("GET", "/user").token(&token).expect(401);
    let told = refused(&log_in(&gateway, "alice", OLD));
    assert_eq!(told.0, "PasswordResetRequiredException");
    let wrong = refused(&log_in(&gateway, "alice", "Wrong-Horse-9"));
    assert_eq!((wrong.0.as_str(), &wrong.1), ("NotAuthorizedException", &refused(&log_in(&gateway, "nobody", OLD)).1));

    set(&gateway, "alice", NEW, &["--temporary"]);
    assert_eq!(status(&gateway, "alice"), "FORCE_CHANGE_PASSWORD");
    let asked = respond(&gateway, &Exchange::begin(&gateway, "alice").answer(NEW));
    assert_eq!(asked.json()["ChallengeName"], "NEW_PASSWORD_REQUIRED");
    set(&gateway, "alice", OLD, &[]);
    assert_eq!(reset.send().json(), json!({}), "the same request once more");
    assert_eq!(status(&gateway, "alice"), "CONFIRMED", "acts once");
    id_token(&log_in(&gateway, "alice", OLD));
    let audit = rusqlite::Connection::open(gateway.path("carta.db")).unwrap();
    let from: String = audit
        .query_row("SELECT came_from FROM audit WHERE what = 'user.password.reset'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(from, format!("{ID} 127.0.0.1"));
}

#[test]
fn an_invitation_that_is_sent_again_ends_the_temporary_password() {
    let gateway = start(&keys());
    let again = || {
        let mut body = of("alice");
        body["MessageAction"] = "RESEND".into();
        Signer::now().ask(&gateway, "AdminCreateUser", &body).send()
    };
    assert_eq!(refused(&again()).0, "UnsupportedUserStateException");
    set(&gateway, "alice", NEW, &["--temporary"]);
    assert_eq!(refused(&operate(&gateway, "AdminResetUserPassword", "alice")).0, "NotAuthorizedException");
    let sent = again();
    assert_eq!((sent.status(), &sent.json()["User"]["UserStatus"]), (200, &json!("RESET_REQUIRED")), "{}", sent.text());
    assert_eq!(refused(&log_in(&gateway, "alice", NEW)).0, "PasswordResetRequiredException");
    assert_eq!(refused(&operate(&gateway, "AdminCreateUser", "new")).0, "AccessDeniedException", "no other use of it");
    assert_eq!(refused(&operate(&gateway, "AdminGetUser", "nobody")).0, "UserNotFoundException");
    assert_eq!(status(&gateway, support::gateway::OWNER), "EXTERNAL_PROVIDER", "no password at all");
}

#[test]
fn only_who_signs_with_a_configured_key_and_signs_this_very_request_now_is_served() {
    let gateway = start(&keys());
    let denied = |signer: &Signer, operation: &str| {
        let (code, message) = refused(&signer.ask(&gateway, operation, &of("alice")).send());
        assert!(!message.contains(SECRET) && !message.contains("alice"), "{message}");
        code
    };
    let at = |minutes| Timestamp::now() + SignedDuration::from_mins(minutes);
    for signer in [
        Signer { id: "CARTAADMIN000002", ..Signer::now() },
        Signer { secret: "other", ..Signer::now() },
        Signer { secret: "", ..Signer::now() },
        Signer { id: "CARTAADMIN000002", secret: "", ..Signer::now() },
        Signer { at: at(-6), ..Signer::now() },
        Signer { at: at(6), ..Signer::now() },
        Signer { body: Some(of("bob")), ..Signer::now() },
        Signer { operation: Some("AdminGetUser"), ..Signer::now() },
    ] {
        assert_eq!(denied(&signer, "AdminResetUserPassword"), "AccessDeniedException");
    }
    assert_eq!(denied(&Signer::now(), "AdminDeleteUser"), "AccessDeniedException", "no other operation");
    let unsigned = support::login::operate(&gateway, "AdminResetUserPassword", &of("alice"));
    assert_eq!(refused(&unsigned).0, "AccessDeniedException");
    assert_eq!(status(&gateway, "alice"), "CONFIRMED", "nothing happened");
    assert!(!gateway.log().contains(SECRET));

    let without = start("");
    let answer = Signer::now().ask(&without, "AdminGetUser", &of("alice")).send();
    assert_eq!(refused(&answer).0, "AccessDeniedException");
}

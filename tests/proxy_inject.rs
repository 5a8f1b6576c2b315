//! What a service adds to a request: secrets where their user consented, encoded as their place needs, and nothing of
//! the caller's beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use carta_gateway::config::{VaultConfig, VaultKey, parse_service};
use carta_gateway::identity::{Account, Claims, Identity, Proof};
use carta_gateway::policy::{ResourceId, UserId};
use carta_gateway::proxy::error::{Kind, Problem};
use carta_gateway::proxy::inject::{Buffers, Named, Program, kept_cookies};
use carta_gateway::proxy::template::Values;
use carta_gateway::proxy::{FirstConsent, FirstUse, Unnoted};
use carta_gateway::store::{Consent, Item, Secret};
use carta_gateway::upstream::Lines;
use carta_gateway::vault::{Context, ProcessKey, Secrets, Vault};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

const ALICE: UserId = UserId(Uuid::from_u128(1));
const BOB: UserId = UserId(Uuid::from_u128(2));
const SERVICE: ResourceId = ResourceId(Uuid::from_u128(3));
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const NAMED: Named<'static> = Named { service: "ns/svc", api: "http://api" };

fn identity(id: UserId) -> Identity {
    let account = Account {
        id,
        name: "Zoë".into(),
        email: Some("zoe@example.org".into()),
        email_verified: true,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".into(),
        groups: Arc::new(["Org:A,B".into(), "C".into()]),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: NOW,
    };
    let claims = json!({"text": "a b", "number": 7, "list": [1]}).as_object().unwrap().clone();
    let proof = Proof::Token { issuer: "i".into() };
    Identity { claims: Some(Arc::new(Claims(claims))), ..Identity::of(Arc::new(account), proof) }
}

/// Alice's secrets, and her consents to these fingerprints.
fn secrets(values: &[(&str, &str)], consents: &[(&str, &str)]) -> Secrets {
    let vault = Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap();
    let secret = |(name, value): &(&str, &str)| {
        let sealed = vault.seal(Context::Secret(ALICE, name), value.as_bytes()).unwrap();
        Item::Secret(Secret { user: ALICE, name: (*name).to_owned(), sealed, created: NOW, expires: None })
    };
    let consent = |(secret, fingerprint): &(&str, &str)| {
        Item::Consent(Consent {
            user: ALICE,
            secret: (*secret).to_owned(),
            service: SERVICE,
            fingerprint: (*fingerprint).to_owned(),
            origins: String::new(),
            at: NOW,
        })
    };
    let items: Vec<_> = values.iter().map(secret).chain(consents.iter().map(consent)).collect();
    Secrets::empty(Arc::new(ProcessKey::random().unwrap())).patched(&vault, &items).unwrap()
}

fn program(base: &str, inject: Value) -> Program {
    let service = parse_service("ns", "svc", &json!({"base_url": base, "inject": inject})).unwrap();
    Program::compile(SERVICE, &service).unwrap()
}

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(n, v)| (HeaderName::from_bytes(n.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap()))
        .collect()
}

/// Headers and query after the injection.
fn apply(
    program: &Program,
    secrets: &Secrets,
    lines: &[(&str, &str)],
    query: Option<&str>,
) -> Result<(HeaderMap, Option<String>), Problem> {
    let identity = identity(ALICE);
    let values = Values::of(&identity, secrets, NOW);
    let (headers, mut out) = (map(lines), Lines::default());
    let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
    let query = program.apply((&cookies, query), &values, &NAMED, &mut Buffers::default(), &mut out)?;
    Ok((out.to_map(), query.map(|query| String::from_utf8(query.bytes().to_vec()).unwrap())))
}

#[test]
fn a_secret_goes_into_the_header_marked_sensitive() {
    let program =
        program("https://up.example", json!({"headers": {"X-API-Key": "Token {secret:key}", "X-By": "{user.email}"}}));
    let (headers, query) = apply(&program, &secrets(&[("key", "s3cr3t")], &[]), &[], Some("a=1")).unwrap();
    assert_eq!(headers["x-api-key"], "Token s3cr3t");
    assert!(headers["x-api-key"].is_sensitive());
    assert_eq!(headers["x-by"], "zoe@example.org");
    assert_eq!(query, None, "an untouched query stays byte for byte");
    assert!(!format!("{program:?} {headers:?}").contains("s3cr3t"));
}

#[test]
fn values_are_encoded_as_their_place_needs() {
    let inject = json!({
        "headers": {"X-User": "{user}", "X-Groups": "{groups}", "X-Text": "{claim:text}", "X-Number": "{claim:number}"},
        "query": {"api key": "{secret:key}", "u": "{user}"},
        "cookies": {"who": "{user}"},
        "basic_auth": {"username": "{user.email}", "password": "{secret:key}"},
    });
    let program = program("https://up.example", inject);
    let (headers, query) =
        apply(&program, &secrets(&[("key", "a&b c%ü")], &[]), &[("cookie", "a=1")], Some("x=%20")).unwrap();
    assert_eq!(headers["x-user"], "Zo%C3%AB");
    assert_eq!(headers["x-groups"], "Org:A%2CB,C");
    assert_eq!(headers["x-text"], "a b");
    assert_eq!(headers["x-number"], "7");
    assert_eq!(query.unwrap(), "x=%20&api%20key=a%26b%20c%25%C3%BC&u=Zo%C3%AB");
    assert_eq!(headers["cookie"], "who=Zo%C3%AB; a=1");
    // base64 of `zoe@example.org:a&b c%ü`
    assert_eq!(headers["authorization"], "Basic em9lQGV4YW1wbGUub3JnOmEmYiBjJcO8");
}

#[test]
fn the_callers_parameters_and_cookies_of_the_same_names_are_gone_in_every_spelling() {
    let program = program(
        "https://up.example",
        json!({"query": {"key": "{secret:key}"}, "cookies": {"session": "{secret:key}"}}),
    );
    let lines = [("cookie", "a=1; session=evil"), ("cookie", "Session=evil; b=\"2, session=evil\"")];
    let query = "KEY=evil&a=%26&k%65y=evil;key[]=evil&b";
    let (headers, query) = apply(&program, &secrets(&[("key", "good")], &[]), &lines, Some(query)).unwrap();
    assert_eq!(query.unwrap(), "a=%26&b&key=good");
    assert_eq!(headers.get_all("cookie").iter().count(), 1);
    assert_eq!(headers["cookie"], "session=good; a=1; b=\"2");
}

#[test]
fn the_gateways_own_cookies_never_go_on() {
    let kept = |lines: &[&'static str]| {
        let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_static(line)).collect();
        kept_cookies(&lines.iter().collect::<Vec<_>>(), &[]).map(|kept| String::from_utf8(kept.into_owned()).unwrap())
    };
    assert_eq!(kept(&["__Host-carta-session=x; a=1", "__host-carta=y"]).as_deref(), Some("a=1"));
    assert_eq!(kept(&["a=1;b=2 ;"]).as_deref(), Some("a=1;b=2 ;"), "what is not touched stays as it is");
    assert_eq!((kept(&["__Host-carta-session=x"]), kept(&[""]), kept(&[])), (None, None, None));
}

#[test]
fn a_value_that_would_break_its_place_is_refused_and_never_shown() {
    for (inject, value) in [
        (json!({"headers": {"X-A": "{secret:key}"}}), "c4n4ry\r\nx: y"),
        (json!({"headers": {"X-A": "{secret:key}"}}), " c4n4ry"),
        (json!({"headers": {"X-A": "{secret:key}"}}), "c4n4ry\0"),
        (json!({"cookies": {"a": "{secret:key}"}}), "c4n4ry; b=c"),
        (json!({"cookies": {"a": "{secret:key}"}}), "c4n4rü"),
        (json!({"basic_auth": {"username": "{secret:key}", "password": "x"}}), "c4n4ry:x"),
    ] {
        let program = program("https://up.example", inject);
        let problem = apply(&program, &secrets(&[("key", value)], &[]), &[], None).unwrap_err();
        assert_eq!(problem.kind(), &Kind::UNUSABLE_VALUE, "{value:?}");
        assert!(!problem.detail().contains("c4n"), "{}", problem.detail());
    }
}

#[test]
fn a_missing_secret_is_named_with_the_line_to_paste() {
    let program = program("https://up.example", json!({"headers": {"X-A": "{secret:mp-api-key}"}}));
    let problem = apply(&program, &secrets(&[], &[]), &[], None).unwrap_err();
    assert_eq!(problem.kind(), &Kind::MISSING_SECRET);
    assert!(problem.detail().contains("-H 'secret-mp-api-key: VALUE' http://api/secret"), "{}", problem.detail());
}

#[test]
fn a_value_that_nobody_told_us_is_missed() {
    let program = program("https://up.example", json!({"headers": {"X-A": "{claim:list}"}}));
    let problem = apply(&program, &secrets(&[], &[]), &[], None).unwrap_err();
    assert_eq!(problem.kind(), &Kind::MISSING_VALUE);
}

#[test]
fn a_consent_is_for_one_secret_service_origin_and_template() {
    let uses = |id: u128, base: &str, inject: Value| {
        let service = parse_service("ns", "svc", &json!({"base_url": base, "inject": inject})).unwrap();
        Program::compile(ResourceId(Uuid::from_u128(id)), &service).unwrap().uses()[0].fingerprint.clone()
    };
    let one = uses(1, "https://a.example/v1", json!({"headers": {"X-A": "{secret:key}"}}));
    assert_eq!(
        one,
        uses(1, "https://a.example/v2", json!({"headers": {"X-A": "{secret:key}"}})),
        "the path is no part of the origin"
    );
    for other in [
        uses(2, "https://a.example/v1", json!({"headers": {"X-A": "{secret:key}"}})),
        uses(1, "http://a.example/v1", json!({"headers": {"X-A": "{secret:key}"}})),
        uses(1, "https://a.example:444/v1", json!({"headers": {"X-A": "{secret:key}"}})),
        uses(1, "https://b.example/v1", json!({"headers": {"X-A": "{secret:key}"}})),
        uses(1, "https://a.example/v1", json!({"headers": {"X-B": "{secret:key}"}})),
        uses(1, "https://a.example/v1", json!({"headers": {"X-A": "Bearer {secret:key}"}})),
        uses(1, "https://a.example/v1", json!({"query": {"X-A": "{secret:key}"}})),
    ] {
        assert_ne!(one, other);
    }
}

/// Notes what it is asked to.
#[derive(Default)]
struct Notes(Mutex<Vec<FirstConsent>>);

#[async_trait]
impl FirstUse for Notes {
    async fn consent(&self, consent: FirstConsent) -> Result<(), Unnoted> {
        self.0.lock().unwrap().push(consent);
        Ok(())
    }
}

/// Has room for no consent.
struct Full;

#[async_trait]
impl FirstUse for Full {
    async fn consent(&self, _: FirstConsent) -> Result<(), Unnoted> {
        Err(Unnoted::Full("there would be more than 7 consents of one user\ndelete a secret".to_owned()))
    }
}

#[tokio::test]
async fn who_has_no_room_for_one_more_consent_is_told_which_bound_and_what_to_delete() {
    let program = program("https://up.example", json!({"headers": {"X-A": "{secret:key}"}}));
    let (identity, secrets) = (identity(ALICE), secrets(&[("key", "x")], &[]));
    let values = Values::of(&identity, &secrets, NOW);
    let problem = program.consent(&values, (SERVICE, true), &NAMED, &Full).await.unwrap_err();
    assert_eq!(problem.kind(), &Kind::CONFLICT);
    assert!(problem.detail().contains("more than 7 consents") && problem.detail().contains("delete"), "{problem:?}");
}

async fn consent(program: &Program, secrets: &Secrets, user: UserId, trusted: bool) -> (Result<bool, Problem>, usize) {
    let identity = identity(user);
    let notes = Notes::default();
    let values = Values::of(&identity, secrets, NOW);
    let outcome = program.consent(&values, (SERVICE, trusted), &NAMED, &notes).await;
    (outcome, notes.0.into_inner().unwrap().len())
}

#[tokio::test]
async fn a_registered_service_gets_a_secret_only_after_consent() {
    let program = program("https://up.example", json!({"headers": {"X-A": "{secret:key}"}}));
    let (refused, noted) = consent(&program, &secrets(&[("key", "x")], &[]), ALICE, false).await;
    let problem = refused.unwrap_err();
    assert_eq!((problem.kind(), noted), (&Kind::SECRET_CONSENT, 0));
    assert!(problem.detail().contains("POST") && problem.detail().contains("/secret/key/consent?service=ns/svc"));
    let fingerprint = &program.uses()[0].fingerprint;
    assert!(consent(&program, &secrets(&[("key", "x")], &[("key", fingerprint)]), ALICE, false).await.0.unwrap());
    assert!(consent(&program, &secrets(&[("key", "x")], &[("key", "another")]), ALICE, false).await.0.is_err());
}

#[tokio::test]
async fn a_line_to_paste_never_runs_what_a_service_calls_its_secret() {
    let program = program("https://up.example", json!({"headers": {"X-Key": "{secret:a'`reboot`'&b#}"}}));
    let held = secrets(&[("a'`reboot`'&b#", "x")], &[]);
    let asked = consent(&program, &held, ALICE, false).await.0.unwrap_err();
    let line = "'http://api/secret/a%27%60reboot%60%27%26b%23/consent?service=ns/svc&shown=";
    assert!(asked.detail().contains(line), "{}", asked.detail());
    let missing = apply(&program, &secrets(&[], &[]), &[], None).unwrap_err();
    let line = r"-H 'secret-a'\''`reboot`'\''&b#: VALUE' http://api/secret";
    assert!(missing.detail().contains(line), "{}", missing.detail());
}

#[tokio::test]
async fn the_first_use_of_a_service_of_the_file_is_the_consent() {
    let program = program("https://up.example", json!({"headers": {"X-A": "{secret:key}"}}));
    let (outcome, noted) = consent(&program, &secrets(&[("key", "x")], &[]), ALICE, true).await;
    assert!(!outcome.unwrap(), "what was noted is to be looked at again");
    assert_eq!(noted, 1);
    let fingerprint = &program.uses()[0].fingerprint;
    assert_eq!(consent(&program, &secrets(&[("key", "x")], &[("key", fingerprint)]), ALICE, true).await.1, 0);
    let (_, noted) = consent(&program, &secrets(&[("key", "x")], &[]), BOB, true).await;
    assert_eq!(noted, 0, "who has no such secret consents to nothing");
}

//! Tokens of other issuers, whose keys come over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken test environment should stop the test on the spot"
)]

mod identity_support;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carta_gateway::config::{Auth, JwtIssuer};
use carta_gateway::identity::{AuthError, Authenticator, Pace, StartError};
use carta_gateway::policy::UserId;
use carta_gateway::store::{Item, Link};
use futures_util::future::join_all;
use identity_support::*;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

fn is_invalid<T>(outcome: &Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Invalid(_)))
}

fn is_unavailable<T>(outcome: &Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Unavailable(_)))
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

async fn stage() -> (Rsa, Provider, Door) {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    let door = Door::open(vec![provider.config()], None, Accounts::with(&[]));
    (key, provider, door)
}

#[tokio::test]
async fn a_token_is_good_by_discovery_and_by_the_keys_address() {
    let (key, provider, door) = stage().await;
    let alice = door.token(&key.sign(&provider.claims("alice"))).await.unwrap();
    assert_eq!((alice.account.name.as_str(), alice.account.role.as_ref()), ("alice", "Guest"));
    let jwks_url = Some(format!("{}/jwks", provider.issuer()).parse().unwrap());
    provider.discover(json!({}));
    let direct = Door::open(vec![JwtIssuer { jwks_url, ..provider.config() }], None, Accounts::with(&[]));
    assert!(direct.token(&key.sign(&provider.claims("alice"))).await.is_ok());
}

#[tokio::test]
async fn what_a_newer_token_says_of_its_user_is_noted() {
    let (key, provider, door) = stage().await;
    let first = door.token(&key.sign(&provider.claims("alice"))).await.unwrap();
    assert_eq!(first.account.email, None);
    let address = |claims, email: &str| with(with(claims, "email", json!(email)), "email_verified", json!(true));
    let married = with(address(provider.claims("alice"), "a.new@x.org"), "family_name", json!("New"));
    let then = door.token(&key.sign(&married)).await.unwrap();
    assert_eq!((then.account.id, then.account.email.as_deref()), (first.account.id, Some("a.new@x.org")));
    assert_eq!(then.account.last_name.as_deref(), Some("New"));
    assert!(then.account.email_verified);
    let before = Timestamp::now().as_second() - 600;
    let old = with(address(provider.claims("alice"), "a.old@x.org"), "iat", json!(before));
    let then = door.token(&key.sign(&old)).await.unwrap();
    assert_eq!(then.account.email.as_deref(), Some("a.new@x.org"), "an older token brings no news");
}

#[tokio::test]
async fn the_key_decides_the_algorithm_and_the_header_does_not() {
    let (key, provider, door) = stage().await;
    let claims = provider.claims("alice");
    assert!(door.token(&key.sign(&claims)).await.is_ok());
    let jwk = key.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for secret in [modulus, jwk["n"].as_str().unwrap().into(), jwk.to_string().into_bytes(), vec![]] {
        let message = message(&json!({ "alg": "HS256", "kid": "k1" }), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        assert!(is_invalid(&door.token(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))).await));
    }
    for algorithm in ["none", "None", "NONE", "", "RS384", "PS256", "ES256", "RS256 "] {
        let header = json!({ "alg": algorithm, "kid": "k1" });
        assert!(is_invalid(&door.token(&key.sign_with(&header, &claims)).await), "{algorithm}");
        assert!(is_invalid(&door.token(&format!("{}.", message(&header, &claims))).await), "{algorithm}");
    }
    let mut embedded = json!({ "alg": "RS256", "kid": "k1" });
    let mallory = Rsa::new("k1");
    embedded["jwk"] = mallory.jwk();
    embedded["jku"] = json!("https://evil.example/jwks");
    assert!(is_invalid(&door.token(&mallory.sign_with(&embedded, &claims)).await), "a key in the token is no key");
}

#[tokio::test]
async fn a_token_of_another_key_issuer_or_audience_is_refused() {
    let (key, provider, door) = stage().await;
    let claims = provider.claims("alice");
    let now = Timestamp::now().as_second();
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", provider.issuer()))),
        ("iss", json!([provider.issuer()])),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!(null)),
        ("exp", json!(now - 1)),
        ("exp", json!((now + 3600).to_string())),
        ("exp", json!(null)),
        ("nbf", json!(now + 3600)),
        ("nbf", json!("0")),
        ("iat", json!(now + 3600)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("token_use", json!("refresh")),
        ("token_use", json!("service")),
    ] {
        assert!(is_invalid(&door.token(&key.sign(&with(claims.clone(), name, value.clone()))).await), "{name} {value}");
    }
    assert!(is_invalid(&door.token(&Rsa::new("k1").sign(&claims)).await));
    assert!(door.accounts.made.lock().unwrap().is_empty(), "nobody was let in");
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it_and_a_withdrawn_one_takes_its_tokens_along() {
    let (old, provider, door) = stage().await;
    let old_token = old.sign(&provider.claims("alice"));
    assert!(door.token(&old_token).await.is_ok());
    let new = Rsa::new("k2");
    provider.publish(&[&old, &new]);
    assert!(door.token(&new.sign(&provider.claims("bob"))).await.is_ok());
    assert!(door.token(&old_token).await.is_ok(), "still published, still good");
    let third = Rsa::new("k3");
    provider.publish(&[&third]);
    assert!(door.token(&third.sign(&provider.claims("carol"))).await.is_ok());
    assert!(is_invalid(&door.token(&old_token).await), "cached, and its key is gone");
}

#[tokio::test]
async fn a_key_that_is_replaced_under_its_kid_is_another_key() {
    let (old, provider, door) = stage().await;
    let token = old.sign(&provider.claims("alice"));
    assert!(door.token(&token).await.is_ok());
    let (same, fresh) = (Rsa::new("k1"), Rsa::new("k2"));
    provider.publish(&[&same, &fresh]);
    assert!(door.token(&fresh.sign(&provider.claims("bob"))).await.is_ok());
    assert!(is_invalid(&door.token(&token).await));
}

#[tokio::test]
async fn a_key_that_its_issuer_withdrew_goes_with_the_next_refresh_though_nobody_names_another() {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    let soon = Duration::from_millis(20);
    let pace = Pace { shortest: soon, longest: soon, unsaid: soon, retry: soon };
    let door = Door::new(None, vec![provider.config()], None, Accounts::with(&[])).fetching(pace);
    let token = key.sign(&provider.claims("alice"));
    assert!(door.token(&token).await.is_ok());
    provider.publish_text("nonsense");
    provider.fetched_anew().await;
    assert!(door.token(&token).await.is_ok(), "what cannot be read takes nothing away");
    provider.publish(&[&Rsa::new("k2")]);
    provider.fetched_anew().await;
    assert!(is_invalid(&door.token(&token).await));
}

#[tokio::test]
async fn unknown_keys_cause_a_few_fetches_and_no_flood() {
    let (key, provider, door) = stage().await;
    assert!(door.token(&key.sign(&provider.claims("alice"))).await.is_ok());
    let mallory = Rsa::new("x");
    for n in 0..50 {
        let header = json!({ "alg": "RS256", "kid": format!("unknown-{n}") });
        assert!(is_invalid(&door.token(&mallory.sign_with(&header, &provider.claims("alice"))).await));
    }
    assert!(provider.hits() <= 5, "{}", provider.hits());
    let before = provider.hits();
    let expired = with(provider.claims("alice"), "exp", json!(1));
    let header = json!({ "alg": "RS256", "kid": "unknown" });
    assert!(is_invalid(&door.token(&mallory.sign_with(&header, &expired)).await));
    assert_eq!(provider.hits(), before, "an expired token is no reason to fetch");
}

#[tokio::test]
async fn those_who_wait_for_keys_share_one_fetch() {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    let held = provider.hold().await;
    let door = Door::open(vec![provider.config()], None, Accounts::with(&[]));
    let tokens: Vec<String> = (0..20).map(|n| key.sign(&provider.claims(&format!("user-{n}")))).collect();
    let asking = join_all(tokens.iter().map(|token| door.token(token)));
    let (outcomes, ()) = tokio::join!(asking, async {
        tokio::task::yield_now().await;
        drop(held);
    });
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(provider.hits() <= 2, "{}", provider.hits());
}

#[tokio::test]
async fn without_keys_nobody_is_identified_and_nothing_takes_their_place() {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    provider.fail(500);
    let door = Door::open(vec![provider.config()], Some(header_rules()), Accounts::with(&[]));
    let token = key.sign(&provider.claims("alice"));
    assert!(is_unavailable(&door.token(&token).await));
    let bearer = format!("Bearer {token}");
    let both = [("authorization", bearer.as_str()), (HEADER, "alice@example.org")];
    assert!(is_unavailable(&door.ask(&both, PROXY, Timestamp::now()).await), "the header does not step in");
    provider.fail(200);
    assert!(door.token(&token).await.is_ok(), "and it heals");
}

#[tokio::test]
async fn keys_outlive_an_outage_for_a_day() {
    let (key, provider, door) = stage().await;
    let now = Timestamp::now();
    let claims = with(provider.claims("alice"), "exp", json!(now.as_second() + 10 * 86400));
    let (cached, fresh) = (key.sign(&claims), key.sign(&with(claims, "x", json!(1))));
    assert!(door.token_at(&cached, now).await.is_ok());
    provider.fail(503);
    let within = now + SignedDuration::from_hours(23);
    assert!(door.token_at(&cached, within).await.is_ok() && door.token_at(&fresh, within).await.is_ok());
    let beyond = now + SignedDuration::from_hours(25);
    assert!(is_unavailable(&door.token_at(&cached, beyond).await));
    assert!(is_unavailable(&door.token_at(&fresh, beyond).await));
}

#[tokio::test]
async fn what_a_provider_sends_is_bounded_and_believed_only_about_itself() {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    let token = key.sign(&provider.claims("alice"));
    let refused = async |set: &dyn Fn(&Provider)| {
        let provider = Provider::start(&[&key]).await;
        set(&provider);
        let claims = provider.claims("alice");
        let door = Door::open(vec![provider.config()], None, Accounts::with(&[]));
        is_unavailable(&door.token(&key.sign(&claims)).await)
    };
    let jwk = key.jwk();
    let padding = "x".repeat(2 * 1024 * 1024);
    assert!(refused(&|p| p.publish_text(&json!({ "keys": [jwk], "x": padding }).to_string())).await);
    assert!(refused(&|p| p.publish_text(&json!({ "keys": vec![&jwk; 101] }).to_string())).await);
    assert!(refused(&|p| p.publish_text("{\"keys\":")).await);
    assert!(refused(&|p| p.publish_text(r#"{"keys":[]}"#)).await);
    assert!(refused(&|p| p.fail(302)).await, "redirects are not followed");
    assert!(refused(&|p| p.fail(404)).await);
    assert!(
        refused(&|p| p.discover(json!({ "issuer": "https://other", "jwks_uri": format!("{}/jwks", p.issuer()) })))
            .await
    );
    assert!(refused(&|p| p.discover(json!({ "issuer": p.issuer(), "jwks_uri": "file:///etc/passwd" }))).await);
    let door = Door::open(vec![provider.config()], None, Accounts::with(&[]));
    assert!(door.token(&token).await.is_ok(), "the same without any of it");
}

#[tokio::test]
async fn weak_keys_of_a_provider_verify_nothing() {
    let (key, provider, door) = stage().await;
    assert!(door.token(&key.sign(&provider.claims("alice"))).await.is_ok());
    let secret = b"0123456789abcdef0123456789abcdef";
    let oct = json!({ "kty": "oct", "kid": "h", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret) });
    let mut encrypting = Rsa::new("e");
    let mut enc = encrypting.jwk();
    enc["use"] = json!("enc");
    provider.publish_text(&json!({ "keys": [oct, enc, key.jwk()] }).to_string());
    let message = message(&json!({ "alg": "HS256", "kid": "h" }), &provider.claims("alice"));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    assert!(is_invalid(&door.token(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))).await));
    encrypting.kid = "e".into();
    assert!(is_invalid(&door.token(&encrypting.sign(&provider.claims("alice"))).await));
}

#[tokio::test]
async fn keys_come_over_tls_that_is_verified() {
    let key = Rsa::new("k1");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let private = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], private)
        .unwrap();
    let provider = Provider::start_with(&[&key], Some(TlsAcceptor::from(Arc::new(config)))).await;
    let token = key.sign(&provider.claims("alice"));
    let trusting = JwtIssuer { ca: Some(made.cert.pem().into_bytes()), ..provider.config() };
    let door = Door::open(vec![trusting], None, Accounts::with(&[]));
    assert!(door.token(&token).await.is_ok());
    let doubting = Door::open(vec![provider.config()], None, Accounts::with(&[]));
    assert!(is_unavailable(&doubting.token(&token).await), "a certificate that nobody vouches for");
}

#[test]
fn a_configuration_that_would_let_anybody_in_does_not_start() {
    let base = JwtIssuer {
        issuer: "https://idp".into(),
        audience: vec!["c".into()],
        jwks_url: None,
        ca: None,
        user_claim: "sub".into(),
        email_claim: "email".into(),
        groups_claim: "groups".into(),
        create_users: true,
        new_user_role: "Guest".into(),
    };
    let start = |jwt: Vec<JwtIssuer>| {
        Authenticator::new(&Auth { local: local(), jwt, header: None }, None, Accounts::with(&[])).map(|_| ())
    };
    let no_audience = || Err(StartError::NoAudience("https://idp".into()));
    assert_eq!(start(vec![JwtIssuer { audience: vec![], ..base.clone() }]), no_audience());
    assert_eq!(start(vec![JwtIssuer { audience: vec!["c".into(), String::new()], ..base.clone() }]), no_audience());
    assert!(matches!(start(vec![base.clone(), base.clone()]), Err(StartError::IssuerTwice(_))));
    let header =
        JwtIssuer { issuer: "header".into(), jwks_url: Some("https://idp/jwks".parse().unwrap()), ..base.clone() };
    assert!(matches!(start(vec![header]), Err(StartError::IssuerTwice(_))));
    let ca = JwtIssuer { ca: Some(b"garbage".to_vec()), ..base.clone() };
    assert!(matches!(start(vec![ca]), Err(StartError::Roots { .. })));
    for issuer in ["not a url", "ftp://idp", "https://user:pass@idp"] {
        let odd = JwtIssuer { issuer: issuer.into(), ..base.clone() };
        assert!(matches!(start(vec![odd]), Err(StartError::Address { .. })), "{issuer}");
    }
    assert_eq!(start(vec![base]), Ok(()));
}

#[tokio::test]
async fn a_name_that_another_issuer_owns_is_a_conflict_until_the_two_are_linked() {
    let (first_key, second_key) = (Rsa::new("a"), Rsa::new("b"));
    let (first, second) = (Provider::start(&[&first_key]).await, Provider::start(&[&second_key]).await);
    let door = Door::open(vec![first.config(), second.config()], None, Accounts::with(&[]));
    let alice = door.token(&first_key.sign(&first.claims("alice"))).await.unwrap();
    let claim = second_key.sign(&second.claims("alice"));
    assert_eq!(door.token(&claim).await.unwrap_err(), AuthError::IdentityConflict("alice".into()));
    let same_subject = with(second.claims("carol"), "sub", json!("sub-alice"));
    let carol = door.token(&second_key.sign(&same_subject)).await.unwrap();
    assert_ne!(carol.account.id, alice.account.id, "a subject is the issuer's own");
    let link = Link { issuer: second.issuer(), subject: "sub-alice-2".into(), user: alice.account.id };
    door.accounts.patch(Item::Link(link));
    let linked = with(second.claims("alice"), "sub", json!("sub-alice-2"));
    assert_eq!(door.token(&second_key.sign(&linked)).await.unwrap().account.id, alice.account.id);
}

#[tokio::test]
async fn a_link_that_moves_takes_the_cached_token_along() {
    let (key, provider, door) = stage().await;
    let token = key.sign(&provider.claims("alice"));
    let alice = door.token(&token).await.unwrap();
    let holds = |door: &Door| door.authenticator.still_holds(&alice, &door.accounts.directory.load(), Timestamp::now());
    door.accounts.patch(Item::User(Box::new(user(5, "bob")), vec![]));
    assert!(holds(&door));
    let bob = UserId(Uuid::from_u128(5));
    door.accounts.patch(Item::Link(Link { issuer: provider.issuer(), subject: "sub-alice".into(), user: bob }));
    assert!(!holds(&door), "open streams end");
    let now = door.token(&token).await.unwrap();
    assert_ne!(now.account.id, alice.account.id);
    assert_eq!(now.account.id, bob);
}

#[tokio::test]
async fn changed_claims_come_with_their_own_token() {
    let (key, provider, door) = stage().await;
    let claims = |team: &str| with(with(provider.claims("alice"), "team", json!(team)), "groups", json!([team]));
    let (one, two) = (key.sign(&claims("one")), key.sign(&claims("two")));
    for _ in 0..2 {
        for (token, team) in [(&one, "one"), (&two, "two")] {
            let identity = door.token(token).await.unwrap();
            assert_eq!(identity.claims.as_ref().unwrap().0["team"], team);
            assert!(identity.account.groups.is_empty(), "and join no local group");
        }
    }
}

#[tokio::test]
async fn one_newcomer_in_many_requests_is_one_account() {
    let (key, provider, door) = stage().await;
    let token = key.sign(&provider.claims("alice"));
    let outcomes = join_all((0..20).map(|_| door.token(&token))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(door.accounts.made(), 1);
    assert_eq!(door.accounts.made.lock().unwrap()[0].first_role, None, "the first role is the header's");
}

#[tokio::test]
async fn who_is_not_invited_is_told_so() {
    let key = Rsa::new("k1");
    let provider = Provider::start(&[&key]).await;
    let config = JwtIssuer { create_users: false, ..provider.config() };
    let door = Door::open(vec![config], None, Accounts::with(&[]));
    assert_eq!(door.token(&key.sign(&provider.claims("alice"))).await.unwrap_err(), AuthError::NotInvited);
}

#[tokio::test]
async fn cognitos_access_tokens_go_by_client_id_and_username() {
    let (key, provider, door) = stage().await;
    let mut claims = provider.claims("x");
    let object = claims.as_object_mut().unwrap();
    object.remove("aud");
    object.remove("preferred_username");
    object.insert("client_id".into(), json!(CLIENT));
    object.insert("username".into(), json!("alice"));
    object.insert("token_use".into(), json!("access"));
    assert_eq!(door.token(&key.sign(&claims)).await.unwrap().account.name.as_str(), "alice");
    assert!(is_invalid(&door.token(&key.sign(&with(claims.clone(), "client_id", json!("other")))).await));
    claims.as_object_mut().unwrap().remove("token_use");
    assert!(is_invalid(&door.token(&key.sign(&claims)).await));
}

#[tokio::test]
async fn fetchers_end_with_the_gateway() {
    let (_key, _provider, mut door) = stage().await;
    let tasks = std::mem::take(&mut door.tasks);
    drop(door);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(10), tasks.wait()).await.unwrap();
}

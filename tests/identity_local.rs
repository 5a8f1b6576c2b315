//! The built-in issuer and the token cache, through the door that requests take.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken test environment should stop the test on the spot"
)]

mod identity_support;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carta_gateway::identity::{AuthError, Issuer, Proof, TokenCache};
use carta_gateway::policy::GroupId;
use carta_gateway::store::{Group, Item, Key, User};
use futures_util::FutureExt;
use identity_support::*;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use uuid::Uuid;

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn is_invalid<T>(outcome: &Result<T, AuthError>) -> bool {
    matches!(outcome, Err(AuthError::Invalid(_)))
}

struct Stage {
    keys: Keys,
    issuer: Issuer,
    door: Door,
}

impl Stage {
    async fn new() -> Self {
        let keys = Keys::default();
        let issuer = issuer(&keys).await;
        let mut alice = user(1, "alice");
        alice.email = Some("alice@example.org".into());
        alice.first_name = Some("Alice".into());
        let door = Door::new(Some(&issuer), vec![], None, Accounts::with(&[alice, user(2, "bob")]));
        Self { keys, issuer, door }
    }

    fn mint(&self, name: &str, now: Timestamp) -> String {
        let directory = self.door.accounts.directory.load();
        self.issuer.mint(directory.by_name(name).unwrap(), None, now).unwrap().token
    }
}

#[tokio::test]
async fn a_token_of_the_built_in_issuer_has_cognitos_claims_and_names_its_user() {
    let stage = Stage::new().await;
    let group = Group { id: GroupId(Uuid::from_u128(9)), name: "Lab:Staff".into(), owner: None };
    stage.door.accounts.patch(Item::Group(group.clone()));
    stage.door.accounts.patch(Item::User(Box::new(user(2, "bob")), vec![group.id]));
    let now = Timestamp::now();
    let alice = stage.mint("alice", now);
    let issued = now.as_second();
    assert_eq!(
        claims(&alice),
        json!({
            "sub": Uuid::from_u128(1).to_string(), "cognito:username": "alice", "email": "alice@example.org",
            "given_name": "Alice", "iss": "http://127.0.0.1:8081", "aud": CLIENT, "token_use": "id", "iat": issued,
            "exp": issued + 8 * 3600,
        })
    );
    assert_eq!(claims(&stage.mint("bob", now))["cognito:groups"], json!(["Lab:Staff"]));
    let identity = stage.door.token(&alice).await.unwrap();
    assert_eq!(identity.account.name.as_str(), "alice");
    assert_eq!(identity.proof, Proof::Token { issuer: "http://127.0.0.1:8081".into() });
    assert_eq!(identity.expires.unwrap().as_second(), issued + 8 * 3600);
    assert!(identity.audience.is_none());
    assert_eq!(identity.claims.as_ref().unwrap().0["email"], "alice@example.org");
}

#[tokio::test]
async fn a_known_token_is_ready_on_the_first_poll() {
    let stage = Stage::new().await;
    let token = stage.mint("alice", Timestamp::now());
    stage.door.token(&token).await.unwrap();
    assert_eq!(stage.door.cache.len(), 1);
    let again = stage.door.token(&token).now_or_never().unwrap().unwrap();
    assert_eq!(again.account.name.as_str(), "alice");
}

#[tokio::test]
async fn no_part_of_a_token_stands_for_the_whole() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let (alice, bob) = (stage.mint("alice", now), stage.mint("bob", now));
    stage.door.token(&alice).await.unwrap();
    stage.door.token(&bob).await.unwrap();
    let signature = |token: &str| token.rsplit_once('.').unwrap().1.to_owned();
    let message = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
    for forged in [
        format!("{}.{}", message(&alice), signature(&bob)),
        format!("{}.{}", message(&alice), ""),
        message(&alice),
        alice[..alice.len() - 1].to_owned(),
        format!("{alice}A"),
        format!("{alice}="),
        alice.to_lowercase(),
        alice[..60].to_owned(),
    ] {
        assert!(is_invalid(&stage.door.token(&forged).await), "{forged}");
    }
    // The last digit of a signature has bits that say nothing.
    for at in 0..bob.len() - 1 {
        let other = if bob.as_bytes()[at] == b'A' { "B" } else { "A" };
        let forged = [&bob[..at], other, &bob[at + 1..]].concat();
        assert!(is_invalid(&stage.door.token(&forged).await), "{at}: {forged}");
    }
    assert_eq!(stage.door.token(&bob).await.unwrap().account.name.as_str(), "bob");
}

#[tokio::test]
async fn a_cached_token_is_never_good_past_its_end() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let token = stage.mint("alice", now);
    let end = stage.door.token_at(&token, now).await.unwrap().expires.unwrap();
    assert!(stage.door.token_at(&token, end - 1.second()).await.is_ok());
    assert!(is_invalid(&stage.door.token_at(&token, end).await));
    assert!(stage.door.cache.is_empty(), "it is not kept either");
}

#[tokio::test]
async fn a_disabled_user_is_refused_on_the_next_request() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let token = stage.mint("alice", now);
    let identity = stage.door.token(&token).await.unwrap();
    let holds = || stage.door.authenticator.still_holds(&identity, &stage.door.accounts.directory.load(), now);
    assert!(holds());
    let mut alice = user(1, "alice");
    alice.disabled = true;
    stage.door.accounts.patch(Item::User(Box::new(alice.clone()), vec![]));
    assert_eq!(stage.door.token(&token).await.unwrap_err(), AuthError::Invalid("the account is disabled"));
    assert!(!holds(), "open streams end too");
    alice.disabled = false;
    alice.tokens_dead_until = Some(now);
    stage.door.accounts.patch(Item::User(Box::new(alice), vec![]));
    assert!(is_invalid(&stage.door.token(&token).await), "what died stays dead");
    assert!(!holds());
    let fresh = stage.mint("alice", now);
    assert!(stage.door.token(&fresh).await.is_ok(), "one made in the same second, but later, is good");
}

#[tokio::test]
async fn a_user_who_is_gone_has_no_token_even_if_the_name_returns() {
    let stage = Stage::new().await;
    let token = stage.mint("alice", Timestamp::now());
    stage.door.token(&token).await.unwrap();
    let gone = user(1, "alice");
    stage.door.accounts.patch(Item::Gone(Key::User(gone.id)));
    stage.door.accounts.patch(Item::User(Box::new(user(7, "alice")), vec![]));
    assert!(is_invalid(&stage.door.token(&token).await));
}

#[tokio::test]
async fn changes_of_the_account_show_through_a_cached_token() {
    let stage = Stage::new().await;
    let token = stage.mint("alice", Timestamp::now());
    assert_eq!(stage.door.token(&token).await.unwrap().account.role.as_ref(), "User");
    let mut alice = user(1, "alice");
    alice.role = "Analyst".into();
    stage.door.accounts.patch(Item::User(Box::new(alice), vec![]));
    assert_eq!(stage.door.token(&token).await.unwrap().account.role.as_ref(), "Analyst");
}

#[tokio::test]
async fn rotation_lets_old_tokens_live_out_their_time_and_no_longer() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let old = stage.mint("alice", now);
    stage.issuer.rotate(&stage.keys, &vault(), actor(), now).await.unwrap();
    let new = stage.mint("alice", now);
    let kid = |token: &str| {
        let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&head).unwrap()["kid"].clone()
    };
    assert_ne!(kid(&old), kid(&new));
    assert_eq!(stage.issuer.jwks(now)["keys"].as_array().unwrap().len(), 2);
    assert!(stage.door.token(&old).await.is_ok() && stage.door.token(&new).await.is_ok());
    let later = now + SignedDuration::from_hours(9);
    assert_eq!(stage.issuer.jwks(later)["keys"].as_array().unwrap().len(), 1);
    // Another process learns the same from the store.
    let other = Issuer::new(&local(), &"http://127.0.0.1:8081/".parse().unwrap());
    other.load(&vault(), &stage.keys.items());
    assert_eq!(other.jwks(now)["keys"].as_array().unwrap().len(), 2);
    let door = Door::new(Some(&other), vec![], None, stage.door.accounts.clone());
    assert!(door.token(&old).await.is_ok() && door.token(&new).await.is_ok());
}

#[tokio::test]
async fn a_withdrawn_key_takes_its_cached_tokens_along() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let token = stage.mint("alice", now);
    stage.door.token(&token).await.unwrap();
    let kid = stage.keys.0.lock().unwrap()[0].kid.clone();
    stage.issuer.rotate(&stage.keys, &vault(), actor(), now).await.unwrap();
    assert!(stage.door.token(&token).await.is_ok());
    stage.issuer.apply(&vault(), &[Item::Gone(Key::SigningKey(kid))]);
    assert!(is_invalid(&stage.door.token(&token).await));
}

#[tokio::test]
async fn a_signing_key_that_does_not_open_fails_closed() {
    let stage = Stage::new().await;
    let token = stage.mint("alice", Timestamp::now());
    let other = carta_gateway::vault::Vault::new(&carta_gateway::config::VaultConfig {
        key: carta_gateway::config::VaultKey([8; 32]),
        previous: vec![],
    })
    .unwrap();
    let blind = Issuer::new(&local(), &"http://127.0.0.1:8081/".parse().unwrap());
    blind.load(&other, &stage.keys.items());
    assert_eq!(blind.jwks(Timestamp::now()), json!({ "keys": [] }));
    let door = Door::new(Some(&blind), vec![], None, stage.door.accounts.clone());
    assert!(matches!(door.token(&token).await, Err(AuthError::Unavailable(_))));
    let directory = stage.door.accounts.directory.load();
    assert!(blind.mint(directory.by_name("alice").unwrap(), None, Timestamp::now()).is_err());
}

#[tokio::test]
async fn a_token_minted_for_a_service_says_so_and_ends_within_five_minutes() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let directory = stage.door.accounts.directory.load_full();
    let alice = directory.by_name("alice").unwrap();
    let minted = stage.issuer.mint_for_service(alice, None, "lab", "mp", None, now).unwrap();
    assert_eq!(minted.expires.as_second(), now.as_second() + 300);
    assert_eq!(claims(&minted.token)["token_use"], "service");
    let identity = stage.door.token(&minted.token).await.unwrap();
    assert_eq!(identity.audience.as_deref(), Some("lab/mp"));
    let again = stage.door.token(&minted.token).await.unwrap();
    assert_eq!(again.audience.as_deref(), Some("lab/mp"), "cached or not");
    let soon = now + 20.seconds();
    let narrower = stage.issuer.mint_for_service(alice, None, "lab", "mp", Some(soon), now).unwrap();
    assert_eq!(narrower.expires.as_second(), soon.as_second(), "never beyond what the caller proved");
}

#[tokio::test]
async fn a_client_named_like_a_service_does_not_mix_the_two() {
    let keys = Keys::default();
    let config = carta_gateway::config::Local { client_id: "service:lab/mp".into(), ..local() };
    let issuer = Issuer::new(&config, &"http://127.0.0.1:8081/".parse().unwrap());
    issuer.ensure_key(&keys, &vault(), actor(), Timestamp::now()).await.unwrap();
    let door = Door::new(Some(&issuer), vec![], None, Accounts::with(&[user(1, "alice")]));
    let directory = door.accounts.directory.load_full();
    let alice = directory.by_name("alice").unwrap();
    let minted = issuer.mint_for_service(alice, None, "lab", "mp", None, Timestamp::now()).unwrap();
    assert_eq!(door.token(&minted.token).await.unwrap().audience.as_deref(), Some("lab/mp"));
}

#[tokio::test]
async fn a_token_may_be_asked_for_another_time_to_live() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let directory = stage.door.accounts.directory.load();
    let alice = directory.by_name("alice").unwrap();
    let minted = stage.issuer.mint(alice, Some(Duration::from_secs(60)), now).unwrap();
    assert_eq!(minted.expires.as_second(), now.as_second() + 60);
}

#[tokio::test]
async fn the_first_key_is_made_once_and_never_in_the_clear() {
    let stage = Stage::new().await;
    stage.issuer.ensure_key(&stage.keys, &vault(), actor(), Timestamp::now()).await.unwrap();
    let keys = stage.keys.0.lock().unwrap();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].public.get("d").is_none() && keys[0].public["n"].as_str().unwrap().len() >= 342);
    let discovery = stage.issuer.discovery();
    assert_eq!(discovery["issuer"], "http://127.0.0.1:8081");
    assert_eq!(discovery["jwks_uri"], "http://127.0.0.1:8081/.well-known/jwks.json");
    assert!(stage.issuer.jwks(Timestamp::now()).to_string().find("\"d\"").is_none());
}

#[tokio::test]
async fn the_cache_is_bounded_by_count_and_by_bytes() {
    let mut stage = Stage::new().await;
    let now = Timestamp::now();
    let directory = stage.door.accounts.directory.load_full();
    let alice = directory.by_name("alice").unwrap().clone();
    for (tokens, bytes, most) in [(4, 1 << 20, 4), (1000, 16 * 1024, 12)] {
        stage.door.cache = TokenCache::new(tokens, bytes);
        for second in 1..40 {
            let token = stage.issuer.mint(&alice, Some(Duration::from_secs(1000 + second)), now).unwrap().token;
            stage.door.token(&token).await.unwrap();
            assert!(stage.door.cache.len() <= most, "{}", stage.door.cache.len());
        }
        assert!(!stage.door.cache.is_empty());
    }
}

#[tokio::test]
async fn the_cache_takes_no_more_memory_than_its_bound_says() {
    const MOST: usize = 256 * 1024;
    let mut stage = Stage::new().await;
    let now = Timestamp::now();
    let mint = |second| {
        let alice = stage.door.accounts.directory.load().by_name("alice").unwrap().clone();
        stage.issuer.mint(&alice, Some(Duration::from_secs(1000 + second)), now).unwrap().token
    };
    let tokens: Vec<String> = (0_u64..200).map(mint).collect();
    stage.door.cache = TokenCache::new(10_000, MOST);
    let taken = allocation_counter::measure(|| {
        for (number, token) in (0_u32..).zip(&tokens) {
            // Each is left with an account of its own, as it was then.
            let organization = Some(format!("Organization {number}"));
            let alice = User { organization, email: Some("alice@example.org".into()), ..user(1, "alice") };
            stage.door.accounts.patch(Item::User(Box::new(alice), vec![]));
            stage.door.token_at(token, now).now_or_never().unwrap().unwrap();
        }
    });
    assert!((20..tokens.len()).contains(&stage.door.cache.len()), "{}", stage.door.cache.len());
    assert!(taken.bytes_current <= MOST as i64, "{} bytes by {}", taken.bytes_current, stage.door.cache.len());
}

#[tokio::test]
async fn a_cache_that_outlives_a_configuration_does_not_outvote_the_next() {
    let stage = Stage::new().await;
    let token = stage.mint("alice", Timestamp::now());
    stage.door.token(&token).await.unwrap();
    let mut next = Door::new(None, vec![], None, stage.door.accounts.clone());
    let mut first = stage.door;
    std::mem::swap(&mut first.cache, &mut next.cache);
    assert!(is_invalid(&next.token(&token).await), "the built-in issuer is off now");
}

#[tokio::test]
async fn nothing_that_is_shown_holds_the_token() {
    let stage = Stage::new().await;
    let now = Timestamp::now();
    let directory = stage.door.accounts.directory.load_full();
    let minted = stage.issuer.mint(directory.by_name("alice").unwrap(), None, now).unwrap();
    let canary = minted.token.rsplit_once('.').unwrap().1;
    let identity = stage.door.token(&minted.token).await.unwrap();
    let forged = format!("{}x.{canary}", minted.token.rsplit_once('.').unwrap().0);
    let refused = stage.door.token(&forged).await.unwrap_err();
    let cookie = stage.door.ask(&[("authorization", &format!("Token {canary}"))], PROXY, now).await.unwrap_err();
    for shown in [
        format!("{identity:?}"),
        format!("{minted:?}"),
        format!("{:?}", stage.door.cache),
        format!("{:?}", stage.door.authenticator),
        format!("{:?}", stage.issuer),
        format!("{refused:?} {refused}"),
        format!("{cookie:?} {cookie}"),
    ] {
        assert!(!shown.contains(canary), "{shown}");
    }
    assert!(!format!("{:?}", identity.claims).contains("alice@example.org"));
}

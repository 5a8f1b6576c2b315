//! The trusted header, alone and together with a token.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken test environment should stop the test on the spot"
)]

mod identity_support;

use carta_gateway::config::TrustedHeader;
use carta_gateway::identity::{AuthError, Proof};
use carta_gateway::policy::UserId;
use carta_gateway::store::{HEADER_ISSUER, Item, Key, Link};
use futures_util::FutureExt;
use identity_support::*;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

fn door(rules: TrustedHeader, accounts: &[carta_gateway::store::User]) -> Door {
    Door::open(vec![], Some(rules), Accounts::with(accounts))
}

async fn header(
    door: &Door,
    email: &str,
    peer: &str,
) -> Result<std::sync::Arc<carta_gateway::identity::Identity>, AuthError> {
    door.ask(&[(HEADER, email)], peer, Timestamp::now()).await
}

#[tokio::test]
async fn the_header_names_its_account_in_any_case_and_makes_it_once() {
    let door = door(header_rules(), &[]);
    let ann = header(&door, "Ann@Example.org", PROXY).await.unwrap();
    assert_eq!(
        (ann.account.name.as_str(), &ann.proof),
        ("ann@example.org", &Proof::Header { email: "ann@example.org".into() })
    );
    let again = door.ask(&[(HEADER, "ann@EXAMPLE.org")], PROXY, Timestamp::now()).now_or_never().unwrap().unwrap();
    assert_eq!(again.account.id, ann.account.id);
    let made = door.accounts.made.lock().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].role.as_str(), made[0].first_role.as_deref()), ("Guest", Some("Admin")));
}

#[tokio::test]
async fn what_the_header_proved_holds_no_longer_when_its_link_goes_or_moves() {
    for change in [
        Item::Gone(Key::Link(HEADER_ISSUER.into(), "ann@x.org".into())),
        Item::Link(Link { issuer: HEADER_ISSUER.into(), subject: "ann@x.org".into(), user: user(5, "bob").id }),
    ] {
        let door = door(header_rules(), &[user(5, "bob")]);
        let ann = header(&door, "ann@x.org", PROXY).await.unwrap();
        let holds = || door.authenticator.still_holds(&ann, &door.accounts.directory.load(), Timestamp::now());
        assert!(holds());
        door.accounts.patch(change);
        assert!(!holds());
    }
}

#[tokio::test]
async fn the_header_counts_from_listed_peers_only_and_an_empty_list_lists_nobody() {
    let door_with_list = door(header_rules(), &[]);
    assert_eq!(header(&door_with_list, "ann@x.org", "127.0.0.1").await.unwrap_err(), AuthError::Missing);
    let nobody = door(TrustedHeader { trusted_proxies: vec![], ..header_rules() }, &[]);
    for peer in [PROXY, "127.0.0.1", "::1"] {
        assert_eq!(header(&nobody, "ann@x.org", peer).await.unwrap_err(), AuthError::Missing);
    }
    assert_eq!(door_with_list.accounts.made() + nobody.accounts.made(), 0);
}

#[tokio::test]
async fn aliases_duplicates_and_joined_addresses_name_nobody() {
    let door = door(header_rules(), &[]);
    let now = Timestamp::now();
    for alias in ["x_forwarded_email", "x.forwarded.email", "x-forwarded_email", "x-forwarded-user"] {
        assert_eq!(door.ask(&[(alias, "ann@x.org")], PROXY, now).await.unwrap_err(), AuthError::Missing);
    }
    for lines in [
        &[(HEADER, "ann@x.org"), (HEADER, "bob@x.org")][..],
        &[(HEADER, "ann@x.org"), (HEADER, "ann@x.org")],
        &[(HEADER, "ann@x.org,bob@x.org")],
        &[(HEADER, "ann@evil.org@x.org")],
        &[(HEADER, "not an email")],
        &[(HEADER, " ")],
    ] {
        assert!(matches!(door.ask(lines, PROXY, now).await, Err(AuthError::Malformed(_))), "{lines:?}");
    }
    assert_eq!(door.accounts.made(), 0);
}

#[tokio::test]
async fn no_user_agent_and_no_other_header_exempts_anybody() {
    let door = door(TrustedHeader { required: true, ..header_rules() }, &[]);
    for lines in [&[("user-agent", "kube-probe/1.30")][..], &[("x-forwarded-user", "root")], &[("cookie", "a=b")]] {
        let refused = door.ask(lines, PROXY, Timestamp::now()).await.unwrap_err();
        assert_eq!(refused, AuthError::HeaderRequired(HEADER.into()));
    }
}

#[tokio::test]
async fn only_the_invited_come_in_where_accounts_are_not_made() {
    let mut ann = user(1, "ann");
    ann.email = Some("ann@x.org".into());
    let door = door(TrustedHeader { create_users: false, ..header_rules() }, &[ann, user(2, "bob@x.org")]);
    assert_eq!(header(&door, "Ann@x.org", PROXY).await.unwrap().account.name.as_str(), "ann");
    assert_eq!(header(&door, "bob@x.org", PROXY).await.unwrap().account.name.as_str(), "bob@x.org");
    assert_eq!(header(&door, "eve@x.org", PROXY).await.unwrap_err(), AuthError::NotInvited);
    assert!(door.accounts.directory.load().by_link(HEADER_ISSUER, "ann@x.org").is_some());
}

#[tokio::test]
async fn a_disabled_account_is_refused_by_the_header_too() {
    let mut ann = user(1, "ann@x.org");
    ann.disabled = true;
    let door = door(header_rules(), &[ann]);
    assert_eq!(header(&door, "ann@x.org", PROXY).await.unwrap_err(), AuthError::Invalid("the account is disabled"));
}

struct Both {
    key: Rsa,
    provider: Provider,
    door: Door,
}

impl Both {
    async fn new() -> Self {
        let key = Rsa::new("k1");
        let provider = Provider::start(&[&key]).await;
        let door = Door::open(vec![provider.config()], Some(header_rules()), Accounts::with(&[]));
        Self { key, provider, door }
    }

    fn token(&self, user: &str, email: Value) -> String {
        let mut claims = self.provider.claims(user);
        claims["email"] = email;
        claims["email_verified"] = json!(true);
        format!("Bearer {}", self.key.sign(&claims))
    }

    async fn ask(
        &self,
        bearer: &str,
        email: &str,
    ) -> Result<std::sync::Arc<carta_gateway::identity::Identity>, AuthError> {
        self.door.ask(&[("authorization", bearer), (HEADER, email)], PROXY, Timestamp::now()).await
    }
}

#[tokio::test]
async fn header_and_token_must_name_one_user_and_the_narrower_governs() {
    let both = Both::new().await;
    let bearer = both.token("ann", json!("Ann@x.org"));
    for _ in 0..2 {
        let ann = both.ask(&bearer, "ann@x.org").await.unwrap();
        assert!(matches!(ann.proof, Proof::Token { .. }) && ann.expires.is_some(), "it ends with the token");
    }
    assert_eq!(both.door.accounts.made(), 1, "one person, one account");
    header(&both.door, "bob@x.org", PROXY).await.unwrap();
    for other in ["bob@x.org", "nobody@x.org"] {
        assert_eq!(both.ask(&bearer, other).await.unwrap_err(), AuthError::Conflicting, "{other}");
    }
    assert!(both.door.accounts.directory.load().by_name("nobody@x.org").is_none(), "a refusal makes no account");
}

#[tokio::test]
async fn two_newcomers_in_one_request_conflict_unless_the_token_vouches_for_the_address() {
    let both = Both::new().await;
    let stranger = both.token("ann", json!("other@x.org"));
    assert_eq!(both.ask(&stranger, "ann@x.org").await.unwrap_err(), AuthError::Conflicting);
    let nameless = both.token("ann", json!(null));
    assert_eq!(both.ask(&nameless, "ann@x.org").await.unwrap_err(), AuthError::Conflicting);
    assert_eq!(both.door.accounts.made(), 0);
}

#[tokio::test]
async fn a_bad_token_beside_a_good_header_is_refused_as_a_bad_token() {
    let both = Both::new().await;
    header(&both.door, "ann@x.org", PROXY).await.unwrap();
    for bearer in ["Bearer garbage", "Bearer a.b.c", "Basic YW5uOnB3"] {
        assert!(matches!(both.ask(bearer, "ann@x.org").await, Err(AuthError::Invalid(_))), "{bearer}");
    }
    let good = both.token("ann", json!("ann@x.org"));
    assert!(matches!(both.ask(&good, "ann").await, Err(AuthError::Malformed(_))), "and the other way round");
}

#[tokio::test]
async fn from_an_unlisted_peer_the_header_neither_helps_nor_hurts_a_token() {
    let both = Both::new().await;
    let bearer = both.token("ann", json!("ann@x.org"));
    let lines = [("authorization", bearer.as_str()), (HEADER, "root@x.org")];
    let ann = both.door.ask(&lines, "203.0.113.7", Timestamp::now()).await.unwrap();
    assert_eq!(ann.account.name.as_str(), "ann");
}

#[tokio::test]
async fn accounts_that_were_linked_are_one_user_for_both_credentials() {
    let both = Both::new().await;
    both.door.accounts.patch(Item::User(Box::new(user(3, "ann")), vec![]));
    let id = UserId(Uuid::from_u128(3));
    let link = |issuer: String, subject: &str| Item::Link(Link { issuer, subject: subject.into(), user: id });
    both.door.accounts.patch(link(both.provider.issuer(), "sub-ann"));
    both.door.accounts.patch(link(HEADER_ISSUER.into(), "ann@x.org"));
    let bearer = both.token("ann", json!(null));
    assert_eq!(both.ask(&bearer, "ann@x.org").await.unwrap().account.id, id);
}

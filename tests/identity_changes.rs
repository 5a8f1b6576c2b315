//! Whatever changes in the directory, the next request is answered by it: a token that is remembered proves nothing of its own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a broken test environment should stop the test on the spot"
)]

mod identity_support;

use std::sync::Arc;

use carta_gateway::config::JwtIssuer;
use carta_gateway::identity::{AuthError, Directory, Identity, Loading, Pace};
use carta_gateway::policy::GroupId;
use carta_gateway::store::{ApiToken, ApiTokenId, Group, Item, Key, KeyDigest, Link, User};
use identity_support::*;
use jiff::{Timestamp, ToSpan};
use uuid::Uuid;

const ALICE: &str = "alice <a@x.org> User [Lab:Staff]";
const WITHIN: &str = " within GET /a";
const UNHELD: &str = "invalid: the API token that it was made for does not hold any more";

/// Tokens of alice's that are remembered: another issuer's, the built-in one's, and one that was minted within an API token.
struct Stage {
    door: Door,
    link: Link,
    now: Timestamp,
    tokens: [String; 3],
}

impl Stage {
    async fn new() -> Self {
        let (key, keys, now) = (Rsa::new("k1"), Keys::default(), Timestamp::now());
        let (provider, own) = (Provider::start(&[&key]).await, issuer(&keys).await);
        let link = Link { issuer: provider.issuer(), subject: "sub-alice".into(), user: alice().id };
        let remote = JwtIssuer { create_users: false, ..provider.config() };
        let door = Door::new(Some(&own), vec![remote], None, Accounts::with(&[])).fetching(Pace::default());
        let directory = loaded(&people(&link));
        let account = directory.by_name("alice").unwrap();
        let within = own.mint_for_service(account, Some(api_token().id), "lab", "mp", None, now).unwrap();
        let tokens = [key.sign(&provider.claims("alice")), own.mint(account, None, now).unwrap().token, within.token];
        Self { door, link, now, tokens }
    }

    fn is(&self, directory: Directory) {
        self.door.accounts.directory.store(Arc::new(directory));
    }

    /// Whom each of the tokens proves.
    async fn ask(&self) -> Vec<Result<Arc<Identity>, AuthError>> {
        let mut answers = Vec::new();
        for token in &self.tokens {
            answers.push(self.door.token_at(token, self.now).await);
        }
        answers
    }

    /// Asked twice: the second time of what was remembered the first time.
    async fn answers(&self, expected: &[String; 3], what: &str) {
        for _ in 0..2 {
            let shown: Vec<_> = self.ask().await.iter().map(show).collect();
            assert_eq!(shown, *expected, "{what}");
        }
    }
}

fn show(outcome: &Result<Arc<Identity>, AuthError>) -> String {
    match outcome {
        Ok(identity) => {
            let (account, within) = (&identity.account, identity.within.as_ref());
            let within = within.map(|token| token.patterns.iter().map(|p| format!(" within {p}")).collect::<String>());
            format!(
                "{} <{}> {}{} [{}]{}",
                account.name,
                account.email.as_deref().unwrap_or_default(),
                account.role,
                if account.administrator { ", administrator" } else { "" },
                account.groups.join(" "),
                within.unwrap_or_default(),
            )
        }
        Err(AuthError::Invalid(why)) => format!("invalid: {}", why.lines().next().unwrap_or_default()),
        Err(other) => format!("{other:?}"),
    }
}

fn alice() -> User {
    User { email: Some("a@x.org".into()), ..user(1, "alice") }
}

fn group(n: u128, name: &str) -> Group {
    Group { id: GroupId(Uuid::from_u128(n)), name: name.into(), owner: None }
}

fn staff() -> Group {
    group(9, "Lab:Staff")
}

fn guests() -> Group {
    group(8, "Lab:Guests")
}

fn api_token() -> ApiToken {
    ApiToken {
        id: ApiTokenId(Uuid::from_u128(5)),
        user: alice().id,
        name: "ci".into(),
        digest: KeyDigest([7; 32]),
        hint: "abcd".into(),
        patterns: vec!["GET /a".into()],
        expires: None,
        uses: None,
        revoked: false,
        auto_remove: false,
        created: Timestamp::UNIX_EPOCH,
        last_used: None,
    }
}

fn person(user: User, groups: &[Group]) -> Item {
    Item::User(Box::new(user), groups.iter().map(|group| group.id).collect())
}

fn people(link: &Link) -> Vec<Item> {
    vec![
        Item::Group(staff()),
        Item::Group(guests()),
        person(alice(), &[staff()]),
        person(user(2, "bob"), &[]),
        Item::Link(link.clone()),
        Item::ApiToken(Box::new(api_token())),
    ]
}

fn loaded(items: &[Item]) -> Directory {
    let mut loading = Loading::default();
    loading.take(items);
    loading.finish()
}

/// All of them prove the same user, one within the API token.
fn all(who: &str) -> [String; 3] {
    [who.to_owned(), who.to_owned(), format!("{who}{WITHIN}")]
}

/// What the two prove that are bound by nothing, and what the one within the API token does.
fn each(unbound: &str, within: &str) -> [String; 3] {
    [unbound, unbound, within].map(str::to_owned)
}

/// What changes, by what, and what the three tokens prove then.
fn changes(link: &Link) -> Vec<(&'static str, Item, [String; 3])> {
    let is = |user: User| person(user, &[staff()]);
    let key = |change: ApiToken| Item::ApiToken(Box::new(change));
    let refused = |why: &str| each(&format!("invalid: {why}"), &format!("invalid: {why}"));
    let by_link = |theirs: &str| [theirs.to_owned(), ALICE.to_owned(), format!("{ALICE}{WITHIN}")];
    let gone = "invalid: the token's user is gone";
    let dead = Some(Timestamp::now() + 1.hour());
    let elsewhere = "alice <a@x.org> User [Lab:Staff] within GET /b";
    vec![
        ("address", is(User { email: Some("n@x.org".into()), ..alice() }), all("alice <n@x.org> User [Lab:Staff]")),
        ("name", is(User { name: "alicia".into(), ..alice() }), all("alicia <a@x.org> User [Lab:Staff]")),
        ("role", is(User { role: "Guest".into(), ..alice() }), all("alice <a@x.org> Guest [Lab:Staff]")),
        ("power", is(User { administrator: true, ..alice() }), all("alice <a@x.org> User, administrator [Lab:Staff]")),
        ("disabled", is(User { disabled: true, ..alice() }), refused("the account is disabled")),
        ("withdrawn", is(User { tokens_dead_until: dead, ..alice() }), refused("the token was withdrawn")),
        ("joins", person(alice(), &[staff(), guests()]), all("alice <a@x.org> User [Lab:Guests Lab:Staff]")),
        ("leaves", person(alice(), &[]), all("alice <a@x.org> User []")),
        ("a group's name", Item::Group(group(9, "Lab:Crew")), all("alice <a@x.org> User [Lab:Crew]")),
        ("a group is gone", Item::Gone(Key::Group(staff().id)), all("alice <a@x.org> User []")),
        (
            "a link is gone",
            Item::Gone(Key::Link(link.issuer.clone(), link.subject.clone())),
            by_link("IdentityConflict(\"alice\")"),
        ),
        ("a link moves", Item::Link(Link { user: user(2, "bob").id, ..link.clone() }), by_link("bob <> User []")),
        (
            "the account is gone",
            Item::Gone(Key::User(alice().id)),
            ["NotInvited".to_owned(), gone.to_owned(), gone.to_owned()],
        ),
        ("a key is revoked", key(ApiToken { revoked: true, ..api_token() }), each(ALICE, UNHELD)),
        ("a key ends", key(ApiToken { expires: Some(Timestamp::UNIX_EPOCH), ..api_token() }), each(ALICE, UNHELD)),
        ("a key is gone", Item::Gone(Key::ApiToken(api_token().id)), each(ALICE, UNHELD)),
        ("a key's use", key(ApiToken { patterns: vec!["GET /b".into()], ..api_token() }), each(ALICE, elsewhere)),
    ]
}

#[tokio::test]
async fn each_change_of_the_directory_shows_in_the_next_answer_to_a_token_that_is_remembered() {
    let stage = Stage::new().await;
    let people = people(&stage.link);
    for (what, change, expected) in changes(&stage.link) {
        stage.is(loaded(&people));
        stage.answers(&all(ALICE), "before").await;
        let directory = stage.door.accounts.directory.load_full();
        stage.is(directory.patched(std::slice::from_ref(&change)));
        stage.answers(&expected, what).await;
        let directory = stage.door.accounts.directory.load_full();
        stage.is(directory.patched(&people));
        stage.answers(&all(ALICE), &format!("{what}, and back")).await;

        stage.is(loaded(&[people.as_slice(), &[change]].concat()));
        stage.answers(&expected, &format!("{what}, loaded")).await;
        stage.is(loaded(&people));
        stage.answers(&all(ALICE), &format!("{what}, loaded, and back")).await;
    }
}

#[tokio::test]
async fn whom_a_token_proves_is_found_out_once_as_long_as_nothing_changes() {
    let stage = Stage::new().await;
    stage.is(loaded(&people(&stage.link)));
    let (first, again) = (stage.ask().await, stage.ask().await);
    let same = |at: usize| Arc::ptr_eq(first[at].as_ref().unwrap(), again[at].as_ref().unwrap());
    assert_eq!([0, 1, 2].map(same), [true, true, false], "an API token may end or be used up meanwhile");
}

#[tokio::test]
async fn the_end_of_an_api_token_is_that_of_a_remembered_token_within_it() {
    let mut stage = Stage::new().await;
    let end = stage.now + 60.seconds();
    let ends = Item::ApiToken(Box::new(ApiToken { expires: Some(end), ..api_token() }));
    stage.is(loaded(&[people(&stage.link), vec![ends]].concat()));
    stage.now = end - 1.second();
    stage.answers(&all(ALICE), "before the end").await;
    stage.now = end;
    stage.answers(&each(ALICE, UNHELD), "at the end").await;
}

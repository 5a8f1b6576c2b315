//! From what was proved to an account: (issuer, `sub`) or the header's e-mail, looked up, linked, or new.
//!
//! An account belongs to what first proved it. The rules, in order:
//! 1. A link decides alone.
//! 2. An address links only where it is checked on both sides and names one account. For a token, "checked" is
//!    `email_verified: true`; the header's address is the identity itself. On the account's side, an address is checked
//!    when it was proved so, or when an administrator entered it and nobody has proved the account yet: an invitation.
//!    A token cannot take up an invitation while the built-in issuer is on, because the account may be that one's.
//!    Nothing links a token to an administrator by address: a lax issuer would make administrators. Nor to an account
//!    that the same issuer proves by another subject: that one is somebody else, whom the address was given to since.
//! 3. A name that an account has already is a conflict, until an administrator links the two; also where the address
//!    would fit, unless the name is that address.
//! 4. Whoever is left is new, where the configuration makes accounts on first sight.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Account, AuthError, Claims, Directory, Newcomer, Profile, credential};
use crate::config::{JwtIssuer, TrustedHeader};
use crate::policy::UserId;
use crate::policy::written::can_be_login;
use crate::store::HEADER_ISSUER;

/// The longest login name that is taken from an issuer, in bytes.
const NAME_BYTES: usize = 254;

/// What a proof means for the directory.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    /// It proves this account.
    Known(Arc<Account>),
    /// It is to prove this account from now on.
    Links(UserId),
    /// It needs an account.
    New(Box<Newcomer>),
}

/// Whether an account may be used by a credential of this age; the header's has none.
pub(super) fn admit(account: &Account, issued: Option<Option<Timestamp>>) -> Result<(), AuthError> {
    if account.disabled {
        return Err(AuthError::Invalid("the account is disabled"));
    }
    let (Some(issued), Some(dead)) = (issued, account.tokens_dead_until) else { return Ok(()) };
    // Without `iat` nobody knows whether it is one of those that died.
    if issued.is_none_or(|at| at.as_second() <= dead.as_second()) {
        return Err(AuthError::Invalid("the token was withdrawn\nsign in again for a new one"));
    }
    Ok(())
}

/// Who a token of another issuer proves. `local` says whether the built-in issuer is on.
pub(super) fn of_token(
    directory: &Directory,
    issuer: &JwtIssuer,
    local: bool,
    subject: &str,
    claims: &Claims,
) -> Result<Standing, AuthError> {
    if let Some(account) = directory.by_link(&issuer.issuer, subject) {
        return Ok(Standing::Known(account.clone()));
    }
    let name = login_name(issuer, claims)?;
    let (email, verified) = address(issuer, claims);
    let namesake = directory.by_name(name);
    if let Some(account) = email.as_deref().filter(|_| verified).and_then(|email| directory.by_email(email)) {
        let invited = !local && directory.links_of(account.id).is_empty();
        let checked = account.email_verified
            || email.as_deref().is_some_and(|email| is_linked_by_header(directory, account.id, email));
        let fits = match namesake {
            None => true,
            Some(namesake) => namesake.id == account.id && (invited || email.as_deref() == Some(name)),
        };
        if fits && (checked || invited) {
            if account.administrator || is_linked_by(directory, account.id, &issuer.issuer) {
                return Err(AuthError::IdentityConflict(account.name.to_string()));
            }
            return Ok(Standing::Links(account.id));
        }
    }
    if namesake.is_some() {
        return Err(AuthError::IdentityConflict(name.to_owned()));
    }
    if !issuer.create_users {
        return Err(AuthError::NotInvited);
    }
    Ok(Standing::New(Box::new(Newcomer {
        issuer: issuer.issuer.clone(),
        subject: subject.to_owned(),
        name: name.to_owned(),
        email,
        email_verified: verified,
        first_name: text(claims, "given_name"),
        last_name: text(claims, "family_name"),
        role: issuer.new_user_role.clone(),
        first_role: None,
        only_as_first: false,
    })))
}

/// Who the trusted header proves, by its lower-cased address.
pub(super) fn of_header(directory: &Directory, rules: &TrustedHeader, email: &str) -> Result<Standing, AuthError> {
    if let Some(account) = directory.by_link(HEADER_ISSUER, email) {
        return Ok(Standing::Known(account.clone()));
    }
    let invited = |account: &Account| directory.links_of(account.id).is_empty();
    let namesake = directory.by_name(email);
    if let Some(account) = directory.by_email(email)
        && (account.email_verified || invited(account))
        && namesake.is_none_or(|namesake| namesake.id == account.id)
    {
        if is_linked_by(directory, account.id, HEADER_ISSUER) {
            return Err(AuthError::IdentityConflict(account.name.to_string()));
        }
        return Ok(Standing::Links(account.id));
    }
    match namesake {
        // An account whose name is the address, and who has no other: `user add ann@example.org`.
        Some(namesake) if namesake.email.is_none() && invited(namesake) => Ok(Standing::Links(namesake.id)),
        Some(_) => Err(AuthError::IdentityConflict(email.to_owned())),
        // The first account is made also where none is made on sight: else a gateway that takes its identities from the
        // header alone would never let anybody in.
        None if !rules.create_users && (rules.first_user_role.is_none() || !directory.is_empty()) => {
            Err(AuthError::NotInvited)
        }
        None if !can_be_login(email) => {
            Err(AuthError::Invalid("the address in the trusted header cannot be a login name\nit has `/` or `:`"))
        }
        None => Ok(Standing::New(Box::new(Newcomer {
            issuer: HEADER_ISSUER.to_owned(),
            subject: email.to_owned(),
            name: email.to_owned(),
            email: Some(email.to_owned()),
            email_verified: true,
            first_name: None,
            last_name: None,
            role: rules.new_user_role.clone(),
            first_role: rules.first_user_role.clone(),
            only_as_first: !rules.create_users,
        }))),
    }
}

/// What the token proves of its user that the account does not show yet. Only of an account that nobody but this issuer
/// proves: two issuers would else take turns.
pub(super) fn news(directory: &Directory, account: &Account, issuer: &JwtIssuer, claims: &Claims) -> Option<Profile> {
    if directory.links_of(account.id).iter().any(|link| link.issuer != issuer.issuer) {
        return None;
    }
    let (email, email_verified) = address(issuer, claims);
    let known = Profile::of(account);
    // A claim that is missing says nothing.
    let (email, email_verified) = match email {
        Some(email) => (Some(email), email_verified),
        None => (known.email.clone(), known.email_verified),
    };
    let name = |claim: &str, known: &Option<String>| text(claims, claim).or_else(|| known.clone());
    let first_name = name("given_name", &known.first_name);
    let last_name = name("family_name", &known.last_name);
    let proved = Profile { email, email_verified, first_name, last_name, organization: known.organization.clone() };
    (proved != known).then_some(proved)
}

/// Whether the issuer proves this account already.
fn is_linked_by(directory: &Directory, id: UserId, issuer: &str) -> bool {
    directory.links_of(id).iter().any(|link| link.issuer == issuer)
}

/// Whether the trusted header proved the address of this account.
pub(super) fn is_linked_by_header(directory: &Directory, id: UserId, email: &str) -> bool {
    directory.by_link(HEADER_ISSUER, email).is_some_and(|account| account.id == id)
}

/// The address that a token proves, lower-cased, and whether the issuer says that it was checked. One that the issuer
/// says was *not* checked is anybody's claim, and is left out.
pub(super) fn address(issuer: &JwtIssuer, claims: &Claims) -> (Option<String>, bool) {
    let verified = claims.0.get("email_verified").map(|v| *v == true);
    let email = claims.0.get(&issuer.email_claim).and_then(|v| v.as_str()).and_then(credential::email);
    match (email, verified) {
        (Some(email), None | Some(true)) => (Some(email.into_owned()), verified == Some(true)),
        _ => (None, false),
    }
}

fn text(claims: &Claims, claim: &str) -> Option<String> {
    claims.0.get(claim)?.as_str().filter(|text| !text.is_empty()).map(Into::into)
}

/// The login name that the issuer gives; it goes into headers, logs and pages, so it must be plain text.
fn login_name<'c>(issuer: &JwtIssuer, claims: &'c Claims) -> Result<&'c str, AuthError> {
    // Cognito's access tokens call the same name otherwise.
    let access = || claims.0.get("username").filter(|_| claims.0.get("token_use").is_some_and(|u| u == "access"));
    let name = claims.0.get(&issuer.user_claim).or_else(access).and_then(|v| v.as_str());
    let name = name.ok_or(AuthError::Invalid("the token lacks the claim that names the user"))?;
    if name.is_empty() || name.len() > NAME_BYTES || name.trim() != name || name.contains(unseen) {
        return Err(AuthError::Invalid("the token's user name is empty, too long, or no plain text"));
    }
    if !can_be_login(name) {
        return Err(AuthError::Invalid(
            "the token's user name cannot be a login name\nit has `/` or `:`, or is `everyone`",
        ));
    }
    Ok(name)
}

/// What would make one name look like another in a log or a header.
fn unseen(c: char) -> bool {
    c.is_control() || credential::is_invisible(c)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::store::{Item, Link, User};

    const IDP: &str = "https://idp";

    fn user(n: u128, name: &str, email: Option<(&str, bool)>) -> User {
        User {
            id: UserId(Uuid::from_u128(n)),
            name: name.into(),
            email: email.map(|(e, _)| e.into()),
            email_verified: email.is_some_and(|(_, v)| v),
            first_name: None,
            last_name: None,
            organization: None,
            role: "Guest".into(),
            administrator: false,
            disabled: false,
            tokens_dead_until: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    fn link(issuer: &str, subject: &str, n: u128) -> Item {
        Item::Link(Link { issuer: issuer.into(), subject: subject.into(), user: UserId(Uuid::from_u128(n)) })
    }

    fn directory(users: &[User], links: &[Item]) -> Directory {
        let users: Vec<Item> = users.iter().map(|u| Item::User(Box::new(u.clone()), vec![])).collect();
        Directory::empty().patched(&users).patched(links)
    }

    fn issuer() -> JwtIssuer {
        JwtIssuer {
            issuer: IDP.into(),
            audience: vec!["c".into()],
            jwks_url: None,
            ca: None,
            user_claim: "preferred_username".into(),
            email_claim: "email".into(),
            groups_claim: "groups".into(),
            create_users: true,
            new_user_role: "Guest".into(),
        }
    }

    fn header(create_users: bool) -> TrustedHeader {
        TrustedHeader {
            name: http::HeaderName::from_static("x-forwarded-email"),
            trusted_proxies: vec![],
            required: false,
            create_users,
            first_user_role: Some("Admin".into()),
            new_user_role: "Guest".into(),
        }
    }

    fn token(directory: &Directory, local: bool, claims: Value) -> Result<Standing, AuthError> {
        let Value::Object(map) = claims else { panic!("an object") };
        of_token(directory, &issuer(), local, "s-1", &Claims(map))
    }

    fn links_to(n: u128) -> Result<Standing, AuthError> {
        Ok(Standing::Links(UserId(Uuid::from_u128(n))))
    }

    fn conflict(name: &str) -> Result<Standing, AuthError> {
        Err(AuthError::IdentityConflict(name.into()))
    }

    #[test]
    fn a_link_decides_whatever_the_claims_say() {
        let known = directory(&[user(1, "alice", None), user(2, "bob", None)], &[link(IDP, "s-1", 1)]);
        let claims = json!({ "preferred_username": "bob", "email": "x", "groups": ["Admin"] });
        let Ok(Standing::Known(account)) = token(&known, true, claims) else { panic!("known") };
        assert_eq!(account.name.as_str(), "alice");
        assert!(account.groups.is_empty(), "the token's groups join no local group");
    }

    #[test]
    fn a_name_that_another_issuer_owns_is_a_conflict_even_with_a_fitting_address() {
        let claims = json!({ "preferred_username": "alice", "email": "a@x.org", "email_verified": true });
        for verified in [false, true] {
            let local_account = directory(&[user(1, "alice", Some(("a@x.org", verified)))], &[]);
            assert_eq!(token(&local_account, true, claims.clone()), conflict("alice"));
            let other = directory(&[user(1, "alice", Some(("a@x.org", verified)))], &[link("https://other", "s-1", 1)]);
            assert_eq!(token(&other, true, claims.clone()), conflict("alice"));
            assert_eq!(token(&other, false, claims.clone()), conflict("alice"));
        }
    }

    #[test]
    fn an_address_links_only_when_checked_on_both_sides_and_unique() {
        let claims =
            |verified: Value| json!({ "preferred_username": "al", "email": "A@x.org", "email_verified": verified });
        let checked = directory(&[user(1, "alice", Some(("a@x.org", true)))], &[link("https://other", "o", 1)]);
        assert_eq!(token(&checked, true, claims(json!(true))), links_to(1));
        for unverified in [json!(false), json!("true"), json!(1), json!(null)] {
            assert!(matches!(token(&checked, true, claims(unverified)), Ok(Standing::New(_))));
        }
        let unchecked = directory(&[user(1, "alice", Some(("a@x.org", false)))], &[link("https://other", "o", 1)]);
        assert!(matches!(token(&unchecked, true, claims(json!(true))), Ok(Standing::New(_))));
        let two = directory(
            &[user(1, "alice", Some(("a@x.org", true))), user(2, "bob", Some(("a@x.org", true)))],
            &[link("https://other", "o", 1)],
        );
        assert!(matches!(token(&two, true, claims(json!(true))), Ok(Standing::New(_))));
    }

    #[test]
    fn a_token_never_becomes_an_administrator_by_address() {
        let mut root = user(1, "root", Some(("r@x.org", true)));
        root.administrator = true;
        let claims = json!({ "preferred_username": "r", "email": "r@x.org", "email_verified": true });
        let linked = directory(&[root.clone()], &[link("https://other", "o", 1)]);
        assert_eq!(token(&linked, true, claims.clone()), conflict("root"));
        root.email_verified = false;
        let invited = directory(&[root], &[]);
        assert_eq!(token(&invited, false, claims), conflict("root"), "nor as an invitation");
    }

    #[test]
    fn an_address_that_was_given_to_somebody_else_since_proves_no_older_account_of_the_issuer() {
        let claims = json!({ "preferred_username": "bob", "email": "a@x.org", "email_verified": true });
        let alice = user(1, "alice", Some(("a@x.org", true)));
        let proved = directory(std::slice::from_ref(&alice), &[link(IDP, "s-0", 1)]);
        assert_eq!(token(&proved, true, claims.clone()), conflict("alice"));
        let twice = directory(std::slice::from_ref(&alice), &[link("https://other", "o", 1), link(IDP, "s-0", 1)]);
        assert_eq!(token(&twice, true, claims), conflict("alice"));
        let by_header = directory(&[alice], &[link(HEADER_ISSUER, "old@x.org", 1)]);
        assert_eq!(of_header(&by_header, &header(true), "a@x.org"), conflict("alice"));
    }

    #[test]
    fn what_the_issuer_says_now_is_news_and_what_it_leaves_out_is_not() {
        let news_of = |links: &[Item], claims: Value| {
            let directory = directory(&[user(1, "alice", Some(("a@x.org", true)))], links);
            let Value::Object(map) = claims else { panic!("an object") };
            news(&directory, directory.by_name("alice").unwrap(), &issuer(), &Claims(map))
        };
        let own = [link(IDP, "s-1", 1)];
        let same = json!({ "email": "A@x.org", "email_verified": true });
        assert_eq!(news_of(&own, same), None);
        assert_eq!(news_of(&own, json!({})), None);
        let moved = json!({ "email": "new@x.org", "email_verified": true, "given_name": "Alice" });
        let profile = news_of(&own, moved.clone()).unwrap();
        assert_eq!((profile.email.as_deref(), profile.email_verified), (Some("new@x.org"), true));
        assert_eq!(profile.first_name.as_deref(), Some("Alice"));
        assert_eq!(news_of(&[link(IDP, "s-1", 1), link("https://other", "o", 1)], moved), None);
    }

    #[test]
    fn an_invitation_is_taken_up_by_address_where_nobody_else_can_have_proved_the_account() {
        let invited = directory(&[user(1, "alice", Some(("a@x.org", false)))], &[]);
        let claims = json!({ "preferred_username": "alice", "email": "a@x.org", "email_verified": true });
        assert_eq!(token(&invited, false, claims.clone()), links_to(1));
        assert_eq!(token(&invited, true, claims), conflict("alice"), "it may be the built-in issuer's");
        assert_eq!(of_header(&invited, &header(false), "a@x.org"), links_to(1));
        let named = directory(&[user(1, "a@x.org", None)], &[]);
        assert_eq!(of_header(&named, &header(false), "a@x.org"), links_to(1));
    }

    #[test]
    fn newcomers_get_what_the_issuer_proves_and_the_role_of_the_configuration() {
        let claims = json!({
            "preferred_username": "carol", "email": "C@x.org", "email_verified": true, "given_name": "Carol",
            "groups": ["Staff"], "role": "Admin",
        });
        let Ok(Standing::New(newcomer)) = token(&Directory::empty(), true, claims) else { panic!("new") };
        assert_eq!((newcomer.name.as_str(), newcomer.role.as_str()), ("carol", "Guest"));
        assert_eq!(newcomer.email.as_deref(), Some("c@x.org"));
        assert_eq!(newcomer.first_role, None);
        let unchecked = json!({ "preferred_username": "carol", "email": "ceo@x.org", "email_verified": false });
        let Ok(Standing::New(newcomer)) = token(&Directory::empty(), true, unchecked) else { panic!("new") };
        assert_eq!(newcomer.email, None, "an address that was not checked is anybody's claim");
        let closed = JwtIssuer { create_users: false, ..issuer() };
        let claims = Claims(json!({ "preferred_username": "carol" }).as_object().unwrap().clone());
        assert_eq!(of_token(&Directory::empty(), &closed, true, "s", &claims), Err(AuthError::NotInvited));
    }

    #[test]
    fn names_from_issuers_are_plain_text() {
        for bad in [
            json!(""),
            json!(" a"),
            json!("a\n"),
            json!("a\u{0}b"),
            json!("alice\u{200b}"),
            json!("\u{202e}ecila"),
            json!("x".repeat(300)),
            json!(7),
            json!(null),
            json!("everyone"),
            json!("role:Guest"),
            json!("user:alice"),
            json!("a/b"),
        ] {
            let judged = token(&Directory::empty(), true, json!({ "preferred_username": bad }));
            assert!(matches!(judged, Err(AuthError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn an_address_that_reads_as_a_subject_or_a_path_makes_no_account() {
        for bad in ["role:guest@x.org", "a/b@x.org"] {
            let judged = of_header(&Directory::empty(), &header(true), bad);
            assert!(matches!(judged, Err(AuthError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn the_header_makes_accounts_links_them_or_says_who_is_not_invited() {
        let Ok(Standing::New(newcomer)) = of_header(&Directory::empty(), &header(true), "a@x.org") else {
            panic!("new")
        };
        assert_eq!(newcomer.first_role.as_deref(), Some("Admin"));
        assert_eq!((newcomer.name.as_str(), newcomer.role.as_str()), ("a@x.org", "Guest"));
        assert!(!newcomer.only_as_first);
        let someone = directory(&[user(1, "alice", None)], &[]);
        assert_eq!(of_header(&someone, &header(false), "a@x.org"), Err(AuthError::NotInvited));
        let Ok(Standing::New(newcomer)) = of_header(&Directory::empty(), &header(false), "a@x.org") else {
            panic!("the first one is made also where others are not")
        };
        assert!(newcomer.only_as_first);
        let nobody_first = TrustedHeader { first_user_role: None, ..header(false) };
        assert_eq!(of_header(&Directory::empty(), &nobody_first, "a@x.org"), Err(AuthError::NotInvited));
        let proved = directory(&[user(1, "alice", Some(("a@x.org", true)))], &[link(IDP, "s", 1)]);
        assert_eq!(of_header(&proved, &header(true), "a@x.org"), links_to(1));
        let unchecked = directory(&[user(1, "a@x.org", Some(("a@x.org", false)))], &[link(IDP, "s", 1)]);
        assert_eq!(of_header(&unchecked, &header(true), "a@x.org"), conflict("a@x.org"));
        let crossed = directory(&[user(1, "a@x.org", None), user(2, "b", Some(("a@x.org", true)))], &[]);
        assert!(
            matches!(of_header(&crossed, &header(true), "a@x.org"), Ok(Standing::Links(id)) if id.0.as_u128() == 1)
        );
        let linked = directory(&[user(1, "alice", None)], &[link(HEADER_ISSUER, "a@x.org", 1)]);
        assert!(matches!(of_header(&linked, &header(false), "a@x.org"), Ok(Standing::Known(_))));
    }

    #[test]
    fn tokens_of_a_disabled_user_or_from_before_the_cut_are_dead() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let directory = directory(&[user(1, "alice", None)], &[]);
        let mut account = Account::clone(directory.by_name("alice").unwrap());
        assert!(admit(&account, Some(None)).is_ok());
        account.tokens_dead_until = Some(at(100));
        assert!(admit(&account, Some(Some(at(100)))).is_err());
        assert!(admit(&account, Some(Some(at(101)))).is_ok());
        assert!(admit(&account, Some(None)).is_err(), "an age that is not known is not young enough");
        assert!(admit(&account, None).is_ok(), "the header has no age");
        account.disabled = true;
        assert!(admit(&account, None).is_err() && admit(&account, Some(Some(at(200)))).is_err());
    }
}

//! Who is calling: one credential, verified, becomes an [`Identity`]; a bad one is refused and never falls through.

mod account;
mod api_token;
mod attempts;
mod authenticate;
mod beginnings;
mod cache;
mod clock;
mod credential;
mod directory;
mod enrol;
mod fetch;
mod handles;
mod issuer;
mod json;
mod jwks;
mod jwt;
mod key;
mod login;
mod origin;
mod sigv4;
mod source;
mod spelling;
pub mod srp;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use smol_str::SmolStr;

use crate::policy::UserId;
use crate::store::{Link, Revision};

pub use crate::store::ApiTokenId;
pub use api_token::{ApiToken, ApiTokens, HINT, NewKey, Uses, endpoint};
pub use authenticate::Authenticator;
pub use cache::{Signed, TokenCache};
pub use credential::email;
pub use directory::{Directory, Loading};
pub use enrol::StoreEnrol;
pub use issuer::{Issuer, IssuerError, Minted};
pub use jwks::{Fetchers, Pace};
pub use login::{Answer, Asked, LoginError, Logins, Proved, When};
pub use origin::check_origin;
pub use sigv4::{Claim as SignatureClaim, SignatureError, Signed as SignedRequest};
pub use spelling::{is_everybodys_group, is_group_name, is_login_name};

/// An account as requests, and the API's answers about users, need it. What every call asks for comes first, short texts
/// in place: what lies elsewhere has to be fetched from there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// The login name.
    pub name: SmolStr,
    /// The e-mail address.
    pub email: Option<SmolStr>,
    /// Whether whoever proved the address says that it was checked.
    pub email_verified: bool,
    /// Given name.
    pub first_name: Option<Arc<str>>,
    /// Family name.
    pub last_name: Option<Arc<str>>,
    /// Organization, the part before the colon in group names.
    pub organization: Option<Arc<str>>,
    /// The one role.
    pub role: Arc<str>,
    /// The names of the local groups, sorted.
    pub groups: Arc<[Arc<str>]>,
    /// Whether it may manage users and the platform.
    pub administrator: bool,
    /// Whether every credential of it is refused.
    pub disabled: bool,
    /// Tokens issued at or before this second are dead.
    pub tokens_dead_until: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
}

/// How an identity was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token of this issuer.
    Token {
        /// Its `iss`.
        issuer: Arc<str>,
    },
    /// An API token.
    ApiToken,
    /// The header of a trusted proxy.
    Header {
        /// The lower-cased address in it.
        email: Arc<str>,
    },
}

/// A user as proved by a credential, and how it was proved. What every call asks for comes first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Identity {
    /// Whose.
    pub account: Arc<Account>,
    /// The API token that proved it, or that a token for a service was minted for: nothing outside its patterns may be
    /// done.
    pub within: Option<Arc<ApiToken>>,
    /// Set for a token minted for one service: it is good for the calls of `docs/API.md` §13 only.
    pub audience: Option<Arc<str>>,
    /// By what.
    pub proof: Proof,
    /// The key that proved the token, where there was one.
    pub signed: Option<Signed>,
    /// The claims of the token, where there was one.
    pub claims: Option<Arc<Claims>>,
    /// When the token was issued, to the second.
    pub issued: Option<Timestamp>,
    /// When the proof ends.
    pub expires: Option<Timestamp>,
}

/// How many groups of a token are read, and how long one may be, in bytes.
const TOKEN_GROUPS: (usize, usize) = (256, 256);

impl Identity {
    /// An identity that is not bound by a token: none of its claims, its key, its times and its patterns.
    pub fn of(account: Arc<Account>, proof: Proof) -> Self {
        let (signed, claims, issued, expires) = (None, None, None, None);
        Self { account, proof, signed, claims, issued, expires, audience: None, within: None }
    }

    /// The groups that another issuer's token names, which are that issuer's and never local ones of the same name.
    pub fn token_groups(&self) -> impl Iterator<Item = &str> {
        let claim = self.signed.as_ref().and_then(Signed::groups_claim);
        let named = claim.zip(self.claims.as_ref()).and_then(|(claim, claims)| claims.0.get(claim));
        groups_in(named)
    }
}

/// The groups of a claim: a list of texts, or one text.
fn groups_in(claim: Option<&serde_json::Value>) -> impl Iterator<Item = &str> {
    let several = claim.and_then(serde_json::Value::as_array).into_iter().flatten();
    let one = claim.filter(|claim| claim.is_string());
    let texts = several.chain(one).filter_map(serde_json::Value::as_str);
    let (most, longest) = TOKEN_GROUPS;
    texts.filter(move |group| !group.is_empty() && group.len() <= longest).take(most)
}

/// The claims of a verified token; personal, so `Debug` shows their names only.
#[derive(Clone)]
pub struct Claims(pub serde_json::Map<String, serde_json::Value>);

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why nobody is identified. Each is one problem type; the text is for the caller and never repeats the credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential at all: 401.
    #[error("no credential was sent")]
    Missing,
    /// The header is required and was not sent: 400, as mara-acl answers.
    #[error("the header `{0}` is required and was not sent by the proxy in front")]
    HeaderRequired(String),
    /// A credential that is malformed, unverifiable, expired, or of a user who is gone or disabled: 401.
    #[error("{0}")]
    Invalid(&'static str),
    /// `Authorization` twice, or a header value that is no text: 400.
    #[error("{0}")]
    Malformed(&'static str),
    /// Header and token name different users: 400.
    #[error("the trusted header and the token name different users")]
    Conflicting,
    /// Another issuer already owns the account's name: 403 until an administrator links the two.
    #[error("the name `{0}` belongs to an account that another issuer proved first")]
    IdentityConflict(String),
    /// A page of a foreign origin asks with the identity that its visitor's browser adds: 403.
    #[error("a page of another origin may not do this with its visitor's identity")]
    ForeignOrigin,
    /// Only invited users may come in: 403.
    #[error("there is no account for this identity, and accounts are not made on first sight")]
    NotInvited,
    /// The issuer's keys, or the store, cannot be reached and nothing cached decides: 503.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl AuthError {
    /// The one answer for a key that is unknown, revoked, expired or used up: who tries keys learns nothing.
    pub const API_TOKEN: Self = Self::Invalid(
        "the API token is unknown, revoked, expired or used up\nlook it up among your tokens, and make another",
    );
}

/// Why nobody can be authenticated by this configuration: the gateway does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Tokens for anybody would be accepted.
    #[error("the issuer `{0}` has no audience\nset `audience` to the client ids whose tokens are accepted")]
    NoAudience(String),
    /// Two rules for one issuer, or one that is the built-in issuer's or the header's.
    #[error("the issuer `{0}` is configured twice, or is the built-in issuer\nkeep one of them")]
    IssuerTwice(String),
    /// The issuer's address, or that of its keys.
    #[error("the keys of the issuer `{issuer}` cannot be fetched: {why}")]
    Address {
        /// The issuer.
        issuer: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The certificates that are to be trusted for fetching keys.
    #[error("the certificates to trust for the issuer `{issuer}` do not load: {why}")]
    Roots {
        /// The issuer.
        issuer: String,
        /// What is wrong.
        why: String,
    },
}

/// An identity that was proved and has no account yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The issuer of the proof, or [`crate::store::HEADER_ISSUER`].
    pub issuer: String,
    /// The issuer's name for the user, or the lower-cased e-mail.
    pub subject: String,
    /// The login name to give.
    pub name: String,
    /// The e-mail, where one was proved.
    pub email: Option<String>,
    /// Whether the issuer says that the e-mail was checked.
    pub email_verified: bool,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// The role to give.
    pub role: String,
    /// The role to give instead to the very first account of the store.
    pub first_role: Option<String>,
    /// Whether the account is made only if it is the very first.
    pub only_as_first: bool,
}

/// What an account shows of its user and decides nothing by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The e-mail address.
    pub email: Option<String>,
    /// Whether the issuer says that the address was checked.
    pub email_verified: bool,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Organization.
    pub organization: Option<String>,
}

impl Profile {
    fn of(account: &Account) -> Self {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Self {
            email: account.email.as_deref().map(str::to_owned),
            email_verified: account.email_verified,
            first_name: text(&account.first_name),
            last_name: text(&account.last_name),
            organization: text(&account.organization),
        }
    }
}

/// Makes accounts for newcomers: the slow path of authentication, off the worker's thread.
#[async_trait]
pub trait Enrol: Send + Sync {
    /// Makes the account, or finds the one that a concurrent request made, and returns once the local snapshot shows
    /// it: look it up again there.
    async fn enrol(&self, newcomer: Newcomer) -> Result<Revision, AuthError>;

    /// Lets one more issuer's subject prove an account that is there, and returns once the local snapshot shows it.
    async fn link(&self, link: Link) -> Result<Revision, AuthError>;

    /// Notes what an issuer says of a user now, and returns once the local snapshot shows it.
    async fn update(&self, user: UserId, profile: Profile) -> Result<Revision, AuthError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_groups_are_texts_bounded_in_number_and_size() {
        let read = |claim: serde_json::Value| groups_in(Some(&claim)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(read(serde_json::json!(["a", 1, "", null, "b,c", "x".repeat(257)])), ["a", "b,c"]);
        assert_eq!(read(serde_json::json!("one")), ["one"]);
        assert!(read(serde_json::json!({"a": 1})).is_empty() && groups_in(None).next().is_none());
        let many: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        assert_eq!(read(serde_json::json!(many)).len(), 256);
    }
}

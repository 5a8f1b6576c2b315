//! What the store keeps, as the rest of the program sees it. Times are kept to the microsecond.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ApiToken, ApiTokenId};
use crate::policy::{GroupId, Pattern, ResourceId, Subject, UserId};

/// Counts committed changes: raised by one with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// A user account, without any secret of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id that grants and secrets name.
    pub id: UserId,
    /// The login name, unique, compared with case.
    pub name: String,
    /// The e-mail address as last proved or entered.
    pub email: Option<String>,
    /// Whether whoever proved the address says that it was checked; only then may accounts be linked by it.
    pub email_verified: bool,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Organization, the part before the colon in group names.
    pub organization: Option<String>,
    /// The user's one role.
    pub role: String,
    /// Whether the user may manage users and the platform.
    pub administrator: bool,
    /// Whether every credential of the user is refused.
    pub disabled: bool,
    /// Tokens issued at or before this second are dead: raised when the user is disabled or the password changes.
    pub tokens_dead_until: Option<Timestamp>,
    /// When the account was made.
    pub created: Timestamp,
}

/// What proves an account: the issuer's name for the user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The `iss` of the tokens, or [`HEADER_ISSUER`] for the trusted header.
    pub issuer: String,
    /// The `sub` of the tokens, or the lower-cased e-mail of the header.
    pub subject: String,
    /// Whose account it is.
    pub user: UserId,
}

/// The issuer of links that the trusted header made.
pub const HEADER_ISSUER: &str = "header";

/// A local group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The id that grants name.
    pub id: GroupId,
    /// `Org:Name` or `Name`.
    pub name: String,
    /// Who runs it, where anybody but the administrators does.
    pub owner: Option<UserId>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its id.
    pub id: ResourceId,
    /// Its name, `[a-z0-9][a-z0-9_-]{0,62}`.
    pub name: String,
    /// Its owner.
    pub owner: Option<UserId>,
}

/// Where a service was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// In the configuration file: the API shows it and refuses to change it.
    File,
    /// By the API or the UI.
    Api,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its id.
    pub id: ResourceId,
    /// The name of its namespace.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
    /// Its owner.
    pub owner: Option<UserId>,
    /// Where it was declared.
    pub origin: Origin,
    /// False for a service of the file that the file no longer declares: its id and grants are kept by name.
    pub present: bool,
    /// The service's table as in `gateway.toml`, as JSON; empty for a service of the file, whose table is the file's.
    pub table: serde_json::Value,
}

/// What a node is kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Whatever its makers say by its labels.
    Generic,
    /// A project; it may have connections.
    Project,
    /// A connection of a project.
    Connection,
    /// A workspace: no two have one name.
    Workspace,
}

/// A record that is kept so that it can be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: ResourceId,
    /// What it is kept as.
    pub kind: NodeKind,
    /// Its name, which others may have too.
    pub name: String,
    /// What it is, in the words of its makers; at least one.
    pub labels: Vec<String>,
    /// A JSON object, as its text: what is seldom looked into is kept small.
    pub props: String,
    /// Its owner.
    pub owner: Option<UserId>,
    /// For a connection: its project.
    pub parent: Option<ResourceId>,
}

impl Node {
    /// The name that grants give it: `@` and its id, below its project for a connection.
    #[must_use]
    pub fn pattern(&self) -> Pattern {
        // One or two keys are never too many.
        Pattern::literal(self.parent.into_iter().chain([self.id]).map(ResourceId::key)).unwrap_or_default()
    }
}

/// A grant with who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The row that decisions read.
    pub row: crate::policy::Grant,
    /// Who gave it; none for a command on the operator's machine.
    pub by: Option<UserId>,
    /// When it was given.
    pub at: Timestamp,
}

/// A user's secret, sealed under the vault key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Whose it is.
    pub user: UserId,
    /// Its name, lower case.
    pub name: String,
    /// The envelope of `vault`: opaque here.
    pub sealed: Vec<u8>,
    /// When it was stored.
    pub created: Timestamp,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("user", &self.user)
            .field("name", &self.name)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A user's word that one of their secrets may go to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Whose secret.
    pub user: UserId,
    /// Which secret, lower case.
    pub secret: String,
    /// To which service.
    pub service: ResourceId,
    /// Digest of all that the consent is for: service, origins, template. Another one needs a new consent.
    pub fingerprint: String,
    /// The origins, for people.
    pub origins: String,
    /// When it was given.
    pub at: Timestamp,
}

/// A user's word that a secret may not go to one service, whatever was consented to before: its use is no consent any
/// more, not even the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Whose secret.
    pub user: UserId,
    /// Which secret, lower case; it may be gone.
    pub secret: String,
    /// To which service.
    pub service: ResourceId,
    /// When it was said.
    pub at: Timestamp,
}

/// A key of the built-in issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The `kid` of tokens and JWKS.
    pub kid: String,
    /// PKCS#8 of the private key, sealed by `vault`.
    pub sealed: Vec<u8>,
    /// The public half as a JWK.
    pub public: serde_json::Value,
    /// When it was made; the newest that is not retired signs.
    pub created: Timestamp,
    /// From when on tokens signed by it are refused.
    pub retired: Option<Timestamp>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("created", &self.created)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

/// What is needed to check a password: an SRP salt and verifier, sealed by `vault`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// The envelope of `vault`: opaque here.
    pub sealed: Vec<u8>,
    /// Whether the user must choose another at the next login.
    pub temporary: bool,
    /// Whether it opens nothing any more, until another one takes its place.
    pub reset: bool,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("temporary", &self.temporary)
            .field("reset", &self.reset)
            .finish_non_exhaustive()
    }
}

/// What one change of the store was about, by key. The reader looks up what is there now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A user, with the user's groups.
    User(UserId),
    /// A link, by issuer and subject.
    Link(String, String),
    /// A group.
    Group(GroupId),
    /// A namespace.
    Namespace(ResourceId),
    /// A service.
    Service(ResourceId),
    /// A node.
    Node(ResourceId),
    /// A grant.
    Grant(Subject, Pattern),
    /// A secret, by user and lower-case name.
    Secret(UserId, String),
    /// A consent, by user, secret, fingerprint.
    Consent(UserId, String, String),
    /// A withdrawal, by user, secret, service.
    Withdrawal(UserId, String, ResourceId),
    /// An API token.
    ApiToken(ApiTokenId),
    /// A signing key, by `kid`.
    SigningKey(String),
}

/// What is there now under a key that changed. The large records are boxed: a population has a million small ones.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The user and the groups that the user is in.
    User(Box<User>, Vec<GroupId>),
    /// The link.
    Link(Link),
    /// The group.
    Group(Group),
    /// The namespace.
    Namespace(Namespace),
    /// The service.
    Service(Box<Service>),
    /// The node.
    Node(Box<Node>),
    /// The grant.
    Grant(Grant),
    /// The secret.
    Secret(Secret),
    /// The consent.
    Consent(Consent),
    /// The withdrawal.
    Withdrawal(Withdrawal),
    /// The API token; what changes with use is as of when it was read.
    ApiToken(Box<ApiToken>),
    /// The signing key.
    SigningKey(Box<SigningKey>),
    /// Nothing any more.
    Gone(Key),
}

/// Everything that the snapshot is made of, read in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// The revision that it shows.
    pub revision: Revision,
    /// Every record; no [`Item::Gone`].
    pub items: Vec<Item>,
}

/// What happened since a revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Changes {
    /// The items that changed, as they stand at `revision`.
    Patch {
        /// The revision that the patch leads to.
        revision: Revision,
        /// One item a changed key, in no order that matters.
        items: Vec<Item>,
    },
    /// The feed does not reach back that far: load everything.
    Gap,
}

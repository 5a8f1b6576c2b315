//! The changes that can be made, each whole or not at all.

use std::fmt;

use jiff::Timestamp;

use super::{ApiToken, Consent, Group, Head, Link, Node, Password, Revision, Secret, SigningKey, User};
use crate::policy::{Grant, GroupId, Levels, Pattern, ResourceId, Subject, UserId};

/// An account to make, with what proves it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewUser {
    /// The account.
    pub user: User,
    /// What proves it from now on, where an issuer or the header made it.
    pub link: Option<Link>,
    /// What checks its password.
    pub password: Option<Password>,
    /// Given instead of `user.role`, and `administrator` with it when it is `Admin`, if no account was ever made in
    /// this store: decided in the transaction, so that two first logins cannot both have it.
    pub first_role: Option<String>,
}

/// A service that the configuration file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredService {
    /// The namespace's name; made when it is not there, owned by the service's owner.
    pub namespace: String,
    /// The service's name.
    pub name: String,
    /// The name of the user who owns it.
    pub owner: String,
}

/// What the audit is told of a tunnel.
#[derive(Clone, Debug, PartialEq)]
pub struct TunnelNote {
    /// The service.
    pub service: ResourceId,
    /// `namespace/name`.
    pub name: String,
    /// Opened, or closed.
    pub open: bool,
    /// What there was before.
    pub before: Option<serde_json::Value>,
    /// What there is now.
    pub after: Option<serde_json::Value>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// Makes an account. `Exists` where the name, or the link, is taken.
    CreateUser(Box<NewUser>),
    /// The same, if no account was ever made in this store; else `Refused`.
    CreateFirstUser(Box<NewUser>),
    /// Replaces the profile of a user: e-mail, given and family name, organization. What decides about access (role,
    /// administrator, disabled, the death of tokens) is left as it is, so that a login that read the account a moment
    /// ago cannot undo what an administrator did since.
    UpdateUser(Box<User>),
    /// Gives the user this role instead of the one before.
    SetRole {
        /// Whose.
        user: UserId,
        /// The one role.
        role: String,
    },
    /// Makes the user an administrator, or no longer one. `Refused` where no administrator would be left who is not
    /// disabled.
    SetAdministrator {
        /// Who.
        user: UserId,
        /// Whether the user may manage users and the platform.
        administrator: bool,
    },
    /// Refuses or admits every credential of the user; disabling also kills the tokens issued so far. Changes nothing
    /// where it is so already.
    DisableUser {
        /// Whose.
        user: UserId,
        /// True to refuse.
        disabled: bool,
        /// Now.
        at: Timestamp,
    },
    /// Sets the password; set by somebody else, it deletes the user's secrets and consents. Tokens issued so far die.
    SetPassword {
        /// Whose.
        user: UserId,
        /// The new one.
        password: Password,
        /// Whether the user set it, knowing the old one.
        by_self: bool,
        /// The one that was proved, where one was: `Refused` where another is there by now, so that of two who replace the
        /// same one only one is told that theirs holds.
        replaces: Option<Password>,
        /// Now.
        at: Timestamp,
    },
    /// Makes the password open nothing any more, until another one is set. Tokens issued so far die; secrets stay, as
    /// nobody learns a password by it. Once more changes nothing. `Missing` where there is no password.
    ResetPassword {
        /// Whose.
        user: UserId,
        /// Now.
        at: Timestamp,
    },
    /// Lets one more issuer's subject prove the account; said by somebody else, it deletes the user's secrets and consents.
    /// `Exists` where another account has it.
    Link {
        /// What proves the account from now on.
        link: Link,
        /// Whether the account's user proved to be that subject, by what the account's rules accept.
        by_self: bool,
    },
    /// Makes a group. `Exists` where the name is taken.
    CreateGroup(Group),
    /// Adds the user to the group; adding again changes nothing.
    AddMember(GroupId, UserId),
    /// Takes the user from the group.
    RemoveMember(GroupId, UserId),
    /// Gives, or replaces what the same subject has on the same pattern; the same once more changes nothing. `Missing`
    /// for a user, group or resource that is not there.
    PutGrant {
        /// The row.
        grant: Grant,
        /// Who gives it.
        by: Option<UserId>,
        /// Now.
        at: Timestamp,
    },
    /// Gives what the subject, one of several of a permission, has of it: as [`Mutation::PutGrant`] and, where another of
    /// them has a grant on a name below and the subject has none, a [`Levels::BLANK`] one there, because what the others
    /// have there is in the place of all. A grant of nothing is a [`Levels::BLANK`] one where the subject has anything on a
    /// name above, and else takes away. Grants that have ended count for nothing. With `keeps`, what the subject has there
    /// stays as it is.
    PutPart {
        /// The row.
        grant: Grant,
        /// The other subjects of the permission.
        others: Vec<Subject>,
        /// Whether it is given only where the subject has nothing there.
        keeps: bool,
        /// Who gives it.
        by: Option<UserId>,
        /// Now.
        at: Timestamp,
    },
    /// Takes levels from what the subject has on exactly this pattern, and the grant when none is left. `Missing` where
    /// there is none. Changes nothing where none of the levels is held: a deny stays one, whenever it was given.
    TakeLevels {
        /// From whom.
        subject: Subject,
        /// On what.
        pattern: Pattern,
        /// Which.
        levels: Levels,
    },
    /// Takes away; nothing happens where there is nothing.
    RemoveGrant(Subject, Pattern),
    /// Moves the ownership of a namespace, service or node; the former owner keeps `keep` as a grant when it is not empty.
    /// `Refused` for a service of the file, and where the owner is not who `from` says, so that of two who are given the
    /// same thing at once only one is told that it is theirs.
    TransferOwner {
        /// What.
        resource: ResourceId,
        /// Who owns it now.
        from: Option<UserId>,
        /// To whom.
        to: UserId,
        /// What the former owner keeps.
        keep: Option<Grant>,
        /// Now.
        at: Timestamp,
    },
    /// Makes a namespace. `Exists` where it is taken.
    ReserveNamespace {
        /// Its name.
        name: String,
        /// Its owner.
        owner: UserId,
    },
    /// Makes a service of the API, or replaces the table of one. `Refused` for one of the file; `Exists` or `Missing`
    /// where what is there is not what `replaces` says, so that who was judged on one service never writes another.
    PutService {
        /// Its namespace, which must be there.
        namespace: String,
        /// Its name.
        name: String,
        /// Which service is there now; none: it is new.
        replaces: Option<ResourceId>,
        /// Its owner when it is new.
        owner: UserId,
        /// Its table.
        table: serde_json::Value,
    },
    /// Gives a service of the API another name in its namespace; grants on it, and below it, move along and replace
    /// whatever was granted on the new name. `Exists` where the name is taken.
    RenameService {
        /// Which.
        id: ResourceId,
        /// The new name.
        to: String,
    },
    /// Removes a service with its consents, with the grants on it and below it, and with the grants to the holders of
    /// levels on it. `Refused` for one that the file declares now.
    RemoveService(ResourceId),
    /// Removes an empty namespace with the grants on it and below it, and with the grants to the holders of levels on
    /// it. `Refused` where it has services, those of the file that are absent included.
    RemoveNamespace(ResourceId),
    /// Makes a node, whose owner counts as its maker. `Exists` where its id, or a workspace's name, is taken; `Missing`
    /// for a connection's project.
    CreateNode(Box<Node>),
    /// Gives a node another name, or other props. `Exists` where a workspace's name is taken.
    UpdateNode {
        /// Which.
        id: ResourceId,
        /// The new name, where it gets one.
        name: Option<String>,
        /// The text of the JSON object that replaces the props, where one does.
        props: Option<String>,
    },
    /// Removes a node with what is in it, with the grants on it and below it, and with the grants to it and to the holders
    /// of levels on it.
    RemoveNode(ResourceId),
    /// Makes the services of the file present under their kept ids, and every other of the file absent. `Missing` for
    /// an owner who is not there, `Refused` for a clash with a service of the API, and for one that is new in a
    /// namespace whose owner owns none of the services that the file declares there: the owner of a namespace has
    /// rights on all in it. Changes nothing, and raises no
    /// revision, when all is as declared.
    DeclareServices(Vec<DeclaredService>),
    /// Stores all of these, or none; a changed value keeps the consents.
    PutSecrets(Vec<Secret>),
    /// Deletes a secret with its consents. `Missing` where there is none.
    DeleteSecret(UserId, String),
    /// Notes a consent that the user was asked for, which ends a withdrawal; once more changes nothing. `Missing` where
    /// the secret or the service is gone.
    PutConsent(Consent),
    /// Notes the consent that a first use is. `Refused` where the user consented to something else of the service
    /// before, or withdrew: decided in the transaction, so that a use on its way cannot undo a withdrawal.
    FirstUse(Consent),
    /// Withdraws what was consented for this secret and service, and notes that it was; once more changes nothing.
    /// `Missing` where the secret or the service is not there.
    WithdrawConsent {
        /// Whose secret.
        user: UserId,
        /// Which secret, lower case.
        secret: String,
        /// For which service.
        service: ResourceId,
        /// Now.
        at: Timestamp,
    },
    /// Makes an API token. `Exists` where the user has one of this name, `Refused` beyond the quota.
    CreateApiToken(Box<ApiToken>),
    /// Revokes an API token for good; one with `auto_remove` is deleted. Once more changes nothing. `Missing` where the
    /// user has none of this name.
    RevokeApiToken(UserId, String),
    /// Deletes an API token. `Missing` where the user has none of this name.
    DeleteApiToken(UserId, String),
    /// Notes in the audit that a service's tunnel was opened or closed, and changes nothing else.
    NoteTunnel(Box<TunnelNote>),
    /// Removes the entries of the audit up to this one, and leaves an entry that says so, from which the chain is followed.
    /// `Refused` where another entry, or none, is there, or none would stay.
    PruneAudit(Head),
    /// Adds a key of the issuer. `Exists` where the `kid` is taken.
    PutSigningKey(SigningKey),
    /// Refuses tokens of the key from then on; of two such times the earlier holds.
    RetireSigningKey(String, Timestamp),
    /// Replaces envelopes by others that open under another vault key. One that was changed since it was read is left
    /// alone.
    Reseal(Vec<Resealed>),
    /// Keeps a value beside the data.
    PutSetting(String, String),
    /// Makes all of these in order, each seeing those before it, or none: one revision, with an audit record for each that
    /// changes anything. The id that it leaves is the last that one of them leaves.
    Batch(Vec<Mutation>),
    /// Keeps a value beside the data unless one is kept under the name already: of two first runs only one is first.
    InitSetting(String, String),
}

/// An envelope and the one that takes its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Resealed {
    /// Whose envelope it is.
    pub of: Sealed,
    /// The envelope as it was read.
    pub from: Vec<u8>,
    /// The envelope to put there.
    pub to: Vec<u8>,
}

impl fmt::Debug for Resealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resealed").field("of", &self.of).finish_non_exhaustive()
    }
}

/// What an envelope belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A user's secret, by lower-case name.
    Secret(UserId, String),
    /// A user's password.
    Password(UserId),
    /// A signing key, by `kid`.
    SigningKey(String),
    /// A value beside the data, by its name: as the text that it is kept as.
    Setting(String),
}

/// What a change left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The revision that shows it; the one that was, when nothing changed.
    pub revision: Revision,
    /// The id of what was made, for changes that make a namespace, a service or a node.
    pub id: Option<ResourceId>,
}

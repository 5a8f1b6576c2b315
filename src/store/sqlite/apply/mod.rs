//! Each change, within the transaction that the writer opened.

mod api_tokens;
mod audit;
mod declare;
mod grants;
mod groups;
mod keys;
mod nodes;
mod quota;
mod secrets;
mod services;
mod users;

use rusqlite::{Connection, Params};
use serde_json::Value;

use super::audit::Entry;
use super::failure::failure;
use super::read;
use crate::policy::{GroupId, ResourceId, UserId};
use crate::store::{Group, Key, Mutation, StoreError, User, Withdrawal};

/// What a change did.
#[derive(Default)]
pub(super) struct Outcome {
    /// The keys under which something is different now.
    pub(super) touched: Vec<Key>,
    /// The audit's records; none: nothing changed, and no revision is made.
    pub(super) entries: Vec<Entry>,
    /// The id of what was made, or found as it should be.
    pub(super) id: Option<ResourceId>,
}

impl Outcome {
    /// Nothing was different before.
    fn unchanged() -> Self {
        Self::default()
    }

    /// Something is different now.
    fn changed(what: &'static str, target: impl Into<String>) -> Self {
        let entry = Entry { what, target: target.into(), before: None, after: None, resource: None };
        Self { entries: vec![entry], ..Self::default() }
    }

    fn touching(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.touched.extend(keys);
        self
    }

    /// The namespace or service that the change is about, where there is one.
    fn about(mut self, resource: impl Into<Option<ResourceId>>) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.resource = resource.into();
        }
        self
    }

    fn before(mut self, value: impl Into<Option<Value>>) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.before = value.into();
        }
        self
    }

    fn after(mut self, value: impl Into<Option<Value>>) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.after = value.into();
        }
        self
    }

    /// What both did together.
    fn and(mut self, next: Self) -> Self {
        self.touched.extend(next.touched);
        self.entries.extend(next.entries);
        Self { id: next.id.or(self.id), ..self }
    }

    fn with_id(mut self, id: ResourceId) -> Self {
        self.id = Some(id);
        self
    }
}

/// Makes the change. After an error the caller rolls back to where it was.
pub(super) fn apply(connection: &Connection, mutation: Mutation) -> Result<Outcome, StoreError> {
    use Mutation as M;
    match mutation {
        M::CreateUser(new) => users::create(connection, *new),
        M::CreateFirstUser(new) => users::create_first(connection, *new),
        M::UpdateUser(user) => users::update(connection, *user),
        M::SetRole { user, role } => users::set_role(connection, user, role),
        M::SetAdministrator { user, administrator } => users::set_administrator(connection, user, administrator),
        M::DisableUser { user, disabled, at } => users::disable(connection, user, disabled, at),
        M::SetPassword { user, password, by_self, replaces, at } => {
            users::set_password(connection, user, &password, (by_self, replaces), at)
        }
        M::ResetPassword { user, at } => users::reset_password(connection, user, at),
        M::Link { link, by_self } => users::link(connection, link, by_self),
        M::CreateGroup(group) => groups::create(connection, group),
        M::AddMember(group, user) => groups::add(connection, group, user),
        M::RemoveMember(group, user) => groups::remove(connection, group, user),
        M::PutGrant { grant, by, at } => grants::put(connection, grant, by, at),
        M::PutPart { grant, others, keeps, by, at } => grants::put_part(connection, grant, (&others, keeps), by, at),
        M::TakeLevels { subject, pattern, levels } => grants::take(connection, subject, pattern, levels),
        M::RemoveGrant(subject, pattern) => grants::remove(connection, subject, pattern),
        M::TransferOwner { resource, from, to, keep, at } => {
            services::transfer(connection, resource, (from, to), keep, at)
        }
        M::ReserveNamespace { name, owner } => services::reserve(connection, name, owner),
        M::PutService { namespace, name, replaces, owner, table } => {
            services::put(connection, &namespace, name, replaces, owner, table)
        }
        M::RenameService { id, to } => services::rename(connection, id, to),
        M::RemoveService(id) => services::remove(connection, id),
        M::RemoveNamespace(id) => services::remove_namespace(connection, id),
        M::CreateNode(node) => nodes::create(connection, *node),
        M::UpdateNode { id, name, props } => nodes::update(connection, id, name, props),
        M::RemoveNode(id) => nodes::remove(connection, id),
        M::DeclareServices(declared) => declare::declare(connection, &declared),
        M::PutSecrets(secrets) => secrets::put(connection, &secrets),
        M::DeleteSecret(user, name) => secrets::delete(connection, user, name),
        M::PutConsent(consent) => secrets::consent(connection, consent),
        M::FirstUse(consent) => secrets::first_use(connection, consent),
        M::WithdrawConsent { user, secret, service, at } => {
            secrets::withdraw(connection, Withdrawal { user, secret, service, at })
        }
        M::Batch(parts) => {
            parts.into_iter().try_fold(Outcome::unchanged(), |done, part| Ok(done.and(apply(connection, part)?)))
        }
        M::CreateApiToken(token) => api_tokens::create(connection, &token),
        M::RevokeApiToken(user, name) => api_tokens::revoke(connection, user, &name),
        M::DeleteApiToken(user, name) => api_tokens::delete(connection, user, &name),
        M::NoteTunnel(note) => Ok(audit::tunnel(*note)),
        M::PruneAudit(upto) => audit::prune(connection, upto),
        M::PutSigningKey(key) => keys::put(connection, &key),
        M::RetireSigningKey(kid, at) => keys::retire(connection, kid, at),
        M::Reseal(envelopes) => keys::reseal(connection, envelopes),
        M::PutSetting(name, value) => keys::set(connection, name, &value),
        M::InitSetting(name, value) => keys::init(connection, name, &value),
    }
}

/// Runs a statement that writes; how many rows it changed.
fn write(connection: &Connection, statement: &str, parameters: impl Params) -> Result<usize, StoreError> {
    connection.prepare_cached(statement).and_then(|mut prepared| prepared.execute(parameters)).map_err(failure)
}

/// The user, who must be there.
fn user(connection: &Connection, id: UserId) -> Result<User, StoreError> {
    read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.ok_or_else(|| missing("user", id))
}

/// The group, which must be there.
fn group(connection: &Connection, id: GroupId) -> Result<Group, StoreError> {
    read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.ok_or_else(|| missing("group", id))
}

fn missing(what: &'static str, name: impl ToString) -> StoreError {
    StoreError::Missing { what, name: name.to_string() }
}

fn exists(what: &'static str, name: impl ToString) -> StoreError {
    StoreError::Exists { what, name: name.to_string() }
}

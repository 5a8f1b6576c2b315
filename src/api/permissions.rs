//! `/permissions`: Carta's permissions of version 1 (`docs/API.md` §6).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::command::grants;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named};
use super::openapi::Barrier;
use super::role::{self, Role, SubjectKind};
use super::view::{Holder, Node, View, pattern};
use super::{Api, answer, warn};
use crate::policy::{Change, Grant, Levels, Permit, Snapshot, Subject, UserId};
use crate::proxy::why::Names;
use crate::store::Revision;

/// What a subject may do
///
/// As text, from all its grants, such as `Read, Execute`, or `None`. Everybody sees their own; the owner and the
/// administrators of the resource see others'.
#[utoipa::path(get, path = "/permissions/{id}/{subject}", tag = "permissions", params(Kind),
    responses(
        (status = 200, description = "the levels", body = String, content_type = "text/plain"),
        (status = 404, description = "there is no such resource, or no such subject"),
    ))]
pub(super) async fn get_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((id, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let now = Timestamp::now();
    let resource = find_resource(&view, &id)?;
    let kind = kind(&asked);
    let holder = kind.as_ref().ok().map(|kind| find_holder(&view, *kind, &subject)).transpose()?;
    let own = matches!(&holder, Some(Holder::User(account)) if account.id == caller.id());
    let permit =
        if own { Snapshot::permit_self(caller.id()) } else { may_administer(&view, caller.id(), &resource, now)? };
    let (_, Some(holder)) = (kind?, holder) else { return Err(Refusal::unknown("subject", &subject)) };
    let levels = resolved(&permit, &view, &holder, &resource, now);
    Ok(answer::text(role::text(levels)))
}

/// Give a role
///
/// Replaces the direct permission of the subject. `Owner` moves the ownership, which only the owner can do.
#[utoipa::path(put, path = "/permissions/{id}/{subject}", tag = "permissions", params(Kind, Given, Barrier),
    responses(
        (status = 200, description = "what the subject has now, directly", body = Entity),
        (status = 404, description = "there is no such resource, or no such subject"),
    ))]
pub(super) async fn set_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((id, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let (resource, holder, permit) = ask_to_change(&view, &caller, &id, &subject, &asked)?;
    let role = asked.value("role")?.ok_or_else(|| Refusal::input("must provide role through query"))?;
    let role = Role::parse(role)
        .ok_or_else(|| Refusal::input(format!("unknown role `{role}`\nwrite None, Guest, User, Editor or Owner")))?;
    let by = caller.actor()?;
    let owner = view.state.policy.owner(&resource.keys());
    let revision = match (&holder, role) {
        (Holder::User(account), Role::Owner) => {
            transfer(&api, &caller, permit, &resource, (owner, account.id), &view).await?
        }
        (_, Role::Owner) => return Err(Refusal::input("only a user can own a resource")),
        (Holder::User(account), role) => {
            spare_owner(&caller, owner, account.id)?;
            grants::give(&api, permit, by, &resource, Subject::User(account.id), role.levels()).await?
        }
        (Holder::Group(group), role) => {
            grants::give(&api, permit, by, &resource, Subject::Group(group.id), role.levels()).await?
        }
        (Holder::Namespace(with), role) => grants::share(&api, permit, by, &resource, with, role.levels()).await?,
    };
    let warnings = warnings(&view, &api.view(), &holder, &resource, role.levels());
    Ok(answer::written(revision, Json(Entity { warnings, ..entity(&holder, role.levels()) })))
}

/// What the new row does to names for which other rows of the subject answer.
fn warnings(before: &View, after: &View, holder: &Holder, resource: &Node, levels: Levels) -> Vec<String> {
    let names = Names { policy: &before.state.policy, directory: &before.state.directory };
    let subjects: Vec<Subject> = match holder {
        Holder::User(account) => vec![Subject::User(account.id)],
        Holder::Group(group) => vec![Subject::Group(group.id)],
        Holder::Namespace(with) => role::single(levels).map(|level| Subject::Holders(level, with.id)).collect(),
    };
    let change = |subject| Change::Grant(Grant { subject, pattern: resource.pattern(), levels, expires: None });
    let now = Timestamp::now();
    let of = |subject| warn::of(names, &after.state.policy, &change(subject), now, &|| true);
    subjects.into_iter().flat_map(of).collect()
}

/// Take a direct permission away
///
/// What was inherited is back.
#[utoipa::path(delete, path = "/permissions/{id}/{subject}", tag = "permissions", params(Kind, Barrier),
    responses(
        (status = 200, description = "the subject has none, directly", body = Entity),
        (status = 404, description = "there is no such resource, or no such subject"),
    ))]
pub(super) async fn delete_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((id, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let (resource, holder, permit) = ask_to_change(&view, &caller, &id, &subject, &asked)?;
    let by = caller.actor()?;
    let revision = match &holder {
        Holder::User(account) => {
            spare_owner(&caller, view.state.policy.owner(&resource.keys()), account.id)?;
            grants::take(&api, permit, by, &resource, Subject::User(account.id)).await?
        }
        Holder::Group(group) => grants::take(&api, permit, by, &resource, Subject::Group(group.id)).await?,
        Holder::Namespace(with) => grants::share(&api, permit, by, &resource, with, Levels::NONE).await?,
    };
    Ok(answer::written(revision, Json(entity(&holder, Levels::NONE))))
}

/// Direct permissions
///
/// Those of one kind of subject, the owner's among those of users; for who may administer the resource.
#[utoipa::path(get, path = "/permissions/{id}/users", tag = "permissions", params(Kind),
    responses(
        (status = 200, description = "the permissions", body = [Entity]),
        (status = 404, description = "there is no such resource"),
    ))]
pub(super) async fn list_permissions(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let now = Timestamp::now();
    let resource = find_resource(&view, &id)?;
    let permit = may_administer(&view, caller.id(), &resource, now)?;
    let held = direct(&permit, &view, &resource, kind(&asked)?, now);
    let listed: Vec<Entity<'_>> = held.iter().map(|(holder, levels)| entity(holder, *levels)).collect();
    Ok(Json(listed).into_response())
}

/// What every change asks first, in the order of the contract: 404 for resource and subject, 403, then 400.
fn ask_to_change(
    view: &View,
    caller: &Caller,
    id: &str,
    subject: &str,
    asked: &Asked,
) -> Result<(Node, Holder, Permit), Refusal> {
    let resource = find_resource(view, id)?;
    let kind = kind(asked);
    let holder = kind.as_ref().ok().map(|kind| find_holder(view, *kind, subject)).transpose()?;
    let permit = may_administer(view, caller.id(), &resource, Timestamp::now())?;
    match (kind?, holder) {
        (_, Some(holder)) => Ok((resource, holder, permit)),
        (_, None) => Err(Refusal::unknown("subject", subject)),
    }
}

fn find_resource(view: &View, id: &str) -> Result<Node, Refusal> {
    view.node(id).ok_or_else(|| Refusal::unknown("resource", id))
}

/// The kind that the query names; without one, a user.
fn kind(asked: &Asked) -> Result<SubjectKind, Refusal> {
    let Some(text) = asked.value("userType")? else { return Ok(SubjectKind::User) };
    SubjectKind::parse(text).ok_or_else(|| {
        Refusal::input(format!(
            "unknown userType `{text}`\nwrite User, UserGroup, NamespaceItem, ProjectItem, WorkflowItem or WorkspaceItem"
        ))
    })
}

/// The subject by id or name; an id wins.
fn find_holder(view: &View, kind: SubjectKind, text: &str) -> Result<Holder, Refusal> {
    let found = match kind {
        SubjectKind::User => view.user(text).map(Holder::User),
        SubjectKind::UserGroup => view.group(text).map(Holder::Group),
        SubjectKind::Namespace => view.namespace(text).map(Holder::Namespace),
        SubjectKind::Other(_) => None,
    };
    found.ok_or_else(|| Refusal::unknown("subject", text))
}

fn may_administer(view: &View, user: UserId, resource: &Node, now: Timestamp) -> Result<Permit, Refusal> {
    let keys = resource.keys();
    view.state.policy.may_administer(user, &keys, now).map_err(|denied| Refusal::denied(view, &keys, &denied))
}

/// Moves the ownership: by the owner only, who keeps the other flags.
async fn transfer(
    api: &Api,
    caller: &Caller,
    permit: Permit,
    resource: &Node,
    (owner, to): (Option<UserId>, UserId),
    view: &View,
) -> Result<Revision, Refusal> {
    if owner == Some(to) {
        return Ok(Revision(view.state.revision));
    }
    if owner != Some(caller.id()) {
        return Err(Refusal::forbidden("only the owner can make somebody else the owner"));
    }
    grants::transfer(api, permit, caller.actor()?, resource, caller.id(), to).await
}

/// The owner's entry is the ownership: an administrator of the resource may not touch it, and the owner must not.
fn spare_owner(caller: &Caller, owner: Option<UserId>, subject: UserId) -> Result<(), Refusal> {
    if owner != Some(subject) {
        return Ok(());
    }
    if caller.id() == subject {
        return Err(Refusal::input("a resource needs exactly one owner\nmake somebody else the owner first"));
    }
    Err(Refusal::forbidden("the owner's permission cannot be changed by anybody else"))
}

/// The entries of that kind on exactly the resource, the owner's first.
fn direct(_: &Permit, view: &View, resource: &Node, kind: SubjectKind, now: Timestamp) -> Vec<(Holder, Levels)> {
    let owner = view.state.policy.owner(&resource.keys()).filter(|_| kind == SubjectKind::User);
    let mut held: Vec<(Holder, Levels)> = Vec::new();
    if let Some(account) = owner.and_then(|owner| view.state.directory.by_id(owner)) {
        held.push((Holder::User(account.clone()), Levels::ALL));
    }
    for grant in view.state.policy.grants_on(&resource.pattern()) {
        if grant.expires.is_some_and(|end| end <= now) {
            continue;
        }
        let holder = match (&grant.subject, kind) {
            (Subject::User(id), SubjectKind::User) if owner != Some(*id) => {
                view.state.directory.by_id(*id).cloned().map(Holder::User)
            }
            (Subject::Group(id), SubjectKind::UserGroup) => view.state.directory.group(*id).cloned().map(Holder::Group),
            (Subject::Holders(_, id), SubjectKind::Namespace) => {
                view.catalog.namespace_of(*id).cloned().map(Holder::Namespace)
            }
            _ => None,
        };
        let Some(holder) = holder else { continue };
        // A share is a row for each level.
        match held.iter_mut().find(|(known, _)| id_of(known) == id_of(&holder)) {
            Some((_, levels)) => *levels |= grant.levels,
            None => held.push((holder, grant.levels)),
        }
    }
    held
}

/// What the subject holds on the resource: a user with all that reaches the user, others by their nearest entry.
fn resolved(_: &Permit, view: &View, holder: &Holder, resource: &Node, now: Timestamp) -> Levels {
    let keys = resource.keys();
    match holder {
        Holder::User(account) => view.state.policy.levels(account.id, &keys, now),
        Holder::Group(group) => nearest(view, &Subject::Group(group.id), &keys, now),
        Holder::Namespace(with) => role::single(Levels::ALL)
            .map(|level| nearest(view, &Subject::Holders(level, with.id), &keys, now))
            .fold(Levels::NONE, |all, levels| all | levels),
    }
}

/// What the subject was given on the resource or, where that is nothing, on what is above it.
fn nearest(view: &View, subject: &Subject, keys: &[&str], now: Timestamp) -> Levels {
    (1..=keys.len())
        .rev()
        .filter_map(|length| keys.get(..length))
        .filter_map(|keys| view.state.policy.grant_of(subject, &pattern(keys)))
        .find(|grant| grant.expires.is_none_or(|end| end > now))
        .map_or(Levels::NONE, |grant| grant.levels)
}

fn id_of(holder: &Holder) -> uuid::Uuid {
    match holder {
        Holder::User(account) => account.id.0,
        Holder::Group(group) => group.id.0,
        Holder::Namespace(namespace) => namespace.id.0,
    }
}

/// Carta's PermissionEntity: what a subject has directly.
#[derive(Serialize, ToSchema)]
#[schema(as = PermissionEntity)]
#[serde(rename_all = "camelCase")]
struct Entity<'a> {
    /// The subject's id.
    id: uuid::Uuid,
    /// The subject's name, so that it can be passed back.
    user_id: &'a str,
    /// The subject's kind.
    user_type: &'static str,
    /// `None`, or levels joined by comma and blank: `Read, Write, Execute, Clone, Admin`.
    permission: String,
    /// Names for which the change makes another grant answer than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

/// What kind of thing the subject is.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `kind` reads")]
struct Kind {
    /// `User` where it is left out.
    #[param(nullable = false, pattern = "^(User|UserGroup|NamespaceItem|ProjectItem|WorkflowItem|WorkspaceItem)?$")]
    user_type: Option<String>,
}

/// What to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `set_permission` reads")]
struct Given {
    /// A name for a set of levels; `None` is a refusal.
    #[param(pattern = "^(None|Guest|User|Editor|Owner)$")]
    role: String,
}

fn entity(holder: &Holder, levels: Levels) -> Entity<'_> {
    let (name, kind) = match holder {
        Holder::User(account) => (&*account.name, SubjectKind::User),
        Holder::Group(group) => (group.name.as_str(), SubjectKind::UserGroup),
        Holder::Namespace(namespace) => (namespace.name.as_str(), SubjectKind::Namespace),
    };
    Entity {
        id: id_of(holder),
        user_id: name,
        user_type: kind.word(),
        permission: role::text(levels),
        warnings: Vec::new(),
    }
}

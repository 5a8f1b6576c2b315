//! `/permissions`: Carta's permissions of version 1 (`docs/API.md` §6).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use jiff::Timestamp;
use utoipa::IntoParams;

use super::access::{held, may_administer, shown_name};
use super::command::grants;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named};
use super::item::{Entity, Item, TYPES};
use super::node::Node;
use super::openapi::Barrier;
use super::owner::{only_users_own, owners_entry, spare_owner, transfer};
use super::paging::{Entries, Page, Wanted};
use super::reach::{self, TooLong};
use super::role::{self, Role, SubjectKind};
use super::subject::{Kind, find_subject, kind, known};
use super::tier::Tiers;
use super::view::View;
use super::{Api, answer, warn};
use crate::policy::{Change, Denied, Levels, Permit, Snapshot};
use crate::proxy::why::Names;
use crate::store::Mutation;

/// Types of resource
#[utoipa::path(get, path = "/permissions/resources", tag = "permissions",
    responses(
        (status = 200, description = "the six of them", body = [String]),
    ))]
pub(super) async fn list_types(_: Caller) -> Json<[&'static str; 6]> {
    Json(TYPES)
}

/// Resources of a type
///
/// Those that the caller has any flag on, by name; with `userId` those of that user, for administrators of the platform.
#[utoipa::path(get, path = "/permissions/resources/{type}", tag = "permissions", params(About, Page),
    responses(
        (status = 200, description = "the resources", body = [Item]),
        (status = 404, description = "there is no such type, or no such user"),
    ))]
pub(super) async fn list_resources(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(kind): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let kind = kind_of_resource(&kind)?;
    let may = |view: Arc<View>| {
        let from: Node = match asked.value("userId")? {
            Some(user) => {
                let account = view.user(user).ok_or_else(|| Refusal::unknown("user", user))?;
                if account.id != caller.id() && !view.is_administrator(caller.id()) {
                    let detail = "about somebody else only administrators of the platform may ask\nask one of them";
                    return Err(Refusal::forbidden(detail));
                }
                account.into()
            }
            None => caller.identity.account.clone().into(),
        };
        Ok((view, from, Wanted::read(&asked)?))
    };
    let items = api.clone();
    let list = reach::apart(&api, &caller, may, move |(view, from, wanted), mut deadline| {
        let now = Timestamp::now();
        let shown = |levels, _| role::text(levels) != role::text(Levels::NONE);
        let found = reach::reached(&view, &from, kind, now, shown, &mut deadline)?;
        wanted.of(&found, |one| {
            deadline.goes_on()?;
            Ok(Item::of(&items, &one.node, kind, one.levels))
        })
    });
    Ok(list.await?.answer(uri.path(), &asked))
}

/// A resource of a type
///
/// For who has any flag on it.
#[utoipa::path(get, path = "/permissions/resources/{type}/{id}", tag = "permissions",
    responses(
        (status = 200, description = "the resource", body = Item),
        (status = 404, description = "there is no such resource of that type"),
    ))]
pub(super) async fn show_resource(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((kind, id)): Named<(String, String)>,
) -> Result<Json<Item>, Refusal> {
    let view = api.view();
    let kind = kind_of_resource(&kind)?;
    let node = view.node(&id).filter(|node| node.is(kind)).ok_or_else(|| Refusal::unknown(kind, &id))?;
    let me = Node::from(caller.identity.account.clone());
    let (levels, _) = held(&view, &me, &node, Timestamp::now());
    if role::text(levels) == role::text(Levels::NONE) {
        let denied = Denied { user: caller.id(), need: Levels::READ, held: levels, owner: view.owner(&node) };
        return Err(Refusal::denied_on(&view, &node, &denied));
    }
    Ok(Json(Item::of(&api, &node, kind, levels)))
}

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
    let on = find_resource(&view, &id)?;
    let (_, _, levels) = look(&view, &caller, &on, &subject, &asked)?;
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
    let on = find_resource(&view, &id)?;
    set(&api, &view, &caller, &on, &subject, &asked).await
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
    let on = find_resource(&view, &id)?;
    remove(&api, &view, &caller, &on, &subject, &asked).await
}

/// Direct permissions
///
/// Those of one kind of subject, the owner's among those of users; for who may administer the resource.
#[utoipa::path(get, path = "/permissions/{id}/users", tag = "permissions", params(Kind, Page),
    responses(
        (status = 200, description = "the permissions", body = [Entity]),
        (status = 404, description = "there is no such resource"),
    ))]
pub(super) async fn list_permissions(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    Ok(list(&api, &caller, |view| find_resource(view, &id), &asked).await?.answer(uri.path(), &asked))
}

/// The subject, and what it holds on the node.
pub(super) fn look(
    view: &View,
    caller: &Caller,
    on: &Node,
    subject: &str,
    asked: &Asked,
) -> Result<(SubjectKind, Node, Levels), Refusal> {
    let now = Timestamp::now();
    let kind = kind(asked);
    let from = find_subject(view, caller, &kind, subject)?;
    let own = matches!(&from, Some(Ok(node)) if node.user() == Some(caller.id()));
    let Permit { .. } =
        if own { Snapshot::permit_self(caller.id()) } else { may_administer(view, caller.id(), on, now)? };
    let (kind, from) = known(kind, from)?;
    let (levels, _) = held(view, &from, on, now);
    Ok((kind, from, levels))
}

/// Replaces the direct permission of the subject by what the role gives.
pub(super) async fn set(
    api: &Api,
    view: &View,
    caller: &Caller,
    on: &Node,
    subject: &str,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let (kind, from, permit) = ask_to_change(view, caller, on, subject, asked)?;
    let owns = from.user().is_some() && from.user() == view.owner(on);
    // That the owner is the owner changes nothing; anything else is not asked of what was sent.
    if owns && from.user() != Some(caller.id()) && !matches!(asked.value("role"), Ok(Some("Owner"))) {
        return Err(owners_entry());
    }
    let role = asked.value("role")?.ok_or_else(|| Refusal::input("must provide role through query"))?;
    let role = Role::parse(role)
        .ok_or_else(|| Refusal::input(format!("unknown role `{role}`\nwrite None, Guest, User, Editor or Owner")))?;
    let by = caller.actor()?;
    let mut tiers = Tiers::of_role(&from, role.levels());
    let mut warnings = Vec::new();
    let revision = match (from.user(), role) {
        (Some(user), Role::Owner) => {
            tiers = Tiers { owner: true, ..Tiers::default() };
            transfer(api, caller, permit, on, (user, &from, tiers), view).await?
        }
        (None, Role::Owner) => return Err(only_users_own()),
        (user, _) => {
            spare_owner(view, caller, on, user)?;
            let (revision, changes) = grants::set(api, permit, by, &from, on, tiers).await?;
            warnings = warned(view, &api.view(), &changes);
            revision
        }
    };
    Ok(answer::written(revision, Json(entity(view, caller, &from, &kind, role.levels()).warning(warnings))))
}

/// Takes away the direct permission of the subject.
pub(super) async fn remove(
    api: &Api,
    view: &View,
    caller: &Caller,
    on: &Node,
    subject: &str,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let (kind, from, permit) = ask_to_change(view, caller, on, subject, asked)?;
    let by = caller.actor()?;
    spare_owner(view, caller, on, from.user())?;
    let revision = grants::take(api, permit, by, &from, on).await?;
    Ok(answer::written(revision, Json(entity(view, caller, &from, &kind, Levels::NONE))))
}

/// The direct permissions of that kind of subject on the node, which `find` finds.
pub(super) async fn list(
    api: &Api,
    caller: &Caller,
    find: impl Fn(&View) -> Result<Node, Refusal>,
    asked: &Asked,
) -> Result<Entries<Entity>, Refusal> {
    let may = |view: Arc<View>| {
        let (on, now) = (find(&view)?, Timestamp::now());
        let permit = may_administer(&view, caller.id(), &on, now)?;
        Ok((view, on, now, permit, kind(asked)?, Wanted::read(asked)?))
    };
    let me = Node::from(caller.identity.account.clone());
    let list = reach::apart(api, caller, may, move |(view, on, now, permit, kind, wanted), mut deadline| {
        let found = direct(&permit, &view, &on, kind.label(), now, &mut deadline)?;
        let levels = |tiers: &Tiers| if tiers.owner { Levels::ALL } else { tiers.user };
        wanted.of(&found, |(from, tiers)| {
            deadline.goes_on()?;
            Ok(Entity::of(from, shown_name(&view, &me, from, now), kind.word(), levels(tiers)))
        })
    });
    list.await
}

/// What the subject has, as the caller may see it.
pub(super) fn entity(view: &View, caller: &Caller, from: &Node, kind: &SubjectKind, levels: Levels) -> Entity {
    let me = Node::from(caller.identity.account.clone());
    Entity::of(from, shown_name(view, &me, from, Timestamp::now()), kind.word(), levels)
}

/// The entries of nodes with that label on exactly the node, the owner's among them, by name.
pub(super) fn direct(
    _: &Permit,
    view: &View,
    on: &Node,
    label: &str,
    now: Timestamp,
    deadline: &mut reach::Deadline,
) -> Result<Vec<(Node, Tiers)>, TooLong> {
    let owner = view.owner(on);
    let mut rows = Tiers::all_on(&view.state.policy, &on.pattern());
    if let Some(owner) = owner {
        rows.entry(crate::policy::ResourceId(owner.0)).or_default();
    }
    let mut found = Vec::new();
    for (id, rows) in rows {
        deadline.goes_on()?;
        let Some(from) = view.node_of(id).filter(|from| from.is(label)) else { continue };
        let owns = from.user().is_some() && from.user() == owner;
        let tiers = Tiers::of_rows(&from, &rows, now);
        if let Some(tiers) = tiers.or_else(|| owns.then(Tiers::default)) {
            found.push((from, Tiers { owner: owns, ..tiers }));
        }
    }
    found.sort_by(|(one, _), (other, _)| (one.name(), one.id()).cmp(&(other.name(), other.id())));
    Ok(found)
}

/// What the new rows do to names for which other rows of the subject answer.
fn warned(before: &View, after: &View, changes: &[Mutation]) -> Vec<String> {
    let names = Names { policy: &before.state.policy, directory: &before.state.directory };
    let now = Timestamp::now();
    let given = changes.iter().filter_map(|change| match change {
        Mutation::PutGrant { grant, .. } => Some(Change::Grant(grant.clone())),
        Mutation::PutPart { grant, .. } if !grant.levels.is_empty() => Some(Change::Grant(grant.clone())),
        _ => None,
    });
    given.flat_map(|change| warn::of(names, &after.state.policy, &change, now, &|| true)).collect()
}

/// What every change asks first, in the order of the contract: 404 for the subject (the resource was found), 403, then 400.
fn ask_to_change(
    view: &View,
    caller: &Caller,
    on: &Node,
    subject: &str,
    asked: &Asked,
) -> Result<(SubjectKind, Node, Permit), Refusal> {
    let kind = kind(asked);
    let from = find_subject(view, caller, &kind, subject)?;
    let permit = may_administer(view, caller.id(), on, Timestamp::now())?;
    let (kind, from) = known(kind, from)?;
    Ok((kind, from, permit))
}

fn find_resource(view: &View, id: &str) -> Result<Node, Refusal> {
    view.node(id).ok_or_else(|| Refusal::unknown("resource", id))
}

fn kind_of_resource(text: &str) -> Result<&'static str, Refusal> {
    TYPES.into_iter().find(|kind| *kind == text).ok_or_else(|| Refusal::unknown("type of resource", text))
}

/// What to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `set_permission` reads")]
pub(super) struct Given {
    /// A name for a set of levels; `None` is a refusal.
    #[param(pattern = "^(None|Guest|User|Editor|Owner)$")]
    role: String,
}

/// About whom.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `list_resources` reads")]
pub(super) struct About {
    /// A user, by id or name; the caller where it is left out.
    #[param(nullable = false)]
    user_id: Option<String>,
}

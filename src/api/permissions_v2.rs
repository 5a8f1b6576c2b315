//! `/v2/permissions`: Carta's permissions of version 2, from one node to another (`docs/API.md` §7).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{find, held, may_administer, shown_name};
use super::answer::Done;
use super::command::grants;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named, Sent};
use super::node::Node;
use super::openapi::Barrier;
use super::owner::{only_users_own, owners_entry, spare_owner, transfer};
use super::paging::{self, Page, Wanted};
use super::permissions::direct;
use super::reach::{self, Reached};
use super::tier::{Flags, PermissionSet, Tiers};
use super::view::View;
use super::{Api, answer};
use crate::policy::{Permit, Snapshot};

/// What a node holds on another
///
/// By whatever ways. `self` is what stands for the caller.
#[utoipa::path(get, path = "/v2/permissions/{from}/{to}", tag = "permissions",
    responses(
        (status = 200, description = "the flags", body = Flags),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn get_flags(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((from, to)): Named<(String, String)>,
) -> Result<Json<Flags>, Refusal> {
    let view = api.view();
    let (from, to) = (find(&view, &caller, &from)?, find(&view, &caller, &to)?);
    let Permit { .. } = may_look(&view, &caller, &from, &to)?;
    let (levels, owner) = held(&view, &from, &to, Timestamp::now());
    Ok(Json(Flags::of(levels, owner)))
}

/// What a node was given on another
///
/// All false where nothing was.
#[utoipa::path(get, path = "/v2/permissions/{from}/{to}/direct", tag = "permissions",
    responses(
        (status = 200, description = "the set", body = PermissionSet),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn get_tiers(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((from, to)): Named<(String, String)>,
) -> Result<Json<PermissionSet>, Refusal> {
    let view = api.view();
    let (from, to) = (find(&view, &caller, &from)?, find(&view, &caller, &to)?);
    let permit = may_look(&view, &caller, &from, &to)?;
    Ok(Json(given(&permit, &view, &from, &to).set()))
}

/// Replace what a node was given
///
/// `owner` in `user` moves the ownership, which only the owner can do. A set without any flag leaves a refusal standing.
#[utoipa::path(put, path = "/v2/permissions/{from}/{to}", tag = "permissions", params(Barrier), request_body = PermissionSet,
    responses(
        (status = 200, description = "what is kept", body = PermissionSet),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn set_tiers(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((from, to)): Named<(String, String)>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let may_set = || {
        let view = api.view();
        let (from, to) = (find(&view, &caller, &from)?, find(&view, &caller, &to)?);
        let permit = may_administer(&view, caller.id(), &to, Timestamp::now())?;
        if view.owner(&to) == from.user() && from.user().is_some_and(|owner| owner != caller.id()) {
            return Err(owners_entry());
        }
        Ok::<_, Refusal>((view, from, to, permit))
    };
    let (body, (view, from, to, permit)) = sent.object_where(&api, &caller, may_set).await?;
    let tiers = Tiers::parse(&body)?;
    let revision = match from.user().filter(|_| tiers.owner) {
        None if tiers.owner => return Err(only_users_own()),
        Some(user) if view.owner(&to) != Some(user) => {
            transfer(&api, &caller, permit, &to, (user, &from, tiers), &view).await?
        }
        // The owner's own levels are no grant; what they pass on is.
        Some(_) => grants::set(&api, permit, caller.actor()?, &from, &to, tiers).await?.0,
        None => {
            spare_owner(&view, &caller, &to, from.user())?;
            grants::set(&api, permit, caller.actor()?, &from, &to, tiers).await?.0
        }
    };
    // What was set is told to who set it, whatever the change made of their right to ask again.
    let kept = given(&Snapshot::permit_self(caller.id()), &api.view(), &from, &to);
    Ok(answer::written(revision, Json(kept.set())))
}

/// Take away what a node was given
///
/// A refusal, too.
#[utoipa::path(delete, path = "/v2/permissions/{from}/{to}", tag = "permissions", params(Barrier),
    responses(
        (status = 200, description = "gone", body = Done),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn delete_tiers(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((from, to)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let (from, to) = (find(&view, &caller, &from)?, find(&view, &caller, &to)?);
    let permit = may_administer(&view, caller.id(), &to, Timestamp::now())?;
    spare_owner(&view, &caller, &to, from.user())?;
    let revision = grants::take(&api, permit, caller.actor()?, &from, &to).await?;
    Ok(answer::done(revision))
}

/// Labels of what a node holds
///
/// Of all that it holds a flag on, each once.
#[utoipa::path(get, path = "/v2/permissions/{from}/labels", tag = "permissions", params(Page),
    responses(
        (status = 200, description = "the labels", body = [String]),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn list_labels(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(from): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let may = |view: Arc<View>| {
        let from = find(&view, &caller, &from)?;
        let permit = may_list(&view, &caller, &from)?;
        Ok((view, from, permit))
    };
    let found = reach::apart(&api, &caller, may, |(view, from, Permit { .. }), mut deadline| {
        reach::labels(&view, &from, Timestamp::now(), Flags::any, &mut deadline)
    });
    let found: Vec<String> = found.await?.into_iter().collect();
    paging::listed(&found, |label| label, uri.path(), &asked)
}

/// What a node holds a flag on
///
/// Those with that label, by name.
#[utoipa::path(get, path = "/v2/permissions/{from}/resources/{label}", tag = "permissions", params(Page),
    responses(
        (status = 200, description = "the nodes, with what is held on each", body = [Held]),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn list_resources(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((from, label)): Named<(String, String)>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let may = |view: Arc<View>| {
        let from = find(&view, &caller, &from)?;
        let permit = may_list(&view, &caller, &from)?;
        Ok((view, from, permit, Wanted::read(&asked)?))
    };
    let list = reach::apart(&api, &caller, may, move |(view, from, Permit { .. }, wanted), mut deadline| {
        let found = reach::reached(&view, &from, &label, Timestamp::now(), Flags::any, &mut deadline)?;
        wanted.of(&found, |one| deadline.goes_on().map(|()| Held::of(one)))
    });
    Ok(list.await?.answer(uri.path(), &asked))
}

/// Who was given something on a node
///
/// Here `from` is the resource, and the label is that of those to whom something was given on it.
#[utoipa::path(get, path = "/v2/permissions/{from}/access/{label}", tag = "permissions", params(Page),
    responses(
        (status = 200, description = "the nodes, with what was given to each", body = [Accessor]),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn list_accessors(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((on, label)): Named<(String, String)>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let may = |view: Arc<View>| {
        let on = find(&view, &caller, &on)?;
        let now = Timestamp::now();
        let permit = may_administer(&view, caller.id(), &on, now)?;
        Ok((view, on, now, permit, Wanted::read(&asked)?))
    };
    let me = Node::from(caller.identity.account.clone());
    let list = reach::apart(&api, &caller, may, move |(view, on, now, permit, wanted), mut deadline| {
        let found = direct(&permit, &view, &on, &label, now, &mut deadline)?;
        wanted.of(&found, |(from, tiers)| {
            deadline.goes_on()?;
            Ok(Accessor::of(from, shown_name(&view, &me, from, now), *tiers))
        })
    });
    Ok(list.await?.answer(uri.path(), &asked))
}

/// A node that something is held on: Carta's ResourcePermission.
#[derive(Serialize, ToSchema)]
#[schema(as = ResourcePermission)]
pub(super) struct Held {
    id: Uuid,
    name: String,
    permission: Flags,
}

/// A node that was given something: Carta's AccessPermission.
#[derive(Serialize, ToSchema)]
#[schema(as = AccessPermission)]
pub(super) struct Accessor {
    id: Uuid,
    name: String,
    permission: PermissionSet,
}

impl Held {
    fn of(one: &Reached) -> Self {
        let permission = Flags::of(one.levels, one.owner);
        Self { id: one.node.id().0, name: one.node.name().to_owned(), permission }
    }
}

impl Accessor {
    fn of(from: &Node, name: String, tiers: Tiers) -> Self {
        Self { id: from.id().0, name, permission: tiers.set() }
    }
}

/// What was given to `from` on exactly `to`, ownership among it.
fn given(_: &Permit, view: &View, from: &Node, to: &Node) -> Tiers {
    let given = Tiers::direct(&view.state.policy, from, &to.pattern(), Timestamp::now()).unwrap_or_default();
    Tiers { owner: from.user().is_some() && view.owner(to) == from.user(), ..given }
}

/// Everybody looks at what they hold; at what others hold on it, who administers it.
fn may_look(view: &View, caller: &Caller, from: &Node, to: &Node) -> Result<Permit, Refusal> {
    if from.user() == Some(caller.id()) {
        return Ok(Snapshot::permit_self(caller.id()));
    }
    may_administer(view, caller.id(), to, Timestamp::now())
}

/// Everybody lists what they hold; what others hold, who administers those, and administrators of the platform.
fn may_list(view: &View, caller: &Caller, from: &Node) -> Result<Permit, Refusal> {
    if view.is_administrator(caller.id()) {
        return Ok(Snapshot::permit_self(caller.id()));
    }
    may_administer(view, caller.id(), from, Timestamp::now())
}

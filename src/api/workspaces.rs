//! `/workspace`: workspaces, as records that can be shared (`docs/API.md` §17). They go by id or by name.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use jiff::Timestamp;
use serde_json::json;

use super::access::{held, permit};
use super::answer::Done;
use super::command::nodes;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named};
use super::item::{Entity, Item};
use super::node::{Node, Thing};
use super::openapi::Barrier;
use super::paging::{Page, Wanted};
use super::permissions::Given;
use super::records::{made, need_text, new};
use super::role;
use super::subject::Kind;
use super::view::View;
use super::{Api, answer, permissions, reach};
use crate::policy::{Denied, Levels, Snapshot};
use crate::store::{Node as Record, NodeKind};

/// The kind of record, as a label.
const WORKSPACE: &str = "Workspace";

/// Workspaces
///
/// Those that the caller holds any flag on, by name.
#[utoipa::path(get, path = "/workspace", tag = "records", params(Page),
    responses(
        (status = 200, description = "the workspaces", body = [Item]),
    ))]
pub(super) async fn list_workspaces(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, Refusal> {
    let me = Node::from(caller.identity.account.clone());
    let (may, items) = (|view| Ok((view, Wanted::read(&asked)?)), api.clone());
    let list = reach::apart(&api, &caller, may, move |(view, wanted): (Arc<View>, Wanted), mut deadline| {
        let shown = |levels, _| role::text(levels) != role::text(Levels::NONE);
        let mut found = reach::reached(&view, &me, WORKSPACE, Timestamp::now(), shown, &mut deadline)?;
        found.retain(|one| is_workspace(&one.node));
        wanted.of(&found, |one| {
            deadline.goes_on()?;
            Ok(Item::of(&items, &one.node, WORKSPACE, one.levels))
        })
    });
    Ok(list.await?.answer("/workspace", &asked))
}

/// Make a workspace
///
/// Here `workspace` is its name. Anybody may, and then owns it; a name that is taken is a 400.
#[utoipa::path(post, path = "/workspace/{workspace}", tag = "records", params(Barrier),
    responses(
        (status = 200, description = "the workspace", body = Item),
    ))]
pub(super) async fn create_workspace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, Refusal> {
    let name = need_text(&json!({"name": name}), "name")?;
    if uuid::Uuid::try_parse(&name).is_ok() {
        let detail = format!("`{name}` reads as an id\nchoose a name that does not");
        return Err(Refusal::input(detail));
    }
    if api.view().catalog.shelf().workspace(&name).is_some() {
        return Err(Refusal::duplicate("workspace", &name));
    }
    let record = Record { name, props: json!({"archived": false}).to_string(), ..new(NodeKind::Workspace) };
    let (node, revision) = made(&api, Snapshot::permit_self(caller.id()), &caller, record).await?;
    Ok(answer::written(revision, Json(Item::of(&api, &node, WORKSPACE, Levels::ALL))))
}

/// A workspace
///
/// For who holds any flag on it.
#[utoipa::path(get, path = "/workspace/{workspace}", tag = "records",
    responses(
        (status = 200, description = "the workspace", body = Item),
        (status = 404, description = "there is no such workspace"),
    ))]
pub(super) async fn show_workspace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(workspace): Named<String>,
) -> Result<Json<Item>, Refusal> {
    let view = api.view();
    let node = find(&view, &workspace)?;
    let (levels, _) = held(&view, &Node::from(caller.identity.account.clone()), &node, Timestamp::now());
    if role::text(levels) == role::text(Levels::NONE) {
        let denied = Denied { user: caller.id(), need: Levels::READ, held: levels, owner: view.owner(&node) };
        return Err(Refusal::denied_on(&view, &node, &denied));
    }
    Ok(Json(Item::of(&api, &node, WORKSPACE, levels)))
}

/// Delete a workspace
///
/// For who holds admin on it.
#[utoipa::path(delete, path = "/workspace/{workspace}", tag = "records", params(Barrier),
    responses(
        (status = 200, description = "gone", body = Done),
        (status = 404, description = "there is no such workspace"),
    ))]
pub(super) async fn delete_workspace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(workspace): Named<String>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let node = find(&view, &workspace)?;
    let permit = permit(&view, caller.id(), &node, Levels::ADMIN, Timestamp::now())?;
    let revision = nodes::remove(&api, permit, caller.actor()?, node.id()).await?;
    Ok(answer::done(revision))
}

/// Direct permissions on a workspace
///
/// Those of one kind of subject; for who may administer it.
#[utoipa::path(get, path = "/workspace/{workspace}/permissions/users", tag = "records", params(Kind, Page),
    responses(
        (status = 200, description = "the permissions", body = [Entity]),
        (status = 404, description = "there is no such workspace"),
    ))]
pub(super) async fn list_workspace_permissions(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(workspace): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    Ok(permissions::list(&api, &caller, |view| find(view, &workspace), &asked).await?.answer(uri.path(), &asked))
}

/// What a subject may do with a workspace
///
/// From all its grants.
#[utoipa::path(get, path = "/workspace/{workspace}/permissions/user/{subject}", tag = "records", params(Kind),
    responses(
        (status = 200, description = "what it holds", body = Entity),
        (status = 404, description = "there is no such workspace, or no such subject"),
    ))]
pub(super) async fn get_workspace_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((workspace, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Json<Entity>, Refusal> {
    let view = api.view();
    let node = find(&view, &workspace)?;
    let (kind, from, levels) = permissions::look(&view, &caller, &node, &subject, &asked)?;
    Ok(Json(permissions::entity(&view, &caller, &from, &kind, levels)))
}

/// Give a role on a workspace
///
/// Replaces the direct permission of the subject.
#[utoipa::path(put, path = "/workspace/{workspace}/permissions/user/{subject}", tag = "records", params(Kind, Given, Barrier),
    responses(
        (status = 200, description = "what the subject has now, directly", body = Entity),
        (status = 404, description = "there is no such workspace, or no such subject"),
    ))]
pub(super) async fn set_workspace_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((workspace, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let node = find(&view, &workspace)?;
    permissions::set(&api, &view, &caller, &node, &subject, &asked).await
}

/// Take a permission on a workspace away
///
/// What was inherited is back.
#[utoipa::path(delete, path = "/workspace/{workspace}/permissions/user/{subject}", tag = "records", params(Kind, Barrier),
    responses(
        (status = 200, description = "the subject has none, directly", body = Entity),
        (status = 404, description = "there is no such workspace, or no such subject"),
    ))]
pub(super) async fn delete_workspace_permission(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((workspace, subject)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let node = find(&view, &workspace)?;
    permissions::remove(&api, &view, &caller, &node, &subject, &asked).await
}

/// The workspace by id or name; an id wins.
fn find(view: &View, text: &str) -> Result<Node, Refusal> {
    if let Some(node) = view.node(text).filter(is_workspace) {
        return Ok(node);
    }
    let named = view.catalog.shelf().workspace(text).cloned().map(Node::from);
    named.ok_or_else(|| Refusal::unknown("workspace", text))
}

fn is_workspace(node: &Node) -> bool {
    matches!(&node.thing, Thing::Record(record) if record.kind == NodeKind::Workspace)
}

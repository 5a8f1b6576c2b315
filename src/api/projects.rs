//! `/project`: projects and their connections, as records that can be shared (`docs/API.md` §17). No bucket is made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::access::permit;
use super::answer::Done;
use super::command::nodes;
use super::error::Refusal;
use super::extract::{Caller, Named, Sent};
use super::item::{Item, NativeId};
use super::node::{Node, Thing};
use super::openapi::Barrier;
use super::records::{made, need_text, needed_name, new, read_text};
use super::view::View;
use super::{Api, answer};
use crate::policy::{Levels, Snapshot};
use crate::store::{Node as Record, NodeKind};

/// Make a project
///
/// Anybody may, and then owns it. No bucket is made.
#[utoipa::path(post, path = "/project", tag = "records", params(Barrier), request_body = NewProject,
    responses(
        (status = 200, description = "the project", body = Item),
    ))]
pub(super) async fn create_project(
    State(api): State<Arc<Api>>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Refusal> {
    let body = sent.object(&api, &caller).await?;
    let (name, bucket) = (needed_name(&body)?, need_text(&body, "bucketName")?);
    let record = Record { name, props: json!({"bucketName": bucket}).to_string(), ..new(NodeKind::Project) };
    let (node, revision) = made(&api, Snapshot::permit_self(caller.id()), &caller, record).await?;
    Ok(answer::written(revision, Json(Item::of(&api, &node, "Project", Levels::ALL))))
}

/// Delete a project
///
/// With its connections; for who holds admin on it.
#[utoipa::path(delete, path = "/project/{id}", tag = "records", params(Barrier),
    responses(
        (status = 200, description = "gone", body = Done),
        (status = 404, description = "there is no such project"),
    ))]
pub(super) async fn delete_project(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    remove(&api, &caller, &id, NodeKind::Project).await
}

/// Make a connection
///
/// `id` is that of the project. For who holds write on the project, and then owns the connection.
#[utoipa::path(post, path = "/project/connection/{id}", tag = "records", params(Barrier), request_body = NewConnection,
    responses(
        (status = 200, description = "the connection", body = Item),
        (status = 404, description = "there is no such project"),
    ))]
pub(super) async fn create_connection(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(project): Named<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let may_add = || {
        let view = api.view();
        let project = of_kind(&view, &project, NodeKind::Project)?;
        let permit = permit(&view, caller.id(), &project, Levels::WRITE, Timestamp::now())?;
        Ok::<_, Refusal>((permit, project.id()))
    };
    let (body, (permit, project)) = sent.object_where(&api, &caller, may_add).await?;
    let name = needed_name(&body)?;
    let mut props = Map::from_iter([("backend".to_owned(), Value::from(need_text(&body, "backend")?))]);
    if let Some(path) = read_text(&body, "keyPath")? {
        props.insert("keyPath".to_owned(), path.into());
    }
    if let Some(id) = read_native_id(&body)? {
        props.insert("nativeId".to_owned(), json!(id));
    }
    let props = Value::Object(props).to_string();
    let record = Record { name, props, parent: Some(project), ..new(NodeKind::Connection) };
    let (node, revision) = made(&api, permit, &caller, record).await?;
    Ok(answer::written(revision, Json(Item::of(&api, &node, "Connection", Levels::ALL))))
}

/// Delete a connection
///
/// For who holds admin on it, or on its project.
#[utoipa::path(delete, path = "/project/connection/{id}", tag = "records", params(Barrier),
    responses(
        (status = 200, description = "gone", body = Done),
        (status = 404, description = "there is no such connection"),
    ))]
pub(super) async fn delete_connection(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    remove(&api, &caller, &id, NodeKind::Connection).await
}

async fn remove(api: &Api, caller: &Caller, id: &str, kind: NodeKind) -> Result<Response, Refusal> {
    let view = api.view();
    let now = Timestamp::now();
    let node = of_kind(&view, id, kind)?;
    let permit = permit(&view, caller.id(), &node, Levels::ADMIN, now).or_else(|refusal| match &node.thing {
        // What is in a project is its administrators' to remove, as a service is its namespace's.
        Thing::Record(record) => {
            let project = record.parent.and_then(|project| view.node_of(project));
            project.and_then(|project| permit(&view, caller.id(), &project, Levels::ADMIN, now).ok()).ok_or(refusal)
        }
        _ => Err(refusal),
    })?;
    let revision = nodes::remove(api, permit, caller.actor()?, node.id()).await?;
    Ok(answer::done(revision))
}

/// The record of this kind, by id.
fn of_kind(view: &View, id: &str, kind: NodeKind) -> Result<Node, Refusal> {
    let is = |node: &Node| matches!(&node.thing, Thing::Record(record) if record.kind == kind);
    let word = if kind == NodeKind::Project { "project" } else { "connection" };
    view.node(id).filter(is).ok_or_else(|| Refusal::unknown(word, id))
}

/// What the storage calls it: three texts, each of which may be absent.
fn read_native_id(body: &Value) -> Result<Option<NativeId>, Refusal> {
    let written = match body.get("nativeId") {
        None | Some(Value::Null) => return Ok(None),
        Some(written) if written.is_object() => written,
        Some(_) => return Err(Refusal::input("`nativeId` is no object")),
    };
    let text = |field: &str| read_text(written, field);
    Ok(Some(NativeId { file_id: text("fileId")?, bucket_name: text("bucketName")?, prefix: text("prefix")? }))
}

/// A project to make.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `create_project` reads")]
struct NewProject {
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    #[schema(min_length = 1, max_length = 256)]
    bucket_name: String,
}

/// A connection to make.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `create_connection` reads")]
struct NewConnection {
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// What keeps its data.
    #[schema(min_length = 1, max_length = 256)]
    backend: String,
    /// Where in it.
    #[schema(nullable = false)]
    key_path: Option<String>,
    /// What that calls it.
    #[schema(nullable = false)]
    native_id: Option<NativeId>,
}

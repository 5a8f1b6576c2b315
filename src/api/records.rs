//! `/v2/resource`: records of whatever kind their makers say (`docs/API.md` §8).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{find, permit};
use super::answer::Done;
use super::command::nodes;
use super::error::Refusal;
use super::extract::{Caller, Named, Sent};
use super::node::{LABELS, Node, Thing};
use super::openapi::Barrier;
use super::{Api, answer};
use crate::policy::{Levels, Permit, ResourceId, Snapshot};
use crate::proxy::error::{Kind, Problem};
use crate::store::{Node as Record, NodeKind};

/// The longest name, in characters.
const NAME: usize = 256;

/// The most labels of one record, and the longest of them, in characters.
const MOST_LABELS: (usize, usize) = (16, 64);

/// The most that the props of one record take as compact JSON, in bytes.
const PROPS: usize = 64 * 1024;

/// Make a record
///
/// Anybody may, and then owns it. Names need not be unique; props have at most 65536 bytes.
#[utoipa::path(post, path = "/v2/resource/generic", tag = "records", params(Barrier), request_body = Made,
    responses(
        (status = 200, description = "the record", body = ResourceNode),
    ))]
pub(super) async fn create_resource(
    State(api): State<Arc<Api>>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Refusal> {
    let body = sent.object(&api, &caller).await?;
    let record = Record {
        name: needed_name(&body)?,
        labels: read_labels(&body)?,
        props: read_props(&body)?.unwrap_or_else(|| "{}".to_owned()),
        ..new(NodeKind::Generic)
    };
    let permit = Snapshot::permit_self(caller.id());
    let node = made(&api, permit, &caller, record).await?;
    Ok(answer::written(node.1, Json(ResourceNode::of(&node.0))))
}

/// A record
///
/// Any other node, too, with empty props; for who holds read on it.
#[utoipa::path(get, path = "/v2/resource/{id}", tag = "records",
    responses(
        (status = 200, description = "the record", body = ResourceNode),
        (status = 404, description = "there is no such resource"),
    ))]
pub(super) async fn show_resource(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<ResourceNode>, Refusal> {
    let view = api.view();
    let node = find(&view, &caller, &id)?;
    let Permit { .. } = permit(&view, caller.id(), &node, Levels::READ, Timestamp::now())?;
    Ok(Json(ResourceNode::of(&node)))
}

/// Change a record
///
/// Another name, other props, which replace all props, or both; for who holds write on it. Who holds no read on it is
/// shown of the props only those that were sent.
#[utoipa::path(put, path = "/v2/resource/{id}", tag = "records", params(Barrier), request_body = Changed,
    responses(
        (status = 200, description = "the record after the change", body = ResourceNode),
        (status = 404, description = "there is no such resource"),
    ))]
pub(super) async fn update_resource(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let may_write = || {
        let view = api.view();
        let node = find(&view, &caller, &id)?;
        let permit = may_change(permit(&view, caller.id(), &node, Levels::WRITE, Timestamp::now()), &node)?;
        Ok::<_, Refusal>((permit, node.id()))
    };
    let (body, (permit, id)) = sent.object_where(&api, &caller, may_write).await?;
    let (name, props) = (read_name(&body)?, read_props(&body)?);
    let revision = nodes::update(&api, permit, caller.actor()?, id, name, props).await?;
    let node = shown(&api, id)?;
    // Flags do not imply one another: what was there before is for who may read it.
    let reads = self::permit(&api.view(), caller.id(), &node, Levels::READ, Timestamp::now()).is_ok();
    let sent = || body.get("props").and_then(Value::as_object).cloned().unwrap_or_default();
    let node = ResourceNode::of(&node);
    let node = if reads { node } else { ResourceNode { props: sent(), ..node } };
    Ok(answer::written(revision, Json(node)))
}

/// Delete a record
///
/// With all that was granted on it and to it; for who holds admin on it.
#[utoipa::path(delete, path = "/v2/resource/{id}", tag = "records", params(Barrier),
    responses(
        (status = 200, description = "gone", body = Done),
        (status = 404, description = "there is no such resource"),
    ))]
pub(super) async fn delete_resource(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let node = find(&view, &caller, &id)?;
    let permit = may_change(permit(&view, caller.id(), &node, Levels::ADMIN, Timestamp::now()), &node)?;
    let revision = nodes::remove(&api, permit, caller.actor()?, node.id()).await?;
    Ok(answer::done(revision))
}

/// A record with nothing in it yet.
pub(super) fn new(kind: NodeKind) -> Record {
    let labels = match kind {
        NodeKind::Generic => Vec::new(),
        NodeKind::Project => vec!["Project".to_owned()],
        NodeKind::Connection => vec!["Connection".to_owned()],
        NodeKind::Workspace => vec!["Workspace".to_owned()],
    };
    let (id, props) = (ResourceId(Uuid::new_v4()), "{}".to_owned());
    Record { id, kind, name: String::new(), labels, props, owner: None, parent: None }
}

/// Makes the record; the node that it is from now on.
pub(super) async fn made(
    api: &Api,
    permit: Permit,
    caller: &Caller,
    record: Record,
) -> Result<(Node, crate::store::Revision), Refusal> {
    let id = record.id;
    let revision = nodes::create(api, permit, caller.actor()?, record).await?;
    Ok((shown(api, id)?, revision))
}

/// The text of the body, where it is there.
pub(super) fn read_text(body: &Value, field: &str) -> Result<Option<String>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.chars().count() > NAME || text.chars().any(char::is_control) => {
            let rule = format!("write at most {NAME} characters, and no control characters");
            Err(Refusal::input(format!("`{field}` is too long, or holds what is not shown\n{rule}")))
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::input(format!("`{field}` is no text"))),
    }
}

/// The text of the body, which must be there and not empty.
pub(super) fn need_text(body: &Value, field: &str) -> Result<String, Refusal> {
    let found = read_text(body, field)?.filter(|text| !text.is_empty());
    found.ok_or_else(|| Refusal::input(format!("`{field}` is missing")))
}

/// The name, which must be there.
pub(super) fn needed_name(body: &Value) -> Result<String, Refusal> {
    need_text(body, "name")
}

/// What the record became, which the local state shows.
pub(super) fn shown(api: &Api, id: ResourceId) -> Result<Node, Refusal> {
    let node = api.view().node_of(id);
    // Somebody else may have removed it since.
    node.ok_or_else(|| Refusal::unknown("resource", &id.to_string()))
}

fn read_name(body: &Value) -> Result<Option<String>, Refusal> {
    if body.get("name").is_some_and(|name| !name.is_null()) { needed_name(body).map(Some) } else { Ok(None) }
}

fn read_labels(body: &Value) -> Result<Vec<String>, Refusal> {
    let (most, longest) = MOST_LABELS;
    let rule = format!("write 1 to {most} texts of at most {longest} characters");
    let written = body.get("labels").and_then(Value::as_array);
    let written = written.ok_or_else(|| Refusal::input(format!("there is no list `labels`\n{rule}")))?;
    let mut labels: Vec<String> = Vec::new();
    for label in written {
        let fits =
            |text: &&str| !text.is_empty() && text.chars().count() <= longest && !text.chars().any(char::is_control);
        let label = label.as_str().filter(fits);
        let label = label.ok_or_else(|| Refusal::input(format!("`labels` has something that is no label\n{rule}")))?;
        if LABELS.contains(&label) {
            let detail = format!("the label `{label}` is for what the gateway itself makes\nchoose another one");
            return Err(Refusal::input(detail));
        }
        if !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
    }
    if labels.is_empty() || labels.len() > most {
        return Err(Refusal::input(format!("`labels` has {} of them\n{rule}", labels.len())));
    }
    Ok(labels)
}

/// The text of the props, where they are there.
fn read_props(body: &Value) -> Result<Option<String>, Refusal> {
    let props = match body.get("props") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(props)) => props,
        Some(_) => return Err(Refusal::input("`props` is no object")),
    };
    let text = serde_json::to_string(props).unwrap_or_default();
    if text.len() > PROPS {
        return Err(Refusal::input(format!("`props` has more than {PROPS} bytes\nkeep the rest elsewhere")));
    }
    Ok(Some(text))
}

/// Only records are changed here: users and groups by nobody, namespaces and services elsewhere.
fn may_change(permit: Result<Permit, Refusal>, node: &Node) -> Result<Permit, Refusal> {
    match &node.thing {
        Thing::User(_) | Thing::Group(_) => {
            Err(Refusal::forbidden("users and groups are not changed here\nuse /user and /user/group"))
        }
        Thing::Namespace(_) | Thing::Service(_) => {
            let Permit { .. } = permit?;
            let detail = "namespaces and services are not changed here\nuse /service/rename and /service/remove";
            Err(Problem::new(&Kind::CONFLICT, detail).into())
        }
        Thing::Record(_) => permit,
    }
}

/// A record, or any other node: Carta's ResourceNode.
#[derive(Serialize, ToSchema)]
pub(super) struct ResourceNode {
    id: Uuid,
    name: String,
    /// What it is.
    labels: Vec<String>,
    /// What else its maker says of it.
    props: Map<String, Value>,
}

/// A record to make.
#[derive(ToSchema)]
#[schema(as = NewResource)]
#[expect(dead_code, reason = "it describes what `create_resource` reads")]
struct Made {
    /// At most 256 characters.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// What it is: not `User`, `UserGroup`, `Namespace` or `Service`.
    #[schema(min_items = 1, max_items = 16)]
    labels: Vec<String>,
    #[schema(nullable = false)]
    props: Option<Map<String, Value>>,
}

/// What to change of a record.
#[derive(ToSchema)]
#[schema(as = ResourceChange)]
#[expect(dead_code, reason = "it describes what `update_resource` reads")]
struct Changed {
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    name: Option<String>,
    /// Replaces all props.
    #[schema(nullable = false)]
    props: Option<Map<String, Value>>,
}

impl ResourceNode {
    fn of(node: &Node) -> Self {
        let props = match &node.thing {
            Thing::Record(record) => serde_json::from_str(&record.props).unwrap_or_default(),
            _ => Map::new(),
        };
        let labels = node.labels().map(str::to_owned).collect();
        Self { id: node.id().0, name: node.name().to_owned(), labels, props }
    }
}

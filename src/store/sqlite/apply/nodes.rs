//! Records that are kept so that they can be shared: made, changed, removed.

use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Outcome, exists, grants, missing, quota, user, write};
use crate::policy::{ResourceId, UserId};
use crate::store::sqlite::code::kind_text;
use crate::store::sqlite::{audit, read};
use crate::store::{Grant, Key, Node, NodeKind, StoreError};

pub(super) fn create(connection: &Connection, node: Node) -> Result<Outcome, StoreError> {
    let Some(maker) = node.owner else { return Err(StoreError::Refused("a new node has an owner".to_owned())) };
    user(connection, maker)?;
    // One id names one thing, whatever it is.
    let taken = "SELECT 1 FROM nodes WHERE id = ?1 UNION ALL SELECT 1 FROM namespaces WHERE id = ?1 \
                 UNION ALL SELECT 1 FROM services WHERE id = ?1 UNION ALL SELECT 1 FROM users WHERE id = ?1 \
                 UNION ALL SELECT 1 FROM groups WHERE id = ?1";
    if read::any(connection, taken, [node.id.0.as_bytes()])? {
        return Err(exists("node", node.id));
    }
    match (node.kind, node.parent) {
        (NodeKind::Connection, Some(parent)) => {
            let project = one(connection, parent)?.filter(|parent| parent.kind == NodeKind::Project);
            project.ok_or_else(|| missing("project", parent))?;
            quota::connections(connection, parent)?;
        }
        (NodeKind::Connection, None) => return Err(StoreError::Refused("a connection is in a project".to_owned())),
        (_, Some(_)) => return Err(StoreError::Refused("only a connection is in something".to_owned())),
        (_, None) => {}
    }
    free(connection, &node)?;
    let statement = "INSERT INTO nodes (id, kind, name, labels, props, owner, parent, maker) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6)";
    let row = (
        node.id.0.as_bytes(),
        kind_text(node.kind),
        &node.name,
        Value::from(node.labels.clone()).to_string(),
        &node.props,
        maker.0.as_bytes(),
        node.parent.map(|parent| *parent.0.as_bytes()),
    );
    write(connection, statement, row)?;
    quota::nodes(connection, node.id)?;
    Ok(Outcome::changed("node.create", &node.name)
        .about(node.id)
        .touching([Key::Node(node.id)])
        .after(audit::node(&node))
        .with_id(node.id))
}

pub(super) fn update(
    connection: &Connection,
    id: ResourceId,
    name: Option<String>,
    props: Option<String>,
) -> Result<Outcome, StoreError> {
    let before = one(connection, id)?.ok_or_else(|| missing("node", id))?;
    let after = Node {
        name: name.unwrap_or_else(|| before.name.clone()),
        props: props.unwrap_or_else(|| before.props.clone()),
        ..before.clone()
    };
    if after == before {
        return Ok(Outcome::unchanged().with_id(id));
    }
    if after.name != before.name {
        free(connection, &after)?;
    }
    let row = (id.0.as_bytes(), &after.name, &after.props);
    write(connection, "UPDATE nodes SET name = ?2, props = ?3 WHERE id = ?1", row)?;
    if after.props.len() > before.props.len() {
        quota::nodes(connection, id)?;
    }
    Ok(Outcome::changed("node.update", &after.name)
        .about(id)
        .touching([Key::Node(id)])
        .before(audit::node(&before))
        .after(audit::node(&after))
        .with_id(id))
}

pub(super) fn remove(connection: &Connection, id: ResourceId) -> Result<Outcome, StoreError> {
    let node = one(connection, id)?.ok_or_else(|| missing("node", id))?;
    let within: Vec<Node> = read::all(connection, "WHERE parent = ?1 ORDER BY id", [id.0.as_bytes()])?;
    // What is below the name is below this one, connections included.
    let mut taken: Vec<Grant> = grants::take_below(connection, &node.pattern())?;
    let gone: Vec<ResourceId> = within.iter().map(|node| node.id).chain([id]).collect();
    taken.extend(grants::take_of_holders(connection, &gone)?);
    write(connection, "DELETE FROM nodes WHERE parent = ?1", [id.0.as_bytes()])?;
    write(connection, "DELETE FROM nodes WHERE id = ?1", [id.0.as_bytes()])?;
    let before = json!({
        "node": audit::node(&node),
        "within": within.iter().map(|node| json!({ "id": node.id, "name": node.name })).collect::<Vec<_>>(),
        "grants": audit::grants(&taken),
    });
    Ok(Outcome::changed("node.remove", node.name)
        .about(id)
        .touching(gone.into_iter().map(Key::Node))
        .touching(taken.iter().map(grants::key))
        .before(before))
}

/// The node with this id.
pub(super) fn one(connection: &Connection, id: ResourceId) -> Result<Option<Node>, StoreError> {
    read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])
}

/// Gives the node another owner; false where there is none.
pub(super) fn give(connection: &Connection, id: ResourceId, to: UserId) -> Result<bool, StoreError> {
    let changed = write(connection, "UPDATE nodes SET owner = ?2 WHERE id = ?1", (id.0.as_bytes(), to.0.as_bytes()))?;
    Ok(changed > 0)
}

/// Workspaces go by name, so that no two have one.
fn free(connection: &Connection, node: &Node) -> Result<(), StoreError> {
    if node.kind == NodeKind::Workspace && Uuid::try_parse(&node.name).is_ok() {
        // It would be taken for the id of another, which may be gone.
        return Err(StoreError::Refused(format!("`{}` reads as an id", node.name)));
    }
    let taken = "SELECT 1 FROM nodes WHERE kind = 'workspace' AND name = ?1";
    if node.kind == NodeKind::Workspace && read::any(connection, taken, [&node.name])? {
        return Err(exists("workspace", &node.name));
    }
    Ok(())
}

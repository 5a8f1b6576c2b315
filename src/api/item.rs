//! Nodes as version 1 shows them: Carta's Item and PermissionEntity.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::node::{Node, Thing};
use super::role;
use super::services::address;
use crate::policy::Levels;
use crate::store::Node as Record;

/// The kinds of resource that version 1 knows; the clients take no other.
pub(super) const TYPES: [&str; 6] = ["Workspace", "Connection", "File", "Namespace", "Service", "Project"];

/// Carta's Item of one of those kinds: with the fields of its kind that are known. The clients refuse `null`.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    id: Uuid,
    name: String,
    /// A service's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    base_url: Option<String>,
    /// A project's bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    bucket_name: Option<String>,
    /// What keeps the data of a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    backend: Option<String>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key_path: Option<String>,
    /// What that calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    native_id: Option<NativeId>,
    /// Whether a workspace is archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    archived: Option<bool>,
    /// Where a file is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    storage_info: Option<StorageInfo>,
    /// What is held on it: `None`, or `Read, Write, Execute, Clone, Admin`.
    permission: String,
}

/// What the storage of a connection calls it.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NativeId {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) file_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) bucket_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) prefix: Option<String>,
}

/// Where a file is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StorageInfo {
    /// `DynamoDb`, `S3` or `Local`.
    storage_type: &'static str,
    compressed: bool,
}

/// Carta's PermissionEntity: what a subject has directly.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PermissionEntity)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entity {
    /// The subject's id.
    id: Uuid,
    /// The subject's name, so that it can be passed back; of a record on which the caller holds nothing, its id.
    user_id: String,
    /// The subject's kind.
    user_type: &'static str,
    /// `None`, or levels joined by comma and blank: `Read, Write, Execute, Clone, Admin`.
    permission: String,
    /// Names for which the change makes another grant answer than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

impl Entity {
    pub(super) fn of(node: &Node, name: String, kind: &'static str, levels: Levels) -> Self {
        let permission = role::text(levels);
        Self { id: node.id().0, user_id: name, user_type: kind, permission, warnings: Vec::new() }
    }

    /// The same with these warnings.
    pub(super) fn warning(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

impl Item {
    /// The node as one of this kind, on which these levels are held.
    pub(super) fn of(api: &Api, node: &Node, kind: &str, levels: Levels) -> Self {
        let item =
            Self { id: node.id().0, name: node.name().to_owned(), permission: role::text(levels), ..Self::default() };
        match &node.thing {
            Thing::Service(service) => Self { base_url: address(api, service), ..item },
            Thing::Record(record) => item.with(record, kind),
            Thing::User(_) | Thing::Group(_) | Thing::Namespace(_) => item,
        }
    }

    /// What stands in the props, as far as it is what clients can read; what they need is there.
    fn with(self, record: &Record, kind: &str) -> Self {
        let props: Map<String, Value> = serde_json::from_str(&record.props).unwrap_or_default();
        let text = |name: &str| props.get(name).and_then(Value::as_str).map(str::to_owned);
        match kind {
            "Project" => Self { bucket_name: Some(text("bucketName").unwrap_or_default()), ..self },
            "Connection" => Self {
                backend: Some(text("backend").unwrap_or_default()),
                key_path: text("keyPath"),
                native_id: props.get("nativeId").and_then(|id| serde_json::from_value(id.clone()).ok()),
                ..self
            },
            "Workspace" => {
                let archived = props.get("archived").and_then(Value::as_bool).unwrap_or(false);
                Self { archived: Some(archived), ..self }
            }
            "File" => Self { storage_info: Some(StorageInfo::of(props.get("storageInfo"))), ..self },
            _ => self,
        }
    }
}

impl StorageInfo {
    /// The clients take no other kinds of storage.
    fn of(written: Option<&Value>) -> Self {
        let said = written.and_then(|info| info.get("storageType")).and_then(Value::as_str);
        let kinds = ["DynamoDb", "S3", "Local"];
        let storage_type = kinds.into_iter().find(|kind| said == Some(*kind)).unwrap_or("Local");
        let compressed = written.and_then(|info| info.get("compressed")).and_then(Value::as_bool).unwrap_or(false);
        Self { storage_type, compressed }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::ResourceId;
    use crate::store::NodeKind;

    fn shown(kind: &str, props: &Value) -> Value {
        let record = Record {
            id: ResourceId(uuid::Uuid::nil()),
            kind: NodeKind::Generic,
            name: "n".to_owned(),
            labels: vec![kind.to_owned()],
            props: props.to_string(),
            owner: None,
            parent: None,
        };
        let mut item = serde_json::to_value(Item::default().with(&record, kind)).unwrap();
        for member in ["id", "name", "permission"] {
            item.as_object_mut().unwrap().remove(member).unwrap();
        }
        item
    }

    #[test]
    fn an_item_has_what_the_clients_need_whatever_its_props_are() {
        for (kind, props, expected) in [
            ("Project", json!({"bucketName": "b", "more": 1}), json!({"bucketName": "b"})),
            ("Project", json!({"bucketName": null}), json!({"bucketName": ""})),
            ("Connection", json!({"keyPath": 7, "nativeId": "x"}), json!({"backend": ""})),
            (
                "Connection",
                json!({"backend": "S3", "keyPath": "k", "nativeId": {"fileId": "f", "prefix": null}}),
                json!({"backend": "S3", "keyPath": "k", "nativeId": {"fileId": "f"}}),
            ),
            ("Workspace", json!({}), json!({"archived": false})),
            ("Workspace", json!({"archived": true}), json!({"archived": true})),
            ("File", json!({}), json!({"storageInfo": {"storageType": "Local", "compressed": false}})),
            ("Dataset", json!({"x": 1}), json!({})),
        ] {
            assert_eq!(shown(kind, &props), expected, "{kind} {props}");
        }
    }
}

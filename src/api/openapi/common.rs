//! What holds for every operation, so that none has to say it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::table;
use crate::proxy::error::ProblemBody;

/// The parameter that every write takes, and which tells that the operation is one: its answer then has
/// `Carta-Revision`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is described here and read by `Caller::actor`")]
pub(in crate::api) struct Barrier {
    /// `fleet`: answer once every live replica shows the write.
    #[param(nullable = false, pattern = "^(fleet)?$")]
    barrier: Option<String>,
}

/// Adds to each operation what is true of all: the parts of its path, the answers that come before a handler is asked,
/// the form of refusals, the headers.
pub(super) fn complete(paths: &mut Value) {
    let mut ids = BTreeSet::new();
    for (path, item) in paths.as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(operation) = operation.as_object_mut() else { continue };
            let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
            // A handler of several methods or paths has one name.
            let names = [id.clone(), format!("{id}_{method}")].into_iter().chain((2..).map(|n| format!("{id}_{n}")));
            if let Some(id) = names.into_iter().find(|id| !ids.contains(id)) {
                operation.insert("operationId".to_owned(), json!(id));
                ids.insert(id);
            }
            complete_one(path, operation);
        }
    }
}

fn complete_one(path: &str, operation: &mut Map<String, Value>) {
    let public = operation.get("security").is_some_and(|security| *security == json!([{}]));
    if public {
        operation.insert("security".to_owned(), json!([]));
    }
    let has_body = operation.contains_key("requestBody");
    let mut headers = Map::new();
    if let Some(parameters) = operation.entry("parameters").or_insert_with(|| json!([])).as_array_mut() {
        let takes = |name| parameters.iter().any(|parameter| parameter["name"] == name);
        for (sign, header) in [("barrier", "Carta-Revision"), ("limit", "Link")] {
            if takes(sign) {
                headers.insert(header.to_owned(), json!({"$ref": format!("#/components/headers/{header}")}));
            }
        }
        let parts = path.split('{').skip(1).filter_map(|part| part.split('}').next()).filter(|part| !takes(part));
        let parts: Vec<Value> = parts.map(|part| json!({"$ref": format!("#/components/parameters/{part}")})).collect();
        parameters.splice(0..0, parts);
        if !public {
            parameters.push(json!({"$ref": "#/components/parameters/Carta-Min-Revision"}));
        }
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, response) in responses.iter_mut() {
        let Some(response) = response.as_object_mut() else { continue };
        let refusal = status.starts_with(['4', '5']);
        if refusal && !response.contains_key("content") {
            response.insert("content".to_owned(), problem());
        }
        if !refusal && !headers.is_empty() {
            response.insert("headers".to_owned(), headers.clone().into());
        }
    }
    if responses.contains_key("default") {
        return;
    }
    for (status, _, who) in COMMON {
        let wanted = match who {
            Who::All => true,
            Who::Identified => !public,
            Who::Body => has_body,
        };
        if wanted {
            let response = || json!({"$ref": format!("#/components/responses/{status}")});
            responses.entry(status.to_string()).or_insert_with(response);
        }
    }
}

/// The parts of paths.
const PARTS: [(&str, &str); 20] = [
    ("file", "`start.js`, `swagger-ui-bundle.js` or `swagger-ui.css`"),
    ("file_id", "a file's id"),
    ("from", "a node's id; `self` is what stands for the caller"),
    ("group", "a group: `Name` or `Organization:Name`; the two are different groups"),
    ("id", "the id of a namespace, service, project, connection, workspace, record, user or group"),
    ("label", "a kind of node, such as `User`, `UserGroup`, `Service`, or a label of records"),
    ("name", "a secret's name, without case"),
    ("new", "the new name"),
    ("node", "`self`, or a user's id"),
    ("ns", "a namespace"),
    ("rest", "the path at the service"),
    ("request_id", "the `X-Request-Id` of the call's answer"),
    ("source", "a source of files"),
    ("subject", "the name or id of who or what it is about; an id wins"),
    ("svc", "a service of the namespace"),
    ("to", "the id of the node that permissions are on; `self` is what stands for the caller"),
    ("token", "an API token's name"),
    ("type", "`Workspace`, `Connection`, `File`, `Namespace`, `Service` or `Project`"),
    ("user", "a login name or an id; an id wins"),
    ("workspace", "a workspace by id or name; an id wins"),
];

/// Of which operations a common answer is one.
enum Who {
    All,
    Identified,
    Body,
}

/// The answers that operations need not describe; what one says of the same status itself is kept.
const COMMON: [(u16, &str, Who); 8] = [
    (400, "The input cannot be taken; `detail` says what is wrong with it.", Who::Identified),
    (401, "Nobody is identified, or the credential is not, or no longer, good.", Who::Identified),
    (403, "The caller may not do that; `detail` says what is missing and who could give it.", Who::Identified),
    (408, "The body did not arrive in time.", Who::Body),
    (413, "The body is larger than the API reads.", Who::Body),
    (429, "The caller makes changes faster than they may; see `Retry-After`.", Who::Identified),
    (500, "A fault of the gateway; the log has it under the request's id.", Who::All),
    (503, "The state, the store or an issuer's keys are not there for now; see `Retry-After`.", Who::Identified),
];

fn problem() -> Value {
    json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}})
}

/// Any of the ways to say who calls.
pub(super) fn credentials() -> Value {
    json!([{"bearer": []}, {"apiToken": []}, {"trustedHeader": []}])
}

/// What the operations refer to.
pub(super) fn components(schemas: &[(String, RefOr<Schema>)]) -> Value {
    let mut named: Map<String, Value> = schemas.iter().map(|(name, schema)| (name.clone(), json!(schema))).collect();
    named.extend(table::schemas());
    named.insert(ProblemBody::name().into_owned(), json!(ProblemBody::schema()));
    let refusals: Map<String, Value> = COMMON
        .iter()
        .map(|(status, about, _)| (status.to_string(), json!({"description": about, "content": problem()})))
        .collect();
    let part = |(name, about): &(&str, &str)| {
        let schema = json!({"type": "string", "minLength": 1});
        (
            (*name).to_owned(),
            json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema}),
        )
    };
    let mut parameters: Map<String, Value> = PARTS.iter().map(part).collect();
    parameters.insert(
        "Carta-Min-Revision".to_owned(),
        json!({
            "name": "Carta-Min-Revision",
            "in": "header",
            "description": "a revision that `Carta-Revision` told: the request waits, bounded, until the answer shows it, else 503",
            "schema": {"type": "integer", "format": "int64", "minimum": 0},
        }),
    );
    json!({
        "schemas": named,
        "responses": refusals,
        "parameters": parameters,
        "headers": {
            "Carta-Revision": {
                "description": "The revision that shows the write; this gateway shows it already.",
                "required": true,
                "schema": {"type": "integer", "format": "int64", "minimum": 0},
            },
            "Link": {
                "description": "`<…>; rel=\"next\"`: the next page, where there is one (RFC 8288).",
                "schema": {"type": "string"},
            },
        },
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A token of the built-in issuer, by login (§3) or by `carta-gateway token NAME`, or of an issuer that `[[auth.jwt]]` names.",
            },
            "apiToken": {
                "type": "http",
                "scheme": "basic",
                "description": "The user `__token__`, and the key of an API token (§9) as password: good for what its `allowedEndpoints` say.",
            },
            "trustedHeader": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Forwarded-Email",
                "description": "What an authenticating proxy asserts; `[auth.header]` says by which header, and from which proxies. From anybody else it is no credential.",
            },
        },
    })
}

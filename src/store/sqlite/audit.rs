//! The audit record of each change, and records as it shows them: without any secret, verifier or envelope.

use serde_json::{Value, json};

use crate::policy::ResourceId;
use crate::store::{ApiToken, Consent, Grant, Namespace, Node, Service, SigningKey, User};

/// How many props of a node a record names.
const PROPS_SHOWN: usize = 32;

/// Bytes of an API token's endpoints, or of the names of a node's props, that an entry shows.
const SHOWN_BYTES: usize = 1024;

/// What was done, for the audit.
pub(super) struct Entry {
    /// Such as `grant.put`.
    pub(super) what: &'static str,
    /// To what, for people.
    pub(super) target: String,
    /// What was there.
    pub(super) before: Option<Value>,
    /// What is there.
    pub(super) after: Option<Value>,
    /// The namespace or service that it is about.
    pub(super) resource: Option<ResourceId>,
}

/// A user.
pub(super) fn user(user: &User) -> Value {
    json!({
        "id": user.id,
        "name": user.name,
        "email": user.email,
        "email_verified": user.email_verified,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "organization": user.organization,
        "role": user.role,
        "administrator": user.administrator,
        "disabled": user.disabled,
        "tokens_dead_until": user.tokens_dead_until,
    })
}

/// A grant.
pub(super) fn grant(grant: &Grant) -> Value {
    json!({
        "subject": grant.row.subject.to_string(),
        "on": grant.row.pattern.to_string(),
        "levels": grant.row.levels.to_string(),
        "expires": grant.row.expires,
        "by": grant.by,
    })
}

/// Several grants; none where there are none.
pub(super) fn grants(grants: &[Grant]) -> Option<Value> {
    (!grants.is_empty()).then(|| grants.iter().map(grant).collect())
}

/// A namespace.
pub(super) fn namespace(namespace: &Namespace) -> Value {
    json!({ "id": namespace.id, "name": namespace.name, "owner": namespace.owner })
}

/// A node. Of its props only the names: the record is for good, and they are for whoever may read the node.
pub(super) fn node(node: &Node) -> Value {
    let props: serde_json::Map<String, Value> = serde_json::from_str(&node.props).unwrap_or_default();
    let mut room = SHOWN_BYTES;
    let fits = |name: &&String| room.checked_sub(name.len()).map(|left| room = left).is_some();
    json!({
        "id": node.id,
        "name": node.name,
        "labels": node.labels,
        "owner": node.owner,
        "parent": node.parent,
        "props": props.keys().take(PROPS_SHOWN).take_while(fits).collect::<Vec<_>>(),
        "props_bytes": node.props.len(),
    })
}

/// A service; what its table injects is shown by its variables only, because the rest of it may be a key.
pub(super) fn service(service: &Service) -> Value {
    let mut table = service.table.clone();
    for section in ["inject", "tls"] {
        if let Some(section) = table.get_mut(section) {
            mask(section);
        }
    }
    json!({
        "id": service.id,
        "name": format!("{}/{}", service.namespace, service.name),
        "owner": service.owner,
        "origin": service.origin,
        "present": service.present,
        "table": table,
    })
}

/// A consent.
pub(super) fn consent(consent: &Consent) -> Value {
    json!({
        "secret": consent.secret,
        "service": consent.service,
        "fingerprint": consent.fingerprint,
        "origins": consent.origins,
    })
}

/// An API token: neither its digest nor what its key begins with.
pub(super) fn api_token(token: &ApiToken) -> Value {
    // Whoever makes and deletes tokens in a loop fills the audit no faster than by other changes.
    let mut room = SHOWN_BYTES;
    let fits = |text: &&String| room.checked_sub(text.len()).map(|left| room = left).is_some();
    let shown: Vec<&String> = token.patterns.iter().take_while(fits).collect();
    json!({
        "id": token.id,
        "name": token.name,
        "endpoints": shown,
        "more_endpoints": token.patterns.len() - shown.len(),
        "expires": token.expires,
        "uses": token.uses,
        "revoked": token.revoked,
        "auto_remove": token.auto_remove,
    })
}

/// A signing key: its public half.
pub(super) fn signing_key(key: &SigningKey) -> Value {
    json!({ "kid": key.kid, "public": key.public, "created": key.created, "retired": key.retired })
}

/// Leaves of every text only the variables (`{secret:name}`), and a sign for the rest.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = variables_only(text),
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(entries) => entries.values_mut().for_each(mask),
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) => *value = Value::from("…"),
    }
}

fn variables_only(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, after) = rest.find('{').map_or((rest, ""), |start| rest.split_at(start));
        // A brace that is not closed, and a name that is no variable's, are literal text.
        let variable = after.find('}').map(|end| after.split_at(end + 1)).filter(|(variable, _)| is_variable(variable));
        let (shown_part, after) = match variable {
            Some((variable, after)) => (variable, after),
            None => ("", after.strip_prefix('{').unwrap_or(after)),
        };
        if (!literal.is_empty() || shown_part.is_empty()) && !shown.ends_with('…') {
            shown.push('…');
        }
        shown.push_str(shown_part);
        rest = after;
    }
    shown
}

fn is_variable(text: &str) -> bool {
    ["{secret:", "{user", "{groups", "{claim:"].iter().any(|start| text.starts_with(start)) && !text.contains("{{")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Origin;

    #[test]
    fn a_table_shows_which_secret_goes_where_and_no_literal_text() {
        for (written, shown) in [
            ("{secret:mp-key}", "{secret:mp-key}"),
            ("Bearer canary {secret:mp-key} canary", "…{secret:mp-key}…"),
            ("canary", "…"),
            ("canary{", "…"),
            ("{canary}", "…"),
            ("{{secret:canary}", "…{secret:canary}"),
            ("", ""),
            ("{user}:{groups}", "{user}…{groups}"),
        ] {
            assert_eq!(variables_only(written), shown, "{written}");
        }
    }

    #[test]
    fn nothing_of_what_a_service_injects_or_proves_itself_with_is_in_the_audit() {
        let table = json!({
            "base_url": "https://api.example.org",
            "inject": { "headers": { "X-Key": "canary" }, "query": [{ "key": "canary" }], "number": 4711 },
            "tls": { "identity": { "key": "-----BEGIN canary" } },
        });
        let service = service(&Service {
            id: ResourceId(uuid::Uuid::nil()),
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            owner: None,
            origin: Origin::Api,
            present: true,
            table,
        });
        let text = service.to_string();
        assert!(text.contains("https://api.example.org") && text.contains("X-Key"), "{text}");
        assert!(!text.contains("canary") && !text.contains("4711"), "{text}");
    }
}

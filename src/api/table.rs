//! A service's table as JSON: what registering writes, and how a service of the file is shown.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::{Cors, Endpoint, Operation, Protocol, Service, Template, TokenForwarding, Unmatched};

/// The table with this address instead of whatever addresses it had.
pub(super) fn with_address(table: Option<&Value>, url: &str) -> Value {
    let mut table = table.and_then(Value::as_object).cloned().unwrap_or_default();
    table.insert("base_url".to_owned(), json!(url));
    Value::Object(table)
}

/// The table without the service's name, which is kept beside it: a renamed service must not contradict itself.
pub(super) fn without_name(mut table: Value) -> Value {
    if let Some(entries) = table.as_object_mut() {
        entries.retain(|key, _| key != "namespace" && key != "name");
    }
    table
}

/// The first address of the table.
pub(super) fn address(table: &Value) -> Option<String> {
    let first = |value: &Value| match value {
        Value::String(url) => Some(url.clone()),
        Value::Object(endpoint) => endpoint.get("url").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    match table.get("base_url")? {
        Value::Array(endpoints) => endpoints.first().and_then(first),
        one => first(one),
    }
}

/// A service of the file, as the table that would declare it, less what may be secret: of a template its variables are
/// shown, with `…` for every other text, and trust and client certificates are left out.
pub(super) fn of_file(service: &Service) -> Value {
    let inject = &service.inject;
    let injection = without_absent(json!({
        "headers": templates(inject.headers.iter().map(|(name, template)| (name.as_str(), template))),
        "query": templates(inject.query.iter().map(|(name, template)| (name.as_str(), template))),
        "cookies": templates(inject.cookies.iter().map(|(name, template)| (name.as_str(), template))),
        "basic_auth": inject.basic.as_ref().map(|basic| {
            json!({"username": basic.username.to_string(), "password": basic.password.to_string()})
        }),
    }));
    let protocol = match service.tls.protocol {
        Protocol::Auto => "auto",
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
    };
    without_absent(json!({
        "base_url": addresses(&service.endpoints),
        "level": service.level.to_string(),
        "unmatched": if service.unmatched == Unmatched::Level { "level" } else { "refuse" },
        "public": service.public,
        "forward_token": match service.forward_token {
            TokenForwarding::No => json!(false),
            TokenForwarding::Minted => json!(true),
            TokenForwarding::Full => json!("full"),
        },
        "tunnel": service.tunnel,
        "timeouts": {
            "connect": bound(service.timeouts.connect),
            "first_byte": bound(service.timeouts.first_byte),
            "idle": bound(service.timeouts.idle),
            "total": bound(service.timeouts.total),
        },
        "tls": { "protocol": protocol },
        "inject": injection,
        "operation": operations(&service.operations),
        "cors": service.cors.as_ref().map(cors),
    }))
}

fn without_absent(mut table: Value) -> Value {
    if let Some(entries) = table.as_object_mut() {
        entries.retain(|_, value| !value.is_null());
    }
    table
}

fn addresses(endpoints: &[Endpoint]) -> Value {
    let url = |endpoint: &Endpoint| endpoint.url.as_str().trim_end_matches('/').to_owned();
    match endpoints {
        [only] => json!(url(only)),
        several => several.iter().map(|one| json!({"url": url(one), "weight": one.weight})).collect(),
    }
}

fn bound(time: Option<Duration>) -> String {
    time.map_or_else(|| "0".to_owned(), |time| humantime::format_duration(time).to_string())
}

fn templates<'a>(templates: impl Iterator<Item = (&'a str, &'a Template)>) -> Option<Value> {
    let shown: Map<String, Value> =
        templates.map(|(name, template)| (name.to_owned(), json!(template.to_string()))).collect();
    (!shown.is_empty()).then_some(Value::Object(shown))
}

/// Several patterns under one name were written as one operation, and are shown as one.
fn operations(operations: &[Operation]) -> Vec<Value> {
    operations
        .chunk_by(|one, next| one.name == next.name)
        .filter_map(|same| {
            let first = same.first()?;
            Some(without_absent(json!({
                "name": &*first.name,
                "match": same.iter().map(|operation| operation.requests.to_string()).collect::<Vec<_>>(),
                "level": first.level.map(|level| level.to_string()),
                "resource": first.resource_text(),
            })))
        })
        .collect()
}

fn cors(cors: &Cors) -> Value {
    json!({
        "origins": cors.origins,
        "methods": cors.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "headers": cors.headers.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "expose": cors.expose.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "credentials": cors.credentials,
        "max_age": humantime::format_duration(cors.max_age).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn another_address_leaves_the_rest_of_the_table_as_it_was() {
        let table = json!({"base_url": ["https://a.example", "https://b.example"], "level": "read"});
        assert_eq!(address(&table).as_deref(), Some("https://a.example"));
        let moved = with_address(Some(&table), "https://c.example");
        assert_eq!(moved, json!({"base_url": "https://c.example", "level": "read"}));
        assert_eq!(address(&with_address(None, "http://localhost")).as_deref(), Some("http://localhost"));
    }

    /// Everything that a table can say without a secret.
    fn full() -> Value {
        json!({
            "base_url": [
                {"url": "https://a.example/v2", "weight": 3},
                {"url": "http://b.example:81", "weight": 1},
            ],
            "level": "read, execute",
            "unmatched": "level",
            "public": ["/health", "/"],
            "forward_token": true,
            "tunnel": false,
            "timeouts": {"connect": "500ms", "first_byte": "1m 30s", "idle": "1h", "total": "0"},
            "tls": {"protocol": "http2"},
            "inject": {
                "headers": {"x-api-key": "{secret:key}"},
                "query": {"who": "{user}{claim:org}"},
                "cookies": {"groups": "{groups}"},
                "basic_auth": {"username": "{user.email}", "password": "{secret:word}"},
            },
            "operation": [
                {
                    "name": "tag",
                    "match": ["POST|PUT /tags/{id}", "ANY /labels/{id}/a*b/**"],
                    "level": "create",
                    "resource": "{namespace}.{service}.tag%2Ex.{id}",
                },
                {"name": "rest", "match": "GET /"},
            ],
            "cors": {
                "origins": ["https://app.example"],
                "methods": ["GET"],
                "headers": ["x-asked"],
                "expose": ["x-shown"],
                "credentials": true,
                "max_age": "10m",
            },
        })
    }

    #[test]
    fn what_is_shown_of_a_table_without_secrets_declares_the_same_service_again() {
        let service = config::parse_service("ns", "svc", &full()).unwrap();
        let again = config::parse_service("ns", "svc", &of_file(&service)).unwrap();
        assert_eq!(format!("{again:#?}"), format!("{service:#?}"));
    }

    #[test]
    fn a_literal_of_a_template_is_shown_nowhere() {
        let mut table = full();
        table["inject"]["headers"]["x-api-key"] = json!("canary {secret:key} canary");
        table["inject"]["query"]["key"] = json!("canary");
        table["inject"]["cookies"]["c"] = json!("canary");
        table["inject"]["basic_auth"] = json!({"username": "canary", "password": "canary"});
        let shown = of_file(&config::parse_service("ns", "svc", &table).unwrap());
        assert!(!shown.to_string().contains("canary"), "{shown:#}");
        assert_eq!(shown["inject"]["headers"]["x-api-key"], "…{secret:key}…");
    }
}

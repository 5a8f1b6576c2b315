//! A service's table as JSON: what registering writes, and how a service of the file is shown.

use serde_json::{Map, Value, json};

use crate::config::{Service, Template, TokenForwarding, Unmatched};

/// The table with this address instead of whatever addresses it had.
pub(super) fn with_address(table: Option<&Value>, url: &str) -> Value {
    let mut table = table.and_then(Value::as_object).cloned().unwrap_or_default();
    table.insert("base_url".to_owned(), json!(url));
    Value::Object(table)
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

/// A service of the file: what an owner needs to see of it. References to the environment and to files are shown as
/// written, never resolved; trust and client certificates are left out.
pub(super) fn of_file(service: &Service) -> Value {
    let urls: Vec<&str> = service.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect();
    let mut table = Map::new();
    table.insert("base_url".to_owned(), if let [url] = urls.as_slice() { json!(url) } else { json!(urls) });
    table.insert("level".to_owned(), json!(service.level.to_string()));
    let unmatched = if service.unmatched == Unmatched::Level { "level" } else { "refuse" };
    table.insert("unmatched".to_owned(), json!(unmatched));
    table.insert("public".to_owned(), json!(service.public));
    table.insert(
        "forward_token".to_owned(),
        match service.forward_token {
            TokenForwarding::No => json!(false),
            TokenForwarding::Minted => json!(true),
            TokenForwarding::Full => json!("full"),
        },
    );
    let inject = &service.inject;
    let mut injection = Map::new();
    let headers = inject.headers.iter().map(|(name, template)| (name.as_str(), template));
    put_templates(&mut injection, "headers", headers);
    put_templates(&mut injection, "query", inject.query.iter().map(|(name, template)| (name.as_str(), template)));
    put_templates(&mut injection, "cookies", inject.cookies.iter().map(|(name, template)| (name.as_str(), template)));
    if let Some(basic) = &inject.basic {
        let basic = json!({"username": &*basic.username.written, "password": &*basic.password.written});
        injection.insert("basic_auth".to_owned(), basic);
    }
    table.insert("inject".to_owned(), Value::Object(injection));
    let operations: Vec<Value> = service
        .operations
        .iter()
        .map(|operation| {
            let mut shown = json!({"name": &*operation.name});
            if let (Some(level), Some(shown)) = (operation.level, shown.as_object_mut()) {
                shown.insert("level".to_owned(), json!(level.to_string()));
            }
            shown
        })
        .collect();
    table.insert("operation".to_owned(), json!(operations));
    Value::Object(table)
}

fn put_templates<'a>(
    into: &mut Map<String, Value>,
    key: &str,
    templates: impl Iterator<Item = (&'a str, &'a Template)>,
) {
    let shown: Map<String, Value> =
        templates.map(|(name, template)| (name.to_owned(), json!(&*template.written))).collect();
    if !shown.is_empty() {
        into.insert(key.to_owned(), Value::Object(shown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_leaves_the_rest_of_the_table_as_it_was() {
        let table = json!({"base_url": ["https://a.example", "https://b.example"], "level": "read"});
        assert_eq!(address(&table).as_deref(), Some("https://a.example"));
        let moved = with_address(Some(&table), "https://c.example");
        assert_eq!(moved, json!({"base_url": "https://c.example", "level": "read"}));
        assert_eq!(address(&with_address(None, "http://localhost")).as_deref(), Some("http://localhost"));
    }
}

//! The table of a service, out of the schema of `gateway.toml`: what the API takes and shows is the same table as JSON.

use serde_json::{Map, Value};
use utoipa::openapi::{Object, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::config;

/// The body that is a service's table; what it has comes from [`schemas`].
pub(in crate::api) struct ServiceTable;

impl ToSchema for ServiceTable {}

impl PartialSchema for ServiceTable {
    fn schema() -> RefOr<Schema> {
        Object::new().into()
    }
}

/// The table and all that it is made of, by the names that they have here.
pub(super) fn schemas() -> Map<String, Value> {
    let whole = config::schema();
    let mut found = Map::new();
    let mut open = vec![ROOT.to_owned()];
    while let Some(name) = open.pop() {
        let Some(schema) = whole.pointer(&format!("/$defs/{name}")) else { continue };
        if found.contains_key(&here(&name)) {
            continue;
        }
        let mut schema = schema.clone();
        rename(&mut schema, &mut open);
        found.insert(here(&name), schema);
    }
    if let Some(required) =
        found.get_mut(TABLE).and_then(|table| table.get_mut("required")).and_then(Value::as_array_mut)
    {
        // The path of the request has its names, and whoever registers it owns it.
        required.retain(|key| key == "base_url");
    }
    found
}

const ROOT: &str = "ServiceFile";
const TABLE: &str = "ServiceTable";

/// The name of the file's schema in this document.
fn here(name: &str) -> String {
    if name == ROOT { TABLE.to_owned() } else { format!("{TABLE}.{}", name.trim_end_matches("File")) }
}

/// Lets every reference name what it names here, and notes what that is.
fn rename(schema: &mut Value, named: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str().filter(|_| key == "$ref").and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(name) => {
                        named.push(name.to_owned());
                        *value = format!("#/components/schemas/{}", here(name)).into();
                    }
                    None => rename(value, named),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, named)),
        _ => {}
    }
}

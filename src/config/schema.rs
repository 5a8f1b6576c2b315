//! The JSON Schema of `gateway.toml`, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::file::ConfigFile;

/// The JSON Schema (draft 2020-12) of `gateway.toml`, with descriptions and defaults.
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(forget_null));
    settings.into_generator().into_root_schema_for::<ConfigFile>().to_value()
}

/// TOML has no null: a key that may be absent is just not required.
fn forget_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(words)) = object.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            for (key, value) in one {
                object.entry(key).or_insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_no_null_and_knows_what_is_required() {
        let schema = schema();
        assert!(!schema.to_string().contains("null"), "{schema:#}");
        let required = &schema["$defs"]["ServiceFile"]["required"];
        for key in ["namespace", "name", "base_url", "owner"] {
            assert!(required.as_array().unwrap().iter().any(|name| name == key), "{required}");
        }
        assert_eq!(schema["$defs"]["ListenFile"]["properties"]["proxy"]["default"], "127.0.0.1:8080");
        assert_eq!(schema["$defs"]["ListenFile"]["additionalProperties"], false);
    }
}

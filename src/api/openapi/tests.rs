use std::collections::BTreeSet;

use super::*;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

fn document() -> Value {
    router::routes().split().1.document()
}

/// Every operation with what it is called in a failure.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{method} {path}"), path.clone(), operation))
        })
        .collect();
    assert!(operations.len() > 40, "{} operations", operations.len());
    operations
}

#[test]
fn every_operation_says_what_it_is_and_what_it_answers() {
    let document = document();
    let tags: Vec<_> = TAGS.iter().map(|(name, _)| *name).collect();
    let mut ids = BTreeSet::new();
    for (name, _, operation) in operations(&document) {
        assert!(METHODS.contains(&name.split(' ').next().unwrap()), "{name}");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(
            (8..80).contains(&summary.len()) && !summary.contains('`'),
            "{name}: one line says what it is: {summary:?}"
        );
        assert!(tags.contains(&operation["tags"][0].as_str().unwrap_or_default()), "{name}: a chapter of `TAGS`");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{name}: `{id}` is another operation's");
        let answers = operation["responses"].as_object().unwrap();
        // What a gateway does not do has no good answer.
        let is_good = |status: &String| status.starts_with('2') || ["101", "501", "default"].contains(&status.as_str());
        assert!(answers.keys().any(is_good), "{name}: the good answer");
        // Another protocol has no body.
        for (status, answer) in answers.iter().filter(|(status, _)| *status != "101") {
            let said =
                answer.get("$ref").is_some() || answer["content"].as_object().is_some_and(|body| !body.is_empty());
            assert!(said, "{name}: what the body of {status} is");
        }
    }
}

#[test]
fn every_part_of_a_path_is_a_parameter_with_a_description() {
    let document = document();
    for (name, path, operation) in operations(&document) {
        let said: BTreeSet<_> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| match parameter.get("$ref").and_then(Value::as_str) {
                Some(reference) => document.pointer(&reference[1..]).unwrap_or(&Value::Null),
                None => parameter,
            })
            .filter(|parameter| parameter["in"] == "path")
            .inspect(|parameter| assert!(parameter["description"].is_string(), "{name}: {parameter}"))
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let parts: BTreeSet<_> = path.split(['{', '}']).skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(said, parts, "{name}: describe it in `PARTS` or by `params`");
    }
}

#[test]
fn public_operations_are_those_for_which_nobody_is_identified() {
    let document = document();
    for (name, path, operation) in operations(&document) {
        let public = operation["security"] == json!([]);
        let request = http::Request::builder().uri(path.replace(['{', '}'], ""));
        let request = request.header(crate::api::cognito::X_AMZ_TARGET, "x").body(()).unwrap();
        assert_eq!(public, router::is_public(&request), "{name}: `security(())` here and `is_public` in the router");
    }
}

#[test]
fn every_list_that_can_grow_comes_in_pages() {
    let document = document();
    let fixed = ["get /permissions/resources", "get /files"];
    for (name, _, operation) in operations(&document).into_iter().filter(|(name, ..)| name.starts_with("get ")) {
        let list = operation.pointer("/responses/200/content/application~1json/schema/type") == Some(&json!("array"));
        let parameters = operation["parameters"].as_array().unwrap();
        let pages = parameters.iter().any(|parameter| parameter["name"] == "limit");
        assert_eq!(pages, list && !fixed.contains(&name.as_str()), "{name}");
        if pages {
            assert!(operation.pointer("/responses/200/headers/Link").is_some(), "{name}: where the next page is");
        }
    }
}

#[test]
fn every_operation_takes_every_credential_but_the_one_that_makes_api_tokens() {
    let document = document();
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!((&schemes["apiToken"]["type"], &schemes["apiToken"]["scheme"]), (&json!("http"), &json!("basic")));
    let all = &document["security"];
    assert_eq!(*all, json!([{"bearer": []}, {"apiToken": []}, {"trustedHeader": []}]));
    for (name, _, operation) in operations(&document) {
        let said = operation.get("security").unwrap_or(all);
        let expected = match name.as_str() {
            "post /v2/auth/apitoken/{node}" => json!([{"bearer": []}, {"trustedHeader": []}]),
            // From loopback nobody need be identified.
            "get /-/metrics" => json!([{}, {"bearer": []}, {"apiToken": []}, {"trustedHeader": []}]),
            _ if *said == json!([]) => continue,
            _ => all.clone(),
        };
        assert_eq!(*said, expected, "{name}");
    }
}

#[test]
fn a_services_table_is_described_as_the_file_has_it() {
    let document = document();
    let table = document.pointer("/components/schemas/ServiceTable").unwrap();
    assert_eq!(table["required"], json!(["base_url"]));
    assert_eq!(table["properties"]["timeouts"]["$ref"], "#/components/schemas/ServiceTable.Timeouts");
    let put =
        document.pointer("/paths/~1service~1config~1{ns}~1{svc}/put/requestBody/content/application~1json/schema");
    assert_eq!(put.unwrap()["$ref"], "#/components/schemas/ServiceTable");
}

#[test]
fn nothing_is_referred_to_that_is_not_there() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// The type of the routes takes no other; what the router adds to them later would pass by it.
#[test]
fn no_route_is_added_beside_those_that_are_described() {
    let source = include_str!("../router.rs");
    let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    for way in [".route(", ".route_service(", ".nest(", ".nest_service(", ".merge(", ".map("] {
        let tests = code.find("#[cfg(test)]").unwrap();
        assert!(!code[..tests].contains(way), "`{way}…)` in router.rs");
    }
}

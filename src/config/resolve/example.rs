//! `gateway.toml.example` is held equal to the code.

use std::path::Path;

use serde_json::Value as Json;

use super::tests::{directory, read_in};
use super::*;

const EXAMPLE: &str = include_str!("../../../gateway.toml.example");

/// Which of the commented lines are taken as written.
#[derive(Clone, Copy, PartialEq)]
enum Take {
    Nothing,
    Defaults,
    Examples,
    Everything,
}

fn example(take: Take) -> String {
    let line = |line: &str| {
        let taken = if let Some(rest) = line.strip_prefix("## ") {
            matches!(take, Take::Examples | Take::Everything).then_some(rest)
        } else if let Some(rest) = line.strip_prefix("##") {
            matches!(take, Take::Everything).then_some(rest)
        } else if let Some(rest) = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' ')) {
            matches!(take, Take::Defaults | Take::Everything).then_some(rest)
        } else {
            Some(line)
        };
        taken.unwrap_or_default().to_owned() + "\n"
    };
    EXAMPLE.lines().map(line).collect()
}

fn read(directory: &Path, text: &str) -> Config {
    read_in(directory, text).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn the_example_is_the_default_with_and_without_its_defaults() {
    let directory = directory();
    let nothing = read(directory.path(), "");
    assert_eq!(read(directory.path(), EXAMPLE), nothing);
    assert_eq!(read(directory.path(), &example(Take::Nothing)), nothing);
    assert_eq!(read(directory.path(), &example(Take::Defaults)), nothing);
}

#[test]
fn the_defaults_within_the_examples_are_the_defaults() {
    let directory = directory();
    let examples = read(directory.path(), &example(Take::Examples));
    assert_eq!(examples.services.len(), 2);
    assert_eq!(read(directory.path(), &example(Take::Everything)), examples);
}

#[test]
fn the_example_shows_every_key_of_the_schema_with_its_default() {
    let schema = crate::config::schema();
    let text = example(Take::Everything);
    let document = Document::read(&text, Path::new("gateway.toml.example"));
    assert_eq!(document.faults, []);
    let mut compared = 0;
    compare(&schema, &schema, &[&document.tree], "", &mut compared);
    assert!(compared > 80, "{compared}");
}

/// Every property of the schema is in at least one of the nodes; a default is what one of them has.
fn compare(root: &Json, schema: &Json, nodes: &[&Node], path: &str, compared: &mut usize) {
    for schema in alternatives(root, schema) {
        if let Some(items) = schema.get("items") {
            let nodes: Vec<_> = nodes.iter().flat_map(|node| items_of(node)).collect();
            compare(root, items, &nodes, path, compared);
        }
        for (key, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let path = format!("{path}.{key}");
            let steps = [Step::Key(key.clone())];
            let nodes: Vec<_> = nodes.iter().filter_map(|node| node.find(&steps)).map(|(node, _)| node).collect();
            assert!(!nodes.is_empty(), "{path} is not in the example");
            *compared += 1;
            if let Some(default) = property.get("default").filter(|default| !is_empty(default)) {
                assert!(nodes.iter().any(|node| is(node, default)), "{path}: the default {default} is not shown");
            }
            compare(root, property, &nodes, &path, compared);
        }
    }
}

fn items_of(node: &Node) -> &[Node] {
    if let Value::List(items) = &node.value { items } else { &[] }
}

fn alternatives<'s>(root: &'s Json, schema: &'s Json) -> Vec<&'s Json> {
    let mut found = vec![schema];
    if let Some(name) = schema.get("$ref").and_then(Json::as_str) {
        found.extend(root.pointer(name.trim_start_matches('#')).map(|schema| alternatives(root, schema)).unwrap());
    }
    for all in schema.get("anyOf").and_then(Json::as_array).into_iter().flatten() {
        found.extend(alternatives(root, all));
    }
    found
}

fn is(node: &Node, value: &Json) -> bool {
    match (&node.value, value) {
        (Value::Text(one), Json::String(other)) => one == other,
        (Value::Bool(one), Json::Bool(other)) => one == other,
        (Value::Integer(one), Json::Number(other)) => other.as_i128() == Some(*one),
        (Value::List(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is(one, other))
        }
        _ => false,
    }
}

/// An empty list or table: what an example fills.
fn is_empty(default: &Json) -> bool {
    default.is_object() || default.as_array().is_some_and(Vec::is_empty)
}

//! `bench`, judged by what the command itself prints and writes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::Value;
use support::gateway::Gateway;

/// What every run tells of, with its layer.
const ROWS: [(&str, &str); 10] = [
    ("clock", "the clock itself"),
    ("decision", "decision, seen before (mean of 64)"),
    ("decision", "decision anew, one user"),
    ("token", "token, seen before (mean of 64)"),
    ("token", "token, first seen"),
    ("decision", "decision of a call, seen before (64)"),
    ("secret", "secret opened into the request"),
    ("upstream", "call of the service itself"),
    ("walk", "call through the gateway"),
    ("walk", "call with a token first seen"),
];

/// Runs `bench` with these arguments, and holds the table, the JSON and the SVG against each other.
fn bench(gateway: &Gateway, arguments: &[&str]) -> Value {
    let all = [&["bench", "--decisions", "1000", "--calls", "20", "--json", "a.json", "--svg", "a.svg"], arguments];
    let ran = gateway.run(&all.concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    let told: Value = serde_json::from_slice(&fs::read(gateway.path("a.json")).unwrap()).unwrap();
    let rows = told["latencies"].as_array().unwrap();
    for (layer, what) in ROWS {
        let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what}: {told:#}"));
        assert_eq!(row["layer"], layer, "{what}");
        assert!(row["times"].as_u64().unwrap() > 0, "{what}");
        let times = ["p50_ns", "p90_ns", "p99_ns", "p99.9_ns", "max_ns"].map(|time| row[time].as_u64().unwrap());
        assert!(times.is_sorted() && times[4] > 0, "{what}: {times:?}");
        let curve = row["percentiles"].as_array().unwrap();
        assert_eq!(curve.last().unwrap()[0], 100.0, "{what}");
        let line = ran.out.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_else(|| panic!("{}", ran.out));
        let shown = line.split_whitespace().filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
        assert_eq!(shown.count(), 5, "{what}: {line}");
    }
    let svg = fs::read_to_string(gateway.path("a.svg")).unwrap();
    let elements = well_formed(&svg);
    assert_eq!(elements.iter().filter(|name| *name == "polyline").count(), rows.len(), "a line for each row");
    assert!(ROWS.iter().all(|(_, what)| svg.contains(what)), "{svg}");
    told
}

/// The names of the elements of an XML document without declarations, comments and sections.
fn well_formed(text: &str) -> Vec<String> {
    let (mut all, mut open, mut rest) = (Vec::new(), Vec::new(), text.trim());
    while let Some(from) = rest.find('<') {
        let (before, tag) = rest.split_at(from);
        characters(before);
        assert!(before.trim().is_empty() || !open.is_empty(), "text outside of the document: `{before}`");
        let (tag, after) = tag[1..].split_once('>').expect("a tag that ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "what ends was begun last");
            continue;
        }
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        assert!(all.is_empty() || !open.is_empty(), "there is one root");
        all.push(name.to_owned());
        while !attributes.trim().is_empty() {
            let (key, value) = attributes.trim_start().split_once("=\"").expect("an attribute with its value");
            assert!(key.chars().all(|char| char.is_ascii_alphanumeric() || char == '-'), "`{key}`");
            let (value, others) = value.split_once('"').expect("a value that ends");
            characters(value);
            attributes = others;
        }
        if !is_empty {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} `{rest}`");
    assert_eq!(all[0], "svg");
    all
}

/// Every `&` begins an entity that XML itself has.
fn characters(text: &str) {
    let entities = ["amp;", "lt;", "gt;", "quot;", "apos;"];
    assert!(text.split('&').skip(1).all(|after| entities.iter().any(|entity| after.starts_with(entity))), "{text}");
}

#[test]
fn a_made_up_population_is_measured_layer_by_layer_and_as_a_whole() {
    let gateway = Gateway::builder().prepare();
    let told = bench(&gateway, &["--users", "100", "--services", "50"]);
    let about = (&told["population"], &told["users"], &told["services"], &told["grants"], &told["load"]);
    assert_eq!(about, (&"made up".into(), &100.into(), &50.into(), &1000.into(), &Value::Null));

    let told = bench(&gateway, &["--users", "50", "--services", "30", "--load"]);
    assert!(told["load"]["seconds"].as_f64().unwrap() > 0.0, "{told:#}");
}

#[test]
fn the_population_of_a_store_is_measured_beside_the_gateway_that_serves_it() {
    // Nobody listens there: what is measured never calls the services of the configuration.
    let gateway = Gateway::with_service("http://127.0.0.1:9", "").start();
    let told = bench(&gateway, &["--config", "gateway.toml"]);
    assert_eq!((&told["population"], &told["services"]), (&"store".into(), &1.into()));
    assert_eq!(told["users"].as_u64().unwrap(), 3, "the owner, alice and bob");
}

#[test]
fn a_store_in_which_nobody_may_do_anything_is_measured_all_the_same() {
    let gateway = Gateway::builder().user("alice", &[]).service("materials", "mp", "http://127.0.0.1:9", "").start();
    bench(&gateway, &["--config", "gateway.toml"]);
}

#[test]
fn a_file_that_cannot_be_written_is_told() {
    let gateway = Gateway::builder().prepare();
    let ran = gateway.run(&["bench", "--users", "10", "--decisions", "100", "--calls", "0", "--svg", "none/a.svg"]);
    assert_eq!(ran.code, Some(2), "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("`none/a.svg`"), "{}", ran.err);
}

//! A table as it was written, in TOML or JSON, with the place of every key and value.

use std::fmt::Write as _;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A value and where it stands. No `Debug`: it may hold secrets.
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) span: Range<usize>,
}

pub(super) enum Value {
    /// JSON's `null`: as if the key were not there.
    Nothing,
    /// Wrong and already reported; kept so that the others keep their positions.
    Removed,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    /// A TOML date or time: nothing in a configuration is one.
    Date,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

pub(super) struct Entry {
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) node: Node,
}

/// One step from a table or list to what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    pub(super) fn nothing() -> Self {
        Self { value: Value::Nothing, span: 0..0 }
    }

    pub(super) fn from_toml(table: &DeTable<'_>, span: Range<usize>) -> Self {
        let entries = table.iter().map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            span: key.span(),
            node: Self::from_toml_value(value.get_ref(), value.span()),
        });
        Self { value: Value::Table(entries.collect()), span }
    }

    fn from_toml_value(value: &DeValue<'_>, span: Range<usize>) -> Self {
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Float(f64::INFINITY), Value::Integer),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| Self::from_toml_value(item.get_ref(), item.span())).collect())
            }
            DeValue::Table(table) => return Self::from_toml(table, span),
        };
        Self { value, span }
    }

    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match value {
            Json::Null => Value::Nothing,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => {
                number.as_i128().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Integer)
            }
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(table) => Value::Table(
                table
                    .iter()
                    .map(|(key, value)| Entry { key: key.clone(), span: 0..0, node: Self::from_json(value) })
                    .collect(),
            ),
        };
        Self { value, span: 0..0 }
    }

    /// What is at the end of the path, with the place of its key where it has one.
    pub(super) fn find(&self, path: &[Step]) -> Option<(&Self, Range<usize>)> {
        let mut here = (self, self.span.clone());
        for step in path {
            here = match (step, &here.0.value) {
                (Step::Key(key), Value::Table(entries)) => {
                    let entry = entries.iter().find(|entry| entry.key == *key)?;
                    (&entry.node, entry.span.clone())
                }
                (Step::Index(index), Value::List(items)) => {
                    let item = items.get(*index)?;
                    (item, item.span.clone())
                }
                _ => return None,
            };
        }
        Some(here)
    }

    /// Takes what is at the end of the path out of what is read. False where there is no such thing left.
    pub(super) fn remove(&mut self, path: &[Step]) -> bool {
        let mut here = self;
        for step in path {
            let next = match (step, &mut here.value) {
                (Step::Key(key), Value::Table(entries)) => {
                    entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
                }
                (Step::Index(index), Value::List(items)) => items.get_mut(*index),
                _ => None,
            };
            match next {
                Some(node) => here = node,
                None => return false,
            }
        }
        let there = !matches!(here.value, Value::Removed);
        here.value = Value::Removed;
        there
    }

    /// Whether the path leads through something removed.
    pub(super) fn is_removed(&self, path: &[Step]) -> bool {
        (0..=path.len()).any(|length| {
            path.get(..length)
                .and_then(|part| self.find(part))
                .is_some_and(|(node, _)| matches!(node.value, Value::Removed))
        })
    }

    /// The positions in the file of the items that are read of the list.
    pub(super) fn positions(&self, list: &[Step]) -> Vec<usize> {
        let Some((Self { value: Value::List(items), .. }, _)) = self.find(list) else { return Vec::new() };
        let left = items.iter().enumerate().filter(|(_, item)| !matches!(item.value, Value::Removed));
        left.map(|(position, _)| position).collect()
    }
}

/// The path for people: `service[0].inject.headers.X-API-KEY`.
pub(super) fn shown_path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&shown_key(key));
            }
        }
    }
    text
}

/// A key, in quotes where TOML needs them. Cut at what no key has: the rest may be a value that slipped in.
fn shown_key(key: &str) -> String {
    let ordinary = |found: &char| found.is_alphanumeric() || "_-.!#$%&'*+^`|~/@[]".contains(*found);
    let cut: String = key.chars().take(60).take_while(ordinary).collect();
    if cut.len() < key.len() {
        format!("\"{cut}…\"")
    } else if !cut.is_empty() && cut.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        cut
    } else {
        format!("\"{cut}\"")
    }
}

//! From a tree to the types of `file.rs`, with every wrong type and unknown key reported, not only the first.
//!
//! serde stops at its first error. So that entry is reported and taken out, and the reading starts again: every field
//! is optional, so what is left stays readable, and each round removes one entry, so the rounds end.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Complaint, nearest, shown};
use super::tree::{Entry, Node, Step, Value, shown_path};

/// After so many the file is not a configuration at all.
const MOST_FAULTS: usize = 100;

/// What was wrong with one entry.
pub(super) struct Misread {
    pub(super) path: Vec<Step>,
    /// The key itself is wrong, not its value.
    pub(super) on_key: bool,
    pub(super) complaint: Complaint,
}

/// Reads the tree; what is wrong is removed from it and returned. `excused` learns the keys that need not be missed
/// any more, because a misspelling of them was reported. Nothing where too little is left to go on with.
pub(super) fn decode<T: DeserializeOwned>(tree: &mut Node, excused: &mut HashSet<String>) -> (Option<T>, Vec<Misread>) {
    let mut misread = Vec::new();
    while misread.len() < MOST_FAULTS {
        let mut wrong = match T::deserialize(&*tree) {
            Ok(read) => return (Some(read), misread),
            Err(wrong) => *wrong.0,
        };
        wrong.misread.path.reverse();
        if let (Some(meant), Some((Step::Key(_), above))) = (wrong.meant, wrong.misread.path.split_last()) {
            let mut path = above.to_vec();
            path.push(Step::Key(meant));
            excused.insert(shown_path(&path));
        }
        let removed = tree.remove(&wrong.misread.path);
        misread.push(wrong.misread);
        if !removed {
            break;
        }
    }
    (None, misread)
}

/// serde's error, on its way up; the path grows from its end. Boxed, as it travels through every `Result`.
pub(super) struct Wrong(Box<WrongParts>);

struct WrongParts {
    misread: Misread,
    meant: Option<String>,
}

impl Wrong {
    fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        let misread = Misread { path: Vec::new(), on_key: false, complaint: Complaint::new(what, instead) };
        Self(Box::new(WrongParts { misread, meant: None }))
    }

    fn below(mut self, step: Step) -> Self {
        self.0.misread.path.push(step);
        self
    }
}

impl fmt::Debug for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.misread.complaint.what)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.misread.complaint.what)
    }
}

impl std::error::Error for Wrong {}

impl Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), "see gateway.toml.example")
    }

    /// Never shows the value: this may be the place of a secret.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found, wanted) = (kind(&unexpected), wanted(expected));
        let instead = match (found, wanted.as_str()) {
            ("a number" | "a number with a fraction" | "true or false" | "a date", "text") => {
                "put it in quotes".to_owned()
            }
            ("text", "a whole number" | "true or false") => "write it without quotes".to_owned(),
            ("a table", "a list") => {
                "write a list: `[…]`, or `[[…]]` with two brackets around a table's name".to_owned()
            }
            ("text", "a list") => "put it in brackets: `[\"…\"]`".to_owned(),
            ("a list", "a table") => "write one table: `[…]` with single brackets around its name".to_owned(),
            _ => format!("write {wanted}"),
        };
        Self::new(format!("expected {wanted}, found {found}"), instead)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match unexpected {
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => {
                Self::new("the number is out of range", "write a whole number that is not negative and not so large")
            }
            other => Self::invalid_type(other, expected),
        }
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {length}", wanted(expected)), "write as many as expected")
    }

    /// Only for the few keys that take one word of a list; none of them is secret.
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value {}", shown(variant)), did_you_mean(variant, expected).0)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let (instead, meant) = did_you_mean(field, expected);
        let mut wrong = Self::new("unknown key", instead);
        wrong.0.misread.on_key = true;
        wrong.0.meant = meant;
        wrong
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is missing"), format!("write `{field} = …`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("`{field}` is there twice"), "write it once")
    }
}

fn did_you_mean(word: &str, known: &'static [&'static str]) -> (String, Option<String>) {
    let list = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match nearest(word, known.iter().copied()) {
        Some(near) => (format!("did you mean `{near}`? known here: {list}"), Some(near.to_owned())),
        None => (format!("known here: {list}"), None),
    }
}

fn kind(unexpected: &Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        Unexpected::Other("date") => "a date",
        _ => "nothing",
    }
}

/// What was expected, without the names of types.
fn wanted(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i64" => "a whole number".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other if other.starts_with("enum ") => "text".to_owned(),
        _ => text,
    }
}

impl<'de> serde::Deserializer<'de> for &'de Node {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.value {
            Value::Nothing | Value::Removed => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => Err(Error::invalid_value(Unexpected::Signed(0), &visitor)),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Date => Err(Error::invalid_type(Unexpected::Other("date"), &visitor)),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Table(entries) => visitor.visit_map(Entries { entries: entries.iter(), entry: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Nothing | Value::Removed => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.value {
            Value::Text(text) => visitor.visit_enum(Word(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The items that are left of a list.
struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        match self.items.find(|(_, item)| !matches!(item.value, Value::Removed)) {
            Some((index, item)) => seed.deserialize(item).map(Some).map_err(|wrong| wrong.below(Step::Index(index))),
            None => Ok(None),
        }
    }
}

/// The entries that are left of a table.
struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    entry: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        // `null` is the same as no key, also where the field itself knows no `null`.
        self.entry = self.entries.find(|entry| !matches!(entry.node.value, Value::Removed | Value::Nothing));
        let Some(entry) = self.entry else { return Ok(None) };
        let key = StrDeserializer::new(entry.key.as_str());
        seed.deserialize(key).map(Some).map_err(|wrong: Wrong| wrong.below(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some(entry) = self.entry.take() else { return Err(Error::custom("a value without its key")) };
        seed.deserialize(&entry.node).map_err(|wrong| wrong.below(Step::Key(entry.key.clone())))
    }
}

/// One word of a list of words.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Wrong;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Wrong> {
        Ok((seed.deserialize(StrDeserializer::new(self.0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Wrong> {
        Err(Error::invalid_type(Unexpected::Str(self.0), &"a table"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        Err(Error::invalid_type(Unexpected::Str(self.0), &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        Err(Error::invalid_type(Unexpected::Str(self.0), &visitor))
    }
}

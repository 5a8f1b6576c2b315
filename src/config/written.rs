//! Values that may be written in more than one way, and texts that must not be shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::Hidden;
use super::service_file::{BaseUrlFile, EndpointFile, EndpointTable, ForwardTokenFile, MatchFile};

/// A table of texts in the order written. Values are hidden.
#[derive(Default)]
pub(super) struct Pairs(pub(super) Vec<(String, Hidden)>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Hidden {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl JsonSchema for Pairs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Pairs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

impl<'de> Deserialize<'de> for ForwardTokenFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ForwardVisitor;
        impl Visitor<'_> for ForwardVisitor {
            type Value = ForwardTokenFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"full\"")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<ForwardTokenFile, E> {
                Ok(if value { ForwardTokenFile::Minted } else { ForwardTokenFile::No })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ForwardTokenFile, E> {
                if text == "full" {
                    Ok(ForwardTokenFile::Full)
                } else {
                    Err(E::invalid_type(Unexpected::Str(text), &self))
                }
            }
        }
        deserializer.deserialize_any(ForwardVisitor)
    }
}

impl JsonSchema for ForwardTokenFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ForwardToken".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [false, true, "full"], "default": false })
    }
}

/// A text, or a list of texts.
pub(super) enum TextOrList {
    /// One.
    Text(String),
    /// Several.
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany {
            expecting: "a text or a list of texts",
            one: Self::Text,
            many: Self::List,
        })
    }
}

/// Reads a text as one, or a list as many.
struct OneOrMany<T, Item> {
    expecting: &'static str,
    one: fn(String) -> T,
    many: fn(Vec<Item>) -> T,
}

impl<'de, T, Item: Deserialize<'de>> Visitor<'de> for OneOrMany<T, Item> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok((self.one)(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok((self.many)(items))
    }
}

impl<'de> Deserialize<'de> for BaseUrlFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany {
            expecting: "a URL or a list of URLs",
            one: |text| Self::One(Hidden::new(text)),
            many: Self::Many,
        })
    }
}

impl<'de> Deserialize<'de> for MatchFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a pattern or a list of patterns";
        deserializer.deserialize_any(OneOrMany { expecting, one: Self::One, many: Self::Many })
    }
}

impl<'de> Deserialize<'de> for EndpointFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EndpointVisitor;
        impl<'de> Visitor<'de> for EndpointVisitor {
            type Value = EndpointFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or `{ url = …, weight = … }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<EndpointFile, E> {
                Ok(EndpointFile::Url(Hidden::new(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EndpointFile, A::Error> {
                EndpointTable::deserialize(MapAccessDeserializer::new(map)).map(EndpointFile::Table)
            }
        }
        deserializer.deserialize_any(EndpointVisitor)
    }
}

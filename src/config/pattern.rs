//! Reading operation patterns and resource names.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::bounds::{PATTERN_BYTES, RESOURCE_BYTES, RESTS, SEGMENTS_BETWEEN_RESTS, STARS};
use super::{MAX_CAPTURES, Operation, RequestPattern, ResourceKey, Segment};
use crate::policy::{MAX_KEYS, Pattern, PatternKey};

/// Why a text is no request pattern or resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n{instead}")]
pub struct PatternFault {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

fn wrong<T>(what: impl Into<String>, instead: impl Into<String>) -> Result<T, PatternFault> {
    Err(PatternFault { what: what.into(), instead: instead.into() })
}

impl RequestPattern {
    /// Reads `METHOD /path`, `METHOD|METHOD /path` or `ANY /path`.
    ///
    /// # Errors
    /// [`PatternFault`] for a text that has another shape, or that could never match.
    pub fn parse(text: &str) -> Result<Self, PatternFault> {
        if text.len() > PATTERN_BYTES {
            return wrong(format!("the pattern is longer than {PATTERN_BYTES} bytes"), "write a shorter one");
        }
        let Some((methods, path)) = text.split_once(' ') else {
            return wrong(
                format!("`{}` has no blank between methods and path", text.escape_debug()),
                "write `METHOD /path`, such as `POST|PUT /tags/{id}` or `ANY /**`",
            );
        };
        Ok(Self { methods: parse_methods(methods)?, segments: parse_path(path)? })
    }

    /// Reads the resource name of an operation with this pattern, such as `{namespace}.{service}.tag.{id}`; `of` is
    /// namespace, service and operation.
    ///
    /// # Errors
    /// [`PatternFault`] for an empty or wild key, and for a name in braces that the pattern does not remember.
    pub fn resource(&self, text: &str, of: [&str; 3]) -> Result<Vec<ResourceKey>, PatternFault> {
        if text.len() > RESOURCE_BYTES {
            return wrong(format!("the name is longer than {RESOURCE_BYTES} bytes"), "write a shorter name");
        }
        let keys: Vec<_> = text.split('.').map(|part| parse_resource_key(part, of, self)).collect::<Result<_, _>>()?;
        if keys.len() > MAX_KEYS {
            return wrong(format!("more than {MAX_KEYS} keys"), "write a shorter name");
        }
        Ok(keys)
    }

    /// The position of a `{name}` in what a match remembers.
    fn position(&self, name: &str) -> Option<usize> {
        self.capture_names().position(|known| known == name)
    }

    /// The names in braces, in order.
    pub(super) fn capture_names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for RequestPattern {
    /// As [`RequestPattern::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.methods.is_empty() {
            f.write_str("ANY")?;
        }
        for (position, method) in self.methods.iter().enumerate() {
            write!(f, "{}{method}", if position == 0 { "" } else { "|" })?;
        }
        f.write_str(if self.segments.is_empty() { " /" } else { " " })?;
        for segment in &self.segments {
            match segment {
                Segment::Text(text) | Segment::Glob(text) => write!(f, "/{text}")?,
                Segment::Capture(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest => f.write_str("/**")?,
            }
        }
        Ok(())
    }
}

impl Operation {
    /// The resource name as [`RequestPattern::resource`] reads it, with namespace, service and operation filled in.
    #[must_use]
    pub fn resource_text(&self) -> String {
        let key = |key: &ResourceKey| match key {
            ResourceKey::Text(text) => Pattern::literal([&**text]).map(|name| name.to_string()).unwrap_or_default(),
            ResourceKey::Captured(position) => {
                format!("{{{}}}", self.requests.capture_names().nth(*position).unwrap_or_default())
            }
        };
        self.resource.iter().map(key).collect::<Vec<_>>().join(".")
    }
}

fn parse_methods(text: &str) -> Result<Vec<Method>, PatternFault> {
    if text == "ANY" {
        return Ok(Vec::new());
    }
    let mut methods: Vec<Method> = Vec::new();
    for word in text.split('|') {
        let upper = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        let (true, Ok(method)) = (upper, Method::from_bytes(word.as_bytes())) else {
            return wrong(
                format!("`{}` is no method", word.escape_debug()),
                "write upper-case methods joined by `|`, such as `POST|PUT`, or `ANY`",
            );
        };
        if method == "ANY" {
            return wrong("`ANY` stands beside other methods", "write `ANY` alone, or only the methods that you mean");
        }
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    // `HEAD` alone would have to be read as GET too, which would open more than was written.
    if methods.contains(&Method::HEAD) && !methods.contains(&Method::GET) {
        return wrong("`HEAD` stands without `GET`, but HEAD is judged as GET", "write `GET`; it covers HEAD");
    }
    methods.retain(|method| *method != Method::HEAD);
    Ok(methods)
}

fn parse_path(path: &str) -> Result<Vec<Segment>, PatternFault> {
    let Some(rest) = path.strip_prefix('/') else {
        return wrong(format!("the path `{}` does not begin with `/`", path.escape_debug()), "write `METHOD /path`");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let segments: Vec<_> = rest.split('/').map(parse_segment).collect::<Result<_, _>>()?;
    let pattern = RequestPattern { methods: Vec::new(), segments };
    let names: Vec<_> = pattern.capture_names().collect();
    if names.len() > MAX_CAPTURES {
        return wrong(format!("more than {MAX_CAPTURES} segments in braces"), "write `*` for those that nothing names");
    }
    let blocks: Vec<_> = pattern.segments.split(|segment| matches!(segment, Segment::Rest)).collect();
    if blocks.len() > RESTS + 1 {
        return wrong(format!("more than {RESTS} `**`"), "write `*` for single segments, or end with the first `**`");
    }
    if let [_, between @ .., _] = blocks.as_slice()
        && between.iter().any(|block| block.len() > SEGMENTS_BETWEEN_RESTS)
    {
        let what = format!("more than {SEGMENTS_BETWEEN_RESTS} segments between two `**`");
        return wrong(what, "write fewer, or `**` once");
    }
    for (position, name) in names.iter().enumerate() {
        if names.iter().take(position).any(|earlier| earlier == name) {
            return wrong(format!("`{{{name}}}` occurs twice"), "give each segment in braces a name of its own");
        }
    }
    Ok(pattern.segments)
}

fn parse_segment(text: &str) -> Result<Segment, PatternFault> {
    let shown = text.escape_debug();
    if text.is_empty() {
        return wrong("the path has an empty segment", "write one `/` between segments");
    }
    if text == "**" {
        return Ok(Segment::Rest);
    }
    if text.contains("**") {
        return wrong(
            format!("`**` is only a part of the segment `{shown}`"),
            "write `**` as a whole segment, or `*` for any characters within one",
        );
    }
    if text.matches('*').count() > STARS {
        return wrong(format!("more than {STARS} `*` in the segment `{shown}`"), "write fewer");
    }
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return parse_capture(name);
    }
    if text.contains(['{', '}']) {
        return wrong(
            format!("braces are only a part of the segment `{shown}`"),
            "write `{name}` as a whole segment, or `*` for any characters within one",
        );
    }
    if let Some(character) = text.chars().find(|found| matches!(found, '\\' | '?' | '#' | '\0') || found.is_control()) {
        return wrong(
            format!("`{}` never occurs in the path that is matched", character.escape_debug()),
            "write the path alone, without query and fragment",
        );
    }
    if text == "." || text == ".." {
        return wrong(format!("a call with the segment `{text}` is always refused"), "write the path that is meant");
    }
    if is_percent_encoded(text) {
        return wrong(
            format!("`{shown}` is percent-encoded"),
            "write the characters themselves: patterns are compared with the decoded path",
        );
    }
    Ok(if text.contains('*') { Segment::Glob(text.to_owned()) } else { Segment::Text(text.to_owned()) })
}

fn parse_capture(name: &str) -> Result<Segment, PatternFault> {
    let shown = name.escape_debug();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return wrong(format!("`{{{shown}}}` is no name in braces"), "write letters, digits and `_`, such as `{id}`");
    }
    if matches!(name, "namespace" | "service" | "operation") {
        return wrong(
            format!("`{{{shown}}}` already has a meaning in resource names"),
            "give the segment another name, such as `{id}`",
        );
    }
    Ok(Segment::Capture(name.to_owned()))
}

fn is_percent_encoded(text: &str) -> bool {
    text.as_bytes()
        .windows(3)
        .any(|three| matches!(three, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

fn parse_resource_key(part: &str, of: [&str; 3], requests: &RequestPattern) -> Result<ResourceKey, PatternFault> {
    let [namespace, service, operation] = of;
    let shown = part.escape_debug();
    if part.is_empty() {
        return wrong("a key between the dots is empty", "write keys joined by single dots");
    }
    if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return match name {
            "namespace" => Ok(ResourceKey::Text(namespace.into())),
            "service" => Ok(ResourceKey::Text(service.into())),
            "operation" => Ok(ResourceKey::Text(operation.into())),
            _ => match requests.position(name) {
                Some(position) => Ok(ResourceKey::Captured(position)),
                None => wrong(
                    format!("`{{{}}}` is not in the pattern", name.escape_debug()),
                    format!("known here: {}", known_variables(requests)),
                ),
            },
        };
    }
    if part.contains(['{', '}', '*', '?']) {
        return wrong(
            format!("the key `{shown}` is neither plain text nor one name in braces"),
            "write each key as plain text or as `{name}`; a grant may have `*`, a resource name may not",
        );
    }
    match Pattern::parse(part).as_ref().map(Pattern::keys) {
        Ok([PatternKey::Key(key)]) => Ok(ResourceKey::Text(Arc::clone(key))),
        _ => wrong(format!("`{shown}` is no key"), "write plain text; `.`, `*`, `?` and `%` are percent-encoded"),
    }
}

fn known_variables(requests: &RequestPattern) -> String {
    let mut known = String::from("`{namespace}`, `{service}`, `{operation}`");
    for name in requests.capture_names() {
        known.push_str(", `{");
        known.push_str(name);
        known.push_str("}`");
    }
    known
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> RequestPattern {
        RequestPattern::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
    }

    #[test]
    fn patterns_that_could_never_mean_what_they_say_are_refused() {
        for text in [
            "GET",
            "get /a",
            "GET a",
            "GET  /a",
            "GET|| /a",
            "ANY|GET /a",
            "HEAD /a",
            "GET /a//b",
            "GET /a/../b",
            "GET /.",
            "GET /a**",
            "GET /x{id}",
            "GET /{id}/{id}",
            "GET /{}",
            "GET /{a b}",
            "GET /{service}",
            "GET /a%2Fb",
            "GET /a?b",
            "GET /a#b",
            "GET /a\\b",
            "GET /a\0",
            "",
            " /",
            "GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}",
            "GET /a*b*c*",
            "GET /**/a/**/b/**",
            "GET /**/1/2/3/4/5/6/7/8/9/**",
            &format!("GET /{}", "a".repeat(508)),
        ] {
            assert!(RequestPattern::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn resource_names_take_their_keys_from_service_and_call() {
        let requests = pattern("PUT /tags/{id}");
        let read = |text: &str| requests.resource(text, ["materials", "mp", "tag"]);
        let operation = Operation {
            name: "tag".into(),
            requests: requests.clone(),
            level: None,
            resource: read("{namespace}.{service}.a%2Eb.{operation}.{id}").unwrap(),
        };
        let captures = operation.matches(&Method::PUT, &["tags", "7.*"]).unwrap();
        let keys: Vec<_> = operation.resource_keys(&captures).collect();
        assert_eq!(keys, ["materials", "mp", "a.b", "tag", "7.*"]);
        for text in ["", "a..b", "a.*", "{nope}", "x{id}", "a.%zz", "a.%", "{", &"a.".repeat(80), &"a".repeat(1025)] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_pattern_never_panics(text in "\\PC{0,40}") {
            if let Ok(pattern) = RequestPattern::parse(&text) {
                let _ = pattern.matches(&Method::GET, &[text.as_str()]);
                let _ = pattern.resource(&text, ["a", "b", "c"]);
            }
        }
    }
}

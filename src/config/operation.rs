//! Operation patterns: `POST|PUT /tags/{id}`, read once, matched on every call.

use std::sync::Arc;

use http::Method;

use crate::policy::{Levels, Pattern, PatternKey};

/// The most `{name}` segments of one pattern.
pub const MAX_CAPTURES: usize = 8;

/// An operation: a named set of requests with a level and a resource name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name; several patterns under one name are several operations with that name.
    pub name: Arc<str>,
    /// Which requests.
    pub requests: RequestPattern,
    /// What it needs; none: the service's level.
    pub level: Option<Levels>,
    /// The keys of its resource name.
    pub resource: Vec<ResourceKey>,
}

/// Methods and a path: which requests belong to an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPattern {
    /// The methods; empty: any. HEAD is judged as GET and never listed.
    pub methods: Vec<Method>,
    /// The path below the service, by segment.
    pub segments: Vec<Segment>,
}

/// One segment of a pattern. Texts are decoded, and case matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text.
    Text(String),
    /// A text in which each `*` stands for any characters within the segment.
    Glob(String),
    /// `{name}`: any one segment, remembered.
    Capture(String),
    /// `**`: any number of segments, none among them.
    Rest,
}

/// One key of an operation's resource name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceKey {
    /// This key; namespace, service and operation are filled in.
    Text(Arc<str>),
    /// The segment that the pattern remembered at this position.
    Captured(usize),
}

/// The segments that a match remembered, in the order of the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures<'p> {
    texts: [&'p str; MAX_CAPTURES],
    count: usize,
}

impl Operation {
    /// What the pattern remembers of a call that is one of this operation's; none where it is not.
    ///
    /// `segments` are those of the endpoint path, decoded once, without the empty one that a trailing slash leaves.
    #[must_use]
    pub fn matches<'p, S: AsRef<str>>(&self, method: &Method, segments: &'p [S]) -> Option<Captures<'p>> {
        self.requests.matches(method, segments)
    }

    /// The keys of the resource name that a matching call is judged by.
    pub fn resource_keys<'a>(&'a self, captures: &'a Captures<'a>) -> impl Iterator<Item = &'a str> {
        self.resource.iter().map(|key| match key {
            ResourceKey::Text(text) => &**text,
            ResourceKey::Captured(position) => captures.text(*position),
        })
    }
}

impl Operation {
    /// The resource name with `*` for each part that the caller chooses.
    #[must_use]
    pub fn resource_pattern(&self) -> Pattern {
        let keys = self.resource.iter().map(|key| match key {
            ResourceKey::Text(text) => PatternKey::Key(text.clone()),
            ResourceKey::Captured(_) => PatternKey::Any,
        });
        // As many keys as the configuration lets a name have.
        Pattern::new(keys).unwrap_or_default()
    }
}

impl<'p> Captures<'p> {
    const NONE: Self = Self { texts: [""; MAX_CAPTURES], count: 0 };

    /// The remembered segments.
    #[must_use]
    pub fn texts(&self) -> &[&'p str] {
        self.texts.get(..self.count).unwrap_or_default()
    }

    fn text(&self, position: usize) -> &'p str {
        // A position comes from the pattern that made these captures; an empty key would only ever narrow.
        self.texts().get(position).copied().unwrap_or_default()
    }

    fn push(&mut self, text: &'p str) {
        if let Some(place) = self.texts.get_mut(self.count) {
            *place = text;
            self.count += 1;
        }
    }
}

impl RequestPattern {
    /// See [`Operation::matches`].
    #[must_use]
    pub fn matches<'p, S: AsRef<str>>(&self, method: &Method, segments: &'p [S]) -> Option<Captures<'p>> {
        if self.covers(method) { self.matches_path(segments) } else { None }
    }

    fn covers(&self, method: &Method) -> bool {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// Each `**` takes as few segments as it can. What stands before the first and after the last has only one place
    /// to be, and what stands between two of them is short ([`bounds`](super::bounds)): time grows with the path, not
    /// with the product of path and pattern. What is remembered is the same every time.
    fn matches_path<'p, S: AsRef<str>>(&self, path: &'p [S]) -> Option<Captures<'p>> {
        let mut captures = Captures::NONE;
        let mut blocks = self.segments.split(|segment| matches!(segment, Segment::Rest));
        let head = blocks.next().unwrap_or_default();
        let Some(tail) = blocks.next_back() else {
            return (path.len() == head.len() && matches_run(head, path, &mut captures)).then_some(captures);
        };
        let (first, rest) = path.split_at_checked(head.len())?;
        let (mut between, last) = rest.split_at_checked(rest.len().checked_sub(tail.len())?)?;
        if !matches_run(head, first, &mut captures) {
            return None;
        }
        for block in blocks {
            let found = |from: &usize| {
                between.get(*from..*from + block.len()).is_some_and(|run| matches_run(block, run, &mut captures))
            };
            let from = (0..=between.len()).find(found)?;
            between = between.get(from + block.len()..)?;
        }
        matches_run(tail, last, &mut captures).then_some(captures)
    }
}

/// Whether each segment of the path is what the pattern has in its place; what it remembers is added only then.
fn matches_run<'p, S: AsRef<str>>(run: &[Segment], path: &'p [S], captures: &mut Captures<'p>) -> bool {
    let count = captures.count;
    let matched = run.iter().zip(path).all(|(wanted, segment)| {
        let segment = segment.as_ref();
        match wanted {
            Segment::Text(text) => text == segment,
            Segment::Glob(glob) => matches_glob(glob, segment),
            Segment::Capture(_) if segment.is_empty() => false,
            Segment::Capture(_) => {
                captures.push(segment);
                true
            }
            Segment::Rest => false,
        }
    });
    if !matched {
        captures.count = count;
    }
    matched
}

/// Every piece of the glob is looked for once, from the left, by a search that is linear in the text.
fn matches_glob(glob: &str, text: &str) -> bool {
    let mut pieces = glob.split('*');
    let head = pieces.next().unwrap_or_default();
    let Some(tail) = pieces.next_back() else { return text == head };
    let Some(mut rest) = text.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail)) else { return false };
    pieces.all(|piece| match rest.split_once(piece) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> RequestPattern {
        RequestPattern::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
    }

    fn remembered(text: &str, method: &str, path: &str) -> Option<Vec<String>> {
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        pattern(text).matches(&method, &segments).map(|found| found.texts().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn patterns_match_what_the_contract_says() {
        for (text, method, path, expected) in [
            ("GET /tags", "GET", "/tags", Some(vec![])),
            ("GET /tags", "HEAD", "/tags", Some(vec![])),
            ("GET|HEAD /tags", "HEAD", "/tags", Some(vec![])),
            ("POST|PUT /tags/{id}", "PUT", "/tags/7", Some(vec!["7"])),
            ("POST|PUT /tags/{id}", "GET", "/tags/7", None),
            ("POST /tags/{id}", "POST", "/tags", None),
            ("POST /tags/{id}", "POST", "/tags/7/x", None),
            ("GET /Tags", "GET", "/tags", None),
            ("ANY /user/**", "DELETE", "/user", Some(vec![])),
            ("ANY /user/**", "GET", "/user/a/b", Some(vec![])),
            ("ANY /user/**", "GET", "/users", None),
            ("ANY /**", "GET", "/", Some(vec![])),
            ("ANY /", "GET", "/", Some(vec![])),
            ("ANY /", "GET", "/a", None),
            ("GET /a/", "GET", "/a", Some(vec![])),
            ("GET /v*/x", "GET", "/v2/x", Some(vec![])),
            ("GET /v*/x", "GET", "/v/x", Some(vec![])),
            ("GET /*/x", "GET", "/a/b/x", None),
            ("GET /**/x/{id}", "GET", "/a/x/b/x/c", Some(vec!["c"])),
            ("GET /**/x/{id}/**", "GET", "/a/x/b/x/c", Some(vec!["b"])),
            ("GET /{a}/**/{b}", "GET", "/1/2/3", Some(vec!["1", "3"])),
            ("GET /a b/ä", "GET", "/a b/ä", Some(vec![])),
            ("GET /*.json", "GET", "/a.json.json", Some(vec![])),
        ] {
            let expected = expected.map(|texts| texts.into_iter().map(str::to_owned).collect());
            assert_eq!(remembered(text, method, path), expected, "{text} on {method} {path}");
        }
    }

    /// Both would take hours where time grows with the product of both lengths.
    #[test]
    fn a_long_path_costs_no_more_than_its_length() {
        let glob = format!("*{}b*", "a".repeat(200_000));
        assert!(!matches_glob(&glob, &"a".repeat(2_000_000)));
        let segments = [vec![Segment::Rest], vec![Segment::Text("a".into()); 200_000], vec![Segment::Text("b".into())]];
        let pattern = RequestPattern { methods: vec![], segments: segments.concat() };
        assert_eq!(pattern.matches(&Method::GET, &vec!["a"; 2_000_000]), None);
    }

    #[test]
    fn an_empty_segment_is_nothing_that_could_be_remembered() {
        assert_eq!(pattern("GET /{id}").matches(&Method::GET, &[""]), None);
    }

    /// The definition itself, without any thought of speed.
    fn matches_by_definition(pattern: &[Segment], path: &[String]) -> bool {
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((Segment::Rest, rest)), _) => {
                (0..=path.len()).any(|taken| matches_by_definition(rest, &path[taken..]))
            }
            (Some((segment, rest)), Some((first, others))) => {
                let fits = match segment {
                    Segment::Text(text) => text == first,
                    Segment::Glob(glob) => glob_by_definition(glob, first),
                    Segment::Capture(_) => !first.is_empty(),
                    Segment::Rest => unreachable!(),
                };
                fits && matches_by_definition(rest, others)
            }
            _ => false,
        }
    }

    fn glob_by_definition(glob: &str, text: &str) -> bool {
        match glob.split_once('*') {
            None => glob == text,
            Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
                rest.char_indices()
                    .map(|(at, _)| at)
                    .chain([rest.len()])
                    .any(|at| glob_by_definition(after, &rest[at..]))
            }),
        }
    }

    fn segment() -> impl Strategy<Value = Segment> {
        prop_oneof![
            "[ab]{1,2}".prop_map(Segment::Text),
            "[abä*]{0,3}[*][ab]{0,2}".prop_map(Segment::Glob),
            Just(Segment::Capture("x".into())),
            Just(Segment::Rest),
        ]
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(
            segments in prop::collection::vec(segment(), 0..6),
            path in prop::collection::vec("[abä]{0,3}", 0..7),
        ) {
            let pattern = RequestPattern { methods: vec![], segments };
            let found = pattern.matches(&Method::GET, &path);
            prop_assert_eq!(found.is_some(), matches_by_definition(&pattern.segments, &path));
            if let Some(found) = found {
                prop_assert_eq!(found.texts().len(), pattern.capture_names().count());
                prop_assert!(found.texts().iter().all(|text| path.iter().any(|segment| segment == text)));
            }
        }
    }
}

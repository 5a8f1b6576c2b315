//! Where a call goes: the path is split once, judged as it will be forwarded, and never rewritten.
//!
//! A path is refused when it leaves the service (a `.` or `..` segment, encoded or not, wherever it stands) or when the
//! part that decisions read can be read in two ways. All that follows the service's name is kept byte for byte.
//!
//! Decoded means decoded *once*, as an upstream decodes: `%252e` is the text `%2e` to both. A `;` ends a segment for
//! servlet containers, so `..;x` counts as `..`, and a segment with a raw `;` is ambiguous where it is read.

use std::borrow::Cow;

use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::error::{Kind, Problem};

/// Which listener a call came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The proxy listener: `/<namespace>/<service>/<rest>`.
    Proxy,
    /// The API listener: `/service/<namespace>/<service>/<rest>`, on the origin of the UI.
    Api,
}

impl Door {
    /// The door that serves such a path. No namespace is called `service`.
    #[must_use]
    pub fn of(path: &str) -> Self {
        if path.starts_with("/service/") { Self::Api } else { Self::Proxy }
    }
}

/// Path and query as they came; cheap to clone.
#[derive(Clone, Debug)]
pub struct RawTarget(PathAndQuery);

/// A call's path, split.
#[derive(Debug)]
pub struct Target {
    raw: RawTarget,
    namespace: Part,
    service: Part,
    /// Where what follows the service's name begins in `raw`.
    remainder: usize,
}

/// A segment of the path below the service, as operation patterns read it.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The text, decoded once.
    pub text: Cow<'a, str>,
    /// Whether it could be read in another way: refuse the call if this segment decides anything.
    pub ambiguous: bool,
}

/// The segments below the service; few, so that they seldom need the heap.
pub type Segments<'a> = SmallVec<[Segment<'a>; 12]>;

impl RawTarget {
    /// Path and query of this address; `/` where it has none.
    #[must_use]
    pub fn of(uri: &Uri) -> Self {
        Self(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")))
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }
}

impl Target {
    /// Splits the path of a request that came in by `door`. A path that is too short names the empty service, which
    /// nobody has.
    ///
    /// # Errors
    /// 400 `ambiguous-path` as the module says; 404 for a path that is no call at all.
    pub fn parse(uri: &Uri, door: Door) -> Result<Self, Problem> {
        Self::split(&RawTarget::of(uri), door)
    }

    /// As [`Self::parse`], of what was taken out of it already.
    ///
    /// # Errors
    /// As there.
    pub fn split(raw: &RawTarget, door: Door) -> Result<Self, Problem> {
        let path = raw.path();
        if leaves(path) {
            return Err(ambiguous("the path has a `.` or `..` segment"));
        }
        let prefix = match door {
            Door::Proxy => "/",
            Door::Api => "/service/",
        };
        if !path.starts_with(prefix) {
            return Err(Problem::new(&Kind::NOT_FOUND, "not found"));
        }
        let namespace = Span::segment(path, prefix.len());
        let service = Span::segment(path, (namespace.end + 1).min(path.len()));
        if namespace.is_empty_before_more(path) || service.is_empty_before_more(path) {
            return Err(ambiguous("the path has `//` where the namespace or the service should be"));
        }
        let remainder = service.end;
        let (namespace, service) = (Part::read(path, namespace)?, Part::read(path, service)?);
        Ok(Self { namespace, service, remainder, raw: raw.clone() })
    }

    /// The namespace, decoded.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.text(&self.raw)
    }

    /// The service, decoded.
    #[must_use]
    pub fn service(&self) -> &str {
        self.service.text(&self.raw)
    }

    /// What follows the service's name in the path, as it came: nothing, or `/` and the rest.
    #[must_use]
    pub fn remainder(&self) -> &str {
        self.raw.path().get(self.remainder..).unwrap_or_default()
    }

    /// What stands before the remainder: the address of the service as the caller wrote it.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.raw.path().get(..self.remainder).unwrap_or_default()
    }

    /// The query as it came, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.raw.query()
    }

    /// The whole path as it came, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.raw.path()
    }

    /// The segments of the remainder; one trailing slash is ignored.
    #[must_use]
    pub fn segments(&self) -> Segments<'_> {
        segments(self.remainder())
    }
}

/// Where a segment of the path stands.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn segment(path: &str, start: usize) -> Self {
        let length = path.as_bytes().get(start..).and_then(|rest| rest.iter().position(|byte| *byte == b'/'));
        Self { start, end: length.map_or(path.len(), |length| start + length) }
    }

    fn text(self, path: &str) -> &str {
        path.get(self.start..self.end).unwrap_or_default()
    }

    fn is_empty_before_more(self, path: &str) -> bool {
        self.start == self.end && self.end < path.len()
    }
}

/// A name in the path: where it stands, or its text if it was encoded.
#[derive(Debug)]
enum Part {
    At(Span),
    Decoded(Box<str>),
}

impl Part {
    fn read(path: &str, span: Span) -> Result<Self, Problem> {
        // Each byte is looked at whatever those before are, several at a time.
        let plain = |byte: u8| byte.is_ascii_lowercase() | byte.is_ascii_digit() | (byte == b'-') | (byte == b'_');
        if span.text(path).bytes().fold(true, |all, byte| all & plain(byte)) {
            return Ok(Self::At(span));
        }
        let segment = Segment::read(span.text(path));
        if segment.ambiguous {
            return Err(ambiguous("the namespace or the service in the path is ambiguous"));
        }
        Ok(Self::Decoded(segment.text.into()))
    }

    fn text<'a>(&'a self, raw: &'a RawTarget) -> &'a str {
        match self {
            Self::At(span) => span.text(raw.path()),
            Self::Decoded(text) => text,
        }
    }
}

impl<'a> Segment<'a> {
    fn read(raw: &'a str) -> Self {
        if !raw.is_empty() && !raw.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';' | 0)) {
            return Self { text: raw.into(), ambiguous: false };
        }
        let text = percent_decode_str(raw).decode_utf8();
        let doubtful = raw.is_empty()
            || raw.contains(['\\', ';'])
            || has_invalid_percent(raw)
            || !text.as_ref().is_ok_and(|text| !text.contains(['/', '\\', '\0']));
        Self { text: text.unwrap_or_default(), ambiguous: doubtful }
    }
}

impl AsRef<str> for Segment<'_> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// The segments of a path, decoded once; one trailing slash is ignored.
pub(super) fn segments_of(path: &str) -> Segments<'_> {
    segments(path)
}

/// The segments of a remainder (nothing, or `/` and the rest), decoded once.
fn segments(remainder: &str) -> Segments<'_> {
    let Some(rest) = remainder.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
        return Segments::new();
    };
    rest.strip_suffix('/').unwrap_or(rest).split('/').map(Segment::read).collect()
}

/// Whether the path, decoded once, has a segment `.` or `..`; `\` counts as a slash, `;` and NUL as a segment's end.
pub(super) fn leaves(path: &str) -> bool {
    // Most have neither a dot nor anything that could stand for one.
    if !path.bytes().fold(false, |found, byte| found | (byte == b'.') | (byte == b'%')) {
        return false;
    }
    let mut bytes = path.bytes();
    // How many dots the segment consists of so far; `None` once it has anything else.
    let mut dots = Some(0_u8);
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { decoded(&mut bytes) } else { byte };
        match byte {
            b'/' | b'\\' => {
                if matches!(dots, Some(1 | 2)) {
                    return true;
                }
                dots = Some(0);
            }
            b';' | 0 if matches!(dots, Some(1 | 2)) => return true,
            b'.' => dots = dots.map(|dots| dots.saturating_add(1)),
            _ => dots = None,
        }
    }
    matches!(dots, Some(1 | 2))
}

/// The byte that the two digits ahead encode, taking them; `%` if they are no digits.
fn decoded(bytes: &mut std::str::Bytes<'_>) -> u8 {
    let mut ahead = bytes.clone();
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    match (digit(ahead.next()), digit(ahead.next())) {
        (Some(high), Some(low)) => {
            *bytes = ahead;
            u8::try_from(high * 16 + low).unwrap_or(b'%')
        }
        _ => b'%',
    }
}

fn has_invalid_percent(raw: &str) -> bool {
    raw.split('%')
        .skip(1)
        .any(|after| !after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

fn ambiguous(what: &'static str) -> Problem {
    Problem::new(&Kind::AMBIGUOUS_PATH, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(path: &str) -> Result<Target, Problem> {
        Target::parse(&path.parse().unwrap(), Door::Proxy)
    }

    fn refused(path: &str) -> bool {
        parse(path).is_err_and(|problem| *problem.kind() == Kind::AMBIGUOUS_PATH)
    }

    #[test]
    fn a_path_is_split_into_namespace_service_and_a_remainder_kept_byte_for_byte() {
        for (path, remainder) in [
            ("/materials/mp", ""),
            ("/materials/mp/", "/"),
            ("/materials/mp/a/b%2Fc//d;e=%zz/", "/a/b%2Fc//d;e=%zz/"),
            ("/materials/mp//a", "//a"),
            ("/materials/mp/%252e%252e/x", "/%252e%252e/x"),
            ("/materials/mp/.../.x/x.", "/.../.x/x."),
            ("/materials/mp/\u{e4}\"{}", "/\u{e4}\"{}"),
            ("/%6daterials/m%70/x", "/x"),
        ] {
            let target = parse(path).unwrap();
            assert_eq!(
                (target.namespace(), target.service(), target.remainder()),
                ("materials", "mp", remainder),
                "{path}"
            );
            assert_eq!(format!("{}{}", target.prefix(), target.remainder()), path);
        }
    }

    #[test]
    fn a_dot_segment_is_refused_wherever_it_stands_and_however_it_is_written() {
        for path in [
            "/a/b/../c",
            "/a/b/..",
            "/a/b/.",
            "/a/b/./c",
            "/../a/b",
            "/a/../b",
            "/a/./b/c",
            "/a/b/%2e%2e/c",
            "/a/b/%2E./c",
            "/a/b/.%2e",
            "/a/b/x%2f..%2fy",
            "/a/b/x%5c..%5Cy",
            "/a/b/..%2fy",
            "/a/b/..;x=y/c",
            "/a/b/..%3bx/c",
            "/a/b/..%00/c",
            "/a/b%2f..%2fc",
            "/a/b/%2e",
        ] {
            assert!(refused(path), "{path}");
        }
    }

    #[test]
    fn what_is_ambiguous_in_the_namespace_or_the_service_is_refused() {
        for path in [
            "//a/b",
            "/a//b",
            "//",
            "/a//",
            "/a%2Fb/c",
            "/a%2fb/c/d",
            "/a/b%5cc",
            "/a/b%00/c",
            "/a/b%",
            "/a%zz/b",
            "/a/b;c/d",
            "/a;/b",
            "/a/%ff",
        ] {
            assert!(refused(path), "{path}");
        }
    }

    #[test]
    fn a_path_that_names_no_service_finds_none() {
        for path in ["/", "/a", "/a/", "*"] {
            let service = parse(path).map(|target| target.service().to_owned());
            assert!(service.is_err() || service.is_ok_and(|service| service.is_empty()), "{path}");
        }
    }

    #[test]
    fn a_fragment_never_travels_on() {
        let target = parse("/a/b/c#/../d?e").unwrap();
        assert_eq!((target.remainder(), target.query()), ("/c", None));
        let target = parse("/a/b/c?d#e").unwrap();
        assert_eq!((target.remainder(), target.query()), ("/c", Some("d")));
    }

    #[test]
    fn the_query_and_the_authority_are_no_part_of_the_path() {
        let target = parse("http://other/a/b/c?x=/../y").unwrap();
        assert_eq!((target.namespace(), target.remainder(), target.query()), ("a", "/c", Some("x=/../y")));
        for (address, path, query) in
            [("http://gw?x=1", "/", Some("x=1")), ("http://gw", "/", None), ("/a?", "/a", Some("")), ("*", "*", None)]
        {
            let raw = RawTarget::of(&address.parse().unwrap());
            assert_eq!((raw.path(), raw.query()), (path, query), "{address}");
        }
    }

    #[test]
    fn the_api_listener_serves_calls_below_service_only() {
        let target = Target::parse(&"/service/a/b/c".parse().unwrap(), Door::Api).unwrap();
        assert_eq!(
            (target.namespace(), target.service(), target.remainder(), target.prefix()),
            ("a", "b", "/c", "/service/a/b")
        );
        assert!(Target::parse(&"/a/b/c".parse().unwrap(), Door::Api).is_err());
        assert!(Target::parse(&"/service//a/b/c".parse().unwrap(), Door::Api).is_err());
    }

    #[test]
    fn segments_are_decoded_once_and_one_trailing_slash_is_ignored() {
        let texts = |remainder| segments(remainder).into_iter().map(|s| s.text.into_owned()).collect::<Vec<_>>();
        assert_eq!(texts("/a/%62/%2563/"), ["a", "b", "%63"]);
        assert!(texts("").is_empty() && texts("/").is_empty());
        assert_eq!(texts("//"), [""]);
    }

    #[test]
    fn a_segment_that_can_be_read_in_two_ways_is_marked() {
        for raw in ["", "a%2Fb", "a%5Cb", "a\\b", "a%00", "a%", "a%g0", "a;b", "%ff"] {
            assert!(Segment::read(raw).ambiguous, "{raw}");
        }
        for raw in ["a", "a%20b", "a%3Bb", "%C3%A4", "a+b", "a=b&c", "..."] {
            assert!(!Segment::read(raw).ambiguous, "{raw}");
        }
    }

    /// What an upstream may make of a path: decoded once, `\` taken for `/`, path parameters dropped.
    fn as_upstreams_read(path: &str) -> Vec<Vec<u8>> {
        let bytes: Vec<u8> = percent_decode_str(path).collect();
        bytes
            .split(|byte| matches!(byte, b'/' | b'\\'))
            .map(|part| part.split(|byte| matches!(byte, b';' | 0)).next().unwrap_or_default().to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_leaves_its_service(rest in "([a-c./\\\\;%]|%2[eEfF5]|%5[cC]|%00|%3b){0,24}") {
            let path = format!("/ns/svc/{rest}");
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            match Target::parse(&uri, Door::Proxy) {
                Ok(target) => {
                    prop_assert_eq!(target.remainder(), &path["/ns/svc".len()..]);
                    let leaves = as_upstreams_read(&path).iter().any(|part| part == b"." || part == b"..");
                    prop_assert!(!leaves, "{}", path);
                }
                Err(problem) => prop_assert_eq!(problem.kind(), &Kind::AMBIGUOUS_PATH),
            }
        }

        #[test]
        fn any_path_is_split_without_loss(path in "/[ -~]{0,60}") {
            let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
            for door in [Door::Proxy, Door::Api] {
                if let Ok(target) = Target::parse(&uri, door) {
                    let whole = format!("{}{}", target.prefix(), target.remainder());
                    prop_assert_eq!(whole.as_str(), uri.path());
                    prop_assert!(!target.namespace().contains(['/', '\\', '\0']));
                    prop_assert!(!target.service().contains(['/', '\\', '\0']));
                }
            }
        }
    }
}

//! The messages of a tunnel (`docs/API.md` §13): a call as it goes to the service, an answer as it comes back.

use std::borrow::Cow;
use std::{fmt, io};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The most bytes of a message to a service: its client closes the connection on a larger one.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

/// The most bytes of a message from a service.
pub const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The most headers of an answer.
const ANSWER_HEADERS: usize = 256;

/// The most bytes of them, as JSON.
const ANSWER_HEADER_BYTES: usize = 64 * 1024;

/// A call as a tunnel carries it, but for the caller's token.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: http::Method,
    /// The path with namespace and service, as it came.
    pub path: String,
    /// The headers, by [`headers`].
    pub headers: Map<String, Value>,
    /// The query, by [`params`].
    pub params: Map<String, Value>,
    /// The body, where there is one.
    pub body: Option<String>,
}

/// What a service answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, never an interim one.
    pub status: StatusCode,
    /// The headers, without those that spoke of the body as it was before the client wrote it anew.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A message that may be an answer: which call it is for.
#[derive(Debug, Deserialize)]
pub struct Reply<'a> {
    /// The id of the call.
    #[serde(rename = "taskId", borrow)]
    pub task: Cow<'a, str>,
    #[serde(borrow)]
    event: Answered<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "taskId")]
    task: &'a str,
    event: Event<'a>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "httpMethod")]
    method: &'a str,
    path: &'a str,
    headers: Headers<'a>,
    params: &'a Map<String, Value>,
    body: Option<&'a str>,
}

struct Headers<'a> {
    token: Option<&'a str>,
    rest: &'a Map<String, Value>,
}

/// An answer as it came. Its body is passed over once and never built as values: those of `[0,0,…]` take a hundred times
/// the room of the text, and a number that is read and printed again is not the one that was sent.
#[derive(Debug, Deserialize)]
struct Answered<'a> {
    status_code: u16,
    #[serde(default, deserialize_with = "read_headers")]
    headers: HeaderMap,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
}

impl Request {
    /// How many bytes the message has with this token.
    #[must_use]
    pub fn size(&self, task: &str, token: Option<&str>) -> usize {
        let mut counted = Counted(0);
        // Counting does not fail, and neither do these types.
        let _ = serde_json::to_writer(&mut counted, &self.message(task, token));
        counted.0
    }

    /// The message.
    #[must_use]
    pub fn text(&self, task: &str, token: Option<&str>) -> String {
        serde_json::to_string(&self.message(task, token)).unwrap_or_default()
    }

    fn message<'a>(&'a self, task: &'a str, token: Option<&'a str>) -> Message<'a> {
        Message {
            task,
            event: Event {
                method: self.method.as_str(),
                path: &self.path,
                headers: Headers { token, rest: &self.headers },
                params: &self.params,
                body: self.body.as_deref(),
            },
        }
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(token) = self.token {
            // The client reads this very spelling.
            map.serialize_entry("Authorization", token)?;
        }
        for (name, value) in self.rest {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The headers as an object; those of one name become one, as RFC 9110 §5.3 joins them.
#[must_use]
pub fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut all = Map::new();
    for name in headers.keys() {
        if [AUTHORIZATION, CONTENT_LENGTH, HOST].contains(name) {
            continue;
        }
        let values: Vec<_> = headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect();
        let joint = if *name == COOKIE { "; " } else { ", " };
        all.insert(name.as_str().to_owned(), values.join(joint).into());
    }
    all
}

/// The query as an object: a list for a name that is given more than once. None where it is not UTF-8.
#[must_use]
pub fn params(query: &[u8]) -> Option<Map<String, Value>> {
    let mut all = Map::new();
    for pair in query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = decoded(halves.next().unwrap_or_default())?;
        let value = Value::from(decoded(halves.next().unwrap_or_default())?);
        match all.get_mut(&name) {
            None => drop(all.insert(name, value)),
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Some(all)
}

impl<'a> Reply<'a> {
    /// Reads a message, in time and room that its length bounds. None for what is no answer at all, or one with more
    /// headers than there may be.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The answer in it. None where it is malformed.
    #[must_use]
    pub fn answer(self) -> Option<Answer> {
        let Answered { status_code, mut headers, body } = self.event;
        let status = StatusCode::from_u16(status_code).ok().filter(|_| (200..600).contains(&status_code))?;
        in_utf_8(&mut headers);
        let body = match body.map(RawValue::get) {
            None => Bytes::new(),
            Some(raw) => Bytes::from(unquoted(raw)?.into_owned()),
        };
        Some(Answer { status, headers, body })
    }
}

/// A text without its quotes, anything else as it stands.
fn unquoted(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.starts_with('"') {
        return Some(raw.into());
    }
    match raw.get(1..raw.len() - 1).filter(|text| !text.contains('\\')) {
        Some(text) => Some(text.into()),
        None => serde_json::from_str(raw).ok().map(Cow::Owned),
    }
}

fn read_headers<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
    Ok(Option::<AnswerHeaders>::deserialize(from)?.unwrap_or_default().0)
}

/// What of an answer's headers can be one; none that speaks of how the body was sent to the client.
#[derive(Default)]
struct AnswerHeaders(HeaderMap);

impl<'de> Deserialize<'de> for AnswerHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = AnswerHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<AnswerHeaders, A::Error> {
        let too_many = || de::Error::custom("more headers than an answer may have");
        let (mut headers, mut number, mut bytes) = (HeaderMap::new(), 0, 0);
        while let Some((name, value)) = all.next_entry::<Cow<'de, str>, &RawValue>()? {
            bytes += name.len() + value.get().len();
            if bytes > ANSWER_HEADER_BYTES {
                return Err(too_many());
            }
            let values: Vec<&RawValue> = if value.get().starts_with('[') {
                serde_json::from_str(value.get()).map_err(de::Error::custom)?
            } else {
                vec![value]
            };
            number += values.len().max(1);
            if number > ANSWER_HEADERS {
                return Err(too_many());
            }
            let Ok(name) = HeaderName::try_from(&*name) else { continue };
            if [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING].contains(&name) {
                continue;
            }
            let text = |raw: &&RawValue| HeaderValue::try_from(&*header_text(raw.get())?).ok();
            for value in values.iter().filter_map(text) {
                headers.append(name.clone(), value);
            }
        }
        Ok(AnswerHeaders(headers))
    }
}

/// A text or a number; nothing else is a header's value.
fn header_text(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()).then(|| unquoted(raw))?
}

/// The body travelled as text and is sent on as UTF-8, whatever it was before.
fn in_utf_8(headers: &mut HeaderMap) {
    let Some(of) = headers.get(CONTENT_TYPE).and_then(|of| of.to_str().ok()) else { return };
    let mut parts = of.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_owned();
    let other = parts.any(|part| {
        let charset = part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
        charset.is_some_and(|(_, value)| !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
    });
    if other && let Ok(value) = HeaderValue::try_from(format!("{essence}; charset=utf-8")) {
        headers.insert(CONTENT_TYPE, value);
    }
}

/// A header's value as text: UTF-8, else Latin-1.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().copied().map(char::from).collect(), str::to_owned)
}

fn decoded(part: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request() -> Request {
        Request {
            method: http::Method::POST,
            path: "/ns/svc/a%2Fb".into(),
            headers: headers(&[(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect()),
            params: params(b"q=1&q=a+b&r=%C3%BC&s").unwrap(),
            body: Some("{\"k\": \"\u{fc}\"}".into()),
        }
    }

    #[test]
    fn a_call_is_the_message_that_the_client_reads() {
        let text = request().text("t1", Some("Bearer x"));
        let expected = json!({"taskId": "t1", "event": {
            "httpMethod": "POST", "path": "/ns/svc/a%2Fb",
            "headers": {"Authorization": "Bearer x", "content-type": "application/json"},
            "params": {"q": ["1", "a b"], "r": "\u{fc}", "s": ""}, "body": "{\"k\": \"\u{fc}\"}",
        }});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert_eq!(request().size("t1", Some("Bearer x")), text.len());
    }

    #[test]
    fn a_query_that_is_not_utf_8_is_none() {
        assert_eq!(params(b"q=%FF"), None);
        assert_eq!(params(b""), Some(Map::new()));
        assert_eq!(params(b"&&"), Some(Map::new()));
    }

    fn answer(event: &Value) -> Option<Answer> {
        let text = json!({"taskId": "t", "event": event}).to_string();
        Reply::read(&text).and_then(Reply::answer)
    }

    #[test]
    fn an_answer_has_status_headers_and_body_and_nothing_of_how_the_body_came() {
        let answer = answer(&json!({"status_code": 201, "reason": "Created", "body": "\"\u{fc}\"", "headers": {
            "content-type": "application/json", "Content-Length": "4", "content-encoding": "gzip",
            "transfer-encoding": "chunked", "x-n": 7, "x-l": ["a", "b"], "bad name": "x", "x-bad": "a\nb", "x-o": {},
        }}))
        .unwrap();
        assert_eq!((answer.status, &*answer.body), (StatusCode::CREATED, "\"\u{fc}\"".as_bytes()));
        let kept: Vec<_> =
            answer.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(kept, ["content-type: application/json", "x-n: 7", "x-l: a", "x-l: b"]);
    }

    #[test]
    fn a_body_that_was_in_another_charset_says_utf_8_as_it_is_sent() {
        let of = |text: &str| {
            let answer = answer(&json!({"status_code": 200, "headers": {"content-type": text}, "body": "x"})).unwrap();
            answer.headers[CONTENT_TYPE].to_str().unwrap().to_owned()
        };
        assert_eq!(of("text/html; charset=iso-8859-1"), "text/html; charset=utf-8");
        assert_eq!(of("text/html; Charset=\"UTF-8\""), "text/html; Charset=\"UTF-8\"");
        assert_eq!(of("text/html"), "text/html");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for event in [
            json!({}),
            json!(null),
            json!("x"),
            json!({"status_code": "200"}),
            json!({"status_code": 101}),
            json!({"status_code": 99}),
            json!({"status_code": 600}),
            json!({"status_code": 200, "headers": ["x"]}),
            json!({"status_code": 200, "headers": "x"}),
        ] {
            assert_eq!(answer(&event), None, "{event}");
        }
        for text in ["", "null", "{}", "[]", "{\"taskId\": 1, \"event\": {}}", "{\"taskId\": \"t\"}"] {
            assert!(Reply::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_null_body_is_empty_and_an_object_is_its_json() {
        let body = |body: Value| answer(&json!({"status_code": 200, "body": body})).unwrap().body;
        assert_eq!(&*body(Value::Null), b"");
        assert_eq!(&*body(json!({"a": 1})), b"{\"a\":1}");
    }

    #[test]
    fn a_body_that_is_no_text_is_passed_on_as_it_stands() {
        for raw in
            ["[1e15, 1E+2,1.0, -0]", "12345678901234567890123", "1e400", "{\"b\" : 1, \"a\":\"\\u00fc\"}", "true"]
        {
            let text = format!("{{\"taskId\": \"t\", \"event\": {{\"status_code\": 200, \"body\": {raw}}}}}");
            assert_eq!(Reply::read(&text).and_then(Reply::answer).unwrap().body, raw);
        }
    }

    #[test]
    fn an_answer_has_so_many_headers_of_so_many_bytes_and_no_more() {
        let of = |names: usize, value: Value| {
            let headers: Map<_, _> = (0..names).map(|name| (format!("x-{name}"), value.clone())).collect();
            answer(&json!({"status_code": 200, "headers": headers})).map(|answer| answer.headers.len())
        };
        assert_eq!(of(ANSWER_HEADERS, json!("a")), Some(ANSWER_HEADERS));
        assert_eq!(of(ANSWER_HEADERS + 1, json!("a")), None);
        assert_eq!(of(2, json!(vec![0; ANSWER_HEADERS / 2])), Some(ANSWER_HEADERS));
        assert_eq!(of(2, json!(vec![0; ANSWER_HEADERS / 2 + 1])), None);
        assert_eq!(of(1, json!("a".repeat(ANSWER_HEADER_BYTES - 5))), Some(1));
        assert_eq!(of(1, json!("a".repeat(ANSWER_HEADER_BYTES))), None);
    }

    /// JSON as somebody may write it, not as it is printed here.
    fn any_json() -> impl Strategy<Value = String> {
        let text = "(\\PC|\\\\u00[0-9a-f]{2}|\\\\n){0,12}".prop_filter_map("no JSON text", |inner| {
            let text = format!("\"{inner}\"");
            serde_json::from_str::<String>(&text).is_ok().then_some(text)
        });
        let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?";
        let leaf = prop_oneof![text, number, Just("null".to_owned()), Just("true".to_owned())];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|all| format!("[{}]", all.join(" ,"))),
                prop::collection::vec(("[a-z]{1,3}", inner), 0..6).prop_map(|all| {
                    let all: Vec<_> = all.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                    format!("{{{}}}", all.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,200}", event in any_json()) {
            for text in [text.clone(), format!("{{\"taskId\":\"t\",\"event\":{event}}}")] {
                if let Some(answer) = Reply::read(&text).and_then(Reply::answer) {
                    prop_assert!(answer.status.as_u16() >= 200);
                }
            }
        }

        #[test]
        fn an_answer_is_never_more_than_was_sent(body in any_json(), header in any_json(), others in any_json()) {
            let event = format!("{{\"status_code\":200,\"reason\":{others},\"headers\":{{\"x\":{header}}},\"body\":{body}}}");
            let text = format!("{{\"taskId\":\"t\",\"event\":{event}}}");
            let answer = Reply::read(&text).and_then(Reply::answer).unwrap();
            let headers: usize = answer.headers.values().map(HeaderValue::len).sum();
            prop_assert!(answer.body.len() <= body.len() && headers <= header.len(), "{answer:?}");
            let expected = match serde_json::from_str::<Value>(&body) {
                Ok(Value::String(text)) => text,
                Ok(Value::Null) => String::new(),
                _ => body,
            };
            prop_assert_eq!(&*answer.body, expected.as_bytes());
        }

        #[test]
        fn every_body_comes_back_as_it_was_sent(body in "\\PC{0,200}", status in 200_u16..600) {
            let text = json!({"taskId": "t", "event": {"status_code": status, "headers": {}, "body": body}}).to_string();
            let answer = Reply::read(&text).and_then(Reply::answer).unwrap();
            prop_assert_eq!(&*answer.body, body.as_bytes());
            prop_assert_eq!(answer.status.as_u16(), status);
        }

        #[test]
        fn a_message_is_as_long_as_it_was_counted(body in ".{0,200}", query in "[a-z=&+%0-9]{0,60}") {
            let Some(params) = params(query.as_bytes()) else { return Ok(()) };
            let request = Request { body: Some(body), params, ..request() };
            prop_assert_eq!(request.size("t", None), request.text("t", None).len());
        }
    }
}

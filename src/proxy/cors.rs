//! Cross-origin calls (<https://fetch.spec.whatwg.org/#http-cors-protocol>): off unless a service's table has rules, and
//! then the gateway's alone; what an upstream says about origins never passes.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::config::Cors;

/// A service's rules, as headers.
#[derive(Debug)]
pub struct CrossOrigin {
    origins: Vec<HeaderValue>,
    any: bool,
    credentials: bool,
    methods: Vec<Method>,
    headers: Vec<http::HeaderName>,
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl CrossOrigin {
    /// Prepares the rules. `*` admits every origin, and never with credentials.
    #[must_use]
    pub fn new(rules: &Cors) -> Self {
        let any = rules.origins.iter().any(|origin| origin == "*");
        Self {
            origins: rules.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect(),
            any,
            credentials: rules.credentials && !any,
            methods: rules.methods.clone(),
            headers: rules.headers.clone(),
            expose: list(rules.expose.iter().map(http::HeaderName::as_str)),
            max_age: HeaderValue::from(rules.max_age.as_secs()),
        }
    }

    /// Whether a page of this origin may call with what identifies its visitor.
    #[must_use]
    pub fn admits_credentials(&self, origin: &str) -> bool {
        self.credentials && self.origins.iter().any(|admitted| admitted == origin)
    }

    /// Adds what lets a page read an answer to its call, if its origin is admitted.
    pub fn admit(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = origin.and_then(|origin| self.admitted(origin)) else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    /// The answer to a preflight, which is no call: it has no credentials, and says only what a call may be. None where
    /// the request is no preflight.
    #[must_use]
    pub fn preflight<B: Default>(&self, method: &Method, headers: &HeaderMap) -> Option<Response<B>> {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = headers.get(ORIGIN)?;
        if *method != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.append(
            VARY,
            HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
        );
        let fits = self.methods.iter().any(|method| method.as_str().as_bytes() == asked.as_bytes());
        if let Some(origin) = self.admitted(origin).filter(|_| fits && self.takes(headers)) {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.credentials {
                answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            if let Some(methods) = list(self.methods.iter().map(Method::as_str)) {
                answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            }
            if let Some(headers) = list(self.headers.iter().map(http::HeaderName::as_str)) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers);
            }
            answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        Some(response)
    }

    fn admitted(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.contains(origin).then(|| origin.clone())
    }

    fn takes(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).into_iter();
        let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        names
            .filter(|name| !name.is_empty())
            .all(|name| self.headers.iter().any(|allowed| allowed.as_str().as_bytes().eq_ignore_ascii_case(name)))
    }
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let words: Vec<_> = words.collect();
    if words.is_empty() { None } else { HeaderValue::from_str(&words.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use std::time::Duration;

    fn rules(origins: &[&str], credentials: bool) -> CrossOrigin {
        CrossOrigin::new(&Cors {
            origins: origins.iter().map(ToString::to_string).collect(),
            methods: vec![Method::GET, Method::PUT],
            headers: vec![HeaderName::from_static("authorization"), HeaderName::from_static("content-type")],
            expose: vec![HeaderName::from_static("x-request-id")],
            credentials,
            max_age: Duration::from_secs(600),
        })
    }

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_preflight_is_answered_by_the_rules_alone() {
        let rules = rules(&["https://app.example"], true);
        let asks = |lines: &[(&'static str, &'static str)]| {
            rules.preflight::<()>(&Method::OPTIONS, &map(lines)).map(|answer| answer.into_parts().0.headers)
        };
        let origin = ("origin", "https://app.example");
        let method = ("access-control-request-method", "PUT");
        let fine = asks(&[origin, method, ("access-control-request-headers", "Authorization, content-type")]).unwrap();
        assert_eq!(fine["access-control-allow-origin"], "https://app.example");
        assert_eq!(fine["access-control-allow-methods"], "GET, PUT");
        assert_eq!(fine["access-control-allow-credentials"], "true");
        assert_eq!(fine["access-control-max-age"], "600");
        for lines in [
            [("origin", "https://evil.example"), method, ("access-control-request-headers", "authorization")],
            [origin, ("access-control-request-method", "DELETE"), ("access-control-request-headers", "authorization")],
            [origin, method, ("access-control-request-headers", "x-other")],
        ] {
            assert!(!asks(&lines).unwrap().contains_key("access-control-allow-origin"), "{lines:?}");
        }
        assert!(asks(&[origin]).is_none(), "an OPTIONS call that is no preflight is a call");
        assert!(rules.preflight::<()>(&Method::GET, &map(&[origin, method])).is_none());
    }

    #[test]
    fn every_origin_never_means_with_credentials() {
        let rules = rules(&["*"], true);
        let mut headers = HeaderMap::new();
        rules.admit(Some(&HeaderValue::from_static("https://any.example")), &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert!(!rules.admits_credentials("https://any.example") && !rules.admits_credentials("*"));
    }

    #[test]
    fn an_answer_names_the_origin_that_asked_if_it_is_admitted() {
        let rules = rules(&["https://app.example"], false);
        for (origin, admitted) in
            [(Some("https://app.example"), true), (Some("https://evil.example"), false), (None, false)]
        {
            let mut headers = HeaderMap::new();
            rules.admit(origin.map(HeaderValue::from_static).as_ref(), &mut headers);
            assert_eq!(headers.contains_key("access-control-allow-origin"), admitted);
            assert_eq!(headers["vary"], "origin");
        }
    }
}

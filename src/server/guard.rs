//! What stands between hyper and the handler: requests that no handler should see are answered here, and answers are
//! counted until their last byte is handed over.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};

use crate::config::Limits;
use crate::telemetry::RequestId;

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    open: Cell<u32>,
    calls: Cell<u64>,
    had_body: Cell<bool>,
}

impl Activity {
    /// Calls whose answer is not whole yet.
    pub(super) fn open(&self) -> u32 {
        self.open.get()
    }

    /// Calls ever made.
    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Whether the last call came with a body, of which some may not have been read.
    pub(super) fn had_body(&self) -> bool {
        self.had_body.get()
    }

    /// Counts a call until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>, has_body: bool) -> Open {
        self.had_body.set(has_body);
        self.open.set(self.open.get().saturating_add(1));
        self.calls.set(self.calls.get().wrapping_add(1));
        Open(Rc::clone(self))
    }
}

/// One call under way.
#[derive(Debug)]
pub(super) struct Open(Rc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

pin_project_lite::pin_project! {
    /// The body of an answer: the handler's, or a refusal's.
    #[project = AnswerProjection]
    #[derive(Debug)]
    pub(super) enum Answer<B> {
        /// The handler's.
        Handler {
            #[pin]
            body: B,
            open: Open,
        },
        /// A refusal's.
        Refusal {
            text: Option<Bytes>,
            open: Open,
        },
    }
}

impl<B> Answer<B> {
    pub(super) fn handler(response: Response<B>, open: Open) -> Response<Self> {
        response.map(|body| Self::Handler { body, open })
    }

    pub(super) fn refusal(refusal: &Refusal, open: Open) -> Response<Self> {
        let id = RequestId::mint();
        tracing::debug!(request_id = %id, problem = refusal.slug, detail = refusal.detail, "request refused");
        let mut response = Response::new(Self::Refusal { text: Some(refusal.text(id).into()), open });
        *response.status_mut() = refusal.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert("carta-gateway", HeaderValue::from_static(refusal.slug));
        headers.insert("x-request-id", id.header());
        response
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            AnswerProjection::Handler { body, .. } => body.poll_frame(cx),
            AnswerProjection::Refusal { text, .. } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Handler { body, .. } => body.is_end_stream(),
            Self::Refusal { text, .. } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Handler { body, .. } => body.size_hint(),
            Self::Refusal { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

/// Why a request never reached the handler. In the form and under the names of the gateway's other problems.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: &'static str,
}

impl Refusal {
    const URI: Self = Self {
        status: StatusCode::URI_TOO_LONG,
        slug: "uri-too-long",
        title: "the request target is too long",
        detail: "the request target is longer than the gateway takes\nsend long input in the body",
    };
    const HEADERS: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        slug: "headers-too-large",
        title: "the request's headers are too large",
        detail: "the request has more header lines than the gateway takes\nsend fewer",
    };
    const CONNECT: Self = Self {
        status: StatusCode::METHOD_NOT_ALLOWED,
        slug: "method-not-allowed",
        title: "the method is not served here",
        detail: "`CONNECT` is not served: this is no forward proxy\nask for `/<namespace>/<service>/…`",
    };
    const TRACE: Self = Self {
        status: StatusCode::METHOD_NOT_ALLOWED,
        slug: "method-not-allowed",
        title: "the method is not served here",
        detail: "`TRACE` and `TRACK` are not served: they would show what the gateway adds to a request\nsend `GET`",
    };
    const HOST: Self =
        Self::malformed("an HTTP/1.1 request needs exactly one `Host` header: RFC 9112 section 3.2\nsend it once");
    const CODING: Self = Self {
        status: StatusCode::NOT_IMPLEMENTED,
        slug: "not-implemented",
        title: "not implemented",
        detail: "no transfer coding but a single `chunked` is understood: RFC 9112 section 6.1\n\
                 name compression in `Content-Encoding`",
    };

    const fn malformed(detail: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, slug: "malformed-request", title: "the request is malformed", detail }
    }

    fn text(&self, id: RequestId) -> String {
        serde_json::json!({
            "type": format!("urn:carta-gateway:problem:{}", self.slug),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "request_id": id.as_str(),
            "error": self.detail.lines().next(),
        })
        .to_string()
    }
}

/// Judges what hyper lets through and no handler should have to think about.
pub(super) fn check<B: Body>(request: &Request<B>, limits: &Limits) -> Result<(), Refusal> {
    if *request.method() == Method::CONNECT {
        return Err(Refusal::CONNECT);
    }
    // An upstream that answers it sends back what it received, injected secrets too (RFC 9110 §9.3.8).
    if *request.method() == Method::TRACE || request.method().as_str() == "TRACK" {
        return Err(Refusal::TRACE);
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
        return Err(Refusal::URI);
    }
    let headers = request.headers();
    if headers.len() > limits.headers {
        return Err(Refusal::HEADERS);
    }
    if request.version() == Version::HTTP_11 {
        let mut hosts = headers.get_all(HOST).iter();
        if hosts.next().is_none() || hosts.next().is_some() {
            return Err(Refusal::HOST);
        }
    }
    if !request.body().is_end_stream() && request.version() < Version::HTTP_2 {
        // hyper takes any list that ends in `chunked`, and hands over the body with the other codings still on.
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !plain || codings.next().is_some() {
            return Err(Refusal::CODING);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{Empty, Full};

    use super::*;

    const LIMITS: Limits = Limits {
        header_bytes: 16384,
        headers: 3,
        uri_bytes: 10,
        body_bytes: None,
        api_body_bytes: 1024,
        connections: 10,
        h2_streams: 10,
        handshake_timeout: Duration::from_secs(1),
        header_timeout: Duration::from_secs(1),
        keep_alive: Duration::from_secs(1),
    };

    fn request() -> http::request::Builder {
        Request::builder().uri("/a").header("host", "a")
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(check(&request().body(Empty::<Bytes>::new()).unwrap(), &LIMITS), Ok(()));
        let h2 = Request::builder().version(Version::HTTP_2).uri("https://a/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(check(&h2, &LIMITS), Ok(()));
    }

    #[test]
    fn what_no_handler_should_see_is_refused() {
        let cases = [
            (request().uri("/23456789ab"), Refusal::URI),
            (request().header("a", "1").header("a", "2").header("b", "3"), Refusal::HEADERS),
            (request().method("CONNECT").uri("a:443"), Refusal::CONNECT),
            (request().method("TRACE"), Refusal::TRACE),
            (request().method("TRACK"), Refusal::TRACE),
            (request().header("host", "b"), Refusal::HOST),
            (Request::builder().uri("/a"), Refusal::HOST),
            (request().header("transfer-encoding", "gzip, chunked"), Refusal::CODING),
            (request().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked"), Refusal::CODING),
        ];
        for (builder, refusal) in cases {
            let request = builder.body(Full::new(Bytes::from_static(b"x"))).unwrap();
            assert_eq!(check(&request, &LIMITS), Err(refusal), "{request:?}");
        }
    }

    #[test]
    fn a_call_is_open_until_its_answer_is_dropped() {
        let activity = Rc::new(Activity::default());
        let answer = Answer::handler(Response::new(Empty::<Bytes>::new()), activity.begin(false));
        assert_eq!((activity.open(), activity.calls()), (1, 1));
        drop(answer);
        assert_eq!((activity.open(), activity.calls()), (0, 1));
    }
}

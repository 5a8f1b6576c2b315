//! Why a call brought no response: who failed, whether it may be sent again, and words for the log and for the caller.

use std::error::Error;
use std::fmt;

use super::target::TargetRefused;

/// A call without a response. Says nothing of the request itself: its target and headers may hold secrets.
pub struct SendError<B> {
    kind: SendErrorKind,
    origin: String,
    detail: String,
    unsent: Option<Box<B>>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The address may not be connected to.
    Refused(TargetRefused),
    /// The name does not resolve.
    Resolve,
    /// No address of the name takes the connection.
    Connect,
    /// No connection within `connect`.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before a response's head.
    Closed,
    /// What came is no HTTP response, or not one to this request.
    Protocol,
    /// An upgrade was asked of an upstream that is spoken to in HTTP/2.
    NoUpgrade,
    /// No head within `first_byte` after the request had been sent.
    FirstByteTimeout,
    /// The upstream took nothing of the request's body for `idle`.
    IdleTimeout,
    /// The caller sent nothing of the request's body for `idle`.
    CallerIdle,
    /// The request's body ended in an error of its own: the caller left, or a limit was passed.
    RequestBody,
    /// The call took longer than `total`.
    TotalTimeout,
}

impl SendErrorKind {
    /// Words for the caller, without anything of our configuration in them.
    #[must_use]
    pub fn for_caller(self) -> &'static str {
        match self {
            Self::Refused(_) => "the service's address is not allowed as a target",
            Self::Resolve => "the service's host name does not resolve",
            Self::Connect => "the service takes no connections",
            Self::ConnectTimeout => "the service took too long to take a connection",
            Self::Tls => "no TLS connection to the service could be made",
            Self::Closed => "the service closed the connection without an answer",
            Self::Protocol => "the service's answer is not valid HTTP",
            Self::NoUpgrade => "the service is spoken to in HTTP/2, which knows no upgrade",
            Self::FirstByteTimeout => "the service did not begin to answer in time",
            Self::IdleTimeout => "the service stopped taking the request's body",
            Self::CallerIdle => "the request's body stopped coming",
            Self::RequestBody => "the request's body did not arrive whole",
            Self::TotalTimeout => "the call took longer than it may",
        }
    }

    /// Whether it was the caller who failed, not the service.
    #[must_use]
    pub fn is_callers(self) -> bool {
        matches!(self, Self::CallerIdle | Self::RequestBody)
    }
}

impl<B> SendError<B> {
    pub(super) fn new(
        kind: SendErrorKind,
        origin: impl fmt::Display,
        detail: impl Into<String>,
        unsent: Option<B>,
    ) -> Self {
        Self { kind, origin: origin.to_string(), detail: detail.into(), unsent: unsent.map(Box::new) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// The request's body, where it is certain that nothing of the request reached the upstream: it may go to another
    /// endpoint.
    #[must_use]
    pub fn into_unsent(self) -> Option<B> {
        self.unsent.map(|body| *body)
    }

    /// Whether [`SendError::into_unsent`] has the body.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.unsent.is_some()
    }
}

/// For the log.
impl<B> fmt::Display for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}: {}", self.origin, self.kind.for_caller(), self.detail)
    }
}

/// Without the body.
impl<B> fmt::Debug for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("kind", &self.kind)
            .field("origin", &self.origin)
            .field("detail", &self.detail)
            .finish_non_exhaustive()
    }
}

impl<B> Error for SendError<B> {}

/// An error and its causes in one line. hyper's and rustls's speak of bytes and states, never of a request's content.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

//! The forms of a good answer.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::Revision;

/// The revision that a write made; the local snapshot shows it when the answer leaves.
pub(super) const CARTA_REVISION: HeaderName = HeaderName::from_static("carta-revision");

/// The revision that a caller wants to see at least.
pub(super) const CARTA_MIN_REVISION: HeaderName = HeaderName::from_static("carta-min-revision");

/// A raw value: no quotes, no newline at the end.
pub(super) fn text(value: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], value).into_response()
}

/// The answer of a write.
pub(super) fn written(revision: Revision, body: impl IntoResponse) -> Response {
    ([(CARTA_REVISION, HeaderValue::from(revision.0))], body).into_response()
}

/// The body of a write that has nothing to say; JSON, because clients may parse it.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {}

/// The answer of a write that has nothing to say.
pub(super) fn done(revision: Revision) -> Response {
    written(revision, axum::Json(Done {}))
}

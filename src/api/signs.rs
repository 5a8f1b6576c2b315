//! `/-/live`, `/-/ready`, `/-/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};

use super::Api;
use super::error::Refusal;
use super::extract::Anyone;
use crate::proxy::error::{Kind, Problem};
use crate::telemetry::metrics as measured;

/// `GET /-/live`: the process answers. `GET /-/ready`: calls are decided here, on state that is fresh enough.
pub(super) async fn probe(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Refusal> {
    let answer = api.readiness.probe(uri.path()).map(|answer| answer.map(Body::from));
    answer.ok_or_else(|| Problem::new(&Kind::NOT_FOUND, "there is nothing at this path").into())
}

/// `GET /-/metrics`: to loopback and administrators. Behind a proxy on this machine everybody comes from loopback, so
/// whoever was forwarded counts as coming from elsewhere.
pub(super) async fn metrics(Anyone(identity, peer): Anyone, headers: HeaderMap) -> Result<Response, Refusal> {
    let administrator = identity.is_some_and(|identity| identity.account.administrator);
    let forwarded = ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name));
    let local = peer.is_some_and(|peer| peer.is_loopback()) && !forwarded;
    if !administrator && !local {
        return Err(Problem::new(&Kind::PERMISSION_DENIED, "metrics are for loopback and administrators").into());
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], measured::render()).into_response())
}

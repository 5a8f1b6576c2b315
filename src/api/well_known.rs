//! What the built-in issuer publishes, so that services can verify its tokens themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde_json::Value;

use super::Api;
use super::error::Refusal;
use crate::proxy::error::{Kind, Problem};

/// The public keys of the built-in issuer
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "login", security(()),
    responses(
        (status = 200, description = "a JWK set (RFC 7517)", body = Map<String, Value>),
        (status = 404, description = "this gateway issues no tokens"),
    ))]
pub(super) async fn jwks(State(api): State<Arc<Api>>) -> Result<Json<Value>, Refusal> {
    api.issuer.as_ref().map(|issuer| Json(issuer.jwks(Timestamp::now()))).ok_or_else(off)
}

/// What the built-in issuer is
#[utoipa::path(get, path = "/.well-known/openid-configuration", tag = "login", security(()),
    responses(
        (status = 200, description = "OpenID Connect discovery", body = Map<String, Value>),
        (status = 404, description = "this gateway issues no tokens"),
    ))]
pub(super) async fn discovery(State(api): State<Arc<Api>>) -> Result<Json<Value>, Refusal> {
    api.issuer.as_ref().map(|issuer| Json(issuer.discovery())).ok_or_else(off)
}

fn off() -> Refusal {
    Problem::new(&Kind::NOT_FOUND, "this gateway issues no tokens").into()
}

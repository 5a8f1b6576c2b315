//! `/-/live`, `/-/ready`, `/-/metrics`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Uri};
use url::{Host, Url};

use super::Api;
use super::error::Refusal;
use super::extract::Visitor;
use crate::identity::AuthError;
use crate::proxy::error::{Kind, Problem};
use crate::telemetry::metrics as measured;

/// Whether the process answers
#[utoipa::path(get, path = "/-/live", tag = "gateway", security(()),
    responses((status = 200, description = "it does", body = String, content_type = "text/plain")))]
pub(super) async fn live(state: State<Arc<Api>>, uri: Uri) -> Result<Response, Refusal> {
    probe(state, uri)
}

/// Whether calls are decided here, on state that is fresh enough
#[utoipa::path(get, path = "/-/ready", tag = "gateway", security(()),
    responses(
        (status = 200, description = "they are", body = String, content_type = "text/plain"),
        (status = 503, description = "the gateway is about to end, or its state is too old"),
    ))]
pub(super) async fn ready(state: State<Arc<Api>>, uri: Uri) -> Result<Response, Refusal> {
    probe(state, uri)
}

fn probe(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Refusal> {
    let answer = api.readiness.probe(uri.path()).map(|answer| answer.map(Body::from));
    answer.ok_or_else(|| Problem::new(&Kind::NOT_FOUND, "there is nothing at this path").into())
}

/// Metrics, in Prometheus' text format
///
/// To loopback and administrators. A credential that is there decides, and a bad one is refused.
/// Behind a proxy on this machine everybody comes from loopback, so whoever was forwarded counts as coming from
/// elsewhere; so does who asks for a name that is not ours, as a page whose name was rebound to loopback does.
#[utoipa::path(get, path = "/-/metrics", tag = "gateway",
    security((), ("bearer" = []), ("apiToken" = []), ("trustedHeader" = [])),
    responses((status = 200, description = "every series", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    Visitor { identity, peer, .. }: Visitor,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let administrator = match identity {
        Ok(identity) => identity.account.administrator,
        Err(AuthError::Missing) => false,
        Err(bad) => return Err(bad.into()),
    };
    let forwarded = ["x-forwarded-for", "forwarded", "via"].iter().any(|name| headers.contains_key(*name));
    let asked = uri.authority().map(http::uri::Authority::as_str);
    let asked = asked.or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok())).unwrap_or_default();
    let local = peer.is_loopback() && !forwarded && is_ours(asked, &api.config.listen.public_api);
    if !administrator && !local {
        return Err(Problem::new(&Kind::PERMISSION_DENIED, "metrics are for loopback and administrators").into());
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], measured::render()).into_response())
}

/// Whether the authority names loopback or this gateway itself.
fn is_ours(authority: &str, public: &Url) -> bool {
    let Ok(url) = Url::parse(&format!("http://{authority}/")) else { return false };
    match url.host() {
        Some(Host::Ipv4(address)) if address.is_loopback() => true,
        Some(Host::Ipv6(address)) if address.is_loopback() => true,
        Some(Host::Domain("localhost")) => true,
        host => host.is_some() && host == public.host(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_our_own_name_are_ours() {
        let public = Url::parse("https://api.gw.example.org").unwrap();
        for ours in ["localhost:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081", "api.gw.example.org", "LOCALHOST"] {
            assert!(is_ours(ours, &public), "{ours}");
        }
        for foreign in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"] {
            assert!(!is_ours(foreign, &public), "{foreign}");
        }
    }
}

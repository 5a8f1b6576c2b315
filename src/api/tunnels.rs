//! The service tunnel (`docs/API.md` §13): where it is, and its handshake.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use url::Url;

use super::Api;
use super::error::Refusal;
use super::extract::{Asked, Asker, Caller};
use super::presence::Presence;
use crate::config::Listen;
use crate::policy::{Levels, Permit};
use crate::proxy::error::{Kind, Problem};
use crate::proxy::route::Route;
use crate::proxy::streams::Opening;
use crate::proxy::{Ending, TooMany};

/// Where clients ask for the tunnel's address; no call of a service, though it looks like one.
pub(super) const ADDRESS: &str = "/service/carta/websocket";

/// What the accepted key is made with (RFC 6455 §1.3).
const ACCEPT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Where tunnels are opened
///
/// A URL without a query, for a WebSocket client.
#[utoipa::path(get, path = "/service/carta/websocket", tag = "services",
    responses((status = 200, description = "the URL, a JSON text", body = String, content_type = "application/json")))]
pub(super) async fn tunnel_address(
    State(api): State<Arc<Api>>,
    _: Caller,
    request: Request,
) -> Result<Json<String>, Refusal> {
    let (head, _) = request.into_parts();
    let base = reached(&api, &head).ok_or_else(|| Refusal::input("the request names no host"))?;
    let scheme = if base.scheme() == "https" { "wss" } else { "ws" };
    let rest = base.as_str().trim_start_matches(base.scheme()).trim_end_matches('/');
    Ok(Json(format!("{scheme}{rest}/service-tunnel")))
}

/// A service's tunnel
///
/// The handshake of a WebSocket (RFC 6455), for who may write the service, where its table lets it have one. `docs/TUNNEL.md` says what goes by it.
#[utoipa::path(get, path = "/service-tunnel", tag = "services",
    params(
        ("namespace" = String, Query, description = "the service's namespace"),
        ("service" = String, Query, description = "its name"),
    ),
    responses(
        (status = 101, description = "the tunnel is open"),
        (status = 404, description = "there is no such service"),
        (status = 426, description = "the request asks for no WebSocket"),
    ))]
pub(super) async fn open_tunnel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut head, _) = request.into_parts();
    let named = |name: &str| {
        let missing = || Refusal::input(format!("must provide {name} through query"));
        asked.value(name)?.ok_or_else(missing)
    };
    let (route, _) = may_open(&api, &caller, named("namespace")?, named("service")?)?;
    if api.issuer.is_none() {
        let detail = "a service behind a tunnel checks its callers by tokens of the built-in issuer, which is off here\n\
                      ask whoever runs this gateway to enable `[auth.local]`";
        return Err(Problem::new(&Kind::SERVICE_MISCONFIGURED, detail).into());
    }
    let (accept, upgrade) = upgrade(&mut head)?;
    if api.readiness.draining.is_cancelled() {
        return Err(Problem::new(&Kind::BUSY, "the gateway is about to end\ntry again").retry_after(1).into());
    }
    // A caller who leaves does not stop it half-way: what the audit was told must come to its end.
    let opening = tokio::spawn(open(api, caller, route, upgrade));
    opening.await.map_err(|_| Problem::new(&Kind::INTERNAL, "the tunnel was not opened"))??;
    Ok(switch(accept))
}

/// Tells the audit, judges once more, and then, and no sooner, takes the service's tunnel.
async fn open(api: Arc<Api>, caller: Caller, route: Arc<Route>, upgrade: OnUpgrade) -> Result<(), Refusal> {
    let presence = Arc::new(Presence::begin(&api, &route, caller.actor()?).await?);
    // Telling may have taken longer than the right to open it lasted.
    let take = || {
        api.still_decides_for(&caller.identity)?;
        let (again, permit) = may_open(&api, &caller, route.namespace(), route.name())?;
        if again.id() != route.id() {
            return Err(Refusal::unknown("service", route.label()));
        }
        let opened = api.gateway.tunnels().open(again.id(), caller.id()).map_err(too_many)?;
        Ok((opened, Opening { gateway: api.gateway.clone(), who: caller.identity.clone(), route: again, permit }))
    };
    let (opened, opening) = match take() {
        Ok(taken) => taken,
        Err(refusal) => {
            presence.leave(Ending::Lost).await;
            return Err(refusal);
        }
    };
    let (user, label) = (caller.identity.account.name.clone(), route.shared_label().clone());
    tracing::info!(service = &*label, user = &*user, "a tunnel opens");
    let arriving = presence.clone();
    opened.run(
        async move {
            let socket = TokioIo::new(upgrade.await.ok()?);
            arriving.connect().await.then_some(socket)
        },
        async move { opening.ends().await },
        api.readiness.draining.clone(),
        async move |ending| {
            tracing::info!(service = &*label, user = &*user, ending = ending.label(), "a tunnel ended");
            presence.leave(ending).await;
        },
    );
    Ok(())
}

fn may_open(api: &Api, caller: &Caller, namespace: &str, name: &str) -> Result<(Arc<Route>, Permit), Refusal> {
    let view = api.view();
    let route = view.state.routes.find(namespace, name);
    let route = route.ok_or_else(|| Refusal::unknown("service", &format!("{namespace}/{name}")))?;
    let permit = view.state.policy.permit(caller.id(), &[namespace, name], Levels::WRITE, Timestamp::now());
    let permit = permit.map_err(|denied| Refusal::denied(&view, &[namespace, name], &denied))?;
    if !route.takes_tunnel() {
        return Err(Refusal::forbidden(format!(
            "the service `{namespace}/{name}` takes no tunnel\nwrite `tunnel = true` into its table: for a service of the \
             gateway's configuration file whoever runs the gateway does that"
        )));
    }
    Ok((route.clone(), permit))
}

/// What the client's key is answered with, and the connection to come.
fn upgrade(head: &mut Parts) -> Result<(HeaderValue, OnUpgrade), Refusal> {
    let needed = |what: &'static str| Refusal::from(Problem::new(&Kind::UPGRADE_REQUIRED, what));
    let lists = |headers: &HeaderMap, name, word: &str| {
        let mut words = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        words.any(|one| one.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    if head.method != Method::GET
        || !(lists(&head.headers, UPGRADE, "websocket") && lists(&head.headers, CONNECTION, "upgrade"))
    {
        return Err(needed("this is a WebSocket, by HTTP/1.1\nconnect with a WebSocket client"));
    }
    if head.headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(needed("this is a WebSocket of version 13"));
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16)
        && let Ok(accept) = HeaderValue::try_from(accepted(key))
        && let Some(upgrade) = head.extensions.remove::<OnUpgrade>()
    {
        return Ok((accept, upgrade));
    }
    Err(Problem::new(&Kind::MALFORMED_REQUEST, "the WebSocket handshake has no key of 16 bytes").into())
}

fn accepted(key: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, ACCEPT].concat()))
}

fn switch(accept: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn too_many(TooMany { most, own }: TooMany) -> Refusal {
    let whose = if own { "yours" } else { "all users'" };
    let detail = format!("{most} tunnels of {whose} are open already, and there are no more\nclose one");
    Problem::new(&Kind::BUSY, detail).retry_after(60).into()
}

/// The address by which the caller reached this listener: the configured one, else what a trusted proxy says, else what
/// the request was sent to.
fn reached(api: &Api, head: &Parts) -> Option<Url> {
    let listen = &api.config.listen;
    if is_configured(listen) {
        return Some(listen.public_api.clone());
    }
    let asker = head.extensions.get::<Asker>()?;
    let forwarded = |name: &str| {
        let value = head.headers.get(name).filter(|_| api.gateway.settings().trusts(asker.peer))?;
        value.to_str().ok()?.split(',').next().map(str::trim)
    };
    let sent_to = head.uri.authority().map(http::uri::Authority::as_str);
    let sent_to = sent_to.or_else(|| head.headers.get(HOST).and_then(|host| host.to_str().ok()));
    let host = forwarded("x-forwarded-host").or(sent_to)?;
    let tls = forwarded("x-forwarded-proto").map_or(asker.tls, |scheme| scheme.eq_ignore_ascii_case("https"));
    let url = Url::parse(&format!("{}://{host}", if tls { "https" } else { "http" })).ok()?;
    // Nothing but host and port.
    let bare = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    (bare && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

/// Whether the configuration says where callers reach the listener. What it says by default is where the listener is.
fn is_configured(listen: &Listen) -> bool {
    let own = Url::parse(&format!("{}://{}", listen.public_api.scheme(), listen.api));
    own.is_ok_and(|own| own != listen.public_api)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_shows() {
        assert_eq!(accepted(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}

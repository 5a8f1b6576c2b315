//! What callers are told of calls that they ask for again instead of waiting (`docs/API.md` §13).

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use super::authorize::{self, Judge};
use super::body::ProxyBody;
use super::error::{Kind, Problem};
use super::exchange::Exchange;
use super::route::Route;
use super::scope;
use super::target::Door;
use crate::identity::Identity;
use crate::upstream::tunnel;

/// The answer to a call that became a task.
pub(super) fn begun(task: &str) -> Response<ProxyBody> {
    ours(StatusCode::ACCEPTED, &Progress { task, status: None, answer: None })
}

/// The task that the request asks for: on the API's listener, at the service itself, while a tunnel is open or where the
/// caller has that task.
pub(super) fn asked_task(exchange: &Exchange, call: &authorize::Call<'_>, who: &Identity) -> Option<String> {
    let bare = matches!(call.target.remainder(), "" | "/");
    if exchange.door != Door::Api || *call.method != Method::GET || !bare {
        return None;
    }
    let mut parameters = url::form_urlencoded::parse(call.target.query()?.as_bytes());
    let (_, id) = parameters.find(|(name, value)| name == "taskId" && !value.is_empty())?;
    let gateway = &exchange.gateway;
    let service = call.route.id();
    let is_theirs = || gateway.tasks().find(&id, who.account.id, service, exchange.start).is_some();
    (gateway.tunnels().find(service).is_some() || is_theirs()).then(|| id.into_owned())
}

/// What has become of the task. It is told to who called, as long as they may make that call.
///
/// # Errors
/// 404 for a task that is not the caller's; 403 where they may not make the call any more.
pub(super) fn poll(
    exchange: &Exchange,
    judge: &Judge<'_>,
    route: &Route,
    who: &Identity,
    task: &str,
    (revision, now): (u64, Timestamp),
) -> Result<Response<ProxyBody>, Problem> {
    let found = exchange.gateway.tasks().find(task, who.account.id, route.id(), Instant::now());
    let Some(found) = found else {
        let named: String = task.chars().take(64).collect();
        let detail = format!("there is no task `{named}` of yours at this service\nanswers are kept for ten minutes");
        return Err(Problem::new(&Kind::NOT_FOUND, detail));
    };
    let call = authorize::Call { route, target: &found.call.target, method: &found.call.method };
    // An API token reads the answer only of a call that it could have made.
    scope::admit_call(who, Door::Api, call.target, call.method)?;
    let permitted = authorize::check_noting(judge, who, &call, now, |needed, permitted| {
        exchange.ask(needed, permitted, revision, now);
    })?;
    exchange.permit_answer(permitted.operation.map(|operation| &operation.name));
    let (status, progress) = match &found.answer {
        None => (StatusCode::ACCEPTED, Progress { task, status: Some("pending"), answer: None }),
        Some(answer) => {
            let complete = Complete {
                status: answer.status().as_u16(),
                headers: tunnel::headers(answer.headers()),
                body: String::from_utf8_lossy(answer.body()),
            };
            (StatusCode::OK, Progress { task, status: Some("complete"), answer: Some(complete) })
        }
    };
    let mut answer = exchange.own(ours(status, &progress));
    exchange.admit_origin(&mut answer);
    Ok(answer)
}

/// What a caller is told of a task.
#[derive(Serialize)]
struct Progress<'a> {
    #[serde(rename = "taskId")]
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(flatten)]
    answer: Option<Complete<'a>>,
}

/// What the service answered.
#[derive(Serialize)]
struct Complete<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    headers: Map<String, Value>,
    #[serde(rename = "response")]
    body: Cow<'a, str>,
}

/// An answer of ours, on the origin of the UI.
fn ours(status: StatusCode, progress: &Progress<'_>) -> Response<ProxyBody> {
    let text = serde_json::to_vec(progress).unwrap_or_default();
    let mut answer = Response::new(ProxyBody::from(Bytes::from(text)));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "sandbox"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

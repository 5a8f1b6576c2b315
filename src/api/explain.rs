//! `/explain`: why a call was answered as it was, and how one would be decided now (`docs/API.md` §14).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::{Method, Uri};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Api;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named};
use super::openapi::shapes;
use super::view::View;
use crate::identity::Account;
use crate::policy::{Levels, Pattern, PatternKey, ResourceId, UserId};
use crate::proxy::authorize::{self, Call, Judge, Needed};
use crate::proxy::error::{Kind, Problem};
use crate::proxy::record::{Entry, Refused};
use crate::proxy::why::{self, Names, View as Sight, Why};
use crate::proxy::{Door, Target};
use crate::store;
use crate::telemetry::RequestId;

/// What would be decided now
///
/// By the functions that the gateway decides with. Anybody asks about themselves, who administers the service about
/// others.
#[utoipa::path(get, path = "/explain", tag = "why", params(
        ("path" = String, Query, min_length = 1, description = "the call's path, `/<namespace>/<service>/…`"),
        ("method" = Option<String>, Query, nullable = false, description = "`GET` where it is left out"),
        ("user" = Option<String>, Query, nullable = false, description = "a login name or an id; the caller where it is left out"),
    ),
    responses(
        (status = 200, description = "the decision", body = shapes::Decision),
        (status = 404, description = "there is no such service, or no such user"),
    ))]
pub(super) async fn explain_call(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<Value>, Refusal> {
    let view = api.view();
    let now = Timestamp::now();
    let path = asked.value("path")?.ok_or_else(|| {
        Refusal::input("must provide path through query\nwrite the path of the call: /<namespace>/<service>/…")
    })?;
    let uri: Uri = path
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.path().starts_with('/') && uri.authority().is_none())
        .ok_or_else(|| Refusal::input(format!("`{path}` is no path\nwrite it as /<namespace>/<service>/…")))?;
    let target = Target::parse(&uri, Door::of(uri.path()))?;
    let route = view.state.route(&target).ok_or_else(|| unknown_service(&target))?;
    let account = whom(&view, &caller, &asked, &[route.namespace(), route.name()], now)?;
    let method = asked.value("method")?.unwrap_or("GET");
    let method: Method = method.parse().map_err(|_| Refusal::input(format!("`{method}` is no method")))?;
    let call = Call { route, target: &target, method: &method };

    let mut told = Map::new();
    tell(&mut told, "user", &*account.name);
    tell(&mut told, "method", method.as_str());
    tell(&mut told, "path", target.path());
    tell(&mut told, "service", route.label());
    tell(&mut told, "revision", view.state.revision);
    tell(&mut told, "at", now.to_string());
    decide(&view, &call, &account, caller.id(), now, &mut told);
    if let Some(fault) = route.fault() {
        let sees = Sight::of(&view.state.policy, caller.id(), &[route.namespace(), route.name()], now) == Sight::Full;
        let why = if sees { fault } else { "tell its owner" };
        tell(&mut told, "note", format!("the service cannot be called as it is configured: {why}"));
    }
    Ok(Json(Value::Object(told)))
}

/// About whom the question is: anybody asks about themselves, who administers the service about others.
fn whom(
    view: &View,
    caller: &Caller,
    asked: &Asked,
    service: &[&str],
    now: Timestamp,
) -> Result<Arc<Account>, Refusal> {
    let Some(name) = asked.value("user")? else { return Ok(caller.identity.account.clone()) };
    let found = view.user(name);
    if let Some(account) = found.as_ref().filter(|account| account.id == caller.id()) {
        return Ok(account.clone());
    }
    if Sight::of(&view.state.policy, caller.id(), service, now) == Sight::Own {
        let denied = view.state.policy.may_administer(caller.id(), service, now).err();
        return Err(denied.map_or_else(
            || Refusal::forbidden("only who administers the service may ask about others"),
            |denied| Refusal::denied(view, service, &denied),
        ));
    }
    found.ok_or_else(|| Refusal::unknown("user", name))
}

/// The decision, in the order in which the gateway makes it.
fn decide(
    view: &View,
    call: &Call<'_>,
    account: &Account,
    sees: UserId,
    now: Timestamp,
    told: &mut Map<String, Value>,
) {
    let policy = &view.state.policy;
    let judge = Judge { policy, directory: &view.state.directory, decisions: None };
    if authorize::public(call).is_some() {
        tell(told, "decision", "allowed");
        tell(told, "note", "the endpoint is open to all, and nothing is injected");
        return;
    }
    if account.disabled {
        let detail = format!("`{}` is disabled, so every credential of theirs is refused", account.name);
        return refuse(told, &Problem::new(&Kind::INVALID_CREDENTIAL, detail));
    }
    let asked = authorize::ask(call, |Needed { keys, need, operation }| {
        tell(told, "operation", operation.map(|operation| operation.name.to_string()));
        let explained = policy.explain(account.id, keys, need, now);
        let sight = Sight::of(policy, sees, keys, now);
        // The table of a service may ask for levels on what its owner has no say over.
        let may_ask = sight == Sight::Full || sees == account.id;
        let why = may_ask.then(|| Why::of(judge.names(), &explained, keys, now).json(sight));
        (why, explained.allowed)
    });
    match asked {
        Ok((why, allowed)) => {
            tell(told, "decision", if allowed { "allowed" } else { "refused" });
            match why {
                Some(why) => tell(told, "why", why),
                None => tell(told, "note", "why is told to who administers the resource that the call needs levels on"),
            }
        }
        Err(no_question) => refuse(told, &no_question.problem(&judge, call)),
    }
}

fn refuse(told: &mut Map<String, Value>, problem: &Problem) {
    tell(told, "decision", "refused");
    tell(told, "problem", problem.kind().slug);
    tell(told, "status", problem.status().as_u16());
    tell(told, "detail", problem.detail());
}

/// What became of a call, and why
///
/// Told to its caller and to who administers the service; to everybody else it is as if it had never been.
#[utoipa::path(get, path = "/explain/{request_id}", tag = "why",
    responses(
        (status = 200, description = "what is remembered of it", body = shapes::PastCall),
        (status = 404, description = "there is no such request that the caller may ask about, or no record of it any more"),
    ))]
pub(super) async fn explain_request(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<Value>, Refusal> {
    let unknown = || {
        let detail = format!(
            "there is no request `{id}` that you may ask about, or no record of it any more\nask about calls of your own, or \
             of services that you administer"
        );
        Refusal::from(Problem::new(&Kind::NOT_FOUND, detail))
    };
    let parsed = RequestId::parse(&id).ok_or_else(unknown)?;
    let past = match api.records.find(&parsed) {
        // The worker may have forgotten what it said, and the store not.
        Some(entry) if entry.refused.is_none() && entry.problem.is_some() => {
            let kept = api.store.refusal(&id).await.unwrap_or_default();
            kept.map_or_else(|| Past::remembered(entry), Past::kept)
        }
        Some(entry) => Past::remembered(entry),
        None => Past::kept(api.store.refusal(&id).await?.ok_or_else(unknown)?),
    };
    let view = api.view();
    let now = Timestamp::now();
    let service = past.service.and_then(|service| view.state.policy.resource(service));
    let keys: Vec<&str> = service.iter().flat_map(|known| known.name.keys()).filter_map(PatternKey::literal).collect();
    let full = |keys: &[&str]| Sight::of(&view.state.policy, caller.id(), keys, now) == Sight::Full;
    let administers = !keys.is_empty() && full(&keys);
    let sight = match (administers, past.user == Some(caller.id())) {
        (true, _) if past.permitted.is_none() || past.resource_keys().is_some_and(|keys| full(&keys)) => {
            Some(Sight::Full)
        }
        (_, true) => Some(Sight::Own),
        // What the service asks for levels on is not theirs.
        (true, false) => None,
        (false, false) => return Err(unknown()),
    };
    Ok(Json(past.told(&id, &view, &keys, sight, now)))
}

/// A request of the past, remembered by a worker or kept by the store.
struct Past {
    at: Timestamp,
    user: Option<UserId>,
    service: Option<ResourceId>,
    operation: Option<String>,
    method: String,
    path: String,
    need: Option<Levels>,
    resource: Option<Pattern>,
    permitted: Option<bool>,
    problem: Option<String>,
    status: u16,
    revision: u64,
    took: u64,
    upstream: Option<u64>,
    detail: Option<String>,
    why: Option<Value>,
}

impl Past {
    fn remembered(entry: Entry) -> Self {
        let refused = entry.refused.as_deref();
        Self {
            // As the store keeps it, so that both tell the same.
            at: Timestamp::from_microsecond(entry.at.as_microsecond()).unwrap_or(entry.at),
            user: entry.user,
            service: entry.service,
            operation: entry.operation.as_deref().map(str::to_owned),
            need: entry.need,
            resource: entry.name.pattern(),
            permitted: entry.permitted,
            problem: entry.problem.map(|problem| problem.slug.to_owned()),
            status: entry.status,
            revision: entry.revision,
            took: micros(entry.took),
            upstream: entry.upstream.map(micros),
            detail: refused.map(|refused| refused.detail().to_owned()),
            why: refused.and_then(Refused::why),
            method: entry.method.to_string(),
            path: entry.path,
        }
    }

    fn kept(refusal: store::Refusal) -> Self {
        Self {
            at: refusal.at,
            user: Some(refusal.user),
            service: refusal.service,
            operation: refusal.operation,
            method: refusal.method,
            path: refusal.path,
            need: refusal.need,
            resource: refusal.resource,
            permitted: refusal.permitted,
            problem: Some(refusal.problem),
            status: refusal.status,
            revision: refusal.revision,
            took: refusal.took,
            upstream: None,
            detail: Some(refusal.detail),
            why: refusal.why,
        }
    }

    /// The keys of the resource that levels were needed on; none where no grants were asked, or it was too long to keep.
    fn resource_keys(&self) -> Option<Vec<&str>> {
        self.resource.as_ref()?.keys().iter().map(PatternKey::literal).collect()
    }

    /// What the gateway decided, whatever became of the call then.
    fn decision(&self) -> &'static str {
        match (self.permitted, self.problem.is_some()) {
            (Some(false), _) => "refused",
            (_, true) if matches!(self.status, 401 | 403 | 404) => "refused",
            (Some(true), _) => "allowed",
            // The caller left.
            (None, false) if self.status == 499 => "undecided",
            // A public endpoint, whose upstream may have failed.
            (None, false) => "allowed",
            (None, true) if self.status < 400 || matches!(self.status, 502 | 504) => "allowed",
            (None, true) if self.status >= 499 => "undecided",
            (None, true) => "refused",
        }
    }

    fn told(self, id: &str, view: &View, service: &[&str], sight: Option<Sight>, now: Timestamp) -> Value {
        let names = Names { policy: &view.state.policy, directory: &view.state.directory };
        let mut told = Map::new();
        tell(&mut told, "request_id", id);
        tell(&mut told, "at", self.at.to_string());
        tell(&mut told, "user", self.user.map(|user| names.user(user)));
        tell(&mut told, "method", &*self.method);
        tell(&mut told, "path", &*self.path);
        tell(&mut told, "service", (!service.is_empty()).then(|| service.join("/")));
        tell(&mut told, "operation", self.operation.as_deref());
        tell(&mut told, "decision", self.decision());
        tell(&mut told, "status", self.status);
        tell(&mut told, "revision", self.revision);
        tell(&mut told, "took_us", self.took);
        for (member, value) in [
            ("problem", self.problem.as_deref().map(Value::from)),
            ("detail", self.detail.as_deref().map(Value::from)),
            ("upstream_us", self.upstream.map(Value::from)),
            (
                "why",
                sight.zip(self.why.clone()).map(|(sight, why)| if sight == Sight::Full { why } else { why::own(why) }),
            ),
            ("now", sight.and_then(|sight| self.explained_now(view, names, sight, now))),
        ] {
            if let Some(value) = value {
                told.insert(member.to_owned(), value);
            }
        }
        Value::Object(told)
    }

    /// What the same question would be answered now.
    fn explained_now(&self, view: &View, names: Names<'_>, sight: Sight, now: Timestamp) -> Option<Value> {
        let (user, need, permitted) = (self.user?, self.need?, self.permitted?);
        let keys = self.resource_keys()?;
        let explained = view.state.policy.explain(user, &keys, need, now);
        let mut told = json!({
            "revision": view.state.revision,
            "at": now.to_string(),
            "decision": if explained.allowed { "allowed" } else { "refused" },
            "differs": explained.allowed != permitted,
            "why": Why::of(names, &explained, &keys, now).json(sight),
        });
        if explained.allowed != permitted
            && let Some(members) = told.as_object_mut()
        {
            let (then, since) =
                if permitted { ("allowed", "would be refused") } else { ("refused", "would be allowed") };
            let note = format!("it was {then} at revision {}, and {since} now", self.revision);
            members.insert("note".to_owned(), note.into());
        }
        Some(told)
    }
}

fn tell(told: &mut Map<String, Value>, member: &str, value: impl Into<Value>) {
    told.insert(member.to_owned(), value.into());
}

fn unknown_service(target: &Target) -> Refusal {
    let name: String = format!("{}/{}", target.namespace(), target.service()).chars().take(130).collect();
    let detail = format!("there is no service `{name}`\nwrite the path as /<namespace>/<service>/…");
    Problem::new(&Kind::UNKNOWN_SERVICE, detail).into()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

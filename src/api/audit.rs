//! `GET /audit`: who changed what, when, from where, before and after (`docs/API.md` §19).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::LINK;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::error::Refusal;
use super::extract::{Asked, Caller};
use super::node::Node;
use super::turn::Turns;
use super::view::View;
use super::{Api, access};
use crate::policy::{ResourceId, UserId};
use crate::store::{Audit, AuditPage, AuditQuery, StoreError};

/// Entries of a page where none is said, and at most.
const PAGE: usize = 50;
const MOST: usize = 500;

/// One question at a time: each may look at many entries.
static TURNS: Turns = Turns::new();

/// The parameters, in the order in which the link to the next page has them.
const PARAMETERS: [&str; 6] = ["user", "what", "target", "from", "to", "limit"];

/// What the query says.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `permitted` and `list_entries` read")]
struct Parameters {
    /// Made by this user, by name or id.
    #[param(nullable = false)]
    user: Option<String>,
    /// Of this kind, such as `grant.put`.
    #[param(nullable = false)]
    what: Option<String>,
    /// About this namespace or service: an id, `ns`, `ns.svc` or `ns/svc`. Administrators may name any other target, too.
    #[param(nullable = false)]
    target: Option<String>,
    /// At this time or later, such as `2026-01-31T12:00:00Z`.
    #[param(nullable = false)]
    from: Option<String>,
    /// Before this time.
    #[param(nullable = false)]
    to: Option<String>,
    /// The most entries of the answer; 50 where nothing is said. Where there may be more, `Link` has the next page.
    #[param(nullable = false, minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Older than this entry: `Link` has it.
    #[param(nullable = false, minimum = 0)]
    after: Option<u64>,
}

/// Changes, the newest first
///
/// Administrators read all, who administers a namespace or service what is about it (`target`), and everybody what they did
/// themselves, which is what is listed where neither `user` nor `target` is given. A page may be shorter than `limit`, or
/// empty, and yet link to a next one.
#[utoipa::path(get, path = "/audit", tag = "audit", params(Parameters), responses(
    (status = 200, description = "the entries", body = [Entry]),
    (status = 404, description = "no such user, namespace or service")))]
pub(super) async fn list_entries(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, Refusal> {
    let query = permitted(&api.view(), &caller, &asked, Timestamp::now())?;
    let query = AuditQuery {
        what: asked.value("what")?.map(str::to_owned),
        from: time(&asked, "from")?,
        to: time(&asked, "to")?,
        after: number(&asked, "after")?,
        limit: limit(&asked)?,
        ..query
    };
    let turn = TURNS.take(caller.id()).await?;
    let found = api.store.find_audit(query).await;
    drop(turn);
    // Reading took a moment: what it shows is for who may see it now.
    api.still_decides_for(&caller.identity)?;
    let view = api.view();
    permitted(&view, &caller, &asked, Timestamp::now())?;
    let administrator = is_administrator(&view, caller.id());
    let page = match found {
        Ok(page) => page,
        Err(StoreError::Missing { name, .. }) if administrator => {
            return Err(Refusal::input(format!("`after` names no entry: `{name}`")));
        }
        // It may be one of somebody else, of which the caller is told nothing.
        Err(StoreError::Missing { .. }) => AuditPage::default(),
        Err(other) => return Err(other.into()),
    };
    let is_shown = |entry: &Audit| administrator || entry.user == Some(caller.id());
    let list: Vec<Entry<'_>> =
        page.entries.into_iter().map(|entry| Entry::of(&view, is_shown(&entry), entry)).collect();
    let mut response = Json(list).into_response();
    if let Some(next) = page.next {
        let mut link = url::form_urlencoded::Serializer::new(String::new());
        for name in PARAMETERS {
            if let Some(value) = asked.value(name)? {
                link.append_pair(name, value);
            }
        }
        link.append_pair("after", &next.to_string());
        if let Ok(link) = HeaderValue::from_str(&format!("</audit?{}>; rel=\"next\"", link.finish())) {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// Whose entries, and about what: as far as the caller may ask.
fn permitted(view: &View, caller: &Caller, asked: &Asked, now: Timestamp) -> Result<AuditQuery, Refusal> {
    let (user, target) = (asked.value("user")?, asked.value("target")?);
    let whose = |name: &str| view.user(name).map(|account| account.id).ok_or_else(|| Refusal::unknown("user", name));
    let node = target.and_then(|name| named(view, name));
    let about = AuditQuery { resource: node.as_ref().map(Node::id), ..AuditQuery::default() };
    if is_administrator(view, caller.id()) {
        let text = target.filter(|_| node.is_none()).map(str::to_owned);
        return Ok(AuditQuery { user: user.map(whose).transpose()?, target: text, ..about });
    }
    if let Some(name) = target {
        let node = node.ok_or_else(|| Refusal::unknown("resource", name))?;
        let _permit = access::may_administer(view, caller.id(), &node, now)?;
        return Ok(AuditQuery { user: user.map(whose).transpose()?, ..about });
    }
    match user.map(|name| view.user(name).map(|account| account.id)) {
        None => {}
        Some(found) if found == Some(caller.id()) => {}
        Some(_) => {
            return Err(Refusal::forbidden(
                "what others did is read by administrators\nleave `user` out, or name a resource that you administer as \
                 `target`",
            ));
        }
    }
    Ok(AuditQuery { user: Some(caller.id()), ..AuditQuery::default() })
}

fn is_administrator(view: &View, user: UserId) -> bool {
    view.state.directory.by_id(user).is_some_and(|account| account.administrator)
}

/// What has this id, or is called `ns`, `ns.svc` or `ns/svc`.
fn named(view: &View, name: &str) -> Option<Node> {
    if let Some(node) = view.node(name) {
        return Some(node);
    }
    match name.split_once(['.', '/']) {
        None => view.catalog.namespace(name).cloned().map(Node::from),
        Some((namespace, service)) => view.catalog.service(namespace, service).cloned().map(Node::from),
    }
}

/// A change that was made. No secret, password or key is in it.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Entry<'a> {
    /// Counts the entries.
    seq: u64,
    /// When, in UTC.
    at: String,
    /// The revision that shows the change.
    revision: u64,
    /// The login name of who made it, where a user did.
    user: Option<&'a str>,
    #[schema(value_type = Option<Uuid>)]
    user_id: Option<UserId>,
    /// `api`, `api-token`, `cli`, `login`, `config`, `store`, `admin-key` or `tunnel`.
    via: String,
    /// The caller's address, with the name of its API token or the id of its key; or the user of the operating system. Told to
    /// administrators, and of one's own doings.
    from: Option<String>,
    /// The request that made it. Told as `from` is.
    request_id: Option<String>,
    /// Such as `grant.put`.
    what: String,
    /// To what, for people.
    target: String,
    /// The id of the namespace or service that it is about.
    #[schema(value_type = Option<Uuid>)]
    resource: Option<ResourceId>,
    /// What was there.
    #[schema(value_type = Value)]
    before: Option<Value>,
    /// What is there.
    #[schema(value_type = Value)]
    after: Option<Value>,
    /// The keyed hash over this entry and all before it, in hexadecimal digits.
    mac: Option<String>,
}

impl<'a> Entry<'a> {
    /// `whole`: with from where it was made.
    fn of(view: &'a View, whole: bool, entry: Audit) -> Self {
        Self {
            seq: entry.seq,
            at: entry.at.to_string(),
            revision: entry.revision.0,
            user: entry.user.and_then(|user| view.user_name(user)),
            user_id: entry.user,
            via: entry.via,
            from: Some(entry.from).filter(|_| whole),
            request_id: entry.request_id.filter(|_| whole),
            what: entry.what,
            target: entry.target,
            resource: entry.resource,
            before: entry.before,
            after: entry.after,
            mac: entry.mac.map(|mac| mac.to_string()),
        }
    }
}

fn limit(asked: &Asked) -> Result<usize, Refusal> {
    let limit = number(asked, "limit")?.map_or(Some(PAGE), |number| usize::try_from(number).ok());
    limit
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| Refusal::input(format!("`limit` is not from 1 to {MOST}\nfurther pages are linked to")))
}

fn number(asked: &Asked, name: &str) -> Result<Option<u64>, Refusal> {
    // What is taken is what the description's format has.
    let read = |text: &str| {
        let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| Refusal::input(format!("`{name}` is no number: `{text}`")))
    };
    asked.value(name)?.map(read).transpose()
}

fn time(asked: &Asked, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let read = |text: &str| {
        text.parse()
            .map_err(|_| Refusal::input(format!("`{name}` is no time: `{text}`\nwrite it as 2026-01-31T12:00:00Z")))
    };
    asked.value(name)?.map(read).transpose()
}

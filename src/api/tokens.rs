//! `/v2/auth/apitoken`: API tokens (`docs/API.md` §9). A key is shown once, to who makes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::answer::Done;
use super::command::tokens::{self, Ending, Wanted};
use super::error::Refusal;
use super::extract::{Asked, Caller, Named, Sent};
use super::openapi::Barrier;
use super::paging::{self, Page};
use super::{Api, answer};
use crate::identity::{Account, endpoint};
use crate::policy::{GroupId, Snapshot, UserId};
use crate::store::ApiToken;

/// The most characters of a name.
const LONGEST_NAME: usize = 128;

/// The most patterns of one token, and bytes of all of them: each is compared with every request.
const PATTERNS: (usize, usize) = (64, 8 * 1024);

/// What lists show instead of the rest of a key.
const STARS: &str = "************";

/// A new API token
///
/// Of the caller, who signed in by something else than an API token. The key is in this answer and nowhere else.
#[utoipa::path(post, path = "/v2/auth/apitoken/{node}", tag = "tokens", params(Barrier), request_body = NewToken,
    security(("bearer" = []), ("trustedHeader" = [])),
    responses(
        (status = 200, description = "the token, with its key", body = Token),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn create_token(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(node): Named<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let owner = find(&api, &caller, &node)?;
    if owner.id != caller.id() {
        return Err(Refusal::forbidden("API tokens are made by their own users only\nask the user to make one"));
    }
    if caller.identity.within.is_some() {
        return Err(Refusal::forbidden("an API token makes no API tokens\nsign in to make one"));
    }
    let body = sent.object(&api, &caller).await?;
    let wanted = read(&body, Timestamp::now())?;
    let permit = Snapshot::permit_self(caller.id());
    let (revision, token, key) = tokens::create(&api, permit, caller.actor()?, wanted).await?;
    Ok(answer::written(revision, Json(Token::of(&token, &key.text))))
}

/// The API tokens of a user
///
/// By name, with the first four characters of each key. Those of others are for administrators.
#[utoipa::path(get, path = "/v2/auth/apitoken/{node}", tag = "tokens", params(Page),
    responses(
        (status = 200, description = "the tokens", body = [Token]),
        (status = 404, description = "there is no such node"),
    ))]
pub(super) async fn list_tokens(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(node): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let owner = find(&api, &caller, &node)?;
    // What changes with use is known to the store only.
    let tokens = api.store.api_tokens(owner.id).await?;
    api.still_decides_for(&caller.identity)?;
    find(&api, &caller, &node)?;
    let keys = tokens.iter().map(|token| format!("{}{STARS}", token.hint));
    let tokens: Vec<_> = tokens.iter().zip(keys).collect();
    paging::listed(&tokens, |(token, key)| Token::of(token, key), uri.path(), &asked)
}

/// Deletes an API token
///
/// It ends at once, with the streams that it opened.
#[utoipa::path(delete, path = "/v2/auth/apitoken/{node}/{token}", tag = "tokens", params(Barrier),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is no such node, or it has no such token"),
    ))]
pub(super) async fn delete_token(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(token): Named<(String, String)>,
) -> Result<Response, Refusal> {
    end(&api, &caller, token, Ending::Delete).await
}

/// Revokes an API token
///
/// It ends at once, with the streams that it opened, and stays in the list; with `autoRemove` it is deleted.
#[utoipa::path(post, path = "/v2/auth/apitoken/{node}/{token}/revoke", tag = "tokens", params(Barrier),
    responses(
        (status = 200, description = "it is revoked", body = Done),
        (status = 404, description = "there is no such node, or it has no such token"),
    ))]
pub(super) async fn revoke_token(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(token): Named<(String, String)>,
) -> Result<Response, Refusal> {
    end(&api, &caller, token, Ending::Revoke).await
}

async fn end(api: &Api, caller: &Caller, (node, name): (String, String), how: Ending) -> Result<Response, Refusal> {
    let owner = find(api, caller, &node)?;
    let permit = Snapshot::permit_self(caller.id());
    Ok(answer::done(tokens::end(api, permit, caller.actor()?, (owner.id, name), how).await?))
}

/// The user whose tokens are meant: the caller's own, or for an administrator anybody's.
fn find(api: &Api, caller: &Caller, node: &str) -> Result<Arc<Account>, Refusal> {
    let view = api.view();
    let directory = &view.state.directory;
    let id = if node == "self" { Some(caller.id().0) } else { Uuid::try_parse(node).ok() };
    let Some(account) = id.and_then(|id| directory.by_id(UserId(id))) else {
        let other = view.node(node).is_some() || id.is_some_and(|id| directory.group(GroupId(id)).is_some());
        if other {
            if !directory.by_id(caller.id()).is_some_and(|account| account.administrator) {
                return Err(Refusal::forbidden("the API tokens of others are for them and for administrators"));
            }
            return Err(Refusal::input("only users have API tokens\nname a user, or `self`"));
        }
        return Err(Refusal::unknown("node", node));
    };
    let administrator = directory.by_id(caller.id()).is_some_and(|account| account.administrator);
    if account.id != caller.id() && !administrator {
        return Err(Refusal::forbidden("the API tokens of others are for them and for administrators"));
    }
    Ok(account.clone())
}

fn read(body: &Value, now: Timestamp) -> Result<Wanted, Refusal> {
    Ok(Wanted {
        name: read_name(body.get("name"))?,
        patterns: read_patterns(body.get("allowedEndpoints"))?,
        expires: read_end(body.get("expires"), now)?,
        uses: read_uses(body.get("uses"))?,
        auto_remove: match body.get("autoRemove") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(auto_remove)) => *auto_remove,
            Some(_) => return Err(Refusal::input("`autoRemove` is neither true nor false")),
        },
    })
}

fn read_name(value: Option<&Value>) -> Result<String, Refusal> {
    let name = value.and_then(Value::as_str).ok_or_else(|| Refusal::input("`name` is missing, or no text"))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        let rule = format!("use up to {LONGEST_NAME} letters, digits and `-._~`");
        let shown: String = name.chars().take(LONGEST_NAME).collect();
        return Err(Refusal::input(format!("`{}` cannot be the name of a token\n{rule}", shown.escape_debug())));
    }
    Ok(name.to_owned())
}

fn read_patterns(value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let list = value.and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        Refusal::input(
            "`allowedEndpoints` is no list with at least one pattern\nwrite [\"GET /user/**\"], or [\"ANY /**\"]",
        )
    })?;
    let (most, bytes) = PATTERNS;
    let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let texts = texts.ok_or_else(|| Refusal::input("`allowedEndpoints` holds what is no text"))?;
    if texts.len() > most || texts.iter().map(|text| text.len()).sum::<usize>() > bytes {
        let rule = format!("write at most {most}, of at most {bytes} bytes together");
        return Err(Refusal::input(format!("`allowedEndpoints` holds too much\n{rule}")));
    }
    let read = |text: &str| endpoint(text).map(|_| text.to_owned()).map_err(|fault| Refusal::input(fault.to_string()));
    texts.into_iter().map(read).collect()
}

/// A time without a zone is UTC.
fn read_end(value: Option<&Value>, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Refusal::input("`expires` is no text\nwrite a time such as 2030-01-31T12:00:00Z")),
    };
    let without_zone = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    let end = text.parse::<Timestamp>().ok().or_else(without_zone);
    let end = end.and_then(|end| Timestamp::from_microsecond(end.as_microsecond()).ok());
    match end {
        Some(end) if end > now => Ok(Some(end)),
        Some(_) => Err(Refusal::input("`expires` is in the past")),
        None => Err(Refusal::input("`expires` is no time\nwrite one such as 2030-01-31T12:00:00Z")),
    }
}

fn read_uses(value: Option<&Value>) -> Result<Option<u64>, Refusal> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|uses| (1..=i64::MAX.unsigned_abs()).contains(uses)) {
            Some(uses) => Ok(Some(uses)),
            None => Err(Refusal::input("`uses` is no whole number of at least 1")),
        },
    }
}

/// Carta's ApiToken object, which may carry nulls.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiToken)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token<'a> {
    name: &'a str,
    /// The key where the token was just made; else its first four characters, and stars.
    token: &'a str,
    allowed_endpoints: &'a [String],
    #[schema(value_type = Option<String>, format = DateTime)]
    expires: Option<Timestamp>,
    /// How many are left, where they are counted.
    #[schema(minimum = 0)]
    uses: Option<u64>,
    revoked: bool,
    auto_remove: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used: Option<Timestamp>,
}

impl<'a> Token<'a> {
    fn of(token: &'a ApiToken, key: &'a str) -> Self {
        Self {
            name: &token.name,
            token: key,
            allowed_endpoints: &token.patterns,
            expires: token.expires,
            uses: token.uses,
            revoked: token.revoked,
            auto_remove: token.auto_remove,
            last_used: token.last_used,
        }
    }
}

/// What makes an API token.
#[derive(ToSchema)]
#[schema(as = NewApiToken, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `read` reads")]
pub(super) struct NewToken {
    /// Unique among the user's tokens.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._~-]+$")]
    name: String,
    /// Patterns `METHOD /path`, such as `POST|PUT /tags/*` or `ANY /user/**`; of at most 8 KiB together.
    #[schema(min_items = 1, max_items = 64)]
    allowed_endpoints: Vec<String>,
    /// In the future; without a zone it is UTC.
    #[schema(format = DateTime)]
    expires: Option<String>,
    #[schema(minimum = 1)]
    uses: Option<u64>,
    /// Whether it is deleted when it is revoked.
    auto_remove: Option<bool>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    fn with(field: &str, value: Value) -> Result<Wanted, Refusal> {
        let mut body = json!({"name": "ci", "allowedEndpoints": ["GET /user"]});
        body.as_object_mut().unwrap().insert(field.to_owned(), value);
        read(&body, now())
    }

    #[test]
    fn an_end_without_a_zone_is_utc_and_one_in_the_past_is_refused() {
        let end = |text: &str| with("expires", json!(text)).map(|wanted| wanted.expires.unwrap().to_string());
        assert_eq!(end("2030-06-01T12:00:00").unwrap(), "2030-06-01T12:00:00Z");
        assert_eq!(end("2030-06-01T12:00:00+02:00").unwrap(), "2030-06-01T10:00:00Z");
        assert_eq!(end("2030-06-01T12:00:00.123456").unwrap(), "2030-06-01T12:00:00.123456Z");
        for text in ["2030-01-01T00:00:00Z", "2029-12-31T23:59:59", "1999-01-01T00:00:00", "soon", ""] {
            assert!(end(text).is_err(), "{text}");
        }
        assert_eq!(with("expires", Value::Null).unwrap().expires, None);
    }

    #[test]
    fn what_cannot_be_taken_is_refused() {
        for (field, value) in [
            ("name", json!("")),
            ("name", json!("a b")),
            ("name", json!("a/b")),
            ("name", json!("a".repeat(129))),
            ("name", json!(7)),
            ("name", Value::Null),
            ("allowedEndpoints", json!([])),
            ("allowedEndpoints", Value::Null),
            ("allowedEndpoints", json!("GET /user")),
            ("allowedEndpoints", json!(["GET /user", 7])),
            ("allowedEndpoints", json!(["GET  /user"])),
            ("allowedEndpoints", json!(["get /user"])),
            ("allowedEndpoints", json!(["GET /tags/{id}"])),
            ("allowedEndpoints", json!(vec!["GET /user"; 65])),
            ("allowedEndpoints", json!(vec![format!("GET /{}", "a".repeat(500)); 20])),
            ("uses", json!(0)),
            ("uses", json!(-1)),
            ("uses", json!(1.5)),
            ("uses", json!(true)),
            ("uses", json!(u64::MAX)),
            ("autoRemove", json!("yes")),
        ] {
            assert!(with(field, value.clone()).is_err(), "{field}: {value}");
        }
        assert_eq!(with("uses", json!(1)).unwrap().uses, Some(1));
        assert!(with("name", json!("A-z.0_~")).is_ok());
    }
}

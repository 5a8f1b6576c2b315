//! `/secret` and `/secrets`: one's own secrets (`docs/API.md` §10). No value is ever listed, logged or shown to
//! anybody but its owner.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::answer::Done;
use super::command::secrets::{self, Plain};
use super::error::Refusal;
use super::extract::{Asked, Caller, Named};
use super::openapi::Barrier;
use super::paging::{self, Page};
use super::view::View;
use super::{Api, answer};
use crate::policy::{ResourceId, Snapshot};
use crate::proxy::error::{Kind, Problem};
use crate::proxy::{consent, inject};
use crate::store::{Consent, Service};
use crate::vault::{self, SecretFault};

/// The most characters of a value; as many are allowed.
const MAX_CHARACTERS: usize = 1024;

/// The most characters of a name.
const MAX_NAME: usize = crate::config::SECRET_NAME_BYTES;

/// Store secrets
///
/// Each is a header `secret-{Name}: {value}`: all are stored, or none. At most 1024 characters a value, 128 a name;
/// names are compared without case.
#[utoipa::path(put, path = "/secret", tag = "secrets",
    params(
        ("secret-Name" = Option<String>, Header, nullable = false, description = "the value of the secret `Name`"),
        ("ttl" = Option<String>, Query, nullable = false, description = "how long they live, such as `90s`, `8h` or `30d`"),
        Barrier,
    ),
    responses((status = 200, description = "they are stored", body = Done)))]
pub(super) async fn put_secrets(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let expires = asked.value("ttl")?.map(|text| end_of(text, Timestamp::now())).transpose()?;
    let plain = read_headers(&headers)?;
    let permit = Snapshot::permit_self(caller.id());
    let revision = secrets::put(&api, permit, caller.actor()?, &plain, expires).await?;
    Ok(answer::done(revision))
}

/// A secret's value, or which there are
///
/// With `name` the value, as text. Without: the caller's own secrets, without any value.
#[utoipa::path(get, path = "/secret", tag = "secrets",
    params(("name" = Option<String>, Query, nullable = false, description = "the secret whose value to show"), Page),
    responses(
        (status = 200, description = "the value, or the list", content((String = "text/plain"), (Vec<Listed> = "application/json"))),
        (status = 404, description = "the caller has no such secret"),
    ))]
pub(super) async fn show_secrets(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let view = api.view();
    let Some(name) = asked.value("name")? else { return list(&view, &caller, uri.path(), &asked) };
    let mut value = Zeroizing::new(Vec::new());
    let found = view.state.secrets.open(caller.id(), &name.to_lowercase(), Timestamp::now(), &mut value);
    match found {
        Ok(()) => Ok(answer::text(String::from_utf8_lossy(&value).into_owned())),
        Err(SecretFault::Missing | SecretFault::Expired) => Err(Refusal::unknown("secret", name)),
        Err(SecretFault::Unreadable) => {
            Err(Problem::new(&Kind::UNREADABLE_SECRET, format!("the secret `{name}` cannot be opened\nstore it again"))
                .into())
        }
    }
}

/// Delete a secret
///
/// With its consents; a withdrawal stays.
#[utoipa::path(delete, path = "/secret", tag = "secrets",
    params(("name" = String, Query, min_length = 1, description = "which"), Barrier),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "the caller has no such secret"),
    ))]
pub(super) async fn delete_secret(
    State(api): State<Arc<Api>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, Refusal> {
    let name = asked.value("name")?.ok_or_else(|| Refusal::input("must provide name through query"))?;
    let permit = Snapshot::permit_self(caller.id());
    let revision = secrets::delete(&api, permit, caller.actor()?, &name.to_lowercase()).await?;
    Ok(answer::done(revision))
}

/// Let a secret go to a service
///
/// To the service as it is now; with `shown`, as the line to paste has it, only if that is what the user was shown.
#[utoipa::path(post, path = "/secret/{name}/consent", tag = "secrets",
    params(
        ("service" = String, Query, min_length = 1, description = "`namespace/service`"),
        ("shown" = Option<String>, Query, nullable = false, description = "the digest in the refusal's line to paste"),
        Barrier,
    ),
    responses(
        (status = 200, description = "where it may go", body = Consented),
        (status = 404, description = "there is no such secret, or no such service"),
    ))]
pub(super) async fn give_consent(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let secret = name.to_lowercase();
    let service = service_of(&view, &asked)?;
    let at = Timestamp::now();
    if view.state.secrets.held(caller.id(), &secret, at).is_none() {
        return Err(Refusal::unknown("secret", &name));
    }
    let label = format!("{}/{}", service.namespace, service.name);
    let route = view.state.routes.by_id(service.id);
    let found = route.and_then(|route| route.injection().uses().iter().find(|of| *of.secret == *secret));
    let of =
        found.ok_or_else(|| Refusal::input(format!("the service `{label}` does not use the secret `{secret}`")))?;
    if asked.value("shown")?.is_some_and(|shown| shown != &*of.fingerprint) {
        let api = api.config.listen.public_api.as_str().trim_end_matches('/');
        return Err(consent::changed_since(of, &inject::Named { service: &label, api }).into());
    }
    let (fingerprint, origins) = (of.fingerprint.to_string(), of.origins.to_string());
    let consent = Consent { user: caller.id(), secret, service: service.id, fingerprint, origins, at };
    let said = Consented { secret: consent.secret.clone(), service: label, origins: origins_of(&consent.origins) };
    let permit = Snapshot::permit_self(caller.id());
    let revision = secrets::consent(&api, permit, caller.actor()?, consent).await?;
    Ok(answer::written(revision, Json(said)))
}

/// Withdraw consent
///
/// Every consent for the two; no use gives it again. Also for a service that the file no longer declares: it may come back.
#[utoipa::path(delete, path = "/secret/{name}/consent", tag = "secrets",
    params(("service" = String, Query, min_length = 1, description = "`namespace/service`"), Barrier),
    responses(
        (status = 200, description = "it is withdrawn", body = Done),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn withdraw_consent(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    let service = service_named(&asked, |namespace, name| view.catalog.service_kept(namespace, name))?;
    let permit = Snapshot::permit_self(caller.id());
    let secret = name.to_lowercase();
    let revision = secrets::withdraw(&api, permit, caller.actor()?, &secret, service.id).await?;
    Ok(answer::done(revision))
}

/// Where a secret may go.
#[derive(Serialize, ToSchema)]
struct Consented {
    secret: String,
    /// `namespace/service`.
    service: String,
    origins: Vec<String>,
}

/// A secret of the caller's, without its value.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
struct Listed {
    name: String,
    created: Timestamp,
    /// In seconds.
    age: i64,
    /// Where it may go.
    consents: Vec<Given>,
    /// The services, `namespace/service`, for which consent was withdrawn; null for one that is gone.
    withdrawn: Vec<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expired: Option<bool>,
}

/// A consent.
#[derive(Serialize, ToSchema)]
#[schema(as = Consent)]
struct Given {
    /// `namespace/service`; null for one that is gone.
    service: Option<String>,
    origins: Vec<String>,
    at: Timestamp,
}

fn list(view: &View, caller: &Caller, path: &str, asked: &Asked) -> Result<Response, Refusal> {
    let now = Timestamp::now();
    let consents: Vec<_> = view.state.secrets.consents_of(caller.id()).collect();
    let withdrawn: Vec<_> = view.state.secrets.withdrawn_of(caller.id()).collect();
    let listed: Vec<_> = view.state.secrets.of(caller.id()).collect();
    let shown = |secret: &vault::Listed| {
        let given = consents.iter().filter(|consent| consent.secret == *secret.name).map(|consent| Given {
            service: name_of(view, consent.service),
            origins: origins_of(&consent.origins),
            at: consent.at,
        });
        let taken = withdrawn.iter().filter(|(of, _)| *of == &*secret.name);
        Listed {
            name: secret.name.to_string(),
            created: secret.created,
            age: now.duration_since(secret.created).as_secs().max(0),
            consents: given.collect(),
            withdrawn: taken.map(|(_, service)| name_of(view, *service)).collect(),
            expires: secret.expires,
            expired: secret.expires.map(|expires| expires <= now),
        }
    };
    paging::listed(&listed, shown, path, asked)
}

fn origins_of(origins: &str) -> Vec<String> {
    consent::listed(origins).into_iter().map(str::to_owned).collect()
}

fn name_of(view: &View, service: ResourceId) -> Option<String> {
    view.catalog.service_of(service).map(|service| format!("{}/{}", service.namespace, service.name))
}

fn service_of<'v>(view: &'v View, asked: &Asked) -> Result<&'v Arc<Service>, Refusal> {
    service_named(asked, |namespace, name| view.catalog.service(namespace, name))
}

fn service_named<'v>(
    asked: &Asked,
    find: impl FnOnce(&str, &str) -> Option<&'v Arc<Service>>,
) -> Result<&'v Arc<Service>, Refusal> {
    let text = asked.value("service")?.ok_or_else(|| Refusal::input("must provide service=ns/svc through query"))?;
    let found = text.split_once('/').and_then(|(namespace, name)| find(namespace, name));
    found.ok_or_else(|| Refusal::unknown("service", text))
}

/// Every `secret-…` header, by lower-case name. One that is not right refuses all.
fn read_headers(headers: &HeaderMap) -> Result<Vec<Plain>, Refusal> {
    let mut plain: Vec<Plain> = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix("secret-") else { continue };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Refusal::input(format!("a secret's name has 1 to {MAX_NAME} characters")));
        }
        if plain.iter().any(|known| known.name == name) {
            return Err(Refusal::input(format!("the secret `{name}` is given twice")));
        }
        plain.push(Plain { name: name.to_owned(), value: read_value(name, value.as_bytes())? });
    }
    if plain.is_empty() {
        return Err(Refusal::input("no secret was sent\nsend each as a header `secret-{name}: {value}`"));
    }
    Ok(plain)
}

/// UTF-8 where the bytes are that, else Latin-1. The value never appears in what is said about it.
fn read_value(name: &str, bytes: &[u8]) -> Result<Zeroizing<String>, Refusal> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let text = Zeroizing::new(text);
    if text.chars().count() > MAX_CHARACTERS {
        return Err(Refusal::input(format!("the secret `{name}` is longer than {MAX_CHARACTERS} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::input(format!("the secret `{name}` holds control characters, which break a header")));
    }
    Ok(text)
}

fn end_of(text: &str, now: Timestamp) -> Result<Timestamp, Refusal> {
    let wrong = || Refusal::input(format!("`{text}` is no time to live\nwrite a duration such as 90s, 8h or 30d"));
    let ttl = humantime::parse_duration(text).map_err(|_| wrong())?;
    if ttl.is_zero() {
        return Err(wrong());
    }
    now.checked_add(ttl).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn read(pairs: &[(&str, &[u8])]) -> Result<Vec<(String, String)>, String> {
        read_headers(&headers(pairs))
            .map(|plain| plain.into_iter().map(|plain| (plain.name, plain.value.to_string())).collect())
            .map_err(|refusal| refusal.0.detail().to_owned())
    }

    #[test]
    fn names_have_no_case_and_values_are_utf_8_or_latin_1() {
        let read = read(&[("Secret-Db-User", b"ann"), ("secret-x", "é€".as_bytes()), ("secret-y", b"\xe9")]).unwrap();
        let pairs: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("db-user", "ann"), ("x", "é€"), ("y", "é")]);
    }

    #[test]
    fn a_value_of_1024_characters_is_stored_and_one_more_refuses_all() {
        let long = "ä".repeat(1024);
        assert!(read(&[("secret-a", long.as_bytes())]).is_ok());
        let longer = format!("{long}b");
        assert!(read(&[("secret-b", b"fine"), ("secret-a", longer.as_bytes())]).is_err());
    }

    #[test]
    fn no_secret_twice_the_same_and_no_name_are_refused_and_no_value_is_repeated() {
        assert!(read(&[("x-secret-a", b"1")]).is_err());
        assert!(read(&[("secret-", b"1")]).is_err());
        let twice = read(&[("secret-a", b"canary-1"), ("Secret-A", b"canary-2")]).unwrap_err();
        let control = read(&[("secret-a", b"canary\t3")]).unwrap_err();
        assert!(!twice.contains("canary") && !control.contains("canary"));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert_eq!(read(&[("secret-a", b"")]).unwrap(), [("a".to_owned(), String::new())]);
    }
}

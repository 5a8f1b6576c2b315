//! `/service/{reserve,register,details,rename,remove,config}`: namespaces and services (`docs/API.md` §11).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answer::Done;
use super::command::services;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named, Sent};
use super::openapi::{Barrier, ServiceTable};
use super::view::View;
use super::{Api, answer, role, table};
use crate::config;
use crate::policy::{Denied, Levels, Permit, ResourceId, Snapshot, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::store::{Namespace, Origin, Service};

/// The namespace that is there from the start.
const PLATFORM: &str = "carta";

/// Reserve a namespace
///
/// Any user may, and becomes the owner. A name that is taken is refused with 400 `duplicate record`.
#[utoipa::path(post, path = "/service/reserve/{ns}", tag = "services", params(Barrier),
    responses((status = 200, description = "it is the caller's", body = Done)))]
pub(super) async fn reserve_namespace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, Refusal> {
    if config::reserved_name(&name) {
        return Err(Refusal::input(format!("`{name}` is a word of the API\nchoose another name")));
    }
    valid(&name)?;
    let view = api.view();
    if view.catalog.namespace(&name).is_some() {
        return Err(Refusal::duplicate("namespace", &name));
    }
    let permit = Snapshot::permit_self(caller.id());
    let revision = services::reserve(&api, permit, caller.actor()?, &name, caller.id()).await?;
    Ok(answer::done(revision))
}

/// Register a service
///
/// Makes one, for who may write on the namespace; or gives it another address, for who may write on the service.
#[utoipa::path(post, path = "/service/register/{ns}/{svc}", tag = "services", params(("baseUrl" = String, Query, min_length = 1, description = "its address, `http` or `https`"), Barrier),
    responses(
        (status = 200, description = "the service", body = Shown),
        (status = 404, description = "there is no such namespace"),
    ))]
pub(super) async fn register_service(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let view = api.view();
    find_namespace(&view, &namespace)?;
    let known = view.catalog.service(&namespace, &name);
    let keys: &[&str] = if known.is_some() { &[&namespace, &name] } else { &[&namespace] };
    let permit = permit(&view, caller.id(), keys, Levels::WRITE)?;
    let url = asked.value("baseUrl")?.ok_or_else(|| Refusal::input("must provide baseUrl through query"))?;
    if let Some(known) = known {
        not_of_file(known)?;
    } else {
        valid(&name)?;
        if config::reserved_service(&namespace, &name) {
            return Err(Refusal::input(format!("`{name}` is a word of the API\nchoose another name")));
        }
    }
    let table = table::with_address(known.map(|service| &service.table), url);
    config::parse_service(&namespace, &name, &table)?;
    let (by, replaces) = (caller.actor()?, known.map(|service| service.id));
    let place = (namespace.as_str(), name.as_str());
    let revision = services::put(&api, permit, by, place, replaces, caller.id(), table::without_name(table)).await?;
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    Ok(answer::written(revision, Json(Shown::of(&api, &view, service, caller.id()))))
}

/// A namespace
///
/// For who has any level on it.
#[utoipa::path(get, path = "/service/details/{ns}", tag = "services",
    responses(
        (status = 200, description = "the namespace", body = Reserved),
        (status = 404, description = "there is no such namespace"),
    ))]
pub(super) async fn namespace_details(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let namespace = find_namespace(&view, &name)?;
    let levels = any_level(&view, caller.id(), &[&name])?;
    let shown = Reserved { id: namespace.id, name: &namespace.name, permission: role::text(levels) };
    Ok(Json(shown).into_response())
}

/// A service
///
/// For who has any level on it.
#[utoipa::path(get, path = "/service/details/{ns}/{svc}", tag = "services",
    responses(
        (status = 200, description = "the service", body = Shown),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn service_details(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    any_level(&view, caller.id(), &[&namespace, &name])?;
    Ok(Json(Shown::of(&api, &view, service, caller.id())).into_response())
}

/// Rename a service
///
/// By who may administer the service or its namespace. Permissions stay. A name that is taken is refused with 400
/// `duplicate record`.
#[utoipa::path(patch, path = "/service/rename/{ns}/{svc}/{new}", tag = "services", params(Barrier),
    responses(
        (status = 200, description = "it has the new name", body = Done),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn rename_service(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name, new)): Named<(String, String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    let permit = may_administer(&view, caller.id(), &namespace, &name)?;
    not_of_file(service)?;
    valid(&new)?;
    if config::reserved_service(&namespace, &new) {
        return Err(Refusal::input(format!("`{new}` is a word of the API\nchoose another name")));
    }
    if view.catalog.service(&namespace, &new).is_some() {
        return Err(Refusal::duplicate("service", &new));
    }
    // What names the service literally would be another's under the new name.
    config::parse_service(&namespace, &new, &service.table)?;
    let revision = services::rename(&api, permit, caller.actor()?, service.id, &new).await?;
    Ok(answer::done(revision))
}

/// Remove a service
///
/// By who may administer the service or its namespace. Permissions go with it.
#[utoipa::path(delete, path = "/service/remove/{ns}/{svc}", tag = "services", params(Barrier),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn remove_service(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    let permit = may_administer(&view, caller.id(), &namespace, &name)?;
    not_of_file(service)?;
    let revision = services::remove_service(&api, permit, caller.actor()?, service.id).await?;
    Ok(answer::done(revision))
}

/// Remove a namespace
///
/// By who may administer it; never with services in it.
#[utoipa::path(delete, path = "/service/remove/{ns}", tag = "services", params(Barrier),
    responses(
        (status = 200, description = "it is gone", body = Done),
        (status = 404, description = "there is no such namespace"),
    ))]
pub(super) async fn remove_namespace(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let namespace = find_namespace(&view, &name)?;
    let permit = view
        .state
        .policy
        .may_administer(caller.id(), &[&name], Timestamp::now())
        .map_err(|denied| Refusal::denied(&view, &[&name], &denied))?;
    if name == PLATFORM {
        let detail = format!("the namespace `{name}` is the platform's own and stays");
        return Err(Problem::new(&Kind::CONFLICT, detail).into());
    }
    if view.catalog.services().any(|service| service.namespace == name) {
        let problem =
            Problem::new(&Kind::CONFLICT, format!("namespace is not empty: `{name}`\nremove its services first"));
        return Err(problem.phrase("namespace is not empty").into());
    }
    let revision = services::remove_namespace(&api, permit, caller.actor()?, namespace.id).await?;
    Ok(answer::done(revision))
}

/// A service's table
///
/// As in `gateway.toml`, for who may administer the service. Of one that the file declares, no text that may be secret is
/// shown.
#[utoipa::path(get, path = "/service/config/{ns}/{svc}", tag = "services",
    responses(
        (status = 200, description = "the table", body = ServiceTable),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn service_config(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    let permit = permit(&view, caller.id(), &[&namespace, &name], Levels::ADMIN)?;
    Ok(Json(whole_table(&permit, &api, service)))
}

/// Replace a service's table
///
/// By who may administer the service; at most 65536 bytes.
#[utoipa::path(put, path = "/service/config/{ns}/{svc}", tag = "services", params(Barrier), request_body = ServiceTable,
    responses(
        (status = 200, description = "the table as it is kept", body = ServiceTable),
        (status = 404, description = "there is no such service"),
    ))]
pub(super) async fn set_service_config(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let may_write = || {
        let view = api.view();
        let service = find_service(&view, &namespace, &name)?;
        let permit = permit(&view, caller.id(), &[&namespace, &name], Levels::ADMIN)?;
        not_of_file(service)?;
        Ok::<_, Refusal>((permit, service.id))
    };
    let (table, (permit, replaces)) = sent.object_where(&api, &caller, may_write).await?;
    config::parse_service(&namespace, &name, &table)?;
    let table = table::without_name(table);
    let (by, place) = (caller.actor()?, (namespace.as_str(), name.as_str()));
    let revision = services::put(&api, permit, by, place, Some(replaces), caller.id(), table.clone()).await?;
    Ok(answer::written(revision, Json(table)))
}

/// The table with all that is in it: for who may administer the service.
fn whole_table(_: &Permit, api: &Api, service: &Service) -> Value {
    match service.origin {
        Origin::Api => service.table.clone(),
        Origin::File => declared(api, service).map_or_else(|| json!({}), table::of_file),
    }
}

fn find_namespace<'v>(view: &'v View, name: &str) -> Result<&'v Arc<Namespace>, Refusal> {
    view.catalog.namespace(name).ok_or_else(|| Refusal::unknown("namespace", name))
}

fn find_service<'v>(view: &'v View, namespace: &str, name: &str) -> Result<&'v Arc<Service>, Refusal> {
    let found = view.catalog.service(namespace, name);
    found.ok_or_else(|| Refusal::unknown("service", &format!("{namespace}/{name}")))
}

fn permit(view: &View, user: UserId, keys: &[&str], need: Levels) -> Result<Permit, Refusal> {
    let permit = view.state.policy.permit(user, keys, need, Timestamp::now());
    permit.map_err(|denied| Refusal::denied(view, keys, &denied))
}

/// Admin or owner of the service, or of its namespace.
fn may_administer(view: &View, user: UserId, namespace: &str, name: &str) -> Result<Permit, Refusal> {
    let (policy, now, keys) = (&view.state.policy, Timestamp::now(), [namespace, name]);
    policy
        .may_administer(user, &keys, now)
        .or_else(|denied| policy.may_administer(user, &[namespace], now).map_err(|_| denied))
        .map_err(|denied| Refusal::denied(view, &keys, &denied))
}

/// What the caller holds, where that is anything.
fn any_level(view: &View, user: UserId, keys: &[&str]) -> Result<Levels, Refusal> {
    let levels = view.state.policy.levels(user, keys, Timestamp::now());
    if levels.is_empty() {
        let denied = Denied { user, need: Levels::READ, held: levels, owner: view.state.policy.owner(keys) };
        return Err(Refusal::denied(view, keys, &denied));
    }
    Ok(levels)
}

fn valid(name: &str) -> Result<(), Refusal> {
    if config::valid_name(name) {
        return Ok(());
    }
    Err(Refusal::input(format!(
        "`{name}` cannot be a name\nuse up to 63 of a-z, 0-9, `_` and `-`, beginning with a letter or digit"
    )))
}

fn not_of_file(service: &Service) -> Result<(), Refusal> {
    if service.origin == Origin::Api {
        return Ok(());
    }
    let detail = format!(
        "`{}/{}` is declared in the gateway's configuration file and cannot be changed here\nask whoever runs the gateway",
        service.namespace, service.name
    );
    Err(Problem::new(&Kind::CONFLICT, detail).into())
}

/// The service of the file as the file has it.
fn declared<'a>(api: &'a Api, service: &Service) -> Option<&'a config::Service> {
    api.config.services.iter().find(|known| known.namespace == service.namespace && known.name == service.name)
}

/// The address of the service, where it has one: its first.
pub(super) fn address(api: &Api, service: &Service) -> Option<String> {
    match service.origin {
        Origin::Api => table::address(&service.table),
        Origin::File => declared(api, service)
            .and_then(|known| known.endpoints.first())
            .map(|endpoint| endpoint.url.as_str().trim_end_matches('/').to_owned()),
    }
}

/// Carta's Namespace object.
#[derive(Serialize, ToSchema)]
#[schema(as = Namespace)]
struct Reserved<'a> {
    #[schema(value_type = uuid::Uuid)]
    id: ResourceId,
    name: &'a str,
    /// What the caller may do with it: `None`, or `Read, Write, Execute, Clone, Admin`.
    permission: String,
}

/// Carta's Service object.
#[derive(Serialize, ToSchema)]
#[schema(as = Service)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[schema(value_type = uuid::Uuid)]
    id: ResourceId,
    name: &'a str,
    /// Its first address; left out where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    base_url: Option<String>,
    /// What the caller may do with it: `None`, or `Read, Write, Execute, Clone, Admin`.
    permission: String,
}

impl<'a> Shown<'a> {
    fn of(api: &Api, view: &View, service: &'a Service, user: UserId) -> Self {
        let levels = view.state.policy.levels(user, &[&service.namespace, &service.name], Timestamp::now());
        Self { id: service.id, name: &service.name, base_url: address(api, service), permission: role::text(levels) }
    }
}

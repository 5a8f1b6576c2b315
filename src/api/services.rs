//! `/service/{reserve,register,details,rename,remove,config}`: namespaces and services (`docs/API.md` §11).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::command::services;
use super::error::Refusal;
use super::extract::{Asked, Caller, Named, Sent};
use super::view::View;
use super::{Api, answer, role, table};
use crate::config;
use crate::policy::{Denied, Levels, Permit, Snapshot, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::store::{Namespace, Origin, Service};

/// The namespace that is there from the start.
const PLATFORM: &str = "carta";

/// `POST /service/reserve/{ns}`: any user may; the caller becomes the owner.
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

/// `POST /service/register/{ns}/{svc}?baseUrl=`: makes a service, or gives one another address.
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
    Ok(answer::written(revision, Json(service_json(&api, &view, service, caller.id()))))
}

/// `GET /service/details/{ns}`: for who has any level on it.
pub(super) async fn namespace_details(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Json<Value>, Refusal> {
    let view = api.view();
    let namespace = find_namespace(&view, &name)?;
    let levels = any_level(&view, caller.id(), &[&name])?;
    Ok(Json(json!({"id": namespace.id, "name": namespace.name, "permission": role::text(levels)})))
}

/// `GET /service/details/{ns}/{svc}`: for who has any level on it.
pub(super) async fn service_details(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((namespace, name)): Named<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let view = api.view();
    let service = find_service(&view, &namespace, &name)?;
    any_level(&view, caller.id(), &[&namespace, &name])?;
    Ok(Json(service_json(&api, &view, service, caller.id())))
}

/// `PATCH /service/rename/{ns}/{svc}/{new}`: by who may administer the service or its namespace.
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

/// `DELETE /service/remove/{ns}/{svc}`: by who may administer the service or its namespace.
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

/// `DELETE /service/remove/{ns}`: by who may administer it; never with services in it.
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

/// `GET /service/config/{ns}/{svc}`: the whole table, for who may administer the service.
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

/// `PUT /service/config/{ns}/{svc}`: replaces the whole table.
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
    // Nobody is waited for who may not write; and the wait may outlast the right to.
    let _ = may_write()?;
    let table = sent.object(&api.config.limits).await?;
    api.still_decides_for(&caller.identity)?;
    let (permit, replaces) = may_write()?;
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

/// Carta's Service object; `baseUrl` is left out where there is none.
fn service_json(api: &Api, view: &View, service: &Service, user: UserId) -> Value {
    let levels = view.state.policy.levels(user, &[&service.namespace, &service.name], Timestamp::now());
    let url = match service.origin {
        Origin::Api => table::address(&service.table),
        Origin::File => declared(api, service)
            .and_then(|known| known.endpoints.first())
            .map(|endpoint| endpoint.url.as_str().trim_end_matches('/').to_owned()),
    };
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(service.id));
    object.insert("name".to_owned(), json!(service.name));
    if let Some(url) = url {
        object.insert("baseUrl".to_owned(), json!(url));
    }
    object.insert("permission".to_owned(), json!(role::text(levels)));
    Value::Object(object)
}

//! Every URL of the API listener, but for the calls `/service/{ns}/{svc}/…`, which take the proxy's walk.

use std::sync::Arc;

use axum::Router;
use http::{Method, Request};
use utoipa_axum::routes;

use super::error::Refusal;
use super::extract::Caller;
use super::openapi::{self, Routes, calls, page};
use super::{
    Api, audit, check, cognito, explain, files, groups, login, permissions, permissions_v2, preview, projects, records,
    secrets, services, signs, tokens, tunnels, users, well_known, workspaces,
};
use crate::proxy::error::{Kind, Problem};

/// The whole API.
pub(super) fn router(api: Arc<Api>) -> Router {
    let (router, _) = routes().split();
    router.fallback(nothing).method_not_allowed_fallback(no_such_method).with_state(api)
}

/// Every route. Each handler describes itself, path and method included, by `#[utoipa::path]`.
pub(super) fn routes() -> Routes {
    Routes::new()
        // The gateway itself.
        .at(routes!(signs::live))
        .at(routes!(signs::ready))
        .at(routes!(signs::metrics))
        .at(routes!(openapi::describe))
        .at(routes!(page::page))
        .at(routes!(page::file))
        // The built-in issuer.
        .at_both("/v2/auth/cognito/user-pool", routes!(login::login_parameters))
        .at(routes!(login::password_policy))
        .at(routes!(cognito::operate_at_root))
        .at_both("/cognito/", routes!(cognito::operate))
        .at(routes!(well_known::discovery))
        .at(routes!(well_known::jwks))
        // Users.
        .at(routes!(users::current_user, users::create_user))
        .at(routes!(users::is_authenticated))
        .at(routes!(users::find_users))
        // Groups.
        .at(routes!(groups::list_members, groups::create_group))
        .at(routes!(groups::add_member, groups::remove_member))
        // API tokens.
        .at(routes!(tokens::list_tokens, tokens::create_token))
        .at(routes!(tokens::delete_token))
        .at(routes!(tokens::revoke_token))
        // The audit.
        .at(routes!(audit::list_entries))
        // Why.
        .at(routes!(explain::explain_call))
        .at(routes!(explain::explain_request))
        // For applications that ask for themselves.
        .at(routes!(check::check))
        .at(routes!(preview::preview))
        // Permissions of version 1; `resources` is no resource, and `users` is no subject.
        .at(routes!(permissions::list_types))
        .at(routes!(permissions::list_resources))
        .at(routes!(permissions::show_resource))
        .at(routes!(permissions::list_permissions))
        .at(routes!(permissions::get_permission, permissions::set_permission, permissions::delete_permission))
        // Permissions of version 2.
        .at(routes!(permissions_v2::get_flags, permissions_v2::set_tiers, permissions_v2::delete_tiers))
        .at(routes!(permissions_v2::get_tiers))
        .at(routes!(permissions_v2::list_labels))
        .at(routes!(permissions_v2::list_resources))
        .at(routes!(permissions_v2::list_accessors))
        // Records that are kept to be shared.
        .at(routes!(records::create_resource))
        .at(routes!(records::show_resource, records::update_resource, records::delete_resource))
        .at(routes!(projects::create_project))
        .at(routes!(projects::delete_project))
        .at(routes!(projects::create_connection, projects::delete_connection))
        .at(routes!(workspaces::list_workspaces))
        .at(routes!(workspaces::show_workspace, workspaces::create_workspace, workspaces::delete_workspace))
        .at(routes!(workspaces::list_workspace_permissions))
        .at(routes!(
            workspaces::get_workspace_permission,
            workspaces::set_workspace_permission,
            workspaces::delete_workspace_permission
        ))
        // Files: none are kept here.
        .at(routes!(files::list_sources))
        .at(routes!(files::upload_file))
        .at(routes!(files::source_support))
        .at(routes!(files::list_files))
        .at(routes!(files::read_file, files::update_file, files::delete_file))
        // Secrets: both spellings are the same store.
        .at_both("/secrets", routes!(secrets::put_secrets, secrets::show_secrets, secrets::delete_secret))
        .at_both("/secrets/{name}/consent", routes!(secrets::give_consent, secrets::withdraw_consent))
        // Namespaces and services.
        .at(routes!(services::reserve_namespace))
        .at(routes!(services::register_service))
        .at(routes!(services::namespace_details))
        .at(routes!(services::service_details))
        .at(routes!(services::rename_service))
        .at(routes!(services::remove_namespace))
        .at(routes!(services::remove_service))
        .at(routes!(services::service_config, services::set_service_config))
        // The service tunnel.
        .at(routes!(tunnels::tunnel_address))
        .at(routes!(tunnels::open_tunnel))
        // Calls, which `is_call` tells from all of these.
        .elsewhere("/service/{ns}/{svc}", routes!(calls::call_service, calls::send_to_service))
}

/// The words that follow `/service/` and are no namespace.
const COMMANDS: [&str; 6] = ["reserve", "register", "details", "rename", "remove", "config"];

/// Whether the request is a call of a service. The segment is compared as sent: an encoded spelling of a command goes
/// the way of calls and finds no namespace there, because none can have that name.
pub(super) fn is_call(path: &str) -> bool {
    if path == tunnels::ADDRESS {
        return false;
    }
    let mut segments = path.split('/');
    matches!((segments.next(), segments.next()), (Some(""), Some("service")))
        && segments.next().is_some_and(|namespace| !namespace.is_empty() && !COMMANDS.contains(&namespace))
        && segments.next().is_some_and(|service| !service.is_empty())
}

/// Whether the answer depends on nobody's identity, so that none is looked for.
pub(super) fn is_public<B>(request: &Request<B>) -> bool {
    match request.uri().path() {
        "/-/live" | "/-/ready" | "/auth" | "/cognito" | "/cognito/" | "/docs" | "/openapi.json" => true,
        "/" => request.headers().contains_key(cognito::X_AMZ_TARGET),
        path => ["/.well-known/", "/v2/auth/cognito/", "/docs/"].iter().any(|public| path.starts_with(public)),
    }
}

/// Whether a token that was minted for one service is good for this call (`docs/API.md` §13).
pub(super) fn is_for_services(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && (matches!(path, "/user" | "/user/authenticated")
            || path.starts_with("/service/details/")
            || path.starts_with("/permissions/resources/Service/"))
}

/// Whether every API token is good for this call, and pays nothing: clients ask it to find out whether theirs is.
pub(super) fn is_free(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD) && path == "/user/authenticated"
}

/// 404, which is told only to identified callers.
async fn nothing(_: Caller) -> Refusal {
    Problem::new(&Kind::NOT_FOUND, "there is nothing at this path").into()
}

async fn no_such_method() -> Refusal {
    Problem::new(&Kind::METHOD_NOT_ALLOWED, "this path does not take the method").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_calls_are_told_apart() {
        for path in ["/service/materials/mp", "/service/materials/mp/", "/service/a/b/c/d", "/service/%72eserve/x"] {
            assert!(is_call(path), "{path}");
        }
        for path in [
            "/service/reserve/materials",
            "/service/config/a/b",
            "/service/materials",
            "/service/materials/",
            "/service//mp",
            "/service/carta/websocket",
            "/services/a/b",
            "service/a/b",
            "/",
        ] {
            assert!(!is_call(path), "{path}");
        }
    }

    #[test]
    fn a_token_for_a_service_reads_identity_and_details_only() {
        for (method, path, good) in [
            (Method::GET, "/user", true),
            (Method::GET, "/service/details/a/b", true),
            (Method::GET, "/secret", false),
            (Method::PUT, "/user", false),
            (Method::GET, "/user/users", false),
        ] {
            assert_eq!(is_for_services(&method, path), good, "{method} {path}");
        }
    }
}

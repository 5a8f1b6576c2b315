//! Every URL of the API listener, but for the calls `/service/{ns}/{svc}/…`, which take the proxy's walk.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, patch, post, put};
use http::{Method, Request};

use super::error::Refusal;
use super::extract::Caller;
use super::{
    Api, check, cognito, explain, groups, login, permissions, preview, secrets, services, signs, users, well_known,
};
use crate::proxy::error::{Kind, Problem};

/// The whole API.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        // Signs of life.
        .route("/-/live", get(signs::probe))
        .route("/-/ready", get(signs::probe))
        .route("/-/metrics", get(signs::metrics))
        // The built-in issuer.
        .route("/auth", get(login::login_parameters))
        .route("/v2/auth/cognito/user-pool", get(login::login_parameters))
        .route("/v2/auth/cognito/password-policy", get(login::password_policy))
        .route("/", get(nothing).post(cognito::operate_at_root))
        .route("/cognito", post(cognito::operate))
        .route("/cognito/", post(cognito::operate))
        .route("/.well-known/openid-configuration", get(well_known::discovery))
        .route("/.well-known/jwks.json", get(well_known::jwks))
        // Users.
        .route("/user", get(users::current_user).post(users::create_user))
        .route("/user/authenticated", get(users::is_authenticated))
        .route("/user/users", get(users::find_users))
        // Groups.
        .route("/user/group/{group}", get(groups::list_members).post(groups::create_group))
        .route("/user/group/{group}/{user}", post(groups::add_member).delete(groups::remove_member))
        // Why.
        .route("/explain", get(explain::explain_call))
        .route("/explain/{id}", get(explain::explain_request))
        // For applications that ask for themselves.
        .route("/permissions/check", post(check::check))
        .route("/permissions/preview", post(preview::preview))
        // Permissions of version 1; `users` is no subject.
        .route("/permissions/{id}/users", get(permissions::list_permissions))
        .route(
            "/permissions/{id}/{subject}",
            get(permissions::get_permission).put(permissions::set_permission).delete(permissions::delete_permission),
        )
        // Secrets: both spellings are the same store.
        .route("/secret", put(secrets::put_secrets).get(secrets::show_secrets).delete(secrets::delete_secret))
        .route("/secrets", put(secrets::put_secrets).get(secrets::show_secrets).delete(secrets::delete_secret))
        .route("/secret/{name}/consent", post(secrets::give_consent).delete(secrets::withdraw_consent))
        .route("/secrets/{name}/consent", post(secrets::give_consent).delete(secrets::withdraw_consent))
        // Namespaces and services.
        .route("/service/reserve/{ns}", post(services::reserve_namespace))
        .route("/service/register/{ns}/{svc}", post(services::register_service))
        .route("/service/details/{ns}", get(services::namespace_details))
        .route("/service/details/{ns}/{svc}", get(services::service_details))
        .route("/service/rename/{ns}/{svc}/{new}", patch(services::rename_service))
        .route("/service/remove/{ns}", delete(services::remove_namespace))
        .route("/service/remove/{ns}/{svc}", delete(services::remove_service))
        .route("/service/config/{ns}/{svc}", get(services::service_config).put(services::set_service_config))
        .fallback(nothing)
        .method_not_allowed_fallback(no_such_method)
        .with_state(api)
}

/// The words that follow `/service/` and are no namespace.
const COMMANDS: [&str; 6] = ["reserve", "register", "details", "rename", "remove", "config"];

/// Whether the request is a call of a service. The segment is compared as sent: an encoded spelling of a command goes
/// the way of calls and finds no namespace there, because none can have that name.
pub(super) fn is_call(path: &str) -> bool {
    let mut segments = path.split('/');
    matches!((segments.next(), segments.next()), (Some(""), Some("service")))
        && segments.next().is_some_and(|namespace| !namespace.is_empty() && !COMMANDS.contains(&namespace))
        && segments.next().is_some_and(|service| !service.is_empty())
}

/// Whether the answer depends on nobody's identity, so that none is looked for.
pub(super) fn is_public<B>(request: &Request<B>) -> bool {
    match request.uri().path() {
        "/-/live" | "/-/ready" | "/auth" | "/cognito" | "/cognito/" => true,
        "/" => request.headers().contains_key(cognito::X_AMZ_TARGET),
        path => path.starts_with("/.well-known/") || path.starts_with("/v2/auth/cognito/"),
    }
}

/// Whether a token that was minted for one service is good for this call (`docs/API.md` §13).
pub(super) fn is_for_services(method: &Method, path: &str) -> bool {
    (method == Method::GET || method == Method::HEAD)
        && (matches!(path, "/user" | "/user/authenticated")
            || path.starts_with("/service/details/")
            || path.starts_with("/permissions/resources/Service/"))
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

//! `/user` and `/auth`: who the caller is, and where to log in (`docs/API.md` §2, §4).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::Api;
use super::error::Refusal;
use super::extract::Caller;
use crate::identity::Account;
use crate::proxy::error::{Kind, Problem};

/// `GET /user`: the caller.
pub(super) async fn current_user(caller: Caller) -> Json<Value> {
    Json(user_json(&caller.identity.account))
}

/// `GET /user/authenticated`: `true`, or 401.
pub(super) async fn is_authenticated(_: Caller) -> Json<bool> {
    Json(true)
}

/// `GET /auth`: where a client logs in with name and password.
pub(super) async fn login_parameters(State(api): State<Arc<Api>>) -> Result<Json<Value>, Refusal> {
    let local = &api.config.auth.local;
    if !local.enabled {
        let detail = "this gateway has no user pool of its own\nuse a token of the issuer that it trusts";
        return Err(Problem::new(&Kind::NOT_FOUND, detail).into());
    }
    let region = local.pool_id.split('_').next().unwrap_or_default();
    Ok(Json(json!({"region": region, "userPoolId": local.pool_id, "userPoolWebClientId": local.client_id})))
}

/// Carta's User object: what is not known is left out, because the clients refuse `null`.
fn user_json(account: &Account) -> Value {
    let mut user = Map::new();
    user.insert("id".to_owned(), json!(account.id));
    user.insert("name".to_owned(), json!(&*account.name));
    for (field, value) in [
        ("email", &account.email),
        ("firstName", &account.first_name),
        ("lastName", &account.last_name),
        ("organization", &account.organization),
    ] {
        if let Some(value) = value {
            user.insert(field.to_owned(), json!(&**value));
        }
    }
    user.insert("groups".to_owned(), account.groups.iter().map(|group| json!(&**group)).collect());
    Value::Object(user)
}

//! `/user`: who the caller is (`docs/API.md` §4).

use axum::Json;
use serde_json::{Map, Value, json};

use super::extract::Caller;
use crate::identity::Account;

/// `GET /user`: the caller.
pub(super) async fn current_user(caller: Caller) -> Json<Value> {
    Json(user_json(&caller.identity.account))
}

/// `GET /user/authenticated`: `true`, or 401.
pub(super) async fn is_authenticated(_: Caller) -> Json<bool> {
    Json(true)
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

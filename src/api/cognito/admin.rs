//! What administrators do with Cognito's own calls: look a user up and reset the password, signed by a key that
//! `[auth.local] admin_keys` lists (`docs/API.md` §3).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::Api;
use super::super::extract::Sent;
use super::{BODY_BYTES, Fault, Outcome, missing, unavailable};
use crate::config::AdminKey;
use crate::identity::{Account, LoginError, SignatureClaim, SignedRequest};
use crate::store::{Actor, Mutation, Password};

/// How Cognito calls itself where it is signed for.
const SIGNED_FOR: &str = "cognito-idp";

/// Signatures of changes that are remembered: each holds for ten minutes, and whoever has a key makes few.
const REMEMBERED: usize = 1024;

/// The signatures that were acted on, the newest last. Whoever sees a signed request can send it again while it holds: a
/// reset that comes once more must not take away the password that was given after the first.
static ACTED_ON: Mutex<VecDeque<[u8; 32]>> = Mutex::new(VecDeque::new());

/// What arrived, beside the body.
pub(super) struct Arrived<'a> {
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) from: IpAddr,
    pub(super) request_id: Arc<str>,
}

/// A user as these calls see them.
struct Found {
    account: Arc<Account>,
    status: &'static str,
}

/// `AdminGetUser`, `AdminResetUserPassword`, `AdminCreateUser` with `MessageAction=RESEND`.
pub(super) async fn operate(api: &Api, operation: &str, arrived: Arrived<'_>, sent: Sent) -> Outcome {
    let keys = &api.config.auth.local.admin_keys;
    if keys.is_empty() || api.logins.is_none() {
        return Err(Fault::new("AccessDeniedException", "this operation is not available here"));
    }
    let denied = |error: crate::identity::SignatureError| Fault::new("AccessDeniedException", error.to_string());
    // Before the body is waited for.
    let claim = SignatureClaim::read(arrived.headers, SIGNED_FOR).map_err(denied)?;
    let bytes = sent.bytes_within(BODY_BYTES, &api.config.limits).await;
    let bytes = bytes.map_err(|refusal| Fault::new("SerializationException", refusal.0.detail().to_owned()))?;
    let (path, query) = (arrived.uri.path(), arrived.uri.query().unwrap_or_default());
    let request = SignedRequest { method: &Method::POST, path, query, headers: arrived.headers, body: &bytes };
    let key = keys.iter().find(|key| key.id == claim.key);
    // As much work for a key that nobody has.
    claim.verify(key.map_or("", |key| key.secret.reveal()), &request, Timestamp::now()).map_err(denied)?;
    let key = key.ok_or_else(|| denied(crate::identity::SignatureError::Wrong))?;
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Fault::new("SerializationException", format!("the body is not JSON: {error}")))?;
    if body.get("UserPoolId").and_then(Value::as_str) != Some(&api.config.auth.local.pool_id) {
        return Err(Fault::new("ResourceNotFoundException", "User pool does not exist."));
    }
    let name = body.get("Username").and_then(Value::as_str).ok_or_else(|| missing("Username"))?;
    let reset = async |found: &Found| act(api, key, &claim, &arrived, found).await;
    match operation {
        "AdminGetUser" => Ok(shown(&find(api, name).await?, "UserAttributes")),
        "AdminResetUserPassword" => {
            let found = find(api, name).await?;
            match found.status {
                "CONFIRMED" => reset(&found).await?,
                // Once more changes nothing.
                "RESET_REQUIRED" => {}
                _ => {
                    let message = "User password cannot be reset in the current state.";
                    return Err(Fault::new("NotAuthorizedException", message));
                }
            }
            Ok(json!({}))
        }
        _ => {
            let found = resent(api, &body, name).await?;
            reset(&found).await?;
            Ok(json!({ "User": shown(&find(api, name).await?, "Attributes") }))
        }
    }
}

/// The user whose temporary password is to be given anew.
async fn resent(api: &Api, body: &Value, name: &str) -> Result<Found, Fault> {
    if body.get("MessageAction").and_then(Value::as_str) != Some("RESEND") {
        return Err(Fault::new("AccessDeniedException", "accounts are made by POST /user, or by a command"));
    }
    if body.get("TemporaryPassword").is_some() {
        let message = "a temporary password is set by `carta-gateway user passwd NAME --password-stdin --temporary`";
        return Err(Fault::new("InvalidParameterException", message));
    }
    let found = find(api, name).await?;
    if found.status == "FORCE_CHANGE_PASSWORD" {
        return Ok(found);
    }
    Err(Fault::new("UnsupportedUserStateException", "The user has no temporary password."))
}

async fn find(api: &Api, name: &str) -> Result<Found, Fault> {
    let account = api.view().state.directory.by_name(name).cloned();
    let account = account.ok_or_else(|| Fault::new("UserNotFoundException", "User does not exist."))?;
    let status = match api.store.password(account.id).await.map_err(LoginError::from)? {
        None => "EXTERNAL_PROVIDER",
        Some(Password { reset: true, .. }) => "RESET_REQUIRED",
        Some(Password { temporary: true, .. }) => "FORCE_CHANGE_PASSWORD",
        Some(_) => "CONFIRMED",
    };
    Ok(Found { account, status })
}

/// Resets, unless this very request did so before.
async fn act(
    api: &Api,
    key: &AdminKey,
    claim: &SignatureClaim<'_>,
    arrived: &Arrived<'_>,
    found: &Found,
) -> Result<(), Fault> {
    let signature = claim.signature();
    if ACTED_ON.lock().unwrap_or_else(PoisonError::into_inner).contains(&signature) {
        return Ok(());
    }
    let by = Actor {
        user: None,
        via: "admin-key",
        from: format!("{} {}", key.id, arrived.from).into(),
        request_id: Some(arrived.request_id.clone()),
    };
    let reset = Mutation::ResetPassword { user: found.account.id, at: Timestamp::now() };
    api.commit(by, reset).await.map_err(|refusal| unavailable(refusal.0.detail().to_owned()))?;
    let mut acted_on = ACTED_ON.lock().unwrap_or_else(PoisonError::into_inner);
    if acted_on.len() >= REMEMBERED {
        acted_on.pop_front();
    }
    acted_on.push_back(signature);
    Ok(())
}

fn shown(found: &Found, attributes: &str) -> Value {
    let account = &found.account;
    let mut listed = vec![json!({"Name": "sub", "Value": account.id})];
    let texts = [
        ("email", account.email.as_deref()),
        ("given_name", account.first_name.as_deref()),
        ("family_name", account.last_name.as_deref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            listed.push(json!({"Name": name, "Value": text}));
        }
    }
    let made = account.created.as_second();
    json!({
        "Username": &*account.name,
        attributes: listed,
        "UserCreateDate": made,
        "UserLastModifiedDate": made,
        "Enabled": !account.disabled,
        "UserStatus": found.status,
    })
}

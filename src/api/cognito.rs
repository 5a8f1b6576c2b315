//! Cognito's calls, as boto3 sends them (AWS JSON 1.1): login by SRP, and a refusal for everything else
//! (`docs/API.md` §3).

mod admin;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::error::Refusal;
use super::extract::{Sent, Visitor};
use crate::identity::{Account, Answer, LoginError, Logins, Proved, When};
use crate::policy::UserId;
use crate::proxy::error::{Kind, Problem};
use crate::store::{Actor, Item, Key, StoreError};

/// Names the operation.
pub(super) const X_AMZ_TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// The most bytes of a body: nobody is identified yet, and a number of 3,072 bits and two names are short.
const BODY_BYTES: usize = 16 * 1024;

const SERVICE: &str = "AWSCognitoIdentityProviderService.";

/// A refusal in AWS JSON 1.1. Those of the caller's making are 400: boto3 repeats what is 500 and above.
struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
}

type Outcome = Result<Value, Fault>;

/// One of Cognito's operations
///
/// With `X-Amz-Target`: clients keep to the path of the address that they were given. Without it, nothing is there.
#[utoipa::path(post, path = "/", tag = "login", security(()), params(Target), request_body(content = Operation, content_type = "application/x-amz-json-1.1"),
    responses(
        (status = 200, description = "a challenge, or the tokens", body = Outcomes, content_type = "application/x-amz-json-1.1"),
        (status = 400, description = "the refusal", body = Refused, content_type = "application/x-amz-json-1.1"),
        (status = 401, description = "nobody is identified, and no operation is named"),
        (status = 404, description = "no operation is named"),
        (status = 500, description = "the gateway failed", body = Refused, content_type = "application/x-amz-json-1.1"),
        (status = 503, description = "the store cannot be reached", body = Refused, content_type = "application/x-amz-json-1.1"),
    ))]
pub(super) async fn operate_at_root(
    state: State<Arc<Api>>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Refusal> {
    if !headers.contains_key(&X_AMZ_TARGET) {
        visitor.identity?;
        return Err(Problem::new(&Kind::NOT_FOUND, "there is nothing at this path").into());
    }
    Ok(operate(state, visitor, uri, headers, sent).await)
}

/// One of Cognito's operations
///
/// `InitiateAuth` and `RespondToAuthChallenge`; for a key of `[auth.local] admin_keys` also `AdminGetUser`,
/// `AdminResetUserPassword` and the resending `AdminCreateUser`. Every other is refused with `AccessDeniedException`.
#[utoipa::path(post, path = "/cognito", tag = "login", security(()), params(Target), request_body(content = Operation, content_type = "application/x-amz-json-1.1"),
    responses(
        (status = 200, description = "a challenge, or the tokens", body = Outcomes, content_type = "application/x-amz-json-1.1"),
        (status = 400, description = "the refusal", body = Refused, content_type = "application/x-amz-json-1.1"),
        (status = 500, description = "the gateway failed", body = Refused, content_type = "application/x-amz-json-1.1"),
        (status = 503, description = "the store cannot be reached", body = Refused, content_type = "application/x-amz-json-1.1"),
    ))]
pub(super) async fn operate(
    State(api): State<Arc<Api>>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
    sent: Sent,
) -> Response {
    let target = headers.get(&X_AMZ_TARGET).and_then(|target| target.to_str().ok());
    let from = client(&api, visitor.peer, &headers);
    answer(match target.and_then(|target| target.strip_prefix(SERVICE)) {
        Some("InitiateAuth") => initiate(&api, from, sent).await,
        Some("RespondToAuthChallenge") => respond(&api, from, visitor.request_id, sent).await,
        Some(operation @ ("AdminGetUser" | "AdminCreateUser" | "AdminResetUserPassword")) => {
            let arrived = admin::Arrived { uri: &uri, headers: &headers, from, request_id: visitor.request_id };
            admin::operate(&api, operation, arrived, sent).await
        }
        // No key opens any other, whatever signature it carries.
        _ => Err(Fault::new("AccessDeniedException", "this operation is not available here")),
    })
}

/// Which operation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what `operate` reads")]
struct Target {
    /// `AWSCognitoIdentityProviderService.` and the operation.
    #[param(rename = "X-Amz-Target")]
    target: String,
}

/// `InitiateAuth` with `USER_SRP_AUTH`, or the answer to a challenge (§3).
#[derive(ToSchema)]
#[schema(as = CognitoRequest, rename_all = "PascalCase")]
#[expect(dead_code, reason = "it describes what `initiate` and `respond` read")]
struct Operation {
    client_id: String,
    /// `USER_SRP_AUTH`.
    #[schema(nullable = false)]
    auth_flow: Option<String>,
    /// `USERNAME` and `SRP_A`.
    #[schema(nullable = false)]
    auth_parameters: Option<BTreeMap<String, String>>,
    /// `PASSWORD_VERIFIER` or `NEW_PASSWORD_REQUIRED`.
    #[schema(nullable = false)]
    challenge_name: Option<String>,
    /// `USERNAME`, `PASSWORD_CLAIM_SECRET_BLOCK`, `PASSWORD_CLAIM_SIGNATURE`, `TIMESTAMP`; `NEW_PASSWORD`.
    #[schema(nullable = false)]
    challenge_responses: Option<BTreeMap<String, String>>,
    /// What the challenge `NEW_PASSWORD_REQUIRED` came with.
    #[schema(nullable = false)]
    session: Option<String>,
}

/// A challenge, or the tokens of who met it.
#[derive(ToSchema)]
#[schema(as = CognitoAnswer, rename_all = "PascalCase")]
#[expect(dead_code, reason = "it describes what `initiate` and `respond` answer")]
struct Outcomes {
    #[schema(nullable = false)]
    challenge_name: Option<String>,
    challenge_parameters: BTreeMap<String, String>,
    #[schema(nullable = false)]
    session: Option<String>,
    #[schema(nullable = false)]
    authentication_result: Option<Tokens>,
}

/// What a login gives. `AccessToken` and `RefreshToken` are accepted nowhere.
#[derive(ToSchema)]
#[schema(as = CognitoTokens, rename_all = "PascalCase")]
#[expect(dead_code, reason = "it describes what `tokens` makes")]
struct Tokens {
    id_token: String,
    access_token: String,
    refresh_token: String,
    /// In seconds.
    expires_in: u64,
    /// `Bearer`.
    token_type: String,
}

/// A refusal in AWS JSON 1.1.
#[derive(ToSchema)]
#[schema(as = CognitoRefusal)]
#[expect(dead_code, reason = "it describes what `answer` makes of a fault")]
struct Refused {
    /// What it is, such as `NotAuthorizedException`.
    #[schema(rename = "__type")]
    code: String,
    message: String,
}

async fn initiate(api: &Api, from: IpAddr, sent: Sent) -> Outcome {
    let body = read(api, sent).await?;
    let logins = logins_for(api, &body)?;
    if body.get("AuthFlow").and_then(Value::as_str) != Some("USER_SRP_AUTH") {
        return Err(Fault::new("InvalidParameterException", "only AuthFlow USER_SRP_AUTH is available here"));
    }
    let given = |name| text(&body, "AuthParameters", name);
    let (name, a) = (given("USERNAME")?, given("SRP_A")?);
    let directory = api.view().state.directory.clone();
    let asked = logins.begin(&directory, name, a, when(from)).await?;
    Ok(json!({
        "ChallengeName": "PASSWORD_VERIFIER",
        "ChallengeParameters": {
            "USERNAME": asked.name,
            "USER_ID_FOR_SRP": asked.name,
            "SALT": asked.salt,
            "SRP_B": asked.public,
            "SECRET_BLOCK": asked.block,
        },
    }))
}

async fn respond(api: &Api, from: IpAddr, request_id: Arc<str>, sent: Sent) -> Outcome {
    let body = read(api, sent).await?;
    let logins = logins_for(api, &body)?;
    let given = |name| text(&body, "ChallengeResponses", name);
    match body.get("ChallengeName").and_then(Value::as_str) {
        Some("PASSWORD_VERIFIER") => {
            let answer = Answer {
                name: given("USERNAME")?,
                block: given("PASSWORD_CLAIM_SECRET_BLOCK")?,
                signature: given("PASSWORD_CLAIM_SIGNATURE")?,
                timestamp: given("TIMESTAMP")?,
            };
            match logins.prove(answer, when(from)).await? {
                Proved::User(user) => tokens(api, user).await,
                Proved::MustChange { session, name } => Ok(json!({
                    "ChallengeName": "NEW_PASSWORD_REQUIRED",
                    "Session": session,
                    "ChallengeParameters": {
                        "USER_ID_FOR_SRP": name,
                        "requiredAttributes": "[]",
                        "userAttributes": "{}",
                    },
                })),
            }
        }
        Some("NEW_PASSWORD_REQUIRED") => {
            let (name, new) = (given("USERNAME")?, given("NEW_PASSWORD")?);
            let session = body.get("Session").and_then(Value::as_str).ok_or_else(|| missing("Session"))?;
            let (user, change) = logins.change(session, name, new, when(from)).await?;
            let by =
                Actor { user: Some(user), via: "login", from: from.to_string().into(), request_id: Some(request_id) };
            // The password is set all the same where this gateway does not show it yet: the next login finds it.
            api.commit(by, change).await.map_err(|refusal| match refusal.0.kind() {
                // Somebody was faster with the same temporary password.
                kind if *kind == Kind::CONFLICT => LoginError::Session.into(),
                _ => unavailable(refusal.0.detail().to_owned()),
            })?;
            tokens(api, user).await
        }
        _ => Err(Fault::new("InvalidParameterException", "this challenge was never given")),
    }
}

/// The tokens of a user who proved to be that. The access and the refresh token are there because clients look for them:
/// nothing accepts either.
async fn tokens(api: &Api, user: UserId) -> Outcome {
    let now = Timestamp::now();
    // What kills tokens is read where it is written: one that is dead as soon as it is shown would be no use.
    let Item::User(known, _) = api.store.item(Key::User(user)).await.map_err(LoginError::from)? else {
        return Err(LoginError::Incorrect.into());
    };
    let view = api.view();
    let (account, issuer) = view.state.directory.by_id(user).zip(api.issuer.as_ref()).ok_or(LoginError::Incorrect)?;
    let account = &Account { tokens_dead_until: known.tokens_dead_until, ..Account::clone(account) };
    let minted = issuer.mint(account, None, now).map_err(|error| LoginError::Internal(error.to_string()))?;
    Ok(json!({
        "AuthenticationResult": {
            "IdToken": minted.token,
            "AccessToken": opaque()?,
            "RefreshToken": opaque()?,
            "ExpiresIn": (minted.expires.as_second() - now.as_second()).max(0),
            "TokenType": "Bearer",
        },
        "ChallengeParameters": {},
    }))
}

fn opaque() -> Result<String, Fault> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| LoginError::Internal("there are no random bytes".to_owned()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The address that failures are counted by: behind a trusted proxy, the last one that no trusted proxy has.
fn client(api: &Api, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let config = &api.config;
    let in_front = config.auth.header.as_ref().map_or(&[][..], |header| &header.trusted_proxies);
    let trusts = |ip: IpAddr| {
        let mut proxies = config.listen.trusted_proxies.iter().chain(in_front);
        proxies.any(|proxies| proxies.contains(&ip.to_canonical()))
    };
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let said = lines.iter().flat_map(|line| line.split(',')).rev().map_while(|text| text.trim().parse::<IpAddr>().ok());
    let mut nearest = peer;
    for ip in said {
        if !trusts(nearest) {
            break;
        }
        nearest = ip;
    }
    nearest
}

fn when(from: IpAddr) -> When {
    When { from, clock: Timestamp::now(), now: Instant::now() }
}

async fn read(api: &Api, sent: Sent) -> Outcome {
    let read = sent.anybodys_object(BODY_BYTES, &api.config.limits).await;
    read.map_err(|refusal| Fault::new("SerializationException", refusal.0.detail().to_owned()))
}

/// The logins of the client that the request names: with an external pool, or none, there is no such client here.
fn logins_for<'a>(api: &'a Api, body: &Value) -> Result<&'a Logins, Fault> {
    let client = body.get("ClientId").and_then(Value::as_str).ok_or_else(|| missing("ClientId"))?;
    let known = api.logins.as_deref().filter(|_| client == api.config.auth.local.client_id);
    known.ok_or_else(|| Fault::new("ResourceNotFoundException", "User pool client does not exist."))
}

fn text<'a>(body: &'a Value, group: &'static str, name: &'static str) -> Result<&'a str, Fault> {
    let value = body.get(group).and_then(|group| group.get(name)).and_then(Value::as_str);
    value.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Fault {
    Fault::new("InvalidParameterException", format!("Missing required parameter {name}"))
}

fn unavailable(message: String) -> Fault {
    Fault { status: StatusCode::SERVICE_UNAVAILABLE, code: "InternalErrorException", message }
}

impl Fault {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
}

impl From<LoginError> for Fault {
    fn from(error: LoginError) -> Self {
        let code = match &error {
            LoginError::Incorrect | LoginError::Session => "NotAuthorizedException",
            LoginError::Reset => "PasswordResetRequiredException",
            LoginError::Attempts | LoginError::Busy => "TooManyRequestsException",
            LoginError::Parameter(_) => "InvalidParameterException",
            LoginError::Password(_) => "InvalidPasswordException",
            LoginError::Store(StoreError::Unavailable(why)) => {
                tracing::warn!(%why, "nobody can log in: the store is not available");
                return unavailable("the store cannot be reached: try again".to_owned());
            }
            LoginError::Store(_) | LoginError::Internal(_) => {
                tracing::error!(%error, "nobody can log in");
                return Self {
                    status: StatusCode::INTERNAL_SERVER_ERROR,
                    code: "InternalErrorException",
                    message: "the gateway failed".to_owned(),
                };
            }
        };
        Self::new(code, error.to_string())
    }
}

fn answer(outcome: Outcome) -> Response {
    let (status, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(Fault { status, code, message }) => (status, json!({"__type": code, "message": message})),
    };
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    (status, [(CONTENT_TYPE, json)], body.to_string()).into_response()
}

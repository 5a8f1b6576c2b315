//! `/user`: who the caller is, who else there is, and new accounts (`docs/API.md` §4).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::command::people;
use super::error::Refusal;
use super::extract::{Asked, Caller, Sent};
use super::openapi::Barrier;
use super::paging::Page;
use super::{Api, answer, search};
use crate::identity::{Account, LoginError, email, is_login_name};
use crate::policy::{Snapshot, UserId};
use crate::proxy::error::{Kind, Problem};
use crate::store::{NewUser, Password, User};

/// The role of an account for which no other is said: a name, without power of its own.
const ROLE: &str = "Guest";

/// The longest text of a profile, in characters.
const LONGEST: usize = 256;

/// Who the caller is
#[utoipa::path(get, path = "/user", tag = "users", responses((status = 200, description = "the caller", body = Person)))]
pub(super) async fn current_user(caller: Caller) -> Response {
    Json(Person::of(&caller.identity.account)).into_response()
}

/// Whether the credential is good
#[utoipa::path(get, path = "/user/authenticated", tag = "users",
    responses((status = 200, description = "it is", body = bool, content_type = "application/json")))]
pub(super) async fn is_authenticated(_: Caller) -> Json<bool> {
    Json(true)
}

/// Users, all or by one attribute
///
/// The three `attribute…` parameters stand together, or not at all. Values are plain text, compared with case except for
/// `Email`; `^=` with `*` alone is everybody.
#[utoipa::path(get, path = "/user/users", tag = "users", params(search::Parameters, Page),
    responses((status = 200, description = "the users, by name", body = [Person])))]
pub(super) async fn find_users(State(api): State<Arc<Api>>, caller: Caller, asked: Asked) -> Result<Response, Refusal> {
    let found = search::find(&api, &caller, &asked).await?;
    Ok(found.answer_as(|account| Person::of(account), "/user/users", &asked))
}

/// Make an account
///
/// By an administrator. Without `password` the account has none until an administrator sets one.
#[utoipa::path(post, path = "/user", tag = "users", params(Barrier), request_body = NewPerson,
    responses((status = 200, description = "the account that was made", body = Person)))]
pub(super) async fn create_user(State(api): State<Arc<Api>>, caller: Caller, sent: Sent) -> Result<Response, Refusal> {
    let may_make = || {
        let view = api.view();
        let account = view.state.directory.by_id(caller.id());
        if account.is_some_and(|account| account.administrator) {
            return Ok(());
        }
        Err(Refusal::forbidden("only administrators make accounts\nask one of them"))
    };
    let (body, ()) = sent.object_where(&api, &caller, may_make).await?;
    let user = read_user(&body)?;
    if api.view().state.directory.by_name(&user.name).is_some() {
        return Err(Refusal::user_exists(&user.name));
    }
    let password = read_password(&api, &body, &user).await?;
    // The password may have taken longer than the right to send them lasted.
    api.still_decides_for(&caller.identity)?;
    may_make()?;
    let (id, permit) = (user.id, Snapshot::permit_self(caller.id()));
    let new = NewUser { user, link: None, password, first_role: None };
    let revision = people::create_user(&api, permit, caller.actor()?, new).await?;
    let view = api.view();
    let account = view.state.directory.by_id(id);
    let account = account.ok_or_else(|| Problem::new(&Kind::INTERNAL, "the account is not shown"))?;
    Ok(answer::written(revision, Json(Person::of(account))))
}

/// Carta's User object: what is not known is left out, because the clients refuse `null`.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
#[serde(rename_all = "camelCase")]
pub(super) struct Person<'a> {
    #[schema(value_type = Uuid)]
    id: UserId,
    /// The login name.
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organization: Option<&'a str>,
    /// The full names of the groups that the user is in.
    groups: Vec<&'a str>,
}

impl<'a> Person<'a> {
    pub(super) fn of(account: &'a Account) -> Self {
        Self {
            id: account.id,
            name: &account.name,
            email: account.email.as_deref(),
            first_name: account.first_name.as_deref(),
            last_name: account.last_name.as_deref(),
            organization: account.organization.as_deref(),
            groups: account.groups.iter().map(|group| &**group).collect(),
        }
    }
}

/// The account to make. An empty text is as good as none.
#[derive(ToSchema)]
#[schema(as = NewUser, rename_all = "camelCase")]
#[expect(dead_code, reason = "it describes what `read_user` and `read_password` read")]
pub(super) struct NewPerson {
    /// The login name: up to 128 characters without blanks, `/` and `:`, and not `everyone`.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    #[schema(max_length = 256)]
    email: Option<String>,
    #[schema(max_length = 256)]
    first_name: Option<String>,
    #[schema(max_length = 256)]
    last_name: Option<String>,
    #[schema(max_length = 256)]
    organization: Option<String>,
    /// Set at once; the password policy (§2) holds.
    #[schema(format = Password)]
    password: Option<String>,
    /// Whether the password must be changed at the first login.
    temporary: Option<bool>,
}

fn read_user(body: &Value) -> Result<User, Refusal> {
    let name = text(body, "name")?.ok_or_else(|| Refusal::input("`name` is missing"))?;
    if !is_login_name(name) {
        let rule = "use up to 128 characters without blanks, `/` and `:`, and not `everyone`";
        return Err(Refusal::input(format!("`{}` cannot be a login name\n{rule}", name.escape_debug())));
    }
    let address = text(body, "email")?;
    if let Some(address) = address.filter(|address| email(address).is_none()) {
        return Err(Refusal::input(format!("`{}` is no e-mail address", address.escape_debug())));
    }
    let owned = |field: &str| text(body, field).map(|value| value.map(str::to_owned));
    Ok(User {
        id: UserId(Uuid::new_v4()),
        name: name.to_owned(),
        email: address.map(str::to_owned),
        email_verified: false,
        first_name: owned("firstName")?,
        last_name: owned("lastName")?,
        organization: owned("organization")?,
        role: ROLE.to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::now(),
    })
}

/// What checks the password that is sent, where one is.
async fn read_password(api: &Api, body: &Value, user: &User) -> Result<Option<Password>, Refusal> {
    let temporary = match body.get("temporary") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(temporary)) => *temporary,
        Some(_) => return Err(Refusal::input("`temporary` is neither true nor false")),
    };
    let password = match body.get("password") {
        None | Some(Value::Null) if temporary => return Err(Refusal::input("`temporary` stands without `password`")),
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(password)) => Zeroizing::new(password.clone()),
        Some(_) => return Err(Refusal::input("`password` is no text")),
    };
    let logins = api.logins.as_ref().ok_or_else(|| Refusal::input("passwords are not kept here\nleave it out"))?;
    let sealed = logins.seal(user.id, &user.name, &password, temporary).await;
    sealed.map(Some).map_err(|error| match error {
        LoginError::Password(lacks) => Refusal::input(format!("the password is too simple\nit needs {lacks}")),
        LoginError::Busy => {
            Problem::new(&Kind::STORE_UNAVAILABLE, "too many logins at once\ntry again").retry_after(1).into()
        }
        error => {
            tracing::error!(%error, "a password cannot be sealed");
            Problem::new(&Kind::INTERNAL, "the password cannot be sealed").into()
        }
    })
}

/// A text of the body; one that is empty or null is not there.
fn text<'a>(body: &'a Value, field: &str) -> Result<Option<&'a str>, Refusal> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.chars().count() > LONGEST || text.chars().any(char::is_control) => {
            let rule = format!("write at most {LONGEST} characters, and no control characters");
            Err(Refusal::input(format!("`{field}` is too long, or holds what is not shown\n{rule}")))
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::input(format!("`{field}` is no text"))),
    }
}

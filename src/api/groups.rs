//! `/user/group`: groups and who is in them (`docs/API.md` §5).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;

use super::answer::Done;
use super::command::people;
use super::error::{Refusal, repeated};
use super::extract::{Asked, Caller, Named};
use super::openapi::Barrier;
use super::paging::Page;
use super::users::Person;
use super::view::View;
use super::{Api, answer, search};
use crate::identity::{Account, is_everybodys_group, is_group_name};
use crate::policy::{Permit, Snapshot};
use crate::proxy::error::{Kind, Problem};
use crate::store::Group;

/// Make a group
///
/// Any user may, and then runs it; administrators alone make `AllUsers`, `All` and `…:All`. A name that is taken is
/// refused with 400 `duplicate record`.
#[utoipa::path(post, path = "/user/group/{group}", tag = "groups", params(Barrier),
    responses((status = 200, description = "it is there", body = Done)))]
pub(super) async fn create_group(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, Refusal> {
    if is_everybodys_group(&name) && !caller.identity.account.administrator {
        return Err(Refusal::forbidden(format!("the group `{name}` is for everybody: only administrators make it")));
    }
    if !is_group_name(&name) {
        let name = name.escape_debug();
        let rule = "write NAME or ORGANIZATION:NAME: up to 128 characters without `,` and `/`";
        return Err(Refusal::input(format!("`{name}` cannot be a group's name\n{rule}")));
    }
    if api.view().group_named(&name).is_some() {
        return Err(Refusal::duplicate("group", &name));
    }
    let permit = Snapshot::permit_self(caller.id());
    Ok(answer::done(people::create_group(&api, permit, caller.actor()?, name).await?))
}

/// The members of a group
#[utoipa::path(get, path = "/user/group/{group}", tag = "groups", params(Page),
    responses(
        (status = 200, description = "its members, by name", body = [Person]),
        (status = 404, description = "there is no such group"),
    ))]
pub(super) async fn list_members(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(name): Named<String>,
    asked: Asked,
    uri: Uri,
) -> Result<Response, Refusal> {
    let members = search::members(&api, &caller, &name, &asked).await?;
    Ok(members.answer_as(|account| Person::of(account), uri.path(), &asked))
}

/// Add a member
///
/// By who runs the group, or an administrator. Adding again succeeds; a group that is not there is refused with 400
/// `group not found`.
#[utoipa::path(post, path = "/user/group/{group}/{user}", tag = "groups", params(Barrier),
    responses(
        (status = 200, description = "the user is in it", body = Done),
        (status = 404, description = "there is no such user"),
    ))]
pub(super) async fn add_member(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((group, user)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    // 400, because the clients make the group then and ask again.
    let missing = || {
        let shown = repeated(&group);
        let detail = format!("group not found: `{shown}`\nmake it first, with POST /user/group/{shown}");
        Problem::new(&Kind::INVALID_INPUT, detail).phrase("group not found")
    };
    let found = view.group_named(&group).ok_or_else(missing)?;
    let (permit, user) = may_fill(&view, &caller, found, &user)?;
    Ok(answer::done(people::add_member(&api, permit, caller.actor()?, found.id, user.id).await?))
}

/// Take a member out
///
/// By who runs the group, or an administrator. Taking out again succeeds.
#[utoipa::path(delete, path = "/user/group/{group}/{user}", tag = "groups", params(Barrier),
    responses(
        (status = 200, description = "the user is not in it", body = Done),
        (status = 404, description = "there is no such group, or no such user"),
    ))]
pub(super) async fn remove_member(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named((group, user)): Named<(String, String)>,
) -> Result<Response, Refusal> {
    let view = api.view();
    let found = view.group_named(&group).ok_or_else(|| Refusal::unknown("group", &group))?;
    let (permit, user) = may_fill(&view, &caller, found, &user)?;
    Ok(answer::done(people::remove_member(&api, permit, caller.actor()?, found.id, user.id).await?))
}

/// Administrators run every group; those for everybody are run by nobody else.
fn may_fill(view: &View, caller: &Caller, group: &Group, user: &str) -> Result<(Permit, Arc<Account>), Refusal> {
    let user = view.user(user).ok_or_else(|| Refusal::unknown("user", user))?;
    let own = group.owner == Some(caller.id()) && !is_everybodys_group(&group.name);
    if caller.identity.account.administrator || own {
        return Ok((Snapshot::permit_self(caller.id()), user));
    }
    let who = group.owner.filter(|_| !is_everybodys_group(&group.name)).and_then(|owner| view.user_name(owner));
    let ask = who.map_or_else(
        || "ask an administrator".to_owned(),
        |owner| format!("`{owner}` runs it: ask there, or an administrator"),
    );
    Err(Refusal::forbidden(format!("only who runs the group `{}` may change who is in it\n{ask}", group.name)))
}

//! Give and take levels, move ownership.

use jiff::Timestamp;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::api::node::Node;
use crate::api::tier::Tiers;
use crate::policy::{Grant, Levels, Permit, Subject, UserId};
use crate::store::{Actor, Mutation, Revision};

/// Replaces what was given to `from` on exactly the node, as one change; the changes that it took.
pub(in crate::api) async fn set(
    api: &Api,
    permit: Permit,
    by: Actor,
    from: &Node,
    on: &Node,
    tiers: Tiers,
) -> Result<(Revision, Vec<Mutation>), Refusal> {
    let changes = tiers.replace(&api.view().state.policy, from, &on.pattern(), permit.user(), Timestamp::now());
    let revision = api.commit(by, Mutation::Batch(changes.clone())).await?;
    Ok((revision, changes))
}

/// Takes away what was given to `from` on exactly the node, refusals included.
pub(in crate::api) async fn take(
    api: &Api,
    permit: Permit,
    by: Actor,
    from: &Node,
    on: &Node,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    let changes = Tiers::take(&api.view().state.policy, from, &on.pattern());
    api.commit(by, Mutation::Batch(changes)).await
}

/// Makes `to` the owner, with what else its tiers say; the former owner keeps every level.
pub(in crate::api) async fn transfer(
    api: &Api,
    permit: Permit,
    by: Actor,
    on: &Node,
    former: &Node,
    (to, node, tiers): (UserId, &Node, Tiers),
) -> Result<Revision, Refusal> {
    let (pattern, at) = (on.pattern(), Timestamp::now());
    let (view, from) = (api.view(), former.user());
    let mut rest = tiers.replace(&view.state.policy, node, &pattern, permit.user(), at);
    rest.extend(Tiers::keep(&view.state.policy, former, &pattern, permit.user(), at));
    let keep = |user| Grant { subject: Subject::User(user), pattern, levels: Levels::ALL, expires: None };
    let moves = Mutation::TransferOwner { resource: on.id(), from, to, keep: from.map(keep), at };
    api.commit(by, Mutation::Batch([moves].into_iter().chain(rest).collect())).await
}

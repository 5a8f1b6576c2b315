//! The owner's entry: the ownership, which is passed on by nobody but the owner.

use super::Api;
use super::command::grants;
use super::error::Refusal;
use super::extract::Caller;
use super::node::{Node, Thing};
use super::tier::Tiers;
use super::view::View;
use crate::policy::{Permit, UserId};
use crate::store::Revision;

/// Moves the ownership: by the owner only, who keeps the other flags.
pub(super) async fn transfer(
    api: &Api,
    caller: &Caller,
    permit: Permit,
    on: &Node,
    (to, from, tiers): (UserId, &Node, Tiers),
    view: &View,
) -> Result<Revision, Refusal> {
    let owner = view.owner(on);
    if owner != Some(caller.id()) && owner != Some(to) {
        return Err(Refusal::forbidden("only the owner can make somebody else the owner"));
    }
    if owner == Some(to) {
        return Ok(Revision(view.state.revision));
    }
    if matches!(on.thing, Thing::User(_) | Thing::Group(_)) {
        return Err(Refusal::forbidden("what stands for a user or a group is nobody else's"));
    }
    let me = Node::from(caller.identity.account.clone());
    grants::transfer(api, permit, caller.actor()?, on, &me, (to, from, tiers)).await
}

/// The owner's entry is the ownership: an administrator of the resource may not touch it, and the owner must not.
pub(super) fn spare_owner(view: &View, caller: &Caller, on: &Node, subject: Option<UserId>) -> Result<(), Refusal> {
    if subject.is_none() || view.owner(on) != subject {
        return Ok(());
    }
    if Some(caller.id()) == subject {
        return Err(Refusal::input("a resource needs exactly one owner\nmake somebody else the owner first"));
    }
    Err(owners_entry())
}

/// 403: whose entry it is.
pub(super) fn owners_entry() -> Refusal {
    Refusal::forbidden("the owner's permission cannot be changed by anybody else")
}

/// 400: what cannot own.
pub(super) fn only_users_own() -> Refusal {
    Refusal::input("only a user can own a resource")
}

//! Who holds what on which node, and who may ask.

use jiff::Timestamp;

use super::error::Refusal;
use super::extract::Caller;
use super::node::{Node, Thing};
use super::tier::Tiers;
use super::view::{View, pattern};
use crate::policy::{Denied, Levels, Permit, Snapshot, UserId};

/// The word for what stands for the caller.
const SELF: &str = "self";

/// The node with this id; `self` is what stands for the caller.
pub(super) fn find(view: &View, caller: &Caller, id: &str) -> Result<Node, Refusal> {
    if id == SELF {
        return Ok(caller.identity.account.clone().into());
    }
    view.node(id).ok_or_else(|| Refusal::unknown("resource", id))
}

/// The proof that the user may grant and rescind on the node. Everybody may on what stands for them.
pub(super) fn may_administer(view: &View, user: UserId, node: &Node, now: Timestamp) -> Result<Permit, Refusal> {
    permit(view, user, node, Levels::ADMIN, now)
}

/// The proof that the user holds all of these levels on the node.
pub(super) fn permit(view: &View, user: UserId, node: &Node, need: Levels, now: Timestamp) -> Result<Permit, Refusal> {
    if node.user() == Some(user) {
        return Ok(Snapshot::permit_self(user));
    }
    let permit = view.state.policy.permit(user, &node.keys(), need, now);
    permit.map_err(|denied| Refusal::denied_on(view, node, &Denied { owner: view.owner(node), ..denied }))
}

/// What one node holds on another, and whether it owns it: a user with all that reaches the user, others in their own
/// name. No other node is asked about, so that what stands for a user holds nothing of its own.
pub(super) fn held(view: &View, from: &Node, to: &Node, now: Timestamp) -> (Levels, bool) {
    match &from.thing {
        Thing::User(account) if view.owner(to) == Some(account.id) => (Levels::ALL, true),
        Thing::User(account) => (view.state.policy.levels(account.id, &to.keys(), now), false),
        _ => (in_own_name(view, from, &to.keys(), now), false),
    }
}

/// What the node is called to this user: of a record on which the user holds nothing, only its id, because its name is for
/// who may look at it.
pub(super) fn shown_name(view: &View, me: &Node, node: &Node, now: Timestamp) -> String {
    match &node.thing {
        Thing::Record(_) if !holds_any(view, me, node, now) => node.id().to_string(),
        _ => node.name().to_owned(),
    }
}

/// Whether it holds anything on the node.
pub(super) fn holds_any(view: &View, from: &Node, to: &Node, now: Timestamp) -> bool {
    let (levels, owner) = held(view, from, to, now);
    owner || !levels.is_empty()
}

/// What the node itself was given on the name or, where that is nothing, on what is above it.
fn in_own_name(view: &View, from: &Node, keys: &[&str], now: Timestamp) -> Levels {
    let mut names = (1..=keys.len()).rev().filter_map(|length| keys.get(..length)).map(pattern);
    names.find_map(|name| Tiers::direct(&view.state.policy, from, &name, now)).unwrap_or_default().user
}

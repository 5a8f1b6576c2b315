//! Make accounts and groups, put users into groups and take them out.

use uuid::Uuid;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::policy::{GroupId, Permit, UserId};
use crate::store::{Actor, Group, Mutation, NewUser, Revision};

/// Makes an account: for administrators.
pub(in crate::api) async fn create_user(
    api: &Api,
    permit: Permit,
    by: Actor,
    new: NewUser,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::CreateUser(Box::new(new))).await
}

/// Makes a group that the permit's user runs.
pub(in crate::api) async fn create_group(
    api: &Api,
    permit: Permit,
    by: Actor,
    name: String,
) -> Result<Revision, Refusal> {
    let group = Group { id: GroupId(Uuid::new_v4()), name, owner: permit.user() };
    api.commit(by, Mutation::CreateGroup(group)).await
}

/// Puts the user into the group.
pub(in crate::api) async fn add_member(
    api: &Api,
    permit: Permit,
    by: Actor,
    group: GroupId,
    user: UserId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::AddMember(group, user)).await
}

/// Takes the user out of the group.
pub(in crate::api) async fn remove_member(
    api: &Api,
    permit: Permit,
    by: Actor,
    group: GroupId,
    user: UserId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RemoveMember(group, user)).await
}

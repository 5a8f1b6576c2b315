//! Make, change and remove records that are kept to be shared.

use crate::api::Api;
use crate::api::error::Refusal;
use crate::policy::{Permit, ResourceId};
use crate::store::{Actor, Mutation, Node as Record, Revision};

/// Makes the record, which the permit's user owns.
pub(in crate::api) async fn create(api: &Api, permit: Permit, by: Actor, record: Record) -> Result<Revision, Refusal> {
    let record = Record { owner: permit.user(), ..record };
    api.commit(by, Mutation::CreateNode(Box::new(record))).await
}

/// Gives it another name, other props, or both.
pub(in crate::api) async fn update(
    api: &Api,
    permit: Permit,
    by: Actor,
    id: ResourceId,
    name: Option<String>,
    props: Option<String>,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::UpdateNode { id, name, props }).await
}

/// Removes it with what is in it, and with all that was granted on it and to it.
pub(in crate::api) async fn remove(api: &Api, permit: Permit, by: Actor, id: ResourceId) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RemoveNode(id)).await
}

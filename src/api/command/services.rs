//! Make, change and remove namespaces and services.

use serde_json::Value;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::policy::{Permit, ResourceId, UserId};
use crate::store::{Actor, Mutation, Revision};

/// Makes a namespace that the caller owns.
pub(in crate::api) async fn reserve(
    api: &Api,
    permit: Permit,
    by: Actor,
    name: &str,
    owner: UserId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::ReserveNamespace { name: name.to_owned(), owner }).await
}

/// Makes a service, or replaces the table of the one that the permit is for; the table has been read and found right by
/// [`parse_service`](crate::config::parse_service).
pub(in crate::api) async fn put(
    api: &Api,
    permit: Permit,
    by: Actor,
    (namespace, name): (&str, &str),
    replaces: Option<ResourceId>,
    owner: UserId,
    table: Value,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    api.commit(by, Mutation::PutService { namespace, name, replaces, owner, table }).await
}

/// Gives a service another name in its namespace.
pub(in crate::api) async fn rename(
    api: &Api,
    permit: Permit,
    by: Actor,
    id: ResourceId,
    to: &str,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RenameService { id, to: to.to_owned() }).await
}

/// Removes a service with all that was granted on it.
pub(in crate::api) async fn remove_service(
    api: &Api,
    permit: Permit,
    by: Actor,
    id: ResourceId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RemoveService(id)).await
}

/// Removes an empty namespace with all that was granted on it.
pub(in crate::api) async fn remove_namespace(
    api: &Api,
    permit: Permit,
    by: Actor,
    id: ResourceId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RemoveNamespace(id)).await
}

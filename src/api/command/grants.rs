//! Give and take levels, move ownership.

use jiff::Timestamp;

use crate::api::Api;
use crate::api::error::Refusal;
use crate::api::role;
use crate::api::view::Node;
use crate::policy::{Grant, Levels, Permit, Subject, UserId};
use crate::store::{Actor, Mutation, Namespace, Revision};

/// Gives the subject exactly these levels on the resource; the empty set is a refusal.
pub(in crate::api) async fn give(
    api: &Api,
    permit: Permit,
    by: Actor,
    resource: &Node,
    subject: Subject,
    levels: Levels,
) -> Result<Revision, Refusal> {
    let grant = Grant { subject, pattern: resource.pattern(), levels, expires: None };
    api.commit(by, Mutation::PutGrant { grant, by: permit.user(), at: Timestamp::now() }).await
}

/// Takes away what the subject has on exactly the resource.
pub(in crate::api) async fn take(
    api: &Api,
    permit: Permit,
    by: Actor,
    resource: &Node,
    subject: Subject,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    api.commit(by, Mutation::RemoveGrant(subject, resource.pattern())).await
}

/// Lets whoever holds one of these levels on the namespace hold it on the resource as well, and no other level by that
/// way, also where what is above the resource is shared too. Each level is a row of its own. None at all is no share.
pub(in crate::api) async fn share(
    api: &Api,
    permit: Permit,
    by: Actor,
    resource: &Node,
    with: &Namespace,
    levels: Levels,
) -> Result<Revision, Refusal> {
    let (pattern, at) = (resource.pattern(), Timestamp::now());
    let subject = |level| Subject::Holders(level, with.id);
    let rows = role::single(Levels::ALL).map(|level| {
        if levels.is_empty() {
            return Mutation::RemoveGrant(subject(level), pattern.clone());
        }
        let levels = if levels.has_all(level) { level } else { Levels::BLANK };
        let grant = Grant { subject: subject(level), pattern: pattern.clone(), levels, expires: None };
        Mutation::PutGrant { grant, by: permit.user(), at }
    });
    api.commit(by, Mutation::Batch(rows.collect())).await
}

/// Makes somebody else the owner; the former owner keeps every level.
pub(in crate::api) async fn transfer(
    api: &Api,
    permit: Permit,
    by: Actor,
    resource: &Node,
    from: UserId,
    to: UserId,
) -> Result<Revision, Refusal> {
    let Permit { .. } = permit;
    let keep = Grant { subject: Subject::User(from), pattern: resource.pattern(), levels: Levels::ALL, expires: None };
    let at = Timestamp::now();
    api.commit(by, Mutation::TransferOwner { resource: resource.id(), from: Some(from), to, keep: Some(keep), at })
        .await
}

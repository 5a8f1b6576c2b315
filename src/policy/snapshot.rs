//! The compiled policy: who holds what, immutable, patched by sharing what did not change.

use std::sync::Arc;

use jiff::Timestamp;

use super::{GroupId, Levels, Pattern, ResourceId, Subject, UserId};

/// One row: what a subject may do with everything that the pattern covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who holds it.
    pub subject: Subject,
    /// What it is on.
    pub pattern: Pattern,
    /// What may be done; the empty set is an explicit deny.
    pub levels: Levels,
    /// The second at which it ends, if it does.
    pub expires: Option<Timestamp>,
}

/// A user as far as decisions need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub id: UserId,
    /// The user's one role.
    pub role: Arc<str>,
    /// The local groups that the user is in.
    pub groups: Vec<GroupId>,
}

/// A resource as far as decisions need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// Its name, each key literal (no wildcard).
    pub name: Pattern,
    /// Its owner, who holds every level on it and below it, down to the next owner.
    pub owner: Option<UserId>,
}

/// One step from a snapshot to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds the grant, or replaces the one of the same subject and pattern.
    Grant(Grant),
    /// Takes the grant of this subject and pattern away.
    Ungrant(Subject, Pattern),
    /// Adds the user, or replaces role and groups.
    Member(Member),
    /// Forgets the user (grants go by [`Change::Ungrant`]).
    MemberGone(UserId),
    /// Adds the resource, or replaces its name and owner.
    Resource(Resource),
    /// Forgets the resource.
    ResourceGone(ResourceId),
}

//! Who a grant is for, and the ids that name people, groups and resources.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Levels;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A user, for as long as the account exists; names may change, ids do not.
    UserId
);
id!(
    /// A group of users.
    GroupId
);
id!(
    /// A resource: namespace, service, project, workspace, generic node.
    ResourceId
);

/// Who a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One user.
    User(UserId),
    /// The members of a local group.
    Group(GroupId),
    /// The users with this role; the name carries no power of its own.
    Role(Arc<str>),
    /// Every authenticated identity.
    Everyone,
    /// Whoever holds all of these levels on another resource.
    Holders(Levels, ResourceId),
}

//! Who a grant is for, and the ids that name people, groups and resources.

use std::fmt;
use std::str::FromStr;
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

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Reads any of the texts that [`Uuid`] reads.
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
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
    /// Whoever holds the same levels on another resource, each of them by itself.
    Same(ResourceId),
    /// Another resource, or what stands for a user or a group, in its own name. Nobody is that: what it was given is
    /// written down, and decides nothing.
    Itself(ResourceId),
}

impl ResourceId {
    /// The one key that a resource without a dotted name has: `@` and its id, which no `*` matches.
    #[must_use]
    pub fn key(self) -> String {
        format!("@{}", self.0)
    }

    /// The resource that has this key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        key.strip_prefix('@')?.parse().ok()
    }
}

impl Subject {
    /// For what is shared with those who hold levels on another resource: that one, and what must be held there; none
    /// where each level counts by itself.
    #[must_use]
    pub const fn through(&self) -> Option<(ResourceId, Option<Levels>)> {
        match self {
            Self::Holders(levels, resource) => Some((*resource, Some(*levels))),
            Self::Same(resource) => Some((*resource, None)),
            Self::User(_) | Self::Group(_) | Self::Role(_) | Self::Everyone | Self::Itself(_) => None,
        }
    }
}

/// Why a text names no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no subject\nwrite `user:ID`, `group:ID`, `role:NAME`, `everyone`, `holders:LEVELS:ID`, `holders:same:ID` or \
     `itself:ID`, the ids as UUIDs"
)]
pub struct UnknownSubject(pub String);

impl fmt::Display for Subject {
    /// The text that [`Subject::from_str`] reads back, and that the store keeps: `user:<uuid>`, `group:<uuid>`,
    /// `role:<name>`, `everyone`, `holders:<level>,<level>:<uuid>`, `holders:same:<uuid>`, `itself:<uuid>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Group(id) => write!(f, "group:{id}"),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::Everyone => f.write_str("everyone"),
            Self::Holders(levels, id) => {
                f.write_str("holders:")?;
                for (position, word) in levels.words().enumerate() {
                    f.write_str(if position == 0 { "" } else { "," })?;
                    f.write_str(word)?;
                }
                write!(f, ":{id}")
            }
            Self::Same(id) => write!(f, "holders:same:{id}"),
            Self::Itself(id) => write!(f, "itself:{id}"),
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    /// Strict: a role has a name, and holders hold at least one level (holders of nothing would be nobody).
    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        parse(text).ok_or_else(|| UnknownSubject(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Subject> {
    if text == "everyone" {
        return Some(Subject::Everyone);
    }
    let (kind, rest) = text.split_once(':')?;
    match kind {
        "user" => rest.parse().ok().map(Subject::User),
        "group" => rest.parse().ok().map(Subject::Group),
        "role" if !rest.is_empty() => Some(Subject::Role(rest.into())),
        "holders" => {
            let (levels, id) = rest.split_once(':')?;
            if levels == "same" {
                return id.parse().ok().map(Subject::Same);
            }
            let levels: Levels = levels.parse().ok()?;
            if levels.is_empty() {
                return None;
            }
            Some(Subject::Holders(levels, id.parse().ok()?))
        }
        "itself" => rest.parse().ok().map(Subject::Itself),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_survives_its_text() {
        let id = Uuid::from_u128(7);
        for subject in [
            Subject::User(UserId(id)),
            Subject::Group(GroupId(id)),
            Subject::Role("Ops: EU, night shift".into()),
            Subject::Everyone,
            Subject::Holders(Levels::READ | Levels::EXECUTE, ResourceId(id)),
            Subject::Holders(Levels::ALL, ResourceId(id)),
            Subject::Same(ResourceId(id)),
            Subject::Itself(ResourceId(id)),
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
    }

    #[test]
    fn a_resource_without_a_name_is_known_by_its_key() {
        let id = ResourceId(Uuid::from_u128(7));
        assert_eq!(id.key(), "@00000000-0000-0000-0000-000000000007");
        assert_eq!(ResourceId::of_key(&id.key()), Some(id));
        for key in ["", "@", "@x", "00000000-0000-0000-0000-000000000007"] {
            assert_eq!(ResourceId::of_key(key), None, "{key}");
        }
    }

    #[test]
    fn a_text_that_names_nobody_is_refused() {
        let id = Uuid::from_u128(7);
        for text in ["", "user:", "user:ann", "role:", "Everyone", "everyone:", "holders:", "nobody:x"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        for text in [format!("holders::{id}"), format!("holders:none:{id}"), format!("holders:fly:{id}")] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}

//! What the subjects that people write mean in this store.

use super::Failure;
use super::open::Opened;
use crate::policy::Subject;

pub(crate) use crate::policy::written::{Written, duration, levels_of, moment, resource_of};

impl Written {
    /// The subject that is meant in this store.
    ///
    /// # Errors
    /// [`Failure::NotFine`] where the store has no such user, group or resource.
    pub(crate) async fn resolve(&self, opened: &Opened) -> Result<Subject, Failure> {
        Ok(match self {
            Self::User(name) => Subject::User(opened.user(name).await?.id),
            Self::Group(name) => Subject::Group(opened.group(name).await?),
            Self::Role(name) => Subject::Role(name.as_str().into()),
            Self::Everyone => Subject::Everyone,
            Self::Holders(levels, pattern) => Subject::Holders(*levels, opened.resource(pattern).await?),
            Self::Same(pattern) => Subject::Same(opened.resource(pattern).await?),
            Self::Itself(pattern) => Subject::Itself(opened.resource(pattern).await?),
        })
    }

    /// How the subject is called in a sentence.
    pub(crate) fn called(&self) -> String {
        match self {
            Self::User(name) => name.clone(),
            Self::Group(name) => format!("the group {name}"),
            Self::Role(name) => format!("the role {name}"),
            Self::Everyone => "everyone".to_owned(),
            Self::Holders(levels, pattern) => format!("whoever holds {levels} on {pattern}"),
            Self::Same(pattern) => format!("whoever holds the same on {pattern}"),
            Self::Itself(pattern) => format!("{pattern} itself"),
        }
    }
}

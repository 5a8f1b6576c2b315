//! The proof that a user may do something now.

use jiff::Timestamp;

use super::{Levels, UserId};

/// The proof, made only here, that somebody may do this now. What acts on a resource takes one.
///
/// Not `Clone`, and without public fields: a permit is used up by what it permits and cannot be kept, copied or made up.
#[derive(Debug)]
#[must_use = "a permit that nothing takes permits nothing"]
pub struct Permit {
    user: Option<UserId>,
    need: Levels,
    held: Levels,
    ends: Option<Timestamp>,
}

/// Why there is no permit: what was needed, and what the user holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("needs {need}, holds {held}")]
pub struct Denied {
    /// Who asked.
    pub user: UserId,
    /// The levels that were all needed.
    pub need: Levels,
    /// The levels that the user holds.
    pub held: Levels,
    /// Who owns the resource and can grant what is missing.
    pub owner: Option<UserId>,
}

impl Permit {
    pub(super) const fn new(user: UserId, need: Levels, held: Levels, ends: Option<Timestamp>) -> Self {
        Self { user: Some(user), need, held, ends }
    }

    /// For what is open to all, identified or not: the public endpoints of a service.
    pub(super) const fn public() -> Self {
        Self { user: None, need: Levels::NONE, held: Levels::NONE, ends: None }
    }

    /// For what a user does with things that are nobody else's: the user's own secrets, tokens, sessions.
    pub(super) const fn own(user: UserId) -> Self {
        Self { user: Some(user), need: Levels::NONE, held: Levels::NONE, ends: None }
    }

    /// Who is permitted; `None` where everybody is.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        self.user
    }

    /// What was needed.
    #[must_use]
    pub const fn need(&self) -> Levels {
        self.need
    }

    /// What the user holds, which may be more.
    #[must_use]
    pub const fn held(&self) -> Levels {
        self.held
    }

    /// The first moment at which the permit may end by itself, because a grant on which it rests expires. Ask again
    /// then: another grant may carry on.
    #[must_use]
    pub const fn ends(&self) -> Option<Timestamp> {
        self.ends
    }
}

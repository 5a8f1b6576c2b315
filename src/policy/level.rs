//! Levels: what may be done with a resource, as a set of seven bits.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A set of levels. The four lowest bits are grainy's numbers, so that its masks carry over unchanged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Levels(u8);

/// The single levels with their words, in the order in which they are shown.
const WORDS: [(Levels, &str); 7] = [
    (Levels::CREATE, "create"),
    (Levels::READ, "read"),
    (Levels::UPDATE, "update"),
    (Levels::DELETE, "delete"),
    (Levels::EXECUTE, "execute"),
    (Levels::CLONE, "clone"),
    (Levels::ADMIN, "admin"),
];

impl Levels {
    /// No level at all; as a grant's levels it is an explicit deny.
    pub const NONE: Self = Self(0);
    /// See the resource.
    pub const READ: Self = Self(1);
    /// Change what is there.
    pub const UPDATE: Self = Self(2);
    /// Make something new below it.
    pub const CREATE: Self = Self(4);
    /// Remove it.
    pub const DELETE: Self = Self(8);
    /// Call the service.
    pub const EXECUTE: Self = Self(16);
    /// Duplicate it.
    pub const CLONE: Self = Self(32);
    /// Grant and rescind, to anyone but the owner.
    pub const ADMIN: Self = Self(64);
    /// Carta's `Write`: create, update and delete together.
    pub const WRITE: Self = Self(14);
    /// Every level: what an owner holds.
    pub const ALL: Self = Self(127);
    /// Not a level: it keeps a row that gives nothing from being a deny. All that such a row does is to stand in the place
    /// of the subject's rows above it. No decision ever holds it.
    pub const BLANK: Self = Self(128);

    /// The set with exactly these bits, or `None` where a bit above 64 is set, but for [`Levels::BLANK`] alone.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= 128 { Some(Self(bits)) } else { None }
    }

    /// The bits of the set.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether nothing is in the set: as a grant's levels, whether it is a deny.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a level is in the set.
    pub(super) const fn gives(self) -> bool {
        self.0 & Self::ALL.0 != 0
    }

    /// The levels of the set, without [`Levels::BLANK`].
    pub(super) const fn given(self) -> Self {
        Self(self.0 & Self::ALL.0)
    }

    /// Whether all of `need` is in the set. A need of nothing is never satisfied.
    #[must_use]
    pub const fn has_all(self, need: Self) -> bool {
        need.0 != 0 && self.0 & need.0 == need.0
    }

    /// Whether any of `need` is in the set: grainy's reading of a level of several bits.
    #[must_use]
    pub const fn has_any(self, need: Self) -> bool {
        self.0 & need.0 != 0
    }

    /// The levels of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The single levels of the set.
    pub fn singles(self) -> impl Iterator<Item = Self> {
        (0..7).map(|bit| Self(1 << bit)).filter(move |level| self.has_all(*level))
    }

    /// The words of the set, in the order create, read, update, delete, execute, clone, admin.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().filter(move |(level, _)| self.has_all(*level)).map(|(_, word)| word)
    }
}

/// Why a text does not name levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown level `{0}`; write words (create, read, update, delete, write, execute, clone, admin) or letters of `crud`"
)]
pub struct UnknownLevel(pub String);

impl std::str::FromStr for Levels {
    type Err = UnknownLevel;

    /// Strict: words separated by commas or blanks, or letters of `crud`. Words win over letters, so that `read`
    /// never means r and d as it does to grainy. The empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let mut levels = Self::NONE;
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            levels |= word_levels(word).or_else(|| letter_levels(word)).ok_or_else(|| UnknownLevel(word.to_owned()))?;
        }
        Ok(levels)
    }
}

fn word_levels(word: &str) -> Option<Levels> {
    match word {
        "write" => Some(Levels::WRITE),
        "all" => Some(Levels::ALL),
        "none" => Some(Levels::NONE),
        _ => WORDS.into_iter().find(|(_, known)| *known == word).map(|(level, _)| level),
    }
}

fn letter_levels(word: &str) -> Option<Levels> {
    word.chars().try_fold(Levels::NONE, |levels, letter| {
        Some(
            levels
                | match letter {
                    'c' => Levels::CREATE,
                    'r' => Levels::READ,
                    'u' => Levels::UPDATE,
                    'd' => Levels::DELETE,
                    _ => return None,
                },
        )
    })
}

impl fmt::Display for Levels {
    /// The words joined by comma and blank; `none` for the empty set, `nothing` for [`Levels::BLANK`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        if !self.gives() {
            return f.write_str("nothing");
        }
        for (position, word) in self.words().enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Levels({self})")
    }
}

impl BitOr for Levels {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Levels {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Levels {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_letters_are_read_strictly() {
        assert_eq!("read".parse(), Ok(Levels::READ));
        assert_eq!("crud".parse(), Ok(Levels::WRITE | Levels::READ));
        assert_eq!("read, execute".parse(), Ok(Levels::READ | Levels::EXECUTE));
        assert_eq!("".parse(), Ok(Levels::NONE));
        assert_eq!("none".parse(), Ok(Levels::NONE));
        assert_eq!("write".parse(), Ok(Levels::WRITE));
        assert_eq!("all".parse(), Ok(Levels::ALL));
        assert_eq!("r,clone admin".parse(), Ok(Levels::READ | Levels::CLONE | Levels::ADMIN));
        assert!("deny".parse::<Levels>().is_err());
        assert!("Read".parse::<Levels>().is_err());
    }

    #[test]
    fn a_set_falls_apart_into_its_single_levels() {
        assert_eq!(Levels::ALL.singles().count(), 7);
        assert_eq!(Levels::WRITE.singles().collect::<Vec<_>>(), [Levels::UPDATE, Levels::CREATE, Levels::DELETE]);
        assert_eq!(Levels::NONE.singles().count(), 0);
    }

    #[test]
    fn what_two_sets_share_and_what_one_has_more() {
        let (one, other) = (Levels::READ | Levels::UPDATE, Levels::UPDATE | Levels::CREATE);
        assert_eq!(
            (one & other, one.without(other), other.without(one)),
            (Levels::UPDATE, Levels::READ, Levels::CREATE)
        );
        assert_eq!(Levels::from_bits(128), Some(Levels::BLANK));
        assert_eq!((Levels::from_bits(127), Levels::from_bits(129)), (Some(Levels::ALL), None));
    }

    #[test]
    fn a_need_of_nothing_is_never_satisfied() {
        assert!(!Levels::ALL.has_all(Levels::NONE));
        assert!(!Levels::ALL.has_any(Levels::NONE));
    }
}

//! What is to be imported, and what is to be said about it, before any store is asked.

use crate::policy::written::Written;
use crate::policy::{Levels, Pattern, PatternKey};

/// What an import comes to.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) users: Vec<NewUser>,
    /// Groups with the names of their members.
    pub(super) groups: Vec<(String, Vec<String>)>,
    pub(super) grants: Vec<NewGrant>,
    pub(super) remarks: Vec<Remark>,
}

/// An account to make, unless it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewUser {
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) role: String,
    pub(super) disabled: bool,
}

/// A grant to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewGrant {
    /// By the names of the plan or, where it has none such, of the store.
    pub(super) who: Written,
    pub(super) keys: Vec<PatternKey>,
    pub(super) levels: Levels,
    /// The row that it comes from, for people.
    pub(super) row: String,
}

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remark {
    /// The quirk, by its name in `docs/PERMISSIONS.md`.
    pub(super) quirk: &'static str,
    pub(super) fate: Fate,
    /// The row, for people.
    pub(super) row: String,
    pub(super) what: String,
}

/// What becomes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is not imported.
    Dropped,
    /// It is imported, and means something else.
    Changed,
    /// It is no row; something to know, or to do by hand.
    Note,
}

impl Plan {
    pub(super) fn remark(&mut self, quirk: &'static str, fate: Fate, row: impl Into<String>, what: impl Into<String>) {
        self.remarks.push(Remark { quirk, fate, row: row.into(), what: what.into() });
    }

    pub(super) fn drop(&mut self, quirk: &'static str, row: impl Into<String>, what: impl Into<String>) {
        self.remark(quirk, Fate::Dropped, row, what);
    }

    pub(super) fn change(&mut self, quirk: &'static str, row: impl Into<String>, what: impl Into<String>) {
        self.remark(quirk, Fate::Changed, row, what);
    }
}

/// The name for people.
pub(super) fn shown(keys: &[PatternKey]) -> String {
    if keys.is_empty() {
        return "everything".to_owned();
    }
    Pattern::new(keys.iter().cloned()).map_or_else(|error| error.to_string(), |pattern| pattern.to_string())
}

//! Carta's names for sets of levels, its permission text, and its kinds of subject.

use crate::policy::Levels;

/// A role of `docs/API.md` §6: a name for a set of levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A refusal, or nothing, by the kind of subject.
    None,
    /// Read.
    Guest,
    /// Read and execute.
    User,
    /// Read, write and execute.
    Editor,
    /// The ownership.
    Owner,
}

impl Role {
    /// The role of this name, compared with case.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "None" => Self::None,
            "Guest" => Self::Guest,
            "User" => Self::User,
            "Editor" => Self::Editor,
            "Owner" => Self::Owner,
            _ => return None,
        })
    }

    /// The levels that it gives.
    #[must_use]
    pub(super) fn levels(self) -> Levels {
        match self {
            Self::None => Levels::NONE,
            Self::Guest => Levels::READ,
            Self::User => Levels::READ | Levels::EXECUTE,
            Self::Editor => Levels::READ | Levels::WRITE | Levels::EXECUTE,
            Self::Owner => Levels::ALL,
        }
    }
}

/// What kind of thing a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// A user.
    User,
    /// A group.
    UserGroup,
    /// A node with this label, and whoever holds levels on it.
    Item(&'static str),
}

impl SubjectKind {
    /// The kind of this name, compared with case.
    #[must_use]
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "User" => Self::User,
            "UserGroup" => Self::UserGroup,
            "NamespaceItem" => Self::Item("Namespace"),
            "ProjectItem" => Self::Item("Project"),
            "WorkflowItem" => Self::Item("Workflow"),
            "WorkspaceItem" => Self::Item("Workspace"),
            _ => return None,
        })
    }

    /// The label of its nodes.
    #[must_use]
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::UserGroup => "UserGroup",
            Self::Item(label) => label,
        }
    }

    /// Its name.
    #[must_use]
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::UserGroup => "UserGroup",
            Self::Item("Namespace") => "NamespaceItem",
            Self::Item("Project") => "ProjectItem",
            Self::Item("Workflow") => "WorkflowItem",
            Self::Item(_) => "WorkspaceItem",
        }
    }
}

/// The levels as Carta writes them: capitalised words joined by comma and blank; `None` for nothing. `Write` stands
/// for create, update and delete together, so part of them is not shown.
#[must_use]
pub(super) fn text(levels: Levels) -> String {
    let words: Vec<&str> = [
        (Levels::READ, "Read"),
        (Levels::WRITE, "Write"),
        (Levels::EXECUTE, "Execute"),
        (Levels::CLONE, "Clone"),
        (Levels::ADMIN, "Admin"),
    ]
    .into_iter()
    .filter(|(level, _)| levels.has_all(*level))
    .map(|(_, word)| word)
    .collect();
    if words.is_empty() { "None".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_levels_is_the_one_that_pycarta_splits() {
        for (levels, expected) in [
            (Levels::NONE, "None"),
            (Role::Guest.levels(), "Read"),
            (Role::User.levels(), "Read, Execute"),
            (Role::Editor.levels(), "Read, Write, Execute"),
            (Role::Owner.levels(), "Read, Write, Execute, Clone, Admin"),
            (Levels::CREATE | Levels::UPDATE, "None"),
        ] {
            assert_eq!(text(levels), expected);
        }
    }

    #[test]
    fn roles_are_compared_with_case() {
        assert_eq!(Role::parse("Owner"), Some(Role::Owner));
        assert_eq!(Role::parse("owner"), None);
        assert_eq!(Role::parse(""), None);
    }
}

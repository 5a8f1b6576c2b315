//! What names may look like.

use crate::policy::written::can_be_login;

/// The longest name of a user or group, in characters.
const LONGEST: usize = 128;

/// Whether an account may be made by this login name, here or by command.
#[must_use]
pub fn is_login_name(name: &str) -> bool {
    can_be_login(name)
        && name.chars().count() <= LONGEST
        && !name.chars().any(|character| character.is_control() || character.is_whitespace())
}

/// Whether this can be a group's name: `Name` or `Organization:Name`. A comma would split it where `{groups}` joins
/// several.
#[must_use]
pub fn is_group_name(name: &str) -> bool {
    name.chars().count() <= LONGEST
        && name.split(':').count() <= 2
        && name.split(':').all(|part| !part.is_empty() && part.trim() == part)
        && !name.chars().any(|character| character.is_control() || matches!(character, ',' | '/'))
}

/// Whether only administrators make and fill this group, because everybody is put into it.
#[must_use]
pub fn is_everybodys_group(name: &str) -> bool {
    name == "AllUsers" || name.rsplit(':').next() == Some("All")
}

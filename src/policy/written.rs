//! What people write for subjects, resources, levels and times, on the command line and in the API.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::{Levels, Pattern, UnknownLevel};

/// A subject as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// `user:NAME`, or the bare name.
    User(String),
    /// `group:NAME`, where the name may hold a colon: `group:Org:Name`.
    Group(String),
    /// `role:NAME`.
    Role(String),
    /// `everyone`.
    Everyone,
    /// `holders:LEVELS:RESOURCE`.
    Holders(Levels, Pattern),
    /// `holders:same:RESOURCE`: each level by itself.
    Same(Pattern),
    /// `itself:RESOURCE`: in its own name, which nobody is.
    Itself(Pattern),
}

impl fmt::Display for Written {
    /// The text that [`Written::from_str`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::Everyone => f.write_str("everyone"),
            Self::Holders(levels, name) => {
                let words: Vec<&str> = levels.words().collect();
                write!(f, "holders:{}:{name}", words.join(","))
            }
            Self::Same(name) => write!(f, "holders:same:{name}"),
            Self::Itself(name) => write!(f, "itself:{name}"),
        }
    }
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "everyone" {
            return Ok(Self::Everyone);
        }
        let (kind, name) = text.split_once(':').unwrap_or(("user", text));
        if name.is_empty() {
            return Err(format!("`{text}` names nobody\n{SUBJECTS}"));
        }
        match kind {
            "user" => Ok(Self::User(name.to_owned())),
            "group" => Ok(Self::Group(name.to_owned())),
            "role" => Ok(Self::Role(name.to_owned())),
            "holders" => {
                let (levels, resource) = name
                    .split_once(':')
                    .ok_or_else(|| format!("`{text}` names no resource\nwrite holders:LEVELS:RESOURCE"))?;
                let pattern = || Pattern::parse(resource).map_err(|error| error.to_string());
                if levels == "same" {
                    return pattern().map(Self::Same);
                }
                let levels = levels_of(levels)?;
                if levels.is_empty() {
                    return Err(format!("`{text}` names no level\nwrite holders:LEVELS:RESOURCE"));
                }
                Ok(Self::Holders(levels, pattern()?))
            }
            "itself" => Pattern::parse(name).map(Self::Itself).map_err(|error| error.to_string()),
            _ => Err(format!("unknown kind of subject `{kind}`\n{SUBJECTS}")),
        }
    }
}

/// Whether the text can be a login name: one that is read as another subject, or as more than one part of a path, is
/// taken for somebody else sooner or later.
#[must_use]
pub fn can_be_login(name: &str) -> bool {
    !name.is_empty() && name != "everyone" && !name.contains(['/', ':'])
}

const SUBJECTS: &str = "write user:NAME (or NAME alone), group:NAME, role:NAME, everyone, or holders:LEVELS:RESOURCE such as \
     holders:read:materials";

/// A resource's name as written: dotted, `*` for one key.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn resource_of(text: &str) -> Result<Pattern, String> {
    if text.contains('/') {
        return Err(format!(
            "`{text}` is a path\nwrite the resource's name with dots: {}",
            text.trim_matches('/').replace('/', ".")
        ));
    }
    Pattern::parse(text).map_err(|error| error.to_string())
}

/// Levels as written: words or letters, or a preset of Carta. `none` is the empty set, a deny; `nothing` is
/// [`Levels::BLANK`].
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn levels_of(text: &str) -> Result<Levels, String> {
    match text {
        "None" => Ok(Levels::NONE),
        "nothing" => Ok(Levels::BLANK),
        "Guest" => Ok(Levels::READ),
        "User" => Ok(Levels::READ | Levels::EXECUTE),
        "Editor" => Ok(Levels::READ | Levels::WRITE | Levels::EXECUTE),
        "Owner" => Err("ownership is not a grant: each resource has exactly one owner\n\
                        the owner passes it on by the API: PUT /permissions/{id}/{user}?role=Owner"
            .to_owned()),
        text if text.chars().all(|character| matches!(character, ',' | ' ')) => {
            Err(format!("`{text}` names no level\nwrite `none` to deny"))
        }
        text => text.parse().map_err(|error: UnknownLevel| {
            format!(
                "{error}\nor a preset: Guest (read), User (read, execute), Editor (read, write, execute), none (deny)"
            )
        }),
    }
}

/// A moment as written: RFC 3339, or a duration from now (`30d`, `8h`).
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return if at > now { Ok(at) } else { Err(format!("`{text}` is in the past")) };
    }
    let after = duration(text).map_err(|_| {
        format!(
            "`{text}` is no time\nwrite a duration from now such as 30d or 8h, or a time such as 2027-01-31T12:00:00Z"
        )
    })?;
    now.checked_add(after).map_err(|_| format!("`{text}` is too far away"))
}

/// A duration as written, longer than nothing: `90s`, `8h`, `30d`.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > Duration::ZERO => Ok(duration),
        Ok(_) => Err(format!("`{text}` is no time at all")),
        Err(error) => Err(format!("`{text}` is no duration: {error}\nwrite such as 90s, 15m, 8h, 30d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_with_colons_in_group_names_and_bare_user_names() {
        for (text, read) in [
            ("bob", Written::User("bob".into())),
            ("user:bob", Written::User("bob".into())),
            ("group:Org:Name", Written::Group("Org:Name".into())),
            ("role:Analyst", Written::Role("Analyst".into())),
            ("everyone", Written::Everyone),
            ("user:everyone", Written::User("everyone".into())),
            ("holders:same:a.b", Written::Same(Pattern::parse("a.b").unwrap())),
            ("itself:a.b", Written::Itself(Pattern::parse("a.b").unwrap())),
            (
                "holders:read,execute:a.b",
                Written::Holders(Levels::READ | Levels::EXECUTE, Pattern::parse("a.b").unwrap()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(read), "{text}");
        }
        for text in ["", "user:", "team:x", "holders:read", "holders::a", "holders:none:a"] {
            assert!(text.parse::<Written>().is_err(), "{text}");
        }
    }

    #[test]
    fn presets_words_and_letters_name_levels_and_nothing_else_does() {
        assert_eq!(levels_of("Guest"), Ok(Levels::READ));
        assert_eq!(levels_of("User"), Ok(Levels::READ | Levels::EXECUTE));
        assert_eq!(levels_of("Editor"), Ok(Levels::READ | Levels::WRITE | Levels::EXECUTE));
        assert_eq!(levels_of("None"), Ok(Levels::NONE));
        assert_eq!(levels_of("execute"), Ok(Levels::EXECUTE));
        assert_eq!(levels_of("none"), Ok(Levels::NONE));
        assert_eq!(levels_of("nothing"), Ok(Levels::BLANK));
        for text in ["", " ", ",", "Owner", "superuser", "nothing,read", "read nothing"] {
            assert!(levels_of(text).is_err(), "{text}");
        }
        assert!(levels_of("Owner").unwrap_err().starts_with("ownership is not a grant"));
    }

    #[test]
    fn a_subject_is_written_as_it_is_read() {
        for text in [
            "user:bob",
            "group:Org:Name",
            "role:Analyst",
            "everyone",
            "holders:read,execute:a.*.b",
            "holders:same:a.*.b",
            "itself:a.b",
        ] {
            assert_eq!(text.parse::<Written>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_login_name_reads_as_nobody_else() {
        assert!(can_be_login("bob@example.com"));
        for name in ["", "everyone", "a/b", "role:x", ":", "/"] {
            assert!(!can_be_login(name), "{name}");
        }
    }

    #[test]
    fn a_resource_is_written_with_dots_and_a_path_is_told_how() {
        assert_eq!(resource_of("a.*.b"), Ok(Pattern::parse("a.*.b").unwrap()));
        assert!(resource_of("/a/b/").unwrap_err().ends_with("write the resource's name with dots: a.b"));
        assert!(resource_of("a.%zz").is_err());
    }

    #[test]
    fn a_moment_is_never_in_the_past() {
        let now: Timestamp = "2026-11-22T07:00:00Z".parse().unwrap();
        assert_eq!(moment("1d", now), Ok("2026-11-23T07:00:00Z".parse().unwrap()));
        assert!(moment("2026-11-22T06:59:59Z", now).is_err());
        assert!(moment("2026-11-22T07:00:00Z", now).is_err(), "what ends now has ended");
        assert_eq!(moment("2026-11-22T07:00:01Z", now), Ok("2026-11-22T07:00:01Z".parse().unwrap()));
        assert!(moment("0s", now).is_err());
        assert!(moment("tomorrow", now).is_err());
    }
}

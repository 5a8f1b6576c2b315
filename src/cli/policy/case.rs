//! One line of `policy eval`: a policy, and questions about it.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::world::World;
use crate::policy::{Grant, Levels, NameError, Pattern, Subject, UserId, dialect};

/// A line as it is meant.
pub(super) struct Case {
    pub(super) world: World,
    /// What each row gives, in grainy's masks.
    pub(super) masks: HashMap<(Subject, Pattern), i128>,
    pub(super) questions: Vec<Question>,
    /// When the questions are asked; none: now.
    pub(super) now: Option<Timestamp>,
}

/// One question.
pub(super) struct Question {
    pub(super) user: UserId,
    pub(super) resource: Asked,
    /// In grainy's masks.
    pub(super) level: i128,
    pub(super) explicit: bool,
    /// Whether all of the level is needed, or any of it.
    pub(super) all: bool,
}

/// What a question is about.
pub(super) enum Asked {
    /// Text, in which whole keys may be `?`.
    Text(String),
    /// Opaque keys.
    Keys(Vec<String>),
}

#[derive(Deserialize)]
struct Line {
    dialect: Option<String>,
    now: Option<String>,
    #[serde(default)]
    users: Vec<UserLine>,
    #[serde(default)]
    owners: Vec<(String, Name)>,
    #[serde(default)]
    grants: Vec<GrantLine>,
    queries: Vec<QueryLine>,
}

#[derive(Deserialize)]
struct UserLine {
    name: String,
    role: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
struct GrantLine {
    subject: String,
    resource: Name,
    levels: Box<RawValue>,
    expires: Option<String>,
}

#[derive(Deserialize)]
struct QueryLine {
    user: String,
    resource: Name,
    level: Box<RawValue>,
    #[serde(default)]
    explicit: bool,
    #[serde(default)]
    all: bool,
}

/// A resource's name.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a resource is a dotted text or a list of keys")]
enum Name {
    Text(String),
    Keys(Vec<String>),
}

/// How levels are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Strict,
    Grainy,
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it first.
pub(super) fn read(line: &str) -> Result<Case, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let dialect = match line.dialect.as_deref() {
        None => Dialect::Strict,
        Some("grainy") => Dialect::Grainy,
        Some(other) => return Err(format!("unknown dialect `{other}`\nwrite `grainy`, or leave it out")),
    };
    let mut case = Case {
        world: World::default(),
        masks: HashMap::new(),
        questions: Vec::new(),
        now: line.now.as_deref().map(moment).transpose()?,
    };
    let mut listed = HashSet::new();
    for user in &line.users {
        if !listed.insert(&user.name) {
            return Err(format!("the user `{}` is listed twice", user.name));
        }
        let id = case.world.user(&user.name);
        let role = user.role.as_deref().unwrap_or_default();
        case.world.enlist(id, role, user.groups.iter().map(String::as_str));
    }
    for (user, resource) in &line.owners {
        let user = case.world.user(user);
        let name = resource.literal()?;
        let shown = name.to_string();
        if !case.world.own(name, user) {
            return Err(format!("`{shown}` has two owners\na resource has exactly one"));
        }
    }
    for grant in &line.grants {
        case.give(grant, dialect)?;
    }
    for query in line.queries {
        let user = case.world.user(&query.user);
        case.questions.push(Question {
            user,
            resource: query.resource.into(),
            level: levels(&query.level, dialect)?,
            explicit: query.explicit,
            all: query.all,
        });
    }
    Ok(case)
}

impl Case {
    fn give(&mut self, line: &GrantLine, dialect: Dialect) -> Result<(), String> {
        let subject = subject(&line.subject, &mut self.world)?;
        let pattern = line.resource.pattern().map_err(|error| error.to_string())?;
        // A row may be blank; no question asks for that.
        let blank = dialect != Dialect::Grainy && line.levels.get() == r#""nothing""#;
        let mask = if blank { 0 } else { levels(&line.levels, dialect)? };
        let levels = if blank { Levels::BLANK } else { dialect::mask(mask) };
        let expires = line.expires.as_deref().map(moment).transpose()?;
        self.masks.insert((subject.clone(), pattern.clone()), mask);
        self.world.grant(Grant { subject, pattern, levels, expires });
        Ok(())
    }
}

impl Name {
    /// What a row is on: `*` in a text stands for any one key.
    fn pattern(&self) -> Result<Pattern, NameError> {
        match self {
            Self::Text(text) => dialect::pattern(text),
            Self::Keys(keys) => Pattern::literal(keys.iter().map(String::as_str)),
        }
    }

    /// Exactly this resource: `*` in a text is a key like any other.
    fn literal(&self) -> Result<Pattern, String> {
        match self {
            Self::Text(text) => Pattern::literal(dialect::keys(text)),
            Self::Keys(keys) => Pattern::literal(keys.iter().map(String::as_str)),
        }
        .map_err(|error| error.to_string())
    }
}

impl From<Name> for Asked {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => Self::Text(text),
            Name::Keys(keys) => Self::Keys(keys),
        }
    }
}

fn subject(text: &str, world: &mut World) -> Result<Subject, String> {
    const WRITE: &str = "write user:NAME, role:NAME, group:NAME, everyone, or holders:LEVEL:RESOURCE";
    if text == "everyone" {
        return Ok(Subject::Everyone);
    }
    let (kind, name) = text.split_once(':').ok_or_else(|| format!("`{text}` is no subject\n{WRITE}"))?;
    if name.is_empty() {
        return Err(format!("`{text}` names nobody\n{WRITE}"));
    }
    match kind {
        "user" => Ok(Subject::User(world.user(name))),
        "role" => Ok(Subject::Role(name.into())),
        "group" => Ok(Subject::Group(world.group(name))),
        "holders" => {
            let (levels, resource) =
                name.split_once(':').ok_or_else(|| format!("`{text}` names no resource\n{WRITE}"))?;
            if levels == "same" {
                return Ok(Subject::Same(world.resource(Name::Text(resource.to_owned()).literal()?)));
            }
            let levels: Levels = levels.parse().map_err(|error: crate::policy::UnknownLevel| error.to_string())?;
            if levels.is_empty() {
                return Err(format!("`{text}` names no level: holders of nothing would be nobody"));
            }
            let resource = Name::Text(resource.to_owned()).literal()?;
            Ok(Subject::Holders(levels, world.resource(resource)))
        }
        _ => Err(format!("unknown kind of subject `{kind}`\n{WRITE}")),
    }
}

/// Letters, words, a list of them, or a number. grainy ignores letters that it does not know and takes any number.
fn levels(raw: &RawValue, dialect: Dialect) -> Result<i128, String> {
    let strict = |text: &str| text.parse::<Levels>().map_err(|error| error.to_string());
    let json = raw.get();
    match json.bytes().next() {
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let levels = if dialect == Dialect::Grainy { dialect::flags(&text) } else { strict(&text)? };
            Ok(levels.bits().into())
        }
        Some(b'[') => {
            let words: Vec<String> = serde_json::from_str(json).map_err(|_| {
                format!("`{}` is no list of levels\nwrite such as [\"read\", \"execute\"]", short(json))
            })?;
            let levels = words.iter().try_fold(Levels::NONE, |all, word| Ok::<_, String>(all | strict(word)?))?;
            Ok(levels.bits().into())
        }
        Some(b'-' | b'0'..=b'9') => {
            let mask: i128 = json.parse().map_err(|_| {
                format!("`{}` is no mask\nwrite a whole number; more than 127 bits are not kept", short(json))
            })?;
            if dialect == Dialect::Strict && !(0..=127).contains(&mask) {
                return Err(format!("the mask `{mask}` has bits that are no level\nwrite 0 to 127"));
            }
            Ok(mask)
        }
        _ => Err(format!("`{}` is no level\nwrite letters of `crud`, words, a list of words or a mask", short(json))),
    }
}

/// ISO 8601; without a zone it is UTC.
fn moment(text: &str) -> Result<Timestamp, String> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse()
        .ok()
        .or_else(local)
        .ok_or_else(|| format!("`{}` is no time\nwrite such as 2027-01-31T12:00:00Z", short(text)))
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

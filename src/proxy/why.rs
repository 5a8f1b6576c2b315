//! Why a call is decided as it is, told: an explanation with names in the place of ids, as JSON for answers and as lines
//! for the terminal. Every door that explains tells it from here.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::identity::Directory;
use crate::policy::{
    Beaten, Because, Explanation, Grant, Levels, Pattern, ResourceId, Snapshot, Subject, UserId, Winner,
};
use crate::shell::word;

/// How many of those who could give what is missing are named.
const GIVERS: usize = 20;

/// How many grants a list shows.
const SHOWN: usize = 200;

/// What ids are called.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Knows the resources.
    pub policy: &'a Snapshot,
    /// Knows users and groups.
    pub directory: &'a Directory,
}

/// How much somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything: for the owner of the resource and for who has admin on it.
    Full,
    /// What concerns the caller alone, without anybody's grants and without who else has admin.
    Own,
}

/// An explanation, ready to be told.
#[derive(Debug)]
pub struct Why<'a> {
    names: Names<'a>,
    told: &'a Explanation,
    resource: String,
    /// Beside the owner.
    givers: Vec<String>,
    /// Or maybe: not every grant is looked at.
    more_givers: bool,
}

impl View {
    /// How much the user may see of decisions about the resource of these keys.
    #[must_use]
    pub fn of(policy: &Snapshot, user: UserId, keys: &[&str], now: Timestamp) -> Self {
        let full = policy.owner(keys) == Some(user) || policy.may_administer(user, keys, now).is_ok();
        if full { Self::Full } else { Self::Own }
    }
}

/// What the caller may see of an explanation that was told in full.
#[must_use]
pub fn own(mut told: Value) -> Value {
    if let Some(members) = told.as_object_mut() {
        members.retain(|member, _| !matches!(member.as_str(), "deciding" | "beaten" | "who_can_give_more"));
        let owner = members.get("owner").and_then(Value::as_str).map(|owner| format!("user:{owner}"));
        members.insert("who_can_give".to_owned(), owner.into_iter().collect());
    }
    told
}

/// From how many keys on, down to the resource, the user is the owner.
#[must_use]
pub fn owned(policy: &Snapshot, user: UserId, keys: &[&str]) -> Option<usize> {
    let owns = |count: &usize| keys.get(..*count).and_then(|keys| policy.owner(keys)) == Some(user);
    (1..=keys.len()).rev().take_while(owns).last()
}

/// The resource's name as people write it.
#[must_use]
pub fn resource(keys: &[&str]) -> String {
    Pattern::literal(keys.iter().copied()).map(|name| name.to_string()).unwrap_or_default()
}

/// The word for a set of levels, as commands read it: `none` for the empty one, `nothing` for a blank one.
#[must_use]
pub fn levels(levels: Levels) -> String {
    let words: Vec<&str> = levels.words().collect();
    if words.is_empty() { levels.to_string() } else { words.join(",") }
}

impl Names<'_> {
    /// The login name, or the id of one who is gone.
    #[must_use]
    pub fn user(&self, id: UserId) -> String {
        self.directory.by_id(id).map_or_else(|| id.to_string(), |account| account.name.to_string())
    }

    /// The subject as commands read it: `user:bob`, `group:Org:Name`, `role:Analyst`, `everyone`,
    /// `holders:read:materials`.
    #[must_use]
    pub fn subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::User(id) => format!("user:{}", self.user(*id)),
            Subject::Group(id) => {
                let known = self.directory.group(*id);
                format!("group:{}", known.map_or_else(|| id.to_string(), |group| group.name.clone()))
            }
            Subject::Role(name) => format!("role:{name}"),
            Subject::Everyone => "everyone".to_owned(),
            Subject::Holders(of, id) => format!("holders:{}:{}", levels(*of), self.resource(*id)),
            Subject::Same(id) => format!("holders:same:{}", self.resource(*id)),
            Subject::Itself(id) => format!("itself:{}", self.resource(*id)),
        }
    }

    /// The grant as an object: `subject`, `resource`, `levels`, `expires` where it does.
    #[must_use]
    pub fn grant(&self, grant: &Grant) -> Value {
        let mut shown = Map::new();
        shown.insert("subject".to_owned(), self.subject(&grant.subject).into());
        shown.insert("resource".to_owned(), grant.pattern.to_string().into());
        shown.insert("levels".to_owned(), levels(grant.levels).into());
        if let Some(end) = grant.expires {
            shown.insert("expires".to_owned(), end.to_string().into());
        }
        Value::Object(shown)
    }

    /// The grants on the resource of these keys and on what is above it, from `from` keys on.
    #[must_use]
    pub fn grants(&self, keys: &[&str], from: usize) -> Value {
        let names = (from..=keys.len()).filter_map(|count| Pattern::literal(keys.get(..count)?.iter().copied()).ok());
        names
            .flat_map(|name| self.policy.grants_on(&name).take(SHOWN).collect::<Vec<_>>())
            .take(SHOWN)
            .map(|grant| self.grant(&grant))
            .collect()
    }

    fn resource(&self, id: ResourceId) -> String {
        self.policy.name_of(id).to_string()
    }

    /// What the decision rests on.
    #[must_use]
    pub fn reason(&self, told: &Explanation) -> String {
        let user = self.user(told.user);
        match told.because {
            Because::Owner => format!("{user} owns it"),
            Because::Granted => "grants give what is needed".to_owned(),
            Because::OwnDeny => format!("{user} is denied in person, and that is final"),
            Because::Deny => "a deny binds, and no deeper grant gives what is needed".to_owned(),
            Because::TooLittle if told.held.is_empty() => format!("what covers it for {user} gives nothing"),
            Because::TooLittle => format!("{user} has {} only", told.held),
            Because::Nothing => format!("no grant covers it for {user}"),
        }
    }

    /// The grant that did not count as a sentence, with what beat it.
    #[must_use]
    pub fn beaten(&self, beaten: &Beaten) -> String {
        format!("{} ({})", self.sentence(&beaten.grant), winner(beaten.by).1)
    }

    /// The grant as a sentence.
    #[must_use]
    pub fn sentence(&self, grant: &Grant) -> String {
        let subject = match &grant.subject {
            Subject::Holders(of, id) => format!("whoever holds {of} on {}", self.resource(*id)),
            Subject::Same(id) => format!("whoever holds the same on {}", self.resource(*id)),
            Subject::Itself(id) => format!("{} itself", self.resource(*id)),
            other => self.subject(other).replacen(':', " ", 1),
        };
        let gives =
            if grant.levels.is_empty() { "is denied everything".to_owned() } else { format!("has {}", grant.levels) };
        let until = grant.expires.map(|at| format!(" until {at}")).unwrap_or_default();
        format!("{subject} {gives} on {}{until}", grant.pattern)
    }
}

impl<'a> Why<'a> {
    /// Prepares to tell the explanation, which is about the resource of these keys at `now`.
    #[must_use]
    pub fn of(names: Names<'a>, told: &'a Explanation, keys: &[&str], now: Timestamp) -> Self {
        let found = names.policy.administering(keys, GIVERS, now);
        let mut givers = Vec::new();
        for giver in found.subjects.iter().map(|subject| names.subject(subject)) {
            // Users may be of one name.
            if !givers.contains(&giver) {
                givers.push(giver);
            }
        }
        Self { names, told, resource: resource(keys), givers, more_givers: found.more }
    }

    /// The explanation as an object.
    #[must_use]
    pub fn json(&self, view: View) -> Value {
        let told = self.told;
        let mut said = json!({
            "decision": self.decision(),
            "user": self.names.user(told.user),
            "need": levels(told.need),
            "held": levels(told.held),
            "resource": self.resource,
            "because": slug(told.because),
            "reason": self.names.reason(told),
            "owner": told.owner.map(|owner| self.names.user(owner)),
            "who_can_give": self.givers(view),
        });
        let Some(members) = said.as_object_mut() else { return said };
        if self.more_givers && view == View::Full {
            members.insert("who_can_give_more".to_owned(), true.into());
        }
        if let Some(change) = &told.smallest_change {
            let mut shown = self.names.grant(change);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("command".to_owned(), self.command(change).into());
            }
            members.insert("smallest_change".to_owned(), shown);
        }
        if view == View::Full {
            let deciding = told.deciding.iter().take(SHOWN).map(|grant| self.names.grant(grant));
            members.insert("deciding".to_owned(), deciding.collect());
            let beaten = told.beaten.iter().take(SHOWN).map(|beaten| {
                let mut shown = self.names.grant(&beaten.grant);
                if let Some(shown) = shown.as_object_mut() {
                    shown.insert("beaten_by".to_owned(), winner(beaten.by).0.into());
                    shown.insert("why".to_owned(), winner(beaten.by).1.into());
                }
                shown
            });
            members.insert("beaten".to_owned(), beaten.collect());
        }
        said
    }

    fn decision(&self) -> &'static str {
        if self.told.allowed { "allowed" } else { "refused" }
    }

    /// Who could give what is missing, the owner first, as subjects; who else has admin is told by grants of others.
    fn givers(&self, view: View) -> Vec<String> {
        let owner = self.told.owner.map(|owner| self.names.subject(&Subject::User(owner)));
        let others = self.givers.iter().filter(|_| view == View::Full).cloned();
        owner.into_iter().chain(others).collect()
    }

    /// The line that makes the change, to paste into a shell. Most of it is what the refused caller wrote: the subject
    /// says of what kind it is, so that no name is read as everybody.
    #[must_use]
    pub fn command(&self, change: &Grant) -> String {
        let (subject, resource) = (self.names.subject(&change.subject), change.pattern.to_string());
        format!("carta-gateway grant {} {} {}", word(&subject), word(&resource), levels(change.levels))
    }
}

/// The explanation for the terminal, in lines that each end.
impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.told;
        writeln!(f, "{}: {}", self.decision(), self.names.reason(told))?;
        for grant in &told.deciding {
            writeln!(f, "  decides: {}", self.names.sentence(grant))?;
        }
        for beaten in &told.beaten {
            writeln!(f, "  does not count: {}", self.names.beaten(beaten))?;
        }
        let more = if self.more_givers { ", …" } else { "" };
        let admins = match self.givers.as_slice() {
            [] => String::new(),
            givers => format!(": {}{more}", givers.join(", ")),
        };
        match told.owner {
            Some(owner) => {
                let owner = self.names.user(owner);
                writeln!(f, "who can change it: {owner}, the owner, and whoever has admin on it{admins}")?;
            }
            None => {
                writeln!(
                    f,
                    "who can change it: whoever has admin on it{admins}, and `carta-gateway grant`; nobody owns it"
                )?;
            }
        }
        match told.smallest_change.as_ref().filter(|_| !told.allowed) {
            Some(change) => writeln!(f, "to allow it: {}", self.command(change)),
            None => Ok(()),
        }
    }
}

fn slug(because: Because) -> &'static str {
    match because {
        Because::Owner => "owner",
        Because::Granted => "granted",
        Because::OwnDeny => "own-deny",
        Because::Deny => "deny",
        Because::TooLittle => "too-little",
        Because::Nothing => "nothing",
    }
}

/// What beat a grant: the word, and the reason.
fn winner(by: Winner) -> (&'static str, &'static str) {
    match by {
        Winner::Nearer => ("nearer", "a nearer grant of the same subject counts"),
        Winner::Deny => ("deny", "a deny at the same name or deeper binds"),
        Winner::OwnDeny => ("own-deny", "the user's own deny is final"),
        Winner::Deeper => ("deeper", "something deeper counts"),
        Winner::Owner => ("owner", "the owner needs no grant"),
    }
}

//! A file of policy tests: who and what it declares, and that it names nothing else.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use http::{Method, Uri};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::super::decode::decode;
use super::super::fault::{Complaint, nearest, shown};
use super::super::reference::References;
use super::super::scenario::{Asked, Assertion, Decider, NamedGrant, Person, Scenario};
use super::super::scenario_file::{AssertFile, ExpectFile, GrantFile, OwnerFile, ScenarioFile};
use super::super::service_file::{BaseUrlFile, ServiceFile};
use super::super::syntax::Document;
use super::super::written::TextOrList;
use super::super::{Faults, Hidden, Service, value};
use super::scope::{Ground, Scope};
use super::{finish, read_text, service};
use crate::policy::written::Written;
use crate::policy::{Levels, Pattern};

type Read<T> = Result<T, Complaint>;

/// 2000-01-01: questions that name no time are asked then, so that no test depends on the day on which it runs.
const THEN: i64 = 946_684_800;

/// Reads a file of policy tests.
///
/// # Errors
/// Everything that is wrong with it, at once, in the order of the file.
pub fn load_scenario(path: &Path) -> Result<Scenario, Faults> {
    let text = read_text(path, "cannot read the file", "name a file of policy tests")?;
    parse_scenario(&text, path)
}

/// Reads the policy of a file of policy tests, which need not expect anything of it.
///
/// # Errors
/// As for [`load_scenario`].
pub fn load_policy(path: &Path) -> Result<Scenario, Faults> {
    let text = read_text(path, "cannot read the file", "name a file in the form of policy tests")?;
    read(&text, path, false)
}

/// Reads the text of a file of policy tests as if it stood in the file `path`.
///
/// # Errors
/// As for [`load_scenario`].
pub fn parse_scenario(text: &str, path: &Path) -> Result<Scenario, Faults> {
    read(text, path, true)
}

fn read(text: &str, path: &Path, expects: bool) -> Result<Scenario, Faults> {
    let mut document = Document::read(text, path);
    let mut excused = HashSet::new();
    let (file, misread) = decode::<ScenarioFile>(&mut document.tree, &mut excused);
    let ground = Ground {
        tree: &document.tree,
        source: Some((path, text)),
        references: References::Refused,
        excused,
        broken: !document.faults.is_empty(),
        faults: RefCell::new(Vec::new()),
    };
    ground.report(misread);
    let scenario = file.and_then(|file| scenario(&ground.root(), file, expects));
    let mut faults = ground.faults.into_inner();
    faults.retain(|fault| !document.explains(fault));
    faults.extend(document.faults);
    finish(scenario, faults)
}

/// What the file declares.
struct Declared {
    users: Vec<Person>,
    groups: HashSet<String>,
    roles: HashSet<String>,
}

fn scenario(root: &Scope<'_>, mut file: ScenarioFile, expects: bool) -> Option<Scenario> {
    file.service.iter_mut().for_each(keep_what_decides);
    let now = root.may("now", file.now.as_ref(), moment);
    let declared = declared(root, &file);
    // Without the names every other fault would be one that follows.
    let declared = declared?;
    let services = service::services(root, &file.service);
    let owners = owners(root, &file, &declared);
    let grants = root.each("grant", &file.grant, |here, file| grant(here, file, &declared));
    let now = now.map(|now| now.or_else(|| Timestamp::from_second(THEN).ok()).unwrap_or_default());
    let assertions = root.each("assert", &file.assert, |here, file| {
        assertion(here, file, &declared, services.as_deref().unwrap_or_default(), now?)
    });
    if expects && file.assert.is_empty() {
        root.key("assert").missing("write what is expected: `[[assert]]`");
        return None;
    }
    Some(Scenario {
        users: declared.users,
        owners: owners?,
        services: services?,
        grants: grants?,
        assertions: assertions?,
        now: now?,
    })
}

/// A service can be copied from `gateway.toml` as it is: what is only needed to call it is not looked at.
fn keep_what_decides(file: &mut ServiceFile) {
    *file = ServiceFile {
        namespace: file.namespace.take(),
        name: file.name.take(),
        base_url: Some(BaseUrlFile::One(Hidden::new("http://127.0.0.1".to_owned()))),
        owner: file.owner.take(),
        level: file.level.take(),
        unmatched: file.unmatched.take(),
        public: std::mem::take(&mut file.public),
        operation: std::mem::take(&mut file.operation),
        ..ServiceFile::default()
    };
}

fn declared(root: &Scope<'_>, file: &ScenarioFile) -> Option<Declared> {
    let mut seen = HashSet::new();
    let users = root.each("user", &file.user, |here, file| {
        let name = here.need("name", file.name.as_ref(), "write `name = \"…\"`", value::label)?;
        if !seen.insert(name.clone()) {
            here.key("name").fault(format!("the user `{name}` is there twice"), "write each user once");
        }
        let role = here.may("role", file.role.as_ref(), value::label)?.unwrap_or_default();
        let groups = here.each("groups", &file.groups, |here, name| here.accept(value::label(name)))?;
        Some(Person { name, role, groups })
    });
    let mut users = users?;
    let mut groups: HashSet<String> = users.iter().flat_map(|user| user.groups.clone()).collect();
    let known: Vec<String> = users.iter().map(|user| user.name.clone()).collect();
    let read = root.each("group", &file.group, |here, file| {
        let name = here.need("name", file.name.as_ref(), "write `name = \"Org:Name\"`", value::label)?;
        for (index, member) in file.members.iter().enumerate() {
            let here = here.key("members").index(index);
            if here.accept(known_name("user", member, known.iter().map(String::as_str))).is_some()
                && let Some(user) = users.iter_mut().find(|user| user.name == *member)
            {
                user.groups.push(name.clone());
            }
        }
        groups.insert(name);
        Some(())
    });
    read?;
    let extra = root.each("roles", &file.roles, |here, name| here.accept(value::label(name)))?;
    let roles = users.iter().map(|user| user.role.clone()).filter(|role| !role.is_empty()).chain(extra).collect();
    Some(Declared { users, groups, roles })
}

/// Owners as they are written, of services, and of the namespaces of services: a namespace that nobody else is said to
/// own belongs to the owner of the first service in it, as the gateway makes it.
fn owners(root: &Scope<'_>, file: &ScenarioFile, declared: &Declared) -> Option<Vec<(Pattern, String)>> {
    let mut owners: Vec<(Pattern, String)> = Vec::new();
    let written = root.each("owner", &file.owner, |here, file: &OwnerFile| {
        let name = name(here, "resource", file.resource.as_ref(), Some("write `resource = \"…\"`"));
        let user = user(here, file.user.as_ref(), declared);
        let (name, user) = (name??, user?);
        if !name.is_literal() {
            here.key("resource").fault("a pattern has no owner", "write the name of one resource");
        }
        Some((name, user))
    })?;
    let services = root.each("service", &file.service, |here, file: &ServiceFile| {
        let owner = file.owner.as_deref()?;
        here.key("owner").accept(known_name("user", owner, names(declared)))?;
        let (namespace, name) = (file.namespace.as_deref()?, file.name.as_deref()?);
        Some((Pattern::literal([namespace, name]).ok()?, Pattern::literal([namespace]).ok()?, owner.to_owned()))
    })?;
    for (index, (name, user)) in written.into_iter().enumerate() {
        if owners.iter().any(|(known, _)| *known == name) {
            let here = root.key("owner").index(index).key("resource");
            here.fault(format!("`{name}` has two owners"), "a resource has exactly one owner");
        }
        owners.push((name, user));
    }
    for (index, (service, namespace, owner)) in services.into_iter().enumerate() {
        if owners.iter().any(|(known, _)| *known == service) {
            let here = root.key("service").index(index).key("owner");
            here.fault(format!("`{service}` has two owners"), "leave its [[owner]] out: the service names its own");
        }
        if !owners.iter().any(|(known, _)| *known == namespace) {
            owners.push((namespace, owner.clone()));
        }
        owners.push((service, owner));
    }
    Some(owners)
}

fn grant(here: &Scope<'_>, file: &GrantFile, declared: &Declared) -> Option<NamedGrant> {
    let subject = here.need("subject", file.subject.as_ref(), SUBJECTS, |text| subject(text, declared));
    let pattern = name(here, "resource", file.resource.as_ref(), Some("write `resource = \"…\"`"));
    let levels = match &file.levels {
        Some(written) => here.key("levels").accept(given(written)),
        None => {
            here.key("levels").missing("write `levels = \"…\"`, `none` for a deny");
            None
        }
    };
    let expires = here.may("expires", file.expires.as_ref(), moment);
    let grant = NamedGrant { subject: subject?, pattern: pattern??, levels: levels?, expires: expires? };
    if grant.levels.is_empty() && matches!(grant.subject, Written::Holders(..) | Written::Same(_)) {
        here.key("levels").fault("holders of another resource take no deny", "deny users, groups, a role or everyone");
    }
    Some(grant)
}

fn assertion(
    here: &Scope<'_>,
    file: &AssertFile,
    declared: &Declared,
    services: &[Service],
    now: Timestamp,
) -> Option<Assertion> {
    let user = user(here, file.user.as_ref(), declared);
    let question = question(here, file, services);
    let by = here.may("by", file.by.as_ref(), |text| decider(text, declared));
    let at = here.may("now", file.now.as_ref(), moment);
    let Some(expect) = file.expect else {
        here.key("expect").missing("write `expect = \"allow\"` or `expect = \"deny\"`");
        return None;
    };
    Some(Assertion {
        name: file.name.clone().unwrap_or_default(),
        place: here.place(),
        user: user?,
        question: question?,
        allow: matches!(expect, ExpectFile::Allow),
        by: by?,
        now: at?.unwrap_or(now),
    })
}

/// Levels on a resource, or a call.
fn question(here: &Scope<'_>, file: &AssertFile, services: &[Service]) -> Option<Asked> {
    let level = match &file.level {
        Some(written) => Some(here.key("level").accept(needed(written))?),
        None => None,
    };
    let resource = name(here, "resource", file.resource.as_ref(), None)?;
    match (resource, &file.path) {
        (Some(_), Some(_)) => {
            here.key("path")
                .fault("a call says itself what it is about", "leave `resource` out, or `method` and `path`");
            None
        }
        (Some(name), None) => {
            if file.method.is_some() {
                here.key("method").fault("a resource has no methods", "leave it out, or ask about a `path`");
            }
            if level.is_none() {
                here.key("level").missing("write `level = \"…\"`: what is asked for");
            }
            Some(Asked::Levels(name, level?))
        }
        (None, Some(path)) => {
            let method = here.need("method", file.method.as_ref(), "write `method = \"GET\"`", |text| {
                text.parse::<Method>()
                    .ok()
                    .filter(|_| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()))
                    .ok_or_else(|| Complaint::new(format!("{} is no method", shown(text)), "write such as `GET`"))
            });
            let path = here.key("path").accept(call_path(path, services));
            Some(Asked::Call(method?, path?, level))
        }
        (None, None) => {
            here.key("resource").missing("write `resource` and `level`, or `method` and `path`: what is asked for");
            None
        }
    }
}

fn call_path(text: &str, services: &[Service]) -> Read<Uri> {
    const WRITE: &str = "write it as at the proxy's address: /NAMESPACE/SERVICE/…";
    let uri = Uri::try_from(text)
        .ok()
        .filter(|uri| uri.authority().is_none() && text.starts_with('/'))
        .ok_or_else(|| Complaint::new(format!("{} is no path", shown(text)), WRITE))?;
    let mut segments = uri.path().split('/').skip(1);
    let place = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    if services.iter().any(|service| (service.namespace.as_str(), service.name.as_str()) == place) {
        return Ok(uri);
    }
    let labels: Vec<String> =
        services.iter().map(|service| format!("/{}/{}", service.namespace, service.name)).collect();
    let near = nearest(&format!("/{}/{}", place.0, place.1), labels.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    Err(Complaint::new(
        format!("there is no service `{}/{}` in this file", place.0, place.1),
        format!("{near}declare it as [[service]], and {WRITE}"),
    ))
}

/// The name under a key. The outer `None` is a fault; the inner one is that there is none, where `instead` allows that.
fn name(here: &Scope<'_>, key: &str, written: Option<&TextOrList>, instead: Option<&str>) -> Option<Option<Pattern>> {
    let here = here.key(key);
    match written {
        Some(written) => here.accept(pattern(written)).map(Some),
        None => match instead {
            Some(instead) => {
                here.missing(instead);
                None
            }
            None => Some(None),
        },
    }
}

/// A dotted text, or a list of keys that mean themselves.
fn pattern(written: &TextOrList) -> Read<Pattern> {
    let read = match written {
        TextOrList::Text(text) if text.contains('/') => {
            let dotted = text.trim_matches('/').replace('/', ".");
            return Err(Complaint::new(
                format!("{} is a path", shown(text)),
                format!("write the resource's name with dots, `{dotted}`, or as a list of keys"),
            ));
        }
        TextOrList::Text(text) => Pattern::parse(text),
        TextOrList::List(keys) => Pattern::literal(keys.iter().map(String::as_str)),
    };
    read.map_err(|error| Complaint::new(error.to_string(), "write keys joined by dots, or a list of keys"))
}

/// What a grant gives: words, letters of `crud`, or a preset of Carta's.
fn given(written: &TextOrList) -> Read<Levels> {
    match written {
        TextOrList::Text(text) => match text.as_str() {
            "Guest" => Ok(Levels::READ),
            "User" => Ok(Levels::READ | Levels::EXECUTE),
            "Editor" => Ok(Levels::READ | Levels::WRITE | Levels::EXECUTE),
            "None" | "none" => Ok(Levels::NONE),
            "nothing" => Ok(Levels::BLANK),
            "Owner" => Err(Complaint::new("ownership is not a grant", "write it as [[owner]]")),
            "" => Err(Complaint::new("an empty text is no level", "write `none` for a deny")),
            text => value::levels(text),
        },
        TextOrList::List(words) => words.iter().try_fold(Levels::NONE, |all, word| Ok(all | value::levels(word)?)),
    }
}

/// What a question asks for.
fn needed(written: &TextOrList) -> Read<Levels> {
    match written {
        TextOrList::Text(text) => value::levels(text),
        TextOrList::List(words) if !words.is_empty() => given(written),
        TextOrList::List(_) => Err(Complaint::new("a question for nothing", "write at least one level")),
    }
}

const SUBJECTS: &str =
    "write `user:NAME`, `group:NAME`, `role:NAME`, `everyone` or `holders:LEVELS:RESOURCE`, of names in this file";

fn subject(text: &str, declared: &Declared) -> Read<Written> {
    if text == "everyone" {
        return Ok(Written::Everyone);
    }
    let no_subject = || Complaint::new(format!("{} is no subject", shown(text)), SUBJECTS);
    let (kind, name) = text.split_once(':').ok_or_else(no_subject)?;
    match kind {
        "user" => known_name("user", name, names(declared)).map(Written::User),
        "group" => known_name("group", name, declared.groups.iter().map(String::as_str)).map(Written::Group),
        "role" => known_name("role", name, declared.roles.iter().map(String::as_str)).map(Written::Role),
        "holders" => {
            let (levels, resource) = name.split_once(':').ok_or_else(no_subject)?;
            let resource = pattern(&TextOrList::Text(resource.to_owned()))?;
            if !resource.is_literal() {
                return Err(Complaint::new("a pattern has no holders", "write the name of one resource"));
            }
            if levels == "same" {
                return Ok(Written::Same(resource));
            }
            Ok(Written::Holders(value::levels(levels)?, resource))
        }
        _ => Err(no_subject()),
    }
}

fn decider(text: &str, declared: &Declared) -> Read<Decider> {
    match text {
        "owner" => Ok(Decider::Owner),
        "nothing" => Ok(Decider::Nothing),
        text => {
            let (who, name) = text.rsplit_once(" on ").ok_or_else(|| {
                Complaint::new(
                    format!("{} names no grant", shown(text)),
                    "write `SUBJECT on RESOURCE` such as `group:Staff on materials.mp`, or `owner`, or `nothing`",
                )
            })?;
            Ok(Decider::Grant(subject(who, declared)?, pattern(&TextOrList::Text(name.to_owned()))?))
        }
    }
}

fn user(here: &Scope<'_>, written: Option<&String>, declared: &Declared) -> Option<String> {
    here.need("user", written, "write `user = \"NAME\"`", |name| known_name("user", name, names(declared)))
}

fn names(declared: &Declared) -> impl Iterator<Item = &str> {
    declared.users.iter().map(|user| user.name.as_str())
}

/// A name that the file declares.
fn known_name<'k>(kind: &str, name: &str, known: impl Iterator<Item = &'k str>) -> Read<String> {
    let known: Vec<&str> = known.collect();
    if known.contains(&name) {
        return Ok(name.to_owned());
    }
    let near = nearest(name, known).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    let declare = match kind {
        "user" => "declare it: `[[user]]` with `name`",
        "group" => "declare it: in the `groups` of a user, or as `[[group]]`",
        _ => "declare it: as the `role` of a user, or in `roles`",
    };
    Err(Complaint::new(format!("there is no {kind} {} in this file", shown(name)), format!("{near}{declare}")))
}

/// RFC 3339; without a zone it is UTC.
fn moment(text: &str) -> Read<Timestamp> {
    let local = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse()
        .ok()
        .or_else(local)
        .ok_or_else(|| Complaint::new(format!("{} is no time", shown(text)), "write such as \"2027-01-31T12:00:00Z\""))
}

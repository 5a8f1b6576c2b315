//! Grants: given, taken, moved and removed with what they are on.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::Connection;

use super::{Outcome, group, missing, nodes, services, user, write};
use crate::policy::{Levels, Pattern, ResourceId, Subject, UserId};
use crate::store::sqlite::code::{micros, pattern_text};
use crate::store::sqlite::{audit, read};
use crate::store::{Grant, Group, Key, StoreError, User};

pub(super) fn put(
    connection: &Connection,
    row: crate::policy::Grant,
    by: Option<UserId>,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    subject_is_there(connection, &row.subject)?;
    // What a wildcard reaches may be owned by several, and by others.
    if let Subject::User(user) = row.subject
        && row.pattern.is_literal()
        && owner(connection, &row.pattern)? == Some(user)
    {
        let why = format!("the user owns `{}` and holds every level on it without a grant", row.pattern);
        return Err(StoreError::Refused(why));
    }
    let grant = Grant { row, by, at };
    let before = of(connection, &grant.row.subject, &grant.row.pattern)?;
    let held = |grant: &Grant| (grant.row.levels, grant.row.expires.map(micros));
    if before.as_ref().map(held) == Some(held(&grant)) {
        return Ok(Outcome::unchanged());
    }
    write_grant(connection, &grant)?;
    Ok(Outcome::changed("grant.put", grant.row.pattern.to_string())
        .about(resource(connection, &grant.row.pattern)?)
        .before(before.as_ref().map(audit::grant))
        .after(audit::grant(&grant))
        .touching([key(&grant)]))
}

/// Gives a part of a permission; what that takes is decided by what is there now.
pub(super) fn put_part(
    connection: &Connection,
    row: crate::policy::Grant,
    others: &[Subject],
    by: Option<UserId>,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let holds = |grant: &Grant| grant.row.expires.is_none_or(|end| end > at);
    let has = |name: &Pattern| of(connection, &row.subject, name).map(|grant| grant.as_ref().is_some_and(holds));
    let blank =
        |pattern| crate::policy::Grant { subject: row.subject.clone(), pattern, levels: Levels::BLANK, expires: None };
    if row.levels.is_empty() {
        let keys = row.pattern.keys();
        for length in 1..keys.len() {
            // The beginning of a name is no longer than the name.
            let above = Pattern::new(keys.iter().take(length).cloned()).unwrap_or_default();
            if has(&above)? {
                return put(connection, blank(row.pattern.clone()), by, at);
            }
        }
        return remove(connection, row.subject, row.pattern);
    }
    let mut bare = BTreeSet::new();
    for other in others {
        let below = below(connection, other, &row.pattern)?;
        bare.extend(below.into_iter().filter(holds).map(|grant| grant.row.pattern));
    }
    let mut done = put(connection, row.clone(), by, at)?;
    for name in bare {
        if !has(&name)? {
            done = done.and(put(connection, blank(name), by, at)?);
        }
    }
    Ok(done)
}

pub(super) fn take(
    connection: &Connection,
    subject: Subject,
    pattern: Pattern,
    levels: Levels,
) -> Result<Outcome, StoreError> {
    let before = of(connection, &subject, &pattern)?.ok_or_else(|| missing("grant", &pattern))?;
    let left = before.row.levels.without(levels);
    if left == before.row.levels {
        return Ok(Outcome::unchanged());
    }
    // An empty set left over would be a deny, which is more than was asked for.
    if left.is_empty() {
        return remove(connection, subject, pattern);
    }
    let after = Grant { row: crate::policy::Grant { levels: left, ..before.row.clone() }, ..before.clone() };
    write_grant(connection, &after)?;
    Ok(Outcome::changed("grant.take", pattern.to_string())
        .about(resource(connection, &pattern)?)
        .before(audit::grant(&before))
        .after(audit::grant(&after))
        .touching([key(&after)]))
}

pub(super) fn remove(connection: &Connection, subject: Subject, pattern: Pattern) -> Result<Outcome, StoreError> {
    let Some(before) = of(connection, &subject, &pattern)? else { return Ok(Outcome::unchanged()) };
    delete(connection, &before)?;
    Ok(Outcome::changed("grant.remove", pattern.to_string())
        .about(resource(connection, &pattern)?)
        .before(audit::grant(&before))
        .touching([key(&before)]))
}

/// Gives the grant, or replaces what the subject has on the pattern.
pub(super) fn write_grant(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    let statement = "INSERT OR REPLACE INTO grants (subject, pattern, levels, expires, given_by, given_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = (
        grant.row.subject.to_string(),
        pattern_text(&grant.row.pattern),
        grant.row.levels.bits(),
        grant.row.expires.map(micros),
        grant.by.map(|id| *id.0.as_bytes()),
        micros(grant.at),
    );
    write(connection, statement, row).map(|_| ())
}

/// Takes away every grant on the name and below it.
pub(super) fn take_below(connection: &Connection, name: &Pattern) -> Result<Vec<Grant>, StoreError> {
    let (from, to) = range(name);
    let taken = read::all(connection, "WHERE pattern >= ?1 AND pattern < ?2", (&from, &to))?;
    write(connection, "DELETE FROM grants WHERE pattern >= ?1 AND pattern < ?2", (&from, &to))?;
    Ok(taken)
}

/// The texts of the name and of all below it: from the one up to the other.
fn range(name: &Pattern) -> (String, String) {
    let from = pattern_text(name);
    // All that begins with `ns.svc.` is from there up to `ns.svc/`, the character after the full stop.
    let to = format!("{}/", from.strip_suffix('.').unwrap_or(&from));
    (from, to)
}

/// What the subject has on names below this one.
fn below(connection: &Connection, subject: &Subject, name: &Pattern) -> Result<Vec<Grant>, StoreError> {
    let (from, to) = range(name);
    read::all(connection, "WHERE subject = ?1 AND pattern > ?2 AND pattern < ?3", (subject.to_string(), from, to))
}

/// Takes away every grant to these resources themselves and to the holders of levels on them.
pub(super) fn take_of_holders(connection: &Connection, resources: &[ResourceId]) -> Result<Vec<Grant>, StoreError> {
    // Up to the character after the colon: all subjects that begin with `holders:`.
    let mut taken: Vec<Grant> = read::all(connection, "WHERE subject >= 'holders:' AND subject < 'holders;'", [])?;
    taken.retain(|grant| grant.row.subject.through().is_some_and(|(of, _)| resources.contains(&of)));
    for resource in resources {
        let itself = Subject::Itself(*resource).to_string();
        taken.extend(read::all::<Grant>(connection, "WHERE subject = ?1", [itself])?);
    }
    taken.iter().try_for_each(|grant| delete(connection, grant))?;
    Ok(taken)
}

/// The key of the grant.
pub(super) fn key(grant: &Grant) -> Key {
    Key::Grant(grant.row.subject.clone(), grant.row.pattern.clone())
}

/// Takes away what the subject has on exactly the name.
pub(super) fn take_whole(
    connection: &Connection,
    subject: &Subject,
    name: &Pattern,
) -> Result<Option<Grant>, StoreError> {
    let taken = of(connection, subject, name)?;
    taken.iter().try_for_each(|grant| delete(connection, grant))?;
    Ok(taken)
}

/// What the name is about: the service, or else the namespace.
fn resource(connection: &Connection, name: &Pattern) -> Result<Option<ResourceId>, StoreError> {
    let mut keys = name.literal_prefix();
    let Some(namespace) = keys.next() else { return Ok(None) };
    if let Some(id) = ResourceId::of_key(namespace) {
        return Ok(Some(keys.next().and_then(ResourceId::of_key).unwrap_or(id)));
    }
    let service = match keys.next() {
        Some(service) => services::service_named(connection, namespace, service)?,
        None => None,
    };
    match service {
        Some(service) => Ok(Some(service.id)),
        None => Ok(services::namespace_named(connection, namespace)?.map(|namespace| namespace.id)),
    }
}

/// The owner of what the name is about: of the service, or else of the namespace.
fn owner(connection: &Connection, name: &Pattern) -> Result<Option<UserId>, StoreError> {
    let mut keys = name.literal_prefix();
    let Some(namespace) = keys.next() else { return Ok(None) };
    if let Some(id) = ResourceId::of_key(namespace) {
        let below = keys.next().and_then(ResourceId::of_key);
        let below = below.map(|id| nodes::one(connection, id)).transpose()?.flatten().and_then(|node| node.owner);
        return Ok(if below.is_some() { below } else { owner_of(connection, id)? });
    }
    let service = match keys.next() {
        Some(service) => services::service_named(connection, namespace, service)?.and_then(|service| service.owner),
        None => None,
    };
    match service {
        Some(owner) => Ok(Some(owner)),
        None => Ok(services::namespace_named(connection, namespace)?.and_then(|namespace| namespace.owner)),
    }
}

/// The owner of the node; a user owns what stands for that user, and who runs a group what stands for the group.
fn owner_of(connection: &Connection, id: ResourceId) -> Result<Option<UserId>, StoreError> {
    if let Some(node) = nodes::one(connection, id)? {
        return Ok(node.owner);
    }
    if let Some(group) = read::one::<Group>(connection, "WHERE id = ?1", [id.0.as_bytes()])? {
        return Ok(group.owner);
    }
    let known: Option<User> = read::one(connection, "WHERE id = ?1", [id.0.as_bytes()])?;
    Ok(known.map(|user| user.id))
}

fn of(connection: &Connection, subject: &Subject, pattern: &Pattern) -> Result<Option<Grant>, StoreError> {
    let condition = "WHERE subject = ?1 AND pattern = ?2";
    read::one(connection, condition, (subject.to_string(), pattern_text(pattern)))
}

fn delete(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    let statement = "DELETE FROM grants WHERE subject = ?1 AND pattern = ?2";
    write(connection, statement, (grant.row.subject.to_string(), pattern_text(&grant.row.pattern))).map(|_| ())
}

fn subject_is_there(connection: &Connection, subject: &Subject) -> Result<(), StoreError> {
    match subject {
        Subject::User(id) => user(connection, *id).map(|_| ()),
        Subject::Group(id) => group(connection, *id).map(|_| ()),
        Subject::Holders(_, id) | Subject::Same(id) | Subject::Itself(id) => {
            // Users and groups stand for themselves: somebody may hold levels on what they are.
            let known = "SELECT 1 FROM namespaces WHERE id = ?1 UNION ALL SELECT 1 FROM services WHERE id = ?1 \
                         UNION ALL SELECT 1 FROM nodes WHERE id = ?1 \
                         UNION ALL SELECT 1 FROM users WHERE id = ?1 UNION ALL SELECT 1 FROM groups WHERE id = ?1";
            if read::any(connection, known, [id.0.as_bytes()])? { Ok(()) } else { Err(missing("resource", id)) }
        }
        Subject::Role(_) | Subject::Everyone => Ok(()),
    }?;
    // What does not read back would be damage on the next start.
    if subject.to_string().parse().as_ref() == Ok(subject) {
        Ok(())
    } else {
        Err(StoreError::Refused(format!("`{subject}` is nobody")))
    }
}
